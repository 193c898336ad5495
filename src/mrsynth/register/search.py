"""Ascent of the mutual information from a pose, and what tells poses apart."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from mrsynth.geometry import apply
from mrsynth.register.similarity import Side, joint

LEVER_MM = 60.0
"""A rotation of 1/60 rad is one unit of search, as 1 mm of shift: both move the anatomy alike."""

APART_MM = 15.0
"""Peaks closer than this (same turn) are one peak; half a vertebra."""

APART_DEG = 30.0
"""Peaks turned against each other by more than this are two."""

STEPS = 60
"""Iterations per refinement; gradient ascent converges in about 20."""

TOLERANCE = 1e-5
"""Relative gain of a step that ends a search: poses move by less than 0.1 mm after it."""

COARSE_TOLERANCE = 1e-4
"""The same at the first level, whose ends are refined anyway; saves a third of the iterations."""

NEAR_BOUND = 0.98
"""Share of a limit from which the search counts as held back by it."""

SIZES = {"rigid": 6, "similarity": 7, "affine": 12}
"""Search parameters of each kind of transform."""


@dataclass(frozen=True)
class Candidate:
    """A pose (4×4, fixed→moving) with its mutual information, and whether a limit of the search
    holds it back on some axis."""

    pose: np.ndarray
    value: float
    bounded: bool = False


def about(rotation: np.ndarray, centre: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The pose that turns about ``centre`` and brings it to ``target``."""
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = target - rotation @ centre
    return pose


def peaks(found: list[Candidate], centre: np.ndarray, count: int) -> list[Candidate]:
    """The best candidates that are not neighbours of a better one."""
    kept: list[Candidate] = []
    for candidate in found:
        if all(distinct(candidate.pose, other.pose, centre) for other in kept):
            kept.append(candidate)
        if len(kept) == count:
            break
    return kept


def distinct(one: np.ndarray, other: np.ndarray, centre: np.ndarray) -> bool:
    """Whether two poses differ by more than a peak's width, in turn or in place."""
    angle = Rotation.from_matrix(closest_rotation(one[:3, :3] @ other[:3, :3].T)).magnitude()
    shift = np.linalg.norm((one - other)[:3, :3] @ centre + (one - other)[:3, 3])
    return bool(shift > APART_MM or angle > np.radians(APART_DEG))


def refine(
    sides: tuple[Side, ...],
    pose: np.ndarray,
    *,
    kind: str = "rigid",
    stiffness: tuple[float, float, float] | None = None,
    start: np.ndarray | None = None,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
) -> Candidate:
    """Ascend the mutual information from a pose (L-BFGS-B).

    Args:
        sides: What the pose is measured with.
        pose: Start, 4×4.
        kind: ``rigid``, ``similarity`` (one scale more) or ``affine``.
        stiffness: (nats, degrees, mm): a quadratic pull to ``start`` (not to ``pose``) that costs
            so many nats at that turn or shift from it, which are also hard limits around ``pose``;
            rigid only. None leaves the pose free.
        start: Where to begin (a rigid motion away), if not at ``pose``.
        steps: Most iterations.
        tolerance: See :data:`TOLERANCE`.
    """
    size = SIZES[kind]
    centre = centre_of(sides, pose)
    target = pose[:3, :3] @ centre + pose[:3, 3]
    forward, back = about(np.eye(3), np.zeros(3), target), about(np.eye(3), np.zeros(3), -target)
    scale = np.ones(size)
    bounds = None
    if stiffness is not None:
        scale[:3] = np.radians(stiffness[1]) * LEVER_MM
        scale[3:] = stiffness[2]
        bounds = list(zip(-scale, scale, strict=True))

    def build(parameters):
        return forward @ _small(parameters) @ back @ pose

    first = np.zeros(size)
    if start is not None:
        motion = back @ start @ np.linalg.inv(pose) @ forward
        first[:3] = Rotation.from_matrix(closest_rotation(motion[:3, :3])).as_rotvec() * LEVER_MM
        first[3:6] = motion[:3, 3]
        if stiffness is not None:
            first = np.clip(first, -scale, scale)

    def cost(parameters):
        value, gradient = joint(sides, build(parameters))
        slope = np.empty(size)
        for axis in range(size):
            step = np.zeros(size)
            step[axis] = 1e-4
            change = (build(parameters + step) - build(parameters - step))[:3] / 2e-4
            slope[axis] = (gradient * change).sum()
        pull, pull_slope = 0.0, 0.0
        if stiffness is not None:
            away = (parameters - first) / scale
            pull = stiffness[0] * (away**2).sum()
            pull_slope = 2 * stiffness[0] * away / scale
        # Values near 1e-2 nats would meet the optimiser's tolerances at once.
        return 100 * (pull - value), 100 * (pull_slope - slope)

    result = minimize(
        cost,
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": steps, "ftol": tolerance, "maxls": 12},
    )
    best = build(result.x)
    bounded = stiffness is not None and bool(np.any(np.abs(result.x) >= NEAR_BOUND * scale))
    return Candidate(best, joint(sides, best)[0], bounded)


