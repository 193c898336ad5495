"""Names of the discs: counted up from the sacrum, and checked against the ribs."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from mrsynth.geometry import frame, unit
from mrsynth.locate.canal import SOFT_TISSUE_HU
from mrsynth.locate.grid import SEEN_HU, Grid
from mrsynth.locate.refine import Measured

# Vertebrae from the sacrum up, with the usual five lumbar ones.
VERTEBRAE = ("S1", "L5", "L4", "L3", "L2", "L1", *(f"T{n}" for n in range(12, 0, -1)))
LUMBAR = 5
# The block beside the vertebra below a disc: there a sacrum has its alae and the sacroiliac
# joints, a lumbar vertebra psoas and a thin transverse process. Millimetres to the side, ahead of
# the body's centre, and below the disc's lower endplate.
BESIDE_MM = (28.0, 60.0)
AHEAD_MM = (-20.0, 12.0)
BELOW_MM = (4.0, 18.0)
# The block beside a disc itself: free where the vertebra above it is, bridged by bone where its
# transverse processes have grown to the sacrum (Castellvi III) or both are one (a sacral remnant).
BRIDGE_BESIDE_MM, BRIDGE_AHEAD_MM, BRIDGE_BELOW_MM = (26.0, 46.0), (-22.0, 6.0), (-4.0, 4.0)
# Share of bone there above which it is a bridge: half of a bridge, more than osteophytes fill.
BRIDGE = 0.3
# The alae are spongy: less than cortical bone, more than muscle and enhanced veins.
ALA_HU = 130.0
# A rib is bone that goes on from beside the pedicle (28 mm from the middle) to farther out than
# transverse processes reach (40-50 mm, L3 the longest).
ROOT_MM, RIB_MM = (26.0, 32.0), 58.0
# Where it is looked for: to the side, behind the body's centre, and along the spine around the
# vertebra's middle; its root is in the upper half, at the pedicle.
RIB_BESIDE_MM, RIB_AHEAD_MM, RIB_ALONG_MM = (26.0, 68.0), (-62.0, 2.0), (-26.0, 20.0)
ROOT_ALONG_MM = (-8.0, 20.0)
# Below the second lumbar vertebra iliac crests are mistaken for ribs, and no rib has been there.
LEAST_LUMBAR = 3
# A vertebra above the last disc or below the first is taken to be this far from it, mm.
HALF_VERTEBRA_MM = 17.0


@dataclass
class Count:
    """What the levels are counted by.

    Attributes:
        last: Index (cranial to caudal) of the lowest free disc, None where no sacrum is seen.
        lumbar: Number of vertebrae between the sacrum and the lowest rib, None where no rib is.
        bridged: The lowest free disc is bridged at its side by bone.
    """

    last: int | None
    lumbar: int | None
    bridged: bool

    @property
    def transitional(self) -> bool:
        """Whether the usual names would be a guess."""
        return self.bridged or self.lumbar not in (None, LUMBAR)


def count_levels(grid: Grid, discs: list[Measured | None], ala: float) -> Count:
    """Find the sacrum, the lowest rib and bony bridges.

    Args:
        grid: CT on upright axes.
        discs: Measured discs, cranial to caudal; None where one couldn't be measured.
        ala: Share of bone beside a vertebra from which it counts as the sacrum.
    """
    last = sacral_disc(np.array([np.nan if d is None else ala_share(grid, d) for d in discs]), ala)
    if last is None:
        return Count(None, None, False)
    lowest = discs[last]
    bridged = lowest is not None and bridge_share(grid, lowest) >= BRIDGE
    return Count(last, lumbar_count(grid, discs[: last + 1]), bridged)


def names(count: int) -> list[str | None]:
    """Names of ``count`` discs, caudal to cranial, the first being L5-S1; None above T1."""
    pairs = [f"{upper}-{lower}" for lower, upper in pairwise(VERTEBRAE)]
    return [pairs[k] if k < len(pairs) else None for k in range(count)]


def ala_share(grid: Grid, disc: Measured) -> float:
    """Share (0..1) of bone beside the vertebra below a disc, both sides together.

    NaN where less than half of that region lies in the scan.
    """
    half = disc.height / 2
    along = (-BELOW_MM[1] - half, -BELOW_MM[0] - half)
    return float(np.mean(_shares(grid, disc, BESIDE_MM, AHEAD_MM, along)))


def bridge_share(grid: Grid, disc: Measured) -> float:
    """Share (0..1) of bone beside a disc, on the side that has more; NaN outside the scan."""
    shares = _shares(grid, disc, BRIDGE_BESIDE_MM, BRIDGE_AHEAD_MM, BRIDGE_BELOW_MM)
    return float(np.max(shares))


def sacral_disc(shares: np.ndarray, ala: float) -> int | None:
    """Index of L5-S1 among discs from cranial to caudal, or None where no sacrum is seen.

    It is the most cranial disc whose vertebra below has alae; sacral remnant discs below it have
    them too.
    """
    hits = np.flatnonzero(np.nan_to_num(np.asarray(shares), nan=0.0) >= ala)
    return int(hits[0]) if len(hits) else None


def lumbar_count(grid: Grid, discs: list[Measured | None]) -> int | None:
    """Number of vertebrae without ribs above the sacrum, or None where no rib is seen.

    Args:
        grid: CT on upright axes.
        discs: Cranial to caudal, the last one above the sacrum.
    """
    if any(disc is None for disc in discs):
        return None
    upwards = discs[::-1]
    for number in range(LEAST_LUMBAR, len(upwards) + 1):
        # The vertebra above disc `number` - 1 has `number` - 1 free vertebrae below it.
        below = upwards[number - 1]
        above = upwards[number] if number < len(upwards) else None
        if bears_rib(grid, below, above):
            return number - 1
    return None


def bears_rib(grid: Grid, below: Measured, above: Measured | None) -> bool:
    """Whether bone goes out from beside the vertebra's pedicle as far as only ribs do.

    Args:
        grid: CT on upright axes.
        below: The disc below the vertebra.
        above: The disc above it, None at the chain's end.
    """
    if above is None:
        centre, normal = below.centre + below.normal * HALF_VERTEBRA_MM, below.normal
    else:
        centre, normal = (below.centre + above.centre) / 2, unit(below.normal + above.normal)
    axes = frame(normal, below.ahead)
    u, w, d = (
        np.arange(low, high + 1, 2.0) for low, high in (RIB_AHEAD_MM, RIB_BESIDE_MM, RIB_ALONG_MM)
    )
    bone = _threshold(grid)
    for side in (1, -1):
        points = (
            centre
            + u[:, None, None, None] * axes[0]
            + side * w[:, None, None] * axes[1]
            + d[:, None] * axes[2]
        )
        parts, _ = ndimage.label(grid.sample(points) > bone)
        at_pedicle = (d >= ROOT_ALONG_MM[0]) & (d <= ROOT_ALONG_MM[1])
        root = parts[:, w <= ROOT_MM[1]][:, :, at_pedicle]
        if np.intersect1d(root[root > 0], parts[:, w >= RIB_MM]).size:
            return True
    return False


def _threshold(grid: Grid) -> float:
    """CT number of spongy bone in voxels of the scan's size."""
    return SOFT_TISSUE_HU + (ALA_HU - SOFT_TISSUE_HU) * grid.kept()


def _shares(grid: Grid, disc: Measured, beside, ahead, along) -> tuple[float, float]:
    """Share of bone in the blocks to the left and to the right of a disc; NaN outside the scan."""
    axes = frame(disc.normal, disc.ahead)
    a, b, d = (np.arange(low, high + 1, 2.0) for low, high in (ahead, beside, along))
    shares = []
    for side in (1, -1):
        points = (
            disc.centre
            + a[:, None, None, None] * axes[0]
            + side * b[:, None, None] * axes[1]
            + d[:, None] * axes[2]
        )
        hu = grid.sample(points)
        seen = hu > SEEN_HU
        enough = seen.mean() >= 0.5
        shares.append(float((hu[seen] > _threshold(grid)).mean()) if enough else float("nan"))
    return shares[0], shares[1]
