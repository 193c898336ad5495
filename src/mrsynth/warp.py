"""The moving image on the fixed image's slices, and the masks that belong to them.

A 4 mm MR slice shows the average of 4 mm of tissue. The CT that is laid on it is therefore
averaged over the same thickness, not read at the slice's centre plane. A transform maps fixed
points to moving points (LPS mm).
"""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from skimage import measure
from skimage.filters import threshold_otsu

from mrsynth.errors import Refusal, StudyError
from mrsynth.resample import antialias_sigma, blur
from mrsynth.volume import to_array

CT_BODY_HU = -300.0
"""Skin lies between air (−1000 HU) and fat (−100 HU); tables are mostly foam below this value."""

MR_BODY_SHARE = 0.4
"""MR body threshold as a share of Otsu's: Otsu parts bright from dark tissue, muscle on T2
included."""

CT_AIR_HU = -500.0
"""A volume that reaches below this holds HU: signal has no such negative values."""

CT_PAD_HU = -1024.0
"""Value outside a CT's field: air, as scanners store it."""

FIELD_TOLERANCE = 0.5
"""Half a voxel around the outermost voxel centres still belongs to the field (voxels have a
width)."""


MASK_TOLERANCE = 1e-3
"""Rounding of an interpolated mask of ones."""


def warp(
    moving: sitk.Image,
    fixed: sitk.Image,
    transform: sitk.Transform,
    *,
    thickness_mm: float | None = None,
    samples: int = 5,
    pad: float | None = None,
    field: sitk.Image | None = None,
) -> sitk.Image:
    """Reformat the moving image on each slice of the fixed one, averaged over the slice's
    thickness.

    Args:
        moving: Volume to be reformatted.
        fixed: Gives the grid; its third axis is the slices' normal.
        transform: Fixed points to moving points, LPS mm.
        thickness_mm: Slice thickness of the fixed image; None takes its slice spacing.
        samples: How many planes across the thickness are averaged (1: a point sample).
        pad: Value outside the moving image's field; None takes −1024 HU for CT and 0 for MR.
        field: The moving image's voxels that were measured (1) and not (0); None if all were.

    Returns:
        Volume on the fixed grid, 32-bit float. Planes that leave the field don't enter a voxel's
        average, so that the padding never bleeds into it.
    """
    if samples < 1 or (thickness_mm is not None and not thickness_mm > 0):
        raise StudyError(
            f"warp: samples is {samples}, thickness_mm {thickness_mm}; both must be positive."
        )
    if pad is None:
        pad = CT_PAD_HU if is_ct(moving) else 0.0
    source = _antialiased(moving, fixed, transform)
    offsets = _offsets(fixed, thickness_mm, samples)
    total = np.zeros(fixed.GetSize()[::-1], np.float32)
    count = np.zeros_like(total)
    outside = float(np.finfo(np.float32).min)
    for offset in offsets:
        plane = to_array(_on_grid(source, fixed, transform, offset, sitk.sitkLinear, outside))
        # Linear interpolation never mixes in the default value, so comparison is exact.
        inside = plane != np.float32(outside)
        if field is not None:
            inside &= _measured(field, fixed, transform, offset)
        total[inside] += plane[inside]
        count += inside
    total = np.where(count > 0, total / np.maximum(count, 1), np.float32(pad))
    return _like(total.astype(np.float32), fixed)


def valid(
    moving: sitk.Image,
    fixed: sitk.Image,
    transform: sitk.Transform,
    field: sitk.Image | None = None,
) -> sitk.Image:
    """1 where the fixed voxel's centre lies in the moving image's field, else 0 (uint8).

    Args:
        moving: The moving image.
        fixed: Gives the grid.
        transform: Fixed points to moving points, LPS mm.
        field: The moving image's voxels that were measured (1) and not (0: padding); None if all
            were.
    """
    inside = _inside(moving, fixed, transform)
    if field is None:
        return inside
    measured = _measured(field, fixed, transform)
    return _like(to_array(inside) * measured, fixed)


