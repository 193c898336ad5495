"""The user's cohort sheet: what a person says of a subject outranks every rule."""

import re
from collections.abc import Collection
from functools import partial
from pathlib import Path

import pandas as pd

from mrsynth.errors import StudyError
from mrsynth.roles import ROLES
from mrsynth.subjects import SUBJECT, person

COLUMNS = [
    "subject",
    "task",
    "exclude",
    "reason",
    "split",
    "interval_days",
    "source_series",
    "target_series",
]
VISIT_COLUMNS = ("subject", "task", "exclude", "reason")
"""What can be said of one visit; the rest holds for the person."""
YES = ("yes", "true", "1", "x", "y")
NO = ("no", "false", "0", "", "n")
NOT_SHOWN = "(not shown, it may name a patient)"


def read_sheet(path: str | Path) -> pd.DataFrame:
    """The user's sheet, every cell as stripped text; the index is the line's number in the file.

    Columns that are left out are empty; blank lines and lines that begin with ``#`` are skipped.

    Raises:
        StudyError: If the file is no table of the known columns.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise StudyError(f"'{path}' is not UTF-8; save it as text separated by tabs") from None
    lines = {
        number: [cell.strip() for cell in line.split("\t")]
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not line.startswith("#")
    }
    columns = lines.pop(min(lines)) if lines else []
    unknown = sorted(set(columns) - set(COLUMNS), key=columns.index)
    if unknown or "subject" not in columns or len(set(columns)) < len(columns):
        numbers = ", ".join(str(columns.index(name) + 1) for name in unknown)
        said = (
            f"column {numbers} {NOT_SHOWN} is unknown" if unknown else "without subject, or twice"
        )
        raise StudyError(
            f"'{path}': {said} in the first line; known are {', '.join(COLUMNS)}, separated by tabs"
        )
    for number, cells in lines.items():
        if any(cells[len(columns) :]):
            raise StudyError(
                f"'{path}', line {number}, has {len(cells)} cells and the first line "
                f"{len(columns)}; separate cells by one tab each"
            )
    rows = [dict(zip(columns, cells, strict=False)) for cells in lines.values()]
    table = pd.DataFrame(rows, index=list(lines), columns=columns, dtype=object).fillna("")
    return table.reindex(columns=COLUMNS, fill_value="")


def shown(value: str, known: Collection[str] = ()) -> str:
    """A cell for an error's text: pseudonyms and known words only.

    Anything else may be a patient's number, name or date in the wrong place, in small letters too,
    and errors end in logs.

    Args:
        value: The cell.
        known: Words that the study itself gives, such as its tasks.
    """
    words = {*COLUMNS, *ROLES, *YES, *NO, *known}
    return f"'{value}'" if re.fullmatch(SUBJECT, value) or value in words else NOT_SHOWN


def check(sheet: pd.DataFrame | None, series: pd.DataFrame, tasks: dict) -> pd.DataFrame:
    """The sheet without ``sub-``, an empty one for None.

    Raises:
        StudyError: Naming the line that names what is not there or says what it can't.
    """
    if sheet is None:
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    sheet = sheet.assign(subject=sheet["subject"].str.removeprefix("sub-"))
    quoted = partial(shown, known=tasks)
    for number, row in zip(sheet.index, sheet.to_dict("records"), strict=True):
        where = f"cohort sheet, line {number}"
        own = series[series["subject"] == person(row["subject"])]
        if own.empty:
            raise StudyError(
                f"{where}: subject {quoted(row['subject'])} is not in results/index/series.tsv; "
                "correct or remove the line (a new key renames all subjects)"
            )
        if row["task"] and row["task"] not in tasks:
            raise StudyError(
                f"{where}: task {quoted(row['task'])} is unknown; there are {', '.join(tasks)}"
            )
        if row["split"] and row["split"] not in ROLES:
            raise StudyError(f"{where}: split {quoted(row['split'])} is none of {', '.join(ROLES)}")
        if row["exclude"].lower() not in (*YES, *NO):
            raise StudyError(f"{where}: exclude {quoted(row['exclude'])} is neither yes nor no")
        if row["interval_days"] and not row["interval_days"].removeprefix("-").isdecimal():
            raise StudyError(
                f"{where}: interval_days {quoted(row['interval_days'])} is no whole number"
            )
        for side in ("source_series", "target_series"):
            if row[side] and row[side] not in set(own["series"]):
                raise StudyError(
                    f"{where}: {side} {quoted(row[side])} is no series of this subject"
                )
        if row["subject"] != person(row["subject"]):
            _check_visit(row, where)
    twice = sheet[sheet.duplicated(["subject", "task"])]
    if len(twice):
        raise StudyError(
            f"cohort sheet: subject {quoted(twice['subject'].iloc[0])} has two lines; keep one"
        )
    return sheet


def _check_visit(row: dict, where: str) -> None:
    """A visit can be left out; series, interval and split are the person's."""
    said = [column for column, value in row.items() if value and column not in VISIT_COLUMNS]
    if said:
        raise StudyError(
            f"{where}: '{said[0]}' holds for the person; give it in a line for "
            f"'{person(row['subject'])}', a visit's line can only exclude"
        )


def check_visits(sheet: pd.DataFrame, known: set[str]) -> None:
    """Refuse a line about a visit that the cohort does not have.

    Raises:
        StudyError: Naming the line.
    """
    for number, subject in sheet["subject"].items():
        if subject != person(subject) and subject not in known:
            raise StudyError(
                f"cohort sheet, line {number}: there is no visit {shown(subject)} "
                "(cohort.visits: all names them); correct or remove the line"
            )


def lines(sheet: pd.DataFrame) -> dict[tuple[str, str], dict]:
    """The sheet's lines by subject and task (empty for all tasks)."""
    return {(line["subject"], line["task"]): line for line in sheet.to_dict("records")}


def wish(lines: dict[tuple[str, str], dict], subject: str, task: str) -> dict:
    """What the sheet says of a subject: the line for this task over the one for all."""
    said = dict.fromkeys(COLUMNS, "")
    for name in ("", task):
        line = lines.get((subject, name), {})
        said |= {column: value for column, value in line.items() if value}
    return said
