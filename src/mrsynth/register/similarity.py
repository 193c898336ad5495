"""Mutual information of point samples, with its gradient.

The fixed images are reduced to points in space (LPS mm) with a grey level each. That puts any
number of thick, angled stacks into one measure without resampling them, which an image-on-a-grid
metric can't. Histogram after Mattes et al., IEEE TMI 2003 (22:120): a box window on the fixed
side, a cubic B-spline Parzen window on the moving side, whose derivative gives the gradient
(Thévenaz & Unser, IEEE TIP 2000, 9:2083).
"""

from dataclasses import dataclass

import numpy as np

BINS = 32
"""Grey levels per side of the joint histogram: enough for tissues, few enough for 2000 samples."""

EDGE = 2
"""Free bins at both ends, so that the cubic Parzen window never leaves the histogram."""


@dataclass(frozen=True)
class Moving:
    """The moving image, ready to be sampled.

    Attributes:
        values: (z, y, x) float32 in units of histogram bins, NaN where a voxel must not count.
        to_index: 4×4, LPS mm → voxel indices (x, y, z).
    """

    values: np.ndarray
    to_index: np.ndarray


@dataclass(frozen=True)
class Points:
    """Samples of one fixed image, or of several that share their grey scale.

    Attributes:
        world: [n, 3] LPS mm.
        level: [n] int, histogram bin of the fixed value.
        spread: [k, 3] mm, offsets over a slice's thickness whose moving values are averaged; one
            zero row for a point sample. Vectors in the fixed frame, the same for all points of a
            group.
        weight: Share of the group in a sum over groups.
    """

    world: np.ndarray
    level: np.ndarray
    spread: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True)
class Side:
    """One direction of the measure: samples of one image, looked up in the other.

    Attributes:
        groups: Samples.
        moving: The image in which they are looked up.
        inverse: False if the pose sends the samples to the image, True if its inverse does.
        least: Share of samples that must lie inside for a pose to have a value.
    """

    groups: list[Points]
    moving: Moving
    inverse: bool = False
    least: float = 0.0


