"""New patients, new visits and the private lists come in; nobody who was there moves."""

import shutil
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid

TABLES = ("cohort", "candidates")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


def lines(folder: Path, table: str) -> list[bytes]:
    """Lines of a table of `cohort`, as bytes."""
    return (folder / f"results/cohort/{table}.tsv").read_bytes().splitlines()


def test_five_patients_more_leave_every_old_row_as_it_was(finished, fresh, tmp_path):
    study = fresh(tmp_path)
    text = (tmp_path / "config/config.yaml").read_text()
    start, end = text.index("phantom:"), text.index("images:")
    text = (text[:start] + text[end:]).replace("results/phantom/dicom", "export")
    text = text.replace("cohort: {", "cohort: {folds: 3, visits: all, ")
    (tmp_path / "config/config.yaml").write_text(text)
    made = sorted((finished.folder / "results/phantom/dicom").iterdir())
    copy(made[0], tmp_path / "export/first", "first")
    study.snakemake("cohort")
    before = {name: lines(tmp_path, name) for name in TABLES}
    for number, folder in enumerate(made[1:6]):
        copy(folder, tmp_path / f"export/new-{number}", f"new-{number}")
    study.snakemake("cohort")
    for name, old in before.items():
        new = lines(tmp_path, name)
        assert len(old) >= 2
        assert len(new) >= len(old) + 5, name
        assert set(old) <= set(new), f"{name}: an old row changed"
    grown = set(lines(tmp_path, "cohort"))
    copy(made[0], tmp_path / "export/again", "first-again", days=40)
    (tmp_path / "private/links.tsv").write_text("patient_id\tperson\nfirst-again\tfirst\n")
    (tmp_path / "private/exclude.tsv").write_text("patient_id\nnew-0\n")
    said = study.snakemake("cohort").stderr
    assert "a list in the private folder" in said
    now = set(lines(tmp_path, "cohort"))
    (withdrawn,) = [line.split(b"\t")[1] for line in grown - now]
    assert withdrawn != before["cohort"][1].split(b"\t")[1]
    names = {line.split(b"\t")[1]: line for line in now - grown}
    assert b"\tLISTED\t" in names.pop(withdrawn)
    (visit,) = [name.decode() for name in names]
    assert visit.split("_ses-")[0] == before["cohort"][1].split(b"\t")[1].decode()
    plan = study.plan()
    assert f"sub-{visit}_ct.nii.gz" in plan, "a visit is a subject of the workflow"
    for path in ("flow.png", "flow.tsv", "demographics.md", "demographics.tsv"):
        assert (tmp_path / "results/cohort" / path).stat().st_size > 100
    private = tmp_path / "private/index/persons.tsv"
    assert "age_years" in private.read_text()
    assert "age_years" not in (tmp_path / "results/index/series.tsv").read_text()


def copy(source: Path, folder: Path, patient: str, days: int = 0) -> None:
    """Copy a patient's files under another ID; a later visit has studies and frames of its own."""
    shutil.copytree(source, folder)
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            dataset = pydicom.dcmread(path)
            dataset.PatientID = patient
            dataset.StudyDate = f"2031{1 + days // 28:02d}{1 + days % 28:02d}"
            for name in UIDS if days else ():
                setattr(
                    dataset, name, generate_uid(entropy_srcs=[getattr(dataset, name), str(days)])
                )
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(path)
