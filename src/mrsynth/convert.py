"""`convert`: one stack of DICOM slices, or one volume file, to a volume in true values and world
coordinates."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from mrsynth import archives, contrast, dicom, digests, imagefiles, metal, pixels, stacks, volume
from mrsynth.errors import Refusal

AIR_HU = -1024
"""Value outside the CT's field of view: air, and the lowest value that 12-bit CT can store."""

PLAUSIBLE_HU = (-500.0, 100.0)
"""A CT has air below the first and bone or a table above the second; otherwise it may not be HU."""

MOST_VOXELS = 2**31
"""Voxels of one volume: 2000 slices of 1024², which take 8 GiB as 32-bit numbers."""


@dataclass
class Converted:
    """What `convert` makes.

    Attributes:
        image: The volume, LPS mm; HU or signal; int16 where that is exact, else float32.
        field: 1 where a voxel was measured, 0 in padding and in the corners that putting a tilted
            stack upright adds (uint8, the same grid); None where all voxels were measured.
        record: Entries of the record, none of which names a patient.
    """

    image: sitk.Image
    field: sitk.Image | None
    record: dict


def convert(files, **cfg) -> tuple[sitk.Image, dict]:
    """The volume and the record's entries of one stack; see :func:`convert_stack`."""
    made = convert_stack(files, **cfg)
    return made.image, made.record


def convert_stack(
    files,
    *,
    tilt: str = "resample",
    uneven: str = "refuse",
    tolerance_mm: float = 0.01,
    lossy: str = "refuse",
) -> Converted:
    """Convert one stack.

    Stored values become true ones by each slice's own rescale. For CT that is HU whatever the
    photometric interpretation, which only says how to display; MR stored as MONOCHROME1 is
    inverted once, so that more signal is always the larger value. Padding and CT values below
    −1024 become −1024 HU, padding in MR 0. Padding is what the header names, and in a CT also the
    value of a corner of the slice that lies below −1024: scanners fill what lies outside their
    round field so, and don't always say it.

    Args:
        files: Rows of one stack in order, a data frame or a list of mappings: ``path`` and
            ``frame`` (from 1, or empty); of a volume file also ``modality``, ``weighting`` and
            ``plane``. ``digest``, where it is of whole files, is compared.
        tilt: ``resample`` shifts the slices of a tilted gantry within their planes onto an upright
            grid (linear interpolation), ``refuse`` refuses them.
        uneven: ``resample`` interpolates linearly along the normal to the median step, ``refuse``
            refuses.
        tolerance_mm: Largest distance of any slice's corner from its place by the volume's affine.
        lossy: ``refuse`` or ``keep`` images that were compressed with loss.

    Raises:
        Refusal: If the slices don't form the volume that they should.
        StudyError: If a file can't be opened: the disk may be back tomorrow, while a refusal would
            stay as the stack's result.
    """
    rows = files.to_dict("records") if hasattr(files, "to_dict") else list(files)
    if not rows:
        raise Refusal("TOO_FEW_SLICES", "the stack has no files", "run `snakemake cohort` again")
    try:
        return _convert(rows, tilt, uneven, tolerance_mm, lossy)
    except Refusal as refusal:
        if refusal.code == "UNREADABLE":
            raise digests.unreachable() from None
        raise


def _convert(
    rows: list[dict], tilt: str, uneven: str, tolerance_mm: float, lossy: str
) -> Converted:
    """See :func:`convert_stack`."""
    if imagefiles.is_volume(rows[0]["path"]):
        return _convert_file(rows[0])
    slices = _read_slices(rows)
    first = slices[0].header
    _check_alike([part.header for part in slices])
    warnings = []
    if any(part.lossy for part in slices):
        if lossy == "refuse":
            raise Refusal(
                "LOSSY",
                "the pixels were compressed with loss",
                "set 'convert.lossy: keep' to use them",
            )
        warnings.append("LOSSY")
    values = np.stack([part.values for part in slices])
    padding = np.stack([part.padding for part in slices])
    place = _positions(slices, uneven, tolerance_mm)
    if isinstance(place, tuple):
        place, values, padding = _evened(place, values, padding, slices, tolerance_mm)
        warnings.append("UNEVEN")
    fill = _fill(values, padding, first["Modality"])
    measured = _measured(values, padding)
    matrix, field = place.matrix, ~padding if padding.any() else None
    if place.tilt_deg > 0:
        if tilt == "refuse":
            raise Refusal(
                "TILT",
                f"the slices are tilted by {place.tilt_deg:.2f} degrees against their line",
                "set 'convert.tilt: resample'",
            )
        # One where all four neighbours were measured: interpolation must not mix padding in.
        inside = np.ones(values.shape, np.float32) if field is None else field.astype(np.float32)
        field = upright(inside, matrix, 0.0)[0] > 1 - 1e-3
        values, matrix = upright(values, matrix, fill)
        warnings.append("TILT")
    image = volume.from_array(values, matrix)
    entries = _described(first) | {
        "slices": len(slices),
        "tilt_deg": place.tilt_deg,
        "deviation_mm": place.deviation_mm,
        "padding_voxels": int(padding.sum()),
    }
    return _finished(image, field, entries, measured, warnings)


