"""Speed of the ingest: headers indexed per second, and conversion against dcm2niix.

    python benchmarks/ingest.py [--slices 2000] [--repeats 5] [--folder /tmp/ingest]

Makes a tree of CT and MR slices with headers of about 150 elements, some of them private. Prints
files per second of `index` (warm and cold, one and two processes) and of plain
``pydicom.dcmread(stop_before_pixels=True)``; then the time of a whole process that converts 100
slices of 512² to .nii.gz, ours and dcm2niix's (benchmarks/requirements.txt). The programs take
turns, medians are given; both numbers depend on what else the machine does, their ratio less.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from readers import KEY

from dicommake import Grid, Maker
from mrsynth import index

PER_SERIES = 100
PRIVATE = 100
"""Private elements of a header, with 40 letters each: scanners write hundreds."""
PROCESS = """
import sys
from mrsynth import volume
from mrsynth.convert import convert, read_files

image, _ = convert(read_files(sys.argv[1], 1))
volume.write_volume(image, sys.argv[2])
"""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        headers(place / "tree", options.slices, options.repeats)
        conversion(place / "one", options.repeats)
    finally:
        shutil.rmtree(place)


def headers(folder: Path, count: int, repeats: int) -> None:
    """Files per second."""
    make_tree(folder, count)
    paths = [str(path) for path in folder.rglob("*") if path.is_file()]
    size = sum(os.path.getsize(path) for path in paths) / len(paths)
    ways = {
        "pydicom, stop_before_pixels": lambda: [read(path) for path in paths],
        "index, 1 process": lambda: scan(folder, 1),
        "index, 2 processes": lambda: scan(folder, 2),
    }
    for way in ways.values():
        way()
    warm = {name: [] for name in ways}
    cold = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            warm[name].append(timed(way))
            forget(paths)
            cold[name].append(timed(way))
    print(f"{len(paths)} files of {size / 1024:.0f} KiB, median of {repeats} turns\n")
    print("| | files/s, warm | files/s, cold | times pydicom, warm |\n|---|---|---|---|")
    base = statistics.median(warm["pydicom, stop_before_pixels"])
    for name in ways:
        rates = [len(paths) / statistics.median(times[name]) for times in (warm, cold)]
        ratio = base / statistics.median(warm[name])
        print(f"| {name} | {rates[0]:.0f} | {rates[1]:.0f} | {ratio:.1f} |")


def make_tree(folder: Path, count: int) -> None:
    """Series of 100 slices each in folders of their own, CT and MR in turn, two per patient."""
    for number in range(count // PER_SERIES):
        maker = Maker(folder, seed=number)
        maker.count = number * 10 * PER_SERIES
        modality = ("CT", "MR")[number % 2]
        grid = Grid(shape=(PER_SERIES, 128, 128), spacing=(0.5, 0.2, 0.2))
        own = {"PatientID": f"patient-{number // 2}", "StudyInstanceUID": f"1.2.{number}"}
        datasets = maker.series(grid, modality, FrameOfReferenceUID=f"1.3.{number}", **own)
        for dataset in datasets:
            block = dataset.private_block(0x0029, "BENCHMARK", create=True)
            for element in range(PRIVATE):
                block.add_new(element, "LO", "private text of about forty letters ....")
        maker.write_all(datasets, folder=f"{number:03d}")


def read(path: str) -> pydicom.Dataset:
    """Plain pydicom."""
    return pydicom.dcmread(path, stop_before_pixels=True)


def scan(folder: Path, threads: int) -> None:
    """The whole of `index` but writing its tables; every series must be used."""
    found = index.scan([folder], key=KEY, threads=threads)
    assert set(found.series["status"]) == {"used"}, found.series["message"].unique()


def forget(paths: list[str]) -> None:
    """Drop the files from the page cache, so that they come from the disk again."""
    os.sync()
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def conversion(folder: Path, repeats: int) -> None:
    """Time of whole processes for 100 slices of 512²."""
    maker = Maker(folder / "dicom")
    grid = Grid(shape=(100, 512, 512), spacing=(0.6, 0.12, 0.12))
    datasets = maker.series(grid)
    rng = np.random.default_rng(1)
    for dataset in datasets:
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(512, 512)
        noise = rng.normal(0, 12, pixels.shape)
        dataset.PixelData = np.clip(pixels + noise, 0, 4095).astype("<u2").tobytes()
    maker.write_all(datasets)
    found = index.scan([folder / "dicom"], key=KEY)
    (table,) = found.private.values()
    listing = folder / "files.tsv"
    table.to_csv(listing, sep="\t", index=False)
    ours = [sys.executable, "-c", PROCESS, str(listing), str(folder / "ours.nii.gz")]
    (folder / "theirs").mkdir()
    ways = {"mrsynth, .nii.gz": ours}
    for letter, name in (("y", "dcm2niix, .nii.gz"), ("n", "dcm2niix, .nii")):
        where = ["-o", str(folder / "theirs"), str(folder / "dicom")]
        ways[name] = ["dcm2niix", "-w", "1", "-b", "n", "-z", letter, *where]
    times = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, command in ways.items():
            taken = timed(lambda command=command: subprocess.run(command, check=True, stdout=-3))
            if turn:
                times[name].append(taken)
    print(f"\n100 slices of 512², whole process, median of {repeats} turns\n")
    print("| | seconds | times dcm2niix (.nii.gz) |\n|---|---|---|")
    base = statistics.median(times["dcm2niix, .nii.gz"])
    for name, taken in times.items():
        print(
            f"| {name} | {statistics.median(taken):.2f} | {statistics.median(taken) / base:.2f} |"
        )


def timed(way) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
