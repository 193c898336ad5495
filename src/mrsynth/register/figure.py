"""The picture by which a person checks a registration: fusion, checkerboard, edges and bone
contours, where the blocks lie on the spine, and the numbers with their limits."""

from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy import ndimage
from skimage.measure import find_contours

from mrsynth.register import planes
from mrsynth.volume import to_array
from mrsynth.warp import is_ct

TILE_PX, GAP_PX, CAPTION_PX, LINE_PX = 250, 6, 20, 15
"""Width of a picture, the space between two, the line under a row and a line of numbers."""

OVERVIEW_PX = 380
"""Height of the overview."""

TEXT_COLUMNS = 3
"""Columns of numbers above a volume's pictures."""

DPI = 100

TILE_MM = 25.0
"""Side of a checkerboard's field: a vertebral body shows at least one border inside."""

BAR_MM = 50.0
"""Length of the scale bar."""

CT_VIEW_HU = (-160.0, 340.0)
"""Window in which discs, sac and cortical bone are all told apart."""

MR_VIEW = 99.3
"""Percentile of the MR that is white, of all stacks together so that they stay comparable."""

BONE_HU = 200.0
"""Contour of bone: above muscle and disc, below cortical bone averaged over a thick slice."""

BONE_BLUR_MM = 1.0
"""Deviation of the smoothing before it: takes off noise, keeps cortical bone."""

SHORTEST_MM = 12.0
"""Shorter contours are calcifications and noise."""

SLAB_MM = 60.0
"""A volume thinner than this is shown by its middle slice like a stack."""

EDGE_COLOUR, BONE_COLOUR = "#ffd900", "#ff5050"
VERDICT_COLOURS = {"accepted": "#4caf50", "review": "#ffb300", "failed": "#f44336"}

WORDS = {
    "accepted": "ACCEPTED: every measure is within its limit",
    "review": "REVIEW: a person must look",
    "failed": "FAILED: not registered",
}

MEASURES = {
    "mi": ("mutual information over chance", "{:.2f} nats"),
    "overlap": ("samples inside the other field", "{:.0%}"),
    "rival": ("next best start, of the rise", "{:.0%}"),
    "mirror": ("mirror image, of the information", "{:.0%}"),
    "mirror_whole": ("mirror image, of the information", "{:.0%}"),
    "sharpness": ("loss of information 3 mm off", "{:.1%}"),
    "sharpness_whole": ("loss of information 3 mm off", "{:.1%}"),
    "repeat_mm": ("two halves of the samples apart", "{:.1f} mm"),
    "restart_mm": ("other starts apart", "{:.1f} mm"),
    "inverse_mm": ("forward and backward apart", "{:.1f} mm"),
    "bone_mm": ("bone to bone", "{:.1f} mm"),
    "peak": ("perturbed poses that are worse", "{:.0%}"),
    "rotation_deg": ("turn against the headers", "{:.1f}°"),
    "displacement_mm": ("shift against the headers", "{:.0f} mm"),
    "from_whole_mm": ("shift against all blocks", "{:.1f} mm"),
    "from_whole_deg": ("turn against all blocks", "{:.1f}°"),
}
"""Measures in words; one that isn't here is shown under its own name."""


@dataclass(frozen=True)
class Row:
    """A line of pictures: both images on one plane, values with NaN where there is none."""

    plane: planes.Plane
    fixed: np.ndarray
    moving: np.ndarray
    caption: str = ""
    colour: str = "white"


def write_figure(path, stacks, moving, whole, single, *, stack_note: str = "", spine=None) -> None:
    """Write the QC figure: three planes of a volume, or an overview and a row per stack.

    Args:
        path: PNG to write.
        stacks: Fixed stacks.
        moving: Moving volume.
        whole: Registration of the whole.
        single: Registration per stack; empty for one volume.
        stack_note: First line of the figure, such as the subject's pseudonym.
        spine: Points [n, 3] of discs and canal in the moving frame, LPS mm, along which the
            overview is cut; None cuts flat planes through the stacks.
    """
    FigureCanvasAgg(draw(stacks, moving, whole, single, stack_note, spine)).print_png(
        path, metadata={"Software": None}
    )


