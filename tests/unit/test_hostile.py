"""Hostile input: cut, flipped and lying files, odd names, pipes, loops, and a great many files.

What must hold of a series of which one file was damaged: nothing but the project's own refusals;
no volume with fewer slices; and if there is a volume, its other slices are the true ones, and the
damaged one is what an independent reader finds in that very file, at the place that it names. That
is: either the damage is noticed, or it made a file that is valid in itself.
"""

import os
import random
import shutil
import socket
import subprocess
import sys
import time
import tracemalloc
import warnings

import numpy as np
import pydicom
import pytest

from dicomframes import enhanced
from dicommake import Grid, Maker, true_volume
from mrsynth import dicom, files, index, volume
from mrsynth.convert import convert
from mrsynth.errors import Refusal

KEY = bytes(range(32))
GRID = Grid(shape=(6, 12, 10))
PIXELS = b"\xe0\x7f\x10\x00OW\0\0"
FLIPS = 200
CUTS = 20


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Six slices of a CT, in the order of the normal."""
    folder = tmp_path_factory.mktemp("hostile")
    maker = Maker(folder, 1)
    paths = [maker.save(dataset, f"{n}.dcm") for n, dataset in enumerate(maker.series(GRID))]
    return folder, [path.read_bytes() for path in paths]


def volumes(folder) -> tuple[index.Index, list]:
    """What index and convert make of a folder; nothing but a refusal may be raised."""
    found = index.scan([folder], key=KEY)
    assert set(found.files["state"]) <= {"used", "skipped", "refused"}
    made = []
    for table in found.private.values():
        for stack in sorted(set(table["stack"])):
            try:
                image, _ = convert(table[table["stack"] == stack])
            except Refusal:
                continue
            made.append((volume.to_array(image), volume.affine(image)))
    return found, made


def with_damage(folder, contents, number, damaged):
    """The series' folder with another content of one file."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    for place, content in enumerate(contents):
        (folder / f"{place}.dcm").write_bytes(damaged if place == number else content)
    return folder


def read_independently(content: bytes, path):
    """True values and position of one file, by pydicom alone."""
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array.astype(float)
        values = stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return np.maximum(values, -1024), np.array(dataset.ImagePositionPatient, dtype=float)


def check_damage(folder, contents, number, damaged) -> bool:
    """Assert what the module says; returns whether there is a volume."""
    _, made = volumes(with_damage(folder, contents, number, damaged))
    assert len(made) <= 1
    for array, matrix in made:
        truth = true_volume(GRID).array
        assert array.shape == truth.shape
        others = [place for place in range(len(truth)) if place != number]
        assert np.allclose(array[others], truth[others], atol=0.01)
        values, position = read_independently(damaged, folder / "own")
        assert np.allclose(array[number], values, atol=0.01)
        assert np.linalg.norm(matrix[:3] @ (0, 0, number, 1) - position) < 0.02
    return bool(made)


@pytest.mark.parametrize("number", [2, 5])
def test_cut_files_never_give_a_volume(series, tmp_path, number):
    _, contents = series
    rng = random.Random(number)
    length = len(contents[number])
    for cut in [rng.randrange(length) for _ in range(CUTS)] + [0, 131, length - 1]:
        found, made = volumes(
            with_damage(tmp_path / "cut", contents, number, contents[number][:cut])
        )
        assert not made, cut
        assert (found.files["state"] == "refused").all(), cut