def _convert_file(row) -> Converted:
    """A volume of a public data set: the same checks of values, the place by its own affine."""
    image, warnings = imagefiles.read(row["path"], row["plane"], _digest(row))
    values = volume.to_array(image)
    padding = np.zeros(values.shape, bool)
    if row["modality"] == "CT":
        corners = values[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        for low in np.unique(corners[corners < AIR_HU]):
            padding |= values == low
    _fill(values, padding, row["modality"])
    made = volume.from_array(values, volume.affine(image))
    entries = dict.fromkeys(DESCRIBED) | {
        "modality": row["modality"],
        "weighting": row["weighting"],
        "manufacturer": "",
        "plane": row["plane"],
        "thickness_mm": float(row["thickness_mm"] or image.GetSpacing()[2]),
        "slices": image.GetSize()[2],
        "tilt_deg": 0.0,
        "deviation_mm": 0.0,
        "padding_voxels": int(padding.sum()),
    }
    field = ~padding if padding.any() else None
    return _finished(made, field, entries, _measured(values, padding), warnings)


def _fill(values: np.ndarray, padding: np.ndarray, modality: str) -> int:
    """Write the value of padding into it, and into CT below air; in place. Returns that value."""
    fill = AIR_HU if modality == "CT" else 0
    values[padding] = fill
    if modality == "CT":
        np.maximum(values, values.dtype.type(AIR_HU), out=values)
    return fill


def _measured(values: np.ndarray, padding: np.ndarray) -> tuple[float, float]:
    """Smallest and largest value outside the padding."""
    # Slice by slice, since the voxels of one fit into the processor's cache.
    kept = [plane[~mask] for plane, mask in zip(values, padding, strict=True) if not mask.all()]
    if not kept:
        raise Refusal("EMPTY_VOLUME", "every voxel is padding", "leave the series out")
    return float(min(part.min() for part in kept)), float(max(part.max() for part in kept))


def _finished(image, field, entries: dict, measured: tuple, warnings: list[str]) -> Converted:
    """Image and field, and the record: numbers and known names only, nothing that was typed."""
    low, high = measured
    ct = entries["modality"] == "CT"
    if ct and not (low < PLAUSIBLE_HU[0] and high > PLAUSIBLE_HU[1]):
        warnings.append("HU_RANGE")
    amount = metal.metal_ml(sitk.GetArrayViewFromImage(image), image.GetSpacing()) if ct else None
    if amount:
        warnings.append("METAL")
    record = entries | {
        "thickness_mm": entries["thickness_mm"] or image.GetSpacing()[2],
        "spacing_mm": list(image.GetSpacing()),
        "size": list(image.GetSize()),
        "minimum": low,
        "maximum": high,
        "unit": "HU" if ct else "signal",
        "metal_ml": amount,
        "warnings": warnings,
    }
    if field is None or field.all():
        return Converted(image, None, record)
    mask = volume.from_array(field.astype(np.uint8), volume.affine(image))
    return Converted(image, mask, record)


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
    # Imported here, since few stacks are tilted and scipy takes long to load.
    from scipy import ndimage

    drift = axes.T @ matrix[:3, 2] / spacing
    depth = len(pixels)
    least = np.floor(np.minimum(0, drift * (depth - 1))).astype(int)
    extra = np.ceil(np.abs(drift) * (depth - 1)).astype(int)
    size = (depth, pixels.shape[1] + extra[1], pixels.shape[2] + extra[0])
    result = np.full(size, fill, dtype=np.float32)
    for index, plane in enumerate(pixels):
        # Rounding noise of 1e-8 would push the outermost rows out of the interpolator's field.
        shift = np.round(drift * index - least, 6)
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


def read_files(path: str | Path, stack: int) -> list[dict]:
    """Rows of one stack of a series' private table, in order.

    Raises:
        Refusal: ``CHANGED`` if the series has no such stack any more.
    """
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["stack"] == str(stack)]
    if not rows:
        raise Refusal(
            "CHANGED", f"the series has no stack {stack} any more", "run `snakemake cohort` again"
        )
    return rows


