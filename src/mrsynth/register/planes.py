"""Planes through images, sampled as they are shown: right on the left, head or front on top."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mrsynth.geometry import apply
from mrsynth.volume import affine
from mrsynth.warp import is_ct

LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
"""Ends of the LPS axes: right and left, anterior and posterior, feet and head."""

SHOWN = {2: ((0, 1), (1, 1)), 0: ((1, 1), (2, -1)), 1: ((0, 1), (2, -1))}
"""By the plane's normal axis: LPS axis and sign along columns and along rows, as radiologists look
at an axial, a sagittal and a coronal plane."""

NAMES = {2: "axial", 1: "coronal", 0: "sagittal"}

ACROSS = 3
"""Planes over a thick slice whose values are averaged."""

SIDE_MM = (80.0, 65.0)
"""Width shown in front of and behind the spine on the overview; on both sides, their mean."""

TAILS, AROUND_MM = 0.2, 10.0
"""Per cent of the body's voxels at each end that may be noise, and the room around the others."""

ABOVE_MM = 40.0
"""What the overview shows above the highest and below the lowest block: more than a vertebra, so
that a shift by one can be counted."""

SHORTEST_MM = 240.0
"""The overview shows at least this much from top to bottom, a lumbar spine: one scale for all."""

BODY_BEFORE_MM = 12.0
"""From the mean of disc and canal points to the middle of the vertebral bodies, to the front."""


@dataclass(frozen=True)
class Plane:
    """Where the pixels of a picture lie.

    Attributes:
        name: What it shows.
        world: [rows, columns, 3] LPS mm.
        letters: At the left, right, top and bottom edge.
        step_mm: Size of a pixel.
    """

    name: str
    world: np.ndarray
    letters: tuple[str, str, str, str]
    step_mm: float


def letter(direction: np.ndarray) -> str:
    """The letter of the LPS half axis that a direction [3] is nearest to."""
    axis = int(np.argmax(np.abs(direction)))
    return LETTERS[axis][int(direction[axis] > 0)]


def flat(name: str, corner, column, row, width_mm: float, height_mm: float, step_mm: float):
    """A flat plane from its first corner [3] along two unit vectors [3], LPS mm."""
    column, row = np.asarray(column, float), np.asarray(row, float)
    across = (np.arange(max(1, round(width_mm / step_mm))) + 0.5) * step_mm
    down = (np.arange(max(1, round(height_mm / step_mm))) + 0.5) * step_mm
    world = np.asarray(corner) + across[:, None] * column + down[:, None, None] * row
    letters = (letter(-column), letter(column), letter(-row), letter(row))
    return Plane(name, world, letters, step_mm)


