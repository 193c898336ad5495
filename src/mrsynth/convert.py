"""`convert`: one stack of DICOM slices to one volume in true values and world coordinates."""

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy import ndimage

from mrsynth import contrast, dicom, pixels, stacks, volume
from mrsynth.errors import Refusal

AIR_HU = -1024.0
"""Value outside the CT's field of view: air, and the lowest value that 12-bit CT can store."""

PLAUSIBLE_HU = (-500.0, 100.0)
"""A CT has air below the first and bone or a table above the second; otherwise it may not be HU."""


def convert(
    files,
    *,
    tilt: str = "resample",
    uneven: str = "refuse",
    tolerance_mm: float = 0.01,
    lossy: str = "refuse",
) -> tuple[sitk.Image, dict]:
    """Convert one stack.

    Stored values become float32 by each slice's own rescale. For CT that is HU whatever the
    photometric
    interpretation, which only says how to display; MR stored as MONOCHROME1 is inverted once, so
    that
    more signal is always the larger value. Padding and CT values below −1024 become −1024 HU,
    padding in MR 0.

    Args:
        files: Rows of one stack in order: ``path`` and ``frame`` (from 1, or empty), a data frame.
        tilt: ``resample`` shifts the slices of a tilted gantry within their planes onto an upright
            grid (linear interpolation), ``refuse`` refuses them.
        uneven: ``resample`` interpolates linearly along the normal to the median step, ``refuse``
        refuses.
        tolerance_mm: Largest distance of any slice's corner from its place by the volume's affine.
        lossy: ``refuse`` or ``keep`` images that were compressed with loss.

    Returns:
        The volume (LPS mm; HU or signal, float32) and the record's entries, none of which names a
        patient.

    Raises:
        Refusal: If the slices don't form the volume that they should.
    """
    slices = _read_slices(files)
    if not slices:
        raise Refusal("TOO_FEW_SLICES", "the stack has no files", "run `snakemake cohort` again")
    first = slices[0][0]
    _check_alike([values for values, _, _ in slices])
    warnings = []
    if any(header["LossyImageCompression"] == "01" for header, _, _ in slices):
        if lossy == "refuse":
            raise Refusal(
                "LOSSY",
                "the pixels were compressed with loss",
                "set 'convert.lossy: keep' to use them",
            )
        warnings.append("LOSSY")
    values = np.stack([values for _, values, _ in slices])
    padding = np.stack([padding for _, _, padding in slices])
    place = _positions(slices, uneven, tolerance_mm)
    if isinstance(place, tuple):
        place, values, padding = _evened(place, values, padding, slices, tolerance_mm)
        warnings.append("UNEVEN")
    fill = AIR_HU if first["Modality"] == "CT" else 0.0
    values[padding] = fill
    if first["Modality"] == "CT":
        np.maximum(values, AIR_HU, out=values)
        warnings += _implausible(values)
    matrix = place.matrix
    if place.tilt_deg > 0:
        if tilt == "refuse":
            raise Refusal(
                "TILT",
                f"the slices are tilted by {place.tilt_deg:.2f} degrees against their line",
                "set 'convert.tilt: resample'",
            )
        values, matrix = upright(values, matrix, fill)
        warnings.append("TILT")
    image = volume.from_array(values.astype(np.float32), matrix)
    return image, _record(first, image, place, len(slices), values, padding, warnings)


def upright(pixels: np.ndarray, matrix: np.ndarray, fill: float) -> tuple[np.ndarray, np.ndarray]:
    """Shift each slice of a sheared stack within its plane onto an upright grid that holds all.

    The planes stay where they are, so that nothing is interpolated across slices.

    Args:
        pixels: (z, y, x).
        matrix: 4×4 from indices (x, y, z) to LPS mm, third column oblique to the others.
        fill: Value where no slice reaches.

    Returns:
        The new pixels and their orthogonal matrix.
    """
    spacing = np.linalg.norm(matrix[:3, :2], axis=0)
    axes = matrix[:3, :2] / spacing
    drift = axes.T @ matrix[:3, 2] / spacing
    depth = len(pixels)
    least = np.floor(np.minimum(0, drift * (depth - 1))).astype(int)
    extra = np.ceil(np.abs(drift) * (depth - 1)).astype(int)
    size = (depth, pixels.shape[1] + extra[1], pixels.shape[2] + extra[0])
    result = np.full(size, fill, dtype=np.float32)
    for index, plane in enumerate(pixels):
        shift = drift * index - least
        ndimage.shift(
            np.pad(plane, ((0, extra[1]), (0, extra[0])), constant_values=fill),
            shift[::-1],
            output=result[index],
            order=1,
            cval=fill,
        )
    moved = matrix.copy()
    moved[:3, 3] += matrix[:3, :2] @ least
    moved[:3, 2] -= axes @ (axes.T @ matrix[:3, 2])
    return result, moved


def read_files(path, stack: int) -> pd.DataFrame:
    """Rows of one stack of a series' private table, in order.

    Raises:
        Refusal: ``CHANGED`` if the series has no such stack any more.
    """
    table = pd.read_csv(
        path, sep="\t", dtype=str, keep_default_na=False, encoding_errors="surrogateescape"
    )
    table = table[table["stack"] == str(stack)]
    if table.empty:
        raise Refusal(
            "CHANGED", f"the series has no stack {stack} any more", "run `snakemake cohort` again"
        )
    return table