@dataclass
class _Slice:
    """Header values, true values and padding mask ([rows, columns]) of one slice."""

    header: dict
    values: np.ndarray
    padding: np.ndarray
    lossy: bool


def _read_slices(rows: list[dict]) -> list[_Slice]:
    slices, path, header, dataset = [], None, None, None
    for row in rows:
        if row["path"] != path:
            path = row["path"]
            # Before the header, whose reader has one code for a lost disk and a damaged member.
            content = archives.read(path)
            header = dicom.read_header(path, accept_bare=True)
            if header.state != "read":
                raise Refusal(
                    header.code,
                    header.message,
                    "send the series again, then run `snakemake cohort`",
                )
            digests.check(content, _digest(row))
            dataset = pixels.read_dataset(path, content)
            size = (header.slices[0]["Rows"], header.slices[0]["Columns"])
            voxels = len(rows) * int(size[0]) * int(size[1])
            if voxels > MOST_VOXELS:
                raise Refusal("IMPOSSIBLE_SIZE", f"a volume of {voxels} voxels", "leave it out")
        slices.append(_read_slice(header, dataset, str(row["frame"])))
    return slices


def _digest(row) -> str:
    """Digest of a file's whole content in a row of the private table, or nothing."""
    return str(row.get("content") or "")


def _read_slice(header: dicom.Header, dataset, frame: str) -> _Slice:
    number = int(frame) - 1 if frame else 0
    if number >= len(header.slices) or bool(frame) != (header.slices[0]["frame"] != ""):
        raise Refusal("CHANGED", "a frame of the series is gone", "run `snakemake cohort` again")
    values = header.slices[number]
    stored = pixels.stored_values(dataset, number if frame else None)
    padding = pixels.padding(stored, dataset)
    if values["Modality"] == "MR" and values["PhotometricInterpretation"] == "MONOCHROME1":
        stored = pixels.inverted(stored, dataset)
    true = pixels.rescaled(stored, values)
    if values["Modality"] == "CT":
        corners = true[[0, 0, -1, -1], [0, -1, 0, -1]]
        for low in np.unique(corners[corners < AIR_HU]):
            padding |= true == low
    lossy = values["LossyImageCompression"] == "01" or pixels.is_lossy(dataset)
    return _Slice(values, true, padding, lossy)


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
    positions = np.array([part.header["ImagePositionPatient"] for part in slices])
    orientations = np.array([part.header["ImageOrientationPatient"] for part in slices])
    return positions, orientations


def _positions(slices, uneven: str, tolerance_mm: float):
    """The stack's geometry; a tuple of it and the even positions where it must be evened first."""
    first = slices[0].header
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
    mixed = (pixels[upper - 1] * (1 - share) + pixels[upper] * share).astype(np.float32)
    return geometry, mixed, padding[upper - 1] | padding[upper]


DESCRIBED = {
    "field_t": "MagneticFieldStrength",
    "tr_ms": "RepetitionTime",
    "te_ms": "EchoTime",
    "ti_ms": "InversionTime",
    "flip_deg": "FlipAngle",
    "kvp": "KVP",
}
"""Entries of the record that are a number of the header."""


def _described(first: dict) -> dict:
    """Entries that the first slice's header gives."""
    return {name: first[element] for name, element in DESCRIBED.items()} | {
        "modality": first["Modality"],
        "weighting": contrast.weighting(first),
        "manufacturer": contrast.vendor(first["Manufacturer"]),
        "plane": stacks.plane(np.array(first["ImageOrientationPatient"])),
        "thickness_mm": first["SliceThickness"],
    }
