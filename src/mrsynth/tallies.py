"""Who is in, in the closing summary: subjects and slices by role, and what was noted of them."""

from collections import Counter

from mrsynth.prose import by, count, paragraphs
from mrsynth.roles import POOLS, ROLES
from mrsynth.subjects import person

SHOWN = 12
"""Subjects named for a note before the rest is counted; cohort.tsv has all."""


def images(packs: list[dict]) -> list[str]:
    """A line per task and fold: subjects and slices of each role, and the pixels' size."""
    lines = []
    for (task, fold), part in by([p for p in packs if "role" in p], ("task", "fold")).items():
        roles = [
            f"{pack['role'].replace('_', ' ')} {count(pack['subjects'], 'subject')} with "
            f"{count(pack['slices'], 'slice')}{_each(pack)}{_doubtful(pack)}"
            for pack in sorted(part, key=lambda pack: (*ROLES, *POOLS).index(pack["role"]))
        ]
        size = f"; pixels of {part[0]['pixel_mm']:.2f} mm" if part[0].get("pixel_mm") else ""
        lines.append(f"- {task}, fold {fold}: {', '.join(roles)}{size}")
    return ["## Images", paragraphs(lines)] if lines else []


def _doubtful(pack: dict) -> str:
    number = pack.get("slices_by_verdict", {}).get("review", 0)
    return f" ({number} with the verdict review)" if number else ""


def _each(pack: dict) -> str:
    """Slice pairs per subject, as the papers give them: mean and range."""
    each: Counter = Counter()
    for name, number in pack.get("slices_by_subject", {}).items():
        each[person(name)] += number
    if len(each) < 2:
        return ""
    mean = sum(each.values()) / len(each)
    return f", {mean:.2f} a subject ({min(each.values())}–{max(each.values())})"


def noted(rows: list[dict]) -> list[str]:
    """What spoils included pairs, by task and note, with their subjects.

    Args:
        rows: ``task``, ``subject`` and ``notes`` of the cohort table's included pairs.
    """
    found = [
        {"task": row["task"], "note": note, "subject": row["subject"]}
        for row in rows
        for note in filter(None, row["notes"].split(","))
    ]
    lines = []
    for (task, note), part in sorted(by(found, ("task", "note")).items()):
        names = sorted({row["subject"] for row in part})
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines.append(f"- {task}, {note}: {', '.join(names[:SHOWN])}{more}")
    if not lines:
        return []
    told = "'cohort.exclude_notes' leaves such series out; results/cohort/cohort.tsv names all"
    return ["## Included, but noted", paragraphs([*lines, f"- Remedy: {told}"])]