def ascend(sides, poses, steps: int = STEPS, tolerance: float = TOLERANCE) -> list[Candidate]:
    """Refine every pose rigidly; best first."""
    refined = [refine(sides, pose, steps=steps, tolerance=tolerance) for pose in poses]
    return sorted(refined, key=lambda candidate: -candidate.value)


def world_of(sides: tuple[Side, ...]) -> np.ndarray:
    """The forward samples [n, 3], LPS mm of the fixed frame."""
    groups = next(side.groups for side in sides if not side.inverse)
    return np.concatenate([group.world for group in groups])


def centre_of(sides: tuple[Side, ...], pose: np.ndarray | None = None) -> np.ndarray:
    """Their mean [3]; without them that of the inverse samples as a pose sees them."""
    if any(not side.inverse for side in sides):
        return world_of(sides).mean(axis=0)
    world = np.concatenate([group.world for group in sides[0].groups])
    return apply(np.linalg.inv(pose), world.mean(axis=0))


def perturbed(
    pose: np.ndarray, centre: np.ndarray, shift_mm: float, turn_deg: float | None = None
) -> list[np.ndarray]:
    """Twelve poses, off by ± a turn about each axis (None: the turn that matches the shift) and by
    ± a shift along each."""
    target = pose[:3, :3] @ centre + pose[:3, 3]
    forward, back = about(np.eye(3), np.zeros(3), target), about(np.eye(3), np.zeros(3), -target)
    turn = shift_mm if turn_deg is None else np.radians(turn_deg) * LEVER_MM
    return [
        forward @ _small(sign * size * axis) @ back @ pose
        for axis, size in zip(np.eye(6), [turn] * 3 + [shift_mm] * 3, strict=True)
        for sign in (-1, 1)
    ]


def shifted(pose: np.ndarray, shift_mm: float) -> np.ndarray:
    """A pose moved along z of the moving frame."""
    moved = pose.copy()
    moved[2, 3] += shift_mm
    return moved


def closest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The proper rotation nearest to a 3×3 matrix (polar decomposition)."""
    left, _, right = np.linalg.svd(matrix)
    return left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right


def _small(parameters: np.ndarray) -> np.ndarray:
    """4×4 of search parameters: rotation vector and either one scale or the 3×3 of a stretch (all ×
    lever), shift in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(parameters[:3] / LEVER_MM).as_matrix()
    matrix[:3, 3] = parameters[3:6]
    if len(parameters) == SIZES["similarity"]:
        matrix[:3, :3] *= np.exp(parameters[6] / LEVER_MM)
    if len(parameters) == SIZES["affine"]:
        xx, yy, zz, xy, xz, yz = parameters[6:] / LEVER_MM
        matrix[:3, :3] = matrix[:3, :3] @ (
            np.eye(3) + np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        )
    return matrix
