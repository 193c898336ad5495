"""Two images as a registration sees them at a resolution."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.spatial import cKDTree

from mrsynth.geometry import apply
from mrsynth.register.prepare import Layer, Picture, draw
from mrsynth.register.settings import Settings
from mrsynth.register.similarity import Side
from mrsynth.volume import affine

BOX_MARGIN_MM = 30.0
"""Room around what a pose can reach within which an image is kept at the finer levels."""

FEWEST = 100
"""Samples without which no histogram means anything."""


class Hopeless(RuntimeError):
    """The images can't be registered."""


@dataclass(frozen=True)
class Pair:
    """Fixed stacks and a moving volume.

    Attributes:
        fixed: Stacks.
        groups: Number of each stack's grey scale; those of one number share a histogram.
        moving: Volume.
        settings: Of the registration.
        roi: Points [n, 3] of the moving frame around which samples count after the first level.
        symmetric: Take samples of both images, not of the fixed one alone.
    """

    fixed: list[Picture]
    groups: list[int]
    moving: Picture
    settings: Settings
    roi: np.ndarray | None = None
    symmetric: bool = False

    @property
    def capacity(self) -> tuple[float, float]:
        """The largest share of the fixed body that the moving one can hold, and the reverse."""
        fixed = sum(picture.body_mm3 for picture in self.fixed)
        ratio = self.moving.body_mm3 / max(fixed, 1.0)
        return min(1.0, ratio), min(1.0, 1 / max(ratio, 1e-6))

    def coarse(self) -> "View":
        """The whole images at the first level, with the air around the bodies."""
        level_mm = self.settings.levels_mm[0]
        return View(
            self,
            0,
            [picture.layer(level_mm, rim=True) for picture in self.fixed],
            self.moving.layer(level_mm, rim=True),
            None,
        )

    def view(self, number: int, poses: list[np.ndarray]) -> "View":
        """What poses can reach at a level; the region of interest is that of the first."""
        level_mm = self.settings.levels_mm[number]
        box = reach(field(self.moving.image), [np.linalg.inv(pose) for pose in poses])
        fixed = [picture.layer(level_mm, box, masked=True) for picture in self.fixed]
        back = np.concatenate([field(layer.image) for layer in fixed])
        if self.roi is not None:
            inside = np.array([self.roi.min(axis=0), self.roi.max(axis=0)])
            margin = self.settings.roi_radius_mm
            limits = inside[0] - margin, inside[1] + margin
            far = reach(back, poses)
            # The landmarks bound what counts where they lie within reach.
            box = np.maximum(far[0], limits[0]), np.minimum(far[1], limits[1])
            box = box if np.all(box[1] > box[0]) else far
        else:
            box = reach(back, poses)
        moving = self.moving.layer(level_mm, box, masked=True)
        return View(self, number, fixed, moving, poses)


@dataclass(frozen=True)
class View:
    """A pair at a level: smoothed images, from which samples are drawn.

    Attributes:
        pair: The images.
        number: Level.
        fixed: Stacks at the level.
        moving: Volume at the level.
        poses: The poses that are looked at; None before any is known.
    """

    pair: Pair
    number: int
    fixed: list[Layer]
    moving: Layer
    poses: list[np.ndarray] | None

    def sides(
        self, *, seed=None, share=1.0, count=None, thick=False, ways=("forward", "inverse")
    ) -> tuple[Side, ...]:
        """Samples to measure poses with.

        Args:
            seed: Of the draw; None takes the settings'.
            share: Of the level's number of samples.
            count: Number of samples instead of the level's.
            thick: Average over the fixed slices' thickness.
            ways: Directions; ``inverse`` counts only where the pair is symmetric.

        Raises:
            Hopeless: Too few voxels count.
        """
        pair, settings = self.pair, self.pair.settings
        seed = settings.seed if seed is None else seed
        count = int((count or settings.samples[self.number]) * share)
        if pair.symmetric:
            count //= 2
        found = []
        if "forward" in ways or not pair.symmetric:
            groups = draw(
                self.fixed, count, seed=seed, groups=pair.groups, keep=self._keep(), thick=thick
            )
            least = settings.min_overlap * pair.capacity[0]
            found.append(Side(groups, self.moving.moving, False, least))
        if "inverse" in ways and pair.symmetric:
            groups = draw([self.moving], count, seed=seed, keep=self._keep_back())
            least = settings.min_overlap * pair.capacity[1]
            found.append(Side(groups, self.fixed[0].moving, True, least))
        for side in found:
            if sum(len(group.world) for group in side.groups) < FEWEST:
                raise Hopeless(
                    f"fewer than {FEWEST} samples: the body is nearly empty or far from the "
                    "landmarks"
                )
        return tuple(found)

    def _keep(self):
        """Which fixed points count: those near the landmarks and in the moving image's mask, as
        seen from the first pose."""
        pair = self.pair
        if not self.poses:
            return None
        tests = []
        if pair.roi is not None:
            tree = cKDTree(pair.roi)
            radius = pair.settings.roi_radius_mm
            tests.append(
                lambda there: np.isfinite(tree.query(there, distance_upper_bound=radius)[0])
            )
        if pair.moving.mask is not None:
            tests.append(lambda there: holds(pair.moving.mask, there))
        if not tests:
            return None
        pose = self.poses[0]
        return lambda world: np.all([test(apply(pose, world)) for test in tests], axis=0)

    def _keep_back(self):
        """Which moving points count: those that the first pose shows in the fixed field (and
        mask)."""
        if not self.poses:
            return None
        back = np.linalg.inv(self.poses[0])
        only = self.pair.fixed[0]
        several = len(self.poses) > 1
        if several and only.mask is None:
            return None
        mask = only.image if only.mask is None else only.mask
        return lambda world: holds(mask, apply(back, world), field_only=only.mask is None)


def field(image) -> np.ndarray:
    """The eight corners of an image [8, 3], LPS mm."""
    matrix, size = affine(image), np.array(image.GetSize())
    index = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (size - 1)
    return apply(matrix, index)


def reach(points: np.ndarray, poses: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the box that holds points under all poses, with a margin, LPS mm."""
    ends = np.concatenate([apply(pose, points) for pose in poses])
    return ends.min(axis=0) - BOX_MARGIN_MM, ends.max(axis=0) + BOX_MARGIN_MM


def holds(image, points: np.ndarray, field_only: bool = False) -> np.ndarray:
    """Whether points [n, 3] (LPS mm) lie in an image's field and, unless ``field_only``, where it
    is above 0."""
    index = np.rint(apply(np.linalg.inv(affine(image)), points)).astype(int)
    inside = np.all((index >= 0) & (index < np.array(image.GetSize())), axis=1)
    if field_only:
        return inside
    array = sitk.GetArrayViewFromImage(image)
    x, y, z = np.where(inside[:, None], index, 0).T
    return inside & (array[z, y, x] > 0)