def draw(stacks, moving, whole, single, note: str = "", spine=None) -> Figure:
    """The QC figure; arguments as for :func:`write_figure`."""
    kinds = (is_ct(stacks[0]), is_ct(moving))
    limits = (limits_of(stacks), limits_of([moving]))
    sides = [length for stack in stacks for length in _sides(stack)]
    if len(stacks) == 1 and not single and min(sides) >= SLAB_MM:
        low, high, _ = planes.body(stacks[0])
        step = max((high - low).max() / TILE_PX, 1e-3)
        rows = [
            Row(plane, planes.read(stacks[0], plane.world), _moved(moving, plane, whole.matrix))
            for plane in planes.orthogonal(stacks[0], step)
        ]
        top = None
    else:
        results = single or [whole]
        rows = stack_rows(stacks, moving, results, max(sides) / TILE_PX)
        top = overview_rows(stacks, moving, results, spine)
    return _composed(rows, top, whole, kinds, limits, note)


def _sides(image) -> np.ndarray:
    return np.array(image.GetSize()) * np.array(image.GetSpacing())


def _moved(moving, plane, matrix, spread=None) -> np.ndarray:
    return planes.read(moving, plane.world, matrix, spread)


def stack_rows(stacks, moving, results, step_mm: float) -> list[Row]:
    """The centre plane of each stack, the moving image averaged over its thickness."""
    rows = []
    for number, (stack, result) in enumerate(zip(stacks, results, strict=True), start=1):
        plane = planes.centre_slice(stack, f"block {number}", step_mm)
        moved = _moved(moving, plane, result.matrix, planes.across(stack))
        caption = f"block {number}: {_summary(result)}"
        colour = VERDICT_COLOURS[result.verdict]
        rows.append(Row(plane, planes.read(stack, plane.world), moved, caption, colour))
    return rows


def overview_rows(stacks, moving, results, spine) -> list[tuple[Row, list[np.ndarray]]]:
    """The moving image along the spine, and each stack where its own pose puts it.

    Returns:
        Per plane: a row whose ``fixed`` holds all stacks, and each stack's mask.
    """
    poses = [result.matrix for result in results]
    shown = []
    for plane in planes.overview(stacks, poses, moving, spine, OVERVIEW_PX):
        base = planes.read(moving, plane.world)
        laid, masks = np.full(base.shape, np.nan, np.float32), []
        for stack, pose in zip(stacks, poses, strict=True):
            values = planes.read(stack, plane.world, np.linalg.inv(pose))
            masks.append(np.isfinite(values))
            laid = np.where(masks[-1], values, laid)
        shown.append((Row(plane, laid, base), masks))
    return shown


