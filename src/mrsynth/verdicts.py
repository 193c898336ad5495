"""Verdicts on registrations: the registration's own, and people's in ``config/review.tsv``.

A line that can't mean what its author meant is an error with its number: a judgement that silently
does nothing is worse than a run that stops.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from mrsynth.errors import StudyError

VERDICTS = ("accepted", "review", "failed")
"""What a registration, or a person, can say of a stack."""

USABLE = ("accepted", "review")
"""Verdicts whose slices may be used; ``failed`` stands for a pose that nobody can trust."""

REVIEW_COLUMNS = ("subject", "task", "stack", "verdict", "reader", "reason")
SUBJECT = re.compile(r"[A-Z2-7]{8}")
"""A pseudonym: eight characters of base32 (RFC 4648)."""


def read_review(path: str | Path) -> pd.DataFrame:
    """People's verdicts, as checked text; the index is the line's number in the file.

    Blank lines and lines that begin with ``#`` are skipped.

    Raises:
        StudyError: The file or a line of it is wrong (:func:`check_review`).
    """
    name = Path(path).name
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise StudyError(f"{name} is not UTF-8; save it as text parted by tabs.") from None
    lines = {
        n: line.split("\t")
        for n, line in enumerate(text.split("\n"), 1)
        if line.strip() and not line.startswith("#")
    }
    columns = [cell.strip() for cell in lines.pop(min(lines))] if lines else []
    _check_columns(columns, name)
    for number, cells in lines.items():
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise StudyError(
                f"{name}, line {number}, has {len(cells)} cells and the first line "
                f"{len(columns)}; part cells by one tab each."
            )
    rows = [
        {column: cell.strip() for column, cell in zip(columns, [*cells, *blank], strict=False)}
        for cells, blank in ((cells, [""] * len(columns)) for cells in lines.values())
    ]
    table = pd.DataFrame(rows, index=pd.Index(list(lines), name="line"), columns=columns, dtype=str)
    table["subject"] = table["subject"].str.removeprefix("sub-")
    check_review(table)
    return table


def check_review(
    rows: pd.DataFrame, *, tasks: list[str] | None = None, subjects: list[str] | None = None
) -> None:
    """Check people's verdicts by their form, and against the study as far as it is given.

    Args:
        rows: Table of :func:`read_review`; its index holds the lines' numbers.
        tasks: Names of the study's tasks; None doesn't compare.
        subjects: Pseudonyms of the cohort; None doesn't compare.

    Raises:
        StudyError: Naming the line, the column, its value and what is allowed.
    """
    _check_columns(list(rows.columns), "review.tsv")
    for line, row in zip(rows.index, rows.to_dict("records"), strict=True):
        for column, remedy in _faults(row, tasks, subjects):
            raise StudyError(f"review.tsv, line {line}: {column} is '{row[column]}'; {remedy}.")


def apply_review(
    crops: list[dict | None], subjects: list[str], review: pd.DataFrame | None, task: str
) -> tuple[list[dict | None], list[dict]]:
    """Put people's verdicts in the place of the registration's; later rows outrank earlier ones.

    Args:
        crops: Crop files' arrays; None for a refused subject.
        subjects: Pseudonyms, in the same order.
        review: Table of :func:`read_review`; an empty stack means all.
        task: Name of the task.

    Returns:
        The crops with their new verdicts, and one row per judged slice, for the record: ``subject,
        key, before, verdict``. Who judged and why stays in the user's file.

    Raises:
        StudyError: A line lifts a failed registration: there is no pose that could be accepted.
    """
    if review is None:
        return crops, []
    result, log = [], []
    for arrays, subject in zip(crops, subjects, strict=True):
        if arrays is None:
            result.append(None)
            continue
        rows = review[(review["subject"] == subject) & (review["task"] == task)]
        verdict = [str(value) for value in arrays["verdict"]]
        lines: dict[int, int] = {}
        for line, row in zip(rows.index, rows.to_dict("records"), strict=True):
            for n, key in enumerate(arrays["key"]):
                if not row["stack"] or int(row["stack"]) == stack_of(key):
                    lines[n], verdict[n] = line, row["verdict"]
        for n, line in sorted(lines.items()):
            before, key = str(arrays["verdict"][n]), str(arrays["key"][n])
            _check_lift(before, verdict[n], line, subject, stack_of(key))
            log.append({"subject": subject, "key": key, "before": before, "verdict": verdict[n]})
        result.append(arrays | {"verdict": np.array(verdict, dtype=np.str_)})
    return result, log


def registrations(records: list[dict]) -> list[dict]:
    """Registrations that aren't accepted: ``task``, ``subject``, ``verdict`` (the worst of the
    stacks) and ``message`` (verdict and reasons, by stack)."""
    rows = []
    for record in records:
        if record.get("stage") != "register" or record.get("status") != "made":
            continue
        parts = record.get("stacks") or [record]
        told: dict[tuple, list[str]] = {}
        for part in parts:
            verdict = part.get("verdict") or "failed"
            if verdict != "accepted":
                reasons = (part.get("measures") or {}).get("reasons") or ["no reasons recorded"]
                told.setdefault((verdict, "; ".join(reasons)), []).append(str(part.get("stack")))
        if not told:
            continue
        message = "; ".join(
            (f"stack {', '.join(stacks)} " if len(parts) > 1 else "") + f"{verdict}: {reasons}"
            for (verdict, reasons), stacks in told.items()
        )
        row = {"task": record.get("task", ""), "subject": record["subject"], "message": message}
        rows.append(row | {"verdict": max((v for v, _ in told), key=VERDICTS.index)})
    return sorted(rows, key=lambda row: (row["task"], row["subject"]))


def stack_of(key: str) -> int:
    """The stack's number in a slice's key such as ``stack-2_slice-03``."""
    return int(str(key).split("_")[0].removeprefix("stack-"))


def check_usable(values, where: str) -> None:
    """Raise :class:`StudyError` if a setting lets in verdicts that are unknown or ``failed``."""
    for value in values:
        if value not in USABLE:
            raise StudyError(f"{where} holds '{value}'; use only {', '.join(USABLE)}.")


def _check_columns(columns: list[str], name: str) -> None:
    missing = [column for column in REVIEW_COLUMNS if column not in columns]
    unknown = [column for column in columns if column not in REVIEW_COLUMNS]
    needs = f"it needs, parted by tabs: {', '.join(REVIEW_COLUMNS)}."
    if missing:
        raise StudyError(f"{name} lacks the column '{missing[0]}'; {needs}")
    if unknown or len(set(columns)) < len(columns):
        odd = f"an unknown column '{unknown[0]}'" if unknown else "a column twice"
        raise StudyError(f"{name} has {odd}; {needs}")


def _faults(row: dict, tasks: list[str] | None, subjects: list[str] | None):
    """Pairs of a column and what it should hold instead."""
    if not SUBJECT.fullmatch(row["subject"]):
        yield "subject", "give the pseudonym, eight of A–Z and 2–7, as in results/cohort/cohort.tsv"
    elif subjects is not None and row["subject"] not in subjects:
        yield "subject", "nobody of that name is in results/cohort/cohort.tsv; correct the name"
    if not row["task"]:
        yield "task", "name the task that the verdict is for"
    elif tasks is not None and row["task"] not in tasks:
        yield "task", f"the study has: {', '.join(tasks)}"
    if row["stack"] and not (row["stack"].isdecimal() and int(row["stack"]) > 0):
        yield "stack", "give a stack's number from 1, or nothing for all stacks"
    if row["verdict"] not in VERDICTS:
        yield "verdict", f"use one of {', '.join(VERDICTS)}"


def _check_lift(before: str, after: str, line: int, subject: str, stack: int) -> None:
    if before == "failed" and after != "failed":
        raise StudyError(
            f"review.tsv, line {line}: subject {subject}, stack {stack}, is '{after}', but the "
            "registration found no pose; nothing to accept. Take the line out or name only the "
            "stacks that have one, and see the registration's figure and record for the cause."
        )
