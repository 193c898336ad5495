"""Verdicts on registrations: the registration's own, and people's in ``config/review.tsv``, which
also holds the disc and sac points that people moved.

A line that can't mean what its author meant is an error with its number: a judgement that silently
does nothing is worse than a run that stops.
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from mrsynth.errors import StudyError

VERDICTS = ("accepted", "review", "failed")
"""What a registration, or a person, can say of a stack."""

USABLE = ("accepted", "review")
"""Verdicts whose slices may be used; ``failed`` stands for a pose that nobody trusts."""

JUDGED_COLUMNS = ("subject", "task", "stack", "verdict", "reader", "reason")
"""What every review file has."""

MOVED_COLUMNS = ("disc", "point", "x_mm", "y_mm", "z_mm")
"""What a file with moved points has besides; a row is a verdict where ``disc`` and ``point`` are
empty, else a moved point."""

REVIEW_COLUMNS = (*JUDGED_COLUMNS[:4], *MOVED_COLUMNS, *JUDGED_COLUMNS[4:])
MOVABLE = ("centre", "sac")
"""Points of a disc that a person may move."""

SUBJECT = re.compile(r"[A-Z2-7]{8}(_ses-\d+)?")
"""A pseudonym: eight characters of base32 (RFC 4648), and the visit where there are several."""

DISC = re.compile(r"[CTLS]\d{1,2}-[CTLS]\d{1,2}|disc-\d+")
"""A disc's name: its level, or its number from the top where the levels are unknown."""


def read_review(path: str | Path) -> pd.DataFrame:
    """People's verdicts and moved points, as checked text; the index is the line's number.

    Blank lines and lines that begin with ``#`` are skipped. Files without the columns of moved
    points are read as well; those columns are empty then.

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
    table = table.reindex(columns=list(REVIEW_COLUMNS), fill_value="")
    check_review(table)
    return table


def no_review() -> pd.DataFrame:
    """The table of a study without a review file."""
    return pd.DataFrame(columns=list(REVIEW_COLUMNS), dtype=str)


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


def resolve(review: pd.DataFrame, task: str) -> list[dict]:
    """What people's verdicts on a task come to: the strictest of the readers' own last words.

    A reader's row about a stack outranks his row about all, and his later row an earlier one about
    the same. Between readers the strictest verdict holds until they agree, so that a doubt of one
    is never outvoted by the order of the lines.

    Args:
        review: Table of :func:`read_review`.
        task: Name of the task.

    Returns:
        Rows ``subject, stack, verdict, readers`` (how many spoke), sorted; ``stack`` is a number,
        or 0 for all stacks that have no row of their own.
    """
    rows = review[(review["task"] == task) & (review["verdict"] != "")]
    result = []
    for subject, own in rows.groupby("subject", sort=True):
        stacks = sorted({int(stack or 0) for stack in own["stack"]})
        for stack in stacks:
            words = last_words(own, stack)
            if words:
                verdict = max(words.values(), key=VERDICTS.index)
                result.append(
                    {
                        "subject": subject,
                        "stack": stack,
                        "verdict": verdict,
                        "readers": len(words),
                    }
                )
    return result


def last_words(rows: pd.DataFrame, stack: int) -> dict[str, str]:
    """Each reader's verdict on a stack: his last row that names it, else his last about all.

    The order of a row about the stack and one about all says nothing: the review page sorts them.

    Args:
        rows: Verdict rows of one subject and task.
        stack: The stack's number; 0 asks for the rows about all stacks alone.
    """
    numbers = rows["stack"].map(lambda cell: int(cell or 0))
    about = pd.concat([rows[numbers == 0], rows[numbers == stack]])
    readers = about["reader"].map(reader_key)
    return dict(zip(readers, about["verdict"], strict=True))


def reader_key(name: str) -> str:
    """Initials as one reader's: ``AH`` and ``ah`` are the same person."""
    return name.strip().casefold()


def moves(review: pd.DataFrame, task: str, subject: str) -> list[dict]:
    """Points that people moved in one subject: the mean over the readers' own last positions.

    Returns:
        Rows ``disc, point, mm`` ([x, y, z], LPS mm of the landmarks' frame) and ``readers`` (how
        many moved it), sorted.
    """
    rows = review[
        (review["task"] == task) & (review["subject"] == subject) & (review["disc"] != "")
    ]
    result = []
    for (disc, point), own in rows.groupby(["disc", "point"], sort=True):
        last = own.groupby(own["reader"].map(reader_key)).tail(1)
        places = last[["x_mm", "y_mm", "z_mm"]].astype(float)
        mean = places.mean().round(3).tolist()
        result.append({"disc": disc, "point": point, "mm": mean, "readers": len(last)})
    return result


def apply_review(
    crops: list[dict | None], subjects: list[str], judged: list[dict] | None, task: str = ""
) -> tuple[list[dict | None], list[dict]]:
    """Put people's verdicts in the place of the registration's.

    A row about a stack of which no slice was picked changes nothing here; one about a stack that
    the subject doesn't have is an error of `review` (:func:`check_stacks`).

    Args:
        crops: Crop files' arrays; None for a refused subject.
        subjects: Pseudonyms, in the same order.
        judged: Rows of :func:`resolve`.
        task: Name of the task, for messages.

    Returns:
        The crops with their new verdicts, and one row per judged slice, for the record: ``subject,
        key, before, verdict, readers``. Who judged and why stays in the user's file.

    Raises:
        StudyError: A row lifts a registration that found no pose: nothing could be accepted.
    """
    if not judged:
        return crops, []
    result, log = [], []
    for arrays, subject in zip(crops, subjects, strict=True):
        if arrays is None:
            result.append(None)
            continue
        rows = {row["stack"]: row for row in judged if row["subject"] == subject}
        verdict = [str(value) for value in arrays["verdict"]]
        posed = arrays.get("posed", np.array([value != "failed" for value in verdict]))
        for n, key in enumerate(arrays["key"]):
            row = rows.get(stack_of(key), rows.get(0))
            if row is None:
                continue
            before, verdict[n] = verdict[n], row["verdict"]
            if not posed[n] and row["verdict"] != "failed":
                raise StudyError(_no_pose(subject, task, stack_of(key), row["verdict"]))
            log.append(
                {
                    "subject": subject,
                    "key": str(key),
                    "before": before,
                    "verdict": row["verdict"],
                    "readers": row["readers"],
                }
            )
        result.append(arrays | {"verdict": np.array(verdict, dtype=np.str_)})
    return result, log


