"""One disc further: where the chain broke off, the next disc is looked for from the last one."""

import numpy as np

from mrsynth.geometry import angle_deg, frame, unit
from mrsynth.locate.chain import ENDPLATE_MM, HEIGHTS_MM, LEAST_CONTRAST, SPACING_MM
from mrsynth.locate.grid import SEEN_HU, Grid
from mrsynth.locate.refine import Measured, measure

# The next interval as a share of the last one, and the interval taken for the first: a lumbar
# vertebra with its disc.
SHARES = np.arange(0.72, 1.37, 0.08)
INTERVAL_MM = 35.0
# How the next plane turns against the last: lordosis opens downwards by up to 35° (L5-S1), and
# changes by little upwards; to the sides it is a scoliosis.
DOWN_DEG, UP_DEG = np.arange(-8.0, 37.0, 4.0), np.arange(-12.0, 25.0, 4.0)
SIDE_DEG = (-8.0, 0.0, 8.0)
# Where a plane is read: mm ahead and to the left of its centre, and along its normal.
AHEAD_MM, LEFT_MM = np.arange(-10.0, 11.0, 5.0), np.arange(-14.0, 15.0, 4.0)
ALONG_MM = np.arange(-11.0, 12.0, 1.0)
# What is worth a closer look, and what is believed: a disc's quality after measuring.
LOOKS, LEAST_QUALITY = 6, 0.15


def next_disc(grid: Grid, discs: list[Measured], down: bool) -> Measured | None:
    """The disc below the last one (``down``) or above the first one, or None.

    Args:
        grid: CT on upright axes.
        discs: Measured discs, cranial to caudal; at least one.
        down: Direction in which to look.
    """
    ordered = discs if down else discs[::-1]
    last = ordered[-1]
    interval = INTERVAL_MM
    if len(ordered) > 1:
        interval = float(np.linalg.norm(last.centre - ordered[-2].centre))
    best, worth = None, 0.0
    for centre, normal, contrast in _guesses(grid, last, interval, down):
        found = measure(grid, centre, normal, last.ahead, turns=3)
        if found is None or found.quality < LEAST_QUALITY:
            continue
        step = (last.centre - found.centre) if down else (found.centre - last.centre)
        middle = unit(last.normal + found.normal)
        apart = float(step @ middle)
        aside = np.linalg.norm(step - apart * middle)
        if not SPACING_MM[0] <= apart <= SPACING_MM[1] or aside > 0.35 * apart:
            continue
        if angle_deg(last.normal, found.normal, oriented=True) > 45.0:
            continue
        value = found.quality * contrast
        if value > worth:
            best, worth = found, value
    return best


def _guesses(grid: Grid, last: Measured, interval: float, down: bool):
    """The planes with the greatest contrast around the place where the next disc must be."""
    axes = frame(last.normal, last.ahead)
    places = []
    for turn in DOWN_DEG if down else UP_DEG:
        for side in SIDE_DEG:
            normal = unit(
                axes[2]
                + (1 if down else -1) * np.tan(np.radians(turn)) * axes[0]
                + np.tan(np.radians(side)) * axes[1]
            )
            way = unit(axes[2] + normal) * (-1 if down else 1)
            for share in SHARES:
                length = float(np.clip(share * interval, *SPACING_MM))
                places.append((last.centre + way * length, normal))
    u, w, d = np.meshgrid(AHEAD_MM, LEFT_MM, ALONG_MM, indexing="ij")
    local = np.stack([u, w, d], axis=-1)
    contrast = []
    for centre, normal in places:
        points = centre + local @ frame(normal, last.ahead)
        contrast.append(_contrast(grid.sample(points)))
    order = np.argsort(contrast)[::-1]
    chosen = []
    for k in order:
        if contrast[k] < LEAST_CONTRAST or len(chosen) == LOOKS:
            break
        centre, normal = places[k]
        near = [
            np.linalg.norm(centre - c) < 5 and angle_deg(normal, n, oriented=True) < 7
            for c, n, _ in chosen
        ]
        if not any(near):
            chosen.append((centre, normal, contrast[k]))
    return chosen


def _contrast(hu: np.ndarray) -> float:
    """How much brighter than the layer itself the darker of the bands beside it is, HU."""
    if (hu > SEEN_HU).mean() < 0.8:
        return -np.inf
    profile = np.clip(hu, -100, 400).mean(axis=(0, 1))
    best = -np.inf
    for height in HEIGHTS_MM:
        half = height / 2
        band = (np.abs(ALONG_MM) >= half) & (np.abs(ALONG_MM) <= half + ENDPLATE_MM)
        inner = np.abs(ALONG_MM) <= max(half - 1.5, 0.5)
        above, below = band & (ALONG_MM > 0), band & (ALONG_MM < 0)
        value = min(profile[above].mean(), profile[below].mean()) - profile[inner].mean()
        best = max(best, float(value))
    return best
