"""Questions to ``results/cohort/cohort.tsv``: who is in, in which role, with which series."""

import csv
import re
from functools import cache
from pathlib import Path

from mrsynth import verdicts
from mrsynth.errors import StudyError
from mrsynth.roles import ROLES, role
from mrsynth.subjects import person

STACK = re.compile(r"(.+)_stack-(\d+)")


def read_cohort(path: str | Path) -> list[dict]:
    """Rows of the cohort sheet as dicts of text; read once per change."""
    status = Path(path).stat()
    return _read_cohort(str(path), status.st_mtime_ns, status.st_size)


@cache
def _read_cohort(path: str, *_stamp) -> list[dict]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def check_review(review: Path, cohort: Path, tasks: list[str]) -> None:
    """Refuse a review file with rows about nobody, before any job starts.

    Raises:
        StudyError: Naming the line, the value and what there is.
    """
    if review.exists():
        known = [row["subject"] for row in read_cohort(cohort)] if cohort.exists() else None
        verdicts.check_review(verdicts.read_review(review), tasks=tasks, subjects=known)


def read_review(path: Path):
    """The review file, read once per change; an empty table where there is none."""
    if not path.exists():
        return verdicts.no_review()
    status = path.stat()
    return _read_review(str(path), status.st_mtime_ns, status.st_size)


@cache
def _read_review(path: str, *_stamp):
    return verdicts.read_review(path)


def idle_rows(path: Path, results: Path) -> list[str]:
    """Rows of the review file that can do nothing (:func:`mrsynth.verdicts.idle_rows`)."""
    return verdicts.idle_rows(read_review(path), results)


def judgements(path: Path, task: str) -> list[dict]:
    """People's verdicts on a task (:func:`mrsynth.verdicts.resolve`)."""
    return verdicts.resolve(read_review(path), task)


def moves(path: Path, task: str, subject: str) -> list[dict]:
    """Points that people moved in a subject (:func:`mrsynth.verdicts.moves`)."""
    return verdicts.moves(read_review(path), task, subject)


def is_pair(row: dict) -> bool:
    """Whether a row is an included pair of source and target."""
    return row["status"] == "included" and row["pool"] == "paired"


def is_in(row: dict) -> bool:
    """Whether a row takes part: an included pair, or a subject with one image for the pools."""
    return row["status"] == "included"


def pool(rows: list[dict], task: str, side: str) -> list[str]:
    """Pseudonyms of the subjects who have only one side (source or target) of a task, sorted.

    Subjects whom the user's sheet set aside for validation or test are not among them: pools are
    for training.
    """
    return sorted(
        row["subject"]
        for row in rows
        if row["task"] == task
        and is_in(row)
        and row["pool"] == side
        and row["split"] in ("", "train")
    )


def paired(rows: list[dict], task: str) -> list[str]:
    """Pseudonyms of a task's included pairs, sorted."""
    return sorted(row["subject"] for row in rows if row["task"] == task and is_pair(row))


def members(rows: list[dict], task: str, wanted: str, fold: int, cohort: dict) -> list[str]:
    """Pseudonyms of a task's pairs that play the role ``wanted`` in a fold, sorted."""
    rule = {key: cohort[key] for key in ("folds", "test", "validation")}
    return sorted(
        row["subject"]
        for row in rows
        if row["task"] == task
        and is_pair(row)
        and role(float(row["unit"]), row["split"], fold, **rule) == wanted
    )


def trainees(rows: list[dict], task: str, fold: int, cohort: dict) -> list[str]:
    """Pseudonyms of a fold's training subjects.

    Raises:
        StudyError: If there is none, with the number of pairs in each role.
    """
    counts = {role: members(rows, task, role, fold, cohort) for role in ROLES}
    if not counts["train"]:
        found = ", ".join(f"{len(names)} {role}" for role, names in counts.items())
        raise StudyError(
            f"task '{task}', fold {fold} has nobody to train on ({found}); results/cohort/flow.tsv "
            "says who was left out and why. Change 'cohort.test', 'cohort.validation' or "
            "'cohort.folds', or set the column 'split' in config/cohort.tsv, then run "
            "`snakemake cohort`"
        )
    return counts["train"]


