"""The centre of the thecal sac in a disc's plane."""

import numpy as np
from scipy import ndimage
from skimage.draw import polygon2mask

from mrsynth.geometry import cross_polyline, frame, project_to_plane, unit
from mrsynth.locate.grid import Grid

# Sac, roots and flavum; below is epidural fat, above is bone. Averages over the slab are compared
# with it.
SOFT_HU = (-25.0, 130.0)
# Pixel of the cut, and half the thickness of the slab that is averaged: noise goes down, the
# facets stay.
PIXEL_MM, SLAB_MM = 0.75, 2.0
# How far from the canal's centre line the sac's centre may lie.
REACH_MM = 7.0
# A circle this large fills any lumbar sac; a larger one has grown into the foramina.
RADIUS_MM = 8.0
# From a disc's centre to the sac's: half a disc and half a canal, small to large people.
DISTANCE_MM = (14.0, 36.0)
# Half of a lumbar canal's depth.
HALF_CANAL_MM = 8.5


def canal_in_plane(
    canal: np.ndarray, centre: np.ndarray, normal: np.ndarray, ahead: np.ndarray, edge: np.ndarray
) -> np.ndarray:
    """Where the canal crosses a disc's plane (3,), or where it must be behind the disc's edge.

    Args:
        canal: The canal's centre line (n, 3), lengthened at its ends; may be empty.
        centre: The disc's centre.
        normal: The disc's normal.
        ahead: Direction from the canal to the body.
        edge: The disc's outline (m, 3).
    """
    crossing = cross_polyline(canal, centre, normal) if len(canal) > 1 else None
    axes = frame(normal, ahead)
    if crossing is not None:
        distance = np.linalg.norm(crossing - centre)
        if DISTANCE_MM[0] <= distance <= DISTANCE_MM[1]:
            return project_to_plane(crossing, centre, normal)
    behind = edge - centre
    depth = -np.min(behind[np.abs(behind @ axes[1]) < 8.0] @ axes[0])
    return centre - axes[0] * (depth + HALF_CANAL_MM)


def sac_centre(
    grid: Grid, canal: np.ndarray, centre: np.ndarray, normal: np.ndarray, edge: np.ndarray
):
    """Centre of the largest circle of soft tissue behind the disc, near the canal's centre line.

    Between the vertebral arches the canal's bony outline is open, and the disc in front is soft as
    well: here its measured outline is the wall.

    Args:
        grid: CT on upright axes.
        canal: Where the canal's centre line crosses the disc's plane (3,), LPS mm.
        centre: The disc's centre.
        normal: The disc's normal.
        edge: The disc's outline (n, 3) in its plane.

    Returns:
        Point (3,) in the disc's plane; ``canal`` where there is no soft tissue around it.
    """
    axes = frame(normal, unit(centre - canal))
    half = REACH_MM + RADIUS_MM + 6.0
    at = np.arange(-half, half + PIXEL_MM / 2, PIXEL_MM)
    feet = canal + at[:, None, None] * axes[0] + at[:, None] * axes[1]
    slab = np.arange(-SLAB_MM, SLAB_MM + 0.1, 1.0)
    hu = np.mean([grid.sample(feet + depth * axes[2]) for depth in slab], axis=0)
    outline = np.column_stack([(edge - canal) @ axes[0], (edge - canal) @ axes[1]])
    disc = polygon2mask(hu.shape, (outline + half) / PIXEL_MM)
    soft = (hu > SOFT_HU[0]) & (hu < SOFT_HU[1]) & ~disc
    depth = np.minimum(ndimage.distance_transform_edt(soft) * PIXEL_MM, RADIUS_MM)
    # Smoothing puts the place in the middle of a flat top; the price keeps it by the canal's line.
    depth = ndimage.gaussian_filter(depth, 1.0 / PIXEL_MM)
    away = np.hypot(at[:, None], at)
    value = np.where(away <= REACH_MM, depth - 0.15 * away, -np.inf)
    row, column = np.unravel_index(np.argmax(value), value.shape)
    if depth[row, column] < 2.0:
        return canal
    return canal + at[row] * axes[0] + at[column] * axes[1]
