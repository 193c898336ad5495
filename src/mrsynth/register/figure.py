"""The picture by which a person checks a registration: overlay, checkerboard and edges, with the
numbers."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mrsynth.volume import to_array
from mrsynth.warp import is_ct, transform_of, warp

TILE_MM = 25.0
"""Side of a checkerboard's field: a vertebral body shows at least one border inside."""

CT_VIEW_HU = (-160.0, 340.0)
"""Window in which discs, sac and cortical bone are all told apart."""

SMALLEST_MM = 0.8
"""Pixels of the figure; finer ones don't show in print."""

COLUMN_INCH, CAPTION_INCH = 3.0, 0.35
"""Width of a picture and the room for the line under it; 80 dots per inch."""

VERDICT_COLOURS = {"accepted": "#4caf50", "review": "#ffb300", "failed": "#f44336"}


def write_figure(path, stacks, moving, whole, single, *, stack_note: str = "") -> None:
    """Write the QC figure: three planes of one volume, or a row per stack.

    Args:
        path: PNG to write.
        stacks: Fixed stacks.
        moving: Moving volume.
        whole: Registration of the whole.
        single: Registration per stack; empty for one volume.
        stack_note: Text under the title, such as which image is fixed.
    """
    rows = []
    if len(stacks) == 1 and not single:
        for name, fixed, warped in three_planes(stacks[0], moving, whole.matrix):
            rows.append((name, fixed, warped, None))
    else:
        for number, (stack, result) in enumerate(zip(stacks, single, strict=True), start=1):
            middle = middle_slice(stack)
            warped = warp(moving, middle, transform_of(result.matrix), samples=3)
            rows.append((f"stack {number}", *_planes(middle, warped), result))
    _draw(path, rows, whole, is_ct(stacks[0]), is_ct(moving), stack_note)


def middle_slice(stack: sitk.Image) -> sitk.Image:
    """The middle slice as a volume of its own."""
    size, index = list(stack.GetSize()), [0, 0, stack.GetSize()[2] // 2]
    return sitk.RegionOfInterest(stack, [size[0], size[1], 1], index)


def three_planes(fixed: sitk.Image, moving: sitk.Image, matrix: np.ndarray):
    """Axial, coronal and sagittal planes (LPS) through the middle of the fixed volume, both images.

    Yields:
        Name, fixed plane and warped moving plane, each (array [rows, columns], pixel in mm).
    """
    centre = np.array(
        fixed.TransformContinuousIndexToPhysicalPoint(
            ((np.array(fixed.GetSize()) - 1) / 2).tolist()
        )
    )
    corners = np.array(
        [
            fixed.TransformIndexToPhysicalPoint([int(x), int(y), int(z)])
            for x in (0, fixed.GetSize()[0] - 1)
            for y in (0, fixed.GetSize()[1] - 1)
            for z in (0, fixed.GetSize()[2] - 1)
        ]
    )
    low, high = corners.min(axis=0), corners.max(axis=0)
    step = max(SMALLEST_MM, min(fixed.GetSpacing()))
    # Columns and rows as a radiologist sees them: patient's right on the left, head up.
    views = {
        "axial": ((0, 1), (1, 1)),
        "coronal": ((0, 1), (2, -1)),
        "sagittal": ((1, 1), (2, -1)),
    }
    for name, (column, row) in views.items():
        plane = _plane_grid(centre, low, high, column, row, step)
        pair = [
            sitk.Resample(image, plane, transform, sitk.sitkLinear, value)
            for image, transform, value in (
                (fixed, sitk.Transform(), _air(fixed)),
                (moving, transform_of(matrix), _air(moving)),
            )
        ]
        yield (name, *_planes(*pair))


def _plane_grid(centre, low, high, column, row, step) -> sitk.Image:
    """A one-slice image along two LPS axes (axis, sign) through a centre."""
    axes = np.zeros((3, 3))
    origin = centre.copy()
    size = []
    for place, (axis, sign) in enumerate((column, row)):
        axes[axis, place] = sign
        origin[axis] = low[axis] if sign > 0 else high[axis]
        size.append(max(1, int((high[axis] - low[axis]) / step) + 1))
    axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])
    grid = sitk.Image(size[0], size[1], 1, sitk.sitkFloat32)
    grid.SetSpacing([step, step, step])
    grid.SetOrigin(origin.tolist())
    grid.SetDirection(axes.ravel().tolist())
    return grid


def _air(image: sitk.Image) -> float:
    return -1024.0 if is_ct(image) else 0.0


def _planes(fixed: sitk.Image, moving: sitk.Image):
    pixel = fixed.GetSpacing()[:2]
    return tuple((to_array(image)[0], pixel) for image in (fixed, moving))


