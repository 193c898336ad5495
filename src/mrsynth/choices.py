"""One person's rows of the cohort: which pair in which task, which visits, out of what.

A later task keeps the series that an earlier one chose for the same image of a subject, so that an
image is converted once.
"""

import math
from dataclasses import dataclass

from mrsynth import candidates, matching, pseudonym, wishes
from mrsynth.candidates import Barred, Candidate
from mrsynth.errors import StudyError
from mrsynth.matching import SIDES
from mrsynth.subjects import person

COLUMNS = [
    "task",
    "subject",
    "pool",
    "unit",
    "split",
    "source",
    "target",
    "source_series",
    "target_series",
    "source_stacks",
    "target_stacks",
    "bridge_series",
    "interval_days",
    "notes",
    "status",
    "code",
    "message",
]
CANDIDATE_COLUMNS = ["task", "subject", "side", "image", "rank", "series", "reason", "choice"]
SEEN_COLUMNS = ["kind", "kernel", "contrast", "fatsat", "notes"]
SEEN_COLUMNS += ["day", "spacing_mm", "slices", "extent_mm"]
"""Columns of the series table that stand beside a candidate, so that its reason can be checked."""

UNIT_DIGITS = 6
"""Digits of a person's place in [0, 1): finer than any cohort needs, short enough to read."""

SHARED_FRAME = "shared_frame"
"""Note on a person whose frame of reference is another one's as well: perhaps one and the same."""

Ranked = dict[str, tuple[list[Candidate], list[Barred]]]
"""Side → candidates, best first, and those that a setting bars."""

Pins = dict[str, dict[str, str]]
"""Subject (a person's visit) → image → the series that a task chose for it."""


@dataclass(frozen=True)
class Plan:
    """What holds for every subject.

    Attributes:
        images, tasks, key: As in :func:`mrsynth.cohort.build`.
        limits: What a pair must keep.
        ranking: Settings of :func:`mrsynth.candidates.find`.
        visits: ``best`` or ``all``.
        lines: The user's sheet by subject and task.
    """

    images: dict[str, dict]
    tasks: dict[str, dict]
    key: bytes
    limits: matching.Limits
    ranking: dict
    visits: str
    lines: dict[tuple[str, str], dict]


def rows_of(
    subject: str, own: list[dict], plan: Plan, reason: dict[str, str] | None, shared: bool
) -> tuple[list[dict], list[dict]]:
    """One person's rows of the cohort table and of the candidates, over all tasks.

    Args:
        subject: The person's pseudonym.
        own: The person's rows of the series table.
        plan: What holds for every subject.
        reason: ``code`` and ``message`` of who is out in every task, or None.
        shared: Whether another person has the same frame of reference.
    """
    place = math.floor(pseudonym.unit(plan.key, subject) * 10**UNIT_DIGITS) / 10**UNIT_DIGITS
    said = {task: wishes.wish(plan.lines, subject, task) for task in plan.tasks}
    out = {task for task in plan.tasks if reason or said[task]["exclude"].lower() in wishes.YES}
    ranked = {
        task: {side: _find(own, roles[side], plan) for side in SIDES}
        for task, roles in plan.tasks.items()
    }
    inside = {task: part for task, part in ranked.items() if task not in out}
    visits, owner = _visits(subject, inside, {task: said[task] for task in inside}, plan)
    pins: Pins = {subject: {}} | {name: dict(visit.images) for name, visit in visits.items()}
    rows, seen = [], []
    for task, roles in plan.tasks.items():
        found = [
            _judged(_base(task, name, roles) | visit.entries[task], task, roles, plan)
            for name, visit in visits.items()
            if task in visit.entries
        ]
        if task in out:
            found = [_base(task, subject, roles) | (reason or _by_sheet(said[task]))]
        elif not found:
            spare = _spare(ranked[task], subject, owner)
            found = [_task(subject, task, own, spare, said[task], pins, plan)]
        for row in found:
            if shared:
                row["notes"] = ",".join(filter(None, [row["notes"], SHARED_FRAME]))
            row |= {"unit": f"{place:.{UNIT_DIGITS}f}", "split": said[task]["split"]}
        rows += found
        seen += _seen(subject, task, own, ranked[task], found, said[task], plan)
    for name in pins:
        _add_bridges([row for row in rows if row["subject"] == name], own, plan)
    return rows, seen


def _task(
    subject: str, task: str, own: list[dict], ranked: Ranked, wish: dict, pins: Pins, plan: Plan
) -> dict:
    """One person's row in one task; the series chosen go into ``pins``, by subject and image."""
    roles = plan.tasks[task]
    said = {f"{side}_series": wish[f"{side}_series"] for side in SIDES}
    row = _one(subject, task, own, ranked, wish | _pinned(said, pins[subject], roles), plan)
    if row["status"] == "included":
        chosen = {roles[s]: row[f"{s}_series"] for s in SIDES if row[f"{s}_series"]}
        pins[subject] = pins[subject] | chosen
    return row


def _judged(row: dict, task: str, roles: dict, plan: Plan) -> dict:
    """The row of a visit, left out if the sheet says so of that visit alone."""
    name = row["subject"]
    wish = wishes.wish(plan.lines, name, task)
    if name != person(name) and wish["exclude"].lower() in wishes.YES:
        return _base(task, name, roles) | _by_sheet(wish)
    return row


def _pinned(said: dict[str, str], pins: dict[str, str], roles: dict) -> dict[str, str]:
    """The series that must be taken: the sheet's, else those that an earlier task chose."""
    return {f"{side}_series": said[f"{side}_series"] or pins.get(roles[side], "") for side in SIDES}


