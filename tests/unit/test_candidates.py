"""Which series is an image, and why: the rule, criterion by criterion."""

import pytest

from mrsynth import candidates
from mrsynth.columns import SERIES_COLUMNS

CT = {"modality": "CT", "weighting": None, "plane": "axial"}


def row(series="ser-a", modality="CT", **cells) -> dict:
    """One row of the series table."""
    usual = {
        "series": series,
        "modality": modality,
        "plane": "axial",
        "kind": "original",
        "kernel": "B30f" if modality == "CT" else "",
        "frame": "for-1",
        "contrast": "no",
        "fatsat": "no",
        "rows": "512",
        "columns": "512",
        "slices": "100",
        "stacks": "1",
        "spacing_mm": "2",
        "thickness_mm": "2",
        "extent_mm": "200",
        "start_mm": "-50",
        "status": "used",
    }
    return dict.fromkeys(SERIES_COLUMNS, "") | usual | cells


def names(rows, **settings) -> list[str]:
    found, _ = candidates.find(rows, "ct", CT, **settings)
    return [one.row["series"] for one in found]


@pytest.mark.parametrize(
    ("worse", "better", "reason"),
    [
        ({"kind": "derived"}, {"kernel": "B70f"}, "reformat"),
        ({"notes": "spectral"}, {"contrast": "yes"}, "spectral"),
        ({"contrast": "yes"}, {"kernel": "B70f"}, "contrast medium"),
        ({"notes": "metal_reduction,myelo"}, {"kernel": "B70f"}, "contrast medium"),
        ({"fatsat": "yes"}, {"kernel": "B70f"}, "fat saturated"),
        ({"kernel": "B70f"}, {"kernel": "krn-ABCDEFGH"}, "sharp kernel B70f"),
        ({"kernel": "krn-ABCDEFGH"}, {"spacing_mm": "5"}, "neutral kernel krn-ABCDEFGH"),
        ({"extent_mm": "120"}, {"spacing_mm": "5"}, "covers 60% of the longest"),
        ({"extent_mm": "20", "slices": "10"}, {"kind": "derived"}, "a fragment: covers 10%"),
        ({"spacing_mm": "0.3"}, {"spacing_mm": "5"}, "below the noise floor of 0.6 mm"),
        ({"spacing_mm": "5"}, {"spacing_mm": "1"}, "5 mm between slices"),
        ({"slices": "90"}, {}, "90 slices"),
    ],
)
def test_each_criterion_outranks_the_later_ones(worse, better, reason):
    rows = [row("ser-a", **worse), row("ser-b", **better)]
    found, _ = candidates.find(rows, "ct", CT)
    assert [one.row["series"] for one in found] == ["ser-b", "ser-a"]
    assert reason in found[1].reason


def test_the_longest_is_not_the_rule():
    sharp = row("ser-a", kernel="B70f", extent_mm="900", slices="900", spacing_mm="1")
    assert names([sharp, row("ser-b")]) == ["ser-b", "ser-a"]


def test_reasons_of_the_first_and_the_only():
    found, _ = candidates.find([row()], "ct", CT)
    assert found[0].reason == "the only candidate"
    found, _ = candidates.find([row(), row("ser-b", kernel="B70f")], "ct", CT)
    assert found[0].reason == "soft kernel B30f"
    found, _ = candidates.find([row("ser-b"), row()], "ct", CT)
    assert [one.row["series"] for one in found] == ["ser-a", "ser-b"]
    assert "no difference" in found[1].reason


def test_kernels_do_not_count_in_mr():
    rows = [row("ser-a", "MR", kernel="B70f"), row("ser-b", "MR", kernel="")]
    found, _ = candidates.find(rows, "t2", {"modality": "MR"})
    assert [one.row["series"] for one in found] == ["ser-a", "ser-b"]


def test_below_the_noise_floor_the_thickest_comes_first_and_mr_has_none():
    rows = [row("ser-a", spacing_mm="0.2"), row("ser-b", spacing_mm="0.4")]
    assert names(rows) == ["ser-b", "ser-a"]
    assert names(rows, ct_min_spacing_mm=0.1) == ["ser-a", "ser-b"]
    mr = [item | {"modality": "MR"} for item in rows]
    found, _ = candidates.find(mr, "t2", {"modality": "MR"})
    assert found[0].row["series"] == "ser-a"


def test_what_is_too_thick_is_barred_and_not_ranked():
    rows = [row("ser-a", spacing_mm="5"), row("ser-b", kernel="B70f")]
    found, barred = candidates.find(rows, "ct", CT, ct_max_spacing_mm=3, mr_max_spacing_mm=1)
    assert [one.row["series"] for one in found] == ["ser-b"]
    assert [(one.row["series"], one.code) for one in barred] == [("ser-a", "TOO_THICK")]
    assert "5 mm between slices, at most 3 mm" in barred[0].reason


@pytest.mark.parametrize("entry", ["contrast", "ct:contrast"])
def test_notes_bar_by_setting_only(entry):
    rows = [row("ser-a", contrast="yes"), row("ser-b", notes="metal")]
    assert len(names(rows)) == 2
    found, barred = candidates.find(rows, "ct", CT, exclude_notes=[entry])
    assert [one.row["series"] for one in found] == ["ser-b"]
    assert [(one.code, one.reason) for one in barred] == [("SPOILED", "contrast")]
    assert len(names(rows, exclude_notes=["t2:contrast"])) == 2


def test_an_image_can_ask_for_what_usually_spoils():
    rows = [row("ser-a", "MR", fatsat="yes"), row("ser-b", "MR", fatsat="no"), row("ser-c", "MR")]
    rows[2]["fatsat"] = ""
    for wanted, expected in ((True, {"ser-a"}), (False, {"ser-b", "ser-c"}), (None, None)):
        image = {"modality": "MR", "fatsat": wanted}
        found, barred = candidates.find(rows, "t2", image, exclude_notes=["fatsat"])
        if wanted is None:
            assert [one.row["series"] for one in barred] == ["ser-a"]
        else:
            assert {one.row["series"] for one in found} == expected
            assert not barred
    assert candidates.notes(rows[0], {"fatsat": True}) == set()
    assert candidates.notes(rows[0]) == {"fatsat"}


def test_copies_and_repeats_are_recognised():
    rows = [row("ser-a"), row("ser-b"), row("ser-c", kernel="B70f"), row("ser-d", frame="for-2")]
    rows += [row("ser-e", start_mm="-48"), row("ser-f", frame=""), row("ser-g", frame="")]
    assert candidates.twins(rows) == {"ser-b": "ser-a"}


def test_refused_series_that_would_have_been_it():
    lost = row("ser-a", status="refused", code="MISSING_SLICES", plane="")
    assert candidates.refused([lost, row("ser-b")], CT) is lost
    assert candidates.refused([lost | {"modality": "MR"}], CT) is None
    assert candidates.refused([lost], CT, "ser-z") is None
