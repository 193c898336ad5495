"""The spinal canal: soft tissue enclosed by bone in axial cuts, followed from slice to slice."""

import numpy as np
from scipy import ndimage

from mrsynth.errors import Refusal
from mrsynth.locate.grid import Grid

# Directions in which bone is looked for around a point, and how far: the adult lumbar canal is
# 15-25 mm wide, so that its wall lies within 18 mm of its centre in every direction; a vertebral
# body's doesn't.
DIRECTIONS = 16
REACH_MM = 18.0
# Between the arches the wall is open (flavum, foramen); bone this far above or below counts.
CLOSING_MM = 6.0
# Thecal sac, roots, epidural fat, averaged: no air, no marrow fat, no spongiosa of a healthy body.
CONTENT_HU = (-60.0, 110.0)
# Distance to bone at which the canal counts as fully open.
OPEN_MM = 7.0
# A place with less enclosure than this isn't canal.
ENCLOSED = 0.7
# Score from which a slice's point is believed, and how long a stretch of doubt is bridged (a
# laminectomy, a wide interlaminar window).
GOOD = 0.25
GAP_MM = 12.0
# Steepest way sideways, as a tangent (40°): an oblique patient and a scoliosis together.
SIDEWAYS = 0.85
# How much of an end is looked at, and how far it may lie off the straight way.
HOOK_MM = 24.0
HOOK_OFF_MM = 4.0
# Two lumbar vertebrae; less can't be told from the pelvis or a rib's arch.
MIN_LENGTH_MM = 60.0
# What a voxel between bone and soft tissue is measured from, HU.
SOFT_TISSUE_HU = 50.0
# The sacral canal runs up to 65° backwards from the CT's axis (two voxels a slice), scoliosis and
# an oblique patient stay under 45° sideways (one voxel).
STEPS_Y, STEPS_X = 2, 1