def _grey(array: np.ndarray, ct: bool) -> np.ndarray:
    """Grey levels 0–1: a fixed window for CT, a robust range for MR."""
    low, high = CT_VIEW_HU if ct else (0.0, max(float(np.percentile(array, 99.3)), 1e-6))
    return np.clip((array - low) / (high - low), 0, 1)


def checkerboard(one: np.ndarray, other: np.ndarray, pixel) -> np.ndarray:
    """Fields of both images in turn; pixel is (x, y) in mm."""
    rows, columns = np.indices(one.shape)
    field = (rows * pixel[1] // TILE_MM + columns * pixel[0] // TILE_MM) % 2
    return np.where(field == 0, one, other)


def edges(grey: np.ndarray, pixel) -> np.ndarray:
    """Mask of the strongest borders: maxima of the gradient across its direction (Canny's first
    half)."""
    sigma = [1.5 / pixel[1], 1.5 / pixel[0]]
    along_y = ndimage.gaussian_filter(grey, sigma, order=(1, 0))
    along_x = ndimage.gaussian_filter(grey, sigma, order=(0, 1))
    strength = np.hypot(along_y, along_x)
    top = strength >= max(float(np.percentile(strength, 85)), 1e-6)
    rows, columns = np.indices(grey.shape).astype(float)
    unit_y, unit_x = along_y / (strength + 1e-9), along_x / (strength + 1e-9)
    peak = np.ones(grey.shape, bool)
    for sign in (-1, 1):
        beside = ndimage.map_coordinates(
            strength, [rows + sign * unit_y, columns + sign * unit_x], order=1, mode="nearest"
        )
        peak &= strength >= beside
    return top & peak


def _draw(path, rows, whole, fixed_ct: bool, moving_ct: bool, note: str) -> None:
    kinds = tuple("CT" if ct else "MR" for ct in (fixed_ct, moving_ct))
    titles = (
        f"fixed ({kinds[0]})",
        f"moving ({kinds[1]}), aligned",
        "overlay",
        "checkerboard",
        f"edges of {kinds[1]} on {kinds[0]}",
    )
    ratios = [
        fixed[0].shape[0] * fixed[1][1] / (fixed[0].shape[1] * fixed[1][0]) for _, fixed, *_ in rows
    ]
    heights = [COLUMN_INCH * min(ratio, 1.6) + CAPTION_INCH for ratio in ratios]
    figure, axes = plt.subplots(
        len(rows),
        5,
        figsize=(5 * COLUMN_INCH, sum(heights) + 0.8),
        squeeze=False,
        facecolor="black",
        height_ratios=heights,
        layout="constrained",
    )
    for line, (name, fixed, moving, result) in zip(axes, rows, strict=True):
        (one, pixel), (other, _) = fixed, moving
        one, other = _grey(one, fixed_ct), _grey(other, moving_ct)
        colour = np.stack([other, one, other], axis=-1)
        outline = np.repeat(one[..., None], 3, axis=2)
        outline[edges(other, pixel)] = (1.0, 0.85, 0.0)
        shown = (one, other, colour, checkerboard(one, other, pixel), outline)
        for axis, picture in zip(line, shown, strict=True):
            axis.imshow(
                picture,
                cmap="gray",
                vmin=0,
                vmax=1,
                aspect=pixel[1] / pixel[0],
                interpolation="nearest",
            )
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name, color="white", fontsize=11)
        if result is not None:
            line[2].set_xlabel(_summary(result), color=VERDICT_COLOURS[result.verdict], fontsize=9)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, color="white", fontsize=10)
    figure.suptitle(
        f"{note + ' — ' if note else ''}{_summary(whole)}",
        color=VERDICT_COLOURS[whole.verdict],
        fontsize=11,
    )
    figure.savefig(path, dpi=80, facecolor="black", metadata={"Software": None})
    plt.close(figure)


def _summary(result) -> str:
    """Verdict and numbers in one line."""
    names = {
        "mi": "MI {:.2f} nats",
        "overlap": "overlap {:.0%}",
        "rival": "rival {:.2f}",
        "repeat_mm": "repeat {:.1f} mm",
        "rotation_deg": "turn {:.1f}°",
        "displacement_mm": "shift {:.0f} mm",
        "from_whole_mm": "from whole {:.1f} mm",
        "from_whole_deg": "{:.1f}°",
    }
    parts = [result.verdict.upper()]
    if "from_whole_mm" in result.measures:
        names = {k: v for k, v in names.items() if k not in ("rotation_deg", "displacement_mm")}
    for key, text in names.items():
        value = result.measures.get(key)
        if value is not None:
            parts.append(text.format(value))
    reasons = result.measures.get("reasons") or []
    return " · ".join(parts) + (f"\n{'; '.join(reasons)}" if reasons else "")
