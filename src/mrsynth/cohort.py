"""`cohort`: who is in a task, with which series, and why others are not.

Folds come from a keyed hash of the person, never from rank, so that a new patient never moves an
old one. The user's sheet outranks every rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mrsynth import choices, demographics, flow, matching, wishes
from mrsynth.errors import StudyError
from mrsynth.matching import SIDES
from mrsynth.notes import NOTES
from mrsynth.roles import ROLES, role

KNOWN_NOTES = ("contrast", "fatsat", *NOTES)
"""Words of ``cohort.exclude_notes``: two columns of the series table, and what is in a third."""


@dataclass
class Cohort:
    """Tables of text.

    Attributes:
        rows: One row per task and subject; a person's further visits are subjects of their own.
        candidates: One row per task, person, side and series that could have been chosen.
        flow: Inclusion, step by step.
        demographics: Who they are, in groups.
        warnings: Sentences for the log, without names.
    """

    rows: pd.DataFrame
    candidates: pd.DataFrame
    flow: pd.DataFrame
    demographics: pd.DataFrame
    warnings: list[str] = field(default_factory=list)


def build(
    series: pd.DataFrame,
    sheet: pd.DataFrame | None,
    images: dict[str, dict],
    tasks: dict[str, dict],
    *,
    key: bytes,
    persons: pd.DataFrame | None = None,
    files: pd.DataFrame | None = None,
    listed: Mapping[str, int] | None = None,
    max_interval_days: int = 3,
    allow_unknown_interval: bool = False,
    visits: str = "best",
    coverage: float = 0.8,
    ct_min_spacing_mm: float = 0.6,
    ct_max_spacing_mm: float | None = None,
    mr_max_spacing_mm: float | None = None,
    exclude_notes: list[str] = (),
    min_age_years: float | None = None,
    max_age_years: float | None = None,
    sex: str | None = None,
    unknown_person: str = "exclude",
    min_cell: int = 3,
    folds: int = 1,
    test: float = 0.2,
    validation: float = 0.2,
) -> Cohort:
    """Choose each subject's series for each task.

    A series belongs to an image if every key that the image sets (modality, weighting, plane, …)
    is the same; of several, :mod:`mrsynth.candidates` says which comes first. Of all pairs of
    source and target that with the smallest interval is taken, then the one ranked first. A later
    task keeps the series that an earlier one chose for the same image of a subject, so that an
    image is converted once.

    Args:
        series: The series table of `index`, cells as text.
        sheet: The user's sheet (:func:`mrsynth.wishes.read_sheet`) or None.
        images: Image name → keys to match; a key that is null accepts anything.
        tasks: Task → ``source``, ``target``, ``bridge`` (image names; bridge may be null), and
            ``alignment``: ``register``, or ``none`` where both sides must share their frame of
            reference.
        key: The study's secret.
        persons: Ages and sexes (:func:`mrsynth.demographics.read_persons`) or None.
        files: The file table of `index`, for the flow, or None.
        listed: Pseudonyms on the exclusion list, with their lines there.
        max_interval_days: Largest interval between source and target (Lee 2020: three days).
        allow_unknown_interval: Take pairs without dates.
        visits: ``best``: one pair per person. ``all``: every pair of further visits as well, as a
            subject of its own with the person's place.
        coverage, ct_min_spacing_mm, ct_max_spacing_mm, mr_max_spacing_mm, exclude_notes: See
            :func:`mrsynth.candidates.find`.
        min_age_years, max_age_years: Ages that are in, both included; None is no limit.
        sex: ``F`` or ``M`` where only these are in; None takes all.
        unknown_person: ``exclude`` or ``include`` whose age or sex a limit asks for and no header
            tells.
        min_cell: Smallest count that the demographics print.
        folds: Number of folds; 1 is a hold-out.
        test: Share of test subjects (hold-out).
        validation: Share of validation subjects (hold-out, or two folds).

    Raises:
        StudyError: If the sheet or the settings contradict themselves or the index.
    """
    _check_settings(folds, test, validation, min_age_years, max_age_years, exclude_notes, images)
    everything, series = series, series[series["subject"] != ""]
    sheet = wishes.check(sheet, series, tasks)
    people = demographics.by_person(persons)
    limits = demographics.Limits(min_age_years, max_age_years, sex, unknown_person == "include")
    plan = choices.Plan(
        images=images,
        tasks=tasks,
        key=key,
        limits=matching.Limits(max_interval_days, allow_unknown_interval),
        ranking={
            "coverage": coverage,
            "ct_min_spacing_mm": ct_min_spacing_mm,
            "ct_max_spacing_mm": ct_max_spacing_mm,
            "mr_max_spacing_mm": mr_max_spacing_mm,
            "exclude_notes": list(exclude_notes),
        },
        visits=visits,
        lines=wishes.lines(sheet),
    )
    shared = _shared_frames(series)
    listed, rows, seen = listed or {}, [], []
    for subject, part in series.groupby("subject", sort=True):
        reason = demographics.outside(people.get(subject), limits)
        if subject in listed:
            reason = {"code": "LISTED", "message": "on the exclusion list"}
        own = choices.rows_of(subject, part.to_dict("records"), plan, reason, subject in shared)
        rows += own[0]
        seen += own[1]
    order = list(tasks)
    rows.sort(key=lambda row: (order.index(row["task"]), row["subject"]))
    wishes.check_visits(sheet, {row["subject"] for row in rows})
    table = pd.DataFrame(rows, columns=choices.COLUMNS, dtype=str)
    candidates = pd.DataFrame(
        seen, columns=choices.CANDIDATE_COLUMNS + choices.SEEN_COLUMNS, dtype=str
    )
    rule = {"folds": folds, "test": test, "validation": validation}
    groups = _groups(table, rule)
    return Cohort(
        table,
        candidates,
        flow.table(table, everything, files, groups),
        demographics.table(table, series, people, groups, min_cell=min_cell),
        _warnings(shared, listed, set(series["subject"])),
    )


def read_table(path: str | Path) -> pd.DataFrame:
    """A table separated by tabs, every cell as text."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """A table of text, separated by tabs."""
    table.to_csv(path, sep="\t", index=False, lineterminator="\n")


def _check_settings(folds, test, validation, youngest, oldest, exclude_notes, images) -> None:
    if folds == 1 and test + validation >= 1:
        raise StudyError(
            f"config keys 'cohort.test' = {test} and 'cohort.validation' = {validation} leave "
            "nobody to train on; their sum must be below 1"
        )
    if youngest is not None and oldest is not None and youngest > oldest:
        raise StudyError(
            f"config keys 'cohort.min_age_years' = {youngest} and 'cohort.max_age_years' = "
            f"{oldest} leave nobody; swap them"
        )
    for entry in exclude_notes:
        image, _, word = entry.rpartition(":")
        if word not in KNOWN_NOTES:
            raise StudyError(
                f"config key 'cohort.exclude_notes' holds '{entry}', which is no note; there are "
                f"{', '.join(KNOWN_NOTES)}"
            )
        if image and image not in images:
            raise StudyError(
                f"config key 'cohort.exclude_notes' holds '{entry}', but there is no image "
                f"'{image}'; there are {', '.join(images)}"
            )


def _shared_frames(series: pd.DataFrame) -> set[str]:
    """Persons one of whose frames of reference is another one's too."""
    used = series[(series["status"] == "used") & (series["frame"] != "")]
    count = used.groupby("frame")["subject"].nunique()
    return set(used.loc[used["frame"].isin(count[count > 1].index), "subject"])


