"""From images to what the measure needs: an image at a resolution, read as samples or sampled."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mrsynth.register.settings import Settings
from mrsynth.register.similarity import BINS, Moving, Points, to_bins
from mrsynth.volume import affine, to_array
from mrsynth.warp import body_array, is_ct, mr_threshold

BODY_GRID_MM = 4.0
"""Grid of the body masks: they only have to keep the table and far air out."""

RIM_MM = 8.0
"""Air around the body that the coarsest level samples too: the skin is an edge that both images
show. Finer levels leave it out: fat is displaced along the slice selection of an MR (chemical
shift), which pulls a head by more than a millimetre."""

MR_RANGE = (1.0, 99.5)
"""Percentiles of the MR foreground that span the histogram; above are flow and coil hot spots."""

SAMPLES_ACROSS = 3
"""Planes over a thick slice whose moving values are averaged."""

AIR_HU = -1000.0

CT_BODY_HU = -300.0

LISTED_VOXELS = 8_000_000
"""Volumes up to this size have their candidates listed; of larger ones voxels are drawn blindly
and kept if they count, so that memory does not grow with the volume."""

ROUNDS = 12
"""Blind draws, each of four times the samples wanted: enough where 1 voxel in 48 counts."""


class Picture:
    """An image with its body, range of values and mask, which are found once.

    Args:
        image: Volume or stack, LPS mm.
        settings: For the CT's window.
        mask: Where its samples count at the finer levels (any grid, above 0), or None for the body.
        span: Low and high value of the histogram; None finds them.
    """

    def __init__(self, image: sitk.Image, settings: Settings, mask=None, span=None):
        self.image, self.settings, self.mask, self._span = image, settings, mask, span

    @cached_property
    def ct(self) -> bool:
        return is_ct(self.image)

    @cached_property
    def _distance(self) -> sitk.Image:
        """Distance from the body, mm, on a coarse grid."""
        small = shrink(self.image, BODY_GRID_MM)
        array = to_array(small)
        inside = body_array(array > (CT_BODY_HU if self.ct else mr_threshold(array)))
        if not inside.any():
            inside[:] = True
        distance = ndimage.distance_transform_edt(~inside, sampling=small.GetSpacing()[::-1])
        result = sitk.GetImageFromArray(distance.astype(np.float32))
        result.CopyInformation(small)
        return result

    @cached_property
    def body(self) -> sitk.Image:
        """Body, on a coarse grid (uint8)."""
        return self._distance <= 0.0

    @cached_property
    def body_and_rim(self) -> sitk.Image:
        return self._distance <= RIM_MM

    @cached_property
    def span(self) -> tuple[float, float]:
        if self._span is not None:
            return self._span
        return common_span([self])

    @cached_property
    def body_mm3(self) -> float:
        """Volume of the body, mm³."""
        return float(to_array(self.body).sum() * np.prod(self.body.GetSpacing()))

    def layer(self, level_mm: float, box=None, rim: bool = False, masked: bool = False) -> "Layer":
        """The image at a resolution.

        Args:
            level_mm: Resolution.
            box: Two corners, LPS mm, outside which nothing is needed; None keeps all.
            rim: Let samples lie in the air around the body too.
            masked: Keep samples to the mask, where there is one.
        """
        image = self.image if box is None else crop(self.image, *box)
        small = smooth(image, level_mm)
        near = _nearest(self.body_and_rim if rim else self.body, small)
        if masked and self.mask is not None:
            near = _nearest(self.mask, small)
        array = to_array(small)
        top = self.settings.ct_max_hu
        if self.ct and top is not None:
            near &= array <= top
        return Layer(small, array, near, self)


@dataclass(frozen=True)
class Layer:
    """An image at a resolution: ``array`` (z, y, x), where samples may lie, and its picture."""

    image: sitk.Image
    array: np.ndarray
    near: np.ndarray
    picture: Picture

    @cached_property
    def moving(self) -> Moving:
        """To be sampled; the surroundings of a CT's body become air, so that no table counts."""
        array, picture = self.array, self.picture
        if picture.ct:
            outside = ~_nearest(picture.body, self.image)
            top = picture.settings.ct_max_hu
            above = array > top if top is not None else np.zeros((1, 1, 1), bool)
            array = np.where(outside, np.float32(AIR_HU), array)
        values = to_bins(array, *picture.span)
        if picture.ct and top is not None:
            values[above & ~outside] = np.nan
        return Moving(values, np.linalg.inv(affine(self.image)))


def common_span(pictures: list[Picture]) -> tuple[float, float]:
    """Low and high value of stacks that share a histogram."""
    if pictures[0].ct:
        return pictures[0].settings.ct_window_hu
    values = [
        to_array(shrink(picture.image, BODY_GRID_MM))[to_array(picture.body_and_rim) > 0]
        for picture in pictures
    ]
    low, high = np.percentile(np.concatenate(values), MR_RANGE)
    return float(low), float(high)


