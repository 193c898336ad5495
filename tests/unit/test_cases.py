"""The cases A1 to A30 of a hard ingest: made folders with a known truth, through index and convert.

Cases A1 to A28 are folders of ``tests/dicomcases.py``; what `convert` makes of what `index` lets
through is compared with the true volume, voxel by voxel in world coordinates. A29 (every file in
one state) is checked in each of them, A30 (the same result in any order) below.
"""

import os
import random
import re
import subprocess
import sys

import judge
import pytest

import dicomcases
from dicomcases import CASES
from dicommake import Maker
from mrsynth import dicom, index, volume
from mrsynth.convert import convert
from mrsynth.errors import Refusal

KEY = bytes(range(32))
SAYS_NOTHING = {"", "TILT", "UNEVEN", "HU_RANGE", "LOSSY"}
"""Codes of a volume that is there: what was done with it, or that the made values span 400 HU."""


def made(folder, case):
    """The case's folder and its true volumes."""
    folder.mkdir()
    return case.make(Maker(folder, seed=1))


def converted(found: index.Index, options: dict) -> judge.Output:
    """Volumes of all used series, and all codes."""
    output = judge.Output(messages=[*found.files["code"], *found.series["code"]])
    for table in found.private.values():
        for stack in sorted(set(table["stack"])):
            try:
                image, _ = convert(table[table["stack"] == stack], **options)
            except Refusal as refusal:
                output.messages.append(refusal.code)
                continue
            output.volumes.append((volume.to_array(image), volume.affine(image)))
    output.messages = [code for code in output.messages if code not in SAYS_NOTHING]
    return output


def check_states(found: index.Index, folder) -> None:
    """A29: every file ends in one state with a reason; the sum equals the count."""
    names = {os.path.join(place, name) for place, _, names in os.walk(folder) for name in names}
    assert set(found.paths["path"]) == names
    assert len(found.files) == len(names)
    for row in found.files.itertuples():
        assert row.state in ("used", "skipped", "refused")
        assert (row.code == "") == (row.state == "used")
    used = found.files[found.files["state"] == "used"]
    listed = {path for table in found.private.values() for path in table["path"]}
    assert len(used) == len(listed)
    assert set(used["series"]) == set(found.private)
    assert (found.files[found.files["state"] == "refused"]["code"] != "").all()


@pytest.mark.parametrize("name", CASES)
def test_case(name, tmp_path, monkeypatch):
    # Ten bombs of half a gigabyte take a minute to make; index stops at a seventh of that.
    monkeypatch.setattr(dicomcases, "BOMB_BYTES", dicom.INFLATED_BYTES + 2**23)
    case = CASES[name]
    truths = made(tmp_path / "dicom", case)
    found = index.scan([tmp_path / "dicom"], key=KEY, **case.options.get("index", {}))
    check_states(found, tmp_path / "dicom")
    output = converted(found, case.options.get("convert", {}))
    assert judge.verdict(output, truths) == case.expect, output.messages
    if case.code and case.expect == "refused":
        assert case.code in {*found.files["code"], *found.series["code"], *output.messages}
    for row in found.series.to_dict("records"):
        assert (row["status"] == "used") or row["code"]
        assert row["status"] != "refused" or (row["message"] and row["remedy"])


def test_all_lines_are_there():
    numbers = {int(re.match(r"A(\d+)", name)[1]) for name in CASES}
    assert numbers | {29, 30} == set(range(1, 31))


@pytest.mark.parametrize("name", ["A7", "A9-echoes", "A4-copy", "A12-order", "A22-patient"])
def test_any_order_of_the_files_gives_the_same(name, tmp_path, monkeypatch):
    """A30: tables and volumes do not depend on the order in which a disk lists its files."""
    made(tmp_path / "dicom", CASES[name])

    def result():
        found = index.scan([tmp_path / "dicom"], key=KEY)
        tables = [found.series, found.files, found.paths, *found.private.values()]
        output = converted(found, {})
        texts = [table.to_csv(index=False) for table in tables]
        return texts, [(a.tobytes(), m.tobytes()) for a, m in output.volumes]

    first = result()
    listed = dicom.list_files

    def shuffled(*args, **options):
        paths = listed(*args, **options)
        random.Random(3).shuffle(paths)
        return paths

    monkeypatch.setattr(dicom, "list_files", shuffled)
    assert result() == first


def test_any_hash_seed_gives_the_same(tmp_path):
    """A30: Python's random order of sets reaches no output."""
    made(tmp_path / "dicom", CASES["A9-echoes"])
    code = (
        "import sys; from mrsynth import index; "
        "found = index.scan([sys.argv[1]], key=bytes(32)); "
        "print(found.series.to_csv(), found.files.to_csv(), "
        "*(table.to_csv() for table in found.private.values()))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "dicom")],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
