"""Registration by mutual information: whole volumes, or a set of thick angled stacks onto one
volume.

A scan over many starts (headers are not trusted) on a coarse grid, gradient ascent from the best
of them, then finer levels. Stacks are first registered jointly as one rigid body, then each on its
own by a small rigid search, because the spine bends between two scanners' tables.
"""

import logging
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import SimpleITK as sitk
from scipy.spatial import cKDTree

from mrsynth.geometry import apply
from mrsynth.register import prepare, search
from mrsynth.register.engines import engine_pose
from mrsynth.register.settings import Settings
from mrsynth.register.similarity import Moving, Points, overlap, similarity
from mrsynth.register.targets import targets
from mrsynth.register.verdict import displacement, judge, motion
from mrsynth.warp import is_ct, transform_of

__all__ = ["Registration", "register", "register_stacks"]

log = logging.getLogger("mrsynth")

FINALISTS = 3
"""Candidates that reach the second level."""

PEAK_SHIFT_MM = 3.0
"""Perturbation of the peak test: beyond the accuracy wanted, within the peak's width."""

SLAB_MM = 50.0
"""A volume thinner than this holds too little to tell scale and shear from a shift along it."""

BOX_MARGIN_MM = 30.0
"""Room around the samples within which the moving image is kept at the finer levels."""


@dataclass(frozen=True)
class Registration:
    """A pose and what is known about it.

    Attributes:
        matrix: 4×4, fixed points → moving points, LPS mm.
        verdict: ``accepted``, ``review`` or ``failed``.
        measures: Numbers behind the verdict, and ``reasons``.
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


def register(fixed: sitk.Image, moving: sitk.Image, *, roi=None, aim=None, **cfg) -> Registration:
    """Register two volumes.

    Args:
        fixed: Fixed volume (CT in HU or MR signal), LPS mm.
        moving: Moving volume.
        roi: Points [n, 3] in the **moving** image's frame, LPS mm, around which samples count
            (``roi_radius_mm``); None takes the whole body.
        aim: Point [3] in the moving frame, LPS mm, where the fixed image most likely lies; None
            takes the mean of ``roi``, or the body's centre.
        **cfg: See :class:`mrsynth.register.settings.Settings`.

    Returns:
        The registration. Whatever goes wrong with the images is a verdict ``failed`` with the
        identity.

    Raises:
        StudyError: A setting is wrong.
    """
    settings = Settings.read(cfg)
    if settings.transform == "affine" and _thinnest(fixed) < SLAB_MM:
        log.warning("a slab of %.0f mm is registered rigidly, not affinely", _thinnest(fixed))
        settings = replace(settings, transform="rigid")
    return _guarded(lambda: _whole([fixed], _Other(moving), settings, roi, aim, None), settings)


def register_stacks(
    fixed_stacks: list[sitk.Image], moving: sitk.Image, *, bridge=None, roi=None, aim=None, **cfg
) -> tuple[Registration, list[Registration]]:
    """Register the stacks of one acquisition onto a volume: all as one body, then each on its own.

    Args:
        fixed_stacks: Stacks in one frame of reference, third axis along the slices' normal.
        moving: Moving volume.
        bridge: A further image in the stacks' frame of reference (such as sagittal T2) that takes
            part in the joint registration with a histogram of its own; or None.
        roi: As for :func:`register`.
        aim: As for :func:`register`.
        **cfg: See :class:`mrsynth.register.settings.Settings`.

    Returns:
        The whole's registration, and one per stack (its pose replaces the whole's for that stack).
    """
    settings = Settings.read(cfg)
    if settings.transform == "affine":
        # Of a few slices an affine would invent scale and shear; that is a subject's data, not
        # the study's mistake.
        log.warning("%d stacks are registered rigidly, not affinely", len(fixed_stacks))
        settings = replace(settings, transform="rigid")
    other = _Other(moving)
    # The stacks' own refinement makes the joint one's finest level a waste.
    coarser = replace(
        settings,
        levels_mm=settings.levels_mm[:2],
        samples=settings.samples[:2],
    )
    whole = _guarded(lambda: _whole(fixed_stacks, other, coarser, roi, aim, bridge), settings)
    if whole.verdict == "failed":
        return whole, [whole for _ in fixed_stacks]
    single = []
    for stack in fixed_stacks:
        result = _guarded(lambda: _stack(stack, other, whole, settings, roi), settings)  # noqa: B023
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
        reason = str(error) if isinstance(error, _Hopeless) else type(error).__name__
        measures = {"reasons": [reason], "engine": settings.engine}
        return Registration(np.eye(4), "failed", measures, posed=False)


class _Hopeless(RuntimeError):
    """The images can't be registered."""


class _Other:
    """The moving image with its body, which is found once."""

    def __init__(self, image: sitk.Image):
        self.image = image

    @cached_property
    def body(self) -> sitk.Image:
        return prepare.foreground(self.image, 0.0)

    @cached_property
    def ct(self) -> bool:
        return is_ct(self.image)

    def level(self, number: int, settings: Settings, box=None) -> Moving:
        level_mm = settings.levels_mm[number]
        return prepare.read_moving(self.image, self.body, level_mm, settings, box, self.ct)


