"""Agreement of readers, against values counted by hand."""

import math

import pandas as pd
import pytest

from mrsynth.agreement import COLUMNS, agreement, kappa, write_agreement
from mrsynth.verdicts import REVIEW_COLUMNS, no_review


def test_kappa_by_hand():
    """Two readers, 50 items: both yes 20, both no 15, only the first yes 5, only the second 10.

    p_o = 35/50 = 0.7; p_e = (25·30 + 25·20) / 2500 = 0.5; kappa = 0.2 / 0.5 = 0.4.
    """
    first = ["accepted"] * 25 + ["failed"] * 25
    second = ["accepted"] * 20 + ["failed"] * 5 + ["accepted"] * 10 + ["failed"] * 15
    assert kappa(first, second) == pytest.approx((0.7, 0.4))


def test_three_verdicts_by_hand():
    """Of 6: 4 agree. Shares: first 3/6, 2/6, 1/6; second 2/6, 2/6, 2/6: p_e = 12/36.

    kappa = (4/6 − 1/3) / (2/3) = 0.5.
    """
    first = ["accepted", "accepted", "accepted", "review", "review", "failed"]
    second = ["accepted", "accepted", "review", "review", "failed", "failed"]
    assert kappa(first, second) == pytest.approx((4 / 6, 0.5))


def test_bounds():
    assert kappa(["accepted", "failed"], ["accepted", "failed"]) == (1, 1)
    assert kappa(["accepted", "failed"], ["failed", "accepted"]) == (0, -1)
    raw, chance_free = kappa(["accepted"] * 3, ["accepted"] * 3)
    assert raw == 1
    assert math.isnan(chance_free), "chance alone would agree as well"
    assert all(math.isnan(value) for value in kappa([], []))
    with pytest.raises(ValueError, match="same items"):
        kappa(["accepted"], [])


def rows(*cells):
    table = [(*row[:4], *[""] * 5, *row[4:]) if len(row) == 6 else row for row in cells]
    return pd.DataFrame(table, columns=REVIEW_COLUMNS)


def test_stacks_are_what_two_readers_share():
    review = rows(
        ("AAAAAAAA", "t2", "", "accepted", "ah", ""),
        ("AAAAAAAA", "t2", "3", "failed", "AH", "later and stricter"),
        ("AAAAAAAA", "t2", "1", "accepted", "jl", ""),
        ("AAAAAAAA", "t2", "3", "accepted", "jl", ""),
        ("BBBBBBBB", "t2", "", "review", "jl", ""),
        ("BBBBBBBB", "t2", "1", "review", "ah", ""),
        ("AAAAAAAA", "t1", "", "failed", "jl", "another task"),
        ("CCCCCCCC", "t2", "", "failed", "mk", "nobody else looked"),
    )
    (row,) = agreement(review, "t2", {"AAAAAAAA": 3, "BBBBBBBB": 1, "CCCCCCCC": 2}).to_dict(
        "records"
    )
    # Both: A1 (accepted, accepted), A3 (failed, accepted), B1 (review, review).
    assert (row["first"], row["second"], row["stacks"]) == (1, 2, 3)
    assert row["agreement"] == pytest.approx(2 / 3)
    # p_e = (1·2 + 1·1 + 1·0) / 9 = 1/3.
    assert row["kappa"] == pytest.approx(0.5)
    assert row["points"] == 0


def test_points_are_compared_in_mm():
    point = ("AAAAAAAA", "t2", "", "", "L4-L5", "sac")
    review = rows(
        (*point, "0", "0", "0", "ah", ""),
        (*point, "3", "4", "0", "jl", ""),
        (*point[:5], "centre", "0", "0", "0", "jl", "alone"),
    )
    (row,) = agreement(review, "t2", {"AAAAAAAA": 1}).to_dict("records")
    assert (row["points"], row["distance_mm"], row["distance_max_mm"]) == (1, 5, 5)
    assert row["stacks"] == 0
    assert math.isnan(row["kappa"])


def test_no_name_leaves_the_file(tmp_path):
    review = rows(
        ("AAAAAAAA", "t2", "", "accepted", "Zaphod", "secret"),
        ("AAAAAAAA", "t2", "", "accepted", "Trillian", "secret"),
    )
    write_agreement(agreement(review, "t2", {"AAAAAAAA": 1}), tmp_path / "a.tsv")
    text = (tmp_path / "a.tsv").read_text()
    assert text.splitlines() == ["\t".join(COLUMNS), "t2\t1\t2\t1\t1.000\t\t0\t\t"]
    write_agreement(agreement(no_review(), "t2", {}), tmp_path / "b.tsv")
    assert (tmp_path / "b.tsv").read_text().splitlines() == ["\t".join(COLUMNS)]
