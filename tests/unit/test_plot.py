"""Figures show what they say: the right subjects, no padding, every run."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from mrsynth import evaluate, plot
from mrsynth.errors import StudyError

ROOT = Path(__file__).parents[2]
SUBJECTS = ["AAAAAAAA", "BBBBBBBB", "CCCCCCCC", "DDDDDDDD", "EEEEEEEE"]
OFFSETS = [30.0, 10.0, 50.0, 20.0, 40.0]


class Named(dict):
    """Stands in for Snakemake's named lists."""

    __getattr__ = dict.__getitem__


@pytest.fixture(scope="module")
def study():
    """Five test subjects of three slices; the model is off by a known amount per subject."""
    n, rng = 15, np.random.default_rng(1)
    valid = np.ones((n, 20, 30), np.uint8)
    valid[:, :3] = 0
    test = {
        "source": rng.uniform(0, 100, (n, 20, 30)).astype(np.float32),
        "target": rng.uniform(0, 100, (n, 20, 30)).astype(np.float32),
        "valid": valid,
        "body": valid,
        "subject": np.repeat(SUBJECTS, 3),
        "key": np.array(["a", "b", "c"] * 5),
        "name": np.array(["L3-L4", "L4-L5", "L5-S1"] * 5),
        "verdict": np.full(n, "accepted"),
        "pixel_mm": np.tile(np.float32([2, 1]), (n, 1)),
    }
    train = test | {"subject": np.full(n, "ZZZZZZZZ")}
    off = np.repeat(OFFSETS, 3) + np.tile([0.0, 1.0, 5.0], 5)
    made = {
        "synthetic": test["target"] + off[:, None, None].astype(np.float32),
        **{name: test[name] for name in ("subject", "key", "name")},
    }
    long = evaluate.evaluate(made, test, train, task="t", model="m", metrics=["mae"])
    return {"packs": [test], "syntheses": [made], "long": long}


def history(model_offset: float = 0.0) -> list[dict]:
    return [
        {
            "iteration": 10 * n,
            "gan": 1.0,
            "l1": 1 / n + model_offset,
            "lr": 1e-4,
            "it_per_s": 9.0,
            "validation_mae": 20.0 - n if n % 5 == 0 else None,
        }
        for n in range(1, 61)
    ]


def lines(figure):
    return {axis.get_title(): axis.get_lines() for axis in figure.axes if axis.get_title()}


def test_best_median_and_worst_are_chosen_with_their_median_slice(study):
    rows = plot.choose(study["long"], "m", "body")
    assert [(row["label"], row["subject"], row["key"]) for row in rows] == [
        ("best", "BBBBBBBB", "b"),
        ("median", "AAAAAAAA", "b"),
        ("worst", "CCCCCCCC", "b"),
    ]
    assert [row["value"] for row in rows] == pytest.approx([11, 31, 51], abs=1e-3)


@pytest.mark.parametrize(("count", "labels"), [(0, []), (1, ["only"]), (2, ["best", "worst"])])
def test_nobody_is_shown_twice(study, count, labels):
    long = study["long"][study["long"]["subject"].isin(SUBJECTS[:count])]
    rows = plot.choose(long, "m")
    assert [row["label"] for row in rows] == labels
    assert len({row["subject"] for row in rows}) == count


def test_visits_of_one_person_are_shown_once(study):
    """The two worst subjects become visits of one person, who is then the worst of four."""
    long = study["long"].copy()
    ranked = list(
        long[long["method"] == "m"].groupby("subject")["value"].mean().sort_values().index
    )
    visit = f"{ranked[-1]}_ses-204817"
    long["subject"] = long["subject"].replace(ranked[-2], visit)
    rows = plot.choose(long, "m")
    assert [row["label"] for row in rows] == ["best", "median", "worst"]
    assert rows[-1]["subject"] in (ranked[-1], visit)
    assert rows[1]["subject"] == ranked[1]


def test_panel_crops_the_letterbox_and_shows_the_error(study):
    figure = plot.make("panel", models=["m"], folds=[0], task="t", **study)
    images = [axis.get_images()[0].get_array() for axis in figure.axes if axis.get_images()]
    pictures = [image for image in images if image.shape == (17, 30)]
    assert len(pictures) == 12
    np.testing.assert_allclose(pictures[3], 11, atol=1e-3)
    np.testing.assert_allclose(pictures[1] - pictures[2], pictures[3], atol=1e-3)
    assert figure.axes[0].get_aspect() == pytest.approx(2.0)
    title = figure.get_suptitle()
    assert title == "t, m: best, median and worst of 5 test subjects by MAE (body)"


