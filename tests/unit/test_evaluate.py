"""Slices are matched by key, regions hold what they say, names survive the file."""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mrsynth import evaluate
from mrsynth.errors import StudyError

ROOT = Path(__file__).parents[2]


class Named(dict):
    """Stands in for Snakemake's named lists."""

    __getattr__ = dict.__getitem__


def a_pack(subjects: list[str], per: int = 2, seed: int = 0, size: int = 12) -> dict:
    """Random images; a frame of letterbox two pixels wide on the left, a body in the middle."""
    rng = np.random.default_rng(seed)
    n = len(subjects) * per
    valid = np.ones((n, size, size), np.uint8)
    valid[:, :, :2] = 0
    body = np.zeros_like(valid)
    body[:, 3:9, 1:9] = 1
    return {
        "source": (rng.uniform(0, 255, (n, size, size)) * valid).astype(np.float32),
        "target": (rng.uniform(0, 255, (n, size, size)) * valid).astype(np.float32),
        "valid": valid,
        "body": body,
        "subject": np.repeat(np.array(subjects, dtype="U8"), per),
        "key": np.array(
            [f"stack-1_slice-{k:02d}" for k in range(per)] * len(subjects), dtype="U20"
        ),
        "name": np.array(["L4-L5", "L5-S1"] * n, dtype="U8")[:n],
        "verdict": np.array(["accepted", "review"] * n, dtype="U8")[:n],
        "pixel_mm": np.ones((n, 2), np.float32),
    }


def synthetic(pack: dict, offset: float = 0.0) -> dict:
    made = pack["target"] + np.float32(offset)
    return {"synthetic": made, **{name: pack[name] for name in ("subject", "key", "name")}}


@pytest.fixture
def packs():
    return a_pack(["7E234567", "BBBBBBBB"]), a_pack(["CCCCCCCC", "DDDDDDDD"], seed=1)


def value(long, **wanted):
    for column, one in wanted.items():
        long = long[long[column] == one]
    assert len(long) == 1
    return long["value"].item()


def test_the_table_has_every_slice_method_region_and_metric(packs):
    test, train = packs
    long = evaluate.evaluate(synthetic(test), test, train, task="t", model="m", fold=3)
    assert list(long.columns) == evaluate.COLUMNS
    assert len(long) == 4 * 5 * 3 * 5
    assert set(long["fold"]) == {3}
    assert set(long["method"]) == {"m", "identity", "histogram", "mean_target", "lookup"}
    assert not long.duplicated(["subject", "key", "method", "region", "metric"]).any()


def test_order_in_the_synthesis_file_does_not_matter(packs):
    test, train = packs
    made = synthetic(test)
    made["synthetic"] = made["synthetic"] + np.arange(4, dtype=np.float32)[:, None, None]
    mixed = {name: array[[2, 0, 3, 1]] for name, array in made.items()}
    first, second = (evaluate.evaluate(one, test, train) for one in (made, mixed))
    pd.testing.assert_frame_equal(first, second)
    of_model = first[(first["method"] == "model") & (first["region"] == "valid")]
    assert of_model[of_model["metric"] == "mae"]["value"].tolist()[0] == 0


def test_a_slice_too_few_too_many_or_twice_is_refused(packs):
    test, train = packs
    made = synthetic(test)
    with pytest.raises(ValueError, match="1 missing, 0 unknown"):
        evaluate.evaluate({n: a[:3] for n, a in made.items()}, test, train)
    renamed = made | {"key": np.array(["x", *made["key"][1:]])}
    with pytest.raises(ValueError, match="1 missing, 1 unknown"):
        evaluate.evaluate(renamed, test, train)
    twice = {n: a[[0, 0, 1, 2, 3]] for n, a in made.items()}
    with pytest.raises(ValueError, match="more than once"):
        evaluate.evaluate(twice, test, train)
    with pytest.raises(ValueError, match="size"):
        evaluate.evaluate(made | {"synthetic": made["synthetic"][:, 1:]}, test, train)


def test_a_subject_in_training_and_test_is_refused(packs):
    test, _ = packs
    with pytest.raises(ValueError, match="1 subjects are in both"):
        evaluate.evaluate(synthetic(test), test, a_pack(["BBBBBBBB", "CCCCCCCC"]))


def test_another_visit_of_a_trained_person_is_refused(packs):
    test, train = packs
    train["subject"][0] = f"{test['subject'][0]}_ses-204817"
    with pytest.raises(ValueError, match="1 subjects are in both"):
        evaluate.evaluate(synthetic(test), test, train, task="t", model="m", fold=0)


