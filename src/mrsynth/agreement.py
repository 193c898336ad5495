"""How far two readers agree: raw agreement, Cohen's kappa, and the distance of moved points."""

import itertools

import numpy as np
import pandas as pd

from mrsynth.verdicts import last_words, reader_key

COLUMNS = [
    *("task", "first", "second", "stacks", "agreement", "kappa"),
    *("points", "distance_mm", "distance_max_mm"),
]


def kappa(first: list[str], second: list[str]) -> tuple[float, float]:
    """Raw agreement and Cohen's kappa of two readers over the same items.

    Cohen (1960), Educ Psychol Meas 20:37–46, equation 1: κ = (p_o − p_e) / (1 − p_e), unweighted;
    p_e from either reader's own shares of each verdict.

    Args:
        first: One reader's verdicts.
        second: The other's, in the same order.

    Returns:
        Agreement from 0 to 1 and kappa; NaN where there are no items, and for kappa where chance
        alone would agree always (both readers gave one and the same verdict to everything).
    """
    if len(first) != len(second):
        raise ValueError("two readers need verdicts on the same items")
    if not first:
        return float("nan"), float("nan")
    count = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / count
    chance = sum(first.count(v) * second.count(v) for v in set(first) | set(second)) / count**2
    if chance == 1:
        return observed, float("nan")
    return observed, (observed - chance) / (1 - chance)


def agreement(review: pd.DataFrame, task: str, stacks: dict[str, int]) -> pd.DataFrame:
    """Agreement of every pair of readers of a task.

    Args:
        review: Table of :func:`mrsynth.verdicts.read_review`.
        task: Name of the task.
        stacks: Number of stacks by subject: what there was to judge.

    Returns:
        One row per pair of readers, columns ``COLUMNS``: readers are numbered in the order in which
        they first appear in the file, so that no name leaves it; ``stacks`` that both judged;
        ``points`` that both moved, with the median and largest distance of their positions, mm.
    """
    rows = review[(review["task"] == task) & review["subject"].isin(list(stacks))]
    readers = list(dict.fromkeys(review["reader"].map(reader_key)))
    said = _said(rows[rows["verdict"] != ""], stacks)
    placed = _placed(rows[rows["disc"] != ""])
    table = []
    for one, other in itertools.combinations(readers, 2):
        both = sorted(said.get(one, {}).keys() & said.get(other, {}).keys())
        raw, chance_free = kappa([said[one][k] for k in both], [said[other][k] for k in both])
        points = sorted(placed.get(one, {}).keys() & placed.get(other, {}).keys())
        if not both and not points:
            continue
        apart = [float(np.linalg.norm(placed[one][k] - placed[other][k])) for k in points]
        table.append(
            {
                "task": task,
                "first": readers.index(one) + 1,
                "second": readers.index(other) + 1,
                "stacks": len(both),
                "agreement": raw,
                "kappa": chance_free,
                "points": len(points),
                "distance_mm": float(np.median(apart)) if apart else float("nan"),
                "distance_max_mm": max(apart, default=float("nan")),
            }
        )
    return pd.DataFrame(table, columns=COLUMNS)


def write_agreement(table: pd.DataFrame, path) -> None:
    """Write the table as TSV; empty cells where a number isn't defined."""
    table.to_csv(path, sep="\t", index=False, float_format="%.3f")


def _said(rows: pd.DataFrame, stacks: dict[str, int]) -> dict[str, dict[tuple, str]]:
    """Reader → (subject, stack) → his last verdict."""
    said: dict[str, dict[tuple, str]] = {}
    for subject, own in rows.groupby("subject"):
        for stack in range(1, stacks[subject] + 1):
            for reader, verdict in last_words(own, stack).items():
                said.setdefault(reader, {})[subject, stack] = verdict
    return said


def _placed(rows: pd.DataFrame) -> dict[str, dict[tuple, np.ndarray]]:
    """Reader → (subject, disc, point) → his last position, mm."""
    placed: dict[str, dict[tuple, np.ndarray]] = {}
    for row in rows.to_dict("records"):
        place = np.array([row["x_mm"], row["y_mm"], row["z_mm"]], dtype=float)
        key = (row["subject"], row["disc"], row["point"])
        placed.setdefault(reader_key(row["reader"]), {})[key] = place
    return placed
