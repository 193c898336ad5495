"""No name, date or UID of a patient leaves `private/`: a whole study on marked DICOM.

Every text, date, time and UID of the input is marked (tests/canary.py), the file and folder names
too. The study is run to its tables and its report, then made to fail in the ways in which programs
like to quote their input. Afterwards everything that it left is searched.
"""

import csv
import json
import os
import shutil
from pathlib import Path

import pydicom
import pytest
import yaml

from canary import WORD, Marker, Search
from mrsynth import phantom, pseudonym, study

ROOT = Path(__file__).parents[2]
EXPORT = f"{WORD} export"
PERSONS = ("one", "two", "three")
"""One each to train on, to validate and to test with: the least that a fold needs."""
OWN = ("private", "config", "src", "workflow", "Snakefile", "profiles", "envs", EXPORT)
"""What is not an output: the user's input and settings, the private folder, the code."""

PLANTED = """
def _planted(dataset):
    import pydicom

    raise ValueError(f"{dataset.PatientName} {dataset.PatientID} {dataset}")
"""


def settings() -> dict:
    """The tests' study, smaller, on the marked tree."""
    config = yaml.safe_load((ROOT / "tests/data/tiny.yaml").read_text())
    del config["phantom"], config["key_hex"]
    config["dicom"] = [EXPORT]
    config["tasks"]["lumbar"]["models"] = {"l1": {"objective": "regression"}}
    config["train"] |= {
        "constant_iterations": 1,
        "decay_iterations": 1,
        "total_iterations": 2,
        "validation_every": 1,
        "history_every": 1,
    }
    return config


def write_export(folder: Path) -> list[str]:
    """Marked DICOM of three persons with a pair, and series that are refused; returns the IDs."""
    block = yaml.safe_load((ROOT / "tests/data/tiny.yaml").read_text())["phantom"]
    schemas = study.load_schemas(ROOT / "workflow/schemas")
    config = study.with_defaults(block, schemas["phantom"])
    ids = []
    for number, person in enumerate(PERSONS, start=1):
        plain = folder.parent / "plain"
        phantom.make(number, plain, folder.parent / "truth", **config)
        marker = Marker(person)
        ids.append(marker.patient_id())
        files = sorted(path for path in plain.rglob("*") if path.is_file())
        for count, path in enumerate(files):
            dataset = marker.mark(pydicom.dcmread(path), full=count % 20 == 0)
            name = f"{WORD}^{person}/20371107 {WORD}/{dataset.Modality}_{WORD}_{count}.dcm"
            save(dataset, folder / name)
        shutil.rmtree(plain)
        shutil.rmtree(folder.parent / "truth")
    whole = folder / f"{WORD}^one"
    first = {kind: sorted(whole.rglob(f"{kind}_*")) for kind in ("CT", "MR")}
    ids += [write_bad(folder, first, name) for name in BAD]
    (folder / f"{WORD}.html").write_text(f"<html>{WORD}</html>")
    (folder / f"{WORD}.zip").write_bytes(b"PK\x03\x04" + WORD.encode())
    return ids


