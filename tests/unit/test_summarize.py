"""Tables against numbers worked out by hand: the subject is the unit."""

import inspect
import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from mrsynth import baselines, conclude, evaluate, plot, summarize
from mrsynth.errors import StudyError

ROOT = Path(__file__).parents[2]


class Named(dict):
    """Stands in for Snakemake's named lists."""

    __getattr__ = dict.__getitem__


def rows(method, subject, values, *, model="m", fold=0, metric="mae", region="body", verdicts=()):
    """Long rows of one subject's slices."""
    verdicts = list(verdicts) or ["accepted"] * len(values)
    return [
        ["t", model, fold, subject, "L4-L5", f"k{n}", verdicts[n], method, region, metric, value]
        for n, value in enumerate(values)
    ]


def table(*parts) -> pd.DataFrame:
    return pd.DataFrame([row for part in parts for row in part], columns=evaluate.COLUMNS)


@pytest.fixture
def long():
    """Two subjects with one and three slices, a model and two baselines."""
    return table(
        rows("m", "AAAAAAAA", [10.0]),
        rows("m", "BBBBBBBB", [20.0, 30.0, 40.0], verdicts=["accepted", "accepted", "review"]),
        rows("identity", "AAAAAAAA", [15.0]),
        rows(
            "identity", "BBBBBBBB", [50.0, 50.0, 50.0], verdicts=["accepted", "accepted", "review"]
        ),
        rows("lookup", "AAAAAAAA", [9.0]),
        rows("lookup", "BBBBBBBB", [35.0, 35.0, 35.0], verdicts=["accepted", "accepted", "review"]),
    )


def one(frame, **wanted):
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_the_mean_is_over_subjects_not_slices(long):
    row = one(summarize.methods(long), method="m")
    assert row["mae_mean"] == 20.0
    assert row["mae_sd"] == pytest.approx(math.sqrt(200))
    assert (row["subjects"], row["slices"], row["seeds"]) == (2, 4, 1)
    assert math.isnan(row["mae_seed_sd"])


def test_cases_have_a_row_per_subject_and_mean_and_sd():
    long = table(
        rows("m", "AAAAAAAA", [10.0]),
        rows("m", "BBBBBBBB", [20.0, 40.0]),
        rows("m", "AAAAAAAA", [60.0], metric="psnr"),
        rows("m", "BBBBBBBB", [20.0, 30.0], metric="psnr"),
        rows("lookup", "AAAAAAAA", [1.0]),
    )
    frame = summarize.cases(long)
    assert frame["case"].tolist() == ["AAAAAAAA", "BBBBBBBB", "Mean", "SD"]
    assert frame["mae"].tolist()[:3] == [10.0, 30.0, 20.0]
    assert frame["psnr"].tolist()[2] == 42.5
    assert frame["mae"].tolist()[3] == pytest.approx(math.sqrt(200))
    text = summarize.markdown("cases", frame)
    assert "| Mean ± SD | 3 | 20.00 ± 14.14 | 42.50 ± 24.75 |" in text


def test_models_come_before_baselines_and_controls_are_marked():
    methods = ("lookup", "zeta", "identity", "alpha-seed1")
    long = table(*(rows(m, "AAAAAAAA", [1.0], model=m) for m in methods))
    frame = summarize.make("methods", long, controls=["alpha-seed1"])
    assert frame["method"].tolist() == ["zeta", "alpha", "identity", "lookup"]
    assert frame["kind"].tolist() == ["model", "control", "baseline", "baseline"]


def test_a_baselines_copies_in_each_models_table_count_once():
    long = table(
        rows("m", "AAAAAAAA", [1.0]),
        rows("n", "AAAAAAAA", [2.0], model="n"),
        rows("lookup", "AAAAAAAA", [5.0]),
        rows("lookup", "AAAAAAAA", [5.0], model="n"),
    )
    row = one(summarize.methods(long), method="lookup")
    assert (row["subjects"], row["slices"], row["mae_mean"]) == (1, 1, 5.0)


def test_seeds_are_averaged_within_the_subject_and_their_spread_is_shown():
    long = table(
        rows("m-seed1", "AAAAAAAA", [10.0], model="m-seed1"),
        rows("m-seed1", "BBBBBBBB", [20.0], model="m-seed1"),
        rows("m-seed2", "AAAAAAAA", [14.0], model="m-seed2"),
        rows("m-seed2", "BBBBBBBB", [28.0], model="m-seed2"),
    )
    row = one(summarize.methods(long), method="m")
    assert (row["seeds"], row["mae_mean"]) == (2, 18.0)
    assert row["mae_sd"] == pytest.approx(np.std([12, 24], ddof=1))
    assert row["mae_seed_sd"] == pytest.approx(np.std([15, 21], ddof=1))


