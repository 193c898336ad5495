"""Privacy and safety rules that hold for the whole source, and those of single functions.

The canary test (tests/workflow/test_canary.py) searches what a study leaves behind; here is what
can be said without running one.
"""

import ast
import base64
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk

from canary import WORD, Marker, Search
from mrsynth import index, job, pseudonym, volume, wishes
from mrsynth.convert import convert
from mrsynth.errors import StudyError

ROOT = Path(__file__).parents[2]
SOURCES = [
    *sorted((ROOT / "src").rglob("*.py")),
    *sorted((ROOT / "workflow").rglob("*.py")),
    *sorted((ROOT / "benchmarks").glob("*.py")),
]
RULES = [ROOT / "Snakefile", *sorted((ROOT / "workflow").rglob("*.smk"))]
KEY = bytes(range(32))
FORBIDDEN = {
    "pickle.load",
    "pickle.loads",
    "joblib.load",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "os.system",
    "os.popen",
    "eval",
    "exec",
}
"""Calls that run what a file says."""
IDS = 20_000


def calls(path: Path):
    """Name and node of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(node: ast.Call) -> dict[str, str]:
    return {word.arg: ast.unparse(word.value) for word in node.keywords}


def faults(path: Path) -> list[str]:
    """Calls of a file that could run code of a data file, or a shell."""
    found = []
    for name, node in calls(path):
        given = keywords(node)
        if name in FORBIDDEN or given.get("shell") == "True":
            found.append(name)
        if name.endswith("np.load") and given.get("allow_pickle") == "True":
            found.append(name)
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(name)
    return [f"{path.name}: {name}" for name in found]


def test_nothing_loads_pickles_or_runs_a_shell():
    assert [fault for path in SOURCES for fault in faults(path)] == []


@pytest.mark.parametrize(
    "line",
    [
        "yaml.load(x)",
        "np.load(x, allow_pickle=True)",
        "torch.load(x)",
        "subprocess.run(x, shell=True)",
        "pickle.loads(x)",
    ],
)
def test_the_search_for_such_calls_finds_them(tmp_path, line):
    (tmp_path / "bad.py").write_text(f"import yaml\n{line}\n")
    assert faults(tmp_path / "bad.py")


def test_rules_have_no_shell_and_no_plain_run():
    """Values of a study never meet a shell: every rule uses `script:`."""
    for path in RULES:
        assert not re.search(r"^\s+(shell|run):", path.read_text(), flags=re.MULTILINE), path.name


def test_errors_of_all_modules_that_touch_header_text_are_withheld():
    """An unforeseen error in a module that reads DICOM or archives may quote a header."""
    touching = set()
    for path in (ROOT / "src/mrsynth").glob("*.py"):
        text = path.read_text()
        if re.search(r"^(import|from) (pydicom|zipfile|tarfile)", text, flags=re.MULTILINE):
            touching.add(f"mrsynth.{path.stem}")
    assert touching
    assert touching <= set(job.READERS)


@pytest.mark.parametrize("module", sorted(job.READERS))
def test_the_text_of_an_error_from_a_reader_is_withheld(module):
    namespace = {"__name__": module}
    exec(compile(f"def fail():\n    raise ValueError('{WORD}')", module, "exec"), namespace)
    try:
        namespace["fail"]()
    except ValueError:
        text = job._safe_traceback()
    assert WORD not in text
    assert "ValueError" in text


def test_a_pseudonym_is_not_found_by_trying_all_ids():
    """Neither plain hashes nor HMACs under other keys of a hospital's numbers give it."""
    ids = [f"{number:08d}" for number in range(IDS)]
    wanted = pseudonym.subject(KEY, ids[12345])
    for kind in ("md5", "sha1", "sha256", "sha512"):
        for person in ids:
            digest = hashlib.new(kind, person.encode())
            assert base64.b32encode(digest.digest()).decode()[:8] != wanted
    others = {pseudonym.subject(b"another key of 32 bytes, in full", person) for person in ids}
    assert wanted not in others
    assert wanted == pseudonym.subject(KEY, ids[12345])


def test_no_two_keys_name_alike():
    assert pseudonym.subject(KEY, "1") != pseudonym.subject(KEY[::-1], "1")
    keys = {pseudonym.read_key(ROOT / f"none/{n}", key.hex()) for n, key in enumerate([KEY])}
    assert keys == {KEY}


