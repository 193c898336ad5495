"""Where along the column the discs lie: dark layers between bright endplates, at plausible
intervals.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mrsynth.locate.column import STEP_MM, Column, straighten
from mrsynth.locate.grid import SEEN_HU, Grid

# The part of a cut that is body or disc in every adult, mm ahead and to the left of the column's
# curve.
HALF_AHEAD_MM, HALF_LEFT_MM = 12.0, 15.0
# Tilts of a layer against the column's curve that are tried: discs wedge, most of all L5-S1.
TILTS_AHEAD_DEG = np.arange(-24.0, 25.0, 4.0)
TILTS_LEFT_DEG = np.arange(-12.0, 13.0, 4.0)
# Gaps between endplates that are tried, mm; a lumbar disc is 6-14 mm high, a worn one 3-4 mm.
HEIGHTS_MM = (4.0, 6.0, 8.0, 10.0, 12.0, 14.0)
# Endplate and the bone next to it.
ENDPLATE_MM = 3.0
# What a degree of tilt costs, HU: breaks ties in flat profiles.
TILT_COST = 0.5
# Contrast of a good disc, HU; more than this says nothing more.
FULL_CONTRAST = 140.0
# Contrast below which a layer isn't a disc at all.
LEAST_CONTRAST = 15.0
# Distance between neighbouring discs' centres, mm: T11 about 25, L3 to L5 up to 45.
SPACING_MM = (20.0, 46.0)
# How much of a disc's worth is lost when two neighbouring intervals differ by their full size.
IRREGULAR = 2.0


@dataclass
class Candidate:
    """A layer that may be a disc: index along the column, worth 0..1, plane in LPS mm, height in
    mm.
    """

    index: int
    worth: float
    centre: np.ndarray
    normal: np.ndarray
    height: float


def find_discs(grid: Grid, column: Column) -> list[Candidate]:
    """The chain of layers along the column that look most like discs, cranial to caudal."""
    return best_chain(candidates(grid, column))


def candidates(grid: Grid, column: Column) -> list[Candidate]:
    """All layers between brighter ones, cranial to caudal."""
    a = np.arange(-HALF_AHEAD_MM, HALF_AHEAD_MM + 1, 2.0)
    b = np.arange(-HALF_LEFT_MM, HALF_LEFT_MM + 1, 2.5)
    volume = straighten(grid, column, a, b)
    seen = volume > SEEN_HU
    volume = np.clip(volume, -100, 400)
    contrast = np.full(len(volume), -np.inf)
    best = np.zeros((len(volume), 3))
    for tilt_a in TILTS_AHEAD_DEG:
        for tilt_b in TILTS_LEFT_DEG:
            profile = _tilted_mean(volume, seen, a, b, tilt_a, tilt_b)
            for height in HEIGHTS_MM:
                value = layer_contrast(profile, height) - TILT_COST * (abs(tilt_a) + abs(tilt_b))
                better = value > contrast
                contrast[better] = value[better]
                best[better] = tilt_a, tilt_b, height
    smooth = ndimage.gaussian_filter1d(np.where(np.isfinite(contrast), contrast, -200.0), 1.0)
    peaks = np.flatnonzero(
        (smooth == ndimage.maximum_filter1d(smooth, 9)) & (smooth > LEAST_CONTRAST)
    )
    return [
        Candidate(
            int(at),
            float(np.clip(smooth[at] / FULL_CONTRAST, 0, 1)),
            column.points[at],
            _normal(column, at, *best[at, :2]),
            float(best[at, 2]),
        )
        for at in peaks
    ]


def layer_contrast(profile: np.ndarray, height_mm: float) -> np.ndarray:
    """The darker of the two bands beside a layer minus the layer, HU, for each place of a profile
    (n,).

    NaN in the profile marks places outside the scan; bands that touch them give minus infinity.
    """
    total = np.concatenate([[0.0], np.cumsum(profile)])

    def mean(low: float, high: float) -> np.ndarray:
        at = np.arange(len(profile))
        first = at + round(low / STEP_MM)
        last = np.maximum(at + round(high / STEP_MM), first) + 1
        good = (first >= 0) & (last <= len(profile))
        out = np.full(len(profile), np.nan)
        out[good] = (total[last[good]] - total[first[good]]) / (last[good] - first[good])
        return out

    if np.isnan(profile).any():
        known = np.flatnonzero(np.isfinite(profile))
        out = np.full(len(profile), -np.inf)
        if len(known):
            part = slice(known[0], known[-1] + 1)
            if np.isfinite(profile[part]).all():
                out[part] = layer_contrast(profile[part], height_mm)
        return out
    half = height_mm / 2
    inner = max(half - 1.5, 0.0)
    value = np.minimum(mean(-half - ENDPLATE_MM, -half), mean(half, half + ENDPLATE_MM)) - mean(
        -inner, inner
    )
    return np.where(np.isnan(value), -np.inf, value)


def best_chain(found: list[Candidate]) -> list[Candidate]:
    """The subset with the greatest sum of worths, at plausible and even intervals.

    Dynamic programming over pairs of neighbours: the price of a third depends on how much its
    interval differs from theirs.
    """
    count = len(found)
    if count < 2:
        return found
    at = np.array([c.index for c in found]) * STEP_MM
    worth = np.array([c.worth for c in found])
    total: dict[tuple[int, int], float] = {}
    before: dict[tuple[int, int], int | None] = {}
    for j in range(count):
        for i in range(j):
            interval = at[j] - at[i]
            if not SPACING_MM[0] <= interval <= SPACING_MM[1]:
                continue
            total[i, j], before[i, j] = worth[i] + worth[j], None
            for h in range(i):
                if (h, i) in total:
                    change = abs(np.log(interval / (at[i] - at[h])))
                    value = total[h, i] + worth[j] - IRREGULAR * max(change - 0.15, 0)
                    if value > total[i, j]:
                        total[i, j], before[i, j] = value, h
    if not total:
        return [found[int(np.argmax(worth))]]
    pair = max(total, key=total.get)
    chain = [pair[1]]
    while pair is not None:
        chain.append(pair[0])
        previous = before[pair]
        pair = None if previous is None else (previous, pair[0])
    return [found[k] for k in reversed(chain)]


def _tilted_mean(volume, seen, a, b, tilt_a: float, tilt_b: float) -> np.ndarray:
    """Mean HU of tilted layers (n,); NaN where more than a quarter lies outside the scan.

    ``tilt_a`` above zero lets the layer go up in front, ``tilt_b`` up on the left.
    """
    rise = np.tan(np.radians(tilt_a)) * a[:, None] + np.tan(np.radians(tilt_b)) * b
    shift = np.round(-rise / STEP_MM).astype(int)
    rows = np.arange(len(volume))[:, None, None] + shift
    inside = (rows >= 0) & (rows < len(volume))
    rows = np.clip(rows, 0, len(volume) - 1)
    i, j = np.indices(rise.shape)
    good = seen[rows, i, j] & inside
    count = good.sum(axis=(1, 2))
    mean = (volume[rows, i, j] * good).sum(axis=(1, 2)) / np.maximum(count, 1)
    return np.where(count > 0.75 * rise.size, mean, np.nan)


def _normal(column: Column, at: int, tilt_a: float, tilt_b: float) -> np.ndarray:
    normal = (
        column.up[at]
        - np.tan(np.radians(tilt_a)) * column.ahead[at]
        - np.tan(np.radians(tilt_b)) * column.left[at]
    )
    return normal / np.linalg.norm(normal)
