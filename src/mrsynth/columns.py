"""The columns of the series table: what a series' headers and geometry say, without identity."""

import numpy as np
import pandas as pd

from mrsynth import contrast, stacks
from mrsynth.pseudonym import pseudonym

SERIES_COLUMNS = [
    "series",
    "subject",
    "study",
    "modality",
    "weighting",
    "plane",
    "kind",
    "day",
    "frame",
    "manufacturer",
    "scanner",
    "field_t",
    "kvp",
    "kernel",
    "contrast",
    "fatsat",
    "tr_ms",
    "te_ms",
    "ti_ms",
    "rows",
    "columns",
    "slices",
    "stacks",
    "pixel_mm",
    "spacing_mm",
    "thickness_mm",
    "extent_mm",
    "age_years",
    "sex",
    "status",
    "code",
    "message",
]

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
        "spacing_mm": round(float(np.median(steps)), 4),
        "extent_mm": round(float(np.ptp(along)) + thickness, 2),
    }


def describe(name: str, slices: list[dict], key: bytes) -> dict:
    """Columns that any readable header gives."""
    row: dict = dict.fromkeys(SERIES_COLUMNS, "") | {
        "series": name,
        "stacks": 0,
        "slices": len(slices),
    }
    if not slices:
        return row
    first = slices[0]
    spacing = first["PixelSpacing"]
    frame = first["FrameOfReferenceUID"]
    return row | {
        "modality": first["Modality"],
        "weighting": contrast.weighting(first),
        "kind": contrast.kind(first),
        "day": first["day"],
        "frame": f"for-{pseudonym(key, 'frame', frame)}" if frame else "",
        "manufacturer": contrast.vendor(first["Manufacturer"]),
        "scanner": contrast.scanner(first["ManufacturerModelName"], key),
        "field_t": first["MagneticFieldStrength"],
        "kvp": first["KVP"],
        "kernel": contrast.kernel(first["ConvolutionKernel"], key),
        "contrast": bool(first["ContrastBolusAgent"]),
        "fatsat": contrast.fat_suppressed(first),
        "tr_ms": first["RepetitionTime"],
        "te_ms": first["EchoTime"],
        "ti_ms": first["InversionTime"],
        "rows": int(first["Rows"]),
        "columns": int(first["Columns"]),
        "pixel_mm": round(spacing[0], 6) if spacing else "",
        "thickness_mm": first["SliceThickness"],
        "age_years": None
        if first["age_years"] is None
        else round(min(first["age_years"], OLDEST_YEARS)),
        "sex": first["PatientSex"] if first["PatientSex"] in ("M", "F", "O") else "",
    }


def table(rows: list[dict]) -> pd.DataFrame:
    """Rows in a fixed order, days counted from the subject's first one, numbers as short text."""
    first: dict[str, int] = {}
    for row in rows:
        if isinstance(row["day"], int):
            first[row["subject"]] = min(row["day"], first.get(row["subject"], row["day"]))
    for row in rows:
        if isinstance(row["day"], int):
            row["day"] -= first[row["subject"]]
    rows = sorted(rows, key=lambda row: (row["subject"], row["series"]))
    table = pd.DataFrame(rows, columns=SERIES_COLUMNS, dtype=object)
    return table.map(_cell)


def _cell(value) -> str:
    """A cell as text: no number differs between runs or versions in its last digits."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, int | float | np.number) else str(value)
