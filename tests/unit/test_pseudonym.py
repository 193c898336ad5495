"""Pseudonyms need the key, stay the same, and their files are private."""

import os
import re
import stat

import pytest

from mrsynth import pseudonym
from mrsynth.errors import StudyError
from mrsynth.subjects import SUBJECT, person

KEY = bytes(range(32))


def test_subject_depends_on_the_key_and_the_person_alone():
    assert pseudonym.subject(KEY, "17") == pseudonym.subject(KEY, "17")
    assert pseudonym.subject(KEY, "17") != pseudonym.subject(KEY, "18")
    assert pseudonym.subject(KEY, "17") != pseudonym.subject(b"other" * 8, "17")
    assert set(pseudonym.subject(KEY, "17")) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    assert len(pseudonym.subject(KEY, "17")) == 8


def test_subject_is_hmac_sha256_in_base32():
    import base64
    import hmac

    digest = hmac.new(KEY, b"17", "sha256").digest()
    assert pseudonym.subject(KEY, "17") == base64.b32encode(digest)[:8].decode()


def test_guessing_all_ids_without_the_key_finds_nothing():
    wanted = pseudonym.subject(KEY, "4711")
    assert all(pseudonym.subject(b"guess" * 8, str(i)) != wanted for i in range(10000))


def test_unit_is_uniform_and_independent_by_purpose():
    units = [pseudonym.unit(KEY, f"S{i}") for i in range(4000)]
    other = [pseudonym.unit(KEY, f"S{i}", "other") for i in range(4000)]
    assert min(units) >= 0
    assert max(units) < 1
    assert abs(sum(unit < 0.25 for unit in units) / 4000 - 0.25) < 0.03
    both = sum(a < 0.5 and b < 0.5 for a, b in zip(units, other, strict=True)) / 4000
    assert abs(both - 0.25) < 0.03


def test_key_is_made_once_and_private(tmp_path):
    folder = tmp_path / "private"
    key = pseudonym.read_key(folder)
    assert len(key) == 32
    assert pseudonym.read_key(folder) == key
    assert stat.S_IMODE(os.stat(folder / "key").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


def test_fixed_key_makes_no_file(tmp_path):
    assert pseudonym.read_key(tmp_path / "private", KEY.hex()) == KEY
    assert not (tmp_path / "private").exists()


@pytest.mark.parametrize("text", ["xyz", "00ff", "0" * 33])
def test_bad_key_is_named_but_not_shown(tmp_path, text):
    with pytest.raises(StudyError, match="key_hex") as error:
        pseudonym.read_key(tmp_path, text)
    assert f"'{text}'" not in str(error.value)


def test_links_join_two_ids(tmp_path):
    (tmp_path / "links.tsv").write_text("patient_id\tperson\na\tX\nb\tX\n")
    assert pseudonym.read_links(tmp_path) == {"a": "X", "b": "X"}
    assert pseudonym.read_links(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient_id\tperson\nCanary\tX\nCanary\tY\n", "line 3: .* in line 2"),
        ("patient_id\tperson\n\n# two IDs\nCanary\n", "line 4: 'patient_id' or 'person'"),
        ("patient_id\tperson\n\tCanary\n", "line 2: 'patient_id' or 'person'"),
        ("patient_id,person\nCanary,X\n", "line 1: the column 'patient_id' is missing"),
        ("patient_id\nCanary\n", "line 1: the column 'person' is missing"),
        ("patient_id\tperson\nCanary\tb\nb\tZ\n", "line 2: .* line 3 links to someone else"),
        ("", "line 1: the column"),
    ],
)
def test_bad_links_are_refused_by_their_line_without_an_id(tmp_path, text, words):
    (tmp_path / "links.tsv").write_text(text)
    with pytest.raises(StudyError, match=words) as caught:
        pseudonym.read_links(tmp_path)
    assert "Canary" not in str(caught.value)


def test_links_are_read_as_hospitals_write_them(tmp_path):
    path = tmp_path / "links.tsv"
    path.write_bytes(b'\xef\xbb\xbfperson\tpatient_id\tremark\r\nX\t 017 \tsaid "so"\r\n\r\nX\tb')
    links = pseudonym.read_links(tmp_path)
    assert links == {"017": "X", "b": "X"}
    assert links.lines == {"017": 2, "b": 4}
    path.write_bytes("patient_id\tperson\nJörg\tX\n".encode("latin-1"))
    with pytest.raises(StudyError, match="UTF-8"):
        pseudonym.read_links(tmp_path)


def test_a_person_may_be_named_by_one_of_his_ids(tmp_path):
    (tmp_path / "links.tsv").write_text("patient_id\tperson\na\tb\nb\tb\n")
    assert pseudonym.read_links(tmp_path) == {"a": "b", "b": "b"}


def test_links_of_nobody_are_refused(tmp_path):
    (tmp_path / "links.tsv").write_text("patient_id\tperson\na\tX\nCanary\tX\nb\tX\n")
    links = pseudonym.read_links(tmp_path)
    pseudonym.check_links(links, {"a", "b", "Canary", "other"})
    with pytest.raises(StudyError, match=r"line 3:") as caught:
        pseudonym.check_links(links, {"a", "b"})
    assert "Canary" not in str(caught.value)


def test_the_exclusion_list_has_hospital_ids_and_gives_pseudonyms(tmp_path):
    assert pseudonym.read_exclusions(tmp_path, KEY) == {}
    (tmp_path / "links.tsv").write_text("patient_id\tperson\na\tX\nb\tX\n")
    (tmp_path / "exclude.tsv").write_text("patient_id\nb\n# withdrawn\n17\n")
    found = pseudonym.read_exclusions(tmp_path, KEY)
    assert found == {pseudonym.subject(KEY, "X"): 2, pseudonym.subject(KEY, "17"): 4}
    (tmp_path / "exclude.tsv").write_text("patient\nCanary\n")
    with pytest.raises(StudyError, match=r"exclude\.tsv, line 1") as caught:
        pseudonym.read_exclusions(tmp_path, KEY)
    assert "Canary" not in str(caught.value)
    (tmp_path / "exclude.tsv").write_text("patient_id\treason\n\tCanary\n")
    with pytest.raises(StudyError, match="line 2"):
        pseudonym.read_exclusions(tmp_path, KEY)


def test_names_of_visits_depend_on_the_visit_alone():
    name = pseudonym.visit(KEY, "ABCDEFGH", "std-1")
    assert re.fullmatch(SUBJECT, name)
    assert name == pseudonym.visit(KEY, "ABCDEFGH", "std-1")
    assert name != pseudonym.visit(KEY, "ABCDEFGH", "std-2")
    assert name != pseudonym.visit(b"other" * 8, "ABCDEFGH", "std-1")
    assert person(name) == person("ABCDEFGH") == "ABCDEFGH"
    assert len({pseudonym.visit(KEY, "ABCDEFGH", str(n)) for n in range(300)}) == 300


def test_private_file_is_rewritten_only_when_its_content_changes(tmp_path):
    path = tmp_path / "private" / "list.tsv"
    assert pseudonym.write_private(path, "a")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert not pseudonym.write_private(path, "a")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert pseudonym.write_private(path, "b")
    assert path.read_text() == "b"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["list.tsv"]
