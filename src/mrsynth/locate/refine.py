"""One disc, measured: its plane from the two facing endplates, its centre and the body's edges
around it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mrsynth.geometry import angle_deg, fit_plane, frame, unit
from mrsynth.locate.grid import SEEN_HU, Grid

# The part of an endplate that is measured, mm ahead and to the left of its centre: the outer
# millimetres are rim and osteophytes.
HALF_AHEAD_MM, HALF_LEFT_MM = 12.0, 16.0
# Distance between the columns along which endplates are looked for, and the step along them.
COLUMN_MM, DEPTH_STEP_MM = 1.5, 0.5
# An endplate lies at most this far from the middle of the disc (half of the highest disc and a
# tilt's error).
DEPTH_MM = 13.0
# Where the disc itself is read.
CORE_MM = 1.5
# A step from disc to endplate below this (HU) isn't seen above noise and texture (both of which
# are weaker in voxels that are larger than an endplate, like the step itself).
LEAST_STEP = 30.0
# A step of this many HU leaves no doubt.
FULL_STEP = 100.0
# Endplates are hollow by 1 to 2 mm. A stricter fit would take one part of the hollow or the rim
# for outliers.
CONCAVE_MM = 1.0
# Facing endplates of a lumbar disc wedge by up to 20°; more means that one of the fits went astray.
WEDGE_DEG = 28.0
# Rays around the body, their reach, and which layers of bone beyond an endplate they cross.
RAYS = 72
RADIUS_MM = (10.0, 36.0)
LAYERS_MM = (1.5, 3.0, 4.5)
# Price of a step of half a millimetre in radius from ray to ray, HU of edge.
ROUGHNESS = 12.0
# Where the outlines of the two bodies differ by more, the larger one has run into a pedicle or
# the sacral ala.
AGREE_MM = 5.0


@dataclass
class Measured:
    """A disc's plane (``centre``, ``normal``), height in mm, ``quality`` 0..1 and ``edge`` (rays,
    3), LPS mm.
    """

    centre: np.ndarray
    normal: np.ndarray
    ahead: np.ndarray
    height: float
    quality: float
    contrast: float
    wedge_deg: float
    edge: np.ndarray


def measure(
    grid: Grid, centre: np.ndarray, normal: np.ndarray, ahead: np.ndarray, turns: int = 4
) -> Measured | None:
    """Plane, centre and edges of the disc near a first guess.

    Args:
        grid: CT on upright axes.
        centre: First guess (3,) in LPS mm, within some 5 mm.
        normal: First guess of the unit normal, pointing up, within some 15°.
        ahead: Direction from the canal to the body.
        turns: How often plane and middle are measured in turn.

    Returns:
        None where no two endplates face each other there.
    """
    for turn in range(turns):
        found = _endplates(grid, centre, frame(normal, ahead))
        if found is None:
            return None
        middle, normal, upper, lower, share, contrast = found
        centre = centre + normal * ((middle - centre) @ normal)
        axes = frame(normal, ahead)
        # The outline is worth little before the plane fits, and the plane little off the middle.
        if turn > 0:
            offset = _centroid(_edges(grid, centre, axes, upper, lower), centre, axes)
            centre = centre + np.clip(offset, -8, 8)
    height = abs(float((upper[0] - lower[0]) @ normal))
    wedge = float(angle_deg(upper[1], lower[1]))
    edge = _edges(grid, centre, axes, upper, lower)
    quality = (
        share
        * np.clip(contrast / (FULL_STEP * grid.kept(normal)), 0, 1)
        * np.clip(1.5 - wedge / WEDGE_DEG, 0, 1)
    )
    return Measured(centre, normal, axes[0], height, float(quality), contrast, wedge, edge)


def _endplates(grid: Grid, centre: np.ndarray, axes: np.ndarray):
    """Planes of the facing endplates: middle, normal, upper (point, normal), lower, share found,
    contrast.
    """
    u = np.arange(-HALF_AHEAD_MM, HALF_AHEAD_MM + 0.1, COLUMN_MM)
    w = np.arange(-HALF_LEFT_MM, HALF_LEFT_MM + 0.1, COLUMN_MM)
    d = np.arange(-DEPTH_MM, DEPTH_MM + 0.1, DEPTH_STEP_MM)
    within = (u[:, None] / HALF_AHEAD_MM) ** 2 + (w / HALF_LEFT_MM) ** 2 <= 1.0
    feet = centre + u[:, None, None] * axes[0] + w[:, None] * axes[1]
    hu = grid.sample(feet[:, :, None] + d[:, None] * axes[2])
    seen = (hu > SEEN_HU).all(axis=2)
    hu = ndimage.gaussian_filter(np.clip(hu, -100, 500), (1.0, 1.0, 1.0), mode="nearest")
    core = np.abs(d) <= CORE_MM
    # One value for the whole disc: vacuum clefts and calcifications are local.
    disc_hu = float(np.median(hu[within & seen][:, core])) if (within & seen).any() else np.nan
    least = LEAST_STEP * grid.kept(axes[2])
    planes, shares, steps = [], [], []
    for side in (1, -1):
        outward = hu[:, :, d * side >= 0][:, :, ::side]
        depth = np.abs(d[d * side >= 0][::side])
        peak_at, step = _first_peak(outward, disc_hu)
        half = disc_hu + step / 2
        place = _crossing(outward, depth, half, peak_at)
        good = within & seen & (step > least) & np.isfinite(place)
        if good.sum() < 0.25 * within.sum():
            return None
        points = feet[good] + side * place[good][:, None] * axes[2]
        at, normal, weights = fit_plane(points, towards=axes[2], least_sigma_mm=CONCAVE_MM)
        planes.append((at, normal))
        shares.append((weights > 0.1).sum() / within.sum())
        steps.append(float(np.median(step[good])))
    (upper, up_normal), (lower, low_normal) = planes
    if angle_deg(up_normal, low_normal) > WEDGE_DEG:
        return None
    normal = unit(up_normal + low_normal)
    # Both planes on the disc's axis, so that a one-sided share of points doesn't shift the middle.
    top = ((upper - centre) @ up_normal) / (normal @ up_normal)
    bottom = ((lower - centre) @ low_normal) / (normal @ low_normal)
    if top - bottom < 1.0:
        return None
    middle = centre + normal * (top + bottom) / 2
    upper = (centre + normal * top, up_normal)
    lower = (centre + normal * bottom, low_normal)
    return middle, normal, upper, lower, float(min(shares)), float(min(steps))


def _first_peak(outward: np.ndarray, disc_hu: float) -> tuple[np.ndarray, np.ndarray]:
    """Index and height over the disc of the first bright peak along the last axis.

    The brightest place would often be the body's far side or a bone island.
    """
    top = outward.max(axis=2)
    bright = outward >= disc_hu + 0.6 * (top - disc_hu)[:, :, None]
    first = np.argmax(bright, axis=2)
    span = np.arange(outward.shape[2])
    near = (span >= first[..., None]) & (span <= first[..., None] + round(3 / DEPTH_STEP_MM))
    values = np.where(near, outward, -np.inf)
    return np.argmax(values, axis=2), values.max(axis=2) - disc_hu


def _crossing(outward, depth, half, peak_at) -> np.ndarray:
    """Depth (mm) of the last rise through ``half`` before the peak, between samples; NaN without
    one.
    """
    span = np.arange(outward.shape[2] - 1)
    rises = (outward[:, :, :-1] < half[..., None]) & (outward[:, :, 1:] >= half[..., None])
    rises &= span < peak_at[..., None]
    last = outward.shape[2] - 2 - np.argmax(rises[:, :, ::-1], axis=2)
    low = np.take_along_axis(outward, last[..., None], 2)[..., 0]
    high = np.take_along_axis(outward, last[..., None] + 1, 2)[..., 0]
    part = (half - low) / np.where(high > low, high - low, 1)
    step = depth[1] - depth[0]
    return np.where(rises.any(axis=2), depth[0] + (last + part) * step, np.nan)


def _edges(grid: Grid, centre, axes, upper, lower) -> np.ndarray:
    """Points (rays, 3) where the two bodies' outlines, brought into the disc's plane, end."""
    angles = np.arange(RAYS) * 2 * np.pi / RAYS
    directions = np.cos(angles)[:, None] * axes[0] + np.sin(angles)[:, None] * axes[1]
    radii = []
    for side, (at, normal) in ((1, upper), (-1, lower)):
        tilted = directions - ((directions @ normal) / (axes[2] @ normal))[:, None] * axes[2]
        start = centre + axes[2] * ((at - centre) @ axes[2])
        radii.append(_outline(grid, start, tilted, side * axes[2]))
    first, second = radii
    radius = np.where(
        np.abs(first - second) > AGREE_MM, np.minimum(first, second), (first + second) / 2
    )
    radius = ndimage.gaussian_filter1d(radius, 1.5, mode="wrap")
    return centre + radius[:, None] * directions


def _outline(grid: Grid, start, directions, outward) -> np.ndarray:
    """Radius (mm) per ray at which a body ends, by the best closed path through the falls in HU."""
    step = 0.5
    r = np.arange(RADIUS_MM[0] - 2, RADIUS_MM[1] + 2.1, step)
    rays = start + r[:, None] * directions[:, None]
    hu = np.mean([grid.sample(rays + depth * outward) for depth in LAYERS_MM], axis=0)
    hu = ndimage.gaussian_filter(np.clip(hu, -50, 350), (0.7, 1.0), mode=("wrap", "nearest"))
    lag = round(2 / step)
    fall = np.clip(hu[:, : -2 * lag] - hu[:, 2 * lag :], 0, 200)
    inside = r[lag:-lag]
    # The first fall to soft tissue is the body's; what lies behind it is another bone.
    bone = np.minimum.accumulate(hu, axis=1)[:, lag:-lag] > 60
    path = _closed_path(fall + 60.0 * bone)
    # The capped fall is flat around a strong edge: the edge is where the steepest part's middle is.
    slope = np.clip(-np.gradient(hu, axis=1)[:, lag:-lag], 0, None)
    near = np.abs(np.arange(len(inside)) - path[:, None]) <= lag
    weight = slope * near + 1e-6 * near
    return (weight @ inside) / weight.sum(axis=1)


def _closed_path(value: np.ndarray) -> np.ndarray:
    """Column per row of the closed path with the greatest sum, stepping at most two columns a
    row.
    """
    rows, columns = value.shape
    twice = np.vstack([value, value])
    total = twice[0].copy()
    origin = np.zeros(twice.shape, int)
    steps = np.arange(-2, 3)
    price = ROUGHNESS * np.abs(steps)[:, None]
    # Row s of this view is the total shifted by steps[s].
    padded = np.full(columns + 4, -np.inf)
    shifted = np.lib.stride_tricks.sliding_window_view(padded, columns)
    at = np.arange(columns)
    for row in range(1, 2 * rows):
        padded[2:-2] = total
        options = shifted - price
        choice = options.argmax(axis=0)
        origin[row] = at + steps[choice]
        total = options[choice, at] + twice[row]
    path = np.zeros(2 * rows, int)
    path[-1] = total.argmax()
    for row in range(2 * rows - 1, 0, -1):
        path[row - 1] = origin[row][path[row]]
    # The middle of two rounds has forgotten where the path began and ended.
    middle = path[rows // 2 : rows // 2 + rows]
    return np.roll(middle, rows // 2)


def _centroid(edge: np.ndarray, centre: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Vector (3,) from ``centre`` to the area's centroid of a closed outline in the plane."""
    x, y = (edge - centre) @ axes[0], (edge - centre) @ axes[1]
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    area = cross.sum() / 2
    cx = ((x + np.roll(x, -1)) * cross).sum() / (6 * area)
    cy = ((y + np.roll(y, -1)) * cross).sum() / (6 * area)
    return cx * axes[0] + cy * axes[1]
