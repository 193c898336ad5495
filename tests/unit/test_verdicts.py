"""People's verdicts: applied where they are meant, refused where they can't be meant."""

import json

import numpy as np
import pandas as pd
import pytest

from mrsynth.errors import StudyError
from mrsynth.verdicts import (
    JUDGED_COLUMNS,
    REVIEW_COLUMNS,
    apply_review,
    check_review,
    check_stacks,
    check_usable,
    idle_rows,
    moves,
    no_review,
    read_review,
    registrations,
    resolve,
)

GOOD = ("AAAAAAAA", "t2", "1", "accepted", "ah", "ok")
MOVED = ("AAAAAAAA", "t2", "", "", "L4-L5", "sac", "1.5", "-20", "3e1", "ah", "")


def crop(*verdicts, posed=None):
    """What of a crop file the verdicts concern: a slice of each stack."""
    keys = [f"stack-{n}_slice-02" for n, _ in enumerate(verdicts, 1)]
    arrays = {"key": np.array(keys), "verdict": np.array(verdicts)}
    return arrays if posed is None else arrays | {"posed": np.array(posed, np.uint8)}


def review(*rows, first=2):
    rows = [(*row[:4], *[""] * 5, *row[4:]) if len(row) == 6 else row for row in rows]
    return pd.DataFrame(rows, columns=REVIEW_COLUMNS, index=range(first, first + len(rows)))


def judged(*rows, task="t2"):
    return resolve(review(*rows), task)


def test_people_outrank_the_registration():
    rows = judged(
        ("AAAAAAAA", "t2", "02", "review", "ah", "edges fit"),
        ("AAAAAAAA", "t2", "", "failed", "ah", "wrong level"),
        ("AAAAAAAA", "t2", "01", "accepted", "AH", "after all"),
        ("BBBBBBBB", "t2", "", "review", "ah", ""),
        ("AAAAAAAA", "t1", "1", "failed", "ah", "another task"),
    )
    before = crop("review", "review")
    (first, second, third), log = apply_review(
        [before, crop("accepted", "accepted"), None], ["AAAAAAAA", "BBBBBBBB", "C"], rows
    )
    assert first["verdict"].tolist() == ["accepted", "review"]
    assert second["verdict"].tolist() == ["review", "review"]
    assert third is None
    assert before["verdict"].tolist() == ["review", "review"]
    assert len(log) == 4


def test_between_readers_the_strictest_holds_until_they_agree():
    first = ("AAAAAAAA", "t2", "1", "failed", "ah", "")
    second = ("AAAAAAAA", "t2", "", "accepted", "jl", "")
    doubt = ("AAAAAAAA", "t2", "", "review", "mk", "")
    for order in ((first, second, doubt), (second, doubt, first)):
        assert judged(*order) == [
            {"subject": "AAAAAAAA", "stack": 0, "verdict": "review", "readers": 2},
            {"subject": "AAAAAAAA", "stack": 1, "verdict": "failed", "readers": 3},
        ]
    agreed = judged(first, second, ("AAAAAAAA", "t2", "1", "accepted", "ah", "seen again"))
    assert {row["verdict"] for row in agreed} == {"accepted"}


