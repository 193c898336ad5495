"""Where a registration may begin: a scan over turns and shifts that trusts no header.

The moving image is laid on an upright grid of whole steps, so that a shift is one offset into its
memory and all shifts of a turn are weighed at once.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from mrsynth.register.settings import Settings
from mrsynth.register.similarity import BINS, EDGE, Moving, Points

BINS_OF_SCAN = 12
"""Grey levels per side: the scan has few samples."""

SAMPLES_OF_SCAN = 800
"""Samples of the scan: more change no rank of its peaks, and each costs the same again."""

CHUNK = 600_000
"""Samples × shifts weighed at once: some tens of megabytes."""

BEST = 4000
"""Poses from which peaks are drawn."""


@dataclass(frozen=True)
class Scan:
    """Poses of a scan, best first.

    Attributes:
        poses: [n, 4, 4], fixed→moving, LPS mm.
        values: [n] mutual information less its bias (Miller 1955), times the share of samples
            inside: the information per sample of the fixed image, in nats.
    """

    poses: np.ndarray
    values: np.ndarray


def turns(settings: Settings) -> list[np.ndarray]:
    """Rotations (3×3) from which to start.

    None and, with ``flips``, half turns about x, y and z, each followed by rotations of up to
    ``turn_deg``: a body-centred cubic lattice of rotation vectors, the densest cover of space by
    equal balls that is known.
    """
    axes = [np.eye(3), np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])]
    if not settings.flips:
        axes = axes[:1]
    return [small @ axis for axis, small in product(axes, lattice(settings))]


def lattice(settings: Settings) -> list[np.ndarray]:
    """Rotations (3×3) of up to ``turn_deg``, neighbours at most about ``turn_step_deg`` apart."""
    step = settings.turn_step_deg
    # In this lattice the nearest neighbours are √3/2 of the cube's edge apart.
    edge = step * 2 / np.sqrt(3)
    reach = int(np.ceil(settings.turn_deg / edge)) + 1
    cube = np.array(list(product(range(-reach, reach + 1), repeat=3)), float) * edge
    points = np.concatenate([cube, cube + edge / 2])
    length = np.linalg.norm(points, axis=1)
    points = points[length <= settings.turn_deg + 1e-9]
    order = np.lexsort((*points.T, np.round(np.linalg.norm(points, axis=1), 6)))
    return list(Rotation.from_rotvec(np.radians(points[order])).as_matrix())


def scan(
    group: Points,
    moving: Moving,
    rotations: list[np.ndarray],
    targets: list[np.ndarray],
    settings: Settings,
    least: float,
) -> Scan:
    """Value of every pose on a grid of shifts, for every rotation and place of the samples' centre.

    Args:
        group: Fixed samples; the first ``SAMPLES_OF_SCAN`` in random order are taken.
        moving: Moving image of the coarsest level.
        rotations: 3×3 each.
        targets: Points [3] of the moving frame, LPS mm.
        settings: For the range and step of the shifts, and the seed.
        least: Share of samples that must lie inside the moving image.
    """
    step = settings.search_step_mm
    steps = [np.arange(-np.floor(r / step), np.floor(r / step) + 1) for r in settings.search_mm]
    shifts = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3).astype(int)
    division = max(1, round(step / settings.levels_mm[0]))
    grid = step / division
    reach = (np.abs(shifts).max(axis=0) * division).astype(int)
    labels, origin = _upright(moving, grid, reach)
    size = np.array(labels.shape[::-1])
    strides = np.array([1, size[0], size[0] * size[1]])
    offsets = (shifts * division) @ strides
    flat = labels.ravel()
    drawn = np.random.default_rng(settings.seed).permutation(len(group.world))[:SAMPLES_OF_SCAN]
    world, level = group.world[drawn], group.level[drawn] * BINS_OF_SCAN // BINS
    centre = group.world.mean(axis=0)
    poses, values = [], []
    for target, rotation in product(targets, rotations):
        place = (world - centre) @ rotation.T + target
        index = np.rint((place - origin) / grid).astype(np.int64)
        # What a shift can't bring inside stays in the margin, which counts as outside.
        index = np.clip(index, reach, size - 1 - reach)
        got = _values(flat, index @ strides, offsets, level, least)
        kept = np.flatnonzero(np.isfinite(got))
        pose = np.tile(np.eye(4), (len(kept), 1, 1))
        pose[:, :3, :3] = rotation
        pose[:, :3, 3] = target - rotation @ centre + shifts[kept] * step
        poses.append(pose)
        values.append(got[kept])
    poses, values = np.concatenate(poses), np.concatenate(values)
    order = np.argsort(-values, kind="stable")
    return Scan(poses[order], values[order])


def apart(found: Scan, centre: np.ndarray, count: int, shift_mm: float, deg: float) -> list:
    """The best poses (4×4) of which none is within ``shift_mm`` and ``deg`` of a better one."""
    poses = found.poses[:BEST]
    places = poses[:, :3, :3] @ centre + poses[:, :3, 3]
    free = np.ones(len(poses), bool)
    kept = []
    for number in range(len(poses)):
        if not free[number]:
            continue
        kept.append(poses[number])
        if len(kept) == count:
            break
        near = np.linalg.norm(places - places[number], axis=1) <= shift_mm
        cosine = np.einsum("nij,ij->n", poses[:, :3, :3], poses[number, :3, :3])
        near &= cosine >= 1 + 2 * np.cos(np.radians(deg))
        free &= ~near
    return kept


def _upright(moving: Moving, grid: float, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The moving image's scan bins (z, y, x) on an LPS grid with a margin that counts as outside,
    and the place of its first voxel."""
    to_world = np.linalg.inv(moving.to_index)
    size = np.array(moving.values.shape[::-1])
    corners = np.array(list(product(*[(0, n - 1) for n in size])), float)
    corners = corners @ to_world[:3, :3].T + to_world[:3, 3]
    margin = 2 * reach + 1
    origin = corners.min(axis=0) - margin * grid
    count = np.ceil((corners.max(axis=0) - corners.min(axis=0)) / grid).astype(int) + 1 + 2 * margin
    spacing = np.linalg.norm(to_world[:3, :3], axis=0)
    image = sitk.GetImageFromArray(moving.values)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((to_world[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(to_world[:3, 3].tolist())
    values = sitk.GetArrayFromImage(
        sitk.Resample(
            image,
            count.tolist(),
            sitk.Transform(),
            sitk.sitkNearestNeighbor,
            origin.tolist(),
            [grid] * 3,
            np.eye(3).ravel().tolist(),
            float("nan"),
        )
    )
    scaled = (values - EDGE) / (BINS - 1 - 2 * EDGE) * BINS_OF_SCAN
    labels = np.full(values.shape, BINS_OF_SCAN, np.uint8)
    inside = np.isfinite(values)
    labels[inside] = np.clip(scaled[inside], 0, BINS_OF_SCAN - 1).astype(np.uint8)
    return labels, origin


def _values(flat, base, offsets, level, least) -> np.ndarray:
    """Value of each shift, NaN where too few samples lie inside."""
    count, wide = len(base), BINS_OF_SCAN + 1
    cells = BINS_OF_SCAN * wide
    result = np.full(len(offsets), np.nan)
    size = max(1, CHUNK // count)
    for first in range(0, len(offsets), size):
        part = offsets[first : first + size]
        label = flat.take(base[None, :] + part[:, None])
        cell = label + (level * wide)[None, :] + (np.arange(len(part)) * cells)[:, None]
        joint = np.bincount(cell.ravel(), minlength=len(part) * cells)
        joint = joint.reshape(len(part), BINS_OF_SCAN, wide)[:, :, :BINS_OF_SCAN]
        total = joint.sum(axis=(1, 2))
        fits = total >= max(least * count, 1)
        if not fits.any():
            continue
        joint, total = joint[fits], total[fits]
        value = _terms(joint.reshape(len(joint), -1), total)
        value -= _terms(joint.sum(1), total) + _terms(joint.sum(2), total)
        result[first : first + size][fits] = value * total / count
    return result


def _terms(counts: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Σ p log p of each row, less its bias."""
    share = counts / total[:, None]
    return (share * np.log(np.where(counts > 0, share, 1.0))).sum(1) - ((counts > 0).sum(1) - 1) / (
        2 * total
    )