def _measured(
    field: sitk.Image, fixed: sitk.Image, transform: sitk.Transform, offset: float = 0.0
) -> np.ndarray:
    """Where a linear interpolation, ``offset`` mm from the fixed voxel's centre, mixes only voxels
    that were measured."""
    share = sitk.Cast(field, sitk.sitkFloat32)
    share = _on_grid(share, fixed, transform, offset, sitk.sitkLinear, 0.0)
    return to_array(share) > 1 - MASK_TOLERANCE


def _inside(moving: sitk.Image, fixed: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """1 where the fixed voxel's centre lies in the moving image's grid."""
    size = np.array(moving.GetSize())
    corner = np.array([moving.TransformIndexToPhysicalPoint([0, 0, 0])])
    steps = np.array(moving.GetDirection()).reshape(3, 3) * np.array(moving.GetSpacing())
    index = np.stack(np.meshgrid(*[np.arange(n) for n in fixed.GetSize()], indexing="ij"), -1)
    to_world = np.array(fixed.GetDirection()).reshape(3, 3) * np.array(fixed.GetSpacing())
    matrix = linear_matrix(transform)
    if matrix is None:
        ones = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
        ones.CopyInformation(moving)
        return _on_grid(ones, fixed, transform, 0.0, sitk.sitkNearestNeighbor, 0)
    inverse = np.linalg.inv(steps)
    linear = inverse @ matrix[:3, :3] @ to_world
    shift = inverse @ (matrix[:3, :3] @ np.array(fixed.GetOrigin()) + matrix[:3, 3] - corner[0])
    inside = np.ones(fixed.GetSize(), bool)
    for axis in range(3):
        place = index @ linear[axis] + shift[axis]
        inside &= (place >= -FIELD_TOLERANCE) & (place <= size[axis] - 1 + FIELD_TOLERANCE)
    return _like(inside.transpose(2, 1, 0).astype(np.uint8), fixed)


def on_fixed_grid(
    fixed: list[sitk.Image],
    moving: list[sitk.Image],
    matrices: list[np.ndarray],
    acquired_mm: list[float | None],
    *,
    thickness_mm: float | None = None,
    samples: int = 5,
    pad: float | None = None,
    body_threshold: float | None = None,
    fixed_fields: list[sitk.Image | None] | None = None,
    moving_fields: list[sitk.Image | None] | None = None,
) -> tuple[dict[str, list[sitk.Image]], dict]:
    """Everything of one subject on the fixed stacks' grids.

    Args:
        fixed: Fixed stacks.
        moving: One volume for all stacks, or one per stack (of the same frame).
        matrices: 4×4 per stack, fixed→moving, LPS mm.
        acquired_mm: Slice thickness from the header per stack, None where it is unknown.
        thickness_mm: Thickness for all stacks; None takes the acquired one, but no less than the
            grid's slice spacing where the volume was resampled to thicker slices.
        samples: See :func:`warp`.
        pad: See :func:`warp`.
        body_threshold: See :func:`body`; CT on the grid where there is one, else the fixed image.
            Which of its rules holds is decided once for all stacks, by the whole volume: a slice
            may show no air.
        fixed_fields: Per fixed stack the mask of voxels that were measured, on the grid as it was
            acquired; None for a stack, or for all, where every voxel was.
        moving_fields: The same of the moving volumes.

    Returns:
        Lists of stacks by name (``fixed``, ``moving``, ``valid``, ``body``), and entries for the
        record.
    """
    if len(moving) not in (1, len(fixed)):
        raise Refusal(
            "MOVING_STACKS",
            f"the moving image has {len(moving)} stacks and the fixed one {len(fixed)}.",
            "Choose a series of one stack, or swap the task's fixed side.",
        )
    made: dict[str, list[sitk.Image]] = {name: [] for name in ("fixed", "moving", "valid", "body")}
    moving_ct = any(is_ct(volume) for volume in moving)
    if body_threshold is None and (moving_ct or any(is_ct(image) for image in fixed)):
        body_threshold = CT_BODY_HU
    fixed_fields = fixed_fields or [None] * len(fixed)
    moving_fields = moving_fields or [None] * len(moving)
    thicknesses, shares = [], []
    for number, (image, matrix, header) in enumerate(
        zip(fixed, matrices, acquired_mm, strict=True)
    ):
        own = number if len(moving) > 1 else 0
        volume = moving[own]
        thickness = thickness_mm or _thickness(image, header)
        transform = transform_of(matrix)
        made["fixed"].append(image)
        made["moving"].append(
            warp(
                volume,
                image,
                transform,
                thickness_mm=thickness,
                samples=samples,
                pad=pad,
                field=moving_fields[own],
            )
        )
        made["valid"].append(valid(volume, image, transform, moving_fields[own]))
        if fixed_fields[number] is not None:
            seen = _measured(fixed_fields[number], image, sitk.Transform())
            made["valid"][-1] = _like(to_array(made["valid"][-1]) * seen, image)
        seen = made["moving"][-1] if moving_ct else image
        made["body"].append(body(seen, threshold=body_threshold))
        thicknesses.append(thickness)
        shares.append(float(to_array(made["valid"][-1]).mean()))
    return made, {"thickness_mm": thicknesses, "valid_share": shares}


def alone(
    stacks: list[sitk.Image],
    fields: list[sitk.Image | None] | None = None,
    *,
    body_threshold: float | None = None,
) -> tuple[dict[str, list[sitk.Image]], dict]:
    """The only image of a subject in the form of a pair, whose other side is black.

    Args:
        stacks: Stacks of the image.
        fields: Per stack the mask of voxels that were measured; None where every voxel was.
        body_threshold: See :func:`on_fixed_grid`.

    Returns:
        As :func:`on_fixed_grid`, with the image as ``fixed`` and zeros as ``moving``.
    """
    if body_threshold is None and any(is_ct(image) for image in stacks):
        body_threshold = CT_BODY_HU
    fields = fields or [None] * len(stacks)
    made: dict[str, list[sitk.Image]] = {"fixed": stacks, "moving": [], "valid": [], "body": []}
    for image, field in zip(stacks, fields, strict=True):
        shape = to_array(image).shape
        seen = np.ones(shape, bool) if field is None else _measured(field, image, sitk.Transform())
        made["moving"].append(_like(np.zeros(shape, np.float32), image))
        made["valid"].append(_like(seen.astype(np.uint8), image))
        made["body"].append(body(image, threshold=body_threshold))
    shares = [float(to_array(mask).mean()) for mask in made["valid"]]
    return made, {
        "thickness_mm": [image.GetSpacing()[2] for image in stacks],
        "valid_share": shares,
    }


def _thickness(image: sitk.Image, acquired_mm: float | None) -> float:
    """Thickness of a slice as it now is: resampling to wider spacing has blurred it to that
    spacing."""
    spacing = image.GetSpacing()[2]
    if not acquired_mm:
        return spacing
    # A gap of up to a slice's thickness is acquired; beyond, the grid was resampled.
    return acquired_mm if spacing < 2 * acquired_mm else spacing


def linear_matrix(transform: sitk.Transform) -> np.ndarray | None:
    """The 4×4 matrix of a linear transform, found by its action on points; None for another
    kind."""
    if not transform.IsLinear():
        return None
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis, point in enumerate(np.eye(3)):
        matrix[:3, axis] = np.array(transform.TransformPoint(point.tolist())) - matrix[:3, 3]
    return matrix


def transform_of(matrix: np.ndarray) -> sitk.AffineTransform:
    """A SimpleITK transform from a 4×4 matrix (fixed→moving, LPS mm)."""
    matrix = np.asarray(matrix, float)
    result = sitk.AffineTransform(3)
    result.SetMatrix(matrix[:3, :3].ravel().tolist())
    result.SetTranslation(matrix[:3, 3].tolist())
    return result


def is_ct(image: sitk.Image) -> bool:
    """Whether the values look like Hounsfield units (they reach far below zero)."""
    return bool(sitk.GetArrayViewFromImage(image).min() < CT_AIR_HU)


def body(image: sitk.Image, *, threshold: float | None = None) -> sitk.Image:
    """Mask of the patient: the largest component above a threshold, holes filled slice by slice.

    Args:
        image: CT in HU or MR signal.
        threshold: Value above which a voxel may be body; None takes −300 HU for CT and a share of
            Otsu's threshold for MR.

    Returns:
        uint8 mask on the same grid. All zero if nothing exceeds the threshold.
    """
    array = to_array(image)
    if threshold is None:
        threshold = CT_BODY_HU if is_ct(image) else mr_threshold(array)
    return _like(body_array(array > threshold).astype(np.uint8), image)


def body_array(above: np.ndarray) -> np.ndarray:
    """Largest component of a (z, y, x) mask, after parting thin bridges, holes filled per slice."""
    cross = ndimage.generate_binary_structure(3, 1)
    cross[0] = cross[2] = False
    # In-plane opening parts the table from the back; slices of thick stacks must stay connected.
    opened = ndimage.binary_opening(above, cross, iterations=1)
    labels = measure.label(opened if opened.any() else above, connectivity=1)
    if labels.max() == 0:
        return np.zeros_like(above)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = ndimage.binary_dilation(labels == sizes.argmax(), cross) & above
    return np.stack([ndimage.binary_fill_holes(plane) for plane in largest])


def mr_threshold(array: np.ndarray) -> float:
    """Signal above which a voxel may be body."""
    finite = array[np.isfinite(array)]
    if finite.size == 0 or finite.min() == finite.max():
        return float("inf")
    # Vessels and coils' hot spots would pull the threshold up.
    return MR_BODY_SHARE * float(threshold_otsu(np.minimum(finite, np.percentile(finite, 99.0))))


def _offsets(fixed: sitk.Image, thickness_mm: float | None, samples: int) -> np.ndarray:
    """Positions of the averaged planes along the slice normal, mm: midpoints of equal
    sub-slices."""
    thickness = fixed.GetSpacing()[2] if thickness_mm is None else thickness_mm
    return thickness * ((np.arange(samples) + 0.5) / samples - 0.5)


def _antialiased(moving: sitk.Image, fixed: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """The moving image, blurred for the fixed in-plane pixel where that is coarser.

    A moving axis is blurred for as much as it lies in the fixed plane; along the fixed normal the
    average over the thickness does the blurring.
    """
    matrix = linear_matrix(transform)
    if matrix is None:
        matrix = np.eye(4)
    in_plane = matrix[:3, :3] @ np.array(fixed.GetDirection()).reshape(3, 3)[:, :2]
    share = (np.array(moving.GetDirection()).reshape(3, 3).T @ in_plane) ** 2
    spacing = np.array(moving.GetSpacing())
    pixel = np.array(fixed.GetSpacing()[:2])
    variance = np.stack([antialias_sigma(spacing, np.full(3, size)) ** 2 for size in pixel], axis=1)
    return blur(moving, np.sqrt((share * variance).sum(axis=1)))


def _on_grid(image, fixed, transform, offset, interpolator, default) -> sitk.Image:
    """Resample on the fixed grid, moved by ``offset`` mm along its slice normal."""
    normal = np.array(fixed.GetDirection()).reshape(3, 3)[:, 2]
    grid = sitk.ResampleImageFilter()
    grid.SetReferenceImage(fixed)
    grid.SetOutputOrigin((np.array(fixed.GetOrigin()) + offset * normal).tolist())
    grid.SetTransform(transform)
    grid.SetInterpolator(interpolator)
    grid.SetDefaultPixelValue(default)
    return grid.Execute(image)


def _like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(image)
    return result