@pytest.mark.parametrize("one", ["accepted", "failed"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_readers_row_about_the_stack_outranks_his_row_about_all_in_any_order(one, order):
    other = "failed" if one == "accepted" else "accepted"
    rows = [("AAAAAAAA", "t2", "1", one, "ah", ""), ("AAAAAAAA", "t2", "", other, "AH", "")]
    words = {row["stack"]: row["verdict"] for row in judged(*rows[::order])}
    assert words == {0: other, 1: one}


def test_only_what_a_row_says_changes_the_settings():
    """Reasons, comments and the order of different subjects' rows remake nothing."""
    other = ("BBBBBBBB", "t2", "", "review", "ah", "")
    assert judged(GOOD, other) == judged(other, (*GOOD[:5], "another reason"))
    assert resolve(no_review(), "t2") == []
    assert moves(no_review(), "t2", "AAAAAAAA") == []


def test_who_judged_and_why_stays_in_the_users_file():
    rows = judged(("AAAAAAAA", "t2", "1", "accepted", "Dr. Who", "patient X"))
    _, log = apply_review([crop("review")], ["AAAAAAAA"], rows)
    expected = {"subject": "AAAAAAAA", "key": "stack-1_slice-02", "readers": 1}
    assert log == [expected | {"before": "review", "verdict": "accepted"}]
    assert "Who" not in str(moves(review((*MOVED[:9], "Dr. Who", "X")), "t2", "AAAAAAAA"))


@pytest.mark.parametrize("lifted", ["accepted", "review"])
@pytest.mark.parametrize("stack", ["", "2"])
def test_without_a_pose_there_is_nothing_to_accept(lifted, stack):
    rows = judged(GOOD, ("AAAAAAAA", "t2", stack, lifted, "ah", ""))
    pair = [crop("accepted", "failed", posed=[1, 0])]
    with pytest.raises(StudyError, match=r"AAAAAAAA, task 't2': stack 2 .*found no pose.*Take the"):
        apply_review(pair, ["AAAAAAAA"], rows, "t2")
    again = judged(
        ("AAAAAAAA", "t2", stack, lifted, "ah", ""), ("AAAAAAAA", "t2", "2", "failed", "ah", "")
    )
    (kept,), _ = apply_review(pair, ["AAAAAAAA"], again)
    assert kept["verdict"][1] == "failed"


def test_a_failed_registration_with_a_pose_may_be_accepted():
    rows = judged(("AAAAAAAA", "t2", "2", "accepted", "ah", "bones fit"))
    (kept,), log = apply_review([crop("accepted", "failed", posed=[1, 1])], ["AAAAAAAA"], rows)
    assert kept["verdict"].tolist() == ["accepted", "accepted"]
    assert [row["before"] for row in log] == ["failed"]
    # A crop file that doesn't say is read as one without a pose.
    with pytest.raises(StudyError, match="no pose"):
        apply_review([crop("accepted", "failed")], ["AAAAAAAA"], rows)


def test_moved_points_are_the_mean_of_the_readers_last_ones():
    rows = review(
        MOVED,
        (*MOVED[:6], "9", "9", "9", "jl", "first try"),
        (*MOVED[:6], "2.5", "-22", "31", "jl", ""),
        (*MOVED[:4], "disc-2", "centre", "0", "0", "7", "jl", ""),
        ("BBBBBBBB", *MOVED[1:]),
        GOOD,
    )
    assert moves(rows, "t2", "AAAAAAAA") == [
        {"disc": "L4-L5", "point": "sac", "mm": [2.0, -21.0, 30.5], "readers": 2},
        {"disc": "disc-2", "point": "centre", "mm": [0.0, 0.0, 7.0], "readers": 1},
    ]
    assert moves(rows, "t1", "AAAAAAAA") == []
    assert [row["stack"] for row in resolve(rows, "t2")] == [1]


def write(path, *lines, columns=JUDGED_COLUMNS):
    path.write_text("\n".join("\t".join(line) for line in [columns, *lines]) + "\n")
    return path


def test_reading(tmp_path):
    path = write(tmp_path / "review.tsv", ("sub-AAAAAAAA", *GOOD[1:]), ("# a note",), GOOD[:4])
    table = read_review(path)
    assert table.index.tolist() == [2, 4]
    assert table["subject"].tolist() == ["AAAAAAAA", "AAAAAAAA"]
    assert table["reason"].tolist() == ["ok", ""]
    assert len(read_review(write(path))) == 0


def test_a_quote_in_a_reason_swallows_no_line(tmp_path):
    path = write(tmp_path / "review.tsv", (*GOOD[:5], '"odd'), GOOD)
    assert len(read_review(path)) == 2


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("subject", "AAAAAAA1"),
        ("subject", "AAAAAAA"),
        ("subject", ""),
        ("task", ""),
        ("stack", "first"),
        ("stack", "0"),
        ("stack", "1.0"),
        ("verdict", "fine"),
        ("verdict", ""),
    ],
)
def test_a_typo_is_told_with_its_line(tmp_path, column, value):
    row = dict(zip(JUDGED_COLUMNS, GOOD, strict=True)) | {column: value}
    path = write(tmp_path / "review.tsv", GOOD, (), tuple(row.values()))
    with pytest.raises(StudyError, match=rf"line 4: {column} is '{value}'; "):
        read_review(path)


@pytest.mark.parametrize(
    ("column", "value", "remedy"),
    [
        ("verdict", "accepted", "either a verdict or a moved point"),
        ("stack", "2", "leave it empty"),
        ("disc", "", "such as L4-L5"),
        ("disc", "L4/L5", "such as L4-L5"),
        ("point", "ventral", "use one of centre, sac"),
        ("x_mm", "", "give LPS mm"),
        ("y_mm", "1,5", "give LPS mm"),
        ("z_mm", "nan", "give LPS mm"),
    ],
)
def test_a_moved_point_is_whole_or_an_error(tmp_path, column, value, remedy):
    row = dict(zip(REVIEW_COLUMNS, MOVED, strict=True)) | {column: value}
    path = write(tmp_path / "review.tsv", MOVED, tuple(row.values()), columns=REVIEW_COLUMNS)
    with pytest.raises(StudyError, match=rf"line 3: {column} is '{value}'; .*{remedy}"):
        read_review(path)
    assert len(read_review(write(path, MOVED, columns=REVIEW_COLUMNS))) == 1


def test_a_visit_is_a_subject(tmp_path):
    path = write(tmp_path / "review.tsv", ("AAAAAAAA_ses-2", *GOOD[1:]))
    assert read_review(path)["subject"].tolist() == ["AAAAAAAA_ses-2"]