def test_folds_are_pooled_but_nobody_is_tested_twice():
    parts = [rows("m", "AAAAAAAA", [10.0]), rows("m", "BBBBBBBB", [30.0], fold=1)]
    assert one(summarize.methods(table(*parts)), method="m")["mae_mean"] == 20
    with pytest.raises(ValueError, match="more than one fold"):
        summarize.methods(table(*parts, rows("m", "AAAAAAAA", [11.0], fold=1)))


def test_an_undefined_slice_is_not_averaged_away():
    long = table(rows("m", "AAAAAAAA", [10.0, math.nan]), rows("m", "BBBBBBBB", [1.0, math.inf]))
    values = summarize.by_subject(long).set_index("subject")["value"]
    assert math.isnan(values["AAAAAAAA"])
    assert values["BBBBBBBB"] == math.inf


def test_differences_are_paired_and_have_students_interval():
    rng = np.random.default_rng(3)
    base = rng.uniform(20, 60, 8)
    model = base - rng.normal(2, 1, 8)
    names = [f"AAAAAAA{n}" for n in range(2, 10)]
    long = table(
        *(rows("m", name, [value]) for name, value in zip(names, model, strict=True)),
        *(rows("lookup", name, [value]) for name, value in zip(names, base, strict=True)),
    )
    row = one(summarize.differences(long), method="m")
    expected = stats.ttest_rel(model, base).confidence_interval(0.95)
    assert row["mean"] == pytest.approx((model - base).mean())
    assert (row["t_low"], row["t_high"]) == pytest.approx((expected.low, expected.high))
    assert row["t_low"] < row["bootstrap_low"] < row["mean"] < row["bootstrap_high"] < row["t_high"]
    assert row["better"] == int((model < base).sum())
    pd.testing.assert_frame_equal(summarize.differences(long), summarize.differences(long))
    narrow = one(summarize.differences(long, confidence=0.5), method="m")
    assert narrow["t_low"] > row["t_low"]


def test_differences_by_hand(long):
    frame = summarize.differences(long)
    row = one(frame, method="m", reference="identity")
    assert (row["mean"], row["better"], row["subjects"]) == (-12.5, 2, 2)
    assert one(frame, method="m", reference="lookup")["mean"] == pytest.approx(-2.0)
    assert set(frame["method"]) == {"m"}


def test_one_subject_has_no_interval():
    long = table(rows("m", "AAAAAAAA", [1.0]), rows("lookup", "AAAAAAAA", [3.0]))
    row = one(summarize.differences(long), method="m")
    assert row["mean"] == -2
    assert row[["t_low", "t_high", "bootstrap_low", "bootstrap_high"]].isna().all()


def test_more_is_better_for_similarities():
    long = table(
        rows("m", "AAAAAAAA", [0.9], metric="ssim"),
        rows("lookup", "AAAAAAAA", [0.5], metric="ssim"),
    )
    assert one(summarize.differences(long, metric="ssim"), method="m")["better"] == 1


def test_verdicts_by_hand(long):
    frame = summarize.by_verdict(long)
    assert one(frame, method="m", verdict="accepted")["mae_mean"] == pytest.approx((10 + 25) / 2)
    review = one(frame, method="m", verdict="review")
    assert (review["mae_mean"], review["subjects"], review["slices"]) == (40, 1, 1)
    assert one(frame, method="m", verdict="all")["mae_mean"] == 20


def test_the_main_tables_use_accepted_slices_alone(long):
    doubtful = summarize.make("methods", long, verdicts=["accepted", "review"])
    assert one(doubtful, method="m")["mae_mean"] == 20
    plain = summarize.make("methods", long)
    assert one(plain, method="m")["mae_mean"] == pytest.approx((10 + 25) / 2)
    part = summarize.make("cases", long)
    assert part["slices"].tolist() == [1, 2, 3, 3]
    assert one(summarize.make("differences", long), method="m", reference="lookup")["subjects"] == 2
    every = summarize.make("verdicts", long)
    assert set(every["verdict"]) == {"accepted", "review", "all"}


