"""The summary tells everybody who is missing once, with reason and remedy, and judges honestly."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from mrsynth import conclude, evaluate, prose, summarize
from mrsynth.errors import StudyError

ROOT = Path(__file__).parents[2]


class Named(dict):
    """Stands in for Snakemake's named lists."""

    __getattr__ = dict.__getitem__


def refused(stage, subject, code="NO_OVERLAP", **more):
    return {
        "stage": stage,
        "subject": subject,
        "task": "t",
        "status": "refused",
        "code": code,
        "message": "the images share 3 % of their volume",
        "remedy": "check that both are of one patient",
        **more,
    }


RECORDS = [
    {"stage": "convert", "subject": "CCCCCCCC", "image": "ct", "status": "made"},
    refused("window", "AAAAAAAA"),
    refused("register", "AAAAAAAA"),
    refused("warp", "AAAAAAAA"),
    refused("convert", "BBBBBBBB", "MISSING_SLICES", image="ct", task=None),
    refused("resample", "BBBBBBBB", "MISSING_SLICES"),
]
EXCLUDED = [
    {"task": "t", "subject": "DDDDDDDD", "code": "INTERVAL", "message": "9 days apart"},
    {"task": "u", "subject": "DDDDDDDD", "code": "INTERVAL", "message": "9 days apart"},
    {"task": "t", "subject": "EEEEEEEE", "code": "REFUSED_SERIES", "message": "ct: TILT: 20 deg"},
    {"task": "t", "subject": "FFFFFFFF", "code": "", "message": ""},
]
OPTIONS = {
    "task": "t",
    "model": "m",
    "fold": "0",
    "objective": "paired",
    "generator": {"filters": 16, "blocks": 4},
    "image_size": [96, 128],
    "iteration": 1500,
    "settings": {"batch": 2, "shuffle_pairs": False},
    "training_pairs": 40,
    "validation_pairs": 6,
    "device": "cpu",
}


def gap(reference, low, high, method="m", metric="mae"):
    middle = (low + high) / 2
    return {
        "task": "t",
        "method": method,
        "kind": "model",
        "reference": reference,
        "region": "body",
        "metric": metric,
        "subjects": 6,
        "mean": middle,
        "t_low": low,
        "t_high": high,
        "better": 6,
    }


def long_table():
    values = {"m": (10.0, 12.0, 11.0), "lookup": (15.0, 17.5, 16.5), "shuffled": (30.0, 31.0, 35.0)}
    rows = [
        ["t", "m", 0, f"AAAAAAA{n}", "L4-L5", "k", "accepted", method, "body", "mae", value]
        for method, three in values.items()
        for n, value in enumerate(three, start=2)
    ]
    return pd.DataFrame(rows, columns=evaluate.COLUMNS)


def made_tables():
    long = long_table()
    return [
        summarize.make(name, long, controls=["shuffled"])
        for name in ("cases", "methods", "differences", "verdicts")
    ]


def test_a_refusal_is_told_once_at_the_stage_where_it_arose():
    rows = conclude.refusals(RECORDS)
    assert [(row["stage"], row["subject"], row["code"], row["where"]) for row in rows] == [
        ("convert", "BBBBBBBB", "MISSING_SLICES", ["ct"]),
        ("register", "AAAAAAAA", "NO_OVERLAP", ["t"]),
    ]
    assert all(row["remedy"] == "check that both are of one patient" for row in rows)


def test_the_summary_tells_everybody_who_is_missing():
    done = conclude.conclude(RECORDS, [], [], excluded=EXCLUDED)
    lines = done.text.splitlines()
    assert "## Left out because of their data: 3 subjects" in lines
    assert "## Not included by the cohort's rules: 2 subjects" in lines
    assert "- register, NO_OVERLAP: 1 subject" in lines
    assert "  - DDDDDDDD (t, u): 9 days apart" in lines
    assert "  - EEEEEEEE (t): ct: TILT: 20 deg" in lines
    assert "  - FFFFFFFF (t)" in lines
    assert lines.count("  - Remedy: check that both are of one patient") == 2
    assert done.status["left_out"] == 3
    assert done.status["subjects"] == 6
    assert done.status["subjects_not_included"] == 2


@pytest.mark.parametrize(
    ("policy", "records", "failed"),
    [
        ("report", RECORDS, False),
        ("fail", RECORDS, True),
        ("fail", RECORDS[:1], False),
    ],
)
def test_exit_policy(policy, records, failed):
    done = conclude.conclude(records, [], [], excluded=EXCLUDED[:1], on_refusal=policy)
    assert done.failed is failed
    assert done.status["failed"] is failed
    assert ("ends with an error" in done.text) is failed


