"""Pairs: interval, frame, and repeat visits that nobody renames later."""

import random

import pytest

from mrsynth import choices, pseudonym, sheet
from mrsynth.errors import StudyError
from mrsynth.subjects import person
from seriesmake import PAIR, TASKS, build, row

CT, MR = "CT", "MR"
BOTH = {**TASKS, "sag": {"source": "ct", "target": "t2sag", "bridge": None}}


def scan(name: str, modality: str, day: int | str, **cells) -> dict:
    """A series of a study of its own, in a frame of its own."""
    own = {"study": f"std-{name}", "frame": f"for-{name}", "day": str(day)}
    return row(f"ser-{name}", modality=modality, **own | cells)


TWO = [scan("c1", CT, 0), scan("m1", MR, 2), scan("c2", CT, 200), scan("m2", MR, 200)]
THIRD = [scan("c3", CT, 400), scan("m3", MR, 403)]


def pairs(rows, **options) -> dict[str, tuple[str, str]]:
    table = build(rows, visits="all", **options).rows
    kept = table[(table["status"] == "included") & (table["pool"] == "paired")]
    return {line.subject: (line.source_series, line.target_series) for line in kept.itertuples()}


def test_best_takes_one_visit_and_all_takes_each():
    (best,) = build(TWO).rows.to_dict("records")
    assert (best["subject"], best["source_series"]) == ("AAAAAAAA", "ser-c2")
    found = pairs(TWO)
    assert found["AAAAAAAA"] == ("ser-c1", "ser-m1")
    (other,) = set(found) - {"AAAAAAAA"}
    assert found[other] == ("ser-c2", "ser-m2")
    assert person(other) == "AAAAAAAA"


def test_visits_share_the_persons_place_and_split():
    sheet_lines = [{"subject": "AAAAAAAA", "split": "test"}]
    rows = build(TWO, sheet_lines, visits="all").rows
    assert len(rows) == 2
    assert rows["unit"].nunique() == 1
    assert set(rows["split"]) == {"test"}
    lines = build(TWO, visits="all").rows.to_dict("records")
    for fold in range(3):
        rule = {"folds": 3, "test": 0.2, "validation": 0.2}
        roles = [
            role
            for role in ("train", "validation", "test")
            if sheet.members(lines, "ct2t2", role, fold, rule)
        ]
        assert len(roles) == 1


def test_a_later_visit_renames_and_repairs_nothing():
    before = pairs(TWO)
    assert before.items() <= pairs(TWO + THIRD).items()
    assert len(pairs(TWO + THIRD)) == 3
    # A better partner of an old CT comes a day later: the old pair stays as it was.
    assert before.items() <= pairs([*TWO, scan("mx", MR, 3, slices="90", spacing_mm="1")]).items()


@pytest.mark.parametrize("seed", range(12))
def test_names_are_stable_for_any_history(seed):
    """Series arrive day by day; what was paired keeps its name and its series, in every task."""
    dice = random.Random(seed)
    days = sorted(dice.randrange(30) for _ in range(12))
    series = []
    for number, day in enumerate(days):
        modality = dice.choice((CT, MR))
        plane = dice.choice(("axial", "sagittal")) if modality == MR else "axial"
        study = f"std-{dice.choice((number, number // 2))}"
        series.append(scan(f"x{number}", modality, day, plane=plane, study=study))
    known: dict = {}
    for day in sorted(set(days)):
        there = [item for item in series if int(item["day"]) <= day]
        rows = build(there, tasks=BOTH, visits="all").rows
        kept = rows[(rows["status"] == "included") & (rows["pool"] == "paired")]
        found = {
            (line.task, line.subject): (line.source_series, line.target_series)
            for line in kept.itertuples()
        }
        assert known.items() <= found.items()
        known = found
    studies = {item["series"]: item["study"] for item in series}
    owners: dict[str, set] = {}
    for (_, subject), pair in known.items():
        for name in pair:
            owners.setdefault(studies[name], set()).add(subject)
    assert all(len(names) == 1 for names in owners.values()), "a study is in two visits"


def test_the_name_does_not_depend_on_other_visits():
    full = pairs(TWO + THIRD)
    (name,) = [name for name, pair in full.items() if pair[0] == "ser-c3"]
    assert pairs([*TWO[:2], *THIRD])[name] == ("ser-c3", "ser-m3")


def test_reconstructions_and_series_of_one_visit_are_no_visits():
    more = [row("ser-k", kernel="B70f", study="std-c1", frame="for-c1")]
    more += [row("ser-w", modality=MR, study="std-m1", frame="for-m1", day="2")]
    more += [scan("c1copy", CT, 0, frame="for-c1")]
    assert len(pairs([*TWO[:2], *more])) == 1