def empty_folds(path: Path, tasks: list[str], cohort: dict) -> list[str]:
    """What :func:`trainees` says of each fold that has nobody to train on; none without a sheet.

    Snakemake overlooks an error of an input function where the files exist already, so that old
    results would stand there as current ones.
    """
    said = []
    for task in tasks if path.exists() else []:
        for fold in range(cohort["folds"]):
            try:
                trainees(read_cohort(path), task, fold, cohort)
            except StudyError as error:
                said.append(str(error))
    return said


def find_row(rows: list[dict], task: str, subject: str) -> dict:
    """The row of an included pair, or of a subject of the pools.

    Raises:
        StudyError: If the task has no such subject.
    """
    for row in rows:
        if row["task"] == task and row["subject"] == subject and is_in(row):
            return row
    raise StudyError(
        f"subject '{subject}' is not included in task '{task}'; "
        "results/cohort/cohort.tsv lists all, with the reasons of those left out"
    )


def stack_names(image: str, stacks: int) -> list[str]:
    """Names of an image's stacks: the image's own name where there is one stack only."""
    return [image] if stacks == 1 else [f"{image}_stack-{n}" for n in range(1, stacks + 1)]


def stack_number(name: str) -> int:
    """The stack's number within its series, from 1."""
    match = STACK.fullmatch(name)
    return int(match[2]) if match else 1


def series_of(rows: list[dict], subject: str, name: str, bridges: dict[str, str | None]) -> str:
    """The series from which an image of a subject is converted.

    Args:
        rows: Of the cohort sheet.
        subject: Pseudonym.
        name: Image, with its stack where there are several.
        bridges: Task → name of its bridging image, or None.

    Raises:
        StudyError: If no task uses it, or two tasks chose different series for one image name.
    """
    match = STACK.fullmatch(name)
    image = match[1] if match else name
    found = {
        row[f"{side}_series"]
        for row in rows
        if row["subject"] == subject and is_in(row)
        for side in ("source", "target", "bridge")
        if (bridges.get(row["task"]) if side == "bridge" else row[side]) == image
    } - {""}
    if len(found) > 1:
        raise StudyError(
            f"tasks use different series of subject '{subject}' for image '{image}' "
            f"({', '.join(sorted(found))}); fix one in config/cohort.tsv"
        )
    if not found:
        raise StudyError(f"no task uses image '{image}' of subject '{subject}'")
    return found.pop()


def landmark_image(rows: list[dict], subject: str, image: str) -> str:
    """Name of the converted volume of ``image`` on which a subject's landmarks are looked for.

    Raises:
        StudyError: If no task of the subject uses that image.
    """
    for row in rows:
        for side in ("source", "target"):
            found = row["subject"] == subject and is_in(row) and row[side] == image
            if found and row[f"{side}_series"]:
                return stack_names(image, int(row[f"{side}_stacks"]))[0]
    raise StudyError(
        f"config key 'locate.image' = '{image}': no task uses it as source or target; "
        "name the image that holds the native CT"
    )


def flow(rows: list[dict], task: str) -> list[dict]:
    """A task's rows of the inclusion flow: status, code, number of subjects (persons) and rows."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row["task"] == task:
            key = (row["status"], row["pool"], row["code"])
            found.setdefault(key, []).append(person(row["subject"]))
    return [
        {
            **dict(zip(("status", "pool", "code"), key, strict=True)),
            "subjects": len(set(people)),
            "pairs": len(people),
        }
        for key, people in sorted(found.items())
    ]


def excluded(rows: list[dict]) -> list[dict]:
    """Subjects that the cohort left out of a task, with the reason."""
    keys = ("task", "subject", "code", "message")
    return [{key: row[key] for key in keys} for row in rows if not is_pair(row)]


def noted(rows: list[dict]) -> list[dict]:
    """Included pairs of which something is noted that may spoil them."""
    keys = ("task", "subject", "notes")
    return [{key: row[key] for key in keys} for row in rows if is_pair(row) and row.get("notes")]
