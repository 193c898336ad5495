"""The column of vertebral bodies in front of the canal, and the CT straightened along it."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mrsynth.errors import Refusal
from mrsynth.geometry import unit
from mrsynth.locate.grid import AIR_HU, Grid

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
# Radius of the probe that looks for the body's centre: fits into the smallest lumbar body.
PROBE_MM = 14.0
# Half a canal: the body begins this far ahead of its centre.
BEHIND_MM = 10.0
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
    seen = (cuts > AIR_HU + 1).astype(np.float32)
    # A vertebra and a half: the same position sees body and disc everywhere. What lies outside
    # the scan has no weight, so that the first and the last cut are as good as the others.
    sigma = 18 / STEP_MM
    weight = ndimage.gaussian_filter1d(seen, sigma, axis=0, mode="nearest")
    cuts = ndimage.gaussian_filter1d(np.clip(cuts, 0, 220) * seen, sigma, axis=0, mode="nearest")
    cuts = np.where(weight > 0.05, cuts / np.maximum(weight, 0.05), 0)
    where = np.array([_body_centre(cut, a, b) for cut in cuts[:: round(4 / STEP_MM)]])
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


def _body_centre(cut: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Forward and sideways distance of the body's centre from the canal's in an axial cut, mm.

    The brightest place for a disc-shaped probe, then the centre of mass of what is bright around
    it.
    """
    step = a[1] - a[0]
    reach = int(PROBE_MM // step)
    ring = np.arange(-reach, reach + 1) * step
    probe = (ring[:, None] ** 2 + ring**2 <= PROBE_MM**2).astype(float)
    mean = ndimage.convolve(cut, probe / probe.sum(), mode="nearest")
    distance = np.hypot(a[:, None], b)
    turn = np.degrees(np.arctan2(np.abs(b), np.maximum(a[:, None], 1e-6)))
    allowed = (distance >= DISTANCE_MM[0]) & (distance <= DISTANCE_MM[1]) & (turn <= TURN_DEG)
    # Straight ahead wins a tie: 1 HU for each degree of turn.
    value = np.where(allowed, mean - 0.5 * turn, -np.inf)
    row, column = np.unravel_index(np.argmax(value), value.shape)
    around = np.median(cut[distance > 8])
    if mean[row, column] < around + 20:
        return np.full(2, np.nan)
    place = np.array([a[row], b[column]])
    weight = np.clip(cut - (around + mean[row, column]) / 2, 0, 150)
    for _ in range(8):
        # Behind this line are pedicles, facets and the canal.
        body = (a[:, None] * place[0] + b * place[1]) / np.hypot(*place) > BEHIND_MM
        near = weight * body * (np.hypot(a[:, None] - place[0], b - place[1]) <= 22)
        total = near.sum()
        if total <= 0:
            break
        place = np.array([(near.sum(1) @ a) / total, (near.sum(0) @ b) / total])
    return place


def _filled(rows: np.ndarray) -> np.ndarray:
    """Rows (n, k) with the rows of NaN filled from their neighbours."""
    good = np.flatnonzero(np.isfinite(rows).all(1))
    at = np.arange(len(rows))
    return np.column_stack([np.interp(at, good, rows[good, k]) for k in range(rows.shape[1])])
