"""Names of the discs, counted up from the sacrum."""

from itertools import pairwise

import numpy as np

from mrsynth.geometry import frame
from mrsynth.locate.canal import SOFT_TISSUE_HU
from mrsynth.locate.grid import SEEN_HU, Grid

# Vertebrae from the sacrum up. Transitional segments (4 or 6 lumbar) can't be told without the
# ribs: the count assumes five, as radiologists do on a lumbar scan.
VERTEBRAE = ("S1", "L5", "L4", "L3", "L2", "L1", *(f"T{n}" for n in range(12, 0, -1)))
# The block beside the vertebra below a disc: there a sacrum has its alae and the sacroiliac
# joints, a lumbar vertebra psoas and a thin transverse process. Millimetres to the side, ahead of
# the body's centre, and below the disc's lower endplate.
BESIDE_MM = (28.0, 60.0)
AHEAD_MM = (-20.0, 12.0)
BELOW_MM = (4.0, 18.0)
# The alae are spongy: less than cortical bone, more than muscle and enhanced veins.
ALA_HU = 130.0


def names(count: int) -> list[str | None]:
    """Names of ``count`` discs, caudal to cranial, the first being L5-S1; None above T1."""
    pairs = [f"{upper}-{lower}" for lower, upper in pairwise(VERTEBRAE)]
    return [pairs[k] if k < len(pairs) else None for k in range(count)]


def ala_share(
    grid: Grid, centre: np.ndarray, normal: np.ndarray, ahead: np.ndarray, height_mm: float
) -> float:
    """Share (0..1) of bone beside the vertebra below a disc, both sides together.

    NaN where less than half of that region lies in the scan.
    """
    axes = frame(normal, ahead)
    left = axes[1]
    a = np.arange(AHEAD_MM[0], AHEAD_MM[1] + 1, 2.0)
    b = np.arange(BESIDE_MM[0], BESIDE_MM[1] + 1, 2.0)
    d = np.arange(BELOW_MM[0], BELOW_MM[1] + 1, 2.0) + height_mm / 2
    bone = SOFT_TISSUE_HU + (ALA_HU - SOFT_TISSUE_HU) * grid.kept()
    shares = []
    for side in (1, -1):
        points = (
            centre
            + a[:, None, None, None] * axes[0]
            + side * b[:, None, None] * left
            - d[:, None] * axes[2]
        )
        hu = grid.sample(points)
        seen = hu > SEEN_HU
        if seen.mean() < 0.5:
            return float("nan")
        shares.append(float((hu[seen] > bone).mean()))
    return float(np.mean(shares))


def sacral_disc(shares: np.ndarray, ala: float) -> int | None:
    """Index of L5-S1 among discs from cranial to caudal, or None where no sacrum is seen.

    It is the most cranial disc whose vertebra below has alae; sacral remnant discs below it have
    them too.
    """
    hits = np.flatnonzero(np.nan_to_num(np.asarray(shares), nan=0.0) >= ala)
    return int(hits[0]) if len(hits) else None