@pytest.mark.parametrize("number", [2, 5])
@pytest.mark.parametrize("place", ["header", "pixels"])
def test_flipped_bytes_are_noticed_or_change_what_they_say(series, tmp_path, place, number):
    _, contents = series
    content = contents[number]
    start = content.index(PIXELS)
    rng = random.Random(f"{place}{number}")
    made = 0
    for _ in range(FLIPS // 2):
        where = rng.randrange(start) if place == "header" else rng.randrange(start, len(content))
        damaged = bytearray(content)
        damaged[where] ^= rng.randrange(1, 256)
        made += check_damage(tmp_path / "flip", contents, number, bytes(damaged))
    assert 0 < made < FLIPS // 2


def test_flipped_bytes_in_a_multi_frame_file_give_all_frames_or_none(tmp_path):
    """Most of its header is nested; a frame lost or moved must not go unnoticed."""
    maker = Maker(tmp_path / "made", 1)
    maker.folder.mkdir()
    content = maker.save(enhanced(maker, [GRID], "CT", "per-frame", np.arange(6)), "m").read_bytes()
    start, rng, made = content.index(PIXELS), random.Random(4), 0
    for _ in range(FLIPS // 2):
        damaged = bytearray(content)
        damaged[rng.randrange(start)] ^= rng.randrange(1, 256)
        _, found = volumes(with_damage(tmp_path / "flip", [content], 0, bytes(damaged)))
        for array, matrix in found:
            assert array.shape == GRID.shape
            assert np.allclose(matrix, GRID.matrix, atol=0.02)
        made += len(found)
    assert 0 < made < FLIPS // 2


LIES = """
import resource, sys
from mrsynth import dicom
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
for path in sys.argv[2:]:
    header = dicom.read_header(path)
    print(header.state, header.code)
"""


def test_huge_promises_take_no_memory(series, tmp_path):
    """Run within 2 GiB of address space, of which the imports take half."""
    _, contents = series
    content = contents[0]
    four_gib = b"\xf0\xff\xff\xff"
    name = content.index(b"\x10\0\x10\0PN")
    end = content.index(PIXELS) + len(PIXELS)
    nested = content[:name] + b"\x10\0\x10\0SQ\0\0\xff\xff\xff\xff"
    nested += (b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff") * 5000
    lies = {
        "wanted": content[:name] + b"\x10\0\x20\0UT\0\0" + four_gib + content[name:],
        "unwanted": content[:name] + b"\x10\0\x10\0UT\0\0" + four_gib + content[name:],
        "pixels": content[:end] + four_gib + content[end + 4 :],
        "sequence": content[:name] + b"\x10\0\x10\0SQ\0\0" + four_gib + content[name:],
        "nested": nested,
        "endless": content[:name] + b"\x10\0\x10\0UN\0\0\xff\xff\xff\xff" + bytes(10**6),
    }
    for key, lie in lies.items():
        (tmp_path / f"{key}.dcm").write_bytes(lie)
    maker = Maker(tmp_path / "more", 1)
    maker.folder.mkdir()
    sizes = {"Rows": 60000, "Columns": 60000}, {"NumberOfFrames": 10**9}, {"Rows": 16000}
    paths = [tmp_path / f"{key}.dcm" for key in lies]
    paths += [maker.save(maker.series(GRID, **more)[0], f"{n}.dcm") for n, more in enumerate(sizes)]
    done = subprocess.run(
        [sys.executable, "-c", LIES, str(2 * 2**30), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths), done.stderr
    assert {line.split()[0] for line in lines} == {"refused"}
    assert "UNREADABLE" not in done.stdout


def test_a_header_without_end_is_given_up(series, tmp_path, monkeypatch):
    _, contents = series
    name = contents[0].index(b"\x10\0\x10\0PN")
    endless = b"\x10\0\x10\0UN\0\0\xff\xff\xff\xff" + bytes(2**20)
    path = tmp_path / "a.dcm"
    path.write_bytes(contents[0][:name] + endless)
    monkeypatch.setattr(dicom, "LARGEST_HEADER", 2**18)
    header = dicom.read_header(str(path))
    assert (header.state, header.code) == ("refused", "IMPOSSIBLE_SIZE")


def test_pipes_devices_sockets_and_dead_links_do_not_hang(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "zero.dcm").symlink_to("/dev/zero")
    (tmp_path / "dead.dcm").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.dcm").symlink_to(tmp_path / "self.dcm")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)
        listener.bind("s.dcm")
        found = index.scan([tmp_path], key=KEY)
    assert len(found.files) == 5
    assert set(found.files["code"]) == {"UNREADABLE"}


def test_an_editors_lock_spoils_no_series(series, tmp_path):
    _, contents = series
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    (tmp_path / ".#notes.txt").symlink_to("someone@host.1234")
    found = index.scan([tmp_path], key=KEY)
    assert sorted(set(found.files["code"])) == ["", "NOT_DICOM"]


def test_a_file_that_hangs_is_left_after_a_while(series, tmp_path, monkeypatch):
    _, contents = series
    path = tmp_path / "a.dcm"
    path.write_bytes(contents[0])

    class Slow:
        def read(self, size=-1):
            time.sleep(30)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

    monkeypatch.setattr(files, "open_file", lambda path: Slow())
    monkeypatch.setattr(dicom, "SECONDS_PER_FILE", 0.2)
    start = time.monotonic()
    header = dicom.read_header(str(path))
    assert time.monotonic() - start < 10
    assert (header.state, header.code) == ("refused", "UNREADABLE")


def test_what_may_not_be_opened_is_refused_and_not_lost(series, tmp_path, monkeypatch):
    """Root may open anything, so the permissions are taken away by hand."""
    _, contents = series
    for name in ("a/x.dcm", "closed/y.dcm"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(contents[0])
    scandir = os.scandir

    def forbidden(path, *_, **__):
        raise PermissionError(13, "Permission denied", path)

    def scan(path):
        return forbidden(path) if str(path).endswith("closed") else scandir(path)

    monkeypatch.setattr(files.os, "scandir", scan)
    monkeypatch.setattr(files, "open", forbidden, raising=False)
    found = index.scan([tmp_path], key=KEY)
    assert found.files["code"].tolist() == ["UNREADABLE"] * 2
    assert set(found.paths["path"]) == {str(tmp_path / "a/x.dcm"), str(tmp_path / "closed")}


ODD_NAMES = [
    "a b.dcm",
    "it's.dcm",
    'quo"te.dcm',
    "new\nline\t.dcm",
    "\U0001f9b4.dcm",
    "$(touch harmed).dcm",
    "; touch harmed;.dcm",
    "`touch harmed`",
    "--help.dcm",
    "%s%n{0}.dcm",
    "IMG.DCM",
    "img.dcm",
]


def test_names_of_any_kind_are_text(series, tmp_path, monkeypatch):
    _, contents = series
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "dicom" / "$(touch harmed)"
    place.mkdir(parents=True)
    for name, content in zip(ODD_NAMES, contents * 2, strict=True):
        (place / name).write_bytes(content)
    os.symlink(tmp_path / "dicom", place / "loop")
    bad = os.path.join(os.fsencode(place), b"\xff\xfe.dcm")
    with open(bad, "wb") as file:
        file.write(contents[0])
    found, made = volumes(tmp_path / "dicom")
    assert len(found.files) == len(ODD_NAMES) + 1
    assert (found.files["state"] == "used").sum() == len(contents)
    assert (found.files["code"] == "DUPLICATE").sum() == len(ODD_NAMES) + 1 - len(contents)
    assert len(made) == 1
    index.write_index(found, tmp_path / "s.tsv", tmp_path / "f.tsv", tmp_path / "private")
    assert not list(tmp_path.rglob("harmed"))
    for name in ("s.tsv", "f.tsv"):
        assert b"harmed" not in (tmp_path / name).read_bytes()


def many_files(folder, count):
    """A tree of tiny files, half of them called DICOM."""
    for start in range(0, count, 1000):
        (folder / str(start)).mkdir()
        for number in range(start, min(start + 1000, count)):
            (folder / str(start) / f"{number}.{'dcm' if number % 2 else 'txt'}").touch()


MEASURED = """
import resource, sys, time
from mrsynth import index
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.monotonic()
found = index.scan([sys.argv[1]], key=bytes(32))
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(len(found.files), used / 1024, time.monotonic() - start)
"""


@pytest.mark.parametrize(
    ("count", "mebibytes", "seconds"),
    [(3000, 60, 30), pytest.param(100_000, 400, 300, marks=pytest.mark.long)],
)
def test_many_tiny_files_need_little_memory_and_time(tmp_path, count, mebibytes, seconds):
    many_files(tmp_path, count)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    files_found, memory, duration = map(float, done.stdout.split())
    assert files_found == count
    assert memory < mebibytes
    assert duration < seconds


def test_a_slice_in_memory_is_small(series, tmp_path):
    """100 000 slices, a large export, stay below 200 MB."""
    _, contents = series
    (tmp_path / "a.dcm").write_bytes(contents[0])
    dicom.read_header(str(tmp_path / "a.dcm"))
    tracemalloc.start()
    headers = dicom.read_headers([str(tmp_path / "a.dcm")] * 500)
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert headers[-1].state == "read"
    assert memory / 500 < 2000