def test_an_unknown_policy_is_refused():
    with pytest.raises(StudyError, match=r"on_refusal.*report, fail"):
        conclude.conclude([], [], [], on_refusal="ignore")


def test_main_numbers_networks_and_files_are_there():
    done = conclude.conclude([], [OPTIONS], made_tables(), paths=["results/plot/t/panel.png"])
    assert "11.00 ± 1.00" in done.text
    assert "shuffled (control)" in done.text
    assert "m: better than every baseline, all intervals clear of 0" in done.text
    assert "shuffled: worse than lookup" in done.text
    assert "minus lookup: -5.33 [-6.05, -4.62], better in 3 of 3 subjects" in done.text
    assert "16 filters, 4 residual blocks, 96×128 pixels" in " ".join(done.text.split())
    assert "1500 iterations of batch 2" in " ".join(done.text.split())
    assert "- results/plot/t/panel.png" in done.text
    control = OPTIONS | {"settings": {"batch": 2, "shuffle_pairs": True}}
    assert "shuffled pairs" in conclude.conclude([], [control], []).text


def test_the_terminal_is_wide_enough():
    wordy = refused("crop", "GGGGGGGG", message="many words " * 40, remedy="more words " * 30)
    done = conclude.conclude(
        [*RECORDS, wordy], [OPTIONS] * 3, made_tables(), excluded=EXCLUDED, on_refusal="fail"
    )
    assert max(map(len, done.text.splitlines())) <= prose.WIDTH


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([gap("identity", -9, -5), gap("lookup", -2, -0.1)], "m: better than every baseline"),
        (
            [gap("identity", -9, -5), gap("lookup", -2, 0.1)],
            "m: better than identity; not told apart from lookup",
        ),
        ([gap("identity", 1, 2), gap("lookup", 3, 4)], "m: worse than identity, lookup"),
        ([gap("lookup", 0.1, 0.2, metric="ssim")], "m: better than every baseline"),
        ([gap("lookup", float("nan"), float("nan"))], "m: too few test subjects"),
    ],
)
def test_judgement_follows_the_intervals(rows, words):
    told = conclude.judge(pd.DataFrame(rows), "m", ["identity", "lookup"])
    assert told.startswith(words)


def test_a_slice_left_out_of_several_folds_counts_once():
    out = [
        {"subject": "AAAAAAAA", "key": "a", "name": "", "code": "VERDICT", "message": ""},
        {"subject": "AAAAAAAA", "key": "b", "name": "", "code": "VERDICT", "message": ""},
        {"subject": "BBBBBBBB", "key": "", "name": "", "code": "NO_OVERLAP", "message": ""},
    ]
    inside = {"AAAAAAAA": 4}
    packs = [
        {"task": "t", "fold": fold, "left_out": out, "slices_by_subject": inside}
        for fold in range(3)
    ]
    text = conclude.conclude([], [], [], packs=packs).text
    assert "## Slices left out of the packs: 2" in text
    assert "- t, VERDICT: 2 of 1 subject: AAAAAAAA" in text
    assert "## Left out because of their data: 0 subjects" in text


def left(subject, key, code, message=""):
    return {"subject": subject, "key": key, "name": "", "code": code, "message": message}


def registration(subject, verdict, *reasons, **more):
    record = {"stage": "register", "status": "made", "task": "t", "subject": subject}
    measures = {"reasons": list(reasons)}
    return record | {"verdict": verdict, "measures": measures, "stacks": []} | more


DROPPED = {
    "task": "t",
    "left_out": [
        left("AAAAAAAA", "a", "VERDICT", "verdict failed; pack.verdicts allows accepted"),
        left("AAAAAAAA", "b", "VERDICT", "verdict failed; pack.verdicts allows accepted"),
        left("BBBBBBBB", "a", "FIELD", "0.31 of the range is in both fields"),
        left("CCCCCCCC", "a", "VERDICT"),
        left("DDDDDDDD", "", "NO_SPINE"),
        left("EEEEEEEE", "a", "VERDICT", "verdict failed; pack.verdicts allows accepted"),
    ],
    "slices_by_subject": {},
}
INSIDE = {"task": "t", "left_out": [], "slices_by_subject": {"CCCCCCCC": 1}}


