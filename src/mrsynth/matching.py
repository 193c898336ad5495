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
    chosen = (within or aligned or every)[0]
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


def visits(every: list[Pair], roles: dict, limits: Limits) -> list[tuple[str, dict]]:
    """Pairs that share neither a study nor a frame on either side, in the order of their days.

    A pair is formed on the day from which on both its series are there, so that a visit that
    comes later takes nothing from an earlier one. Pairs of unknown interval are none of them:
    without dates nobody can say which CT belongs to which MR.

    Returns:
        What tells the visit from others (pseudonyms of its studies), and entries of the table.
    """
    kept = [p for p in every if _aligned(p, roles) and p.days <= limits.days]
    used: set[tuple[str, str]] = set()
    found = []
    for pair in sorted(kept, key=lambda pair: (pair.later, pair.order)):
        own = occupied("source", pair.source) | occupied("target", pair.target)
        if own & used or math.isinf(pair.days):
            continue
        used |= own
        studies = f"{_study(pair.source)}\0{_study(pair.target)}"
        found.append((studies, _entries(pair, roles) | {"status": "included"}))
    return found


def occupied(side: str, row: dict) -> set[tuple[str, str]]:
    """What a chosen series takes up: no other visit's may be of its study or frame."""
    return {(side, _study(row))} | ({(side, row["frame"])} if row["frame"] else set())


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
