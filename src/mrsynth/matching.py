"""Which source goes with which target: the interval, the frame of reference, repeat visits."""

import math
from dataclasses import dataclass

from mrsynth.candidates import Barred, Candidate, notes, refused

SIDES = ("source", "target")


@dataclass(frozen=True)
class Limits:
    """What a pair must keep.

    Attributes:
        days: Largest interval between source and target.
        unknown: Take pairs without dates.
    """

    days: int = 3
    unknown: bool = False


@dataclass(frozen=True)
class Pair:
    """A source and a target of one subject.

    Attributes:
        source, target: Rows of the series table.
        days: Interval; infinite if unknown.
        order: Places in the ranking and how good the two are, for choosing.
    """

    source: dict
    target: dict
    days: float
    order: tuple

    @property
    def later(self) -> float:
        """Day from which on both are there; infinite without dates."""
        days = [row["day"] for row in (self.source, self.target)]
        return max(map(int, days)) if all(days) else math.inf


def pairs(found: dict[str, list[Candidate]], interval: str = "") -> list[Pair]:
    """All pairs of two lists of candidates, best first.

    Fragments and reformats come last; then the smallest interval counts, then the places in the
    ranking.

    Args:
        found: ``source`` and ``target``, each best first.
        interval: The user's interval in days, or empty.
    """
    every = []
    for i, source in enumerate(found["source"]):
        for j, target in enumerate(found["target"]):
            days = _interval(source.row, target.row, interval)
            order = (source.grade + target.grade, days, i + j, i, j)
            every.append(Pair(source.row, target.row, days, order))
    return sorted(every, key=lambda pair: pair.order)


def best(every: list[Pair], roles: dict, limits: Limits) -> dict:
    """Entries of the cohort table for the best pair, or for the nearest with the reason against it.

    Args:
        every: Of :func:`pairs`; at least one.
        roles: The task's images and its alignment.
        limits: What a pair must keep.
    """
    aligned = [pair for pair in every if _aligned(pair, roles)]
    within = [pair for pair in aligned if pair.days <= limits.days]
    undated = [pair for pair in aligned if limits.unknown and math.isinf(pair.days)]
    chosen = (within or undated or aligned or every)[0]
    entries = _entries(chosen, roles)
    if not aligned:
        return entries | {
            "code": "FRAME",
            "message": "'alignment: none', but source and target do not share a frame of reference",
        }
    if math.isinf(chosen.days) and not limits.unknown:
        return entries | {
            "code": "UNKNOWN_INTERVAL",
            "message": "source or target has no date; set interval_days in config/cohort.tsv, or "
            "'cohort.allow_unknown_interval: true'",
        }
    if not math.isinf(chosen.days) and chosen.days > limits.days:
        nearest = min(aligned, key=lambda pair: pair.days)
        return _entries(nearest, roles) | {
            "code": "INTERVAL",
            "message": f"{nearest.days} days between source and target, at most {limits.days} "
            "allowed",
        }
    return entries | {"status": "included"}


@dataclass
class Visit:
    """A source and a target of each task that a person's visit has.

    Attributes:
        studies: What tells the visit from others: pseudonyms of the studies of its first pair.
        entries: Task → entries of the cohort table.
        images: Image → series.
    """

    studies: str
    entries: dict[str, dict]
    images: dict[str, str]


