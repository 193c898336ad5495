"""From images to what the measure needs: points of the fixed, a sampled volume of the moving
image."""

from dataclasses import dataclass

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
"""Air around the body that is sampled too: the skin is an edge that both images show."""

MR_RANGE = (1.0, 99.5)
"""Percentiles of the MR foreground that span the histogram; above are flow and coil hot spots."""

SAMPLES_ACROSS = 3
"""Planes over a thick slice whose moving values are averaged."""

AIR_HU = -1000.0


@dataclass(frozen=True)
class Fixed:
    """A fixed stack with its mask of body and rim; values span ``low`` to ``high``."""

    image: sitk.Image
    mask: np.ndarray
    low: float
    high: float
    group: int


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
    result = sitk.GetImageFromArray(ndimage.gaussian_filter(to_array(small), sigma[::-1]))
    result.CopyInformation(small)
    return result


def foreground(image: sitk.Image, rim_mm: float) -> sitk.Image:
    """Body and a rim of air, on a coarse grid (uint8)."""
    small = shrink(image, BODY_GRID_MM)
    array = to_array(small)
    mask = body_array(array > (-300.0 if is_ct(small) else mr_threshold(array)))
    if not mask.any():
        mask[:] = True
    distance = ndimage.distance_transform_edt(~mask, sampling=small.GetSpacing()[::-1])
    result = sitk.GetImageFromArray((distance <= rim_mm).astype(np.uint8))
    result.CopyInformation(small)
    return result


def read_fixed(stacks: list[sitk.Image], settings: Settings, group: int) -> list[Fixed]:
    """Stacks of one acquisition, with their common range of values."""
    masks = [foreground(stack, RIM_MM) for stack in stacks]
    if is_ct(stacks[0]):
        low, high = settings.ct_window_hu
    else:
        values = np.concatenate(
            [
                to_array(shrink(stack, BODY_GRID_MM))[to_array(mask) > 0]
                for stack, mask in zip(stacks, masks, strict=True)
            ]
        )
        low, high = np.percentile(values, MR_RANGE)
    return [
        Fixed(stack, mask, float(low), float(high), group)
        for stack, mask in zip(stacks, masks, strict=True)
    ]


def points(
    stacks: list[Fixed],
    level_mm: float,
    count: int,
    settings: Settings,
    *,
    seed: int,
    keep=None,
    thick: bool = False,
) -> list[Points]:
    """Random samples of stacks at a level.

    Args:
        stacks: Fixed stacks; those of one group share a histogram unless ``thick``.
        level_mm: Resolution.
        count: Samples over all stacks.
        settings: For the CT's upper bound.
        seed: Of the draw.
        keep: Function from [n, 3] LPS mm to a bool [n], or None.
        thick: Average the moving values over each stack's slice thickness; needs a group per stack.
    """
    generator = np.random.default_rng(seed)
    found: dict[int, list] = {}
    for number, stack in enumerate(stacks):
        small = smooth(stack.image, level_mm)
        array = to_array(small)
        mask = to_array(
            sitk.Resample(stack.mask, small, sitk.Transform(), sitk.sitkNearestNeighbor)
        )
        chosen = mask > 0
        if settings.ct_max_hu is not None and is_ct(stack.image):
            chosen &= array <= settings.ct_max_hu
        place = np.argwhere(chosen)[:, ::-1]
        matrix = affine(small)
        world = place @ matrix[:3, :3].T + matrix[:3, 3]
        if keep is not None and len(world):
            kept = keep(world)
            place, world = place[kept], world[kept]
        share = max(1, count // len(stacks))
        if len(place) > share:
            drawn = np.sort(generator.choice(len(place), share, replace=False))
            place, world = place[drawn], world[drawn]
        value = array[place[:, 2], place[:, 1], place[:, 0]]
        level = np.minimum(
            (np.clip((value - stack.low) / max(stack.high - stack.low, 1e-6), 0, 1) * BINS).astype(
                int
            ),
            BINS - 1,
        )
        spread = _spread(small) if thick else np.zeros((1, 3))
        key = number if len(spread) > 1 else -1 - stack.group
        found.setdefault(key, []).append((world, level, spread))
    groups = []
    for parts in found.values():
        world = np.concatenate([part[0] for part in parts])
        if len(world):
            level = np.concatenate([part[1] for part in parts])
            groups.append(Points(world, level, parts[0][2], float(len(world))))
    return groups


def read_moving(
    image: sitk.Image,
    mask: sitk.Image,
    level_mm: float,
    settings: Settings,
    box=None,
    ct: bool | None = None,
) -> Moving:
    """The moving image at a level.

    Args:
        image: Moving image.
        mask: Its body (coarse); CT outside becomes air, so that the table doesn't count.
        level_mm: Resolution.
        settings: For the CT's window and upper bound.
        box: Two corners, LPS mm, outside which nothing is needed; None keeps all.
        ct: Whether it holds HU; None looks at its values. The box alone may show no air.
    """
    ct = is_ct(image) if ct is None else ct
    if box is not None:
        image = crop(image, *box)
    small = smooth(image, level_mm)
    array = to_array(small)
    if ct:
        outside = (
            to_array(sitk.Resample(mask, small, sitk.Transform(), sitk.sitkNearestNeighbor)) == 0
        )
        above = (
            array > settings.ct_max_hu
            if settings.ct_max_hu is not None
            else np.zeros(array.shape, bool)
        )
        array[outside] = AIR_HU
        values = to_bins(array, *settings.ct_window_hu)
        values[above & ~outside] = np.nan
    else:
        inside = (
            to_array(sitk.Resample(mask, small, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
        )
        low, high = np.percentile(array[inside] if inside.any() else array, MR_RANGE)
        values = to_bins(array, low, high)
    return Moving(values, np.linalg.inv(affine(small)))


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


def _spread(image: sitk.Image) -> np.ndarray:
    """Offsets over the slice thickness, taken as the slice spacing, LPS mm."""
    normal = np.array(image.GetDirection()).reshape(3, 3)[:, 2]
    share = (np.arange(SAMPLES_ACROSS) + 0.5) / SAMPLES_ACROSS - 0.5
    return share[:, None] * image.GetSpacing()[2] * normal
