"""Measures of a result: what speaks for it and against it."""

from dataclasses import dataclass, replace

import numpy as np

from mrsynth.register import bone, search
from mrsynth.register.pair import Pair, View, field, reach
from mrsynth.register.similarity import Side, joint, overlap
from mrsynth.register.verdict import displacement, motion

BY_KIND = ("mirror", "sharpness")
"""Measures with a limit of their own where there are no landmarks of a spine."""

PEAK_SHIFT_MM = 3.0
"""Perturbation of the peak test: beyond the accuracy wanted, within the peak's width."""

RESTART_MM, RESTART_DEG = 10.0, 15.0
"""Shift and turn of the restarts: beyond any accuracy, within reach of an ascent."""

RESTART_SAMPLES = 8000
"""Samples of a restart: its end need not be finer than the 2.5 mm that are asked of it."""


@dataclass(frozen=True)
class Restarts:
    """Ends of searches begun beside a result, refined at the second level.

    Attributes:
        turned: Ends of the turned and shifted starts.
        levels: Ends of the starts about one vertebra up and down; empty where none are asked.
    """

    turned: list[search.Candidate]
    levels: list[search.Candidate]


def restart(pair: Pair, coarse: View, matrix: np.ndarray) -> Restarts:
    """Search again from poses around a result."""
    settings = pair.settings
    sides = coarse.sides(seed=settings.seed + 3)
    centre = search.centre_of(sides)
    around = search.perturbed(matrix, centre, RESTART_MM, RESTART_DEG)
    # A turn and a shift at once, so that six starts test all axes in both senses.
    mixed = [
        turned @ np.linalg.inv(matrix) @ moved
        for turned, moved in zip(around[:6], np.roll(around[6:], 2, axis=0), strict=True)
    ]
    steps = [sign * settings.level_shift_mm for sign in (-1, 1)] if settings.level_shift_mm else []
    moved = [search.shifted(matrix, step) for step in steps]
    quick = search.COARSE_TOLERANCE
    first = [search.refine(sides, pose, tolerance=quick).pose for pose in mixed]
    apart = [search.refine(sides, pose, tolerance=quick).pose for pose in moved]
    number = min(1, len(settings.levels_mm) - 1)
    view = pair.view(number, [matrix, *apart])
    sides = view.sides(seed=settings.seed + 3, count=RESTART_SAMPLES)
    return Restarts(
        [search.refine(sides, pose) for pose in first],
        [search.refine(sides, pose) for pose in apart],
    )


def agreement(pair: Pair, matrix: np.ndarray, again: Restarts) -> dict:
    """How far the restarts end from a result, and how near another level comes to it.

    Returns:
        ``restart_mm``: median over the turned starts of the ends' median distance from the result;
        ``restart_share``: share of them within the limit; ``level_rival``: rise over chance of the
        best end elsewhere, relative to the result's, None without one.
    """
    settings = pair.settings
    number = min(1, len(settings.levels_mm) - 1)
    poses = [end.pose for end in (*again.turned, *again.levels)]
    sides = pair.view(number, [matrix, *poses]).sides(seed=settings.seed + 3, count=RESTART_SAMPLES)
    world = search.world_of(sides)
    centre = world.mean(axis=0)
    # The same samples draw the result to their own peak: how far that is, is not asked here.
    peak = search.refine(sides, matrix).pose
    off = [float(np.median(displacement(end.pose, peak, world))) for end in again.turned]
    value = joint(sides, matrix)[0]
    far = search.perturbed(matrix, centre, 2 * search.APART_MM)
    floor = float(np.median([joint(sides, pose)[0] for pose in far]))
    elsewhere = [joint(sides, pose)[0] for pose in poses if search.distinct(pose, matrix, centre)]
    rival = (max(elsewhere) - floor) / max(value - floor, 1e-9) if elsewhere else None
    return {
        "restart_mm": float(np.median(off)),
        "restart_share": float(np.mean([part <= settings.accept_restart_mm for part in off])),
        "level_rival": rival,
    }


