"""Settings are merged as documented, and every mistake names its key."""

from pathlib import Path

import pytest
import yaml

from mrsynth import study
from mrsynth.errors import StudyError

SCHEMAS = study.load_schemas(Path(__file__).parents[2] / "workflow/schemas")


def config(**changes) -> dict:
    base = {
        "dicom": ["dicom"],
        "images": {"ct": {"modality": "CT"}, "t2": {"modality": "MR", "weighting": "T2"}},
        "tasks": {"lumbar": {"source": "ct", "target": "t2", "models": {"gan": {}}}},
    }
    return study.deep_merge(base, changes)


def load(**changes) -> study.Study:
    return study.load(config(**changes), SCHEMAS)


def test_defaults_fill_every_block():
    loaded = load()
    for stage in study.TASK_STAGES:
        properties = SCHEMAS[stage].get("properties", {})
        assert set(loaded.block(stage, "lumbar")) >= {
            k for k, v in properties.items() if "default" in v
        }


def test_task_overrides_block_and_model_overrides_task():
    loaded = load(
        train={"lambda_l1": 1.0, "seed": 7},
        tasks={
            "lumbar": {
                "train": {"lambda_l1": 2.0},
                "models": {"gan": {"lambda_l1": 3.0}, "other": {}},
            }
        },
    )
    assert loaded.block("train", "lumbar", "gan")["lambda_l1"] == 3.0
    assert loaded.block("train", "lumbar", "other")["lambda_l1"] == 2.0
    assert loaded.block("train", "lumbar", "other")["seed"] == 7


def test_seeds_expand_to_models():
    loaded = load(tasks={"lumbar": {"models": {"gan": {"seeds": [3, 5]}}}})
    assert loaded.models == {"lumbar": ["gan-seed3", "gan-seed5"]}
    assert loaded.block("train", "lumbar", "gan-seed5")["seed"] == 5


def test_a_block_is_a_copy():
    loaded = load()
    loaded.block("train", "lumbar")["seed"] = -1
    assert loaded.block("train", "lumbar")["seed"] != -1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"regsiter": {}}, ["regsiter", "register"]),
        ({"train": {"lamda_l1": 1}}, ["train.lamda_l1", "lambda_l1"]),
        ({"train": {"lambda_l1": "ten"}}, ["train.lambda_l1", "'ten'"]),
        ({"tasks": {"lumbar": {"train": {"seeed": 1}}}}, ["tasks.lumbar.train.seeed", "seed"]),
        (
            {"tasks": {"lumbar": {"models": {"gan": {"seeed": 1}}}}},
            ["tasks.lumbar.models.gan.seeed", "seed"],
        ),
        ({"tasks": {"lumbar": {"source": "mr"}}}, ["tasks.lumbar.source", "'mr'", "ct, t2"]),
        ({"tasks": {"lumbar": {"source": "t2"}}}, ["tasks.lumbar.source", "different"]),
        ({"images": {"ct": {"modality": "PET"}}}, ["images.ct.modality", "PET"]),
        ({"key_hex": "xyz"}, ["key_hex", "xyz"]),
        ({"tasks": {"lumbar": {"models": {"gan": {"objective": "gann"}}}}}, ["objective", "gann"]),
        ({"train": {"total_iterations": 300000}}, ["train.total_iterations", "300000"]),
        ({"pack": {"size": [64, 128]}}, ["train.discriminator.strided", "pack.size", "128"]),
        ({"train": {"discriminator": {"tail": 12}}, "pack": {"size": [96, 96]}}, ["pack.size"]),
        ({"pick": {"slices": "all"}}, ["pick.slices", "pack.crop"]),
        ({"pick": {"slices": "midsagittal"}}, ["pick.slices", "pack.crop"]),
        ({"pick": {"levels": ["L9-L10"]}}, ["pick.levels", "L9-L10"]),
        ({"locate": {"image": "cr"}}, ["locate.image", "'cr'"]),
        ({"locate": {"source": "labels"}}, ["locate.file", "{subject}"]),
        ({"evaluate": {"regions": ["image"]}}, ["summarize.difference_region", "evaluate.regions"]),
        ({"evaluate": {"metrics": ["mae"]}, "summarize": {"difference_metric": "ssim"}}, ["ssim"]),
        ({"tasks": {"lumbar": {"models": {"lookup": {}}}}}, ["lookup", "baseline"]),
        ({"tasks": {"lumbar": {"bridge": "t2"}}}, ["bridge", "t2"]),
        ({"register": {"levels_mm": [5.0]}}, ["register.levels_mm", "register.samples"]),
        ({"register": {"ct_window_hu": [500, -200]}}, ["register.ct_window_hu"]),
        ({"register": {"mask": "user"}}, ["register.mask", "register.mask_files"]),
        ({"window": {"target": {"lower_percentile": 99.9}}}, ["window.target.lower_percentile"]),
        ({"window": {"target": {"method": "window"}}}, ["window.target.method", "MR"]),
        ({"cohort": {"test": 0.6, "validation": 0.4}}, ["cohort.test", "nobody"]),
        ({"train": {"objective": "unpaired"}}, ["gan", "train.unpaired", "pick.slices", "'pairs'"]),
        (
            {
                "train": {"objective": "mrgan"},
                "pick": {"slices": "midsagittal"},
                "pack": {"crop": "none"},
            },
            ["train.unpaired", "midsagittal", "'all'"],
        ),
    ],
)
def test_mistakes_name_the_key(changes, words):
    with pytest.raises(StudyError) as error:
        load(**changes)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"objective": "unpaired", "unpaired": "pairs"}},
        {"train": {"objective": "mrgan", "unpaired": "all"}},
        {"train": {"objective": "unpaired"}, "pick": {"slices": "all"}, "pack": {"crop": "none"}},
    ],
)
def test_pools_are_fine_where_their_slices_can_be_picked(changes):
    assert load(**changes).tasks == ["lumbar"]


