"""The cohort: pairs, reasons, roles, and that nobody moves."""

import pandas as pd
import pytest

from mrsynth import choices, cohort, sheet, wishes
from mrsynth.errors import StudyError
from seriesmake import IMAGES, KEY, PAIR, TASKS, build, only, row


def test_a_pair_is_included_with_its_series():
    found = only(PAIR)
    assert found["status"] == "included"
    assert found["pool"] == "paired"
    assert (found["source_series"], found["target_series"]) == ("ser-c", "ser-m")
    assert (found["source_stacks"], found["target_stacks"]) == ("1", "4")
    assert found["interval_days"] == "2"
    assert 0 <= float(found["unit"]) < 1
    assert list(found) == list(choices.COLUMNS)


def test_the_interval_is_a_setting_and_has_no_sign():
    late = [row("ser-c", day="5"), row("ser-m", modality="MR")]
    assert only(late)["code"] == "INTERVAL"
    assert only(late)["status"] == "excluded"
    assert only(late, max_interval_days=5)["status"] == "included"


def test_the_nearest_pair_wins():
    rows = [*PAIR, row("ser-d", day="3"), row("ser-e", day="9")]
    assert only(rows)["source_series"] == "ser-d"


def test_without_dates_only_one_study_or_an_explicit_setting_pairs():
    rows = [row("ser-c", day=""), row("ser-m", modality="MR", day="")]
    assert only(rows)["code"] == "UNKNOWN_INTERVAL"
    assert only(rows, allow_unknown_interval=True)["status"] == "included"
    same = [{**item, "study": "std-1"} for item in rows]
    assert only(same)["interval_days"] == "0"
    assert only(rows, [{"subject": "AAAAAAAA", "interval_days": "2"}])["status"] == "included"
    assert only(rows, [{"subject": "AAAAAAAA", "interval_days": "8"}])["code"] == "INTERVAL"


def test_single_sides_fill_the_unpaired_pools():
    found = only([row("ser-c")])
    assert (found["pool"], found["status"], found["code"]) == ("source", "included", "NO_TARGET")
    found = only([row("ser-m", modality="MR")])
    assert (found["pool"], found["status"], found["code"]) == ("target", "included", "NO_SOURCE")
    found = only([row("ser-m", modality="MR", plane="sagittal")])
    assert (found["status"], found["code"]) == ("excluded", "NO_SOURCE_NO_TARGET")


def test_a_refused_series_is_the_reason():
    rows = [
        row("ser-c"),
        row("ser-m", modality="MR", status="refused", code="MISSING_SLICES", plane=""),
    ]
    found = only(rows)
    assert (found["status"], found["code"]) == ("excluded", "REFUSED_SERIES")
    assert "MISSING_SLICES" in found["message"]
    other = [row("ser-c"), row("ser-m", modality="MR", status="refused", weighting="T1")]
    assert only(other)["code"] == "NO_TARGET"


def test_a_later_task_keeps_the_series_of_an_earlier_one():
    tasks = {**TASKS, "sag": {"source": "ct", "target": "t2sag", "bridge": None}}
    rows = [
        row("ser-c", day="0"),
        row("ser-d", day="3"),
        row("ser-m", modality="MR", day="0"),
        row("ser-s", modality="MR", day="3", plane="sagittal"),
    ]
    assert set(build(rows, tasks=tasks).rows["source_series"]) == {"ser-c"}


def test_the_bridge_shares_the_targets_frame():
    sagittal = row("ser-s", modality="MR", plane="sagittal")
    assert only([*PAIR, sagittal])["bridge_series"] == "ser-s"
    assert only([*PAIR, sagittal | {"frame": "for-other"}])["bridge_series"] == ""


SAG = {"source": "ct", "target": "t2sag", "bridge": None}
T1 = {"source": "ct", "target": "t1ax", "bridge": "t2sag"}


