"""The inclusion flow: from files to pairs, every step with its count and reasons."""

from collections import Counter

import pandas as pd

from mrsynth.subjects import person

COLUMNS = ["task", "step", "code", "files", "series", "subjects", "pairs"]


def table(
    rows: pd.DataFrame,
    series: pd.DataFrame,
    files: pd.DataFrame | None,
    groups: dict[str, dict[str, pd.DataFrame]],
) -> pd.DataFrame:
    """How many files, series, subjects (persons) and pairs each step has, in order.

    Series without a subject (no patient ID) count as series of nobody; files without a series
    (no UID, no DICOM) as files.

    Args:
        rows: The cohort table.
        series: The whole series table.
        files: The file table of `index`, or None.
        groups: Task → group → its included rows; `paired`, roles or folds, pools.
    """
    steps = [] if files is None else list(_files(files))
    own = series.assign(subject=series["subject"].where(series["subject"] != ""))
    steps.append(_step("", "indexed", series=len(own), subjects=own["subject"].nunique()))
    for status in ("skipped", "refused", "used"):
        kept = own[own["status"] == status]
        parts = [("", kept)] if status == "used" else kept.groupby("code", sort=True)
        for code, part in parts:
            count = {"series": len(part), "subjects": part["subject"].nunique()}
            steps.append(_step("", f"series {status}", code, **count))
    for task, part in rows.groupby("task", sort=False):
        steps += _task(task, part, groups[task])
    return pd.DataFrame(steps, columns=COLUMNS, dtype=object)


def _files(files: pd.DataFrame):
    yield _step("", "files", files=len(files))
    for state in ("skipped", "refused"):
        codes = Counter(files.loc[files["state"] == state, "code"])
        for code, count in sorted(codes.items()):
            yield _step("", f"files {state}", code, files=count)
    yield _step("", "files used", files=int((files["state"] == "used").sum()))


def _task(task: str, rows: pd.DataFrame, groups: dict[str, pd.DataFrame]):
    """Steps of one task: every person is considered once and ends in one place."""
    rows = rows.assign(person=rows["subject"].map(person))
    yield _step(task, "considered", subjects=rows["person"].nunique())
    inside = set(rows.loc[rows["status"] == "included", "person"])
    out = rows[rows["status"] == "excluded"]
    gone = out[~out["person"].isin(inside)].drop_duplicates("person")
    for code, part in gone.groupby("code", sort=True):
        yield _step(task, "excluded", code, subjects=len(part))
    for code, part in out[out["person"].isin(inside)].groupby("code", sort=True):
        yield _step(task, "visit excluded", code, pairs=len(part))
    for pool in ("source", "target"):
        count = groups[f"{pool} only"]["subject"].map(person).nunique()
        yield _step(task, f"unpaired {pool}", subjects=count)
    for name, part in groups.items():
        if not name.endswith(" only"):
            label = name if name == "paired" else f"paired, {name}"
            people = part["subject"].map(person).nunique()
            yield _step(task, label, subjects=people, pairs=len(part))


def _step(task: str, step: str, code: str = "", **counts: int) -> dict:
    return dict.fromkeys(COLUMNS, "") | {"task": task, "step": step, "code": code} | counts