def _whole(stacks, moving, settings: Settings, roi, aim, bridge) -> Registration:
    _check_images([*stacks, moving.image])
    fixed = prepare.read_fixed(stacks, settings, 0)
    if bridge is not None:
        fixed += prepare.read_fixed([bridge], settings, 1)
    coarse = moving.level(0, settings)
    groups = _draw(fixed, 0, settings, settings.seed)
    centre = groups[0].world.mean(axis=0)
    places = targets(groups[0].world, moving.body, settings, roi, aim)
    scans = [_scan(groups[0], coarse, place, settings) for place in places]
    values = [candidate.value for found in scans for candidate in found]
    if not values:
        raise _Hopeless("no start lets the images overlap")
    chance = float(np.median(values))
    # Each scan keeps its own peaks, so that no part of a tall image crowds out another's.
    starts = [c.pose for found in scans for c in search.peaks(found, centre, settings.candidates)]
    candidates = _ascend(groups, coarse, starts, settings)
    if settings.level_shift_mm:
        starts = [_shifted(candidates[0].pose, sign * settings.level_shift_mm) for sign in (-1, 1)]
        candidates = _ascend(groups, coarse, [*starts, *(c.pose for c in candidates)], settings)
    finalists = search.peaks(candidates, centre, FINALISTS)
    finalists += _elsewhere(candidates, finalists, centre, settings)
    matrix, rival = _levels(fixed, moving, finalists, settings, roi, chance)
    if settings.engine != "sampled" and len(fixed) == 1:
        matrix = _by_engine(stacks[0], moving.image, fixed[0].mask, matrix, settings)
    return _weighed(fixed, moving, matrix, settings, roi, {"rival": rival})


def _scan(group, moving: Moving, place, settings: Settings) -> list[search.Candidate]:
    """Poses around one place of the moving image, best first."""
    return search.scan(
        group,
        moving,
        search.turns(settings.flips),
        [place],
        settings.search_mm,
        settings.search_step_mm,
        settings.min_overlap,
    )


def _elsewhere(candidates, finalists, centre, settings: Settings) -> list[search.Candidate]:
    """The best candidate out of reach of a scan around the winner, if no finalist is such a one:
    at another part of the spine the finer level must choose, and the verdict must know."""

    def away(candidate):
        shift = (candidate.pose - finalists[0].pose) @ [*centre, 1]
        return abs(shift[2]) > settings.search_mm[2]

    if any(away(candidate) for candidate in finalists):
        return []
    return [candidate for candidate in candidates if away(candidate)][:1]


def _levels(fixed, moving, finalists, settings, roi, chance):
    """Take the finalists through the finer levels; the best pose, and how near its rival came."""
    centre = None
    rival = None
    for number in range(1, len(settings.levels_mm)):
        groups = _draw(fixed, number, settings, settings.seed, roi, finalists[0].pose)
        centre = np.concatenate([group.world for group in groups]).mean(axis=0)
        poses = [candidate.pose for candidate in finalists]
        level = moving.level(number, settings, _box(groups, poses))
        finalists = search.peaks(_ascend(groups, level, poses, settings), centre, FINALISTS + 1)
        if number == 1 and len(finalists) > 1:
            floor = _floor(groups, level, finalists[0].pose, centre, settings)
            rise = max(finalists[0].value - floor, 1e-9)
            rival = (finalists[1].value - floor) / rise
        # From here on only the winner: the finer levels cost most and don't change who wins.
        finalists = finalists[:1]
        if settings.transform == "affine":
            finalists = [
                search.refine(
                    groups,
                    level,
                    finalists[0].pose,
                    affine=True,
                    min_overlap=settings.min_overlap,
                )
            ]
    if rival is None and len(finalists) > 1:
        rival = (finalists[1].value - chance) / max(finalists[0].value - chance, 1e-9)
    return finalists[0].pose, rival


def _floor(groups, moving: Moving, pose, centre, settings) -> float:
    """Mutual information by chance: the median over poses far from the result."""
    far = search.perturbed(pose, centre, 2 * search.APART_MM)
    return float(np.median([similarity(groups, moving, p, settings.min_overlap)[0] for p in far]))


