"""Wrong settings are refused before any job starts, with the key."""

import shutil

import pytest


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("width_hu: 400", "widht_hu: 400", ["widht_hu", "width_hu"]),
        ("source: ct", "source: cd", ["tasks.lumbar.source", "'cd'"]),
        ("objective: regression", "objective: regresion", ["objective", "regresion"]),
    ],
)
def test_wrong_setting(changed, old, new, words):
    changed.edit("config/config.yaml", old, new)
    done = changed.snakemake(check=False)
    assert done.returncode != 0
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_dicom_folder(fresh, tmp_path):
    study = fresh(tmp_path)
    text = (tmp_path / "config/config.yaml").read_text()
    start, end = text.index("phantom:"), text.index("images:")
    text = text[:start] + text[end:]
    (tmp_path / "config/config.yaml").write_text(text.replace("results/phantom/dicom", "nowhere"))
    done = study.snakemake(check=False)
    assert done.returncode != 0
    assert "'nowhere' does not exist" in done.stderr
    assert not (tmp_path / "logs").exists(), "no job was started"


def test_a_fold_without_training_subjects(changed):
    """Told from the sheet, before any job of the fold."""
    sheet = changed.folder / "results/cohort/cohort.tsv"
    lines = [line.split("\t") for line in sheet.read_text().splitlines()]
    for line in lines[1:]:
        line[lines[0].index("unit")] = "0.100000"
    sheet.write_text("\n".join("\t".join(line) for line in lines) + "\n")
    assert "nobody to train on" in changed.plan()
    shutil.rmtree(changed.folder / "results/pack")
    done = changed.snakemake("datasets", check=False)
    assert done.returncode != 0
    assert "nobody to train on" in done.stderr


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("results/train/lumbar/l2/fold-0/weights.safetensors", ["l2", "l1"]),
        ("results/train/lumbar/l1/fold-5/weights.safetensors", ["5", "cohort.folds"]),
    ],
)
def test_unknown_model_or_fold(finished, target, words):
    done = finished.snakemake(target, check=False)
    assert done.returncode != 0
    for word in words:
        assert word in done.stderr
