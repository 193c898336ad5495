"""People's verdicts: applied where they are meant, refused where they can't be meant."""

import numpy as np
import pandas as pd
import pytest

from mrsynth.errors import StudyError
from mrsynth.verdicts import (
    REVIEW_COLUMNS,
    apply_review,
    check_review,
    check_usable,
    read_review,
    registrations,
)

GOOD = ("AAAAAAAA", "t2", "1", "accepted", "ah", "ok")


def crop(*verdicts):
    """What of a crop file the verdicts concern: a slice of each stack."""
    keys = [f"stack-{n}_slice-02" for n, _ in enumerate(verdicts, 1)]
    return {"key": np.array(keys), "verdict": np.array(verdicts)}


def review(*rows, first=2):
    return pd.DataFrame(rows, columns=REVIEW_COLUMNS, index=range(first, first + len(rows)))


def test_people_outrank_the_registration():
    table = review(
        ("AAAAAAAA", "t2", "02", "accepted", "ah", "edges fit"),
        ("AAAAAAAA", "t2", "", "failed", "ah", "wrong level"),
        ("AAAAAAAA", "t2", "01", "accepted", "jl", "after all"),
        ("BBBBBBBB", "t2", "", "review", "ah", ""),
        ("AAAAAAAA", "t1", "1", "failed", "ah", "another task"),
    )
    before = crop("review", "review")
    (first, second, third), log = apply_review(
        [before, crop("accepted", "accepted"), None], ["AAAAAAAA", "BBBBBBBB", "C"], table, "t2"
    )
    assert first["verdict"].tolist() == ["accepted", "failed"]
    assert second["verdict"].tolist() == ["review", "review"]
    assert third is None
    assert before["verdict"].tolist() == ["review", "review"]
    assert len(log) == 4


def test_who_judged_and_why_stays_in_the_users_file():
    table = review(("AAAAAAAA", "t2", "1", "accepted", "Dr. Who", "patient X"))
    _, log = apply_review([crop("review")], ["AAAAAAAA"], table, "t2")
    expected = {"subject": "AAAAAAAA", "key": "stack-1_slice-02"}
    assert log == [expected | {"before": "review", "verdict": "accepted"}]


@pytest.mark.parametrize("lifted", ["accepted", "review"])
@pytest.mark.parametrize("stack", ["", "2"])
def test_a_failed_registration_has_nothing_to_accept(lifted, stack):
    table = review(GOOD, ("AAAAAAAA", "t2", stack, lifted, "ah", ""))
    with pytest.raises(StudyError, match=r"line 3.*AAAAAAAA, stack 2.*found no pose.*Take the"):
        apply_review([crop("accepted", "failed")], ["AAAAAAAA"], table, "t2")
    again = review(
        ("AAAAAAAA", "t2", stack, lifted, "ah", ""), ("AAAAAAAA", "t2", "2", "failed", "ah", "")
    )
    (kept,), _ = apply_review([crop("accepted", "failed")], ["AAAAAAAA"], again, "t2")
    assert kept["verdict"][1] == "failed"


def write(path, *lines, columns=REVIEW_COLUMNS):
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
    row = dict(zip(REVIEW_COLUMNS, GOOD, strict=True)) | {column: value}
    path = write(tmp_path / "review.tsv", GOOD, (), tuple(row.values()))
    with pytest.raises(StudyError, match=rf"line 4: {column} is '{value}'; "):
        read_review(path)


def test_columns_are_checked(tmp_path):
    path = tmp_path / "review.tsv"
    with pytest.raises(StudyError, match="lacks the column 'reason'"):
        read_review(write(path, columns=REVIEW_COLUMNS[:-1]))
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