def _stack(stack, moving, whole: Registration, settings: Settings, roi) -> Registration:
    """Refine one stack from the whole's pose, within limits."""
    settings = replace(settings, samples=(settings.block_samples,) * len(settings.levels_mm))
    fixed = prepare.read_fixed([stack], settings, 0)
    pose = whole.matrix
    stiffness = (
        settings.block_stiffness,
        settings.block_rotation_deg,
        settings.block_shift_mm,
    )
    bounded = False
    for number in range(1, len(settings.levels_mm)):
        groups = _draw(fixed, number, settings, settings.seed, roi, pose, thick=True)
        level = moving.level(number, settings, _box(groups, [pose]))
        refined = search.refine(
            groups, level, pose, min_overlap=settings.min_overlap, stiffness=stiffness
        )
        pose, bounded = refined.pose, bounded or refined.bounded
    if settings.engine != "sampled":
        pose = _by_engine(stack, moving.image, fixed[0].mask, pose, settings)
    world = np.concatenate([group.world for group in groups])
    moved = displacement(pose, whole.matrix, world)
    extra = {
        # A stack that rests on a doubtful whole is as doubtful.
        "rival": whole.measures.get("rival"),
        "from_whole_mm": float(np.median(moved)),
        "from_whole_deg": motion(pose @ np.linalg.inv(whole.matrix), world)["rotation_deg"],
    }
    extra["at_limit"] = bool(
        bounded
        or extra["from_whole_mm"] > settings.block_shift_mm
        or extra["from_whole_deg"] > settings.block_rotation_deg
    )
    return _weighed(fixed, moving, pose, settings, roi, extra, thick=True)


def _weighed(fixed, moving, matrix, settings, roi, extra, thick=False) -> Registration:
    """Measure a result and judge it."""
    last = len(settings.levels_mm) - 1
    number = min(1, last)
    groups = _draw(fixed, number, settings, settings.seed, roi, matrix, thick=thick)
    level = moving.level(number, settings, _box(groups, [matrix]))
    world = np.concatenate([group.world for group in groups])
    centre = world.mean(axis=0)
    value = similarity(groups, level, matrix, settings.min_overlap)[0]
    chance = similarity(_shuffled(groups, settings.seed), level, matrix, settings.min_overlap)[0]
    others = [
        similarity(groups, level, pose, settings.min_overlap)[0]
        for pose in search.perturbed(matrix, centre, PEAK_SHIFT_MM)
    ]
    halves = [
        search.refine(
            _draw(fixed, number, settings, settings.seed + half, roi, matrix, thick, 0.5),
            level,
            matrix,
            affine=settings.transform == "affine",
            min_overlap=settings.min_overlap,
        ).pose
        for half in (1, 2)
    ]
    measures = {
        "engine": settings.engine,
        "transform": settings.transform,
        "mi": value - chance,
        "overlap": overlap(groups, level, matrix),
        "peak": float(np.mean([other < value for other in others])),
        "repeat_mm": float(np.median(displacement(*halves, world))),
        **motion(matrix, world),
        **extra,
    }
    verdict, measures["reasons"] = judge(measures, settings)
    return Registration(matrix, verdict, measures)


def _shuffled(groups, seed: int) -> list[Points]:
    """The same samples with their fixed values permuted: the information that chance gives."""
    generator = np.random.default_rng(seed)
    return [replace(group, level=generator.permutation(group.level)) for group in groups]


def _draw(fixed, number, settings, seed, roi=None, pose=None, thick=False, share=1.0):
    """Samples of a level, inside the region of interest as seen from a pose."""
    keep = None
    if roi is not None and pose is not None and len(roi):
        tree = cKDTree(np.asarray(roi, float))

        def keep(world):
            nearest, _ = tree.query(apply(pose, world), distance_upper_bound=settings.roi_radius_mm)
            return np.isfinite(nearest)

    groups = prepare.points(
        fixed,
        settings.levels_mm[number],
        int(settings.samples[number] * share),
        settings,
        seed=seed,
        keep=keep,
        thick=thick,
    )
    if sum(len(group.world) for group in groups) < 100:
        raise _Hopeless(
            "fewer than 100 samples: the body is nearly empty or far from the landmarks"
        )
    return groups


def _ascend(groups, moving, poses, settings) -> list[search.Candidate]:
    """Refine every pose rigidly; best first."""
    refined = [
        search.refine(groups, moving, pose, min_overlap=settings.min_overlap) for pose in poses
    ]
    return sorted(refined, key=lambda candidate: -candidate.value)


def _shifted(pose, shift_mm) -> np.ndarray:
    """A pose moved along z, about one vertebra."""
    moved = pose.copy()
    moved[2, 3] += shift_mm
    return moved


def _box(groups, poses) -> tuple[np.ndarray, np.ndarray]:
    """Corners of what the poses can reach, LPS mm in the moving frame."""
    world = np.concatenate([group.world for group in groups])
    ends = np.concatenate([world @ pose[:3, :3].T + pose[:3, 3] for pose in poses])
    return ends.min(axis=0) - BOX_MARGIN_MM, ends.max(axis=0) + BOX_MARGIN_MM


def _by_engine(stack, moving, mask, start, settings) -> np.ndarray:
    """Refine with another engine, the CT clipped to its window."""
    fixed, other = (
        sitk.Clamp(image, sitk.sitkFloat32, *settings.ct_window_hu)
        if is_ct(image)
        else sitk.Cast(image, sitk.sitkFloat32)
        for image in (stack, moving)
    )
    return engine_pose(fixed, other, mask, start, settings)


def _check_images(images) -> None:
    for image in images:
        array = sitk.GetArrayViewFromImage(image)
        if not np.all(np.isfinite(array)) or array.min() == array.max():
            raise _Hopeless("an image is flat or holds values that are not finite")
