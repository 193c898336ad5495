"""Digests of whole files: rewritten pixels are seen, and an unchanged tree costs nothing."""

import os
import stat

import numpy as np
import pytest

from mrsynth import archives, digests, index
from mrsynth.convert import convert_stack, read_files
from mrsynth.errors import Refusal, StudyError

KEY = bytes(32)


@pytest.fixture
def study(dicom_writer, tmp_path):
    """A series in a tree, and a function that indexes and settles it; gives the list's path."""
    paths = dicom_writer.stack(range(4))

    def settle():
        found = index.scan([dicom_writer.folder], key=KEY)
        index.write_index(found, tmp_path / "s.tsv", tmp_path / "f.tsv", tmp_path / "private")
        (name,) = found.private
        digests.settle(tmp_path / "private", [name])
        return tmp_path / f"private/cohort/{name}.tsv"

    return paths, settle


def rewrite(path, touch: bool = True) -> None:
    """Change one pixel and nothing else: the same header, the same size."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    stamp = status.st_mtime_ns + (10**9 if touch else 0)
    os.utime(path, ns=(stamp, stamp))


def test_rewritten_pixels_change_the_list_that_convert_reads(study):
    paths, settle = study
    listed = settle()
    before = listed.read_text()
    header = index.scan([paths[0].parent], key=KEY).private
    rewrite(paths[2])
    assert index.scan([paths[0].parent], key=KEY).private.popitem()[1].equals(header.popitem()[1])
    assert settle().read_text() != before


def test_pixels_rewritten_after_the_cohort_was_made_are_refused(study):
    paths, settle = study
    rows = read_files(settle(), 1)
    convert_stack(rows)
    rewrite(paths[1], touch=False)
    with pytest.raises(Refusal) as error:
        convert_stack(rows)
    assert error.value.code == "CHANGED"
    assert "snakemake cohort" in error.value.remedy


def test_an_unchanged_tree_is_not_read_again(study, monkeypatch):
    _, settle = study
    listed = settle()
    stamp = listed.stat().st_mtime_ns
    monkeypatch.setattr(digests, "digest", None)
    assert settle().stat().st_mtime_ns == stamp


def test_a_copied_tree_is_read_again_and_nothing_reruns(study):
    paths, settle = study
    listed = settle()
    stamp = listed.stat().st_mtime_ns
    for path in paths:
        os.utime(path)
    assert settle().stat().st_mtime_ns == stamp


def test_lists_are_private_and_only_of_chosen_series(study, tmp_path):
    _, settle = study
    listed = settle()
    assert stat.S_IMODE(listed.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "private/digests.tsv").stat().st_mode) == 0o600
    digests.settle(tmp_path / "private", [])
    assert not listed.exists()
    assert len(digests.read_cache(tmp_path / "private/digests.tsv")) == 0


def test_a_file_that_is_gone_is_left_to_convert(study):
    paths, settle = study
    settle()
    private = paths[0].parents[1] / "private"
    (name,) = [path.stem for path in (private / "cohort").iterdir()]
    paths[0].unlink()
    digests.settle(private, [name])
    with pytest.raises(Refusal) as error:
        convert_stack(read_files(private / f"cohort/{name}.tsv", 1))
    assert error.value.code == "UNREADABLE"


def test_a_lost_private_list_is_told(tmp_path):
    (tmp_path / "index").mkdir()
    with pytest.raises(StudyError, match="forcerun index"):
        digests.settle(tmp_path, ["ser-AAAAAAAA"])


def test_threads_give_the_same(study, tmp_path):
    _, settle = study
    listed = settle()
    before = listed.read_bytes()
    (tmp_path / "private/digests.tsv").unlink()
    digests.settle(tmp_path / "private", [listed.stem], threads=3)
    assert listed.read_bytes() == before


def test_members_of_an_archive_are_digested_too(dicom_writer, tmp_path):
    import zipfile

    paths = dicom_writer.stack(range(4), pixels=[np.full((4, 5), n, np.int16) for n in range(4)])
    root = tmp_path / "packed"
    root.mkdir()
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    found = index.scan([root], key=KEY)
    index.write_index(found, tmp_path / "s.tsv", tmp_path / "f.tsv", tmp_path / "private")
    (name,) = found.private
    digests.settle(tmp_path / "private", [name])
    rows = read_files(tmp_path / f"private/cohort/{name}.tsv", 1)
    assert [row["content"] for row in rows] == [digests.digest(path.read_bytes()) for path in paths]
    assert all(archives.MARK in row["path"] for row in rows)
    convert_stack(rows)


def test_odd_names_survive_the_lists(dicom_writer, tmp_path):
    names = ['a"b', "a'b", "a\tb", "a\nb;$(id)", "é\udce9", "#x", " y "]
    pixels = [np.full((4, 5), n, np.int16) for n in range(len(names))]
    paths = dicom_writer.stack(range(len(names)), pixels=pixels)
    for path, name in zip(paths, names, strict=True):
        path.rename(path.with_name(name))
    found = index.scan([dicom_writer.folder], key=KEY)
    index.write_index(found, tmp_path / "s.tsv", tmp_path / "f.tsv", tmp_path / "private")
    (name,) = found.private
    digests.settle(tmp_path / "private", [name])
    rows = read_files(tmp_path / f"private/cohort/{name}.tsv", 1)
    assert [row["path"].rsplit("/", 1)[1] for row in rows] == names
    assert all(row["content"] for row in rows)
    image = convert_stack(rows).image
    assert [image[0, 0, z] for z in range(len(names))] == list(range(len(names)))
