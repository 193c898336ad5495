"""CT on planes that no MR has shown: the discs' own, for prediction without an MR."""

import numpy as np
import SimpleITK as sitk

from mrsynth.errors import StudyError
from mrsynth.geometry import frame
from mrsynth.locate.landmarks import Disc, Landmarks
from mrsynth.warp import valid, warp

BACKWARDS = (0.0, 1.0, 0.0)
"""Where the back is for a patient on his back (LPS), if the sac doesn't tell."""


def on_discs(
    ct: sitk.Image,
    landmarks: Landmarks,
    *,
    pixel_mm: float = 0.5,
    size: tuple[int, int] = (256, 256),
    thickness_mm: float = 4.0,
    samples: int = 5,
    pad: float | None = None,
    field: sitk.Image | None = None,
) -> list[sitk.Image]:
    """Reformat a CT on each disc's own plane.

    Args:
        ct: Native CT in HU.
        landmarks: Discs in the CT's frame.
        pixel_mm: Side of the square pixel, mm.
        size: Rows and columns.
        thickness_mm: Slice thickness to average over, mm: that of the MR that a model was trained
            on.
        samples: See :func:`mrsynth.warp.warp`.
        pad: See :func:`mrsynth.warp.warp`.
        field: See :func:`mrsynth.warp.warp`.

    Returns:
        One volume of one slice per disc, cranial to caudal, LPS mm of the CT's frame. The slice's
        centre is the disc's and its normal the disc's (pointing up); columns run to the patient's
        left, rows to the back, where the sac lies from the disc, or else along y.

    Raises:
        StudyError: A size is not positive.
    """
    if min(*size, pixel_mm, thickness_mm) <= 0:
        raise StudyError(
            f"on_discs: size {list(size)}, pixel_mm {pixel_mm}, thickness_mm {thickness_mm}; all "
            "must be positive."
        )
    settings = {"thickness_mm": thickness_mm, "samples": samples, "pad": pad, "field": field}
    grids = [disc_grid(disc, pixel_mm, size, thickness_mm) for disc in landmarks.discs]
    return [warp(ct, grid, sitk.Transform(), **settings) for grid in grids]


def disc_stacks(
    ct: sitk.Image, landmarks: Landmarks, field: sitk.Image | None = None, **planes
) -> tuple[list[sitk.Image], list[sitk.Image]]:
    """The CT on each disc's plane, and where it was measured there.

    Args:
        ct: Native CT in HU.
        landmarks: Discs in the CT's frame.
        field: The CT's voxels that were measured (1) and not (0); None if all were.
        **planes: See :func:`on_discs`.

    Returns:
        One volume of one slice per disc, and as many masks of 0 and 1.
    """
    stacks = on_discs(ct, landmarks, field=field, **planes)
    return stacks, [valid(ct, stack, sitk.Transform(), field) for stack in stacks]


def disc_grid(
    disc: Disc, pixel_mm: float, size: tuple[int, int], thickness_mm: float
) -> sitk.Image:
    """An empty slice on a disc's plane; arguments as for :func:`on_discs`."""
    back = BACKWARDS if disc.sac_mm is None else disc.sac_mm - disc.centre_mm
    down, right, normal = frame(disc.normal, np.array(back))
    rows, columns = size
    grid = sitk.Image(columns, rows, 1, sitk.sitkFloat32)
    grid.SetSpacing([pixel_mm, pixel_mm, thickness_mm])
    grid.SetDirection(np.stack([-right, down, normal], axis=1).ravel().tolist())
    corner = disc.centre_mm + pixel_mm * ((columns - 1) / 2 * right - (rows - 1) / 2 * down)
    grid.SetOrigin(corner.tolist())
    return grid