def test_without_dates_there_is_one_pair_at_most():
    undated = [item | {"day": ""} for item in TWO]
    assert pairs(undated) == {}
    (found,) = pairs(undated, allow_unknown_interval=True)
    assert found == "AAAAAAAA"
    within = [scan("c1", CT, "", study="s1"), scan("m1", MR, "", study="s1")]
    within += [scan("c2", CT, "", study="s2"), scan("m2", MR, "", study="s2")]
    assert len(pairs(within)) == 2


def test_an_allowed_unknown_interval_outranks_a_dated_one_beyond_the_limit():
    rows = [scan("c1", CT, 0), scan("m1", MR, 90), scan("c2", CT, "")]
    (found,) = build(rows, allow_unknown_interval=True).rows.to_dict("records")
    assert (found["status"], found["source_series"]) == ("included", "ser-c2")
    (found,) = build(rows).rows.to_dict("records")
    assert found["code"] == "INTERVAL"
    rows += [scan("m2", MR, 2, kind="derived")]
    (found,) = build(rows, allow_unknown_interval=True).rows.to_dict("records")
    assert (found["source_series"], found["target_series"]) == ("ser-c1", "ser-m2")


def test_the_interval_holds_for_every_visit():
    far = [TWO[0], TWO[1], scan("c9", CT, 300), scan("m9", MR, 310)]
    assert len(pairs(far)) == 1
    assert len(pairs(far, max_interval_days=10)) == 2


def test_a_later_task_has_the_same_visits():
    sagittal = [
        scan(f"s{n}", MR, day, plane="sagittal", study=f"std-m{n}", frame=f"for-m{n}")
        for n, day in ((1, 2), (2, 200))
    ]
    rows = build([*TWO, *sagittal], tasks=BOTH, visits="all").rows
    by_task = {
        task: dict(zip(own["subject"], own["source_series"], strict=True))
        for task, own in rows.groupby("task")
    }
    assert by_task["ct2t2"] == by_task["sag"]
    assert len(by_task["sag"]) == 2
    lines = rows.to_dict("records")
    bridges = {"ct2t2": "t2sag", "sag": None}
    for name in by_task["sag"]:
        for image in ("ct", "t2ax", "t2sag"):
            assert sheet.series_of(lines, name, image, bridges)
    assert set(rows.loc[rows["task"] == "ct2t2", "bridge_series"]) == {"ser-s1", "ser-s2"}


def test_the_sheet_leaves_out_a_visit():
    (visit,) = set(pairs(TWO)) - {"AAAAAAAA"}
    lines = [{"subject": f"sub-{visit}", "exclude": "yes", "reason": "moved"}]
    rows = build(TWO, lines, visits="all").rows.set_index("subject")
    assert rows.loc["AAAAAAAA", "status"] == "included"
    assert rows.loc[visit, "code"] == "EXCLUDED_BY_SHEET"
    assert rows.loc[visit, "message"] == "moved"
    whole = build(TWO, [{"subject": "AAAAAAAA", "exclude": "yes"}], visits="all").rows
    assert set(whole["status"]) == {"excluded"}
    with pytest.raises(StudyError, match="split"):
        build(TWO, [{"subject": visit, "split": "test"}], visits="all")
    with pytest.raises(StudyError, match="no visit"):
        build(TWO, [{"subject": "AAAAAAAA_ses-1", "exclude": "yes"}], visits="all")
    with pytest.raises(StudyError, match="no visit"):
        build(TWO, lines)


def test_a_sheet_that_names_series_fixes_the_one_pair():
    lines = [{"subject": "AAAAAAAA", "source_series": "ser-c2"}]
    assert pairs(TWO, sheet=lines) == {"AAAAAAAA": ("ser-c2", "ser-m2")}


def test_a_fragment_is_not_taken_for_being_nearer():
    rows = [scan("c1", CT, 2, extent_mm="10"), scan("c2", CT, 1, extent_mm="200")]
    (found,) = build([*rows, scan("m1", MR, 2)]).rows.to_dict("records")
    assert found["source_series"] == "ser-c2"


def test_the_reason_against_a_pair_names_the_smallest_interval():
    rows = [scan("c1", CT, 0, kind="derived"), scan("c2", CT, 90), scan("m1", MR, 10)]
    (found,) = build(rows).rows.to_dict("records")
    assert (found["code"], found["interval_days"]) == ("INTERVAL", "10")
    assert "10 days" in found["message"]


def test_dates_shifted_by_an_anonymiser_are_overruled_by_the_sheet():
    """CT and MR under two IDs, each with a shift of its own: the dates' interval means nothing."""
    rows = [scan("c1", CT, 0), scan("m1", MR, 4012)]
    (found,) = build(rows).rows.to_dict("records")
    assert (found["status"], found["code"]) == ("excluded", "INTERVAL")
    (found,) = build(rows, [{"subject": "AAAAAAAA", "interval_days": "2"}]).rows.to_dict("records")
    assert (found["status"], found["interval_days"]) == ("included", "2")