def test_columns_are_checked(tmp_path):
    path = tmp_path / "review.tsv"
    with pytest.raises(StudyError, match="lacks the column 'reason'"):
        read_review(write(path, columns=JUDGED_COLUMNS[:-1]))
    with pytest.raises(StudyError, match="lacks the column 'z_mm'"):
        read_review(write(path, columns=[name for name in REVIEW_COLUMNS if name != "z_mm"]))
    with pytest.raises(StudyError, match="unknown column 'comment'"):
        read_review(write(path, columns=(*REVIEW_COLUMNS, "comment")))
    with pytest.raises(StudyError, match=r"line 2, has 7 cells"):
        read_review(write(path, (*GOOD, "more")))
    path.write_text("")
    with pytest.raises(StudyError, match="lacks the column 'subject'"):
        read_review(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="not UTF-8"):
        read_review(path)


def test_rows_that_can_do_nothing_are_told_with_their_lines(tmp_path):
    posed = {"stack": 1, "verdict": "failed", "posed": True}
    record = {
        "status": "made",
        "stacks": [posed, {"stack": 2, "verdict": "failed", "posed": False}],
    }
    for name, content in {
        "register/t2/sub-AAAAAAAA.json": record,
        "locate/sub-AAAAAAAA.json": {"discs": [{"level": "L3-L4"}, {"level": None}]},
        "register/t2/sub-BBBBBBBB.json": {"status": "refused"},
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    fine = [
        GOOD,
        ("AAAAAAAA", "t2", "2", "failed", "ah", ""),
        (*MOVED[:4], "disc-2", *MOVED[5:]),
        ("BBBBBBBB", "t2", "7", "accepted", "ah", ""),
        ("CCCCCCCC", "t2", "7", "accepted", "ah", ""),
    ]
    assert idle_rows(review(*fine), tmp_path) == []
    idle = [("AAAAAAAA", "t2", stack, "accepted", "ah", "") for stack in ("", "2", "3")]
    first, second, third, fourth = idle_rows(review(*fine, *idle, MOVED), tmp_path)
    assert "line 7: verdict is 'accepted', but the registration found no pose for stack 2" in first
    assert "line 8: verdict is" in second
    assert "line 9: stack is '3', but sub-AAAAAAAA has 2 in task 't2'; correct" in third
    assert "line 10: disc is 'L4-L5'; `locate` found L3-L4, disc-2" in fourth


def test_a_verdict_on_a_stack_that_is_not_there_is_an_error():
    rows = review(GOOD, (*GOOD[:2], "3", *GOOD[3:]), (*GOOD[:2], "", *GOOD[3:]), MOVED)
    check_stacks(rows, "t2", {"AAAAAAAA": 3, "BBBBBBBB": 1})
    check_stacks(rows, "t1", {"AAAAAAAA": 1})
    check_stacks(rows, "t2", {"AAAAAAAA": 0})
    with pytest.raises(StudyError, match=r"line 3: stack is '3', but sub-AAAAAAAA has 2 .*correct"):
        check_stacks(rows, "t2", {"AAAAAAAA": 2})


def test_names_are_compared_with_the_study():
    table = review(GOOD, first=7)
    check_review(table, tasks=["t2"], subjects=["AAAAAAAA"])
    with pytest.raises(StudyError, match=r"line 7: task is 't2'; the study has: t1"):
        check_review(table, tasks=["t1"], subjects=["AAAAAAAA"])
    with pytest.raises(StudyError, match=r"line 7: subject is 'AAAAAAAA'; nobody"):
        check_review(table, tasks=["t2"], subjects=["BBBBBBBB"])


def test_failed_slices_are_never_usable():
    check_usable(["accepted", "review"], "pack.verdicts")
    with pytest.raises(StudyError, match=r"pack\.verdicts holds 'failed'"):
        check_usable(["accepted", "failed"], "pack.verdicts")


def test_registrations_not_accepted_have_their_reasons():
    record = {"stage": "register", "status": "made", "task": "t", "subject": "AAAAAAAA"}
    poor = {"stack": 2, "verdict": "review", "measures": {"reasons": ["low overlap", "tilt"]}}
    good = {"stack": 1, "verdict": "accepted", "measures": {"reasons": []}}
    bad = {"verdict": "failed", "measures": None}
    rows = registrations(
        [
            record | {"stacks": [good, poor], "verdict": "accepted"},
            record | bad | {"subject": "BBBBBBBB"},
            record | {"subject": "CCCCCCCC", "verdict": "failed", "stacks": [good]},
            record | {"subject": "DDDDDDDD", "status": "refused"},
        ]
    )
    assert [(row["subject"], row["verdict"], row["message"]) for row in rows] == [
        ("AAAAAAAA", "review", "stack 2 review: low overlap; tilt"),
        ("BBBBBBBB", "failed", "failed: no reasons recorded"),
    ]
