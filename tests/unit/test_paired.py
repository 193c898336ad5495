"""The paired GAN's step: who is updated by what, and that it can learn."""

import contextlib
import copy

import pytest
import torch

from mrsynth.errors import StudyError
from mrsynth.models import load_objective, paired, regression

SETTINGS = {
    "generator": {"filters": 4, "blocks": 1},
    "discriminator": {"filters": 4, "strided": 2},
    "gan_loss": "log",
    "lambda_l1": 10.0,
    "discriminator_scale": 0.5,
    "pool_size": 0,
    "learning_rate": 1e-3,
    "beta1": 0.5,
}


def _batch():
    torch.manual_seed(3)
    source = torch.rand(1, 1, 24, 24) * 2 - 1
    return {"source": source, "target": -source, "mask": torch.ones_like(source)}


def _objective(cls=paired.Objective, **changes):
    torch.manual_seed(0)
    return cls({**SETTINGS, **changes}, contextlib.nullcontext)


def test_objectives_are_found_by_name():
    assert load_objective("paired") is paired.Objective
    assert load_objective("regression") is regression.Objective
    for wrong in ("pared", "networks", "losses"):
        with pytest.raises(StudyError, match=wrong):
            load_objective(wrong)


@pytest.mark.parametrize("gan_loss", ["log", "least_squares"])
def test_both_players_move(gan_loss):
    objective = _objective(gan_loss=gan_loss)
    before = copy.deepcopy({k: v.state_dict() for k, v in objective.networks().items()})
    losses = objective.step(_batch())
    assert set(losses) == {"gan", "l1", "discriminator"}
    assert not any(loss.requires_grad for loss in losses.values())
    for name, network in objective.networks().items():
        moved = [not torch.equal(v, before[name][k]) for k, v in network.state_dict().items()]
        assert all(moved)


def test_losses_are_those_of_the_equations():
    objective = _objective()
    batch = _batch()
    generator = copy.deepcopy(objective.generator)
    discriminator = copy.deepcopy(objective.discriminator)
    losses = objective.step(batch)
    synthetic = generator(batch["source"])
    fake = torch.sigmoid(discriminator(torch.cat([batch["source"], synthetic], 1)))
    real = torch.sigmoid(discriminator(torch.cat([batch["source"], batch["target"]], 1)))
    assert float(losses["gan"]) == pytest.approx(float(-fake.log().mean().detach()), rel=1e-4)
    assert float(losses["l1"]) == pytest.approx(
        float((synthetic - batch["target"]).abs().mean().detach()), rel=1e-4
    )
    # the discriminator judges the synthetic image made before the generator's update
    expected = -(real.log().mean() + (1 - fake).log().mean()) / 2
    assert float(losses["discriminator"]) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_the_generators_step_leaves_no_gradient_in_the_discriminator():
    objective = _objective()
    batch = _batch()
    synthetic = objective.generator(batch["source"])
    objective._step_generator(batch, synthetic)
    assert all(p.grad is None for p in objective.discriminator.parameters())
    assert all(p.requires_grad for p in objective.discriminator.parameters())
    before = copy.deepcopy(objective.generator.state_dict())
    objective._step_discriminator(batch, synthetic.detach())
    assert all(torch.equal(v, before[k]) for k, v in objective.generator.state_dict().items())


def test_lambda_weighs_the_l1_term():
    moved = {}
    for weight in (0.0, 1000.0):
        objective = _objective(lambda_l1=weight)
        for _ in range(30):
            losses = objective.step(_batch())
        moved[weight] = float(losses["l1"])
    assert moved[1000.0] < moved[0.0]


def test_masked_pixels_do_not_reach_the_l1_term():
    objective, other = _objective(), _objective()
    batch, spoilt = _batch(), _batch()
    for one in (batch, spoilt):
        one["mask"][..., :12] = 0
    spoilt["target"][..., :12] = 1
    assert float(objective.step(batch)["l1"]) == float(other.step(spoilt)["l1"])


@pytest.mark.parametrize("cls", [paired.Objective, regression.Objective])
def test_one_pair_can_be_learned(cls):
    objective = _objective(cls, learning_rate=4e-3)
    batch = _batch()
    first = float(objective.step(batch)["l1"])
    for _ in range(120):
        last = float(objective.step(batch)["l1"])
    assert last < first / 2


def test_pool_keeps_pairs_and_survives_a_checkpoint():
    objective = _objective(pool_size=3)
    for _ in range(5):
        objective.step(_batch())
    state = objective.extra_state()
    assert [tuple(image.shape) for image in state["images"]] == [(2, 24, 24)] * 3
    other = _objective(pool_size=3)
    other.load_extra_state(state)
    assert torch.equal(other.pool.images[2], objective.pool.images[2])


def test_description_names_the_receptive_field():
    described = _objective().describe()
    assert described["discriminator_receptive_field_px"] == 34
    assert described["generator_parameters"] > 0
    assert "discriminator_parameters" not in _objective(regression.Objective).describe()


def test_images_too_small_for_the_discriminator_are_refused():
    with pytest.raises(StudyError, match="strided"):
        _objective().check_size(8, 8)
