"""The inclusion flow as a figure in the manner of CONSORT and STARD.

What goes on runs downwards, what is left out branches to the right, and every box's number is what
the boxes below and beside it add up to.
"""

import textwrap
from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

DPI = 150
"""As the other figures: legible at the width of a page."""
MAIN_INCHES, SIDE_INCHES, GAP_INCHES = 2.4, 3.0, 0.35
"""Widths of the boxes on the main line and beside it, and the gaps around them."""
LINE_INCHES, PAD_INCHES = 0.165, 0.16
"""Height of a line of text and what a box has above and below."""
FONT = 8.5
SIDE_CHARACTERS = 46
"""Characters of this font that fit a side box."""
MOST_REASONS = 10
"""Reasons that a side box lists one by one; the rest is summed, and is in the table."""
EDGE, FILL, LEFT_OUT = "#333333", "#EAF1F8", "#FFFFFF"

REASONS = {
    "AGE": "age outside the limits",
    "EXCLUDED_BY_SHEET": "excluded by the user",
    "FRAME": "no shared frame of reference",
    "INTERVAL": "too long between source and target",
    "LISTED": "on the exclusion list",
    "NO_SOURCE_NO_TARGET": "neither source nor target",
    "REFUSED_SERIES": "the only series was refused",
    "SEX": "other sex",
    "SPOILED": "contrast medium, metal or other notes",
    "TOO_THICK": "slices too far apart",
    "UNKNOWN_INTERVAL": "no dates",
    "UNKNOWN_PERSON": "age or sex unknown",
}
"""Codes of `cohort` in words; those of `index` are words already."""

ABBREVIATIONS = ("CT", "DICOM", "HU", "ID", "MR", "UID")


def figure(flow: pd.DataFrame) -> Figure:
    """The flow as boxes, the tasks side by side.

    Args:
        flow: Of :func:`mrsynth.flow.table`.
    """
    lines = flow.to_dict("records")
    shared = _shared(lines)
    tasks = [_boxes(lines, task) for task in dict.fromkeys(row["task"] for row in lines) if task]
    column = MAIN_INCHES + SIDE_INCHES + 3 * GAP_INCHES
    width = column * max(len(tasks), 1)
    tallest = max((sum(map(_height, boxes)) for boxes in tasks), default=0.0)
    height = sum(map(_height, shared)) + tallest
    drawing = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(drawing)
    axes = drawing.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(GAP_INCHES, height + GAP_INCHES))
    axes.set_axis_off()
    left = (width - column) / 2
    start, top = _draw(axes, shared, left, height, start=None)
    for number, boxes in enumerate(tasks):
        _draw(axes, boxes, number * column, top, start=start)
    return drawing


def _shared(lines: list[dict]) -> list[tuple[str, str]]:
    """Main and side text of the boxes above the tasks."""
    counts = {row["step"]: row for row in lines if not row["task"]}
    boxes, used = [], ""
    if "files" in counts:
        left = _reasons(lines, "", ("files skipped", "files refused"), "files")
        boxes.append((f"Files found\nn = {counts['files']['files']:,}", left))
        used = f"Files used\nn = {counts['files used']['files']:,}\n"
    found, kept = counts["indexed"], counts["series used"]
    left = _reasons(lines, "", ("series skipped", "series refused"), "series")
    boxes.append((f"{used}Series found\nn = {_of(found)}", left))
    boxes.append((f"Series used\nn = {_of(kept)}", ""))
    return boxes


def _of(row: dict) -> str:
    return f"{row['series']:,}, of {_persons(row['subjects'])}"


def _boxes(lines: list[dict], task: str) -> list[tuple[str, str]]:
    """Main and side text of one task's boxes."""
    own = [row for row in lines if row["task"] == task]
    at = {row["step"]: row for row in own}
    considered = at["considered"]["subjects"]
    boxes = [(f"Task {task}\n{_persons(considered)}", _reasons(lines, task, ("excluded",)))]
    pools = [
        f"{image} only: {at[f'unpaired {image}']['subjects']}"
        for image in ("source", "target")
        if at[f"unpaired {image}"]["subjects"]
    ]
    visits = [row for row in own if row["step"] == "visit excluded"]
    pools += [f"visits excluded, {_words(row['code'])}: {row['pairs']}" for row in visits]
    kept = considered - sum(row["subjects"] for row in own if row["step"] == "excluded")
    if pools:
        side = "\n".join(["Not paired", *(f"  {line}" for line in pools)])
        boxes.append((f"Included\n{_persons(kept)}", side))
    roles = [row for row in own if row["step"].startswith("paired, ")]
    told = [f"{row['step'].removeprefix('paired, ')}: {_size(row)}" for row in roles]
    boxes.append(("\n".join(["Paired", _size(at["paired"]), *told]), ""))
    return boxes