def test_without_an_accepted_slice_the_tables_are_empty_and_say_so(long):
    doubtful = long.assign(verdict="review")
    for name in ("cases", "methods", "differences"):
        frame = summarize.make(name, doubtful)
        assert frame.empty
        text = summarize.markdown(name, frame)
        assert "No rows: no test slice has the verdict accepted (`summarize.verdicts`)." in text
    assert set(summarize.make("verdicts", doubtful)["verdict"]) == {"review", "all"}
    told = summarize.markdown("methods", frame, verdicts=["accepted", "review"])
    assert "Only slices with the verdict accepted, review" in told


def test_the_flows_note_is_true():
    assert "alphabetical order" in summarize.NOTES["flow"]


def test_flow_shows_what_it_is_given(long):
    given = [{"status": "excluded", "pool": "source", "code": "INTERVAL", "subjects": 2}]
    frame = summarize.make("flow", long, flow_rows=given)
    assert frame.to_dict("records") == given


@pytest.mark.parametrize("name", summarize.TABLES)
def test_every_table_has_title_note_and_survives_no_test_subjects(name, long, tmp_path):
    for part in (long, long.iloc[:0]):
        frame = summarize.make(name, part, flow_rows=[{"status": "included", "subjects": 1}])
        text = summarize.markdown(name, frame)
        assert text.startswith(f"# {summarize.TITLES[name]}\n\n{summarize.NOTES[name]}")
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
        summarize.write_frame(frame, tmp_path / "table.tsv")
        assert (tmp_path / "table.tsv").read_text().splitlines()[0].split("\t") == list(
            frame.columns
        )


def test_unknown_names_are_refused_with_the_known_ones(long):
    with pytest.raises(StudyError, match="cases"):
        summarize.make("case", long)
    with pytest.raises(StudyError, match=r"summarize\.difference_metric.*mae"):
        summarize.make("differences", long, difference_metric="ssim")
    with pytest.raises(StudyError, match=r"summarize\.difference_region.*body"):
        summarize.make("differences", long, difference_region="image")


@pytest.mark.parametrize(
    ("stage", "function"),
    [
        ("evaluate", evaluate.evaluate),
        ("summarize", summarize.make),
        ("plot", plot.make),
        ("conclude", conclude.conclude),
    ],
)
def test_schemas_and_functions_have_the_same_defaults(stage, function):
    schema = yaml.safe_load((ROOT / f"workflow/schemas/{stage}.schema.yaml").read_text())
    parameters = inspect.signature(function).parameters
    for key, part in schema["properties"].items():
        default = parameters[key].default
        assert (list(default) if isinstance(default, tuple) else default) == part["default"]
        assert part["description"]
    if stage == "evaluate":
        known = schema["properties"]["baselines"]["items"]["enum"]
        assert tuple(known) == baselines.BASELINES


def test_adapter(long, tmp_path):
    path = tmp_path / "long.tsv"
    evaluate.write_table(long, path)
    out = tmp_path / "results" / "summarize" / "t"
    snakemake = SimpleNamespace(
        log=[],
        params=SimpleNamespace(
            cfg={"flow": [], "controls": [], "verdicts": ["accepted", "review"]}
        ),
        input=Named(tables=[str(path)]),
        output=Named(table=str(out / "methods.tsv"), text=str(out / "methods.md")),
        wildcards=Named(task="t", table="methods"),
        rule="summarize",
        threads=1,
        resources=SimpleNamespace(),
    )
    script = ROOT / "workflow" / "scripts" / "summarize.py"
    runpy.run_path(str(script), init_globals={"snakemake": snakemake})
    frame = conclude.read_frame(out / "methods.tsv")
    assert one(frame, method="m")["mae_mean"] == 20
    text = (out / "methods.md").read_text()
    assert "20.00 ± 14.14" in text
    assert "verdict accepted, review" in text


def test_visits_of_one_person_are_one_subject():
    """Slices of two visits with the same keys all count, and the mean is over persons."""
    visits = table(
        rows("m", "AAAAAAAA", [10.0, 20.0]),
        rows("m", "AAAAAAAA_ses-204817", [40.0, 50.0]),
        rows("m", "BBBBBBBB", [100.0]),
    )
    found = summarize.methods(visits, regions=["body"])
    assert (one(found)["subjects"], one(found)["slices"]) == (2, 5)
    assert one(found)["mae_mean"] == pytest.approx((30 + 100) / 2)
    apart = table(rows("m", "AAAAAAAA", [1.0]), rows("m", "AAAAAAAA_ses-204817", [1.0], fold=1))
    with pytest.raises(ValueError, match="more than one fold"):
        summarize.methods(apart)
