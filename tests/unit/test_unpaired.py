"""CycleGAN and MR-GAN: terms are those of the equations, each player learns from its own."""

import contextlib
import copy

import pytest
import torch

from mrsynth.models import load_objective, mrgan, unpaired

SETTINGS = {
    "generator": {"filters": 4, "blocks": 1},
    "discriminator": {"filters": 4, "strided": 2, "head": 1},
    "gan_loss": "log",
    "unpaired_loss": "least_squares",
    "lambda_l1": 100.0,
    "lambda_cycle": 10.0,
    "paired_cycle": True,
    "real_label": 1.0,
    "discriminator_scale": 0.5,
    "pool_size": 0,
    "learning_rate": 1e-3,
    "beta1": 0.5,
}
OBJECTIVES = [unpaired.Objective, mrgan.Objective]


def _batch():
    torch.manual_seed(3)
    source = torch.rand(1, 1, 24, 24) * 2 - 1
    return {
        "source": source,
        "target": -source,
        "mask": torch.ones_like(source),
        "unpaired_source": torch.rand(1, 1, 24, 24) * 2 - 1,
        "unpaired_target": torch.rand(1, 1, 24, 24) * 2 - 1,
    }


def _objective(cls, **changes):
    torch.manual_seed(0)
    return cls({**SETTINGS, **changes}, contextlib.nullcontext)


def test_objectives_are_found_by_name_and_say_what_they_learn_from():
    assert load_objective("unpaired").data == ("unpaired",)
    assert load_objective("mrgan").data == ("paired", "unpaired")


@pytest.mark.parametrize("cls", OBJECTIVES)
def test_all_four_players_move(cls):
    objective = _objective(cls)
    before = copy.deepcopy({k: v.state_dict() for k, v in objective.networks().items()})
    losses = objective.step(_batch())
    assert not any(loss.requires_grad for loss in losses.values())
    assert next(iter(objective.networks())) == "generator"
    for name, network in objective.networks().items():
        assert all(not torch.equal(v, before[name][k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("cls", OBJECTIVES)
def test_the_unpaired_terms_are_those_of_the_equations(cls):
    objective = _objective(cls, real_label=0.9)
    batch = _batch()
    old = copy.deepcopy(objective.networks())
    losses = objective.step(batch)
    source, target = batch["unpaired_source"], batch["unpaired_target"]
    with torch.no_grad():
        forward, backward = old["generator"](source), old["back_generator"](target)
        there = (old["back_generator"](forward) - source).abs().mean()
        back = (old["generator"](backward) - target).abs().mean()
        gan = (old["target_discriminator"](forward) - 0.9).square().mean()
        back_gan = (old["source_discriminator"](backward) - 0.9).square().mean()
        real = (old["target_discriminator"](target) - 0.9).square().mean()
        fake = old["target_discriminator"](forward).square().mean()
    assert float(losses["cycle"]) == pytest.approx(float(there + back), rel=1e-4)
    assert float(losses["gan"]) == pytest.approx(float(gan), rel=1e-4)
    assert float(losses["back_gan"]) == pytest.approx(float(back_gan), rel=1e-4)
    if cls is unpaired.Objective:
        expected = float((real + fake) / 2)
        assert float(losses["target_discriminator"]) == pytest.approx(expected, rel=1e-4)


def test_the_paired_terms_of_mrgan_are_those_of_the_equations():
    objective = _objective(mrgan.Objective)
    batch = _batch()
    old = copy.deepcopy(objective.networks())
    losses = objective.step(batch)
    source, target = batch["source"], batch["target"]
    with torch.no_grad():
        forward, backward = old["generator"](source), old["back_generator"](target)
        judged = old["target_discriminator"](torch.cat([source, forward], 1)).sigmoid()
        judged_back = old["source_discriminator"](torch.cat([target, backward], 1)).sigmoid()
    assert float(losses["paired_gan"]) == pytest.approx(float(-judged.log().mean()), rel=1e-4)
    back = float(-judged_back.log().mean())
    assert float(losses["paired_back_gan"]) == pytest.approx(back, rel=1e-4)
    assert float(losses["l1"]) == pytest.approx(float((forward - target).abs().mean()), rel=1e-4)
    back = float((backward - source).abs().mean())
    assert float(losses["back_l1"]) == pytest.approx(back, rel=1e-4)


def test_the_generators_loss_of_mrgan_weighs_its_terms():
    terms = {
        "gan": 1.0,
        "back_gan": 2.0,
        "cycle": 3.0,
        "paired_gan": 4.0,
        "paired_back_gan": 5.0,
        "paired_cycle": 6.0,
        "l1": 7.0,
        "back_l1": 8.0,
    }
    assert _objective(mrgan.Objective)._weighted(terms) == 12 + 10 * 9 + 100 * 15
    assert _objective(mrgan.Objective, paired_cycle=False)._weighted(terms) == 12 + 30 + 1500


@pytest.mark.parametrize("cls", OBJECTIVES)
def test_the_generators_step_leaves_no_gradient_in_the_discriminators(cls, monkeypatch):
    objective = _objective(cls)
    players, seen = objective.cycle.players, []
    plain = players.descend

    def descend(names, loss):
        plain(names, loss)
        others = [n for n in players.members if n not in names]
        free = [n for n in others if all(p.grad is None for p in players.members[n].parameters())]
        seen.append(free)

    monkeypatch.setattr(players, "descend", descend)
    objective.step(_batch())
    assert seen[0] == ["target_discriminator", "source_discriminator"]
    assert all(p.requires_grad for n in players.members.values() for p in n.parameters())


def test_unpaired_never_looks_at_pairs():
    objective, other = _objective(unpaired.Objective), _objective(unpaired.Objective)
    batch = _batch()
    alone = {name: batch[name] for name in ("unpaired_source", "unpaired_target")}
    one, two = objective.step(batch), other.step(alone)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("cls", OBJECTIVES)
def test_the_way_round_can_be_learned(cls):
    objective = _objective(cls, learning_rate=4e-3, lambda_cycle=100.0)
    batch = _batch()
    first = float(objective.step(batch)["cycle"])
    for _ in range(80):
        last = float(objective.step(batch)["cycle"])
    assert last < first / 2


@pytest.mark.parametrize("cls", OBJECTIVES)
def test_pools_survive_a_checkpoint(cls):
    objective = _objective(cls, pool_size=2)
    for _ in range(4):
        objective.step(_batch())
    state = objective.extra_state()
    other = _objective(cls, pool_size=2)
    other.load_extra_state(state)
    for name, pool in other.cycle.pools.items():
        assert len(pool.images) == 2
        assert torch.equal(pool.images[1], objective.cycle.pools[name].images[1])


def test_descriptions_name_all_players():
    described = _objective(mrgan.Objective).describe()
    assert described["target_discriminator_receptive_field_px"] == 37
    assert described["back_generator_parameters"] == described["generator_parameters"]
