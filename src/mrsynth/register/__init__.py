"""Registration by mutual information: whole volumes, or a set of thick angled stacks onto one
volume.

A scan over many turns and shifts (headers are not trusted) on a coarse grid, gradient ascent from
the best of them, then finer levels. Whole volumes are measured with samples of both images, so
that neither direction is favoured. Stacks are first registered jointly as one rigid body, then
each on its own by a small rigid search, because the spine bends between two scanners' tables.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from mrsynth.register import search, weigh
from mrsynth.register.engines import engine_pose
from mrsynth.register.mask import picture_mask
from mrsynth.register.pair import Hopeless, Pair, View
from mrsynth.register.prepare import Picture, common_span
from mrsynth.register.settings import Settings
from mrsynth.register.similarity import joint
from mrsynth.register.start import apart, scan, turns
from mrsynth.register.targets import targets
from mrsynth.register.verdict import displacement, gates, judge, motion
from mrsynth.warp import transform_of

__all__ = ["Registration", "register", "register_stacks"]

log = logging.getLogger("mrsynth")

FINALISTS = 4
"""Candidates that reach the second level."""

FIRST_STEPS = 10
"""Iterations after which the better third of the starts goes on: the others don't catch up."""

INHERITED = ("rival", "restart_mm", "mirror", "mirror_whole", "sharpness", "sharpness_whole")
"""Signs of the whole that its stacks take over: a stack is as doubtful as what it rests on."""

SLAB_MM = 50.0
"""A volume thinner than this holds too little to tell scale and shear from a shift along it."""


@dataclass(frozen=True)
class Registration:
    """A pose and what is known about it.

    Attributes:
        matrix: 4×4, fixed points → moving points, LPS mm.
        verdict: ``accepted``, ``review`` or ``failed``.
        measures: Numbers behind the verdict; ``gates`` has those with a threshold, ``reasons``
            what was broken, in words.
        posed: Whether the matrix is a pose that was found; without one it is the identity, which
            nobody may accept by hand.
    """

    matrix: np.ndarray
    verdict: str
    measures: dict
    posed: bool = True

    @property
    def transform(self) -> sitk.AffineTransform:
        """Fixed points to moving points (ITK's sense)."""
        return transform_of(self.matrix)


def register(
    fixed: sitk.Image,
    moving: sitk.Image,
    *,
    roi=None,
    aim=None,
    masks: tuple = (None, None),
    **cfg,
) -> Registration:
    """Register two volumes.

    Args:
        fixed: Fixed volume (CT in HU or MR signal), LPS mm.
        moving: Moving volume.
        roi: Points [n, 3] in the **moving** image's frame, LPS mm, around which samples count
            (``roi_radius_mm``); None takes the whole body.
        aim: Point [3] in the moving frame, LPS mm, where the fixed image most likely lies; None
            takes the mean of ``roi``, or the body's centre.
        masks: Masks of the fixed and the moving image (any grid in that image's frame, above 0),
            used where ``mask`` is ``user``; None keeps that side's body.
        **cfg: See :class:`mrsynth.register.settings.Settings`.

    Returns:
        The registration. Whatever goes wrong with the images is a verdict ``failed`` with the
        identity.

    Raises:
        StudyError: A setting is wrong.
    """
    settings = Settings.read(cfg)
    if settings.transform != "rigid" and _thinnest(fixed) < SLAB_MM:
        log.warning(
            "a slab of %.0f mm is registered rigidly, not with a %s",
            _thinnest(fixed),
            settings.transform,
        )
        settings = replace(settings, transform="rigid")

    def work():
        _check_images([fixed, moving])
        return _whole(_pair([fixed], moving, settings, roi, masks), aim)

    return _guarded(work, settings)


def register_stacks(
    fixed_stacks: list[sitk.Image],
    moving: sitk.Image,
    *,
    bridge=None,
    roi=None,
    aim=None,
    masks: tuple = (None, None),
    **cfg,
) -> tuple[Registration, list[Registration]]:
    """Register the stacks of one acquisition onto a volume: all as one body, then each on its own.

    Args:
        fixed_stacks: Stacks in one frame of reference, third axis along the slices' normal.
        moving: Moving volume.
        bridge: A further image in the stacks' frame of reference (such as sagittal T2) that takes
            part in the joint registration with a histogram of its own; or None.
        roi: As for :func:`register`.
        aim: As for :func:`register`.
        masks: As for :func:`register`.
        **cfg: See :class:`mrsynth.register.settings.Settings`.

    Returns:
        The whole's registration, and one per stack (its pose replaces the whole's for that stack).
    """
    settings = Settings.read(cfg)
    if settings.transform != "rigid":
        # Of a few slices an affine would invent scale and shear; that is a subject's data, not
        # the study's mistake.
        log.warning(
            "%d stacks are registered rigidly, not with a %s",
            len(fixed_stacks),
            settings.transform,
        )
        settings = replace(settings, transform="rigid")
    # The stacks' own refinement makes the joint one's finest level a waste.
    coarser = replace(settings, levels_mm=settings.levels_mm[:2], samples=settings.samples[:2])
    pairs: list[Pair] = []

    def work():
        _check_images([*fixed_stacks, moving])
        pairs.append(_pair(fixed_stacks, moving, coarser, roi, masks, bridge))
        return _whole(pairs[0], aim)

    whole = _guarded(work, settings)
    if whole.verdict == "failed":
        return whole, [whole for _ in fixed_stacks]
    single = []
    for number in range(len(fixed_stacks)):
        result = _guarded(lambda: _stack(pairs[0], number, whole, settings), settings)  # noqa: B023
        if result.verdict == "failed":
            result = replace(result, matrix=whole.matrix, posed=whole.posed)
        single.append(result)
    return whole, single


