"""Digests of whole files: rewritten pixels are seen, and an unchanged tree costs nothing."""

import os
import stat
import tarfile
import zipfile

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


def test_a_lost_disk_changes_no_list_and_refuses_nobody(study):
    """A refusal would be kept as the stack's result when the disk is back."""
    paths, settle = study
    listed = settle()
    before, folder = listed.read_bytes(), paths[0].parent
    folder.rename(folder.with_name("elsewhere"))
    digests.settle(listed.parents[1], [listed.stem])
    assert listed.read_bytes() == before
    with pytest.raises(StudyError, match="forcerun index"):
        convert_stack(read_files(listed, 1))
    folder.with_name("elsewhere").rename(folder)
    convert_stack(read_files(listed, 1))


def test_a_file_that_was_never_digested_must_be_there(study):
    paths, settle = study
    listed = settle()
    (listed.parents[1] / "digests.tsv").unlink()
    paths[0].unlink()
    with pytest.raises(StudyError, match="can't be read now"):
        digests.settle(listed.parents[1], [listed.stem])


def test_a_lost_plain_tar_is_the_studys_problem(dicom_writer, tmp_path):
    paths, root = dicom_writer.stack(range(4)), tmp_path / "packed"
    root.mkdir()
    with tarfile.open(root / "a.tar.gz", "w:gz") as archive:
        for path in paths:
            archive.add(path, path.name)
    cache = tmp_path / "private/unpacked"
    (table,) = index.scan([root], key=KEY, cache=cache).private.values()
    convert_stack(table)
    next(cache.glob("*.tar")).unlink()
    with pytest.raises(StudyError, match="private/unpacked"):
        convert_stack(table)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_still_a_refusal(dicom_writer, tmp_path, method):
    noise = np.random.default_rng(0).integers(0, 4000, (4, 256, 256)).astype(np.int16)
    paths = dicom_writer.stack(range(4), pixels=list(noise))
    packed = tmp_path / "packed/a.zip"
    packed.parent.mkdir()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for path in paths:
            archive.write(path, path.name)
    found = index.scan([packed.parent], key=KEY)
    index.write_index(found, tmp_path / "s.tsv", tmp_path / "f.tsv", tmp_path / "private")
    (name,) = found.private
    whole = packed.read_bytes()
    second = zipfile.ZipFile(packed).infolist()[1].header_offset
    packed.write_bytes(whole[: second - 2000] + bytes(1000) + whole[second - 1000 :])
    digests.settle(tmp_path / "private", [name])
    listed = tmp_path / f"private/cohort/{name}.tsv"
    with pytest.raises(Refusal) as error:
        convert_stack(read_files(listed, 1))
    assert error.value.code == "CORRUPT"
    packed.write_bytes(whole)
    with pytest.raises(Refusal) as error:
        convert_stack(read_files(listed, 1))
    assert error.value.code == "CHANGED"
    digests.settle(tmp_path / "private", [name])
    convert_stack(read_files(listed, 1))


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
    names = ['a"b', "a'b", "a\tb", "a\nb;$(id)", "a\rb", "é\udce9", "#x", " y "]
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