def measures(pair: Pair, coarse: View | None, matrix: np.ndarray, kind: str, thick=False) -> dict:
    """The signs of a pose that need no other pose.

    Args:
        pair: The images.
        coarse: Their view at the first level, for the overlap.
        matrix: The pose.
        kind: Of transform.
        thick: Average over the fixed slices' thickness.
    """
    settings = pair.settings
    number = min(1, len(settings.levels_mm) - 1)
    view = pair.view(number, [matrix])
    sides = view.sides(thick=thick)
    world = search.world_of(sides)
    centre = world.mean(axis=0)
    value = joint(sides, matrix)[0]
    chance = joint(_shuffled(sides, settings.seed), matrix)[0]
    others = [joint(sides, pose)[0] for pose in search.perturbed(matrix, centre, PEAK_SHIFT_MM)]
    halves = [
        search.refine(view.sides(seed=settings.seed + half, share=0.5, thick=thick), matrix).pose
        for half in (1, 2)
    ]
    found = {
        "engine": settings.engine,
        "transform": kind,
        "mi": value - chance,
        "overlap": common(coarse or view, matrix),
        "peak": float(np.mean([other < value for other in others])),
        "sharpness": float((value - np.mean(others)) / max(value - chance, 1e-9)),
        "repeat_mm": float(np.median(displacement(*halves, world))),
        **motion(matrix, world),
    }
    if pair.symmetric:
        ways = [
            search.refine(view.sides(ways=(way,)), matrix).pose for way in ("forward", "inverse")
        ]
        found["inverse_mm"] = float(np.median(displacement(*ways, world)))
    found["bone_mm"] = bone_distance(pair, view, matrix)
    return found


def mirror(pair: Pair, matrix: np.ndarray) -> float:
    """Information of the best pose near the mirrored result, over that of the result.

    A body is nearly the same left and right, so that a mirrored image and another patient fit well;
    the right pair must fit better than its own mirror image. All of the body counts, since near
    the spine's landmarks left and right differ least.
    """
    number = min(1, len(pair.settings.levels_mm) - 1)
    everywhere = replace(pair, roi=None)
    sides = everywhere.view(number, [matrix]).sides(count=RESTART_SAMPLES)
    centre = search.centre_of(sides)
    there = matrix[:3, :3] @ centre + matrix[:3, 3]
    across = np.diag([-1.0, 1, 1])
    floor = joint(_shuffled(sides, pair.settings.seed), matrix)[0]
    # Either header may have lost the patient's left and right to a turn.
    images = [
        search.about(across, there, there) @ matrix,
        matrix @ search.about(across, centre, centre),
    ]
    best = max(search.refine(sides, pose).value for pose in images)
    return (best - floor) / max(joint(sides, matrix)[0] - floor, 1e-9)


def common(view: View, matrix: np.ndarray) -> float:
    """Share of the smaller body that lies in the other image's field."""
    shares = [overlap(side, matrix) for side in view.sides()]
    return max(shares)


def bone_distance(pair: Pair, view: View, matrix: np.ndarray) -> float | None:
    """Distance between bone and bone, mm; None without exactly one CT or enough bone in it."""
    if pair.moving.ct == pair.fixed[0].ct:
        return None
    seed = pair.settings.seed
    if pair.moving.ct:
        box = reach(np.concatenate([field(layer.image) for layer in view.fixed]), [matrix])
        if pair.roi is not None:
            wide = pair.settings.roi_radius_mm
            low = np.maximum(box[0], pair.roi.min(axis=0) - wide)
            high = np.minimum(box[1], pair.roi.max(axis=0) + wide)
            box = (low, high) if np.all(high > low) else box
        return bone.bone_distance(pair.moving, pair.fixed, np.linalg.inv(matrix), box, seed)
    box = reach(field(view.moving.image), [np.linalg.inv(matrix)])
    return bone.bone_distance(pair.fixed[0], [pair.moving], matrix, box, seed)


def _shuffled(sides: tuple[Side, ...], seed: int) -> tuple[Side, ...]:
    """The same samples with their values permuted: the information that chance gives."""
    generator = np.random.default_rng(seed)
    return tuple(
        replace(
            side,
            groups=[
                replace(group, level=generator.permutation(group.level)) for group in side.groups
            ],
        )
        for side in sides
    )
