"""The picture by which a person checks the crops: planes and boxes, along the spine and slice by
slice."""

from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from mrsynth.crop import orientation
from mrsynth.geometry import apply
from mrsynth.locate.landmarks import Landmarks
from mrsynth.pick import named
from mrsynth.show.views import follow
from mrsynth.volume import affine

MOST_SLICES = 12
"""Slices shown, evenly chosen; more make pictures that are too small to be checked."""

RANGE_COLOUR, BODY_COLOUR, OUT_COLOUR = "#E69F00", "#56B4E9", "#C0C0C0"
"""Told apart by colour-blind readers (Okabe and Ito)."""

LABEL = {"facecolor": "black", "alpha": 0.6, "pad": 1.0, "lw": 0}
"""Behind a name, so that lines and bone don't hide it."""

SAGITTAL_MM = 1.0
"""Pixel of the sagittal cut, mm."""


def plot_crops(
    crops: dict[str, np.ndarray], *, box_mm: float | None = 220.0, along: dict | None = None
) -> Figure:
    """Source and target of each crop side by side, with sac, measures and the body's outline.

    Args:
        crops: Arrays of :func:`mrsynth.crop.crop`.
        box_mm: Side of the box, mm.
        along: From :func:`along_spine`; None leaves the sagittal cut out.

    Returns:
        Figure with the cut along the spine and two images per slice, at most twelve slices evenly
        chosen.
    """
    count = len(crops["key"])
    shown = np.unique(np.linspace(0, count - 1, min(count, MOST_SLICES)).round().astype(int))
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    wide = 0.0 if along is None else 4.2
    height = max(3.3 * lines + 0.4, 0.0 if along is None else 6.0)
    figure = Figure(figsize=(6.4 * columns + wide, height), layout="constrained")
    if along is None:
        slices = figure
    else:
        left, slices = figure.subfigures(1, 2, width_ratios=[wide, 6.4 * columns])
        _draw_along(left.subplots(), along)
    axes = np.atleast_1d(slices.subplots(lines, 2 * columns)).reshape(-1)
    for axis in axes:
        axis.axis("off")
    for place, n in enumerate(shown):
        for side, axis in zip(("source", "target"), axes[2 * place : 2 * place + 2], strict=True):
            _draw(axis, crops, n, side)
    extent = "whole slices" if box_mm is None else f"box {box_mm:g} mm"
    marks = "+ sac   – – ventral edge and half width   "
    legend = marks if np.isfinite(crops["sac_px"]).any() else ""
    text = f"{legend}— body; {extent}; {len(shown)} of {count} slices"
    figure.suptitle(text, fontsize=9)
    return figure


def along_spine(
    native: sitk.Image,
    landmarks: Landmarks,
    stacks: list[sitk.Image],
    matrices: list[np.ndarray] | None,
    picks: pd.DataFrame,
    box_mm: float | None,
) -> dict:
    """What the sagittal cut shows: the CT along the spine, and each slice as it lies in it.

    Args:
        native: Volume in the landmarks' frame (CT in HU).
        landmarks: Discs, with the points that people moved.
        stacks: Images of the fixed geometry.
        matrices: Per stack 4×4, fixed points to the landmarks' frame, LPS mm; None where they share
            it.
        picks: Table of :func:`mrsynth.pick.pick`.
        box_mm: Side of the box, mm; None draws the whole slice.

    Returns:
        ``picture`` (grey levels), ``extent`` [front, back, bottom, top] in mm (y and z), and
        ``slices``: rows ``name, picked, box`` (corners [4, 2] of the slice's box, its thickness the
        slice spacing), ``range`` (both ends [2, 2] of the measured range) and ``sac`` [2].
    """
    discs = [disc for _, disc in named(landmarks)]
    made, view = follow(native, [], [], discs, SAGITTAL_MM)
    (_, front, top), rows, columns = view["origin_mm"], view["rows"], view["columns"]
    extent = [front, front + columns * SAGITTAL_MM, top - rows * SAGITTAL_MM, top]
    matrices = [np.eye(4)] * len(stacks) if matrices is None else matrices
    rows = picks[picks["stack"].notna() & picks["sac_x"].notna()].to_dict("records")
    slices = [_lying(row, stacks, matrices, box_mm) for row in rows]
    return {"picture": made["native"], "extent": extent, "slices": slices}


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a PNG without the library's version in it."""
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})


