"""How far the CT's bone lies from the dark layer that an MR shows in its place.

Cortical bone has next to no signal on any MR sequence, and lies between tissues that have. Along
the normal of the bone's surface the CT has a ridge and the MR a trough; their distance says what
mutual information can't: that it is bone that lies on bone.
"""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mrsynth.geometry import apply
from mrsynth.register.prepare import Picture, crop, smooth
from mrsynth.volume import affine, to_array

LEVEL_MM = 1.25
"""Resolution: a cortex is 1 to 3 mm thick."""

BONE_HU = 250.0
"""Above marrow, contrast-filled vessels and the partial volume of thin bone with soft tissue."""

RIDGE_HU = 100.0
"""A ridge rises by so much over both ends of the profile, else it is a flank."""

REACH_MM = 8.0
"""Half the length of a profile: beyond the thickness of any cortex, within that of a disc."""

STEP_MM = 0.5

POINTS = 1500
"""Points of the bone that are asked."""

FEWEST = 100
"""Points without which there is no answer."""

STEEP = 0.6
"""Largest component of a normal along the slices' normal of a thick stack, whose slices hide how
the signal runs across them."""

THICK_MM = 2.5


def bone_distance(ct: Picture, mr: list[Picture], pose: np.ndarray, box, seed: int) -> float | None:
    """Median distance between the CT's bony ridges and the MR's troughs beside them.

    Args:
        ct: The CT.
        mr: The MR's stacks, all in one frame.
        pose: 4×4, CT points → MR points, LPS mm.
        box: Two corners of what of the CT is looked at, LPS mm.
        seed: Of the draw.

    Returns:
        Millimetres, 0 to 8 (4 where nothing fits); None where too little bone is in view.
    """
    image = smooth(crop(ct.image, *box), LEVEL_MM)
    world, normal = ridge(image, seed)
    if not len(world):
        return None
    off = []
    offsets = np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)
    for stack in mr:
        small = smooth(stack.image, LEVEL_MM)
        place = apply(pose, world)
        way = normal @ pose[:3, :3].T
        spacing = np.array(small.GetSpacing())
        clear = np.ones(len(world), bool)
        for axis in np.flatnonzero(spacing > THICK_MM):
            axis_way = np.array(small.GetDirection()).reshape(3, 3)[:, axis]
            clear &= np.abs(way @ axis_way) < STEEP
        line = place[clear, None, :] + way[clear, None, :] * offsets[:, None]
        value = _values(small, line)
        value = value[np.isfinite(value).all(axis=1)]
        if not len(value):
            continue
        low, high = value.min(axis=1), value.max(axis=1)
        # Where the signal hardly changes there is neither bone nor an answer.
        seen = high - low > 0.15 * (stack.span[1] - stack.span[0])
        off.append(_trough(value[seen], offsets))
    off = np.concatenate(off) if off else np.zeros(0)
    return float(np.median(np.abs(off))) if len(off) >= FEWEST else None


def ridge(image: sitk.Image, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [n, 3] on bony ridges of a CT, LPS mm, and the unit normals across them."""
    array = to_array(image)
    matrix = affine(image)
    flat = np.flatnonzero(array > BONE_HU)
    generator = np.random.default_rng(seed)
    if len(flat) > 6 * POINTS:
        flat = np.sort(generator.choice(flat, 6 * POINTS, replace=False))
    if not len(flat):
        return np.zeros((0, 3)), np.zeros((0, 3))
    index = np.stack(np.unravel_index(flat, array.shape), axis=1)
    normal = _normals(array, index, np.array(image.GetSpacing()))
    normal = normal @ (matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)).T
    world = apply(matrix, index[:, ::-1])
    offsets = np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)
    value = _values(image, world[:, None, :] + normal[:, None, :] * offsets[:, None])
    near = np.abs(offsets) <= 2.0
    value = np.where(np.isfinite(value), value, -np.inf)
    top = np.where(near, value, -np.inf).argmax(axis=1)
    height = value[np.arange(len(value)), top]
    ends = [value[:, offsets <= -4.0].min(axis=1), value[:, offsets >= 4.0].min(axis=1)]
    inside = np.isfinite(height) & np.isfinite(np.minimum(*ends))
    good = inside & (
        np.where(inside, height, 0) > np.where(inside, np.maximum(*ends), 0) + RIDGE_HU
    )
    # A top at the end of the range belongs to a ridge farther away.
    good &= (top > np.flatnonzero(near)[0]) & (top < np.flatnonzero(near)[-1])
    world = world + normal * offsets[top][:, None]
    return world[good][:POINTS], normal[good][:POINTS]


def _normals(array, index, spacing) -> np.ndarray:
    """Unit vectors (x, y, z of the grid) of the sharpest curvature: across a sheet of bone."""
    # Below one voxel a sampled Gaussian's derivative is no derivative.
    sigma = np.maximum(1.5 / spacing[::-1], 1.0)
    hessian = np.empty((len(index), 3, 3))
    for one in range(3):
        for other in range(one, 3):
            order = [0, 0, 0]
            order[one] += 1
            order[other] += 1
            part = ndimage.gaussian_filter(array, sigma, order=order)
            value = part[tuple(index.T)] / (spacing[::-1][one] * spacing[::-1][other])
            hessian[:, 2 - one, 2 - other] = hessian[:, 2 - other, 2 - one] = value
    return np.linalg.eigh(hessian)[1][:, :, 0]


def _values(image: sitk.Image, line: np.ndarray) -> np.ndarray:
    """Values [n, k] at points [n, k, 3], LPS mm; NaN outside the field."""
    index = apply(np.linalg.inv(affine(image)), line.reshape(-1, 3))[:, ::-1]
    array = sitk.GetArrayViewFromImage(image)
    value = ndimage.map_coordinates(array, index.T, order=1, cval=np.nan, output=np.float32)
    return value.reshape(line.shape[:2])


def _trough(value: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Where along each profile [n, k] the signal is least, seen from its neighbours on both
    sides."""
    # Air lies beyond the skin: a trough must have something brighter on either side.
    left = np.maximum.accumulate(value, axis=1)
    right = np.maximum.accumulate(value[:, ::-1], axis=1)[:, ::-1]
    depth = np.minimum(left, right) - value
    return offsets[depth.argmax(axis=1)]
