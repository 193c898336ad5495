"""Judges what a converter made of a folder of DICOM against the true volumes in it.

A volume is right if every voxel has the value that belongs to the place where the volume's own
affine puts it; what lies outside the true volume must be empty.
"""

from dataclasses import dataclass, field

import numpy as np

from dicommake import True3D

ON_GRID_MM = 0.02
"""A voxel this near to a true one must have its value; others are compared with the function."""
NOISE = 1e-3
"""Rounding of an affine in 32 bits, in indices: such a voxel still counts as inside."""
EXACT = 0.01
"""Largest difference on the grid: less than half a quantum of any case's rescale."""
STEEPEST = 15.0
"""Per mm: an interpolated voxel that falls beside a true one by ``away`` may differ by this times
``away``; the function's slope reaches 14 per mm, and rounding of its neighbours adds a little."""
INTERPOLATED = 2.0
"""Largest difference off the grid: rounding (0.5) and linear interpolation over 3 mm (1.3); the
function changes by up to 12 per mm, so that 0.2 mm out of place exceeds it."""
RIM = 1.0
"""Voxels (in true indices) beyond the outermost centres in which an interpolated value may mix
with the background."""


@dataclass
class Output:
    """What a converter did.

    Attributes:
        volumes: (array (z, y, x) or (z, y, x, channels), 4×4 from indices (x, y, z) to LPS mm).
        messages: What it said: reason codes, warnings, an exception's name.
        crashed: Died, hung or raised something that is not about the data.
    """

    volumes: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    crashed: bool = False


def verdict(output: Output, truths: list[True3D]) -> str:
    """One of ``right``, ``split right``, ``refused``, ``refused in part``, ``wrong, silent``,
    ``wrong, warned``, ``crash``.

    ``refused in part`` is said of right volumes beside others that were left out as a whole, with a
    message. A right volume that is shorter than the true one is wrong.
    """
    if output.crashed:
        return "crash"
    if not output.volumes:
        return "refused"
    wrong = "wrong, warned" if output.messages else "wrong, silent"
    if not all(is_right(array, matrix, truths) for array, matrix in output.volumes):
        return wrong
    missing = [t for t in truths if t.required and not is_covered(t, output.volumes)]
    if missing:
        shortened = any(
            is_right(*volume, [truth]) for volume in output.volumes for truth in missing
        )
        return "refused in part" if output.messages and not shortened else wrong
    return "right" if len(output.volumes) == 1 else "split right"


def is_right(array: np.ndarray, matrix: np.ndarray, truths: list[True3D]) -> bool:
    """Whether a volume agrees, in all of its voxels, with one of the true ones."""
    array = np.asarray(array, dtype=float)
    channels = [array] if array.ndim == 3 else list(np.moveaxis(array, -1, 0))
    return any(all(_agrees(channel, matrix, truth) for channel in channels) for truth in truths)


def is_covered(truth: True3D, volumes: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether some agreeing volume reaches every voxel of a true one."""
    corners = _corners(truth.array.shape) @ truth.matrix[:3, :3].T + truth.matrix[:3, 3]
    for array, matrix in volumes:
        place = _indices(corners, matrix)
        last = np.array(array.shape[2::-1]) - 1
        inside = (place > -NOISE).all() and (place < last + NOISE).all()
        if inside and is_right(array, matrix, [truth]):
            return True
    return False


def _agrees(values: np.ndarray, matrix: np.ndarray, truth: True3D) -> bool:
    if not np.isfinite(values).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
        return False
    z, y, x = np.indices(values.shape)
    points = np.stack([x, y, z], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]
    place = _indices(points, truth.matrix)
    last = np.array(truth.array.shape[::-1]) - 1
    nearest = np.clip(np.round(place), 0, last).astype(int)
    away = np.linalg.norm((place - nearest) @ truth.matrix[:3, :3].T, axis=-1)
    inside = (place >= -NOISE).all(-1) & (place <= last + NOISE).all(-1)
    on_grid = inside & (away < ON_GRID_MM)
    beyond = (place < -RIM).any(-1) | (place > last + RIM).any(-1)
    expected = truth.array[nearest[..., 2], nearest[..., 1], nearest[..., 0]]
    empty = np.isnan(expected)
    known = on_grid & np.isfinite(expected)
    difference = np.abs(values - expected, where=known, out=np.zeros(values.shape))
    if (difference > EXACT + STEEPEST * away).any() or (values[on_grid & empty] > truth.air).any():
        return False
    if (values[beyond] > truth.air).any():
        return False
    between = inside & ~known & ~empty
    if not between.any():
        return bool(known.any())
    if truth.function is None:
        return False
    return bool((np.abs(values[between] - truth.function(points[between])) < INTERPOLATED).all())


def _indices(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Continuous indices (x, y, z) of world points."""
    return (points - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T


def _corners(shape: tuple[int, ...]) -> np.ndarray:
    z, y, x = (size - 1 for size in shape)
    return np.array([(i * x, j * y, k * z) for i in (0, 1) for j in (0, 1) for k in (0, 1)])