def draw(
    layers: list[Layer],
    count: int,
    *,
    seed: int,
    groups: list[int] | None = None,
    keep=None,
    thick: bool = False,
) -> list[Points]:
    """Random samples of stacks at a level.

    Args:
        layers: Stacks.
        count: Samples over all stacks.
        seed: Of the draw.
        groups: Number per stack; those of one number share a histogram unless ``thick``.
        keep: Function from [n, 3] LPS mm to a bool [n], or None.
        thick: Average the moving values over each stack's slice thickness; needs a group per stack.
    """
    generator = np.random.default_rng(seed)
    found: dict[int, list] = {}
    for number, layer in enumerate(layers):
        world, place = _places(layer, max(1, count // len(layers)), generator, keep)
        value = layer.array[place[:, 2], place[:, 1], place[:, 0]]
        low, high = layer.picture.span
        scaled = np.clip((value - low) / max(high - low, 1e-6), 0, 1) * BINS
        level = np.minimum(scaled.astype(int), BINS - 1)
        spread = _spread(layer.image) if thick else np.zeros((1, 3))
        key = number if thick else -1 - (groups[number] if groups else 0)
        found.setdefault(key, []).append((world, level, spread))
    result = []
    for parts in found.values():
        world = np.concatenate([part[0] for part in parts])
        if len(world):
            level = np.concatenate([part[1] for part in parts])
            result.append(Points(world, level, parts[0][2], float(len(world))))
    return result


def shrink(image: sitk.Image, size_mm: float) -> sitk.Image:
    """Average whole voxels together until one more would exceed ``size_mm``; thick axes are
    kept."""
    factors = [
        int(min(max(1, np.floor(size_mm / step + 0.25)), max(1, count // 2)))
        for step, count in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    return sitk.BinShrink(image, factors) if max(factors) > 1 else image


def smooth(image: sitk.Image, size_mm: float) -> sitk.Image:
    """Shrink to a level and take off what linear interpolation would alias."""
    small = shrink(image, size_mm)
    # An axis thicker than the level is already blurred by its own slice profile.
    sigma = [0.5 if step < 1.5 * size_mm else 0.0 for step in small.GetSpacing()]
    array = sitk.GetArrayViewFromImage(small)
    result = sitk.GetImageFromArray(ndimage.gaussian_filter(array, sigma[::-1], output=np.float32))
    result.CopyInformation(small)
    return result


def crop(image: sitk.Image, low: np.ndarray, high: np.ndarray) -> sitk.Image:
    """The part of an image inside a box of LPS mm; the whole image if they don't meet."""
    corners = np.array(
        [[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
    )
    inverse = np.linalg.inv(affine(image))
    index = corners @ inverse[:3, :3].T + inverse[:3, 3]
    size = np.array(image.GetSize())
    first = np.clip(np.floor(index.min(0)), 0, size - 1).astype(int)
    last = np.clip(np.ceil(index.max(0)), 0, size - 1).astype(int)
    if np.any(last - first < 4):
        return image
    return sitk.RegionOfInterest(image, (last - first + 1).tolist(), first.tolist())


def _places(layer: Layer, count: int, generator, keep) -> tuple[np.ndarray, np.ndarray]:
    """Up to ``count`` samples of a layer: LPS mm [n, 3] and voxel indices (x, y, z) [n, 3]."""
    near = layer.near
    matrix = affine(layer.image)

    def located(flat):
        place = np.stack(np.unravel_index(flat, near.shape)[::-1], axis=1)
        return place @ matrix[:3, :3].T + matrix[:3, 3], place

    if near.size <= LISTED_VOXELS:
        world, place = located(np.flatnonzero(near))
        if keep is not None and len(world):
            kept = keep(world)
            world, place = world[kept], place[kept]
        if len(place) > count:
            drawn = np.sort(generator.choice(len(place), count, replace=False))
            world, place = world[drawn], place[drawn]
        return world, place
    flat = np.zeros(0, np.int64)
    for _ in range(ROUNDS):
        more = generator.integers(near.size, size=4 * count)
        more = more[near.ravel()[more]]
        if keep is not None and len(more):
            more = more[keep(located(more)[0])]
        flat = np.unique(np.concatenate([flat, more]))
        if len(flat) >= count:
            break
    if len(flat) > count:
        flat = np.sort(generator.choice(flat, count, replace=False))
    return located(flat)


def _nearest(mask: sitk.Image, grid: sitk.Image) -> np.ndarray:
    """A mask on a grid, bool (z, y, x)."""
    return to_array(sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0


def _spread(image: sitk.Image) -> np.ndarray:
    """Offsets over the slice thickness, taken as the slice spacing, LPS mm."""
    normal = np.array(image.GetDirection()).reshape(3, 3)[:, 2]
    share = (np.arange(SAMPLES_ACROSS) + 0.5) / SAMPLES_ACROSS - 0.5
    return share[:, None] * image.GetSpacing()[2] * normal