def _thinnest(image: sitk.Image) -> float:
    """The shortest side of a volume, mm."""
    return float(min(np.array(image.GetSize()) * np.array(image.GetSpacing())))


def _guarded(work, settings: Settings) -> Registration:
    """Run a registration; what breaks is a failed verdict."""
    try:
        result = work()
        if not np.all(np.isfinite(result.matrix)):
            raise RuntimeError("the pose is not finite")
        return result
    except (RuntimeError, ValueError, ArithmeticError, IndexError, np.linalg.LinAlgError) as error:
        # ITK's texts name files and lines, never a patient; the class is enough for the record.
        log.warning("registration failed: %s", error)
        reason = str(error) if isinstance(error, Hopeless) else type(error).__name__
        measures = {"reasons": [reason], "engine": settings.engine, "gates": []}
        return Registration(np.eye(4), "failed", measures, posed=False)


def _pair(stacks, moving, settings: Settings, roi, masks, bridge=None) -> Pair:
    """The images with their masks and grey scales."""
    fixed = [Picture(stack, settings) for stack in stacks]
    span = common_span(fixed)
    fixed = [
        Picture(stack, settings, picture_mask(stack, settings, masks[0]), span) for stack in stacks
    ]
    groups = [0] * len(fixed)
    if bridge is not None:
        fixed.append(Picture(bridge, settings))
        groups.append(1)
    points = None if roi is None or not len(roi) else np.asarray(roi, float)
    other = Picture(moving, settings, picture_mask(moving, settings, masks[1]))
    # A thin stack tells nothing of the air above and below it, and landmarks part the body anyway.
    symmetric = len(fixed) == 1 and points is None and _thinnest(stacks[0]) >= SLAB_MM
    return Pair(fixed, groups, other, settings, points, symmetric)


