"""Questions to the cohort sheet."""

import pytest

from mrsynth import sheet
from mrsynth.errors import StudyError


def row(subject, **changes):
    base = {
        "task": "lumbar",
        "subject": subject,
        "pool": "paired",
        "unit": "0.5",
        "split": "",
        "source": "ct",
        "target": "t2ax",
        "source_series": f"ser-{subject}C",
        "target_series": f"ser-{subject}M",
        "bridge_series": f"ser-{subject}B",
        "source_stacks": "1",
        "target_stacks": "4",
        "status": "included",
        "code": "",
        "message": "",
    }
    return base | changes


RULE = {"folds": 1, "test": 0.25, "validation": 0.25}


def test_roles_part_the_pairs():
    rows = [row(f"S{n}", unit=str(n / 20)) for n in range(20)]
    parts = [sheet.members(rows, "lumbar", r, 0, RULE) for r in ("train", "validation", "test")]
    assert sorted(name for part in parts for name in part) == sheet.paired(rows, "lumbar")
    assert [len(part) for part in parts] == [10, 5, 5]


def test_a_fold_without_training_subjects_is_refused():
    rows = [row("A", unit="0.1"), row("B", unit="0.2")]
    with pytest.raises(StudyError, match=r"fold 0.*0 train, 0 validation, 2 test.*cohort\.test"):
        sheet.trainees(rows, "lumbar", 0, RULE)
    assert sheet.trainees([row("A")], "lumbar", 0, RULE) == ["A"]


def test_excluded_and_unpaired_are_no_members():
    rows = [row("A"), row("B", status="excluded", code="INTERVAL"), row("C", pool="source")]
    assert sheet.paired(rows, "lumbar") == ["A"]
    assert [entry["subject"] for entry in sheet.excluded(rows)] == ["B", "C"]
    with pytest.raises(StudyError, match="'B'"):
        sheet.find_row(rows, "lumbar", "B")


def test_stack_names_and_numbers():
    assert sheet.stack_names("ct", 1) == ["ct"]
    assert sheet.stack_names("t2ax", 2) == ["t2ax_stack-1", "t2ax_stack-2"]
    assert [sheet.stack_number(name) for name in ("ct", "t2ax_stack-12")] == [1, 12]


def test_series_of_an_image():
    rows = [row("A")]
    bridges = {"lumbar": "t2sag"}
    assert sheet.series_of(rows, "A", "ct", bridges) == "ser-AC"
    assert sheet.series_of(rows, "A", "t2ax_stack-3", bridges) == "ser-AM"
    assert sheet.series_of(rows, "A", "t2sag", bridges) == "ser-AB"
    with pytest.raises(StudyError, match="'t1'"):
        sheet.series_of(rows, "A", "t1", bridges)


def test_two_tasks_with_different_series_of_one_image_are_refused():
    rows = [row("A"), row("A", task="other", source_series="ser-X")]
    with pytest.raises(StudyError, match=r"ser-AC, ser-X.*config/cohort\.tsv"):
        sheet.series_of(rows, "A", "ct", {})


def test_landmark_image_may_have_stacks():
    assert sheet.landmark_image([row("A")], "A", "ct") == "ct"
    assert sheet.landmark_image([row("A")], "A", "t2ax") == "t2ax_stack-1"
    with pytest.raises(StudyError, match=r"locate\.image"):
        sheet.landmark_image([row("A")], "A", "xray")


def test_flow_counts_every_row_once():
    rows = [row("A"), row("B"), row("C", status="excluded", code="INTERVAL")]
    flow = sheet.flow(rows, "lumbar")
    assert sum(step["subjects"] for step in flow) == 3
    interval = {"status": "excluded", "pool": "paired", "code": "INTERVAL"}
    assert interval | {"subjects": 1, "pairs": 1} in flow
    visits = sheet.flow([row("AAAAAAAA"), row("AAAAAAAA_ses-123456")], "lumbar")
    assert [(step["subjects"], step["pairs"]) for step in visits] == [(1, 2)]


def test_pools_hold_the_subjects_with_one_side_for_training():
    rows = [
        row("A"),
        row("B", pool="source", target_series="", target_stacks=""),
        row("C", pool="source", target_series="", target_stacks="", split="test"),
        row("D", pool="target", source_series="", source_stacks=""),
        row("E", pool="source", status="excluded"),
    ]
    assert sheet.pool(rows, "lumbar", "source") == ["B"]
    assert sheet.pool(rows, "lumbar", "target") == ["D"]
    assert sheet.paired(rows, "lumbar") == ["A"]
    assert sheet.find_row(rows, "lumbar", "B")["pool"] == "source"
    assert sheet.series_of(rows, "D", "t2ax_stack-2", {}) == "ser-DM"
    with pytest.raises(StudyError, match="'ct' of subject 'D'"):
        sheet.series_of(rows, "D", "ct", {})
    assert sheet.landmark_image(rows, "B", "ct") == "ct"
    with pytest.raises(StudyError, match=r"locate\.image"):
        sheet.landmark_image(rows, "D", "ct")