def limits_of(images) -> tuple[float, float]:
    """Values shown black and white: a fixed window for CT, a robust range over all MR stacks."""
    if is_ct(images[0]):
        return CT_VIEW_HU
    values = []
    for image in images:
        array = to_array(image)
        thin = array[:, :: max(1, array.shape[1] // 128), :: max(1, array.shape[2] // 128)].ravel()
        values.append(thin[np.isfinite(thin)])
    joined = np.concatenate(values)
    return 0.0, max(float(np.percentile(joined, MR_VIEW)), 1e-6) if joined.size else 1.0


def grey(array: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Grey levels 0–1; what has no value is black."""
    scaled = (array - limits[0]) / (limits[1] - limits[0])
    return np.clip(np.nan_to_num(scaled, nan=0.0), 0, 1)


def checkerboard(one: np.ndarray, other: np.ndarray, pixel) -> np.ndarray:
    """Fields of both images in turn; pixel is (x, y) in mm."""
    rows, columns = np.indices(one.shape)
    field = (rows * pixel[1] // TILE_MM + columns * pixel[0] // TILE_MM) % 2
    return np.where(field == 0, one, other)


def edges(picture: np.ndarray, pixel) -> np.ndarray:
    """Mask of the strongest borders: maxima of the gradient across its direction (Canny's first
    half)."""
    sigma = [1.5 / pixel[1], 1.5 / pixel[0]]
    along_y = ndimage.gaussian_filter(picture, sigma, order=(1, 0))
    along_x = ndimage.gaussian_filter(picture, sigma, order=(0, 1))
    strength = np.hypot(along_y, along_x)
    top = strength >= max(float(np.percentile(strength, 85)), 1e-6)
    rows, columns = np.indices(picture.shape).astype(float)
    unit_y, unit_x = along_y / (strength + 1e-9), along_x / (strength + 1e-9)
    peak = np.ones(picture.shape, bool)
    for sign in (-1, 1):
        beside = ndimage.map_coordinates(
            strength, [rows + sign * unit_y, columns + sign * unit_x], order=1, mode="nearest"
        )
        peak &= strength >= beside
    return top & peak


def bone(ct: np.ndarray, step_mm: float) -> list[np.ndarray]:
    """Contours of bone, each [n, 2] (x, y) in pixels from the first pixel's corner."""
    known = np.isfinite(ct)
    smooth = ndimage.gaussian_filter(np.where(known, ct, -1000.0), BONE_BLUR_MM / step_mm)
    found = find_contours(smooth, BONE_HU, mask=known) if known.any() else []
    long = [line for line in found if _length(line) * step_mm >= SHORTEST_MM]
    return [line[:, ::-1] + 0.5 for line in long]


def _length(line: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def fusion(one: np.ndarray, other: np.ndarray, fixed_ct: bool, moving_ct: bool) -> np.ndarray:
    """Both images in one picture [rows, columns, 3]: CT's bone as warm colour on the grey MR, or
    two images of a kind as green and magenta."""
    if fixed_ct == moving_ct:
        return np.stack([other, one, other], axis=-1)
    mr, ct = (other, one) if fixed_ct else (one, other)
    # Above the grey of muscle and disc.
    share = 0.75 * np.clip((ct - 0.5) / 0.5, 0, 1)[..., None]
    warm = np.stack([np.ones_like(ct), 0.25 + 0.6 * ct, np.full_like(ct, 0.1)], axis=-1)
    return (1 - share) * mr[..., None] + share * warm


class _Sheet:
    """A canvas of exact pixels with lines and text on it."""

    def __init__(self, width: int, height: int):
        self.pixels = np.zeros((height, width, 3))
        self.lines: list[tuple[list[np.ndarray], str, float]] = []
        self.texts: list[tuple[float, float, str, dict]] = []

    def paste(self, picture: np.ndarray, x: int, y: int) -> None:
        """A picture with its first corner at a pixel."""
        colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        self.pixels[y : y + colour.shape[0], x : x + colour.shape[1]] = colour

    def curve(self, lines, x: int, y: int, colour: str, width: float = 0.9) -> None:
        """Lines in a picture's pixels."""
        self.lines.append(([line + np.array([x, y]) for line in lines], colour, width))

    def text(self, x: float, y: float, words: str, **style) -> None:
        """Text with its upper left corner at a pixel, unless the style says otherwise."""
        base = {"color": "white", "fontsize": 7.5, "ha": "left", "va": "top"}
        self.texts.append((x, y, words, base | style))

    def figure(self) -> Figure:
        """Everything as a figure."""
        height, width = self.pixels.shape[:2]
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="black")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.imshow(self.pixels, extent=(0, width, height, 0), interpolation="nearest")
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_aspect("auto")
        for lines, colour, thick in self.lines:
            axes.add_collection(LineCollection(lines, colors=colour, linewidths=thick))
        for x, y, words, style in self.texts:
            axes.text(x, y, words, **style)
        return figure


def _composed(rows, top, whole, kinds, limits, note: str) -> Figure:
    columns = 6 if kinds[0] != kinds[1] else 5
    lines = _lines(whole)
    head = 3 * LINE_PX + GAP_PX
    per_column = len(lines) if top else -(-len(lines) // TEXT_COLUMNS)
    panel = OVERVIEW_PX + CAPTION_PX if top else LINE_PX * (per_column + 1)
    heights = [row.fixed.shape[0] for row in rows]
    height = head + panel + 2 * CAPTION_PX + sum(heights) + len(rows) * (CAPTION_PX + GAP_PX)
    width = columns * (TILE_PX + GAP_PX)
    sheet = _Sheet(width, height)
    colour = VERDICT_COLOURS[whole.verdict]
    sheet.text(GAP_PX, GAP_PX, note, fontsize=9)
    sheet.text(GAP_PX, GAP_PX + LINE_PX + 2, _headline(whole), fontsize=9, color=colour)
    y = head
    x = _draw_overview(sheet, top, y, kinds, limits) if top else GAP_PX
    for order, (words, passed) in enumerate(lines):
        style = {True: "#9ccc9c", False: "#ff8a65", None: "white"}[passed]
        column, line = divmod(order, per_column)
        sheet.text(x + column * width // TEXT_COLUMNS, y + line * LINE_PX, words, color=style)
    y += panel
    for column, title in enumerate(_titles(kinds)):
        sheet.text(column * (TILE_PX + GAP_PX) + GAP_PX, y, title, fontsize=8)
    y += CAPTION_PX
    for row in rows:
        _draw_row(sheet, row, y, kinds, limits)
        y += row.fixed.shape[0]
        sheet.text(GAP_PX, y + 2, row.caption, color=row.colour)
        y += CAPTION_PX + GAP_PX
    return sheet.figure()


def _titles(kinds) -> list[str]:
    names = tuple("CT" if ct else "MR" for ct in kinds)
    titles = [
        f"fixed ({names[0]})",
        f"moving ({names[1]}), aligned",
        "overlay",
        "checkerboard",
        f"edges of {names[1]} on {names[0]}",
    ]
    return titles + (["bone of CT on MR"] if kinds[0] != kinds[1] else [])


def _draw_row(sheet, row: Row, y: int, kinds, limits) -> None:
    one, other = (grey(a, lim) for a, lim in zip((row.fixed, row.moving), limits, strict=True))
    step = row.plane.step_mm
    outline = np.repeat(one[..., None], 3, axis=2)
    # The field's own border is no edge of the body.
    known = ndimage.binary_erosion(np.isfinite(row.moving), iterations=3)
    outline[edges(other, (step, step)) & known] = _rgb(EDGE_COLOUR)
    pictures = [one, other, fusion(one, other, *kinds), checkerboard(one, other, (step, step))]
    pictures.append(outline)
    if kinds[0] != kinds[1]:
        pictures.append(other if kinds[0] else one)
    for column, picture in enumerate(pictures):
        x = column * (TILE_PX + GAP_PX)
        sheet.paste(picture, x, y)
        _letters(sheet, row.plane, x, y)
    if kinds[0] != kinds[1]:
        sheet.curve(bone(row.fixed if kinds[0] else row.moving, step), x, y, BONE_COLOUR)
    _bar(sheet, row.plane, 0, y)
    sheet.text(4, y + 3, row.plane.name, fontsize=8)


def _draw_overview(sheet, top, y: int, kinds, limits) -> int:
    """Draw the planes along the spine, plain and with the stacks laid in; the next free x."""
    x = 0
    for row, masks in top:
        base, laid = grey(row.moving, limits[1]), grey(row.fixed, limits[0])
        filled = np.where(np.isfinite(row.fixed), laid, base)
        for picture, plain in ((base, True), (filled, False)):
            sheet.paste(picture, x, y)
            _letters(sheet, row.plane, x, y)
            if plain:
                sheet.text(x + 4, y + OVERVIEW_PX + 2, row.plane.name)
                _bar(sheet, row.plane, x, y)
                _outlines(sheet, masks, x, y)
            elif kinds == (False, True):
                sheet.curve(bone(row.moving, row.plane.step_mm), x, y, BONE_COLOUR, 0.7)
            x += picture.shape[1] + GAP_PX
    return x + GAP_PX


def _outlines(sheet, masks, x: int, y: int) -> None:
    """Border and number of each stack on the overview."""
    for number, mask in enumerate(masks, start=1):
        padded = np.pad(mask.astype(float), 1)
        sheet.curve([line[:, ::-1] - 0.5 for line in find_contours(padded, 0.5)], x, y, "#4fc3f7")
        if mask.any():
            row, column = np.argwhere(mask).mean(axis=0)
            halo = [withStroke(linewidth=2, foreground="black")]
            style = {"va": "center", "ha": "center", "fontsize": 9, "path_effects": halo}
            sheet.text(x + column, y + row, str(number), **style)


def _letters(sheet, plane, x: int, y: int) -> None:
    rows, columns = plane.world.shape[:2]
    halo = [withStroke(linewidth=1.5, foreground="black")]
    style = {"fontsize": 7.5, "color": "#80d8ff", "path_effects": halo}
    left, right, top, bottom = plane.letters
    sheet.text(x + 3, y + rows / 2, left, va="center", **style)
    sheet.text(x + columns - 3, y + rows / 2, right, va="center", ha="right", **style)
    sheet.text(x + columns / 2, y + 2, top, ha="center", **style)
    sheet.text(x + columns / 2, y + rows - 2, bottom, ha="center", va="bottom", **style)


def _bar(sheet, plane, x: int, y: int) -> None:
    rows = plane.world.shape[0]
    length = BAR_MM / plane.step_mm
    ends = np.array([[6, rows - 7], [6 + length, rows - 7]])
    sheet.curve([ends], x, y, "white", 1.6)
    words = f"{BAR_MM / 10:.0f} cm"
    sheet.text(x + 9 + length, y + rows - 2, words, fontsize=7, va="bottom")


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))


def _headline(result) -> str:
    """The verdict in words."""
    reasons = "; ".join(result.measures.get("reasons") or [])
    if not result.posed:
        return f"FAILED: no pose was found, the images are shown as their headers lie. {reasons}"
    return WORDS[result.verdict] + (f" ({reasons})" if reasons else "")


def _gates(result) -> dict:
    return {gate["measure"]: gate for gate in result.measures.get("gates") or []}


def _lines(result) -> list[tuple[str, bool | None]]:
    """Every measure in words, with its limit and whether it passed; None where none is set."""
    gates, found = _gates(result), []
    names = [*MEASURES, *gates]
    for name in dict.fromkeys(names):
        value = gates[name]["value"] if name in gates else result.measures.get(name)
        if value is None and name not in gates:
            continue
        label, _ = MEASURES.get(name, (name.replace("_", " "), ""))
        words = f"{label}: {_number(name, value)}"
        if name in gates:
            side = "at most" if gates[name]["side"] == "most" else "at least"
            words += f" ({side} {_number(name, gates[name]['limit'])})"
        found.append((words, gates[name]["passed"] if name in gates else None))
    return found


def _number(name: str, value) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return MEASURES[name][1].format(value) if name in MEASURES else f"{value:.2f}"


def _summary(result) -> str:
    """Verdict, reasons and the numbers of a stack in one line."""
    parts = [result.verdict.upper()]
    parts += result.measures.get("reasons") or []
    short = {"mi": "MI {:.2f}", "overlap": "overlap {:.0%}", "repeat_mm": "repeat {:.1f} mm"}
    short |= {"bone_mm": "bone {:.1f} mm", "from_whole_mm": "{:.1f} mm"}
    short |= {"from_whole_deg": "{:.1f}° from all blocks"}
    for name, text in short.items():
        value = result.measures.get(name)
        if value is not None:
            parts.append(text.format(value))
    return " · ".join(parts)
