"""The forecast of a study: rows by model, the total on top, times that follow the work."""

import pandas as pd
import pytest

from mrsynth import forecast

TRAIN = {
    "generator": {"filters": 4, "blocks": 1},
    "discriminator": {"filters": 4, "strided": 2, "head": 1},
    "device": "cpu",
    "total_iterations": 3600,
}


def _model(size=(24, 24), **cfg):
    return {"size": size, "train": {**TRAIN, **cfg}}


def test_the_total_is_that_of_all_models_and_folds():
    models = {"a/gan": _model(), "a/cycle": _model(objective="mrgan")}
    table = forecast.forecast(models, folds=5, steps=2)
    assert list(table["model"]) == ["all", "a/gan", "a/cycle"]
    own = table["hours_a_fold"].iloc[1:]
    assert table["hours_a_fold"].iloc[0] == pytest.approx(5 * own.sum())
    # 3600 steps: as many hours as a step has seconds
    assert list(own) == pytest.approx(list(table["seconds_a_step"].iloc[1:]))
    assert table["memory_mb"].iloc[0] == table["memory_mb"].iloc[1:].max() > 10


def test_larger_images_take_longer():
    small = forecast.measure("s", **_model((32, 32)), steps=2, threads=1)
    large = forecast.measure("l", **_model((256, 256)), steps=2, threads=1)
    assert large["seconds_a_step"] > 2 * small["seconds_a_step"]


def test_a_device_is_timed_on_its_share_of_the_batch():
    row = forecast.measure("two", **_model(batch=4, devices=2), steps=1, threads=1)
    assert row["steps"] == 3600


def test_the_file_holds_the_table(tmp_path):
    table = forecast.forecast({"a/l1": _model(objective="regression")}, folds=1, steps=1)
    forecast.write_forecast(table, tmp_path / "forecast.tsv")
    read = pd.read_csv(tmp_path / "forecast.tsv", sep="\t")
    assert list(read.columns) == list(forecast.COLUMNS)
    assert read["hours_a_fold"].iloc[0] == pytest.approx(table["hours_a_fold"].iloc[0], rel=0.01)