def _visits(
    subject: str, ranked: dict[str, Ranked], wish: dict[str, dict], plan: Plan
) -> tuple[dict[str, matching.Visit], dict[str, str]]:
    """A person's visits by name, and the name that owns each study and frame.

    Args:
        subject: The person's pseudonym.
        ranked: Task → candidates; only tasks that the person is in.
        wish: Task → what the sheet says. Who is given series or an interval has that one pair.
        plan: What holds for every subject.

    Raises:
        StudyError: If two visits get one name.
    """
    fixed = ("interval_days", "source_series", "target_series")
    if plan.visits == "best" or any(said[name] for said in wish.values() for name in fixed):
        return {}, {}
    every = {
        task: matching.pairs({side: own[side][0] for side in SIDES}) for task, own in ranked.items()
    }
    found, owner = matching.visits(every, plan.tasks, plan.limits)
    names: dict[str, matching.Visit] = {}
    for visit in found:
        name = pseudonym.visit(plan.key, subject, visit.studies) if names else subject
        if name in names:
            raise StudyError(f"two visits get the name '{name}'; use another key ('private/key')")
        names[name] = visit
    called = {id(visit): name for name, visit in names.items()}
    return names, {mark: called[id(visit)] for mark, visit in owner.items()}


def _spare(ranked: Ranked, subject: str, owner: dict[str, str]) -> Ranked:
    """Candidates without those of further visits."""
    return {
        side: (
            [
                c
                for c in own
                if {owner.get(m, subject) for m in matching.places(c.row)} == {subject}
            ],
            barred,
        )
        for side, (own, barred) in ranked.items()
    }


def _base(task: str, subject: str, roles: dict) -> dict:
    images = {side: roles[side] for side in SIDES}
    row = dict.fromkeys(COLUMNS, "") | {"task": task, "subject": subject, "pool": "paired"}
    return row | images | {"status": "excluded"}


def _by_sheet(wish: dict) -> dict[str, str]:
    return {"code": "EXCLUDED_BY_SHEET", "message": wish["reason"]}


def _one(name: str, task: str, own: list[dict], ranked: Ranked, wish: dict, plan: Plan) -> dict:
    """The row of one pair, or of why there is none; without unit and split."""
    roles = plan.tasks[task]
    found, barred = {}, {}
    for side in SIDES:
        found[side], barred[side] = ranked[side]
        if wish[f"{side}_series"]:
            found[side] = _named(own, wish[f"{side}_series"])
    if not all(found.values()):
        told = matching.missing(found, barred, own, wish, roles, plan.images)
    else:
        told = matching.best(matching.pairs(found, wish["interval_days"]), roles, plan.limits)
    return _base(task, name, roles) | told


def _named(own: list[dict], series: str) -> list[Candidate]:
    rows = [row for row in own if row["status"] == "used" and row["series"] == series]
    return [Candidate(row, 0, "") for row in rows]


def _find(own: list[dict], image: str, plan: Plan, **other) -> tuple[list[Candidate], list[Barred]]:
    return candidates.find(own, image, plan.images[image], **plan.ranking | other)


def _add_bridges(rows: list[dict], own: list[dict], plan: Plan) -> None:
    """Give a subject's pairs the series in the target's frame that eases their registration.

    An image is converted from one series, so a bridge that some pair has as its source or target,
    or an earlier pair as its bridge, is that very series or none.
    """
    pairs = [row for row in rows if row["status"] == "included" and row["pool"] == "paired"]
    used = {row[side]: row[f"{side}_series"] for row in pairs for side in SIDES}
    for row in pairs:
        bridge = plan.tasks[row["task"]].get("bridge")
        if not bridge:
            continue
        target = next(line for line in own if line["series"] == row["target_series"])
        series = used.get(bridge, "")
        found = _named(own, series) if series else _find(own, bridge, plan, coverage=0.0)[0]
        near = [c.row["series"] for c in found if matching.same_frame(c.row, target)]
        if near:
            row["bridge_series"] = used[bridge] = near[0]


def _seen(
    subject: str,
    task: str,
    own: list[dict],
    ranked: Ranked,
    rows: list[dict],
    wish: dict,
    plan: Plan,
) -> list[dict]:
    """Rows of the candidates of one person in one task, of which ``rows`` came."""
    roles, seen = plan.tasks[task], []
    twins = candidates.twins(own)
    for side in SIDES:
        image = roles[side]
        found, barred = ranked[side]
        chosen = {row[f"{side}_series"]: row for row in rows if row["status"] == "included"}
        lines = [(str(n), c.row, c.reason) for n, c in enumerate(found, start=1)]
        lines += [("", one.row, f"{one.code}: {one.reason}") for one in barred]
        listed = {row["series"] for _, row, _ in lines}
        for row in own:
            named = row["series"] in chosen and row["series"] not in listed
            lost = row["status"] == "refused" and candidates.matches(
                row, plan.images[image], strict=False
            )
            if named or lost:
                lines.append(("", row, f"refused: {row['code']}" if lost else "no such image"))
        for rank, row, reason in lines:
            if row["series"] in twins:
                reason += f"; same grid and settings as {twins[row['series']]} (copy or repeat)"
            choice = _choice(row["series"], rank, chosen, wish[f"{side}_series"])
            head = (task, subject, side, image, rank, row["series"], reason, choice)
            cells = {name: row.get(name, "") for name in SEEN_COLUMNS}
            seen.append(dict(zip(CANDIDATE_COLUMNS, head, strict=True)) | cells)
    return seen


def _choice(series: str, rank: str, chosen: dict, named: str) -> str:
    """Whether a series is chosen, and why although others rank before it."""
    if series not in chosen:
        return ""
    if len(chosen) > 1:
        return f"chosen for {chosen[series]['subject']}"
    if series == named:
        return "chosen: the sheet names it"
    return "chosen" if rank == "1" else "chosen: nearest in time, or another task's choice"