def test_missing_key_is_named():
    broken = config()
    del broken["tasks"]["lumbar"]["target"]
    with pytest.raises(StudyError, match=r"tasks\.lumbar\.target.*missing"):
        study.load(broken, SCHEMAS)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("results/train/lumbar/gam/fold-0/weights.safetensors", ["gam", "gan"]),
        ("results/train/lumbar/gan/fold-7/weights.safetensors", ["7", "cohort.folds"]),
        ("results/pack/lumba/fold-0/train.npz", ["lumba", "lumbar"]),
    ],
)
def test_unknown_names_in_targets(target, words):
    with pytest.raises(StudyError) as error:
        study.check_targets([target], load())
    for word in words:
        assert word in str(error.value)


def test_known_targets_pass():
    study.check_targets(["all", "results/train/lumbar/gan/fold-0/weights.safetensors"], load())


def test_every_key_has_a_description_and_every_optional_key_a_default():
    def walk(schema, where, required=()):
        for key, part in schema.get("properties", {}).items():
            assert part.get("description"), f"{where}.{key} has no description"
            walk(part, f"{where}.{key}")
            if where in study.TASK_STAGES or where in study.SHARED_STAGES:
                assert "default" in part or key in schema.get("required", []), f"{where}.{key}"

    for name, schema in SCHEMAS.items():
        assert schema.get("additionalProperties") is False, name
        walk(schema, name)


def test_a_study_needs_input_of_some_kind():
    with pytest.raises(StudyError, match="'dicom' and 'volumes' are both empty"):
        load(dicom=[])
    loaded = load(dicom=[], volumes=["bids"])
    assert study.roots(loaded) == ["bids"]
    assert loaded.config["volume_sheet"] == "config/volumes.tsv"
    assert "volumes" not in loaded.public()
    assert "volume_sheet" not in loaded.public()


def test_missing_volumes_are_named_and_their_sheet_counts(tmp_path):
    sheet = tmp_path / "volumes.tsv"
    loaded = load(dicom=[], volumes=[str(tmp_path / "bids")], volume_sheet=str(sheet))
    with pytest.raises(StudyError, match=r"'volumes': .*bids' does not exist"):
        study.check_trees(loaded, tmp_path / "none.tsv")
    (tmp_path / "bids").mkdir()
    before = study.tree_key(loaded, made=""), study.cohort_key(loaded)
    sheet.write_text("path\tsubject\n")
    assert study.tree_key(loaded, made="") != before[0]
    assert study.cohort_key(loaded) != before[1]
    changed = study.tree_key(loaded, made="")
    (tmp_path / "bids/sub-1_ct.nii").write_text("x")
    assert study.tree_key(loaded, made="") != changed


def test_a_sheet_in_another_encoding_has_a_key_all_the_same(tmp_path):
    sheet = tmp_path / "cohort.tsv"
    loaded = load(sheet=str(sheet))
    before = study.cohort_key(loaded)
    sheet.write_bytes("subject\treason\nA\tgrün\n".encode("latin-1"))
    assert study.cohort_key(loaded) != before


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "config").rglob("*.yaml")))
def test_every_study_of_the_repository_loads(path):
    loaded = study.load(yaml.safe_load(path.read_text()), SCHEMAS)
    assert loaded.tasks