def to_bins(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values to continuous histogram bins between the free ends; clipped, float32."""
    scaled = (np.clip(array, low, high) - low) / max(high - low, 1e-6)
    return (EDGE + scaled * (BINS - 1 - 2 * EDGE)).astype(np.float32)


def similarity(
    groups: list[Points], moving: Moving, pose: np.ndarray, min_overlap: float
) -> tuple[float, np.ndarray]:
    """Weighted mean of the groups' mutual information at a pose, and its gradient.

    Args:
        groups: Fixed samples.
        moving: Moving image.
        pose: 4×4, fixed→moving, LPS mm.
        min_overlap: Share of samples inside the moving image's field below which there is no value.

    Returns:
        Mutual information in nats and its derivative by the upper 3×4 of the pose. −1 and zeros
        where no group overlaps enough.
    """
    total, gradient, weight = 0.0, np.zeros((3, 4)), 0.0
    for group in groups:
        value, slope = _group_similarity(group, moving, pose, min_overlap)
        if value is not None:
            total += group.weight * value
            gradient += group.weight * slope
            weight += group.weight
    if weight == 0:
        return -1.0, np.zeros((3, 4))
    return total / weight, gradient / weight


def joint(sides: tuple[Side, ...], pose: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean of the sides' mutual information at a pose, and its gradient.

    Samples of one image alone favour the poses that suit its grid and field; samples of both make
    the measure the same in either direction.

    Returns:
        Nats and the derivative by the upper 3×4 of the pose; −1 and zeros where a side has no
        value.
    """
    total, gradient = 0.0, np.zeros((3, 4))
    for side in sides:
        there = np.linalg.inv(pose) if side.inverse else pose
        value, slope = similarity(side.groups, side.moving, there, side.least)
        if value < 0 and not slope.any():
            return -1.0, np.zeros((3, 4))
        if side.inverse:
            # d(P⁻¹) = −P⁻¹ dP P⁻¹
            full = np.vstack([slope, np.zeros(4)])
            slope = -(there.T @ full @ there.T)[:3]
        total += value
        gradient += slope
    return total / len(sides), gradient / len(sides)


def overlap(side: Side, pose: np.ndarray) -> float:
    """Share of a side's samples that lie in the other image's field."""
    there = np.linalg.inv(pose) if side.inverse else pose
    inside = [
        sample(side.moving, _to_index(group.world, side.moving, there))[2] for group in side.groups
    ]
    return float(np.concatenate(inside).mean()) if inside else 0.0


def sample(moving: Moving, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trilinear value and gradient at continuous indices.

    Args:
        moving: Moving image.
        index: [n, 3] voxel indices (x, y, z).

    Returns:
        Values [n], gradients [n, 3] per voxel step, and whether the point counts [n] (values of
        points that don't are 0).
    """
    depth, height, width = moving.values.shape
    limits = (width - 1, height - 1, depth - 1)
    places = [np.ascontiguousarray(index[:, axis]) for axis in range(3)]
    inside = np.ones(len(index), bool)
    for place, limit in zip(places, limits, strict=True):
        inside &= (place >= 0) & (place <= limit)
    bases, shares = [], []
    for place, limit in zip(places, limits, strict=True):
        safe = np.where(inside, place, 0.0)
        base = np.minimum(safe.astype(np.int64), max(limit - 1, 0))
        bases.append(base)
        shares.append((safe - base).astype(np.float32))
    x, y, z = shares
    flat = moving.values.ravel()
    start = (bases[2] * height + bases[1]) * width + bases[0]
    dx = min(width - 1, 1)
    dy = width * min(height - 1, 1)
    dz = width * height * min(depth - 1, 1)
    corner = [flat.take(start + offset) for offset in (0, dx, dy, dx + dy)]
    above = [flat.take(start + dz + offset) for offset in (0, dx, dy, dx + dy)]
    low_slope_y0, low_slope_y1 = corner[1] - corner[0], corner[3] - corner[2]
    top_slope_y0, top_slope_y1 = above[1] - above[0], above[3] - above[2]
    low0, low1 = corner[0] + x * low_slope_y0, corner[2] + x * low_slope_y1
    top0, top1 = above[0] + x * top_slope_y0, above[2] + x * top_slope_y1
    low, top = low0 + y * (low1 - low0), top0 + y * (top1 - top0)
    value = low + z * (top - low)
    slope_x_low = low_slope_y0 + y * (low_slope_y1 - low_slope_y0)
    slope_x_top = top_slope_y0 + y * (top_slope_y1 - top_slope_y0)
    counts = inside & np.isfinite(value)
    slope = np.empty((3, len(value)), np.float32)
    slope[0] = slope_x_low + z * (slope_x_top - slope_x_low)
    slope[1] = (low1 - low0) + z * ((top1 - top0) - (low1 - low0))
    slope[2] = top - low
    if not counts.all():
        value[~counts] = 0
        slope[:, ~counts] = 0
    return value, slope.T, counts


def _to_index(world: np.ndarray, moving: Moving, pose: np.ndarray) -> np.ndarray:
    matrix = moving.to_index @ pose
    # Columns, not rows, lie side by side in memory: each axis is worked on by itself.
    return (matrix[:3, :3] @ world.T + matrix[:3, 3:]).T


def _group_similarity(group, moving, pose, min_overlap):
    """Mutual information of one group and its gradient; None where the overlap is too small."""
    count = len(group.world)
    value = np.zeros(count)
    counts = np.ones(count, bool)
    slopes = []
    for offset in group.spread:
        plane, slope, inside = sample(moving, _to_index(group.world + offset, moving, pose))
        value += plane
        counts &= inside
        slopes.append(slope)
    share = counts.mean() if count else 0.0
    if share < min_overlap:
        return None, None
    planes = len(group.spread)
    some = slice(None) if counts.all() else counts
    level, value = group.level[some], value[some] / planes
    mutual, by_value = mutual_information(level, value)
    gradient = np.zeros((3, 4))
    weight = by_value / planes
    for offset, slope in zip(group.spread, slopes, strict=True):
        # Row of the index axis, weighted, times the points: the sum over samples in one product.
        pull = slope.T[:, some] * weight
        world = group.world[some] + offset
        gradient[:, :3] += moving.to_index[:3, :3].T @ (pull @ world)
        gradient[:, 3] += moving.to_index[:3, :3].T @ pull.sum(axis=1)
    return mutual, gradient


def mutual_information(level: np.ndarray, value: np.ndarray) -> tuple[float, np.ndarray]:
    """Mutual information in nats, and its derivative by each moving value.

    Args:
        level: [n] fixed bins, int in [0, BINS).
        value: [n] moving values in bins, float in [EDGE, BINS − 1 − EDGE].
    """
    floor = np.floor(value).astype(np.int64)
    u = value - floor
    windows = (
        (1 - u) ** 3 / 6,
        (3 * u**3 - 6 * u**2 + 4) / 6,
        (-3 * u**3 + 3 * u**2 + 3 * u + 1) / 6,
        u**3 / 6,
    )
    slopes = (
        -((1 - u) ** 2) / 2,
        (3 * u**2 - 4 * u) / 2,
        (-3 * u**2 + 2 * u + 1) / 2,
        u**2 / 2,
    )
    cell = level * BINS + floor - 1
    joint = np.zeros(BINS * BINS)
    for step, window in enumerate(windows):
        joint += np.bincount(cell + step, window, BINS * BINS)
    joint = joint.reshape(BINS, BINS) / len(level)
    fixed, moving = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(joint > 0, np.log(joint / moving), 0.0)
        entropy = np.where(fixed > 0, fixed * np.log(fixed), 0.0).sum()
    mutual = float((joint * ratio).sum() - entropy)
    flat = ratio.ravel()
    by_value = sum(slope * flat.take(cell + step) for step, slope in enumerate(slopes))
    return mutual, by_value / len(level)