def check_stacks(review: pd.DataFrame, task: str, stacks: dict[str, int]) -> None:
    """Refuse verdicts on stacks that aren't there.

    Args:
        review: Table of :func:`read_review`.
        task: Name of the task.
        stacks: Number of stacks by subject; 0 for a refused one, of whom nothing is known.

    Raises:
        StudyError: Naming the line, the stack and how many there are.
    """
    rows = review[(review["task"] == task) & (review["stack"] != "")]
    for line, row in zip(rows.index, rows.to_dict("records"), strict=True):
        if 0 < stacks.get(row["subject"], 0) < int(row["stack"]):
            raise StudyError(f"review.tsv, line {line}: {_no_stack(row, stacks[row['subject']])}")


def _no_stack(row: dict, count: int) -> str:
    return (
        f"stack is '{row['stack']}', but sub-{row['subject']} has {count} in task '{row['task']}'; "
        "correct the number, or leave it empty for all stacks"
    )


def idle_rows(review: pd.DataFrame, results: Path) -> list[str]:
    """Rows that the results at hand give nothing to act on, as sentences with their lines.

    Said at start and no error there: the coming run may make other results. A row that still has
    nothing to act on in its own job is an error of that job.

    Args:
        review: Table of :func:`read_review`.
        results: The folder of results; records that aren't there yet are no reason to speak.
    """
    said = []
    for line, row in zip(review.index, review.to_dict("records"), strict=True):
        fault = _idle_move(row, results) if row["disc"] else _idle_verdict(row, results)
        if fault:
            said.append(f"review.tsv, line {line}: {fault}")
    return said


def _idle_move(row: dict, results: Path) -> str:
    record = _record(results / f"locate/sub-{row['subject']}.json")
    if "discs" not in record:
        return ""
    names = [disc["level"] or f"disc-{n}" for n, disc in enumerate(record["discs"], start=1)]
    if row["disc"] in names:
        return ""
    return f"disc is '{row['disc']}'; `locate` found {', '.join(names)}; correct the name"


def _idle_verdict(row: dict, results: Path) -> str:
    record = _record(results / f"register/{row['task']}/sub-{row['subject']}.json")
    if record.get("status") != "made":
        return ""
    stacks = {entry["stack"]: entry for entry in record.get("stacks") or [{"stack": 1, **record}]}
    wanted = [int(row["stack"])] if row["stack"] else sorted(stacks)
    if not set(wanted) <= set(stacks):
        return _no_stack(row, len(stacks))
    bare = [n for n in wanted if not stacks[n].get("posed", True)]
    if row["verdict"] == "failed" or not bare:
        return ""
    return (
        f"verdict is '{row['verdict']}', but the registration found no pose for stack "
        f"{', '.join(map(str, bare))}; take the row out or name only the other stacks"
    )


def _record(path: Path) -> dict:
    """A record, or nothing where it isn't there."""
    return json.loads(path.read_text()) if path.exists() and path.stat().st_size else {}


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
    needs = f"it needs, parted by tabs: {', '.join(REVIEW_COLUMNS)}."
    given = [column for column in MOVED_COLUMNS if column in columns]
    wanted = REVIEW_COLUMNS if given else JUDGED_COLUMNS
    missing = [column for column in wanted if column not in columns]
    unknown = [column for column in columns if column not in REVIEW_COLUMNS]
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
    if any(row.get(column) for column in MOVED_COLUMNS):
        yield from _point_faults(row)
        return
    if row["stack"] and not (row["stack"].isdecimal() and int(row["stack"]) > 0):
        yield "stack", "give a stack's number from 1, or nothing for all stacks"
    if row["verdict"] not in VERDICTS:
        yield "verdict", f"use one of {', '.join(VERDICTS)}"


def _point_faults(row: dict):
    """The same for a row that moves a point."""
    if row["verdict"]:
        yield "verdict", "a row holds either a verdict or a moved point; make two rows of it"
    if row["stack"]:
        yield "stack", "leave it empty: a moved point belongs to the disc, not to a stack"
    if not DISC.fullmatch(row["disc"]):
        yield "disc", "name the disc as in results/pick/, such as L4-L5 or disc-3"
    if row["point"] not in MOVABLE:
        yield "point", f"use one of {', '.join(MOVABLE)}"
    for column in ("x_mm", "y_mm", "z_mm"):
        if not _is_number(row[column]):
            yield column, "give LPS mm of the landmarks' frame, with a point, such as -12.5"


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _no_pose(subject: str, task: str, stack: int, verdict: str) -> str:
    return (
        f"review.tsv, subject {subject}, task '{task}': stack {stack} is '{verdict}', but the "
        "registration found no pose; nothing to accept. Take the row out or name only the stacks "
        "that have one, and see the registration's figure and record for the cause."
    )