def _lying(row: dict, stacks, matrices, box_mm: float | None) -> dict:
    """One slice as it lies in the sagittal cut: corners and ends as [y, z] in mm."""
    number = int(row["stack"]) - 1
    stack, matrix = stacks[number], matrices[number]
    axes, signs = orientation(stack)
    steps = affine(stack)[:3, :3]
    spacing, size = np.array(stack.GetSpacing()), np.array(stack.GetSize())
    down = signs[0] * steps[:, axes[0]] / spacing[axes[0]]
    normal = steps[:, 2] / spacing[2]
    sac = np.array([row[f"sac_{axis}"] for axis in "xyz"])
    ventral = np.array([row[f"ventral_{axis}"] for axis in "xyz"])
    # The slice's own plane, not the disc's: the landmark's foot on it.
    index = apply(np.linalg.inv(affine(stack)), sac)
    foot = sac + (int(row["slice"]) - index[2]) * spacing[2] * normal
    length = (box_mm or size[axes[0]] * spacing[axes[0]]) / 2
    half = spacing[2] / 2
    corners = [
        foot + sign * length * down + across * half * normal
        for sign, across in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    reach = (sac - ventral) @ down
    ends = [foot - reach * down, foot + reach * down]
    return {
        "name": row["name"],
        "picked": row["status"] == "picked",
        "box": apply(matrix, np.array(corners))[:, 1:],
        "range": apply(matrix, np.array(ends))[:, 1:],
        "sac": apply(matrix, foot)[1:],
    }


def _draw_along(axis: Axes, along: dict) -> None:
    front, back, bottom, top = along["extent"]
    axis.imshow(along["picture"], cmap="gray", vmin=0, vmax=255, extent=[front, back, bottom, top])
    for entry in along["slices"]:
        colour = RANGE_COLOUR if entry["picked"] else OUT_COLOUR
        style = "-" if entry["picked"] else ":"
        axis.add_patch(Polygon(entry["box"], fill=False, ec=colour, lw=0.6, ls=style))
        if entry["picked"]:
            axis.plot(*entry["range"].T, color=colour, lw=1.6)
            axis.plot(*entry["sac"], "+", color=colour, markersize=8)
        ends = entry["range"] if np.isfinite(entry["range"]).all() else entry["box"][:2]
        y, z = ends[np.argmin(ends[:, 0])]
        text = {"color": "white", "fontsize": 7, "ha": "right", "va": "center"}
        axis.text(y - 3, z, entry["name"], **text, bbox=LABEL)
    axis.set_xlim(front, back)
    axis.set_ylim(bottom, top)
    axis.set_title("along the spine: slices, boxes, ranges", fontsize=8)
    axis.set_xlabel("mm to the back", fontsize=7)
    axis.set_ylabel("mm up", fontsize=7)
    axis.tick_params(labelsize=6)


def _draw(axis: Axes, crops: dict[str, np.ndarray], n: int, side: str) -> None:
    height, width = crops["pixel_mm"][n]
    axis.imshow(crops[side][n], cmap="gray", vmin=0, vmax=255, aspect=height / width)
    if crops["body"][n].any():
        axis.contour(crops["body"][n], levels=[0.5], colors=BODY_COLOUR, linewidths=0.6)
    row, column = crops["sac_px"][n]
    if np.isfinite(row):
        axis.plot(column, row, "+", color=RANGE_COLOUR, markersize=9)
    ventral, lateral = crops["ventral_mm"][n] / height, crops["lateral_mm"][n] / width
    if np.isfinite([ventral, lateral]).all():
        corner = (column - lateral, row - ventral)
        size = {"width": 2 * lateral, "height": 2 * ventral}
        axis.add_patch(Rectangle(corner, **size, fill=False, ls="--", ec=RANGE_COLOUR, lw=0.8))
    title = f"{crops['name'][n]}  {crops['verdict'][n]}" if side == "source" else crops["key"][n]
    axis.set_title(title, fontsize=8)