def visits(
    every: dict[str, list[Pair]], tasks: dict[str, dict], limits: Limits
) -> tuple[list[Visit], dict[str, Visit]]:
    """Visits that share neither a study nor a frame, in the order of their days.

    A pair is formed on the day from which on both its series are there, over all tasks together,
    so that a scan that comes later takes nothing from an earlier visit and changes none. It joins
    the visit that owns a study or frame of its series, if its series are the visit's; where nobody
    owns any, it begins a visit. Pairs of unknown interval are left out: without dates nobody can
    say which CT belongs to which MR.

    Args:
        every: Task → pairs of one person (:func:`pairs`).
        tasks: Task → images and alignment.
        limits: What a pair must keep.

    Returns:
        The visits, and the owner of each study and frame.
    """
    order = list(tasks)
    events = [
        (pair.later, order.index(task), pair.order, task, pair)
        for task, own in every.items()
        for pair in own
        if _aligned(pair, tasks[task]) and pair.days <= limits.days and not math.isinf(pair.days)
    ]
    found: list[Visit] = []
    owner: dict[str, Visit] = {}
    for *_, task, pair in sorted(events, key=lambda event: event[:3]):
        roles = tasks[task]
        images = {roles["source"]: pair.source["series"], roles["target"]: pair.target["series"]}
        marks = places(pair.source) | places(pair.target)
        owners = {id(owner[mark]): owner[mark] for mark in marks if mark in owner}
        if len(owners) > 1:
            continue
        visit = next(iter(owners.values()), None)
        if visit is None:
            visit = Visit(f"{_study(pair.source)}\0{_study(pair.target)}", {}, {})
            found.append(visit)
        if task in visit.entries or any(visit.images.get(i, s) != s for i, s in images.items()):
            continue
        visit.entries[task] = _entries(pair, roles) | {"status": "included"}
        visit.images |= images
        owner |= dict.fromkeys(marks, visit)
    return found, owner


def places(row: dict) -> set[str]:
    """What a series takes up for its visit: its study and its frame of reference."""
    return {_study(row)} | ({row["frame"]} if row["frame"] else set())


def missing(
    found: dict[str, list[Candidate]],
    barred: dict[str, list[Barred]],
    own: list[dict],
    wish: dict,
    roles: dict,
    images: dict,
) -> dict:
    """Entries of the cohort table where a side has no candidate: excluded, or an unpaired pool."""
    lost = [side for side in SIDES if not found[side]]
    for side in lost:
        problem = refused(own, images[roles[side]], wish[f"{side}_series"])
        if problem is not None:
            message = f"{roles[side]}: {problem['code']}: {problem['message']}"
            return {"code": "REFUSED_SERIES", "message": message}
        if barred[side]:
            first = barred[side][0]
            return {"code": first.code, "message": f"{roles[side]}: {first.reason}"}
    if len(lost) == 2:
        return {"pool": "", "code": "NO_SOURCE_NO_TARGET", "message": "neither image is there"}
    side, other = ("target", "source") if "target" in lost else ("source", "target")
    row = found[other][0].row
    return {
        "pool": other,
        f"{other}_series": row["series"],
        f"{other}_stacks": row["stacks"],
        "notes": ",".join(sorted(f"{roles[other]}:{word}" for word in notes(row))),
        "status": "included",
        "code": f"NO_{side.upper()}",
        "message": f"no series is a {roles[side]}; in the unpaired pool only",
    }


def same_frame(one: dict, other: dict) -> bool:
    """Whether two series say that they share their coordinates."""
    return one["frame"] == other["frame"] != ""


def _aligned(pair: Pair, roles: dict) -> bool:
    return roles.get("alignment") != "none" or same_frame(pair.source, pair.target)


def _entries(pair: Pair, roles: dict) -> dict:
    words = {f"{roles[side]}:{word}" for side in SIDES for word in notes(getattr(pair, side))}
    return {
        "source_series": pair.source["series"],
        "target_series": pair.target["series"],
        "source_stacks": pair.source["stacks"],
        "target_stacks": pair.target["stacks"],
        "interval_days": "" if math.isinf(pair.days) else str(pair.days),
        "notes": ",".join(sorted(words)),
    }


def _study(row: dict) -> str:
    return row["study"] or row["series"]


def _interval(source: dict, target: dict, wish: str) -> float:
    """Days between two series: the user's, else by the dates; 0 within one study without dates."""
    if wish:
        return abs(int(wish))
    if source["day"] and target["day"]:
        return abs(int(target["day"]) - int(source["day"]))
    return 0 if source["study"] == target["study"] != "" else math.inf
