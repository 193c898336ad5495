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


def overlap(groups: list[Points], moving: Moving, pose: np.ndarray) -> float:
    """Share of the samples that lie in the moving image's field."""
    inside = [sample(moving, _to_index(group.world, moving, pose))[2] for group in groups]
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
    limit = np.array([width, height, depth]) - 1
    inside = np.all((index >= 0) & (index <= limit), axis=1)
    safe = np.where(inside[:, None], index, 0.0)
    base = np.minimum(safe.astype(np.int64), np.maximum(limit - 1, 0))
    x, y, z = (safe - base).astype(np.float32).T
    flat = moving.values.ravel()
    start = (base[:, 2] * height + base[:, 1]) * width + base[:, 0]
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
    slope = np.stack(
        [
            slope_x_low + z * (slope_x_top - slope_x_low),
            (low1 - low0) + z * ((top1 - top0) - (low1 - low0)),
            top - low,
        ],
        axis=1,
    )
    counts = inside & np.isfinite(value)
    return np.where(counts, value, 0), np.where(counts[:, None], slope, 0), counts


def _to_index(world: np.ndarray, moving: Moving, pose: np.ndarray) -> np.ndarray:
    matrix = moving.to_index @ pose
    return world @ matrix[:3, :3].T + matrix[:3, 3]


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
    level, value = group.level[counts], value[counts] / planes
    mutual, by_value = mutual_information(level, value)
    gradient = np.zeros((3, 4))
    for offset, slope in zip(group.spread, slopes, strict=True):
        pull = (slope[counts] * (by_value / planes)[:, None]) @ moving.to_index[:3, :3]
        gradient[:, :3] += pull.T @ (group.world[counts] + offset)
        gradient[:, 3] += pull.sum(axis=0)
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
