"""CT after myelography: the thecal sac is as bright as bone, and must not be taken for it.

The bright sac hides the canal from a search for soft tissue within bone, but not the discs from a
search for dark layers; so the discs tell where to look.
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from mrsynth.geometry import frame
from mrsynth.locate.canal import longest_run
from mrsynth.locate.column import evenly
from mrsynth.locate.grid import Grid
from mrsynth.locate.refine import Measured

# Contrast medium in the sac is 200 to over 1000 HU; with the roots in it averaged in, this much
# at least. Roots are 1-2 mm thick and don't count after a smoothing of this width (sigma, mm).
CONTRAST_HU, SMOOTHING_MM = 150.0, 2.0
# Where the sac is looked for behind a disc's centre, mm, and to both sides: half a small disc to
# half a large one with the sac. A sac is bright there for longer than the rim of an endplate or a
# lamina; facets are farther to the sides.
BEHIND_MM, SIDE_MM, DEPTH_MM = (10.0, 32.0), 3.0, 8.0
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
    u = -np.arange(BEHIND_MM[0] - HALF_SAC_MM, BEHIND_MM[1] + HALF_SAC_MM + 0.1, STEP_MM)
    w = np.arange(-HALF_SAC_MM - SIDE_MM, HALF_SAC_MM + SIDE_MM + 0.1, STEP_MM)
    feet = disc.centre + u[:, None, None] * axes[0] + w[:, None] * axes[1]
    slab = np.arange(-SLAB_MM, SLAB_MM + 0.1, 1.0)
    hu = np.mean([grid.sample(feet + d * axes[2]) for d in slab], axis=0)
    hu = ndimage.gaussian_filter(np.clip(hu, -100, 1000), SMOOTHING_MM / STEP_MM)
    middle = hu[:, np.abs(w) <= SIDE_MM].mean(axis=1) > CONTRAST_HU
    middle &= (-u >= BEHIND_MM[0]) & (-u <= BEHIND_MM[1])
    first, last = longest_run(middle, gap=0)
    if (last - first + 1) * STEP_MM < DEPTH_MM:
        return None
    # The contrast medium lies in layers: the middle of all that is bright, not the brightest layer.
    start = disc.centre + (u[first] + u[last]) / 2 * axes[0]
    near = np.linalg.norm(feet - start, axis=2) <= HALF_SAC_MM
    weight = np.clip(hu - CONTRAST_HU, 0, None) * near
    return (weight[..., None] * feet).sum(axis=(0, 1)) / weight.sum()