def test_a_subject_without_a_slice_in_any_pack_is_named_and_counts():
    records = [registration("AAAAAAAA", "failed", "no common field"), *RECORDS[:1]]
    packs = [DROPPED | {"fold": 0}, DROPPED | {"fold": 1}, INSIDE | {"fold": 1}]
    done = conclude.conclude(records, [], [], packs=packs, on_refusal="fail")
    assert done.failed
    assert done.status["left_out"] == 3
    text = " ".join(done.text.split())
    assert "## Left out because of their data: 3 subjects" in text
    assert (
        "- register, VERDICT: 1 subject - AAAAAAAA (t): no slice is in any pack (VERDICT 2); "
        "registration failed: no common field - Remedy: look at results/register/"
    ) in text
    assert "config/review.tsv" in text
    assert "- pack, FIELD: 1 subject - BBBBBBBB (t): no slice is in any pack (FIELD 1)" in text
    assert "0.31 of the range is in both fields - Remedy: lower 'pack.min_valid'" in text
    assert "- pack, VERDICT: 1 subject - EEEEEEEE (t)" in text
    assert max(map(len, done.text.splitlines())) <= prose.WIDTH
    assert not conclude.conclude(records, [], [], packs=[INSIDE], on_refusal="fail").failed


def test_a_subject_can_be_in_one_task_and_dropped_from_another():
    packs = [DROPPED | {"task": "u"}, INSIDE]
    assert {"CCCCCCCC"} <= {row["subject"] for row in conclude.dropped(packs)}
    assert conclude.dropped([INSIDE | {"left_out": DROPPED["left_out"][3:4]}]) == []


def test_a_doubtful_registration_of_a_subject_who_is_in_is_told():
    records = [registration(name, "review", "tilt") for name in ("AAAAAAAA", "CCCCCCCC")]
    text = conclude.conclude(records, [], [], packs=[DROPPED, INSIDE]).text
    _, part = text.split("## Other registrations not accepted by themselves: 1 subject")
    assert "- CCCCCCCC (t): review: tilt" in part
    assert "AAAAAAAA" not in part


def test_many_subjects_of_single_slices_are_cut_short():
    names = [f"AAAAAAA{letter}" for letter in "ABCDEFGHIJ"]
    pack = {"task": "t", "left_out": [left(name, "a", "FIELD") for name in names]}
    text = " ".join(conclude.conclude([], [], [], packs=[pack]).text.split())
    assert "- t, FIELD: 10 of 10 subjects: AAAAAAAA, AAAAAAAB" in text
    assert "AAAAAAAH and 2 more" in text


def test_a_refusal_after_a_doubtful_registration_says_so():
    records = [registration("AAAAAAAA", "failed", "x"), refused("crop", "AAAAAAAA", "NO_SLICES")]
    [row] = conclude.refusals(records)
    assert row["message"].endswith("; the registration's verdict is 'failed'")
    other = conclude.refusals([records[0], refused("resample", "AAAAAAAA")])
    assert "verdict" not in other[0]["message"]


def test_listing_of_whatever_records_there_are():
    records = [*RECORDS, registration("GGGGGGGG", "review", "low overlap", "tilt")]
    text = conclude.listing(records)
    lines = " ".join(text.split())
    assert "Refused so far: 2 subjects" in lines
    assert "- AAAAAAAA (t), register, NO_OVERLAP: the images share 3 % of their volume" in lines
    assert lines.count("Remedy: check that both are of one patient") == 2
    assert "Registrations not accepted so far: 1 subject" in lines
    assert "- GGGGGGGG (t): review: low overlap; tilt - Remedy: look at results/register" in lines
    assert max(map(len, text.splitlines())) <= prose.WIDTH
    assert "Refused so far: 0 subjects" in conclude.listing([])


def test_test_slices_without_a_usable_verdict_are_explained():
    pack = {"task": "t", "fold": "0", "role": "test", "subjects": 1, "slices": 3}
    text = " ".join(
        conclude.conclude(
            [], [], [], packs=[pack | {"slices_by_verdict": {"review": 3}}]
        ).text.split()
    )
    assert "No test slice has a verdict of 'summarize.verdicts'" in text
    done = conclude.conclude([], [], made_tables(), packs=[pack | {"task": "u"}, pack])
    assert done.text.count("No test slice has a verdict") == 1
    assert "11.00 ± 1.00" in done.text
    assert "test 1 subject with 3 slices (3 with the verdict review)" in text


