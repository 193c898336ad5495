"""The columns of the series table: what a series' headers and geometry say, without identity."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from mrsynth import contrast, notes, stacks
from mrsynth.pseudonym import pseudonym

SERIES_COLUMNS = [
    "series",
    "subject",
    "study",
    "day",
    "status",
    "code",
    "modality",
    "weighting",
    "plane",
    "kind",
    "contrast",
    "fatsat",
    "body_part",
    "notes",
    "stacks",
    "slices",
    "spacing_mm",
    "thickness_mm",
    "extent_mm",
    "start_mm",
    "rows",
    "columns",
    "pixel_mm",
    "tr_ms",
    "te_ms",
    "ti_ms",
    "field_t",
    "kvp",
    "kernel",
    "manufacturer",
    "scanner",
    "frame",
    "message",
    "remedy",
]
"""Who and what for, what it is, its geometry, how it was made, and why it isn't used."""

STATUS_ORDER = ("used", "refused", "skipped")
NUMBERS = {
    "tr_ms": 1,
    "te_ms": 2,
    "ti_ms": 1,
    "field_t": 3,
    "kvp": 1,
    "pixel_mm": 4,
    "spacing_mm": 4,
    "thickness_mm": 3,
    "extent_mm": 2,
}
"""Decimals of the columns: what scanners print, without the noise of their arithmetic."""

PERSON_COLUMNS = ["subject", "series", "age_years", "sex"]
"""What a header says of the person: for the private folder only, and counted by `cohort`."""

OLDEST_YEARS = 90.0
"""Ages above are given as this one: they identify."""


def extent(groups, positions, orientations, geometries, slices) -> dict:
    """Columns that the stacks' geometry gives."""
    planes = {stacks.plane(orientations[group].mean(axis=0)) for group in groups}
    direction = stacks.normal(orientations[groups[0]].mean(axis=0))
    along = positions[np.concatenate(groups)] @ direction
    steps = [float(np.linalg.norm(geometry.matrix[:3, 2])) for geometry in geometries]
    thickness = slices[0]["SliceThickness"] or steps[0]
    return {
        "plane": planes.pop() if len(planes) == 1 else "mixed",
        "slices": sum(map(len, groups)),
        "stacks": len(groups),
        "spacing_mm": float(np.median(steps)),
        "extent_mm": float(np.ptp(along)) + thickness,
        "start_mm": round(float(along.min()), 2),
    }


def describe(name: str, slices: list[Mapping], key: bytes) -> dict:
    """Columns that any readable header gives."""
    row: dict = dict.fromkeys([*SERIES_COLUMNS, *PERSON_COLUMNS], "") | {
        "series": name,
        "stacks": 0,
        "slices": len(slices),
    }
    if not slices:
        return row
    first = slices[0]
    # Slices that share a header share what it says; a series has one or a few of these.
    kinds = list({id(piece.shared): piece for piece in slices}.values())
    words = {word for piece in kinds for word in notes.notes(piece)}
    media = {contrast.medium(piece) for piece in kinds}
    spacing = first["PixelSpacing"]
    frame = first["FrameOfReferenceUID"]
    return row | {
        "modality": first["Modality"],
        "weighting": contrast.weighting(first),
        "kind": first["kind"],
        "day": first["day"],
        "frame": f"for-{pseudonym(key, 'frame', frame)}" if frame else "",
        "manufacturer": contrast.vendor(first["Manufacturer"]),
        "scanner": contrast.scanner(first["ManufacturerModelName"], key),
        "field_t": first["MagneticFieldStrength"],
        "kvp": first["KVP"],
        "kernel": contrast.kernel(first["ConvolutionKernel"], key),
        "contrast": "yes" if "yes" in media else contrast.medium(first),
        "fatsat": contrast.fat_suppressed(first) if first["Modality"] == "MR" else "",
        "body_part": notes.body_part(first),
        "notes": ",".join(word for word in notes.NOTES if word in words),
        "tr_ms": first["RepetitionTime"],
        "te_ms": first["EchoTime"],
        "ti_ms": first["InversionTime"],
        "rows": first["Rows"],
        "columns": first["Columns"],
        "pixel_mm": spacing[0] if spacing else "",
        "thickness_mm": first["SliceThickness"],
        "age_years": None
        if first["age_years"] is None
        else round(min(first["age_years"], OLDEST_YEARS)),
        "sex": first["PatientSex"] if first["PatientSex"] in ("M", "F", "O") else "",
    }


def table(rows: list[dict]) -> pd.DataFrame:
    """Rows by subject and time, used ones first; days counted from the subject's first one.

    Numbers become short text, so that none differs between runs in its last digits.
    """
    first: dict[str, int] = {}
    for row in rows:
        if isinstance(row["day"], int):
            first[row["subject"]] = min(row["day"], first.get(row["subject"], row["day"]))
    for row in rows:
        if isinstance(row["day"], int):
            row["day"] -= first[row["subject"]]
    rows = sorted(rows, key=_order)
    cells = [{name: _cell(name, row[name]) for name in SERIES_COLUMNS} for row in rows]
    return pd.DataFrame(cells, columns=SERIES_COLUMNS, dtype=object)


def persons(rows: list[dict]) -> pd.DataFrame:
    """Ages and sexes by series, for the private folder; in a fixed order."""
    rows = sorted(rows, key=lambda row: (row["subject"], row["series"]))
    cells = [{name: _cell(name, row.get(name)) for name in PERSON_COLUMNS} for row in rows]
    return pd.DataFrame(cells, columns=PERSON_COLUMNS, dtype=object)


def _order(row: dict) -> tuple:
    day = row["day"] if isinstance(row["day"], int) else -1
    names = ("modality", "weighting", "plane", "kind", "series")
    status = STATUS_ORDER.index(row["status"])
    return row["subject"], status, day, row["study"], *(row[name] for name in names)


def _cell(name: str, value) -> str:
    """A cell as text."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | float | np.number):
        if not math.isfinite(value):
            return ""
        return f"{round(float(value), NUMBERS.get(name, 6)):.10g}"
    return str(value)
