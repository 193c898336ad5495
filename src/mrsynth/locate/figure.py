"""One page to look at: where the discs, the sac and the edges were found."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk

from mrsynth.geometry import frame
from mrsynth.locate.column import evenly
from mrsynth.locate.grid import Grid, upright
from mrsynth.locate.landmarks import Disc, Landmarks

# Grey levels of a bone window wide enough to show discs as well, HU.
SHOWN_HU = {"vmin": -150, "vmax": 450, "cmap": "gray"}
# Voxel size on the page, and half the width of an axial cut.
SPACING_MM, HALF_CUT_MM = 1.2, 60.0
# Half the length of a drawn plane: a little more than a body's depth.
HALF_PLANE_MM = 26.0
COLOURS = {"plane": "#ffcc00", "sac": "#00d0ff", "ventral": "#ff5a3c", "lateral": "#6ee26e"}


def figure(ct: sitk.Image, landmarks: Landmarks, path: str | Path) -> None:
    """Write a PNG: sagittal and coronal cuts that follow the spine, and a cut through each disc.

    Args:
        ct: The native CT in HU.
        landmarks: What was found in it.
        path: PNG to write.
    """
    grid = upright(ct, SPACING_MM)
    discs = landmarks.discs
    columns = max(2, -(-len(discs) // 2))
    page = plt.figure(figsize=(7 + 2.6 * columns, 7), layout="constrained")
    grids = page.add_gridspec(2, 4 + columns, width_ratios=[1.6] * 4 + [1.7] * columns)
    _along(page.add_subplot(grids[:, :2]), grid, landmarks, across=1)
    _along(page.add_subplot(grids[:, 2:4]), grid, landmarks, across=0)
    for number, disc in enumerate(discs):
        row, column = divmod(number, columns)
        _cut(page.add_subplot(grids[row, 4 + column]), grid, disc)
    if landmarks.flags:
        page.suptitle(", ".join(landmarks.flags), color="#c03000", fontsize=10)
    page.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(page)


def _along(axes, grid: Grid, landmarks: Landmarks, across: int) -> None:
    """A cut that shows z against y (``across`` 1, sagittal) or x (0, coronal) and follows the
    discs.
    """
    other = 1 - across
    centres = np.array([disc.centre_mm for disc in landmarks.discs])
    order = np.argsort(centres[:, 2])
    depth, height, width = grid.values.shape
    z = grid.origin[2] + np.arange(depth) * grid.spacing
    follow = np.interp(z, centres[order, 2], centres[order, other])
    along = grid.origin[across] + np.arange(height if across else width) * grid.spacing
    points = np.zeros((depth, len(along), 3))
    points[..., 2] = z[:, None]
    points[..., across] = along
    points[..., other] = follow[:, None]
    # Right is left of the page in a coronal view, as radiologists look at it; front left in a
    # sagittal one.
    extent = (along[0], along[-1], z[0], z[-1])
    axes.imshow(grid.sample(points), origin="lower", extent=extent, aspect="equal", **SHOWN_HU)
    if len(landmarks.canal) > 1:
        line = evenly(landmarks.canal)
        axes.plot(line[:, across], line[:, 2], color=COLOURS["sac"], lw=0.8)
    for disc in landmarks.discs:
        hint = [0.0, -1.0, 0.0] if across else [1.0, 0.0, 0.0]
        reach = frame(disc.normal, np.array(hint))[0] * HALF_PLANE_MM
        ends = np.array([disc.centre_mm - reach, disc.centre_mm + reach])
        axes.plot(ends[:, across], ends[:, 2], color=COLOURS["plane"], lw=1.2)
        axes.plot(*disc.centre_mm[[across, 2]], ".", color=COLOURS["plane"], ms=4)
        x, _, z_text = ends[np.argmin(ends[:, across])][[across, 1 - across, 2]]
        text = f"{disc.level or '?'} {disc.confidence:.2f} "
        axes.text(x, z_text, text, color="white", fontsize=7, ha="right", va="center")
    low, high = centres.min(0) - 60, centres.max(0) + 60
    axes.set_xlim(max(along[0], low[across]), min(along[-1], high[across]))
    axes.set_ylim(max(z[0], low[2]), min(z[-1], high[2]))
    axes.set_title("sagittal, following the discs" if across else "coronal", fontsize=9)
    axes.set_xlabel("mm to the back" if across else "mm to the patient's left", fontsize=8)
    axes.set_ylabel("mm up", fontsize=8)
    axes.tick_params(labelsize=7)
    _letters(axes, *(("A", "P") if across else ("R", "L")), "S", "I")


def _cut(axes, grid: Grid, disc: Disc) -> None:
    """The disc's own plane, seen from below, front up."""
    ahead = np.array([0.0, -1.0, 0.0]) if disc.sac_mm is None else disc.centre_mm - disc.sac_mm
    rows = frame(disc.normal, ahead)
    at = np.arange(-HALF_CUT_MM, HALF_CUT_MM + 0.1, SPACING_MM)
    points = disc.centre_mm + at[:, None, None] * -rows[0] + at[:, None] * rows[1]
    half = HALF_CUT_MM
    axes.imshow(grid.sample(points), extent=(-half, half, half, -half), **SHOWN_HU)

    def mark(point: np.ndarray, colour: str, style: str) -> None:
        offset = point - disc.centre_mm
        axes.plot(offset @ rows[1], -offset @ rows[0], style, color=colour, ms=6, mew=1.4)

    mark(disc.centre_mm, COLOURS["plane"], "+")
    if disc.sac_mm is not None:
        mark(disc.sac_mm, COLOURS["sac"], "x")
    if disc.ventral_mm is not None:
        mark(disc.ventral_mm, COLOURS["ventral"], "^")
    for point in () if disc.lateral_mm is None else disc.lateral_mm:
        mark(point, COLOURS["lateral"], "|")
    axes.set_title(f"{disc.level or 'unnamed'}  {disc.confidence:.2f}", fontsize=9)
    axes.set_axis_off()
    _letters(axes, "R", "L", "A", "P")


def _letters(axes, left: str, right: str, top: str, bottom: str) -> None:
    """The directions of the patient at the four edges of a cut."""
    for x, y, letter in (
        (0.03, 0.5, left),
        (0.97, 0.5, right),
        (0.5, 0.97, top),
        (0.5, 0.03, bottom),
    ):
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            color="white",
            fontsize=8,
            ha="center",
            va="center",
        )
