"""Zip and tar archives as folders: what is listed, what is read, and what is refused."""

import errno
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mrsynth import archives, dicom, grouping, index, volume
from mrsynth.convert import convert
from mrsynth.errors import Refusal, StudyError

KEY = bytes(32)
KINDS = ("zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz")


def pack(files: dict[str, bytes], path: Path) -> Path:
    """An archive of the kind that its name says, members in the order of the mapping."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def series(dicom_writer) -> dict[str, bytes]:
    """Files of a series of five slices, not in their order."""
    pixels = [np.full((6, 7), 100 * number, np.int16) for number in range(5)]
    paths = dicom_writer.stack(3.0 * np.arange(5), pixels=pixels)
    files = {f"study/{name}": paths[name].read_bytes() for name in (3, 0, 4, 1, 2)}
    for path in paths:
        path.unlink()
    return files


def code_of(path, **options) -> str:
    with pytest.raises(Refusal) as error:
        archives.members(str(path), **options)
    return error.value.code


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_series_converts_as_the_plain_one(series, tmp_path, kind):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    (plain / "study").mkdir(parents=True)
    packed.mkdir()
    for name, content in series.items():
        (plain / name).write_bytes(content)
    pack(series, packed / f"export.{kind}")
    cache = tmp_path / "private/unpacked"
    first = index.scan([plain], key=KEY)
    found = index.scan([packed], key=KEY, cache=cache)
    assert found.series["status"].tolist() == ["used"]
    assert found.series.equals(first.series)
    assert sorted(found.files["state"]) == ["skipped", *["used"] * 5]
    assert sorted(found.files["code"]) == [*[""] * 5, "ARCHIVE"]
    one, two = convert(*first.private.values())[0], convert(*found.private.values())[0]
    assert (volume.to_array(one) == volume.to_array(two)).all()
    assert np.array_equal(volume.affine(one), volume.affine(two))
    assert not [path for path in packed.rglob("*") if path.suffix not in (f".{kind}", path.suffix)]
    assert len(list(packed.iterdir())) == 1


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_root_may_be_an_archive(series, tmp_path, kind):
    path = pack(series, tmp_path / f"export.{kind}")
    found = index.scan([path], key=KEY, cache=tmp_path / "cache")
    assert found.series["slices"].tolist() == ["5"]


def test_file_names_do_not_depend_on_where_a_tar_is_unpacked(series, tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    pack(series, root / "export.tar.gz")
    one = index.scan([root], key=KEY, cache=tmp_path / "one")
    two = index.scan([root], key=KEY, cache=tmp_path / "two")
    assert one.files.equals(two.files)
    assert not one.paths.equals(two.paths)


def test_a_compressed_tar_is_unpacked_once_for_its_owner_alone(series, tmp_path):
    path, cache = pack(series, tmp_path / "export.tgz"), tmp_path / "private/unpacked"
    archives.members(str(path), cache)
    (tar,) = cache.iterdir()
    assert stat.S_IMODE(tar.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    before = tar.stat().st_mtime_ns
    members = archives.members(str(path), cache)
    assert tar.stat().st_mtime_ns == before
    archives.forget(cache, [place for place, _ in members])
    assert tar.exists()
    archives.forget(cache, ["/elsewhere/a.dcm"])
    assert not tar.exists()


def test_people_may_be_told_apart_by_their_archives(series, tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    other = {name: content.replace(b"patient-1", b"patient-2") for name, content in series.items()}
    uid = b"1.2.826.0.1.3680043.10.1338.0.1"
    other = {n: c.replace(uid, uid[:-1] + b"9") for n, c in other.items()}
    pack(series, root / "ANNA.zip")
    pack(other, root / "BEN.tar")
    found = index.scan([root], key=KEY, subject_from="folder", links={"ANNA": "one", "BEN": "one"})
    assert found.series["subject"].nunique() == 1
    assert len(found.series) == 2


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_name_of_a_member_touches_the_disk(series, tmp_path, kind):
    root = tmp_path / "tree/deep"
    root.mkdir(parents=True)
    names = [
        "/tmp/mrsynth-escaped.dcm",
        "../../escaped.dcm",
        "a/../../../up.dcm",
        "$(id)\n;`x`",
        "é",
    ]
    pack(dict(zip(names, series.values(), strict=True)), root / f"export.{kind}")
    before = set(tmp_path.rglob("*"))
    found = index.scan([root], key=KEY)
    image, _ = convert(*found.private.values())
    assert image.GetSize() == (7, 6, 5)
    assert set(tmp_path.rglob("*")) == before
    assert not Path("/tmp/mrsynth-escaped.dcm").exists()


def test_an_archive_inside_another_one_is_told_and_not_opened(series, tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    inner = pack(series, tmp_path / "inner.zip").read_bytes()
    pack(series | {"more/inner.zip": inner}, root / "outer.zip")
    found = index.scan([root], key=KEY)
    assert sorted(found.files["code"]) == [*[""] * 5, "ARCHIVE", "NESTED_ARCHIVE"]
    assert found.series["status"].tolist() == ["used"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_bomb_is_refused_and_leaves_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "PLAIN_BYTES", 2**20)
    path = pack({"zeros": bytes(2**23)}, tmp_path / f"bomb.{kind}")
    assert path.stat().st_size < 2**16
    assert code_of(path, cache=tmp_path / "cache") == "ARCHIVE_LIMIT"
    assert not list((tmp_path / "cache").glob("**/*"))


def test_a_full_disk_is_the_studys_problem_and_leaves_nothing(series, tmp_path, monkeypatch):
    def full(path, mode):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setitem(archives.PACKERS, b"\x1f\x8b", full)
    path = pack(series, tmp_path / "export.tgz")
    with pytest.raises(StudyError, match="no space is left"):
        archives.members(str(path), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_ordinary_compression_is_no_bomb(series, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "PLAIN_BYTES", 0)
    assert len(archives.members(str(pack(series, tmp_path / "export.zip")))) == 5


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_MEMBERS", 10)
    for kind in ("zip", "tar"):
        path = pack({f"{n}": b"" for n in range(11)}, tmp_path / f"many.{kind}")
        assert code_of(path) == "ARCHIVE_LIMIT"


def test_encrypted_members_are_refused_by_that_name(series, tmp_path):
    path = pack(series, tmp_path / "export.zip")
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 8] |= 1
    path.write_bytes(content)
    assert code_of(path) == "ENCRYPTED_ARCHIVE"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_archive_is_refused(series, tmp_path, kind, share):
    path = pack(series, tmp_path / f"export.{kind}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    if kind == "tar" and share == 0.9:
        # Its end is padding: all members are there.
        assert len(archives.members(str(path))) == 5
        return
    assert code_of(path, cache=tmp_path / "cache") == "BAD_ARCHIVE"


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_a_damaged_stream_is_a_bad_archive(series, tmp_path, kind):
    path = pack(series, tmp_path / f"export.{kind}")
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 20):
        content[place] ^= 0x5A
    path.write_bytes(content)
    assert code_of(path, cache=tmp_path / "cache") == "BAD_ARCHIVE"
    assert not list((tmp_path / "cache").iterdir())


def test_an_archive_that_is_a_dead_link_is_unreadable(series, tmp_path):
    path = tmp_path / "gone.tar.gz"
    path.symlink_to(tmp_path / "nowhere")
    assert code_of(path) == "UNREADABLE"


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.7z", "a.rar", "a.tar.zst"])
def test_what_is_no_archive_or_none_of_ours_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"Rar!\x1a\x07\x00" + bytes(2000))
    assert code_of(path) in ("BAD_ARCHIVE", "UNSUPPORTED_ARCHIVE")


def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"2")
    assert code_of(path) == "BAD_ARCHIVE"


def test_links_in_a_tar_are_not_followed(series, tmp_path):
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"link{kind!r}")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert archives.members(str(path)) == []


@pytest.mark.parametrize("target", ["2", "/etc/passwd", "nowhere"])
def test_a_hard_link_in_a_tar_is_the_file_that_it_names(series, tmp_path, target):
    path, contents = tmp_path / "tree/links.tar", list(series.values())
    path.parent.mkdir()
    pack({str(number): content for number, content in enumerate(contents)}, path)
    link = tarfile.TarInfo("again")
    link.type, link.linkname = tarfile.LNKTYPE, target
    with tarfile.open(path, "a") as archive:
        archive.addfile(link)
    found = index.scan([path.parent], key=KEY)
    assert len(found.files) == 7
    if target == "2":
        assert archives.read(f"{path}{archives.MARK}again") == contents[2]
        assert sorted(found.files["code"]) == [*[""] * 5, "ARCHIVE", "DUPLICATE"]
        assert found.series["status"].tolist() == ["used"]
    else:
        assert "UNSUPPORTED_MEMBER" in set(found.files["code"])
        assert found.series["code"].tolist() == ["CORRUPT"]


def test_a_sparse_member_refuses_its_folder(series, tmp_path):
    path = tmp_path / "tree/sparse.tar"
    path.parent.mkdir()
    content = [*series.values()][2]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for number, other in enumerate(series.values()):
            info = tarfile.TarInfo(str(number))
            info.size = len(other)
            if number == 2:
                data = f"1\n0\n{len(content)}\n".encode().ljust(512, b"\0") + content
                info.size = len(data)
                info.pax_headers = {
                    "GNU.sparse.major": "1",
                    "GNU.sparse.minor": "0",
                    "GNU.sparse.name": "2",
                    "GNU.sparse.realsize": str(len(content)),
                }
                other = data
            archive.addfile(info, io.BytesIO(other))
    with tarfile.open(path) as archive:
        assert archive.getmember("2").issparse()
    found = index.scan([path.parent], key=KEY)
    assert sorted(found.files["code"]) == ["ARCHIVE", *["CORRUPT"] * 4, "UNSUPPORTED_MEMBER"]
    assert found.series["status"].tolist() == ["refused"]


def test_one_damaged_member_does_not_stop_the_index(series, tmp_path):
    """Two members with one header and instance are read whole to be compared."""
    path = tmp_path / "tree/export.zip"
    path.parent.mkdir()
    noise = np.random.default_rng(0).bytes(300_000)
    again = next(iter(series.values()))
    pack(series | {"a": again + noise, "b": again + noise}, path)
    content = bytearray(path.read_bytes())
    last = zipfile.ZipFile(path).getinfo("b").header_offset
    content[last + 200_000] ^= 0xFF
    path.write_bytes(content)
    first, second = (f"{path}{archives.MARK}{name}" for name in "ab")
    files = [grouping.File(name, dicom.read_header(name)) for name in (first, second)]
    assert files[0].header.digest == files[1].header.digest
    with pytest.raises(Refusal) as error:
        grouping._same(*files)
    assert error.value.code == "CORRUPT"
    index.scan([path.parent], key=KEY)


def test_a_damaged_member_refuses_its_series(series, tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    rng = np.random.default_rng(0)
    noise = {f"{n}": c + rng.bytes(2000) for n, c in series.items()}
    path = pack(noise, root / "export.zip")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    found = index.scan([root], key=KEY)
    if found.series["status"].tolist() == ["used"]:
        with pytest.raises(Refusal) as error:
            convert(*found.private.values())
        assert error.value.code == "CORRUPT"
    else:
        assert found.series["status"].tolist() == ["refused"]


def test_a_plain_path_may_look_like_a_members(dicom_writer):
    folder = dicom_writer.folder / "odd.zip!"
    folder.mkdir()
    path = dicom_writer.write()
    path = path.rename(folder / path.name)
    assert archives.split(str(path)) is None
    assert archives.read(str(path), 132)[-4:] == b"DICM"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_can_be_read_as_a_file(tmp_path, kind):
    content = np.random.default_rng(1).bytes(100_000)
    path = pack({"before": bytes(700), "a": content, "after": b"x"}, tmp_path / f"a.{kind}")
    place = f"{path}{archives.MARK}a"
    assert archives.size(place) == len(content)
    assert archives.read(place) == content
    assert archives.read(place, 50) == content[:50]
    with archives.open_file(place) as file:
        file.seek(99_990)
        assert file.read() == content[-10:]
        assert file.read(5) == b""
        file.seek(10)
        assert file.read(20) == content[10:30]


def test_a_read_only_tree_stays_as_it_is(series, tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    path = pack(series, root / "export.tar.gz")
    path.chmod(0o400)
    root.chmod(0o500)
    try:
        found = index.scan([root], key=KEY, cache=tmp_path / "cache")
    finally:
        root.chmod(0o700)
    assert isinstance(found.series, pd.DataFrame)
    assert found.series["status"].tolist() == ["used"]
    assert [path.name for path in root.iterdir()] == ["export.tar.gz"]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_flipped_bytes_of_an_archive_end_in_a_state(series, tmp_path, kind):
    root = tmp_path / "tree"
    root.mkdir()
    path = pack(series, root / f"export.{kind}")
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for number in range(40):
        changed = bytearray(content)
        for place in rng.integers(len(changed), size=1 + number % 3):
            changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        found = index.scan([root], key=KEY, cache=tmp_path / "cache")
        assert set(found.files["state"]) <= {"used", "skipped", "refused"}
        for table in found.private.values():
            try:
                image, _ = convert(table)
            except Refusal:
                continue
            assert image.GetSize()[2] == len(table)
