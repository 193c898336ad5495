"""Cuts through volumes with the map of their pixels to LPS mm.

A view's pixel (column c, row r) lies at ``origin_mm + c·across_mm + r·down_mm`` in the landmarks'
frame; pixels count from 0 at the first one's centre.
"""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mrsynth.crop import orientation
from mrsynth.geometry import apply, apply_direction, unit
from mrsynth.locate.landmarks import Disc
from mrsynth.volume import affine, to_array

CT_VIEW_HU = (-160.0, 340.0)
"""Window in which discs, sac and cortical bone are all told apart."""

ABOVE_MM, BELOW_MM = 40.0, 45.0
"""Room above the uppermost and below the lowest disc: one vertebra, and the sacrum's top."""

AHEAD_MM, BEHIND_MM = 62.0, 75.0
"""Room before and behind the discs: the planes with their names, and the spinous processes."""

WHOLE_PIXELS = 224
"""Longer side of a view of a whole slice, pixels."""


def on_slice(
    stacks: dict[str, sitk.Image],
    slice_: int,
    matrix: np.ndarray,
    frame: tuple[np.ndarray, float, float] | None = None,
) -> tuple[dict[str, np.ndarray], dict]:
    """One slice of several images on one grid, turned as radiologists look at it.

    Args:
        stacks: Images (grey levels) of one grid by name.
        slice_: Number of the slice.
        matrix: 4×4, the grid's points to the landmarks' frame, LPS mm.
        frame: Centre [3] in the landmarks' frame, side and pixel in mm; None shows the whole slice.

    Returns:
        Pictures [rows, columns] by name, and the view's map.
    """
    grid = next(iter(stacks.values()))
    axes, signs = orientation(grid)
    to_world = affine(grid)
    spacing, size = np.array(grid.GetSpacing()), np.array(grid.GetSize())
    down, across = (
        sign * to_world[:3, axis] / spacing[axis] for axis, sign in zip(axes, signs, strict=True)
    )
    middle = apply(to_world, [(size[0] - 1) / 2, (size[1] - 1) / 2, slice_])
    if frame is None:
        sides = (size * spacing)[list(axes)]
        pixel = float(sides.max() / WHOLE_PIXELS)
        rows, columns = (max(1, int(side / pixel)) for side in sides)
        centre = middle
    else:
        at, side, pixel = frame
        rows = columns = max(1, round(side / pixel))
        normal = unit(to_world[:3, 2])
        centre = apply(np.linalg.inv(matrix), at)
        centre = centre - ((centre - middle) @ normal) * normal
    origin = centre - pixel * ((rows - 1) / 2 * down + (columns - 1) / 2 * across)
    points = _grid(origin, pixel * across, pixel * down, columns, rows)
    pictures = {name: sample(image, points)[0] for name, image in stacks.items()}
    view = _map(
        apply(matrix, origin),
        matrix[:3, :3] @ (pixel * across),
        matrix[:3, :3] @ (pixel * down),
        columns,
        rows,
    )
    return pictures, view | {"pixel_mm": round(pixel, 4)}


def follow(
    native: sitk.Image,
    stacks: list[sitk.Image],
    to_fixed: list[np.ndarray],
    discs: list[Disc],
    pixel_mm: float,
) -> tuple[dict[str, np.ndarray], dict]:
    """A sagittal view that follows the discs from side to side, of the native volume and of stacks.

    Args:
        native: Volume in the landmarks' frame (CT in HU).
        stacks: Grey levels of the other image's stacks.
        to_fixed: Per stack 4×4, the landmarks' frame to the stack's, LPS mm.
        discs: Cranial to caudal, at least one.
        pixel_mm: Pixel, mm.

    Returns:
        Pictures ``native`` and ``other`` (0 where no stack lies), and the view's map. Its rows and
        columns are exact along z and y; x is the discs' own.
    """
    centres = np.array([disc.centre_mm for disc in discs])
    order = np.argsort(centres[:, 2])
    top, bottom = centres[:, 2].max() + ABOVE_MM, centres[:, 2].min() - BELOW_MM
    front, back = centres[:, 1].min() - AHEAD_MM, centres[:, 1].max() + BEHIND_MM
    rows, columns = (max(1, int((b - a) / pixel_mm)) for a, b in ((bottom, top), (front, back)))
    points = np.zeros((rows, columns, 3))
    points[..., 2] = (top - pixel_mm * np.arange(rows))[:, None]
    points[..., 1] = front + pixel_mm * np.arange(columns)
    points[..., 0] = np.interp(points[..., 2], centres[order, 2], centres[order, 0])
    hu = sample(native, points, outside=CT_VIEW_HU[0])[0]
    low, high = CT_VIEW_HU
    other = np.zeros((rows, columns))
    for stack, matrix in zip(stacks, to_fixed, strict=True):
        values, inside = sample(stack, apply(matrix, points))
        other = np.where(inside, values, other)
    pictures = {"native": 255 * (hu - low) / (high - low), "other": other}
    return pictures, _map([0, front, top], [0, pixel_mm, 0], [0, 0, -pixel_mm], columns, rows)


def sample(
    image: sitk.Image, points: np.ndarray, outside: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Values of an image at points (…, 3) in LPS mm, linear, and whether they lie in its field."""
    index = apply(np.linalg.inv(affine(image)), points)
    size = np.array(image.GetSize())
    inside = np.all((index >= -0.5) & (index <= size - 0.5), axis=-1)
    places = np.moveaxis(index[..., ::-1], -1, 0)
    values = ndimage.map_coordinates(to_array(image), places, order=1, mode="nearest")
    return np.where(inside, values, outside), inside


def slice_line(stack: sitk.Image, slice_: int, matrix: np.ndarray) -> dict:
    """The slice's plane for the sagittal view: a point and the normal in the landmarks' frame, LPS
    mm; None for a slice that runs along that view."""
    size = stack.GetSize()
    to_world = affine(stack)
    centre = apply(matrix, apply(to_world, [(size[0] - 1) / 2, (size[1] - 1) / 2, slice_]))
    normal = apply_direction(matrix, to_world[:3, 2])
    if np.hypot(normal[1], normal[2]) < 0.5:
        return {"through_mm": None, "normal": None}
    return {"through_mm": _rounded(centre), "normal": _rounded(normal)}


def _grid(origin, across, down, columns: int, rows: int) -> np.ndarray:
    """Points (rows, columns, 3) of a view."""
    return (
        np.asarray(origin)
        + np.arange(rows)[:, None, None] * np.asarray(down)
        + np.arange(columns)[:, None] * np.asarray(across)
    )


def _map(origin, across, down, columns: int, rows: int) -> dict:
    return {
        "origin_mm": _rounded(origin),
        "across_mm": _rounded(across),
        "down_mm": _rounded(down),
        "columns": columns,
        "rows": rows,
    }


def _rounded(vector) -> list[float]:
    return [round(float(value), 5) for value in vector]