def test_private_files_are_written_for_their_owner_alone(tmp_path):
    old = os.umask(0)
    try:
        pseudonym.write_private(tmp_path / "private/deep/key", "text")
        key = pseudonym.read_key(tmp_path / "private")
    finally:
        os.umask(old)
    assert len(key) == 32
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "private").rglob("*")}
    assert modes == {"deep": 0o700, "key": 0o600}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_a_written_volume_carries_no_text(tmp_path, suffix):
    image = sitk.Image(4, 4, 4, sitk.sitkFloat32)
    for name in ("0010|0010", "descrip", "aux_file", "intent_name", "ITK_FileNotes"):
        image.SetMetaData(name, f"{WORD} {name}")
    naive = tmp_path / "naive.mha"
    sitk.WriteImage(image, naive)
    assert Search().tree(tmp_path), "a naive writer would have leaked"
    naive.unlink()
    volume.write_volume(image, tmp_path / f"image{suffix}")
    assert Search().tree(tmp_path) == []


def test_overlays_private_elements_and_texts_end_in_no_volume(dicom_writer, tmp_path):
    """Group 6000, private elements and the word in the unused high bits of the pixels."""
    grid = np.arange(20, dtype=np.int16).reshape(4, 5)
    paths = dicom_writer.stack(range(3), pixels=[grid] * 3, BitsStored=12, HighBit=11)
    for path in paths:
        dataset = Marker("one").mark(pydicom.dcmread(path))
        dataset.PixelData = (grid | 0x5000).astype("<i2").tobytes()
        dataset.save_as(path)
    found = index.scan([dicom_writer.folder], key=KEY)
    (table,) = found.private.values()
    image = convert(table)[0]
    assert np.array_equal(volume.to_array(image)[0], grid)
    (tmp_path / "out").mkdir()
    volume.write_volume(image, tmp_path / "out/image.nii.gz")
    assert Search().tree(tmp_path / "out") == []


@pytest.mark.parametrize("text", ["../../x;rm -rf $(id)", "x" * 300, "a\nb\t`id`", "%s {x!r}"])
def test_a_description_names_no_file_and_reaches_no_table(dicom_writer, text):
    dicom_writer.stack(range(3), SeriesDescription=text, ProtocolName=text, PatientID=text)
    found = index.scan([dicom_writer.folder], key=KEY)
    row = found.series.to_dict("records")[0]
    assert row["status"] == "used"
    assert re.fullmatch(r"ser-[A-Z2-7]{8}", row["series"])
    assert re.fullmatch(r"[A-Z2-7]{8}", row["subject"])
    assert text not in found.series.to_csv()


BURNED = [
    {"BurnedInAnnotation": "YES"},
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2"},
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67"},
    {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
    {"SyntheticData": "YES"},
]


@pytest.mark.parametrize("elements", BURNED, ids=lambda elements: "".join(map(str, elements)))
def test_pictures_that_may_name_a_patient_or_are_invented_are_not_used(dicom_writer, elements):
    dicom_writer.stack(range(4), **elements)
    found = index.scan([dicom_writer.folder], key=KEY)
    assert "used" not in set(found.files["state"])
    assert not found.private


@pytest.mark.parametrize(
    "text",
    [
        f"subject\n{WORD}-ID-7\n",
        "subject\n20371107\n",
        f"{WORD}\ttest\n",
        f"subject\tsplit\nAAAAAAAA\t{WORD}\n",
        f"subject\texclude\nAAAAAAAA\t{WORD}\n",
        "subject\tinterval_days\nAAAAAAAA\t2037-11-07\n",
        f"subject\tsource_series\nAAAAAAAA\t{WORD}\n",
        f"subject\ttask\nAAAAAAAA\t{WORD}\n",
    ],
)
def test_a_patient_in_the_cohort_sheet_by_mistake_is_not_quoted(tmp_path, text):
    (tmp_path / "cohort.tsv").write_text(text)
    series = pd.DataFrame([{"subject": "AAAAAAAA", "series": "ser-AAAAAAAA"}])
    with pytest.raises(StudyError) as caught:
        wishes.check(wishes.read_sheet(tmp_path / "cohort.tsv"), series, {"task": {}})
    assert Search().text(str(caught.value).replace(str(tmp_path), "").encode()) == []
    assert "not shown" in str(caught.value)


def test_temporary_files_are_removed_when_a_job_crashes(tmp_path):
    outputs = {"image": str(tmp_path / "results/a.nii.gz")}

    def crash():
        with job._temporary(outputs) as paths:
            Path(paths["image"]).write_text("half")
            assert Path(paths["image"]).exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash()
    assert list((tmp_path / "results").iterdir()) == []


CHILD = """
import sys, time
from mrsynth import decoder
decoder.decode(len, "abc")
print([p.pid for p in decoder._child._processes.values()][0], flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_decoders_child_dies_with_a_killed_parent():
    parent = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not alive(child):
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the child is still there")


def alive(process: int) -> bool:
    """Whether a process runs; a zombie that nobody has collected yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