def _read_slices(files: pd.DataFrame) -> list[tuple[dict, np.ndarray, np.ndarray]]:
    """Header values, true values and padding mask ([rows, columns]) of every slice."""
    slices, path, header, dataset = [], None, None, None
    for row in files.itertuples():
        if row.path != path:
            path = row.path
            header = dicom.read_header(path, accept_bare=True)
            if header.state != "read":
                raise Refusal(
                    header.code,
                    header.message,
                    "send the series again, then run `snakemake cohort`",
                )
            dataset = pixels.read_dataset(path)
        slices.append(_read_slice(header, dataset, str(row.frame)))
    return slices


def _read_slice(header: dicom.Header, dataset, frame: str):
    number = int(frame) - 1 if frame else 0
    if number >= len(header.slices) or bool(frame) != (header.slices[0]["frame"] != ""):
        raise Refusal("CHANGED", "a frame of the series is gone", "run `snakemake cohort` again")
    values = header.slices[number]
    stored = pixels.stored_values(dataset, number if frame else None)
    padding = pixels.padding(stored, dataset)
    if values["Modality"] == "MR" and values["PhotometricInterpretation"] == "MONOCHROME1":
        stored = pixels.inverted(stored, dataset)
    return values, pixels.rescaled(stored, values), padding


def _check_alike(slices: list[dict]) -> None:
    """Refuse a stack whose files have changed since `index` looked at them."""
    for name in ("SeriesInstanceUID", "PatientID", "Modality", "Rows", "Columns", "PixelSpacing"):
        if len({values[name] for values in slices}) > 1:
            raise Refusal(
                "INCONSISTENT_SIZE" if name in ("Rows", "Columns", "PixelSpacing") else "CHANGED",
                f"the slices of one stack differ in {name}",
                "run `snakemake cohort` again",
            )


def _arrays(slices) -> tuple[np.ndarray, np.ndarray]:
    positions = np.array([values["ImagePositionPatient"] for values, _, _ in slices])
    orientations = np.array([values["ImageOrientationPatient"] for values, _, _ in slices])
    return positions, orientations


def _positions(slices, uneven: str, tolerance_mm: float):
    """The stack's geometry; a tuple of it and the even positions where it must be evened first."""
    first = slices[0][0]
    positions, orientations = _arrays(slices)
    size = (int(first["Rows"]), int(first["Columns"]))
    options = {"thickness_mm": first["SliceThickness"] or 1.0, "tolerance_mm": tolerance_mm}
    try:
        return stacks.geometry(positions, orientations, first["PixelSpacing"], size, **options)
    except Refusal as refusal:
        if refusal.code != "VARIABLE_SPACING" or uneven == "refuse":
            raise
    direction = stacks.normal(orientations.mean(axis=0))
    along = positions @ direction
    step = float(np.median(np.diff(along)))
    target = np.arange(along[0], along[-1] + 1e-6, step)
    even = positions[0] + np.outer(target - along[0], direction)
    geometry = stacks.geometry(
        even, np.repeat(orientations[:1], len(even), axis=0), first["PixelSpacing"], size, **options
    )
    return geometry, along, target


def _evened(place: tuple, pixels, padding, slices, tolerance_mm: float):
    """Pixels and padding interpolated linearly along z to an even step."""
    geometry, along, target = place
    positions, orientations = _arrays(slices)
    direction = stacks.normal(orientations.mean(axis=0))
    drift = positions - positions[0] - np.outer(along - along[0], direction)
    if np.abs(drift).max() > tolerance_mm:
        raise Refusal("VARIABLE_SPACING", "uneven steps in a tilted stack", "leave the series out")
    upper = np.clip(np.searchsorted(along, target), 1, len(along) - 1)
    share = ((target - along[upper - 1]) / (along[upper] - along[upper - 1]))[:, None, None]
    mixed = pixels[upper - 1] * (1 - share) + pixels[upper] * share
    return geometry, mixed, padding[upper - 1] | padding[upper]


def _implausible(pixels: np.ndarray) -> list[str]:
    return [] if pixels.min() < PLAUSIBLE_HU[0] and pixels.max() > PLAUSIBLE_HU[1] else ["HU_RANGE"]


def _record(first, image, place, count, pixels, padding, warnings) -> dict:
    """The sidecar: numbers and known names only, nothing that a person typed."""
    return {
        "modality": first["Modality"],
        "weighting": contrast.weighting(first),
        "manufacturer": contrast.vendor(first["Manufacturer"]),
        "plane": stacks.plane(np.array(first["ImageOrientationPatient"])),
        "spacing_mm": list(image.GetSpacing()),
        "size": list(image.GetSize()),
        "thickness_mm": first["SliceThickness"] or image.GetSpacing()[2],
        "field_t": first["MagneticFieldStrength"],
        "tr_ms": first["RepetitionTime"],
        "te_ms": first["EchoTime"],
        "ti_ms": first["InversionTime"],
        "flip_deg": first["FlipAngle"],
        "kvp": first["KVP"],
        "slices": count,
        "tilt_deg": place.tilt_deg,
        "deviation_mm": place.deviation_mm,
        "padding_voxels": int(padding.sum()),
        "minimum": float(pixels.min()),
        "maximum": float(pixels.max()),
        "unit": "HU" if first["Modality"] == "CT" else "signal",
        "warnings": warnings,
    }