def test_notes_are_listed_with_their_image():
    rows = [PAIR[0] | {"contrast": "yes", "notes": "metal"}, PAIR[1] | {"fatsat": "yes"}]
    (found,) = build(rows).rows.to_dict("records")
    assert found["notes"] == "ct:contrast,ct:metal,t2ax:fatsat"
    (found,) = build(rows, exclude_notes=["ct:metal"]).rows.to_dict("records")
    assert (found["status"], found["code"]) == ("excluded", "SPOILED")
    assert found["message"] == "ct: metal"
    (found,) = build(rows, exclude_notes=["t2ax:metal"]).rows.to_dict("records")
    assert found["status"] == "included"


@pytest.mark.parametrize("entry", ["metall", "mr:metal"])
def test_notes_that_do_not_exist_are_refused(entry):
    with pytest.raises(StudyError, match=entry):
        build(PAIR, exclude_notes=[entry])


def test_a_user_who_names_a_series_takes_it_with_its_notes():
    rows = [PAIR[0] | {"contrast": "yes", "spacing_mm": "9"}, PAIR[1]]
    lines = [{"subject": "AAAAAAAA", "source_series": "ser-c"}]
    options = {"exclude_notes": ["contrast"], "ct_max_spacing_mm": 3}
    assert build(rows, **options).rows["code"].tolist() == ["SPOILED"]
    assert build(rows, ct_max_spacing_mm=2).rows["code"].tolist() == ["TOO_THICK"]
    assert build(rows, lines, **options).rows["status"].tolist() == ["included"]


def test_candidates_are_listed_with_rank_reason_and_choice():
    rows = [*PAIR, row("ser-d", kernel="B70f"), row("ser-e", day="9"), row("ser-f")]
    rows += [row("ser-x", status="refused", code="MISSING_SLICES"), row("ser-t", spacing_mm="9")]
    found = build(rows, ct_max_spacing_mm=5).candidates
    ct = found[found["side"] == "source"].set_index("series")
    assert ct.loc["ser-c", ["rank", "choice"]].tolist() == ["1", "chosen"]
    assert ct.loc["ser-d", "reason"] == "sharp kernel B70f"
    assert "same grid and settings as ser-c (copy or repeat)" in ct.loc["ser-f", "reason"]
    assert ct.loc["ser-x", ["rank", "reason"]].tolist() == ["", "refused: MISSING_SLICES"]
    assert ct.loc["ser-t", "reason"].startswith("TOO_THICK: 9 mm")
    assert (ct["choice"] != "").sum() == 1
    assert list(found.columns) == choices.CANDIDATE_COLUMNS + choices.SEEN_COLUMNS


def test_a_choice_beyond_the_first_rank_is_explained():
    rows = [row("ser-c", day="0"), row("ser-d", day="3", kernel="B70f"), PAIR[1] | {"day": "3"}]
    found = build(rows).candidates.set_index("series")
    assert found.loc["ser-d", "rank"] == "2"
    assert found.loc["ser-d", "choice"].startswith("chosen: nearest in time")
    named = build(rows, [{"subject": "AAAAAAAA", "source_series": "ser-c"}]).candidates
    assert named.set_index("series").loc["ser-c", "choice"] == "chosen: the sheet names it"


def test_two_subjects_in_one_frame_are_told():
    rows = [*PAIR, row("ser-d", "BBBBBBBB"), row("ser-n", "BBBBBBBB", "MR", frame="for-own")]
    found = build(rows)
    assert [set(notes.split(",")) for notes in found.rows["notes"]] == [{"shared_frame"}] * 2
    (warning,) = found.warnings
    assert warning.startswith("2 subjects share a frame")
    assert build(PAIR).warnings == []


def test_two_ids_of_one_person_stay_in_one_fold(tmp_path):
    """CT and MR under different patient IDs: linked, they are one subject with one place."""
    (tmp_path / "links.tsv").write_text("patient_id\tperson\nct-17\tA\nmr-04\tA\n")
    links = pseudonym.read_links(tmp_path)
    key = bytes(range(32))
    names = {pseudonym.subject(key, links[patient]) for patient in ("ct-17", "mr-04")}
    assert len(names) == 1
    rows = [item | {"subject": names.copy().pop()} for item in PAIR]
    found = build(rows).rows
    assert found["status"].tolist() == ["included"]


def test_the_exclusion_list_outranks_the_sheet():
    lines = [{"subject": "AAAAAAAA", "exclude": "no"}]
    found = build(PAIR, lines, listed={"AAAAAAAA": 2})
    assert found.rows["code"].tolist() == ["LISTED"]
    assert found.warnings == []


def test_a_mistyped_line_of_the_exclusion_list_is_told_by_its_number():
    found = build(PAIR, listed={"BBBBBBBB": 7})
    assert found.rows["status"].tolist() == ["included"]
    (warning,) = found.warnings
    assert "exclude.tsv, line 7:" in warning
