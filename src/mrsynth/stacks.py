"""Slices in space: which of them form a stack, in which order, and with which affine.

Only ImagePositionPatient, ImageOrientationPatient and PixelSpacing count (DICOM PS3.3
C.7.6.2.1.1); slice numbers, slice locations, spacing and tilt tags are not looked at. Coordinates
are LPS mm.
"""

from dataclasses import dataclass

import numpy as np

from mrsynth.errors import Refusal

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of direction cosines within a stack; angled disc blocks differ by far more."""

SAME_POSITION_MM = 0.01
"""Slices closer than this are at the same position: no scanner takes steps of 10 µm."""

LINE_TOLERANCE_MM = 0.05
"""How far slices may lie off a common line; scanners round positions to 0.01 mm or less."""

LATTICE_TOLERANCE = 0.1
"""How far (in steps) a gap may be from a whole number to look like missing slices."""

FEW_MISSING = 2
"""Gaps that fit so many slices have lost them; disc blocks lie further apart."""

LARGEST_BLOCK = 12
"""Slices of a disc block at most; equal halves of a longer stack are one with a hole."""

PLANES = ("sagittal", "coronal", "axial")
"""Plane whose normal is the patient's x, y, z axis."""


@dataclass(frozen=True)
class Geometry:
    """A stack's place in space.

    Attributes:
        matrix: 4×4, from indices (x, y, z) to LPS mm; its third column is oblique to the others if
            tilted.
        tilt_deg: Angle between the line of the slices and their normal; 0 if the grid is
            orthogonal.
        deviation_mm: Largest distance of a slice's corner from where the matrix puts it.
    """

    matrix: np.ndarray
    tilt_deg: float
    deviation_mm: float


def normal(orientation: np.ndarray) -> np.ndarray:
    """Unit normal of a slice, row direction × column direction.

    Args:
        orientation: [6] direction cosines of the row and of the column.
    """
    return np.cross(orientation[:3], orientation[3:])


def plane(orientation: np.ndarray) -> str:
    """``axial``, ``sagittal`` or ``coronal``, the nearest within 45°, else ``oblique``."""
    size = np.abs(normal(orientation))
    nearest = int(np.argmax(size))
    return PLANES[nearest] if size[nearest] > np.sqrt(0.5) else "oblique"


def same_position(positions: np.ndarray, orientations: np.ndarray) -> list[list[int]]:
    """Groups of two and more slices at the same place with the same orientation.

    Args:
        positions: [n, 3] centres of the first voxels, mm.
        orientations: [n, 6] direction cosines.
    """
    groups = []
    for members in _orientation_clusters(orientations):
        along = positions[members] @ normal(orientations[members[0]])
        order = members[np.argsort(along, kind="stable")]
        run = [int(order[0])]
        for index in order[1:]:
            if np.linalg.norm(positions[index] - positions[run[0]]) < SAME_POSITION_MM:
                run.append(int(index))
                continue
            groups.append(run)
            run = [int(index)]
        groups.append(run)
    return [group for group in groups if len(group) > 1]