def _whole(pair: Pair, aim) -> Registration:
    """Find and weigh the pose of all stacks as one body."""
    settings = pair.settings
    coarse = pair.coarse()
    sides = coarse.sides()
    centre = search.centre_of(sides)
    group = sides[0].groups[0]
    places = targets(group.world, pair.moving.body, settings, pair.roi, aim)
    rotations = turns(settings)
    starts = []
    for place in places:
        # Each scan keeps its own peaks, so that no part of a tall image crowds out another's.
        found = scan(group, sides[0].moving, rotations, [place], settings, sides[0].least)
        starts += apart(found, centre, settings.candidates, search.APART_MM, search.APART_DEG)
    if not starts:
        raise Hopeless("no start lets the images overlap")
    chance = float(np.median([joint(sides, pose)[0] for pose in starts]))
    tried = search.ascend(sides, starts, FIRST_STEPS)[: max(FINALISTS, settings.candidates // 3)]
    quick = search.COARSE_TOLERANCE
    candidates = search.ascend(sides, [found.pose for found in tried], tolerance=quick)
    if settings.level_shift_mm:
        shifts = (-settings.level_shift_mm, settings.level_shift_mm)
        more = [search.shifted(candidates[0].pose, shift) for shift in shifts]
        candidates = sorted(
            [*candidates, *search.ascend(sides, more, tolerance=quick)],
            key=lambda found: -found.value,
        )
    finalists = search.peaks(candidates, centre, FINALISTS)
    finalists += _elsewhere(candidates, finalists, centre, settings)
    matrix, rival = _levels(pair, finalists, chance)
    if settings.engine != "sampled" and len(pair.fixed) == 1:
        matrix = _by_engine(pair.fixed[0], pair.moving, matrix, settings)
    return _weighed(pair, coarse, matrix, rival)


def _elsewhere(candidates, finalists, centre, settings: Settings) -> list[search.Candidate]:
    """The best candidate out of reach of a scan around the winner, if no finalist is such a one:
    at another part of the spine the finer level must choose, and the verdict must know."""

    def away(candidate):
        shift = (candidate.pose - finalists[0].pose) @ [*centre, 1]
        return abs(shift[2]) > settings.search_mm[2]

    if any(away(candidate) for candidate in finalists):
        return []
    return [candidate for candidate in candidates if away(candidate)][:1]


def _levels(pair: Pair, finalists, chance) -> tuple[np.ndarray, float | None]:
    """Take the finalists through the finer levels; the best pose, and how near its rival came."""
    settings = pair.settings
    rival = None
    kind = settings.transform
    for number in range(1, len(settings.levels_mm)):
        view = pair.view(number, [candidate.pose for candidate in finalists])
        sides = view.sides()
        centre = search.centre_of(sides)
        found = search.ascend(sides, [candidate.pose for candidate in finalists])
        finalists = search.peaks(found, centre, FINALISTS + 1)
        if number == 1 and len(finalists) > 1:
            rival = _rivalry(sides, finalists[0], finalists[1:], centre)
        # From here on only the winner: the finer levels cost most and don't change who wins.
        finalists = finalists[:1]
        if kind != "rigid":
            finalists = [search.refine(sides, finalists[0].pose, kind=kind)]
    if rival is None and len(finalists) > 1:
        rival = (finalists[1].value - chance) / max(finalists[0].value - chance, 1e-9)
    return finalists[0].pose, rival


def _rivalry(sides, winner, others, centre) -> float:
    """Rise of the best other peak over chance, relative to the winner's: chance is the median over
    poses far from the result."""
    far = search.perturbed(winner.pose, centre, 2 * search.APART_MM)
    floor = float(np.median([joint(sides, pose)[0] for pose in far]))
    return (max(other.value for other in others) - floor) / max(winner.value - floor, 1e-9)


def _weighed(pair: Pair, coarse: View, matrix, rival) -> Registration:
    """Measure the whole's result, search again beside it, and judge."""
    settings = pair.settings
    found = weigh.measures(pair, coarse, matrix, settings.transform)
    again = weigh.restart(pair, coarse, matrix)
    found |= weigh.agreement(pair, matrix, again)
    found["mirror"] = weigh.mirror(pair, matrix)
    if pair.roi is None:
        # A head is sharper and more symmetric than a spine: these two have limits of their own.
        for key in weigh.BY_KIND:
            found[f"{key}_whole"] = found.pop(key)
    rivals = [rival, found.pop("level_rival")]
    found["rival"] = max((value for value in rivals if value is not None), default=None)
    return _judged(matrix, found, settings)


def _judged(matrix, found: dict, settings: Settings) -> Registration:
    verdict, found["reasons"] = judge(found, settings)
    found["gates"] = gates(found, settings)
    return Registration(matrix, verdict, found)


def _stack(pair: Pair, number: int, whole: Registration, settings: Settings) -> Registration:
    """Refine one stack from the whole's pose, within limits."""
    settings = replace(settings, samples=(settings.block_samples,) * len(settings.levels_mm))
    alone = replace(pair, fixed=[pair.fixed[number]], groups=[0], settings=settings)
    stiffness = (
        settings.block_stiffness,
        settings.block_rotation_deg,
        settings.block_shift_mm,
    )
    pose = whole.matrix
    bounded = False
    for level in range(1, len(settings.levels_mm)):
        sides = alone.view(level, [pose]).sides(thick=True)
        refined = search.refine(sides, whole.matrix, start=pose, stiffness=stiffness)
        pose, bounded = refined.pose, refined.bounded
    if settings.engine != "sampled":
        pose = _by_engine(alone.fixed[0], alone.moving, pose, settings)
    found = weigh.measures(alone, None, pose, settings.transform, thick=True)
    found["stack_sharpness"] = found.pop("sharpness")
    world = search.world_of(alone.view(min(1, len(settings.levels_mm) - 1), [pose]).sides())
    moved = displacement(pose, whole.matrix, world)
    found |= {key: whole.measures[key] for key in INHERITED if key in whole.measures}
    found["from_whole_mm"] = float(np.median(moved))
    found["from_whole_deg"] = motion(pose @ np.linalg.inv(whole.matrix), world)["rotation_deg"]
    found["at_limit"] = bool(
        bounded
        or found["from_whole_mm"] > settings.block_shift_mm
        or found["from_whole_deg"] > settings.block_rotation_deg
    )
    return _judged(pose, found, settings)


def _by_engine(fixed: Picture, moving: Picture, start, settings: Settings) -> np.ndarray:
    """Refine with another engine, the CT clipped to its window."""
    one, other = (
        sitk.Clamp(picture.image, sitk.sitkFloat32, *settings.ct_window_hu)
        if picture.ct
        else sitk.Cast(picture.image, sitk.sitkFloat32)
        for picture in (fixed, moving)
    )
    mask = fixed.body_and_rim if fixed.mask is None else fixed.mask
    return engine_pose(one, other, sitk.Cast(mask > 0, sitk.sitkUInt8), start, settings)


def _check_images(images) -> None:
    for image in images:
        array = sitk.GetArrayViewFromImage(image)
        if not np.all(np.isfinite(array)) or array.min() == array.max():
            raise Hopeless("an image is flat or holds values that are not finite")