def _warnings(shared: set[str], listed: Mapping[str, int], known: set[str]) -> list[str]:
    """Sentences for the log."""
    said = []
    absent = sorted(line for subject, line in listed.items() if subject not in known)
    if absent:
        said.append(
            f"exclude.tsv, line {', '.join(map(str, absent))}: nobody in the export has this "
            "patient ID; if it is mistyped, the person is still in"
        )
    if not shared:
        return said
    return [
        *said,
        f"{len(shared)} subjects share a frame of reference with another one (note "
        f"'{choices.SHARED_FRAME}' in results/cohort/cohort.tsv): they may be one person under two "
        "patient IDs, then link these in private/links.tsv; or an anonymiser gave all one UID",
    ]


def _groups(table: pd.DataFrame, rule: dict) -> dict[str, dict[str, pd.DataFrame]]:
    """Task → group → included rows: all pairs, those of each role or fold, the unpaired pools."""
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for task, own in table.groupby("task", sort=False):
        kept = own[own["status"] == "included"]
        pairs = kept[kept["pool"] == "paired"]
        groups = {"paired": pairs}
        for fold in range(rule["folds"]):
            roles = [
                role(float(unit), split, fold, **rule)
                for unit, split in zip(pairs["unit"], pairs["split"], strict=True)
            ]
            names = ROLES if rule["folds"] == 1 else ("test",)
            for name in names:
                label = name if rule["folds"] == 1 else f"fold {fold}"
                groups[label] = pairs.loc[[one == name for one in roles]]
        for pool in SIDES:
            groups[f"{pool} only"] = kept[kept["pool"] == pool]
        found[task] = groups
    return found