def split(
    positions: np.ndarray,
    orientations: np.ndarray,
    *,
    min_slices: int = 3,
    gap_factor: float = 1.5,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Split the slices of an acquisition into stacks.

    Slices of one stack share their orientation and lie on one line (oblique to the normal where
    the gantry was tilted). Where the step along the normal exceeds ``gap_factor`` times the most
    frequent one, the line is cut or refused:

    * the gap is a whole number of steps and at most two slices would fit in: slices are missing,
      refuse;
    * the gap is no whole number of steps, or all pieces are equally long disc blocks: separate
      blocks;
    * anything else: ambiguous, refuse.

    Args:
        positions: [n, 3] ImagePositionPatient, mm.
        orientations: [n, 6] ImageOrientationPatient.
        min_slices: Fewest slices of a stack.
        gap_factor: Steps above this multiple of the most frequent step are gaps.

    Returns:
        Stacks as index arrays, each in the order of its normal, stacks cranial to caudal (axial),
        right to left (sagittal), front to back (coronal); and the stray slices, too few to be a
        stack.

    Raises:
        Refusal: ``MISSING_SLICES``, ``AMBIGUOUS_GAPS``, ``DUPLICATE_POSITION``,
            ``INCONSISTENT_GEOMETRY`` or ``TOO_FEW_SLICES``.
    """
    stacks, stray = [], []
    for members in _orientation_clusters(orientations):
        if len(members) < min_slices:
            stray.extend(members)
            continue
        direction = normal(orientations[members].mean(axis=0))
        for line in _lines(positions[members], direction, min_slices):
            line = members[line]
            for piece in _pieces(positions[line] @ direction, min_slices, gap_factor):
                stacks.append(line[piece])
    if not stacks:
        raise Refusal(
            "TOO_FEW_SLICES",
            f"no {min_slices} parallel slices among {len(positions)}",
            "Set 'index.min_slices' lower, or leave the series out.",
        )
    stacks.sort(key=lambda stack: _stack_key(positions[stack], orientations[stack]))
    return stacks, np.array(sorted(stray), dtype=int)


def geometry(
    positions: np.ndarray,
    orientations: np.ndarray,
    pixel_mm: tuple[float, float],
    size: tuple[int, int],
    *,
    thickness_mm: float = 0.0,
    tolerance_mm: float = 0.01,
) -> Geometry:
    """The affine of an ordered stack, checked at the four corners of every slice.

    Args:
        positions: [n, 3] in the order of the normal, mm.
        orientations: [n, 6].
        pixel_mm: PixelSpacing: distance between rows, then between columns.
        size: Rows, columns.
        thickness_mm: Step of a stack of one slice.
        tolerance_mm: Largest distance of a corner from its place by the affine.

    Raises:
        Refusal: ``VARIABLE_SPACING`` or ``INCONSISTENT_GEOMETRY``.
    """
    row, column = _orthonormal(orientations.mean(axis=0))
    direction = np.cross(row, column)
    count = np.arange(len(positions))
    slope, origin = _line_fit(count, positions, thickness_mm * direction)
    corners = _corners(positions, orientations, pixel_mm, size)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = row * pixel_mm[1], column * pixel_mm[0]
    centre = origin + slope * count.mean()
    for step in (direction * (slope @ direction), slope):
        matrix[:3, 2] = step
        matrix[:3, 3] = centre - step * count.mean()
        deviation = _deviation(matrix, corners, size)
        if deviation <= tolerance_mm:
            cosine = np.clip(step @ direction / np.linalg.norm(step), -1, 1)
            sheared = step is slope
            return Geometry(matrix, float(np.degrees(np.arccos(cosine))) * sheared, deviation)
    steps = np.diff(positions @ direction)
    if np.ptp(steps) > tolerance_mm:
        raise Refusal(
            "VARIABLE_SPACING",
            f"steps between {steps.min():.4g} and {steps.max():.4g} mm in one stack",
            "Leave the series out, or choose another one in config/cohort.tsv.",
        )
    raise Refusal(
        "INCONSISTENT_GEOMETRY",
        f"a slice's corner lies {deviation:.3g} mm off the grid (allowed {tolerance_mm:g} mm)",
        "Leave the series out, or raise 'convert.tolerance_mm' and 'index.tolerance_mm'.",
    )


def check_orientation(orientation: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Whether six direction cosines are of unit length and perpendicular (PS3.3 C.7.6.2.1.1)."""
    if orientation.shape != (6,) or not np.isfinite(orientation).all():
        return False
    axes = orientation.reshape(2, 3)
    return bool(np.abs(axes @ axes.T - np.eye(2)).max() <= tolerance)


def _orientation_clusters(orientations: np.ndarray) -> list[np.ndarray]:
    """Index arrays of slices with the same orientation, the same for any order of the input."""
    order = np.lexsort(orientations.T[::-1])
    free = np.ones(len(orientations), dtype=bool)
    clusters = []
    for index in order:
        if free[index]:
            near = np.abs(orientations - orientations[index]).max(axis=1) <= ORIENTATION_TOLERANCE
            clusters.append(np.flatnonzero(near & free))
            free &= ~near
    return clusters


def _lines(positions: np.ndarray, direction: np.ndarray, min_slices: int) -> list[np.ndarray]:
    """Parallel slices grouped by the line they lie on, each in the normal's order."""
    along = positions @ direction
    offsets = positions - np.outer(along, direction)
    order = np.lexsort((*offsets.T, along))
    slope, start = _line_fit(along, offsets, np.zeros(3))
    if np.abs(offsets - start - np.outer(along, slope)).max() <= LINE_TOLERANCE_MM:
        return [order]
    lines, free = [], np.ones(len(along), dtype=bool)
    for index in order:
        if free[index]:
            near = np.linalg.norm(offsets - offsets[index], axis=1) <= LINE_TOLERANCE_MM
            lines.append(order[(near & free)[order]])
            free &= ~near
    shortest = min(len(line) for line in lines)
    if shortest < min_slices:
        raise Refusal(
            "INCONSISTENT_GEOMETRY",
            f"parallel slices lie on {len(lines)} lines, the shortest of {shortest} slices",
            "Leave the series out, or choose another one in config/cohort.tsv.",
        )
    return lines


def _pieces(along: np.ndarray, min_slices: int, gap_factor: float) -> list[np.ndarray]:
    """Cut ordered positions (mm along the normal) at their gaps, or refuse."""
    steps = np.diff(along)
    if (steps < SAME_POSITION_MM).any():
        raise Refusal(
            "DUPLICATE_POSITION",
            f"{int((steps < SAME_POSITION_MM).sum())} slices share a position with another one",
            "Send the series again, or leave it out.",
        )
    step = _modal(steps)
    gaps = np.flatnonzero(steps > gap_factor * step)
    pieces = np.split(np.arange(len(along)), gaps + 1)
    if not len(gaps):
        return pieces
    widths = steps[gaps] / step
    lattice = np.abs(widths - np.round(widths)) <= LATTICE_TOLERANCE
    missing = np.round(widths).astype(int) - 1
    named = ", ".join(f"{steps[gap]:.4g}" for gap in gaps[:3])
    if (lattice & (missing <= FEW_MISSING)).any():
        raise Refusal(
            "MISSING_SLICES",
            f"missing slices: {int(missing[lattice].sum())}; "
            f"gap of {named} mm where the step is {step:.4g} mm",
            "Send the series again; slices are never invented.",
        )
    lengths = [len(piece) for piece in pieces]
    blocks = len(set(lengths)) == 1 and lengths[0] <= LARGEST_BLOCK
    if min(lengths) < min_slices or (lattice.any() and not blocks):
        raise Refusal(
            "AMBIGUOUS_GAPS",
            f"gap of {named} mm where the step is {step:.4g} mm, pieces of {min(lengths)} to "
            f"{max(lengths)} slices: separate blocks or lost slices",
            "Leave the series out, or choose another one in config/cohort.tsv.",
        )
    return pieces


def _modal(steps: np.ndarray) -> float:
    """The most frequent step, the smallest of several; the median if none occurs twice."""
    values, counts = np.unique(np.round(steps, 2), return_counts=True)
    if counts.max() == 1 and len(steps) > 2:
        return float(np.median(steps))
    near = np.abs(steps - values[np.argmax(counts)]) <= 0.01
    return float(steps[near].mean()) if near.any() else float(values[0])


def _line_fit(x: np.ndarray, y: np.ndarray, single: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope (``single`` if n is 1) and start of the least-squares line of y [n, 3] over x [n]."""
    spread = x - x.mean()
    weight = spread @ spread
    slope = spread @ y / weight if weight > 0 else single
    return slope, y.mean(axis=0) - slope * x.mean()


def _orthonormal(orientation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest pair of perpendicular unit vectors (polar decomposition)."""
    left, _, right = np.linalg.svd(orientation.reshape(2, 3), full_matrices=False)
    row, column = left @ right
    return row, column


def _corners(positions, orientations, pixel_mm, size) -> np.ndarray:
    """Corners [n, 4, 3] of every slice by its own header (PS3.3 equation C.7.6.2.1-1)."""
    across = orientations[:, :3] * pixel_mm[1] * (size[1] - 1)
    down = orientations[:, 3:] * pixel_mm[0] * (size[0] - 1)
    return np.stack(
        [positions, positions + across, positions + down, positions + across + down], axis=1
    )


def _deviation(matrix: np.ndarray, corners: np.ndarray, size: tuple[int, int]) -> float:
    """Largest distance between corners [n, 4, 3] and where a matrix puts them, mm."""
    rows, columns = size
    indices = np.array(
        [[(x, y, z) for y in (0, rows - 1) for x in (0, columns - 1)] for z in range(len(corners))],
        dtype=float,
    )
    placed = indices @ matrix[:3, :3].T + matrix[:3, 3]
    return float(np.linalg.norm(placed - corners, axis=2).max())


def _stack_key(positions: np.ndarray, orientations: np.ndarray) -> tuple:
    """Sorts stacks cranial to caudal, right to left, or front to back by their plane."""
    centre = positions.mean(axis=0)
    axis = int(np.argmax(np.abs(normal(orientations.mean(axis=0)))))
    return axis, round(-centre[axis] if axis == 2 else centre[axis], 3), tuple(np.round(centre, 3))