def test_roles_are_counted_per_fold():
    packs = [
        {"task": "t", "fold": "0", "role": role, "subjects": n, "slices": 4 * n, "pixel_mm": 1.6}
        for role, n in (("test", 2), ("train", 6), ("validation", 1))
    ]
    text = " ".join(conclude.conclude([], [], [], packs=packs).text.split())
    assert (
        "- t, fold 0: train 6 subjects with 24 slices, validation 1 subject with 4 slices, "
        "test 2 subjects with 8 slices; pixels of 1.60 mm"
    ) in text


def test_slice_pairs_are_given_per_person():
    slices = {"AAAAAAAA": 2, "AAAAAAAA_ses-204817": 3, "BBBBBBBB": 1}
    pack = {"task": "t", "fold": "0", "role": "train", "subjects": 2, "slices": 6}
    text = conclude.conclude([], [], [], packs=[pack | {"slices_by_subject": slices}]).text
    assert "train 2 subjects with 6 slices, 3.00 a subject (1–5)" in text


def test_what_is_noted_of_included_pairs_is_told():
    rows = [
        {"task": "t", "subject": "AAAAAAAA", "notes": "ct:contrast,ct:metal"},
        {"task": "t", "subject": "BBBBBBBB", "notes": "ct:contrast"},
    ]
    text = conclude.conclude([], [], [], noted=rows).text
    assert "## Included, but noted" in text
    assert "- t, ct:contrast: AAAAAAAA, BBBBBBBB\n- t, ct:metal: AAAAAAAA" in text
    assert "Included, but noted" not in conclude.conclude([], [], []).text
    many = [{"task": "t", "subject": f"S{n:07d}", "notes": "ct:metal"} for n in range(20)]
    assert "S0000011 and 8 more" in conclude.conclude([], [], [], noted=many).text


def test_visits_of_one_person_count_once():
    excluded = [
        {"task": "t", "subject": name, "code": "INTERVAL", "message": ""}
        for name in ("AAAAAAAA", "AAAAAAAA_ses-204817")
    ]
    done = conclude.conclude([], [], [], excluded=excluded)
    assert done.status["subjects"] == 1
    assert done.status["subjects_not_included"] == 1


def test_nothing_at_all_still_gives_a_summary():
    done = conclude.conclude([], [], [])
    assert "No test images were measured." in done.text
    assert done.status["left_out"] == 0


def test_adapter(tmp_path):
    folder = tmp_path / "results" / "train" / "t" / "m" / "fold-0"
    folder.mkdir(parents=True)
    bare = {key: value for key, value in OPTIONS.items() if key not in ("task", "model", "fold")}
    (folder / "options.json").write_text(json.dumps(bare))
    tables = []
    for name, frame in zip(
        ("cases", "methods", "differences", "verdicts"), made_tables(), strict=True
    ):
        tables.append(str(tmp_path / f"{name}.tsv"))
        summarize.write_frame(frame, tables[-1])
    records = []
    for number, record in enumerate(RECORDS):
        records.append(str(tmp_path / f"{number}.json"))
        Path(records[-1]).write_text(json.dumps(record))
    out = tmp_path / "results" / "conclude"
    names = {"summary": "summary.md", "status": "status.json"}
    names |= {"study": "study.yaml", "versions": "versions.json"}
    study = {"dicom": ["phantom"], "key_hex": "5" * 32}
    snakemake = SimpleNamespace(
        log=[],
        params=SimpleNamespace(
            cfg={"excluded": EXCLUDED, "on_refusal": "fail", "study": study, "region": "body"}
        ),
        input=Named(
            records=records,
            packs=[],
            options=[str(folder / "options.json")],
            tables=tables,
            figures=["results/plot/t/panel.png"],
        ),
        output=Named({name: str(out / file) for name, file in names.items()}),
        wildcards=Named(),
        rule="conclude",
        threads=1,
        resources=SimpleNamespace(),
    )
    script = ROOT / "workflow" / "scripts" / "conclude.py"
    runpy.run_path(str(script), init_globals={"snakemake": snakemake})
    text = (out / "summary.md").read_text()
    assert "- t, m, fold 0: objective paired" in text
    assert f"- {folder / 'weights.safetensors'}" in text
    assert "11.00 ± 1.00" in text
    status = json.loads((out / "status.json").read_text())
    assert status["failed"] is True
    assert status["left_out"] == 3
    assert yaml.safe_load((out / "study.yaml").read_text()) == {"dicom": ["phantom"]}
    assert "numpy" in json.loads((out / "versions.json").read_text())
