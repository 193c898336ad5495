"""CT after myelography: the thecal sac is as bright as bone, and must not be taken for it.

The bright sac hides the canal from a search for soft tissue within bone, but not the discs from a
search for dark layers; so the discs tell where to look.
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from mrsynth.geometry import frame
from mrsynth.locate.column import evenly
from mrsynth.locate.grid import Grid
from mrsynth.locate.refine import Measured

# Contrast medium in the sac is 200 to over 1000 HU; with the roots in it averaged in, this much
# at least. Roots are 1-2 mm thick and don't count after a smoothing of this width (sigma, mm).
CONTRAST_HU, SMOOTHING_MM = 150.0, 2.0
# Behind a disc lie 1-3 mm of ligament and fat, then the sac, then flavum; bone is farther to the
# sides (facets, from 8 mm) and farther behind (laminae). Where the sac is looked for, mm behind the
# disc's edge and to the sides: half of this place at least is bright.
BEHIND_MM, SIDE_MM = (3.0, 11.0), 4.0
STEP_MM, SLAB_MM = 1.0, 2.0
# Half the width of a wide sac, mm.
HALF_SAC_MM = 9.0
# Share of the discs behind which the sac has to be bright.
SHARE = 0.6
# How far the tube goes on beyond the discs, how far around its middle a sac reaches, mm, and what
# takes the place of contrast medium: the sac of a native CT.
BEYOND_MM, REACH_MM, SAC_HU = 40.0, 11.0, 20.0


def without_contrast(grid: Grid, discs: list[Measured]) -> Grid | None:
    """The CT with its bright sac filled with soft tissue; None where there is no bright sac.

    Args:
        grid: CT on upright axes, in which the spine stands upright and looks ahead.
        discs: Measured discs, cranial to caudal.
    """
    places = [bright_place(grid, disc) for disc in discs]
    seen = [place for place in places if place is not None]
    if len(seen) < 2 or len(seen) < SHARE * len(discs):
        return None
    line = evenly(np.array(seen), beyond=BEYOND_MM)
    index = np.rint(grid.to_index(line)).astype(int)
    shape = np.array(grid.values.shape)
    index = index[((index >= 0) & (index < shape)).all(axis=1)]
    away = np.ones(grid.values.shape, bool)
    away[tuple(index.T)] = False
    near = ndimage.distance_transform_edt(away) * grid.spacing <= REACH_MM
    values = np.where(near & (grid.values > SAC_HU), np.float32(SAC_HU), grid.values)
    return replace(grid, values=values)


def bright_place(grid: Grid, disc: Measured) -> np.ndarray | None:
    """Middle of what is bright behind a disc (3,), LPS mm; None where nothing is as bright as
    contrast medium.
    """
    axes = frame(disc.normal, np.array([0.0, -1.0, 0.0]))
    offset = disc.edge - disc.centre
    edge = np.min(offset[np.abs(offset @ axes[1]) < 8.0] @ axes[0], initial=-10.0)
    # A margin of three sigmas, so that the smoothing sees what is around.
    margin = 3 * SMOOTHING_MM
    u = edge - np.arange(BEHIND_MM[0] - margin, BEHIND_MM[1] + margin + 0.1, STEP_MM)
    w = np.arange(-SIDE_MM - margin, SIDE_MM + margin + 0.1, STEP_MM)
    feet = disc.centre + u[:, None, None] * axes[0] + w[:, None] * axes[1]
    slab = np.arange(-SLAB_MM, SLAB_MM + 0.1, 1.0)
    hu = np.mean([grid.sample(feet + d * axes[2]) for d in slab], axis=0)
    hu = ndimage.gaussian_filter(np.clip(hu, -100, 1000), SMOOTHING_MM / STEP_MM)
    cut = round(margin / STEP_MM)
    inner = hu[cut:-cut, cut:-cut]
    if np.median(inner) <= CONTRAST_HU:
        return None
    row, column = np.unravel_index(np.argmax(inner), inner.shape)
    peak = inner[row, column]
    # The contrast medium lies in layers: the middle of all that is bright, not the brightest layer.
    place = feet[row + cut, column + cut]
    near = np.linalg.norm(feet - place, axis=2) <= HALF_SAC_MM
    weight = np.clip(hu - 0.6 * peak, 0, None) * near
    return (weight[..., None] * feet).sum(axis=(0, 1)) / weight.sum()