def box(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner [3] of an image's field along the LPS axes, mm."""
    size = np.array(image.GetSize())
    ends = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners = apply(affine(image), ends * size - 0.5)
    return corners.min(axis=0), corners.max(axis=0)


def body(image: sitk.Image) -> np.ndarray:
    """Lowest and highest corner and centre of mass [3, 3] of the body, LPS mm, kept inside the
    field; of the field where nothing stands out."""
    array = sitk.GetArrayViewFromImage(image)
    jump = [max(1, count // 64) for count in array.shape]
    array = np.nan_to_num(array[:: jump[0], :: jump[1], :: jump[2]].astype(np.float32))
    limit = -300.0 if is_ct(image) else 0.2 * np.percentile(array, 99)
    place = np.argwhere(array > limit) * jump
    low, high = box(image)
    if not len(place):
        return np.array([low, high, (low + high) / 2])
    world = apply(affine(image), place[:, ::-1])
    room = AROUND_MM * np.array([[-1], [1]])
    ends = np.percentile(world, (TAILS, 100 - TAILS), axis=0) + room
    return np.array([*np.clip(ends, low, high), world.mean(axis=0)])


def orthogonal(image: sitk.Image, step_mm: float) -> list[Plane]:
    """Axial, coronal and sagittal plane (LPS) through the body's middle, as far as it reaches."""
    low, high, centre = body(image)
    planes = []
    for axis, name in NAMES.items():
        column, row = (sign * np.eye(3)[a] for a, sign in SHOWN[axis])
        corner = centre.copy()
        for other, sign in SHOWN[axis]:
            corner[other] = low[other] if sign > 0 else high[other]
        size = [(high - low)[other] for other, _ in SHOWN[axis]]
        planes.append(flat(name, corner, column, row, *size, step_mm))
    return planes


def centre_slice(stack: sitk.Image, name: str, step_mm: float) -> Plane:
    """The middle slice of a stack, turned by quarter turns as radiologists look at it."""
    axes = np.array(stack.GetDirection()).reshape(3, 3)
    normal = int(np.argmax(np.abs(axes[:, 2])))
    wanted = [sign * np.eye(3)[axis] for axis, sign in SHOWN[normal]]
    first = int(np.argmax(np.abs(axes[:, :2].T @ wanted[0])))
    order = (first, 1 - first)
    size = np.array(stack.GetSize())
    index, lengths, vectors = np.zeros(3), [], []
    index[2] = size[2] // 2
    for axis, want in zip(order, wanted, strict=True):
        sign = 1.0 if axes[:, axis] @ want >= 0 else -1.0
        index[axis] = -0.5 if sign > 0 else size[axis] - 0.5
        vectors.append(sign * axes[:, axis])
        lengths.append(size[axis] * stack.GetSpacing()[axis])
    return flat(name, apply(affine(stack), index), *vectors, *lengths, step_mm)


def across(stack: sitk.Image) -> np.ndarray:
    """Offsets [n, 3] mm over a slice's thickness, taken as the slice spacing."""
    normal = np.array(stack.GetDirection()).reshape(3, 3)[:, 2]
    share = (np.arange(ACROSS) + 0.5) / ACROSS - 0.5
    return share[:, None] * stack.GetSpacing()[2] * normal


def read(image: sitk.Image, world: np.ndarray, pose=None, spread=None) -> np.ndarray:
    """Values of an image at points.

    Args:
        image: Image.
        world: Points [rows, columns, 3], LPS mm.
        pose: 4×4 from the points' frame to the image's; None is the identity.
        spread: Offsets [n, 3] in the points' frame whose values are averaged; None reads once.

    Returns:
        [rows, columns] float32; NaN outside the image's field.
    """
    array = sitk.GetArrayViewFromImage(image)
    matrix = np.linalg.inv(affine(image)) @ (np.eye(4) if pose is None else pose)
    last = np.array(image.GetSize()) - 1
    total = np.zeros(world.shape[:2])
    count = np.zeros(world.shape[:2])
    for offset in np.zeros((1, 3)) if spread is None else spread:
        index = apply(matrix, world + offset)
        inside = np.all((index >= -0.5) & (index <= last + 0.5), axis=-1)
        if not inside.any():
            continue
        place = np.clip(index[inside], 0, last)[:, ::-1].T
        total[inside] += ndimage.map_coordinates(array, place, np.float32, order=1, mode="nearest")
        count += inside
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def overview(
    stacks: list[sitk.Image], poses: list[np.ndarray], moving: sitk.Image, spine, height_px: int
) -> list[Plane]:
    """A sagittal and a coronal plane of the moving image that follow the spine past all stacks.

    Args:
        stacks: Fixed stacks.
        poses: 4×4 of each, fixed→moving, LPS mm.
        moving: Moving image.
        spine: Points [n, 3] of discs and canal in the moving frame; None takes flat planes through
            the stacks' middle.
        height_px: Rows of the planes.
    """
    corners = np.concatenate(
        [apply(pose, _corners(stack)) for stack, pose in zip(stacks, poses, strict=True)]
    )
    low, high = box(moving)
    ends = np.clip(
        [corners[:, 2].min() - ABOVE_MM, corners[:, 2].max() + ABOVE_MM], low[2], high[2]
    )
    size = max(ends[1] - ends[0], SHORTEST_MM)
    top = ends.mean() + size / 2
    step = size / height_px
    heights = top - (np.arange(height_px) + 0.5) * step
    if spine is None or len(spine) < 4:
        line = np.repeat(np.clip(corners.mean(axis=0), low, high)[None, :2], height_px, axis=0)
        before = 0.0
    else:
        line, before = _line(np.asarray(spine, float), heights), BODY_BEFORE_MM
    centre = line[:, 1].mean()
    depth = np.arange(centre - SIDE_MM[0], centre + SIDE_MM[1], step)
    half = np.mean(SIDE_MM)
    width = np.arange(-half, half, step)
    sagittal = np.empty((height_px, len(depth), 3))
    coronal = np.empty((height_px, len(width), 3))
    sagittal[..., 0], sagittal[..., 1] = line[:, :1], depth
    coronal[..., 0], coronal[..., 1] = line[:, 0].mean() + width, line[:, 1:] - before
    sagittal[..., 2] = coronal[..., 2] = heights[:, None]
    return [
        Plane("sagittal, along the spine", sagittal, ("A", "P", "H", "F"), step),
        Plane("coronal, along the spine", coronal, ("R", "L", "H", "F"), step),
    ]


def _corners(stack: sitk.Image) -> np.ndarray:
    ends = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    return apply(affine(stack), ends * np.array(stack.GetSize()) - 0.5)


def _line(spine: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """x and y [n, 2] of the spine at heights: a cubic, kept inside the points' range."""
    inside = np.clip(heights, spine[:, 2].min(), spine[:, 2].max())
    middle_z = spine[:, 2].mean()
    return np.stack(
        [
            np.polyval(np.polyfit(spine[:, 2] - middle_z, spine[:, axis], 3), inside - middle_z)
            for axis in (0, 1)
        ],
        axis=1,
    )
