"""Rows of a series table, and cohorts of them, for the tests of the cohort."""

import pandas as pd

from mrsynth import cohort, wishes
from mrsynth.columns import SERIES_COLUMNS

KEY = bytes(range(32))
IMAGES = {
    "ct": {"modality": "CT", "weighting": None, "plane": "axial"},
    "t2ax": {"modality": "MR", "weighting": "T2", "plane": "axial"},
    "t2sag": {"modality": "MR", "weighting": "T2", "plane": "sagittal"},
}
TASKS = {"ct2t2": {"source": "ct", "target": "t2ax", "bridge": "t2sag"}}


def row(series, subject="AAAAAAAA", modality="CT", **cells) -> dict:
    """One row of the series table."""
    empty = dict.fromkeys(SERIES_COLUMNS, "")
    usual = {
        "series": series,
        "subject": subject,
        "study": f"std-{subject}-{modality}",
        "modality": modality,
        "weighting": "T2" if modality == "MR" else "",
        "plane": "axial",
        "kind": "original",
        "day": "0",
        "frame": f"for-{modality}",
        "contrast": "no",
        "fatsat": "no",
        "slices": "20",
        "stacks": "1",
        "spacing_mm": "3",
        "extent_mm": "60",
        "start_mm": "-30",
        "status": "used",
    }
    return empty | usual | cells


def build(rows, sheet=None, **options) -> cohort.Cohort:
    sheet = (
        None
        if sheet is None
        else pd.DataFrame(sheet).reindex(columns=wishes.COLUMNS, fill_value="").fillna("")
    )
    tasks = options.pop("tasks", TASKS)
    return cohort.build(pd.DataFrame(rows), sheet, IMAGES, tasks, key=KEY, **options)


def only(rows, sheet=None, **options) -> dict:
    (found,) = build(rows, sheet, **options).rows.to_dict("records")
    return found


PAIR = [row("ser-c"), row("ser-m", modality="MR", day="2", stacks="4")]
