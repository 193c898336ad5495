"""Search over poses: a coarse scan over many starts, then gradient ascent from the best."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from mrsynth.register.similarity import BINS, Moving, Points, similarity

LEVER_MM = 60.0
"""A rotation of 1/60 rad is one unit of search, as 1 mm of shift: both move the anatomy alike."""

SCAN_BINS = 16
"""The scan has few samples, so it takes fewer grey levels."""

APART_MM = 15.0
"""Peaks of the scan closer than this (same turn) are one peak; half a vertebra."""

STEPS = 60
"""Iterations per refinement; gradient ascent converges in about 20."""


NEAR_BOUND = 0.98
"""Share of a limit from which the search counts as held back by it."""


@dataclass(frozen=True)
class Candidate:
    """A pose (4×4, fixed→moving) with its mutual information, and whether a limit of the search
    holds it back on some axis."""

    pose: np.ndarray
    value: float
    bounded: bool = False


def turns(flips: bool) -> list[np.ndarray]:
    """Rotations (3×3) from which to start: none, and half turns about x, y and z."""
    all_turns = [np.eye(3), np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])]
    return all_turns if flips else all_turns[:1]


def about(rotation: np.ndarray, centre: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The pose that turns about ``centre`` and brings it to ``target``."""
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = target - rotation @ centre
    return pose


def scan(
    group: Points,
    moving: Moving,
    rotations: list[np.ndarray],
    targets: list[np.ndarray],
    search_mm: tuple[float, float, float],
    step_mm: float,
    min_overlap: float,
) -> list[Candidate]:
    """Value of every pose on a grid of shifts, for every rotation and target of the samples'
    centre.

    The value is the mutual information by nearest voxels, less its bias from few samples (Miller
    1955), times the overlap: a small overlap makes chance look like information.

    Returns:
        All poses on the grid with a value, best first.
    """
    centre = group.world.mean(axis=0)
    steps = [
        np.arange(-np.floor(r / step_mm), np.floor(r / step_mm) + 1) * step_mm for r in search_mm
    ]
    shifts = np.array(list(product(*steps)))
    level = group.level * SCAN_BINS // BINS
    found = []
    for rotation, target in product(rotations, targets):
        pose = about(rotation, centre, target)
        matrix = moving.to_index @ pose
        index = group.world @ matrix[:3, :3].T + matrix[:3, 3]
        for shift in shifts:
            value = _nearest_value(
                level, index + moving.to_index[:3, :3] @ shift, moving, min_overlap
            )
            if value is not None:
                moved = pose.copy()
                moved[:3, 3] += shift
                found.append(Candidate(moved, value))
    return sorted(found, key=lambda candidate: -candidate.value)


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
    return bool(shift > APART_MM or angle > np.radians(30))


def refine(
    groups: list[Points],
    moving: Moving,
    pose: np.ndarray,
    *,
    affine: bool = False,
    min_overlap: float,
    stiffness: tuple[float, float, float] | None = None,
) -> Candidate:
    """Ascend the mutual information from a pose (L-BFGS-B).

    Args:
        groups: Fixed samples.
        moving: Moving image.
        pose: Start, 4×4.
        affine: Search twelve parameters instead of six.
        min_overlap: See :func:`similarity`.
        stiffness: (nats, degrees, mm): a quadratic pull to the start that costs so many nats at
            that turn or shift, which are also hard limits. None leaves the pose free.
    """
    centre = np.concatenate([group.world for group in groups]).mean(axis=0)
    target = pose[:3, :3] @ centre + pose[:3, 3]
    forward, back = about(np.eye(3), np.zeros(3), target), about(np.eye(3), np.zeros(3), -target)
    size = 12 if affine else 6
    scale = np.ones(size)
    bounds = None
    if stiffness is not None:
        scale[:3] = np.radians(stiffness[1]) * LEVER_MM
        scale[3:] = stiffness[2]
        bounds = list(zip(-scale, scale, strict=True))

    def build(parameters):
        return forward @ _small(parameters) @ back @ pose

    def cost(parameters):
        value, gradient = similarity(groups, moving, build(parameters), min_overlap)
        slope = np.empty(size)
        for axis in range(size):
            step = np.zeros(size)
            step[axis] = 1e-4
            change = (build(parameters + step) - build(parameters - step))[:3] / 2e-4
            slope[axis] = (gradient * change).sum()
        pull, pull_slope = 0.0, 0.0
        if stiffness is not None:
            pull = stiffness[0] * ((parameters / scale) ** 2).sum()
            pull_slope = 2 * stiffness[0] * parameters / scale**2
        # Values near 1e-2 nats would meet the optimiser's tolerances at once.
        return 100 * (pull - value), 100 * (pull_slope - slope)

    result = minimize(
        cost,
        np.zeros(size),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": STEPS, "ftol": 1e-7, "maxls": 12},
    )
    best = build(result.x)
    bounded = stiffness is not None and bool(np.any(np.abs(result.x) >= NEAR_BOUND * scale))
    return Candidate(best, similarity(groups, moving, best, min_overlap)[0], bounded)


def perturbed(pose: np.ndarray, centre: np.ndarray, shift_mm: float) -> list[np.ndarray]:
    """Twelve poses, off by ± a shift along and the matching turn about each axis."""
    target = pose[:3, :3] @ centre + pose[:3, 3]
    forward, back = about(np.eye(3), np.zeros(3), target), about(np.eye(3), np.zeros(3), -target)
    return [
        forward @ _small(sign * shift_mm * axis) @ back @ pose
        for axis in np.eye(6)
        for sign in (-1, 1)
    ]


def closest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The proper rotation nearest to a 3×3 matrix (polar decomposition)."""
    left, _, right = np.linalg.svd(matrix)
    return left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right


def _small(parameters: np.ndarray) -> np.ndarray:
    """4×4 of search parameters: rotation vector or 3×3 of a stretch (both × lever), shift in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(parameters[:3] / LEVER_MM).as_matrix()
    matrix[:3, 3] = parameters[3:6]
    if len(parameters) == 12:
        xx, yy, zz, xy, xz, yz = parameters[6:] / LEVER_MM
        matrix[:3, :3] = matrix[:3, :3] @ (
            np.eye(3) + np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        )
    return matrix


def _nearest_value(level, index, moving, min_overlap) -> float | None:
    depth, height, width = moving.values.shape
    place = np.rint(index).astype(np.int64, order="F")
    x, y, z = place.T
    # Seen as unsigned, a negative index is a huge one: one comparison per axis.
    inside = (
        (x.view(np.uint64) < width) & (y.view(np.uint64) < height) & (z.view(np.uint64) < depth)
    )
    if np.count_nonzero(inside) < min_overlap * len(level):
        return None
    value = moving.values.ravel().take(((z * height + y) * width + x)[inside])
    counts = np.isfinite(value)
    total = int(counts.sum())
    if total < min_overlap * len(level):
        return None
    cell = level[inside][counts] * SCAN_BINS + (value[counts] * SCAN_BINS / BINS).astype(np.int64)
    joint = np.bincount(cell, minlength=SCAN_BINS**2).reshape(SCAN_BINS, SCAN_BINS)
    mutual = 0.0
    for sign, counted in ((1, joint), (-1, joint.sum(0)), (-1, joint.sum(1))):
        some = counted[counted > 0] / total
        mutual += sign * ((some * np.log(some)).sum() - (len(some) - 1) / (2 * total))
    return float(mutual * total / len(level))
