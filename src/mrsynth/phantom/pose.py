"""How the patient lies: material frame to CT and MR, and from MR to CT point by point."""

from dataclasses import dataclass

import numpy as np

from mrsynth.phantom.anatomy import Anatomy, rotation, stream

LEVEL_CHANGE_DEG = 2.0  # deviation of the change of angle per disc between CT and MR
# Displacement between neighbours is blended over the disc near the spine and over more around it,
# since soft tissue far from the disc would tear otherwise.
CORE_MM = 26.0
BLEND_SLOPE = 0.5
BLEND_MAX_MM = 60.0


@dataclass
class Pose:
    """Where one subject lies in both scanners.

    Attributes:
        ct: 4×4, material to CT (rigid).
        mr: 4×4, relaxed frame to MR (rigid).
        chain: 4×4 of each segment (sacrum, L5, L4, …), relaxed to material (rigid).
        discs: [n, 3] disc centres in the relaxed frame, upwards.
        normals: [n, 3] their unit normals (up).
        heights: [n] disc heights, mm.
    """

    ct: np.ndarray
    mr: np.ndarray
    chain: list[np.ndarray]
    discs: np.ndarray
    normals: np.ndarray
    heights: np.ndarray


def draw_pose(
    seed: int, number: int, anatomy: Anatomy, change_deg: float = LEVEL_CHANGE_DEG
) -> Pose:
    """Draw both poses.

    The material frame is the CT's posture. In the MR scanner each disc is bent by a rotation about
    its own centre (mostly flexion), upwards from the sacrum, so each vertebra moves rigidly.
    """
    rng = stream(seed, number, "pose")
    ct = _rigid(rotation(*np.radians(rng.normal(0, [2.0, 1.5, 1.5]))), rng.normal(0, [12, 8, 15]))
    ct[:3, 3] += (0, -rng.uniform(120, 180), -rng.uniform(300, 700))
    turn = np.radians(np.clip(rng.normal(0, [3.0, 2.5, 2.5]), -7, 7))
    mr = _rigid(rotation(*turn), rng.uniform(-1, 1, 3) * (20, 20, 35))
    forward, chain, centres, normals = np.eye(4), [np.eye(4)], [], []
    trend = rng.normal(0, 0.6 * change_deg)
    for disc in anatomy.discs:
        bend = np.radians(
            [trend + rng.normal(0, 0.6 * change_deg), *rng.normal(0, 0.25 * change_deg, 2)]
        )
        bend = np.clip(bend, -np.radians(4), np.radians(4))
        before = forward
        forward = before @ about(disc.centre, rotation(*bend))
        centres.append((before @ [*disc.centre, 1])[:3])
        normal = before[:3, :3] @ disc.axes[:, 2] + forward[:3, :3] @ disc.axes[:, 2]
        normals.append(normal / np.linalg.norm(normal))
        chain.append(np.linalg.inv(forward))
    heights = np.array([disc.height for disc in anatomy.discs])
    return Pose(ct, mr, chain, np.array(centres), np.array(normals), heights)


def about(centre, turn) -> np.ndarray:
    """4×4 rotation about a point."""
    return _rigid(turn, centre - turn @ centre)


def _rigid(turn, shift) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, shift
    return matrix


def transform(matrix, points) -> np.ndarray:
    """Apply a 4×4 matrix to points [n, 3]."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def relaxed_to_material(pose: Pose, points: np.ndarray) -> np.ndarray:
    """Blend the segments' rigid motions along the spine's axis; points [n, 3] in mm."""
    result = transform(pose.chain[0].astype(points.dtype), points)
    for order, (centre, normal) in enumerate(zip(pose.discs, pose.normals, strict=True)):
        apart = points - centre.astype(points.dtype)
        along = apart @ normal.astype(points.dtype)
        if along.max() < -0.5 * BLEND_MAX_MM:
            break
        away = np.sqrt(np.maximum((apart**2).sum(1) - along**2, 0))
        width = np.clip(
            pose.heights[order] + BLEND_SLOPE * (away - CORE_MM), pose.heights[order], BLEND_MAX_MM
        )
        t = np.clip(along / width + 0.5, 0, 1)
        share = (t * t * (3 - 2 * t)).astype(points.dtype)
        step = (pose.chain[order + 1] - pose.chain[order]).astype(points.dtype)
        result += share[:, None] * transform(step, points)
    return result


def mr_to_material(pose: Pose, points: np.ndarray) -> np.ndarray:
    """MR points (LPS mm, [n, 3]) to the material frame."""
    inverse = np.linalg.inv(pose.mr).astype(points.dtype)
    return relaxed_to_material(pose, transform(inverse, points))


def mr_to_ct(pose: Pose, points: np.ndarray) -> np.ndarray:
    """MR points to CT points (LPS mm, [n, 3]): the exact, non-rigid truth."""
    return transform(pose.ct, mr_to_material(pose, points))


def material_to_mr(pose: Pose, points: np.ndarray, rounds: int = 30) -> np.ndarray:
    """Inverse of :func:`mr_to_material` by fixed-point iteration (contracts: bends are small)."""
    target = transform(pose.mr, points.astype(np.float64))
    guess = target.copy()
    for _ in range(rounds):
        error = transform(pose.mr, mr_to_material(pose, guess)) - target
        guess -= error
    return guess


def vertebra_matrix(pose: Pose, segment: int) -> np.ndarray:
    """4×4 MR to CT of segment 0 (sacrum), 1 (L5), 2 (L4), …: exact within the bone."""
    return pose.ct @ pose.chain[segment] @ np.linalg.inv(pose.mr)


def disc_planes_mr(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Disc centres and unit normals in the MR frame."""
    return transform(pose.mr, pose.discs), pose.normals @ pose.mr[:3, :3].T