def enclosure(bone: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Share (0..1) of axial directions in which bone lies within reach, per voxel (z, y, x)."""
    reach = round(REACH_MM / spacing_mm)
    closed = ndimage.maximum_filter1d(bone, 2 * round(CLOSING_MM / spacing_mm) + 1, axis=0)
    share = np.zeros(bone.shape, np.float32)
    padded = np.pad(closed, ((0, 0), (reach, reach), (reach, reach)))
    rows, columns = bone.shape[1:]
    for angle in np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS:
        hit = np.zeros(bone.shape, bool)
        for step in range(1, reach + 1):
            dy, dx = round(step * np.sin(angle)), round(step * np.cos(angle))
            hit |= padded[:, reach + dy : reach + dy + rows, reach + dx : reach + dx + columns]
        share += hit
    return share / DIRECTIONS


def canal_score(grid: Grid, bone_hu: float) -> np.ndarray:
    """How much each voxel (z, y, x) looks like the middle of the canal, 0..1."""
    bone = grid.values > bone_hu
    share = enclosure(bone, grid.spacing)
    depth = np.stack([ndimage.distance_transform_edt(~cut) for cut in bone]) * grid.spacing
    content = ndimage.uniform_filter(np.clip(grid.values, -300, 400), max(3, int(6 / grid.spacing)))
    soft = (content > CONTENT_HU[0]) & (content < CONTENT_HU[1])
    score = np.clip((share - ENCLOSED) / (1 - ENCLOSED), 0, 1) * np.clip(depth / OPEN_MM, 0, 1)
    # Depth is smoothed along the canal: the roots' way out widens single cuts to one side.
    return ndimage.gaussian_filter1d(np.where(soft, score, 0).astype(np.float32), 1.0, axis=0)


def best_path(score: np.ndarray, cost: float = 0.04) -> np.ndarray:
    """The path of one voxel per slice with the greatest sum of scores (dynamic programming).

    Args:
        score: Values (z, y, x).
        cost: What a step sideways of one voxel takes off the sum.

    Returns:
        Row and column (z, 2) per slice.
    """
    depth, rows, columns = score.shape
    moves = [(y, x) for y in range(-STEPS_Y, STEPS_Y + 1) for x in range(-STEPS_X, STEPS_X + 1)]
    moves.sort(key=lambda move: move[0] ** 2 + move[1] ** 2)
    origin = np.zeros(score.shape, np.int8)
    total = score[0].copy()
    for z in range(1, depth):
        padded = np.pad(total, ((STEPS_Y,) * 2, (STEPS_X,) * 2), constant_values=-np.inf)
        best = np.full((rows, columns), -np.inf, np.float32)
        for number, (y, x) in enumerate(moves):
            here = padded[STEPS_Y + y : STEPS_Y + y + rows, STEPS_X + x : STEPS_X + x + columns]
            here = here - cost * float(np.hypot(y, x))
            better = here > best
            best[better] = here[better]
            origin[z][better] = number
        total = best + score[z]
    path = np.zeros((depth, 2), int)
    path[-1] = np.unravel_index(np.argmax(total), total.shape)
    for z in range(depth - 1, 0, -1):
        path[z - 1] = path[z] + moves[origin[z][tuple(path[z])]]
    return path


def find_canal(grid: Grid, bone_hu: float) -> np.ndarray:
    """Points (n, 3) on the canal's centre line, cranial to caudal, LPS mm, about one per voxel
    step.

    Args:
        grid: CT on upright axes, about 2 mm.
        bone_hu: CT number above which a voxel is bone.

    Raises:
        Refusal: ``NO_SPINE`` without bone, ``NO_CANAL`` if no canal is 60 mm long.
    """
    bone_hu = SOFT_TISSUE_HU + (bone_hu - SOFT_TISSUE_HU) * grid.kept()
    if np.count_nonzero(grid.values > bone_hu) < 1000:
        raise Refusal(
            "NO_SPINE",
            f"fewer than 1000 voxels of {grid.spacing:g} mm above {bone_hu:g} HU in the CT",
            "check that the series is a CT in Hounsfield units that shows the spine",
        )
    score = canal_score(grid, bone_hu)
    path = best_path(score)
    along = score[np.arange(len(path)), path[:, 0], path[:, 1]]
    # Below the sacral canal the sum finds more in the marrow of an iliac wing, and goes there
    # sideways.
    slope = np.gradient(ndimage.gaussian_filter1d(path[:, 1].astype(float), 4, mode="nearest"))
    pieces = np.split(np.arange(len(path)), np.flatnonzero(np.abs(slope) > SIDEWAYS))
    first, last = max(
        (_run_within(along, piece, grid.spacing) for piece in pieces),
        key=lambda run: run[1] - run[0],
    )
    length = (last - first) * grid.spacing
    if length < MIN_LENGTH_MM:
        raise Refusal(
            "NO_CANAL",
            f"the longest stretch that looks like a spinal canal is {max(length, 0):.0f} mm, "
            f"{MIN_LENGTH_MM:.0f} mm are needed",
            "give labels or landmarks for this subject (`source`), or adapt `bone_hu`",
        )
    # The distance map's ridge jumps by voxels; its neighbourhood's centre of mass doesn't.
    slices = np.arange(first, last + 1)
    centre = np.array([_centre_of_mass(score[z], path[z], grid.spacing) for z in slices])
    smooth = ndimage.gaussian_filter1d(centre, 6 / grid.spacing, axis=0, mode="nearest")
    # A Gaussian flattens the ends; what a straight line through the ends loses there is put back.
    smooth = 2 * smooth - ndimage.gaussian_filter1d(
        smooth, 6 / grid.spacing, axis=0, mode="nearest"
    )
    points = grid.to_mm(np.column_stack([slices, smooth]))
    return without_hooks(without_hooks(points)[::-1])


def without_hooks(points: np.ndarray) -> np.ndarray:
    """The line (n, 3) without first points that leave the straight way that the next ones come
    along.

    The scan's last slices often hold no arch, and the path turns to some other soft tissue.
    """
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    for start in np.flatnonzero(along <= HOOK_MM):
        near = (along >= along[start] + 6) & (along <= along[start] + 36)
        if near.sum() < 5 or along[-1] - along[start] < MIN_LENGTH_MM:
            break
        middle = points[near].mean(0)
        direction = np.linalg.svd(points[near] - middle)[2][0]
        offset = points[start] - middle
        if np.linalg.norm(offset - direction * (offset @ direction)) <= HOOK_OFF_MM:
            return points[start:]
    return points


def longest_run(good: np.ndarray, gap: int) -> tuple[int, int]:
    """First and last index of the longest run of true values that bridges gaps of up to ``gap``."""
    places = np.flatnonzero(good)
    if len(places) == 0:
        return 0, -1
    cuts = np.flatnonzero(np.diff(places) > gap + 1)
    starts = np.concatenate([[places[0]], places[cuts + 1]])
    ends = np.concatenate([places[cuts], [places[-1]]])
    best = np.argmax(ends - starts)
    return int(starts[best]), int(ends[best])


def _run_within(along: np.ndarray, piece: np.ndarray, spacing_mm: float) -> tuple[int, int]:
    if len(piece) == 0:
        return 0, -1
    first, last = longest_run(along[piece] > GOOD, gap=round(GAP_MM / spacing_mm))
    return int(piece[0]) + first, int(piece[0]) + last


def _centre_of_mass(score: np.ndarray, at: np.ndarray, spacing_mm: float) -> np.ndarray:
    reach = round(8 / spacing_mm)
    low = np.maximum(at - reach, 0)
    window = score[low[0] : at[0] + reach + 1, low[1] : at[1] + reach + 1]
    if window.sum() <= 0:
        return at.astype(float)
    return low + np.array(ndimage.center_of_mass(window))
