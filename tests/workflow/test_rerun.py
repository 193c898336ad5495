"""The rerun matrix: edit one thing, and exactly these jobs are executed.

Jobs are counted by the logs that they rewrite, never by a dry run.
"""

import os
import shutil
from pathlib import Path

AFTER_TRAIN = {"train", "synthesize", "evaluate", "summarize", "plot", "conclude"}
AFTER_PACK = {"pack"} | AFTER_TRAIN
SHOWN = {"show", "review"}


def test_the_same_command_again_does_nothing(changed):
    assert changed.executed() == {}


def test_one_window_width(changed):
    changed.edit("config/config.yaml", "width_hu: 400", "width_hu: 420")
    assert set(changed.executed()) == {"window", "crop"} | SHOWN | AFTER_PACK


def test_a_registration_setting(changed):
    changed.edit("config/config.yaml", "register: {seed: 1", "register: {seed: 2")
    ran = changed.executed()
    assert set(ran) == {"register", "warp", "window", "pick", "crop"} | SHOWN | AFTER_PACK


def test_an_evaluation_setting_trains_nothing(changed):
    changed.edit("src/mrsynth/evaluate.py", "def evaluate(", "EDITED = 1\n\n\ndef evaluate(")
    assert set(changed.executed()) == {"evaluate", "summarize", "plot", "conclude"}


def test_comments_and_touched_files_do_nothing(changed):
    for name in ("cohort", "index", "convert", "train", "pack"):
        path = changed.folder / f"src/mrsynth/{name}.py"
        path.write_text(path.read_text() + "\n# a comment\n")
        os.utime(changed.folder / f"workflow/scripts/{name}.py")
    for path in (changed.folder / "results/phantom/dicom").rglob("*"):
        os.utime(path)
    assert changed.executed() == {}


def test_one_objective_retrains_its_models_only(changed):
    path = changed.folder / "src/mrsynth/models/regression.py"
    path.write_text(path.read_text() + "\nEDITED = 1\n")
    ran = changed.executed()
    assert set(ran) == AFTER_TRAIN
    assert ran["train"] == ["lumbar/l1/fold-0"]
    assert ran["synthesize"] == ["lumbar/l1/fold-0"]


def test_code_of_the_cohort_reaches_no_training(changed):
    path = changed.folder / "src/mrsynth/cohort.py"
    path.write_text(path.read_text() + "\nEDITED = 1\n")
    assert not {"train", "convert", "register"} & set(changed.executed())
    assert set(changed.executed("cohort")) <= {"index", "cohort"}
    assert changed.executed() == {}


def test_a_new_subject_spares_the_others(changed):
    before = set(subjects(changed.folder))
    changed.edit("config/config.yaml", "subjects: 6", "subjects: 7")
    plain = changed.snakemake()
    assert "snakemake cohort" in plain.stderr, "a drift is said at start"
    ran = changed.executed("cohort")
    assert ran["phantom"] == ["7"]
    assert set(ran) == {"phantom", "index", "cohort"}
    new = set(subjects(changed.folder)) - before
    assert len(new) == 1
    ran = changed.executed()
    for stage in (
        "convert",
        "locate",
        "resample",
        "register",
        "warp",
        "window",
        "pick",
        "crop",
        "show",
    ):
        assert all(new.copy().pop() in name for name in ran[stage]), stage
    row = next(row for row in rows(changed.folder) if row["subject"] in new)
    role = "train" if float(row["unit"]) >= 0.6 else "other"
    assert ("train" in ran) == (role == "train")


def test_new_scans_in_a_users_tree(finished, fresh, tmp_path):
    """The tree is no input of any job: its change is said at start, `snakemake cohort` takes it."""
    study = fresh(tmp_path)
    text = (tmp_path / "config/config.yaml").read_text()
    start, end = text.index("phantom:"), text.index("images:")
    text = text[:start] + text[end:]
    (tmp_path / "config/config.yaml").write_text(text.replace("results/phantom/dicom", "export"))
    made = sorted((finished.folder / "results/phantom/dicom").iterdir())
    for folder in made[:-1]:
        shutil.copytree(folder, tmp_path / "export" / folder.name)
    study.snakemake("cohort")
    before = rows(tmp_path)
    assert "Nothing to be done" in study.snakemake("cohort").stderr
    shutil.copytree(made[-1], tmp_path / "export" / made[-1].name)
    assert "the input tree changed" in study.plan()
    assert set(study.executed("cohort")) == {"index", "cohort"}
    after = rows(tmp_path)
    assert len(after) == len(before) + 1
    assert all(row in after for row in before), "old subjects keep their places"


def test_the_tree_of_dicom_is_never_written(finished):
    dicom = finished.folder / "results/phantom/dicom"
    files = [path for path in dicom.rglob("*") if path.is_file()]
    made = max(path.stat().st_mtime for path in files if path.name != ".snakemake_timestamp")
    indexed = (finished.folder / "results/index/series.tsv").stat().st_mtime
    assert made <= indexed


def rows(folder: Path) -> list[dict]:
    lines = (folder / "results/cohort/cohort.tsv").read_text().splitlines()
    keys = lines[0].split("\t")
    return [dict(zip(keys, line.split("\t"), strict=False)) for line in lines[1:]]


def subjects(folder: Path) -> list[str]:
    return [row["subject"] for row in rows(folder)]
