"""Roles of a fold: train, validation and test, from a person's place in [0, 1)."""

import math

from mrsynth.errors import StudyError

ROLES = ("train", "validation", "test")

POOLS = ("source_pool", "target_pool")
"""Roles of the subjects who have only one side: images to train on unpaired."""


def role(unit: float, split: str, fold: int, *, folds: int, test: float, validation: float) -> str:
    """A subject's role in a fold: ``train``, ``validation`` or ``test``.

    The user's split wins in every fold. With one fold (hold-out) the subjects below ``test`` are
    tested, those below ``test + validation`` validate. With k ≥ 2 folds the subjects fall into k
    buckets, floor(k · unit); bucket ``fold`` is tested; with k ≥ 3 the next bucket (cyclically)
    validates; with k = 2 a share ``validation`` of the other bucket does, chosen by the place
    within the bucket. ``test`` counts only in the hold-out, ``validation`` not from three folds on.

    Args:
        unit: The person's place in [0, 1).
        split: Empty, or the user's choice.
        fold: From 0.
        folds: Number of folds, 1 for a hold-out.
        test: Share of test subjects.
        validation: Share of validation subjects.

    Raises:
        StudyError: If there is no such fold.
    """
    if not 0 <= fold < folds:
        raise StudyError(f"fold '{fold}' does not exist; config key 'cohort.folds' = {folds}")
    if split:
        return split
    if folds == 1:
        return "test" if unit < test else "validation" if unit < test + validation else "train"
    bucket = math.floor(unit * folds)
    if bucket == fold:
        return "test"
    if folds > 2:
        return "validation" if bucket == (fold + 1) % folds else "train"
    return "validation" if unit * folds - bucket < validation else "train"
