"""Pseudonyms need the key, stay the same, and their files are private."""

import os
import stat

import pytest

from mrsynth import pseudonym
from mrsynth.errors import StudyError

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


@pytest.mark.parametrize("text", ["patient_id\tperson\na\tX\na\tY\n", "patient_id\na\n"])
def test_bad_links_are_refused(tmp_path, text):
    (tmp_path / "links.tsv").write_text(text)
    with pytest.raises(StudyError, match="line"):
        pseudonym.read_links(tmp_path)


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
