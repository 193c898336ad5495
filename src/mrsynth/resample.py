"""Volumes on a task's grid: a chosen spacing and orientation, without aliasing.

World coordinates (LPS mm) of what is seen don't change: the new grid is centred on the old one.
"""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mrsynth.errors import StudyError

FWHM_PER_SIGMA = 2.3548200450309493
"""Full width at half maximum of a Gaussian of standard deviation 1: 2·√(2·ln 2)."""

INTERPOLATORS = {
    "linear": sitk.sitkLinear,
    "cubic": sitk.sitkBSpline3,
    "nearest": sitk.sitkNearestNeighbor,
}

SAME_SPACING = 1e-3
"""Relative difference of spacings below which a grid is kept as it is (scanners round at 1e-4)."""


def resample(
    image: sitk.Image,
    *,
    spacing_mm: float | Sequence[float] | None = None,
    orientation: str | None = None,
    interpolation: str = "linear",
) -> sitk.Image:
    """Bring a volume to a spacing and an orientation.

    Where the new voxels are larger than the old ones, the volume is blurred first with the
    Gaussian whose width makes an old voxel as wide as a new one (Cardoso et al., MICCAI 2015: σ² =
    (k² − 1) / (2·√(2·ln 2))² in old voxels, k the ratio of spacings).

    Args:
        image: Volume, LPS mm.
        spacing_mm: One number for all axes, or three (x, y, z) **of the reoriented volume**, mm.
            None keeps the acquired grid.
        orientation: Three letters as in DICOM (``LPS``, ``RAI``, …), to which axes are permuted
            and flipped without interpolation. None keeps the acquired order of axes.
        interpolation: ``linear``, ``cubic`` or ``nearest`` (labels; never blurred).

    Returns:
        The volume, 32-bit float, centred where the old one was.

    Raises:
        StudyError: A setting is out of its range.
    """
    if interpolation not in INTERPOLATORS:
        raise StudyError(
            f"resample.interpolation is {interpolation!r}; use one of {', '.join(INTERPOLATORS)}."
        )
    result = sitk.Cast(image, sitk.sitkFloat32)
    if orientation is not None:
        result = orient(result, orientation)
    if spacing_mm is None:
        return result
    spacing = _three(spacing_mm)
    old = np.array(result.GetSpacing())
    if np.all(np.abs(spacing / old - 1) < SAME_SPACING):
        return result
    if interpolation != "nearest":
        result = blur(result, antialias_sigma(old, spacing))
    size = np.maximum(1, np.rint(np.array(result.GetSize()) * old / spacing)).astype(int)
    middle = result.TransformContinuousIndexToPhysicalPoint(
        ((np.array(result.GetSize()) - 1) / 2).tolist()
    )
    direction = np.array(result.GetDirection()).reshape(3, 3)
    origin = np.array(middle) - direction @ (spacing * (size - 1) / 2)
    grid = sitk.ResampleImageFilter()
    grid.SetSize(size.tolist())
    grid.SetOutputSpacing(spacing.tolist())
    grid.SetOutputOrigin(origin.tolist())
    grid.SetOutputDirection(result.GetDirection())
    grid.SetInterpolator(INTERPOLATORS[interpolation])
    # The new grid may stick out by half a voxel; there the border's values go on.
    grid.SetUseNearestNeighborExtrapolator(True)
    return grid.Execute(result)


def orient(image: sitk.Image, letters: str) -> sitk.Image:
    """Permute and flip axes to a DICOM orientation such as ``LPS``; nothing is interpolated."""
    pairs = [set("LR"), set("AP"), set("SI")]
    known = len(letters) == 3 and sorted(
        next((n for n, pair in enumerate(pairs) if letter in pair), -1) for letter in letters
    ) == [0, 1, 2]
    if not known:
        raise StudyError(
            f"resample.orientation is {letters!r}; use three letters, one of L/R, of A/P and "
            "of S/I, such as LPS."
        )
    return sitk.DICOMOrient(image, letters)


def antialias_sigma(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Standard deviation, in old voxels (x, y, z), of the blur before going from old to new
    spacing."""
    ratio = np.asarray(new, float) / np.asarray(old, float)
    return np.sqrt(np.maximum(ratio**2 - 1, 0)) / FWHM_PER_SIGMA


def blur(image: sitk.Image, sigma: Sequence[float]) -> sitk.Image:
    """Gaussian blur with ``sigma`` in voxels (x, y, z); an axis with 0 is left alone."""
    if not np.any(np.asarray(sigma) > 0):
        return image
    array = ndimage.gaussian_filter(
        sitk.GetArrayViewFromImage(image), np.asarray(sigma, float)[::-1], mode="nearest"
    )
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(image)
    return result


def _three(spacing_mm: float | Sequence[float]) -> np.ndarray:
    """Spacing as three positive numbers (x, y, z)."""
    values = np.atleast_1d(np.asarray(spacing_mm, dtype=float))
    if values.shape not in ((1,), (3,)) or not np.all(np.isfinite(values) & (values > 0)):
        raise StudyError(
            f"resample.spacing_mm is {spacing_mm!r}; give one positive number or three (x, y, z), "
            "mm, or null to keep the acquired grid."
        )
    return np.broadcast_to(values, (3,)).copy()
