"""The inclusion flow adds up: every file, series and person is in one place."""

from pathlib import Path

import pandas as pd

from mrsynth import flowchart
from seriesmake import TASKS, build, row

FILES = pd.DataFrame(
    [
        *[("used", "")] * 7,
        *[("skipped", "NOT_DICOM")] * 2,
        ("refused", "MISSING_UID"),
        ("refused", "CORRUPT"),
    ],
    columns=["state", "code"],
).assign(file=[f"fil-{n}" for n in range(11)], series="")


def pair(subject: str, day: int = 0, **cells) -> list[dict]:
    own = {"frame": f"for-{subject}"}
    return [
        row(f"ser-c{subject}", subject, **own | cells),
        row(f"ser-m{subject}", subject, "MR", day=str(day), frame=f"for-m{subject}"),
    ]


def cohort(**options):
    rows = [*pair("AAAAAAAA"), *pair("BBBBBBBB"), *pair("CCCCCCCC", day=9)]
    rows += [row("ser-cD", "DDDDDDDD", frame="for-D")]
    rows += [row("ser-l", "AAAAAAAA", status="skipped", code="LOCALIZER")]
    rows += [row("ser-r", "EEEEEEEE", status="refused", code="MISSING_SLICES")]
    rows += [row("ser-2c", "AAAAAAAA", day="50", study="std-2", frame="for-2")]
    rows += [row("ser-2m", "AAAAAAAA", "MR", day="50", study="std-2m", frame="for-2m")]
    return build(rows, files=FILES, visits="all", **options)


def counts(found) -> dict:
    return {
        (line["task"], line["step"], line["code"]): line for line in found.flow.to_dict("records")
    }


def test_files_add_up_with_those_that_have_no_series():
    steps = counts(cohort())
    assert steps["", "files", ""]["files"] == 11
    assert steps["", "files refused", "MISSING_UID"]["files"] == 1
    parts = [line["files"] for (_, step, _), line in steps.items() if step.startswith("files ")]
    assert sum(parts) == 11


def test_series_add_up():
    steps = counts(cohort())
    parts = [line["series"] for (_, step, _), line in steps.items() if step.startswith("series ")]
    assert sum(parts) == steps["", "indexed", ""]["series"] == 11


def test_persons_add_up_and_pairs_count_visits():
    steps = counts(cohort())
    assert steps["ct2t2", "considered", ""]["subjects"] == 5
    assert steps["ct2t2", "excluded", "INTERVAL"]["subjects"] == 1
    assert steps["ct2t2", "excluded", "REFUSED_SERIES"]["subjects"] == 1
    assert steps["ct2t2", "unpaired source", ""]["subjects"] == 1
    assert steps["ct2t2", "paired", ""]["subjects"] == 2
    assert steps["ct2t2", "paired", ""]["pairs"] == 3
    roles = [line for (_, step, _), line in steps.items() if step.startswith("paired, ")]
    assert sum(line["pairs"] for line in roles) == 3
    assert sum(line["subjects"] for line in roles) == 2


def test_a_visit_that_is_left_out_is_no_person_left_out():
    (visit,) = [name for name in cohort().rows["subject"] if "_ses-" in name]
    steps = counts(cohort(sheet=[{"subject": visit, "exclude": "yes"}]))
    assert steps["ct2t2", "visit excluded", "EXCLUDED_BY_SHEET"]["pairs"] == 1
    assert ("ct2t2", "excluded", "EXCLUDED_BY_SHEET") not in steps
    assert steps["ct2t2", "paired", ""]["pairs"] == 2


def test_folds_are_told_by_their_test_persons():
    steps = [step for _, step, _ in counts(cohort(folds=3))]
    assert [step for step in steps if step.startswith("paired, ")] == [
        "paired, fold 0",
        "paired, fold 1",
        "paired, fold 2",
    ]


def texts(figure) -> list[str]:
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_the_figure_has_every_number():
    drawn = "\n".join(texts(flowchart.figure(cohort().flow)))
    for words in (
        "Files found\nn = 11",
        "Skipped (n = 2)",
        "not DICOM: 2",
        "missing UID: 1",
        "Series found\nn = 11, of 5 subjects",
        "Series used\nn = 9, of 4 subjects",
        "Task ct2t2\n5 subjects",
        "Excluded (n = 2)",
        "too long between source and target: 1",
        "the only series was refused: 1",
        "source only: 1",
        "Paired\n2 subjects, 3 pairs",
    ):
        assert words in drawn


def test_boxes_hold_their_texts_and_do_not_overlap():
    tasks = {**TASKS, "sag": {"source": "ct", "target": "t2sag", "bridge": None}}
    figure = flowchart.figure(cohort(tasks=tasks).flow)
    renderer = figure.canvas.get_renderer()
    (axes,) = figure.axes
    boxes = [patch.get_window_extent(renderer) for patch in axes.patches]
    shown = [text for text in axes.texts if text.get_text()]
    assert len(boxes) == len(shown)
    for box, text in zip(boxes, shown, strict=True):
        inside = text.get_window_extent(renderer)
        assert box.x0 <= inside.x0
        assert inside.x1 <= box.x1
        assert box.y0 <= inside.y0
        assert inside.y1 <= box.y1
    for number, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[number + 1 :])
    whole = figure.bbox
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)
    assert all(whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes)


def test_many_reasons_are_summed():
    codes = [f"CODE_{letter}" for letter in "ABCDEFGHIJKLM"]
    rows = [*pair("AAAAAAAA")]
    rows += [row(f"ser-{n}", "AAAAAAAA", status="refused", code=c) for n, c in enumerate(codes)]
    drawn = "\n".join(texts(flowchart.figure(build(rows).flow)))
    assert "3 other reasons: 3" in drawn


def test_an_empty_cohort_and_no_files_still_give_a_figure(tmp_path):
    empty = build([row("ser-r", "", status="refused", code="NO_PATIENT_ID")])
    assert "Files found" not in "\n".join(texts(flowchart.figure(empty.flow)))
    for name in ("a.png", "b.png"):
        flowchart.write_figure(flowchart.figure(cohort().flow), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"Software" not in (tmp_path / "a.png").read_bytes()


def test_every_code_of_the_cohort_has_words():
    text = (Path(__file__).parents[2] / "docs/refusals.md").read_text()
    part = text.split("## cohort")[1].split("\n## ")[0]
    codes = {line.split("`")[1] for line in part.splitlines() if line.startswith("| `")}
    assert codes - {"NO_SOURCE", "NO_TARGET"} == set(flowchart.REASONS)