def save(dataset: pydicom.Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


BAD = ("cut", "gap", "padding", "decimals", "integers", "text")
LATE = "padding"


def write_bad(folder: Path, files: dict[str, list[Path]], kind: str) -> str:
    """Small series of one person more that must be refused; returns the ID.

    The person of `LATE` has a pair, whose CT only `convert` can refuse.
    """
    marker = Marker(kind)
    for modality in ("CT", "MR") if kind == LATE else ("CT",):
        for count, path in enumerate(files[modality][:5]):
            dataset = pydicom.dcmread(path)
            dataset.PatientID, dataset.PatientName = marker.patient_id(), f"{WORD}^{kind}"
            for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                dataset[name].value = marker.uid(str(dataset[name].value))
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            # Heights of their own, since the files' names are shuffled.
            dataset.ImagePositionPatient = [0, 0, 3 * count + 3 * (kind == "gap" and count > 2)]
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            dataset.PixelSpacing = [2, 2]
            target = folder / f"{WORD}^{kind}/{modality}_{WORD}_{count}"
            write_spoilt(dataset, target, kind if modality == "CT" else "")
            if kind == "cut" and count == 2:
                target.write_bytes(target.read_bytes()[:-1000])
    return marker.patient_id()


def write_spoilt(dataset, target: Path, kind: str) -> None:
    """Write a file with the word where numbers should be."""
    SPOIL.get(kind, lambda dataset: None)(dataset)
    with pydicom.config.disable_value_validation():
        save(dataset, target)
    content = target.read_bytes()
    for plain, spoilt in RENAMED.get(kind, []):
        assert plain in content
        content = content.replace(plain, spoilt)
    target.write_bytes(content)


def _as_text(*keywords):
    """Write the word into elements that should hold numbers; their VR is put back afterwards."""

    def spoil(dataset):
        for keyword in keywords:
            dataset.add_new(keyword, "LO", f"{WORD} number")

    return spoil


def _tag(keyword: str, vr: str) -> bytes:
    tag = pydicom.tag.Tag(keyword)
    return tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + vr.encode()


DECIMALS = ("SliceThickness", "KVP", "RescaleSlope", "ImagePositionPatient", "PixelSpacing")
INTEGERS = ("InstanceNumber", "AcquisitionNumber", "SeriesNumber", "EchoTrainLength")
SPOIL = {
    "gap": lambda dataset: setattr(dataset, "Modality", WORD.upper()),
    "padding": _as_text("PixelPaddingValue"),
    "decimals": _as_text(*DECIMALS),
    "integers": _as_text(*INTEGERS),
    "text": _as_text("Rows", "BitsStored"),
}
RENAMED = {
    "decimals": [(_tag(name, "LO"), _tag(name, "DS")) for name in DECIMALS],
    "integers": [(_tag(name, "LO"), _tag(name, "IS")) for name in INTEGERS],
    "text": [(_tag("Rows", "LO"), _tag("Rows", "US"))],
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory, make_checkout):
    """The folder of the study after all runs, what was printed, and the patients' IDs."""
    folder = tmp_path_factory.mktemp("canary")
    (folder / "study.yaml").write_text(yaml.safe_dump(settings(), sort_keys=False))
    place = folder / "study"
    place.mkdir()
    checkout = make_checkout(place, folder / "study.yaml")
    (place / "tmp").mkdir()
    checkout.environment = {"TMPDIR": str(place / "tmp")}
    ids = write_export(place / EXPORT)
    (place / "private").mkdir(mode=0o700)
    write_links(place, [(person, person) for person in ids])
    said = []

    def snakemake(*arguments, fails=False):
        done = checkout.snakemake(*arguments, check=False)
        assert (done.returncode != 0) == fails, done.stderr[-5000:] + checkout.logs()
        said.append(done.stdout + done.stderr)
        return done

    write_sheet(place)
    snakemake()
    snakemake("--report", "report.html")
    # Snakemake removes the outputs of jobs that it repeats, so what is there is looked at now.
    seen = facts(place)
    seen["marks"] = Search(ids).tree(place, skip=OWN)
    fail(checkout, snakemake, ids)
    return place, said, ids, seen


def facts(folder: Path) -> dict:
    """What the finished study holds, to know that there was something to search."""
    rows = read_rows(folder / "results/index/series.tsv")
    records = [json.loads(path.read_text()) for path in folder.glob("results/convert/*.json")]
    return {
        "report": (folder / "report.html").stat().st_size,
        "summary": (folder / "results/conclude/summary.md").is_file(),
        "tables": len(list((folder / "results/summarize").rglob("*.tsv"))),
        "figures": len(list((folder / "results").rglob("*.png"))),
        "codes": {row["code"] for row in rows} | {record.get("code") for record in records},
        "used": sum(row["status"] == "used" for row in rows),
    }


def write_links(folder: Path, rows) -> None:
    lines = ["patient_id\tperson", *(f"{patient}\t{person}" for patient, person in rows)]
    (folder / "private/links.tsv").write_text("\n".join(lines) + "\n")


def read_rows(path: Path) -> list[dict]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def write_sheet(folder: Path) -> None:
    """The user's sheet: one subject with a pair into each role."""
    key = pseudonym.read_key(folder / "private")
    roles = dict(zip((*PERSONS, LATE), ("train", "validation", "test", "train"), strict=True))
    lines = [
        f"{pseudonym.subject(key, Marker(person).patient_id())}\t{role}"
        for person, role in roles.items()
    ]
    (folder / "config/cohort.tsv").write_text("\n".join(["subject\tsplit", *lines]) + "\n")


def fail(checkout, snakemake, ids: list[str]) -> None:
    """Runs that fail, each in a way that tempts a program to quote its input."""
    folder = checkout.folder
    write_links(folder, [(ids[0], "one"), (ids[0], f"{WORD} other")])
    snakemake("cohort", "-R", "index", fails=True)
    assert "links.tsv" in checkout.logs()
    (folder / "private/links.tsv").write_text(f"{WORD}\n{ids[0]}\n")
    snakemake("cohort", "-R", "index", fails=True)
    (folder / "private/links.tsv").unlink()
    module = folder / "src/mrsynth/pixels.py"
    text = module.read_text()
    for place in ("def padding(", "def stored_values("):
        if place in text:
            head, tail = text.split(place, 1)
            body = tail.index('"""', tail.index('"""') + 3) + 3
            text = f"{head}{place}{tail[:body]}\n    _planted(dataset){tail[body:]}"
            break
    module.write_text(text + PLANTED)
    done = snakemake("--keep-going", "--show-failed-logs", "-R", "convert", fails=True)
    assert "text withheld" in done.stderr + checkout.logs(), "the planted error was raised"


def test_the_study_is_complete(ran):
    seen = ran[3]
    assert seen["report"] > 100_000
    assert seen["summary"]
    assert seen["tables"] >= 5
    assert seen["figures"] >= 5
    assert seen["codes"] >= {"CORRUPT", "MISSING_SLICES", "BAD_PADDING"}
    assert seen["used"] >= 2 * len(PERSONS)


def test_no_mark_in_the_finished_study(ran):
    assert ran[3]["marks"] == []


def test_no_mark_after_the_failing_runs(ran):
    folder, _, ids, _ = ran
    assert Search(ids).tree(folder, skip=OWN) == []


def test_no_mark_on_the_terminal(ran):
    _, said, ids, _ = ran
    assert [hit for text in said for hit in Search(ids).text(text.encode())] == []


def test_the_input_was_marked_and_the_private_folder_knows_it(ran):
    """What makes the other tests worth something."""
    folder, _, ids, _ = ran
    path = next((folder / EXPORT).rglob("CT_*"))
    assert len(Search(ids).text(path.read_bytes())) > 2
    assert Search(ids).tree(folder / "private/index")


def test_temporary_files_are_gone(ran):
    folder, *_ = ran
    assert [path for path in (folder / "tmp").rglob("*") if path.is_file()] == []
    assert list((folder / "results").rglob(".tmp-*")) == []


def test_private_files_are_their_owners_alone(ran):
    folder, *_ = ran
    for path in (folder / "private").rglob("*"):
        limit = 0o700 if path.is_dir() else 0o600
        if path.name != "links.tsv":
            assert os.stat(path).st_mode & 0o777 == limit, path.name
