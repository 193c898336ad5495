"""The user's sheet: what is wrong is named by its line in the file."""

import pandas as pd
import pytest

from mrsynth import wishes
from mrsynth.errors import StudyError

SERIES = pd.DataFrame({"subject": ["AAAAAAAA"], "series": ["ser-c"]})
TASKS = {"t": {}}


def sheet(tmp_path, text: str) -> pd.DataFrame:
    path = tmp_path / "cohort.tsv"
    path.write_bytes(text.encode())
    return wishes.read_sheet(path)


def test_cells_are_stripped_and_missing_columns_empty(tmp_path):
    found = sheet(tmp_path, "\ufeffsubject\tsplit\r\n# a comment\r\n\r\nsub-AAAAAAAA\t test \r\n")
    checked = wishes.check(found, SERIES, TASKS)
    (line,) = checked.to_dict("records")
    assert (line["subject"], line["split"], line["reason"]) == ("AAAAAAAA", "test", "")
    assert list(checked.columns) == wishes.COLUMNS
    assert wishes.check(None, SERIES, TASKS).empty


def test_errors_name_the_line_of_the_file(tmp_path):
    text = "# mine\nsubject\tsplit\n\n# he is in\nAAAAAAAA\ttest\nAAAAAAAA\tnobody\n"
    with pytest.raises(StudyError, match="line 6: split"):
        wishes.check(sheet(tmp_path, text), SERIES, TASKS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("subject,split\nAAAAAAAA,test\n", "separated by tabs"),
        ("subject\tsplt\n", r"column 2 \(not shown"),
        ("split\ntest\n", "without subject"),
        ("subject\tsplit\tsplit\n", "twice"),
        ("subject\nAAAAAAAA\ttest\n", "line 2, has 2 cells"),
        ("", "without subject"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path, text, words):
    with pytest.raises(StudyError, match=words):
        sheet(tmp_path, text)


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "cohort.tsv").write_bytes("subject\treason\nA\tgrün\n".encode("latin-1"))
    with pytest.raises(StudyError, match="UTF-8"):
        wishes.read_sheet(tmp_path / "cohort.tsv")


@pytest.mark.parametrize("cell", ["subject", "task", "split", "exclude", "interval_days"])
def test_names_in_small_letters_are_not_quoted(tmp_path, cell):
    cells = {"subject": "AAAAAAAA", cell: "meier-hans"}
    text = "\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n"
    with pytest.raises(StudyError, match=rf"line 2: {cell} \(not shown") as caught:
        wishes.check(sheet(tmp_path, text), SERIES, TASKS)
    assert "meier" not in str(caught.value)
    with pytest.raises(StudyError, match="column 2") as caught:
        sheet(tmp_path, "subject\tmeier\n")
    assert "meier" not in str(caught.value)


def test_known_words_in_the_wrong_column_are_quoted(tmp_path):
    with pytest.raises(StudyError, match="split 't' is none"):
        wishes.check(sheet(tmp_path, "subject\tsplit\nAAAAAAAA\tt\n"), SERIES, TASKS)
    with pytest.raises(StudyError, match="subject 'BBBBBBBB' is not in"):
        wishes.check(sheet(tmp_path, "subject\nBBBBBBBB\n"), SERIES, TASKS)


@pytest.mark.parametrize("days", ["--3", "1.5", "-", "two"])
def test_intervals_are_whole_numbers(days):
    table = pd.DataFrame([{"subject": "AAAAAAAA", "interval_days": days}])
    table = table.reindex(columns=wishes.COLUMNS, fill_value="").fillna("")
    with pytest.raises(StudyError, match="interval_days"):
        wishes.check(table, SERIES, TASKS)


def test_a_line_for_the_task_goes_over_the_one_for_all():
    table = pd.DataFrame(
        [
            {"subject": "AAAAAAAA", "split": "test", "interval_days": "1"},
            {"subject": "AAAAAAAA", "task": "t", "split": "train"},
        ]
    ).reindex(columns=wishes.COLUMNS, fill_value="")
    lines = wishes.lines(table.fillna(""))
    said = wishes.wish(lines, "AAAAAAAA", "t")
    assert (said["split"], said["interval_days"]) == ("train", "1")
    assert wishes.wish(lines, "AAAAAAAA", "other")["split"] == "test"
    assert wishes.wish(lines, "BBBBBBBB", "t")["split"] == ""
