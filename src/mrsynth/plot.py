"""The figures of a paper: example images, training curves, errors per subject.

Every function takes arrays and tables and returns a matplotlib figure, drawn without a display.
Colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mrsynth.baselines import BASELINES
from mrsynth.errors import StudyError
from mrsynth.subjects import person
from mrsynth.summarize import base_name, by_subject, ordered

FIGURES = ("panel", "curves", "errors")
"""The values of the wildcard ``{figure}``."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without its yellow, which is too pale for lines on white."""

DPI = 150
"""A figure eight inches wide has 1200 pixels: legible at the width of a page or a screen."""

NOT_LOSSES = ("iteration", "validation_mae", "it_per_s", "lr", "seconds")
"""Numbers of a history's lines that are no losses."""

STYLES = ("-", "--", ":", "-.")
"""Seeds of one model share its colour, which is the same in all figures, and differ in style."""

LABEL_ROOM = 80
"""Characters that fit side by side under an eight inch wide axis; longer labels are slanted."""

TALLEST = 10.0
"""Height in inches that a figure may reach, so that it fits a page."""


def panel(
    packs: list[dict],
    syntheses: list[dict],
    long: pd.DataFrame,
    *,
    model: str,
    task: str = "",
    metric_region: str = "body",
    error_max: float = 100.0,
) -> Figure:
    """Input, synthetic, real and absolute error of the best, the median and the worst test subject.

    The subjects are ranked by their mean MAE, and of each the slice with the median MAE is shown:
    nobody picks the images. Pixels that are no real pixels (letterbox, beyond the source's field)
    are left blank.

    Args:
        packs: Test packs of the model, one per fold.
        syntheses: Its synthetic images, parallel to the packs.
        long: The long table, which has this model.
        model: The model to show.
        task: Its task's name, for the title.
        metric_region: Region of the ranking.
        error_max: Upper end of the error's colour scale in grey levels.
    """
    rows = choose(long, model, metric_region)
    if not rows:
        return _blank(f"{model}: no test images")
    figure = _figure(8.0, min(0.9 + 2.05 * len(rows) * _tallest(packs), TALLEST))
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        source, made, target, valid, ratio = _slice(packs, syntheses, row["subject"], row["key"])
        error = np.abs(made - target)
        for axis, image in zip(line[:3], (source, made, target), strict=True):
            axis.imshow(_masked(image, valid), cmap="gray", vmin=0, vmax=255, aspect=ratio)
        shown = line[3].imshow(
            _masked(error, valid), cmap="inferno", vmin=0, vmax=error_max, aspect=ratio
        )
        line[0].set_ylabel(f"{row['label']}\n{row['subject']}\n{row['name']}", fontsize=8)
        line[3].set_xlabel(f"MAE ({metric_region}) {row['value']:.1f}", fontsize=8)
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, title in zip(axes[0], ("input", "synthetic", "real", "absolute error"), strict=True):
        axis.set_title(title, fontsize=10)
    bar = figure.colorbar(shown, ax=list(axes[:, 3]), shrink=0.8, pad=0.03, extend="max")
    bar.set_label("grey levels (0–255)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    name = ", ".join(filter(None, (task, model)))
    count = f"{_words(rows)} of {_tested(long, model)} test subjects"
    figure.suptitle(f"{name}: {count} by MAE ({metric_region})", fontsize=10)
    return figure


def choose(long: pd.DataFrame, model: str, region: str = "body") -> list[dict]:
    """The slices to show: the best, median and worst subject's slice of median MAE.

    Returns:
        Dicts with ``label``, ``subject``, ``key``, ``name`` and ``value`` (the slice's MAE), at
        most three, in that order; a subject is never shown twice.
    """
    part = long[
        (long["method"] == model) & (long["region"] == region) & (long["metric"] == "mae")
    ].drop_duplicates(["subject", "key"])
    people = part["subject"].astype(str).map(person)
    ranked = part.groupby(people)["value"].mean().sort_values(kind="stable").index
    if not len(ranked):
        return []
    places = {"best": 0, "median": (len(ranked) - 1) // 2, "worst": len(ranked) - 1}
    chosen: dict[int, str] = {}
    for label, place in places.items():
        chosen.setdefault(place, label)
    if len(ranked) == 1:
        chosen = {0: "only"}
    elif len(ranked) == 2:
        chosen = {0: "best", 1: "worst"}
    rows = []
    for place, label in chosen.items():
        slices = part[people == ranked[place]].sort_values("value", kind="stable")
        middle = slices.iloc[(len(slices) - 1) // 2]
        rows.append({"label": label, **middle[["subject", "key", "name", "value"]].to_dict()})
    return rows


def curves(histories: list[list[dict]], models: list[str], folds: list[int]) -> Figure:
    """Every loss and the validation MAE against the iteration, one line per model and fold.

    Args:
        histories: The lines of each ``history.jsonl``.
        models, folds: What each history is of.
    """
    every = [line for lines in histories for line in lines]
    names = list(dict.fromkeys(name for line in every for name in _losses(line)))
    if any(line.get("validation_mae") is not None for line in every):
        names.append("validation_mae")
    if not names:
        return _blank("no training history")
    columns = min(len(names), 2)
    height = -(-len(names) // columns)
    figure = _figure(8.0, 0.6 + 2.4 * height)
    axes = figure.subplots(height, columns, squeeze=False).ravel()
    styles = _styles(models)
    for axis, name in zip(axes, names, strict=False):
        for lines, model in zip(histories, models, strict=True):
            points = [
                (line["iteration"], value)
                for line in lines
                if (value := (_losses(line) | line).get(name)) is not None
            ]
            if points:
                _draw(axis, np.array(points, float), styles[model], name == "validation_mae")
        axis.set_title(name.replace("_", " ").replace("mae", "MAE"), fontsize=9)
        axis.set_xlabel("iteration", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        axis.locator_params(axis="x", nbins=5)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    _legend(figure, styles, len(set(folds)))
    return figure


def errors(long: pd.DataFrame, *, metric: str = "mae", region: str = "body") -> Figure:
    """Each test subject's error by each method; a line joins the values of one subject.

    A black bar is the mean over subjects. Seeds of a model are averaged within the subject first.
    """
    values = by_subject(long)
    values = values[(values["metric"] == metric) & (values["region"] == region)]
    if values.empty:
        return _blank("no test images")
    table = values.pivot(index="subject", columns="method", values="value")
    names = ordered(values["method"])
    table = table[names]
    figure = _figure(8.0, 4.2)
    axis = figure.subplots()
    places = np.arange(len(names))
    for row in table.to_numpy():
        axis.plot(places, row, color="#999999", linewidth=0.8, alpha=0.6, zorder=1)
    for place, name in enumerate(names):
        colour = "#777777" if name in BASELINES else _colour(place)
        points = table[name].to_numpy()
        axis.scatter(np.full(len(points), place), points, s=28, color=colour, zorder=2)
        axis.hlines(np.nanmean(points), place - 0.3, place + 0.3, color="black", lw=2, zorder=1)
    labels = [name.replace("_", "\n") for name in names]
    crowded = max(map(len, labels)) * len(labels) > LABEL_ROOM
    slant = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axis.set_xticks(places, labels, fontsize=9, **slant)
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set_ylim(bottom=0)
    axis.set_ylabel(f"{metric.upper()} ({region}), grey levels" if metric == "mae" else metric)
    axis.set_title(f"{len(table)} test subjects; bars are means", fontsize=10)
    axis.grid(axis="y", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def make(
    figure: str,
    *,
    packs: list[dict] = (),
    syntheses: list[dict] = (),
    histories: list[list[dict]] = (),
    long: pd.DataFrame | None = None,
    models: list[str] = (),
    folds: list[int] = (),
    controls: list[str] = (),
    task: str = "",
    region: str = "body",
    error_max: float = 100.0,
) -> Figure:
    """A figure by its name.

    Args:
        figure: Of :data:`FIGURES`.
        packs, syntheses, histories: Parallel to ``models`` and ``folds``.
        long: The long tables of the task, one under the other.
        models, folds: What each of the files is of.
        controls: Models that the panel passes over, such as one trained on shuffled pairs.
        task: Name for the titles.
        region: Region of the MAE in ``panel`` and ``errors``.
        error_max: Upper end of the panel's error scale in grey levels.

    Raises:
        StudyError: There is no such figure, or the region was not measured.
    """
    if figure not in FIGURES:
        raise StudyError(f"figure '{figure}' does not exist; there are: {', '.join(FIGURES)}")
    if figure == "curves":
        return curves(list(histories), list(models), list(folds))
    if len(long) and region not in set(long["region"]):
        raise StudyError(
            f"config key 'plot.region' = '{region}' is not measured; add it to 'evaluate.regions' "
            f"or choose one of: {', '.join(long['region'].unique())}"
        )
    if figure == "panel":
        model = next((name for name in models if name not in controls), models[0])
        own = [number for number, name in enumerate(models) if name == model]
        return panel(
            [packs[number] for number in own],
            [syntheses[number] for number in own],
            long,
            model=model,
            task=task,
            metric_region=region,
            error_max=error_max,
        )
    return errors(long, region=region)


def read_history(path: str | Path) -> list[dict]:
    """Read ``history.jsonl``."""
    return [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a PNG that holds no text besides what is drawn, and no date."""
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _blank(text: str) -> Figure:
    figure = _figure(8.0, 2.0)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def _slice(packs: list[dict], syntheses: list[dict], subject: str, key: str) -> tuple:
    """Source, synthetic, target, valid [h, w], cropped to the valid pixels, and the pixels'
    aspect."""
    for pack, synthesis in zip(packs, syntheses, strict=True):
        at = _find(pack, subject, key)
        if at is None:
            continue
        made = np.clip(synthesis["synthetic"][_find(synthesis, subject, key)], 0, 255)
        valid = np.asarray(pack["valid"][at]) != 0
        rows, columns = np.nonzero(valid.any(1))[0], np.nonzero(valid.any(0))[0]
        box = (slice(None), slice(None))
        if rows.size:
            box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        row_mm, column_mm = pack["pixel_mm"][at]
        images = [np.asarray(i, float)[box] for i in (pack["source"][at], made, pack["target"][at])]
        return (*images, valid[box], float(row_mm / column_mm))
    raise ValueError("a slice of the long table is in no test pack")


def _find(arrays: dict, subject: str, key: str) -> int | None:
    at = np.nonzero((arrays["subject"] == subject) & (arrays["key"] == key))[0]
    return int(at[0]) if at.size else None


def _tallest(packs: list[dict]) -> float:
    """Largest height-to-width ratio of the images in mm."""
    sizes = [p["target"].shape[1:] * p["pixel_mm"][0] for p in packs if len(p["target"])]
    ratios = [height / width for height, width in sizes]
    return float(max(ratios, default=1.0))


def _masked(image: np.ndarray, valid: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.masked_array(image, ~valid)


def _words(rows: list[dict]) -> str:
    labels = [row["label"] for row in rows]
    return labels[0] if len(labels) == 1 else ", ".join(labels[:-1]) + " and " + labels[-1]


def _tested(long: pd.DataFrame, model: str) -> int:
    return long.loc[long["method"] == model, "subject"].astype(str).map(person).nunique()


def _losses(line: dict) -> dict[str, float]:
    """The losses of a history's line, whether they lie flat or under ``losses``."""
    nested = line.get("losses") or {}
    flat = {k: v for k, v in line.items() if isinstance(v, int | float) and k not in NOT_LOSSES}
    return flat | nested


def _draw(axis, points: np.ndarray, style: dict, marked: bool) -> None:
    """Every point faintly, and over it a running mean of a twentieth of the run."""
    if marked or len(points) < 40:
        marker = "o" if marked else None
        axis.plot(*points.T, linewidth=1.4, marker=marker, markersize=3, **style)
        return
    width = len(points) // 20 | 1
    smooth = np.convolve(points[:, 1], np.ones(width) / width, mode="valid")
    axis.plot(*points.T, color=style["color"], linewidth=0.6, alpha=0.3)
    axis.plot(points[width // 2 : width // 2 + len(smooth), 0], smooth, linewidth=1.4, **style)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _styles(models: list[str]) -> dict[str, dict]:
    """Colour and line style of each run by its model's name."""
    bases = list(dict.fromkeys(map(base_name, models)))
    styles: dict[str, dict] = {}
    for model in dict.fromkeys(models):
        base = base_name(model)
        seed = sum(base_name(other) == base for other in styles)
        styles[model] = {
            "color": _colour(bases.index(base)),
            "linestyle": STYLES[seed % len(STYLES)],
        }
    return styles


def _legend(figure: Figure, styles: dict[str, dict], folds: int) -> None:
    handles = [Line2D([], [], label=name, **style) for name, style in styles.items()]
    title = f"{folds} folds each" if folds > 1 else None
    figure.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=8, title=title)
