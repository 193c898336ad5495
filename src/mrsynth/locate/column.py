"""The column of vertebral bodies in front of the canal, and the CT straightened along it."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.signal import fftconvolve

from mrsynth.errors import Refusal
from mrsynth.geometry import unit
from mrsynth.locate.grid import SEEN_HU, Grid

# Step along curves, mm: below the height of the thinnest disc's parts.
STEP_MM = 1.0
# Directions are taken over this length of the canal: half a vertebra, so that steps at discs
# don't tilt them.
TANGENT_MM = 12.0
# The column goes on this far beyond the canal's ends, whose last slices are often not enclosed.
BEYOND_MM = 30.0
# Where a lumbar body's centre lies from the canal's centre: half a canal plus half a body
# (Panjabi 1992: bodies 30-36 mm deep, canal 16-20 mm), with room for small and large people.
DISTANCE_MM = (17.0, 34.0)
# Half depth and half width of lumbar bodies, small to large people (Panjabi 1992), and how far
# around the ellipse its surroundings are looked at, as a share.
HALVES_MM = ((14.0, 20.0), (16.5, 24.0), (19.0, 28.0))
AROUND = 1.4
# By how much a body must be brighter than its surroundings, and what a degree of turn costs, HU.
LEAST_CONTRAST, TURN_COST = 25.0, 0.5
# How far from straight ahead (the CT's front) the body may lie: patient turned, vertebra rotated.
TURN_DEG = 45.0


@dataclass
class Column:
    """A curve through the vertebral bodies, cranial to caudal, one point per mm.

    Attributes:
        points: (n, 3) LPS mm.
        up: (n, 3) unit tangents, pointing up.
        ahead: (n, 3) unit vectors from the canal to the body, normal to ``up``.
        left: (n, 3) unit vectors to the patient's left, normal to both.
    """

    points: np.ndarray
    up: np.ndarray
    ahead: np.ndarray
    left: np.ndarray


def evenly(line: np.ndarray, step: float = STEP_MM, beyond: float = 0.0) -> np.ndarray:
    """A polyline (n, 3) resampled to even steps, lengthened straight on at both ends by ``beyond``
    mm.
    """
    line = np.asarray(line, dtype=float)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.arange(0, along[-1] + 1e-9, step)
    inner = np.column_stack([np.interp(at, along, line[:, k]) for k in range(3)])
    if beyond <= 0:
        return inner
    reach = min(len(inner) - 1, round(2 * TANGENT_MM / step))
    ahead = np.arange(step, beyond + 1e-9, step)[:, None]
    top = inner[0] + unit(inner[0] - inner[reach]) * ahead[::-1]
    bottom = inner[-1] + unit(inner[-1] - inner[-1 - reach]) * ahead
    return np.vstack([top, inner, bottom])


def tangents(line: np.ndarray, step: float = STEP_MM) -> np.ndarray:
    """Unit tangents (n, 3) pointing to the first point's end (up), smoothed over half a
    vertebra.
    """
    smooth = ndimage.gaussian_filter1d(line, TANGENT_MM / step, axis=0, mode="nearest")
    inner = -np.gradient(smooth, axis=0)
    # The filter bends the ends towards themselves; the direction one smoothing length inside
    # holds there.
    edge = min(round(TANGENT_MM / step), (len(line) - 1) // 2)
    inner[:edge] = inner[edge]
    inner[len(line) - edge :] = inner[len(line) - edge - 1]
    return unit(inner)


def find_column(grid: Grid, canal: np.ndarray) -> Column:
    """The curve of the bodies' centres in front of the canal.

    Args:
        grid: CT on upright axes.
        canal: Centre line (n, 3), cranial to caudal, LPS mm.

    Raises:
        Refusal: ``NO_SPINE`` if there is no bone in front of the canal.
    """
    line = evenly(canal, beyond=BEYOND_MM)
    up = tangents(line)
    front = np.array([0.0, -1.0, 0.0])
    ahead = unit(front - up * (up @ front)[:, None])
    left = np.cross(up, ahead)
    a = np.arange(-4.0, 56.0, 2.0)
    b = np.arange(-40.0, 41.0, 2.0)
    points = (
        line[:, None, None]
        + ahead[:, None, None] * a[:, None, None]
        + left[:, None, None] * b[:, None]
    )
    # Fat and gas are as good as water, implants no better than bone: only the bodies' bulk counts.
    cuts = grid.sample(points)
    seen = (cuts > SEEN_HU).astype(np.float32)
    # A vertebra and a half: the same position sees body and disc everywhere. What lies outside
    # the scan has no weight, so that the first and the last cut are as good as the others.
    sigma = 18 / STEP_MM
    weight = ndimage.gaussian_filter1d(seen, sigma, axis=0, mode="nearest")
    cuts = ndimage.gaussian_filter1d(np.clip(cuts, 0, 220) * seen, sigma, axis=0, mode="nearest")
    cuts = np.where(weight > 0.05, cuts / np.maximum(weight, 0.05), 0)
    where = _body_centres(cuts[:: round(4 / STEP_MM)], a, b)
    if not np.isfinite(where).any():
        raise Refusal(
            "NO_SPINE",
            "no vertebral bodies were found in front of the canal",
            "give labels or landmarks for this subject (`source`)",
        )
    where = _filled(where)
    where = ndimage.median_filter(where, (9, 1), mode="nearest")
    where = ndimage.gaussian_filter1d(where, 3, axis=0, mode="nearest")
    steps = np.arange(len(where)) * 4 / STEP_MM
    at = np.arange(len(line))
    forward, sideways = (np.interp(at, steps, where[:, k]) for k in range(2))
    centre = line + ahead * forward[:, None] + left * sideways[:, None]
    return column_along(centre, line)


def column_along(centre: np.ndarray, canal: np.ndarray) -> Column:
    """Even points and frames along the bodies' centres; the canal tells what is in front.

    Args:
        centre: Points (n, 3) in the bodies, cranial to caudal, LPS mm.
        canal: Points (m, 3) on the canal's centre line.
    """
    points = evenly(centre)
    points = ndimage.gaussian_filter1d(points, 6 / STEP_MM, axis=0, mode="nearest")
    points = evenly(points)
    up = tangents(points)
    nearest = np.argmin(np.linalg.norm(points[:, None] - canal[None, ::2], axis=2), axis=1)
    ahead = points - canal[::2][nearest]
    ahead = unit(ahead - up * np.sum(ahead * up, axis=1, keepdims=True))
    ahead = ndimage.gaussian_filter1d(ahead, 15 / STEP_MM, axis=0, mode="nearest")
    ahead = unit(ahead - up * np.sum(ahead * up, axis=1, keepdims=True))
    return Column(points, up, ahead, np.cross(up, ahead))


def straighten(grid: Grid, column: Column, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """HU (n, len(a), len(b)) along the column; a counts mm ahead, b mm to the left of its curve."""
    points = (
        column.points[:, None, None]
        + column.ahead[:, None, None] * a[:, None, None]
        + column.left[:, None, None] * b[:, None]
    )
    return grid.sample(points)


def _body_centres(cuts: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Forward and sideways distance (n, 2) of the bodies' centres from the canal's, mm.

    The place where an ellipse of a body's size differs most from what surrounds it in front and
    beside; behind it are pedicles, which say nothing. NaN where no place does.

    Args:
        cuts: Axial cuts (n, len(a), len(b)) in HU.
        a: Distances ahead, mm.
        b: Distances to the left, mm.
    """
    value = np.full(cuts.shape, -np.inf)
    for half_a, half_b in HALVES_MM:
        kernel = _template(half_a, half_b, a[1] - a[0])
        rows, columns = (n // 2 for n in kernel.shape)
        padded = np.pad(cuts, ((0, 0), (rows, rows), (columns, columns)), mode="edge")
        # Correlation, not convolution: the template has a front and a back.
        matched = fftconvolve(padded, kernel[None, ::-1, ::-1], mode="valid", axes=(1, 2))
        value = np.maximum(value, matched)
    distance = np.hypot(a[:, None], b)
    turn = np.degrees(np.arctan2(np.abs(b), np.maximum(a[:, None], 1e-6)))
    allowed = (distance >= DISTANCE_MM[0]) & (distance <= DISTANCE_MM[1]) & (turn <= TURN_DEG)
    value = np.where(allowed, value - TURN_COST * turn, -np.inf).reshape(len(cuts), -1)
    best = value.argmax(axis=1)
    row, column = np.unravel_index(best, cuts.shape[1:])
    places = np.column_stack([a[row], b[column]])
    places[value[np.arange(len(cuts)), best] < LEAST_CONTRAST] = np.nan
    return places


def _template(half_a: float, half_b: float, step: float) -> np.ndarray:
    """Weights that give the mean in an ellipse minus the mean around its front and sides."""
    rows, columns = (int(np.ceil(half * AROUND / step)) for half in (half_a, half_b))
    a = np.arange(-rows, rows + 1)[:, None] * step
    b = np.arange(-columns, columns + 1) * step
    radius = np.hypot(a / half_a, b / half_b)
    inside = radius <= 1
    around = (radius > 1.1) & (radius <= AROUND) & (a > -0.3 * half_a)
    return inside / inside.sum() - around / around.sum()


def _filled(rows: np.ndarray) -> np.ndarray:
    """Rows (n, k) with the rows of NaN filled from their neighbours."""
    good = np.flatnonzero(np.isfinite(rows).all(1))
    at = np.arange(len(rows))
    return np.column_stack([np.interp(at, good, rows[good, k]) for k in range(rows.shape[1])])