def _reasons(lines: list[dict], task: str, steps: tuple[str, ...], unit: str = "subjects") -> str:
    """Text of a side box: what is left out, with its reasons, the most frequent first."""
    rows = [row for row in lines if row["task"] == task and row["step"] in steps]
    if not rows:
        return ""
    rows.sort(key=lambda row: (-row[unit], row["code"]))
    parts = []
    for step in steps:
        own = [row for row in rows if row["step"] == step]
        if not own:
            continue
        total = sum(row[unit] for row in own)
        parts.append(f"{step.split()[-1].capitalize()} (n = {total:,})")
        parts += [f"  {_words(row['code'])}: {row[unit]:,}" for row in own[:MOST_REASONS]]
        if len(own) > MOST_REASONS:
            rest = sum(row[unit] for row in own[MOST_REASONS:])
            parts.append(f"  {len(own) - MOST_REASONS} other reasons: {rest:,}")
    return "\n".join(parts)


def _words(code: str) -> str:
    """A reason code as words; abbreviations stay large."""
    plain = " ".join(w if w in ABBREVIATIONS else w.lower() for w in code.split("_"))
    return REASONS.get(code, plain)


def _persons(count: int) -> str:
    return f"{count:,} subject" + ("" if count == 1 else "s")


def _size(row: dict) -> str:
    pairs = f"{row['pairs']:,} pair" + ("" if row["pairs"] == 1 else "s")
    return _persons(row["subjects"]) + ("" if row["pairs"] == row["subjects"] else f", {pairs}")


def _wrap(text: str) -> str:
    wrapped = [
        textwrap.wrap(line, SIDE_CHARACTERS, subsequent_indent="    ", drop_whitespace=True) or [""]
        if not line.startswith("  ")
        else textwrap.wrap(line, SIDE_CHARACTERS, initial_indent="  ", subsequent_indent="    ")
        for line in text.split("\n")
    ]
    return "\n".join(line for lines in wrapped for line in lines)


def _box_height(text: str) -> float:
    return LINE_INCHES * (text.count("\n") + 1) + PAD_INCHES


def _height(row: tuple[str, str]) -> float:
    """Height that a main box and its side box take, with the arrow to the next."""
    main, side = row
    beside = _box_height(_wrap(side)) + 0.5 * GAP_INCHES if side else GAP_INCHES
    return _box_height(main) + beside + 0.5 * GAP_INCHES


def _draw(axes, rows, left: float, top: float, start):
    """Draw boxes downwards; returns the place from which the next arrow leaves."""
    middle = left + GAP_INCHES + MAIN_INCHES / 2
    for main, side in rows:
        if start is not None:
            _arrow(axes, start, (middle, top), elbow=abs(start[0] - middle) > 0.01)
        height = _box_height(main)
        _box(axes, middle - MAIN_INCHES / 2, top - height, MAIN_INCHES, height, main, FILL)
        below = top - _height((main, side))
        if side:
            text = _wrap(side)
            tall = _box_height(text)
            x = middle + MAIN_INCHES / 2 + GAP_INCHES
            y = top - height - 0.5 * GAP_INCHES
            _box(axes, x, y - tall, SIDE_INCHES, tall, text, LEFT_OUT, centred=False)
            _arrow(axes, (middle, y - tall / 2), (x, y - tall / 2), elbow=False)
        start, top = (middle, top - height), below
    return start, top


def _box(axes, x, y, width, height, text, colour, centred=True) -> None:
    axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor=EDGE, lw=0.9))
    place = (x + width / 2 if centred else x + 0.1, y + height / 2)
    align = {"ha": "center" if centred else "left", "va": "center"}
    axes.text(*place, text, fontsize=FONT, linespacing=1.25, parse_math=False, **align)


def _arrow(axes, start, end, elbow: bool) -> None:
    """A line with a head; over a corner where the ends are not above each other."""
    if elbow:
        level = end[1] + 0.25 * GAP_INCHES
        axes.plot([start[0], start[0], end[0]], [start[1], level, level], color=EDGE, lw=0.9)
        start = (end[0], level)
    axes.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={"arrowstyle": "-|>", "color": EDGE, "lw": 0.9, "shrinkA": 0, "shrinkB": 0},
    )


def write_figure(drawing: Figure, path: str | Path) -> None:
    """Write a figure as PNG without the time or the versions that would change its bytes."""
    drawing.savefig(path, format="png", metadata={"Software": None})
