"""A trained generator as a function: sizes, batches, modes, and weights that don't belong."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

from mrsynth import synthesize, train
from mrsynth.errors import StudyError

SCHEMA = Path(__file__).parents[2] / "workflow/schemas/synthesize.schema.yaml"


def _pack(count=4, height=24, width=24):
    random = np.random.default_rng(0)
    source = (random.random((count, height, width)) * 255).astype(np.float32)
    ones = np.ones(source.shape, np.uint8)
    names = np.array([f"n{number}" for number in range(count)])
    return {
        "source": source,
        "target": 255 - source,
        "body": ones,
        "valid": ones,
        "subject": names,
        "key": names,
        "name": names,
    }


def _model(folder, **generator):
    train.train(
        _pack(),
        None,
        folder,
        objective="regression",
        generator={"filters": 4, "blocks": 1, **generator},
        total_iterations=3,
        batch=2,
        device="cpu",
    )
    return folder / "weights.safetensors", folder / "options.json"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return _model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("size", [(24, 24), (17, 30), (5, 64), (2, 9)])
def test_any_size_comes_back_in_grey_levels(model, size):
    made = synthesize.load(*model)(_pack(3, *size)["source"])
    assert made.shape == (3, *size)
    assert made.dtype == np.float32
    assert made.min() >= 0
    assert made.max() <= 255


def test_padding_is_by_reflection_and_cut_back(model):
    generator = synthesize.load(*model)
    image = _pack(1, 22, 24)["source"]
    padded = np.pad(image, ((0, 0), (0, 2), (0, 0)), mode="reflect")
    assert np.allclose(generator(image), generator(padded)[:, :22], atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_batches_do_not_change_the_result(model, batch):
    source = _pack(4)["source"]
    expected = np.concatenate([synthesize.load(*model)(image[None]) for image in source])
    assert np.allclose(synthesize.load(*model, batch=batch)(source), expected, atol=1e-2)


def test_no_images_are_no_error(model):
    assert synthesize.load(*model)(np.empty((0, 24, 24), np.float32)).shape == (0, 24, 24)


def test_repeats_are_bit_equal(model):
    generator, source = synthesize.load(*model), _pack()["source"]
    assert np.array_equal(generator(source), generator(source))


def test_the_source_matters(model):
    generator, source = synthesize.load(*model), _pack(2)["source"]
    made = generator(source)
    assert np.abs(made[0] - made[1]).max() > 0.1


def test_dropout_stays_on_only_if_asked(tmp_path):
    model = _model(tmp_path, dropout=0.5)
    source = _pack(1)["source"]
    quiet, random = synthesize.load(*model), synthesize.load(*model, dropout=True)
    assert np.array_equal(quiet(source), quiet(source))
    assert not np.array_equal(random(source), random(source))


def test_batch_norm_can_use_the_batch(tmp_path):
    model = _model(tmp_path, norm="batch")
    source = _pack(4)["source"]
    running, batch = synthesize.load(*model), synthesize.load(*model, norm="batch")
    alone = np.concatenate([running(image[None]) for image in source])
    assert np.allclose(running(source), alone, atol=1e-2)
    alone = np.concatenate([batch(image[None]) for image in source])
    assert not np.allclose(batch(source), alone, atol=1e-2)
    assert np.array_equal(batch(source), batch(source))


def test_unknown_norm_is_named(model):
    with pytest.raises(StudyError, match=r"synthesize\.norm"):
        synthesize.load(*model, norm="layer")


def test_weights_of_another_training_are_refused(model, tmp_path):
    other = load_file(model[0])
    other = {key: tensor + 1 for key, tensor in other.items()}
    save_file(other, tmp_path / "weights.safetensors")
    with pytest.raises(StudyError, match="SHA-256"):
        synthesize.load(tmp_path / "weights.safetensors", model[1])


def test_options_of_another_network_are_refused(model, tmp_path):
    options = json.loads(model[1].read_text())
    options["generator"]["filters"] = 8
    (tmp_path / "options.json").write_text(json.dumps(options))
    with pytest.raises(StudyError, match="don't fit"):
        synthesize.load(model[0], tmp_path / "options.json")


def test_synthetic_images_keep_their_keys(model, tmp_path):
    pack = _pack(3)
    arrays = synthesize.pack_synthetic(synthesize.load(*model), pack)
    synthesize.write_synthetic(arrays, tmp_path / "fold-0.npz")
    with np.load(tmp_path / "fold-0.npz", allow_pickle=False) as back:
        assert set(back.files) == {"synthetic", "subject", "key", "name"}
        assert back["key"].tolist() == ["n0", "n1", "n2"]
        assert np.array_equal(back["synthetic"], arrays["synthetic"])


def test_schema_and_code_have_the_same_defaults():
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(synthesize.load).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    properties = yaml.safe_load(SCHEMA.read_text())["properties"]
    assert {key: part["default"] for key, part in properties.items()} == keywords