def test_panel_passes_over_controls(study):
    long = study["long"].replace({"method": {"m": "n"}, "model": {"m": "n"}})
    both = {key: study[key] * 2 for key in ("packs", "syntheses")}
    both["long"] = pd.concat([study["long"], long])
    figure = plot.make("panel", models=["m", "n"], folds=[0, 0], controls=["m"], **both)
    assert figure.get_suptitle().startswith("n:")


def test_pixels_that_are_not_real_are_left_blank(study):
    packs = [study["packs"][0] | {"valid": study["packs"][0]["valid"].copy()}]
    packs[0]["valid"][:, 10, 10] = 0
    figure = plot.panel(packs, study["syntheses"], study["long"], model="m")
    shown = figure.axes[0].get_images()[0].get_array()
    assert shown.mask.sum() == 1
    assert shown.mask[7, 10]


def test_curves_draw_every_loss_of_every_run():
    figure = plot.make(
        "curves", histories=[history(), history(1.0)], models=["m", "n"], folds=[0, 0]
    )
    drawn = lines(figure)
    assert set(drawn) == {"gan", "l1", "validation MAE"}
    np.testing.assert_array_equal(drawn["validation MAE"][0].get_xdata(), range(50, 601, 50))
    raw = [line for line in drawn["l1"] if len(line.get_ydata()) == 60]
    assert len(raw) == 2
    assert raw[1].get_ydata()[0] - raw[0].get_ydata()[0] == pytest.approx(1)
    assert len({line.get_color() for line in raw}) == 2


def test_the_running_mean_is_centred():
    points = np.column_stack([np.arange(100.0), np.arange(100.0)])
    axis = plot._figure(2, 2).subplots()
    plot._draw(axis, points, {"color": "black", "linestyle": "-"}, marked=False)
    smooth = axis.get_lines()[1]
    np.testing.assert_allclose(smooth.get_ydata(), smooth.get_xdata())


def test_errors_joins_each_subjects_values(study):
    figure = plot.make("errors", **study)
    axis = figure.axes[0]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == [
        "m",
        "identity",
        "histogram",
        "mean\ntarget",
        "lookup",
    ]
    assert len(axis.get_lines()) == 5
    first = sorted(line.get_ydata()[0] for line in axis.get_lines())
    assert first == pytest.approx([12, 22, 32, 42, 52], abs=1e-3)
    assert axis.get_ylim()[0] == 0


def test_no_data_gives_a_figure_that_says_so(study, tmp_path):
    empty = {"long": study["long"].iloc[:0], "packs": study["packs"], "syntheses": []}
    for name in plot.FIGURES:
        figure = plot.make(name, models=["m"], folds=[0], **(empty | {"syntheses": [{}]}))
        assert "no t" in figure.texts[0].get_text()
        plot.write_figure(figure, tmp_path / f"{name}.png")


def test_unknown_figures_and_regions_are_refused(study):
    with pytest.raises(StudyError, match="panel, curves, errors"):
        plot.make("pannel", **study)
    long = study["long"][study["long"]["region"] == "image"]
    with pytest.raises(StudyError, match=r"plot\.region.*image"):
        plot.make("errors", long=long)


def test_files_are_legible_reproducible_and_hold_no_text(study, tmp_path):
    for name in ("one", "two"):
        plot.write_figure(plot.make("errors", **study), tmp_path / f"{name}.png")
    assert imread(tmp_path / "one.png").shape[1] >= 1000
    content = (tmp_path / "one.png").read_bytes()
    assert content == (tmp_path / "two.png").read_bytes()
    assert b"tEXt" not in content


def test_adapter(study, tmp_path):
    np.savez(tmp_path / "test.npz", **study["packs"][0])
    np.savez(tmp_path / "made.npz", **study["syntheses"][0])
    evaluate.write_table(study["long"], tmp_path / "long.tsv")
    text = "\n".join(json.dumps(line) for line in history())
    (tmp_path / "history.jsonl").write_text(text + "\n")
    cfg = {"models": ["m"], "folds": [0], "controls": [], "task": "t", "region": "body"}
    for figure in plot.FIGURES:
        out = tmp_path / "results" / "plot" / "t" / f"{figure}.png"
        snakemake = SimpleNamespace(
            log=[],
            params=SimpleNamespace(cfg=cfg),
            input=Named(
                synthetic=[str(tmp_path / "made.npz")],
                tests=[str(tmp_path / "test.npz")],
                histories=[str(tmp_path / "history.jsonl")],
                tables=[str(tmp_path / "long.tsv")],
            ),
            output=Named(figure=str(out)),
            wildcards=Named(task="t", figure=figure),
            rule="plot",
            threads=1,
            resources=SimpleNamespace(),
        )
        script = ROOT / "workflow" / "scripts" / "plot.py"
        runpy.run_path(str(script), init_globals={"snakemake": snakemake})
        assert imread(out).std() > 0