@pytest.mark.parametrize("order", [("ct2t2", "sag"), ("sag", "ct2t2")])
def test_a_bridge_that_is_another_tasks_image_is_the_same_series(order):
    tasks = {name: {**TASKS, "sag": SAG}[name] for name in order}
    rows = [
        row("ser-c"),
        row("ser-m", modality="MR"),
        row("ser-s", modality="MR", plane="sagittal", spacing_mm="1", day="9"),
        row("ser-t", modality="MR", plane="sagittal"),
    ]
    found = build(rows, tasks=tasks).rows.set_index("task")
    assert found.loc["sag", "target_series"] == "ser-t"
    assert found.loc["ct2t2", "bridge_series"] == "ser-t"
    rows[3]["frame"] = "for-other"
    found = build(rows, tasks=tasks).rows.set_index("task")
    assert found.loc["sag", "target_series"] == "ser-t"
    assert found.loc["ct2t2", "bridge_series"] == ""


def test_two_tasks_share_their_bridge():
    images = {**IMAGES, "t1ax": {"modality": "MR", "weighting": "T1", "plane": "axial"}}
    rows = [
        *PAIR,
        row("ser-n", modality="MR", weighting="T1", frame="for-new"),
        row("ser-s", modality="MR", plane="sagittal", frame="for-new"),
        row("ser-t", modality="MR", plane="sagittal"),
    ]
    tasks = {**TASKS, "ct2t1": T1}
    found = cohort.build(pd.DataFrame(rows), None, images, tasks, key=KEY).rows
    assert found["bridge_series"].tolist() == ["ser-t", ""]
    bridges = {task: roles["bridge"] for task, roles in tasks.items()}
    assert sheet.series_of(found.to_dict("records"), "AAAAAAAA", "t2sag", bridges) == "ser-t"


def test_without_registration_a_pair_shares_its_frame():
    tasks = {"ct2t2": TASKS["ct2t2"] | {"alignment": "none"}}
    found = only(PAIR, tasks=tasks)
    assert (found["status"], found["code"]) == ("excluded", "FRAME")
    assert only(PAIR, tasks={"ct2t2": TASKS["ct2t2"] | {"alignment": "register"}})["code"] == ""
    nowhere = [item | {"frame": ""} for item in PAIR]
    assert only(nowhere, tasks=tasks)["code"] == "FRAME"
    farther = row("ser-x", modality="MR", day="3", frame="for-CT")
    found = only([*PAIR, farther], tasks=tasks)
    assert (found["status"], found["target_series"]) == ("included", "ser-x")
    late = only([*PAIR, farther | {"day": "9"}], tasks=tasks)
    assert (late["code"], late["target_series"]) == ("INTERVAL", "ser-x")
    (step,) = [line for line in build(PAIR, tasks=tasks).flow.itertuples() if line.code]
    assert (step.step, step.code, step.subjects) == ("excluded", "FRAME", 1)


def test_the_users_sheet_outranks():
    excluded = only(PAIR, [{"subject": "AAAAAAAA", "exclude": "yes", "reason": "fracture"}])
    assert (excluded["code"], excluded["message"]) == ("EXCLUDED_BY_SHEET", "fracture")
    rows = [*PAIR, row("ser-x", kind="derived")]
    chosen = only(rows, [{"subject": "sub-AAAAAAAA", "source_series": "ser-x", "split": "test"}])
    assert (chosen["source_series"], chosen["split"]) == ("ser-x", "test")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ({"subject": "BBBBBBBB"}, "BBBBBBBB"),
        ({"subject": "AAAAAAAA", "split": "training"}, "split"),
        ({"subject": "AAAAAAAA", "exclude": "maybe"}, "exclude"),
        ({"subject": "AAAAAAAA", "interval_days": "x"}, "interval_days"),
        ({"subject": "AAAAAAAA", "source_series": "ser-q"}, "source_series"),
        ({"subject": "AAAAAAAA", "task": "t9"}, "task .not shown"),
    ],
)
def test_a_sheet_that_names_what_is_not_there_is_refused(line, word):
    with pytest.raises(StudyError, match=word):
        build(PAIR, [line])


def test_two_lines_for_one_subject_are_refused():
    with pytest.raises(StudyError, match="two lines"):
        build(PAIR, [{"subject": "AAAAAAAA"}, {"subject": "AAAAAAAA"}])


def test_read_sheet(tmp_path):
    path = tmp_path / "cohort.tsv"
    path.write_text("subject\tsplit\n# a comment\nAAAAAAAA\t test \n")
    sheet = wishes.read_sheet(path)
    assert sheet.to_dict("records")[0]["split"] == "test"
    assert list(sheet.columns) == list(wishes.COLUMNS)
    path.write_text("subject,split\n")
    with pytest.raises(StudyError, match="tabs"):
        wishes.read_sheet(path)