def test_a_model_must_not_be_called_like_a_baseline(packs):
    test, train = packs
    with pytest.raises(StudyError, match=r"tasks\.t\.models\.lookup"):
        evaluate.evaluate(synthetic(test), test, train, task="t", model="lookup")


def test_regions_by_hand(packs):
    """Errors of 10, 20 and 40 in the letterbox, around the body and inside it."""
    test, train = packs
    test["target"][:] = 100
    made = synthetic(test)
    inside = (test["valid"] > 0) & (test["body"] > 0)
    made["synthetic"] = 100 + np.where(inside, 40.0, np.where(test["valid"] > 0, 20.0, 10.0))
    long = evaluate.evaluate(made, test, train, metrics=["mae"])
    where = {"subject": "BBBBBBBB", "key": "stack-1_slice-00", "method": "model", "metric": "mae"}
    pixels = {"body": 6 * 7, "frame": 12 * 10 - 6 * 7, "letterbox": 12 * 2}
    assert value(long, region="body", **where) == pytest.approx(40)
    valid = (40 * pixels["body"] + 20 * pixels["frame"]) / 120
    assert value(long, region="valid", **where) == pytest.approx(valid)
    image = (valid * 120 + 10 * pixels["letterbox"]) / 144
    assert value(long, region="image", **where) == pytest.approx(image)


def test_images_are_clipped_but_not_rounded(packs):
    test, train = packs
    test["target"][:] = 255
    made = synthetic(test) | {"synthetic": np.full(test["target"].shape, 400.0)}
    long = evaluate.evaluate(made, test, train, metrics=["mae"], regions=["image"])
    assert (long[long["method"] == "model"]["value"] == 0).all()
    made["synthetic"] = np.full(test["target"].shape, 254.75)
    long = evaluate.evaluate(made, test, train, metrics=["mae"], regions=["image"])
    assert (long[long["method"] == "model"]["value"] == 0.25).all()


def test_without_test_subjects_the_table_is_empty(packs):
    _, train = packs
    empty = {name: array[:0] for name, array in train.items()}
    long = evaluate.evaluate(synthetic(empty), empty, train)
    assert long.empty
    assert list(long.columns) == evaluate.COLUMNS


def test_the_file_keeps_names_and_undefined_values(packs, tmp_path):
    test, train = packs
    long = evaluate.evaluate(synthetic(test), test, train, task="t", model="m")
    long.loc[0, "value"] = math.nan
    long["name"] = ""
    evaluate.write_table(long, tmp_path / "long.tsv")
    again = evaluate.read_table(tmp_path / "long.tsv")
    assert again["subject"].iloc[0] == "7E234567"
    assert set(again["name"]) == {""}
    assert math.isnan(again["value"].iloc[0])
    assert np.isinf(again["value"]).sum() == np.isinf(long["value"]).sum() > 0
    np.testing.assert_allclose(again["value"], long["value"], rtol=1e-6)


def test_adapter(packs, tmp_path):
    files = dict(zip(("test", "train"), packs, strict=True)) | {"synthetic": synthetic(packs[0])}
    for name, arrays in files.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    out = tmp_path / "results" / "evaluate" / "t" / "m" / "fold-0.tsv"
    snakemake = SimpleNamespace(
        log=[],
        params=SimpleNamespace(cfg={"metrics": ["mae"], "task": "t", "model": "m", "fold": 0}),
        input=Named({name: str(tmp_path / f"{name}.npz") for name in files}),
        output=Named(table=str(out)),
        wildcards=Named(task="t", model="m", fold="0"),
        rule="evaluate",
        threads=1,
        resources=SimpleNamespace(),
    )
    script = ROOT / "workflow" / "scripts" / "evaluate.py"
    runpy.run_path(str(script), init_globals={"snakemake": snakemake})
    long = evaluate.read_table(out)
    assert len(long) == 4 * 5 * 3
    assert set(long["model"]) == {"m"}


def test_metrics_of_whole_images_have_rows_of_the_region_image_alone(packs):
    test, train = packs
    table = evaluate.evaluate(synthetic(test), test, train, metrics=["mae", "cpbd"], baselines=[])
    assert set(table[table["metric"] == "cpbd"]["region"]) == {"image"}
    assert set(table[table["metric"] == "mae"]["region"]) == {"image", "valid", "body"}
