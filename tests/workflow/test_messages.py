"""Wrong settings are refused before any job starts, with the key."""

import pytest

pytestmark = pytest.mark.xdist_group("workflow")


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