def many(count: int) -> list[dict]:
    rows = []
    for number in range(count):
        subject = f"S{number:07d}"
        rows += [row(f"ser-c{number}", subject), row(f"ser-m{number}", subject, "MR")]
    return rows


def roles(rows: pd.DataFrame, fold: int, **rule) -> dict[str, str]:
    return {
        line.subject: cohort.role(float(line.unit), line.split, fold, **rule)
        for line in rows.itertuples()
    }


@pytest.mark.parametrize("folds", [1, 2, 3, 5])
def test_new_subjects_never_move_old_ones(folds):
    rule = {"folds": folds, "test": 0.2, "validation": 0.2}
    before = build(many(60)).rows
    after = build(many(90)[::-1]).rows
    for fold in range(folds):
        old, new = roles(before, fold, **rule), roles(after, fold, **rule)
        assert {name: new[name] for name in old} == old


def test_holdout_has_the_wished_shares():
    found = list(roles(build(many(600)).rows, 0, folds=1, test=0.2, validation=0.1).values())
    assert abs(found.count("test") / 600 - 0.2) < 0.05
    assert abs(found.count("validation") / 600 - 0.1) < 0.04


@pytest.mark.parametrize("folds", [2, 4])
def test_folds_test_everybody_once_and_never_overlap(folds):
    rows = build(many(200)).rows
    tested = [
        [
            name
            for name, role in roles(rows, f, folds=folds, test=0, validation=0.2).items()
            if role == "test"
        ]
        for f in range(folds)
    ]
    assert sorted(name for fold in tested for name in fold) == sorted(rows["subject"])
    for fold in range(folds):
        found = roles(rows, fold, folds=folds, test=0, validation=0.2)
        assert {"train", "validation", "test"} == set(found.values())


def test_two_folds_without_validation_have_none():
    found = roles(build(many(50)).rows, 0, folds=2, test=0.2, validation=0)
    assert set(found.values()) == {"train", "test"}


def test_the_users_split_holds_in_every_fold():
    for fold in range(5):
        assert cohort.role(0.01, "train", fold, folds=5, test=0, validation=0) == "train"


def test_an_unknown_fold_is_refused():
    with pytest.raises(StudyError, match="folds"):
        cohort.role(0.5, "", 5, folds=5, test=0.2, validation=0.2)


def test_shares_that_leave_nobody_are_refused():
    with pytest.raises(StudyError, match=r"cohort\.test"):
        build(PAIR, test=0.7, validation=0.3)


def test_flow_adds_up():
    rows = [
        *many(3),
        row("ser-c", "ALONE000"),
        row("ser-x", "LATE0000"),
        row("ser-y", "LATE0000", "MR", day="30"),
        row("ser-l", "ALONE000", status="skipped", code="LOCALIZER"),
    ]
    found = build(rows)
    flow = {(line.task, line.step, line.code): line.subjects for line in found.flow.itertuples()}
    assert flow["", "indexed", ""] == 5
    assert flow["", "series skipped", "LOCALIZER"] == 1
    assert flow["ct2t2", "considered", ""] == 5
    assert flow["ct2t2", "excluded", "INTERVAL"] == 1
    assert flow["ct2t2", "unpaired source", ""] == 1
    assert flow["ct2t2", "paired", ""] == 3


def test_series_of_nobody_are_counted():
    refused = {"status": "refused", "code": "NO_PATIENT_ID"}
    found = build([*PAIR, row("ser-n", "", **refused), row("ser-o", "", "MR", **refused)])
    flow = {
        (line.step, line.code): (line.subjects, line.series) for line in found.flow.itertuples()
    }
    assert flow["indexed", ""] == (1, 4)
    assert flow["series refused", "NO_PATIENT_ID"] == (0, 2)
    assert len(found.rows) == 1


def test_tables_are_read_as_they_were_written(tmp_path):
    found = build(PAIR)
    cohort.write_table(found.rows, tmp_path / "c.tsv")
    assert cohort.read_table(tmp_path / "c.tsv").equals(found.rows.astype(object))
