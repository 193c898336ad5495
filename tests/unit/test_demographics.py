"""Demographics: counts by hand, limits, and what is never told."""

import itertools
import statistics

import pandas as pd
import pytest

from mrsynth import demographics
from seriesmake import build, row

AGES = (30, 40, 50, 60, 95)


def people(ages=AGES, sexes="FFFMM") -> tuple[list[dict], pd.DataFrame]:
    """Series and persons of one pair each."""
    rows, persons = [], []
    for number, (age, sex) in enumerate(zip(ages, itertools.cycle(sexes), strict=False)):
        subject = f"S{number:07d}"
        own = {"frame": f"for-{number}", "kvp": "120", "manufacturer": "GE", "scanner": "Optima"}
        rows.append(row(f"ser-c{number}", subject, **own))
        field = "3" if number < 3 else "1.5"
        rows.append(row(f"ser-m{number}", subject, "MR", day=str(number % 3), field_t=field))
        rows[-1]["frame"] = f"for-m{number}"
        for series in ("c", "m"):
            cells = {"subject": subject, "series": f"ser-{series}{number}", "sex": sex}
            persons.append(cells | {"age_years": "" if age is None else str(min(age, 90))})
    return rows, pd.DataFrame(persons)


def values(table: pd.DataFrame, group: str = "paired") -> dict[str, str]:
    own = table[table["group"] == group]
    return dict(zip(own["quantity"], own["value"], strict=True))


def test_the_papers_quantities():
    rows, persons = people()
    found = values(build(rows, persons=persons, min_cell=1).demographics)
    ages = [30, 40, 50, 60, 90]
    spread = f"{statistics.mean(ages):.1f} ± {statistics.stdev(ages):.1f} (30–≥90)"
    assert found["age, years, mean ± SD (range)"] == spread
    assert (found["subjects"], found["women"], found["men"]) == ("5", "3", "2")
    assert found["pairs per subject, mean (range)"] == "1.00 (1–1)"
    assert found["interval, days, mean (range)"] == "0.8 (0–2)"
    assert found["CT scanner: GE Optima"] == "5"
    assert found["CT tube voltage: 120 kV"] == "5"
    assert (found["MR field strength: 3 T"], found["MR field strength: 1.5 T"]) == ("3", "2")


def test_visits_are_pairs_of_one_subject():
    rows, persons = people()
    rows += [
        row("ser-c9", "S0000000", day="90", study="std-9", frame="for-9"),
        row("ser-m9", "S0000000", "MR", day="90", study="std-9m", frame="for-9m"),
    ]
    found = values(build(rows, persons=persons, visits="all", min_cell=1).demographics)
    assert found["subjects"] == "5"
    assert found["pairs per subject, mean (range)"] == "1.20 (1–2)"


def test_small_groups_and_cells_are_not_told():
    rows, persons = people()
    table = build(rows, persons=persons, test=0.01, validation=0.01).demographics
    found = values(table)
    assert (found["women"], found["men"]) == ("–", "–"), "two men, and three women tell them"
    assert found["MR field strength: 3 T"] == "3"
    assert "MR field strength: 1.5 T" not in found
    assert found["MR field strength: others, fewer than 3 each"] == "–"
    rows, persons = people(ages=(30, 70))
    found = values(build(rows, persons=persons).demographics)
    assert found == {"subjects": "2"}


def test_no_value_of_one_person_is_printed():
    """With one person in a role, nothing but the role's size is told of him."""
    rows, persons = people()
    roles = ("test", "validation", "train", "train", "train")
    lines = [{"subject": f"S{n:07d}", "split": role} for n, role in enumerate(roles)]
    table = build(rows, lines, persons=persons).demographics
    for group in ("validation", "test"):
        assert values(table, group) == {"subjects": "1"}
    assert values(table, "train")["age, years, mean ± SD (range)"] == "66.7 ± 20.8 (50–≥90)"


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({"min_age_years": 40}, ["AGE", "", "", "", ""]),
        ({"max_age_years": 50}, ["", "", "", "AGE", "AGE"]),
        ({"min_age_years": 30, "max_age_years": 95}, [""] * 5),
        ({"sex": "F"}, ["", "", "", "SEX", "SEX"]),
        ({}, [""] * 5),
    ],
)
def test_limits_of_age_and_sex(options, codes):
    rows, persons = people()
    found = build(rows, persons=persons, **options).rows
    assert found["code"].tolist() == codes
    for message, code in zip(found["message"], found["code"], strict=True):
        assert not code or not any(str(age) in message for age in AGES), "no age in a message"


@pytest.mark.parametrize("limit", [{"min_age_years": 10}, {"sex": "F"}])
def test_unknown_ages_and_sexes_follow_the_setting(limit):
    rows, persons = people(ages=(None,), sexes=[""])
    assert build(rows, persons=persons).rows["status"].tolist() == ["included"]
    assert build(rows, persons=persons, **limit).rows["code"].tolist() == ["UNKNOWN_PERSON"]
    assert build(rows, **limit).rows["code"].tolist() == ["UNKNOWN_PERSON"]
    kept = build(rows, persons=persons, unknown_person="include", **limit).rows
    assert kept["status"].tolist() == ["included"]


def test_ages_are_the_first_ones_and_contradicting_sexes_are_none():
    table = pd.DataFrame(
        [
            {"subject": "A", "age_years": "51", "sex": "F"},
            {"subject": "A", "age_years": "50", "sex": "M"},
            {"subject": "B", "age_years": "", "sex": "M"},
            {"subject": "", "age_years": "9", "sex": "M"},
        ]
    )
    assert demographics.by_person(table) == {
        "A": {"age": 50.0, "sex": ""},
        "B": {"age": None, "sex": "M"},
    }
    assert demographics.by_person(None) == {}


def test_files_of_persons_are_private(tmp_path):
    assert demographics.read_persons(tmp_path) is None
    (tmp_path / "index").mkdir()
    (tmp_path / "index/persons.tsv").write_text("subject\tage_years\tsex\nA\t50\tF\n")
    assert demographics.by_person(demographics.read_persons(tmp_path))["A"]["age"] == 50


def test_unknown_scanners_are_not_named():
    rows, persons = people()
    rows = [item | {"scanner": "scn-ABCDEFGH"} for item in rows]
    text = demographics.markdown(build(rows, persons=persons).demographics)
    assert "scn-" not in text
    assert "| CT scanner: GE | 5 |" in text


def test_markdown_has_a_table_per_task_and_a_column_per_group():
    rows, persons = people()
    found = build(rows, persons=persons).demographics
    text = demographics.markdown(found)
    head = next(line for line in text.splitlines() if "paired" in line and "|" in line)
    groups = [cell.strip() for cell in head.strip("|").split("|")]
    assert groups[:2] == ["", "paired"]
    assert "## Task ct2t2" in text
    assert "| subjects | 5 |" in text
    assert "–" in text
