"""Loss terms against their equations, and the pool."""

import math
import random

import pytest
import torch

from mrsynth.models import losses
from mrsynth.models.pool import Pool


def test_log_loss_is_the_negative_log_likelihood():
    logits = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.double)
    probability = 1 / (1 + torch.exp(-logits))
    assert float(losses.adversarial(logits, True)) == pytest.approx(
        float(-probability.log().mean()), rel=1e-5
    )
    assert float(losses.adversarial(logits, False)) == pytest.approx(
        float(-(1 - probability).log().mean()), rel=1e-5
    )


def test_undecided_discriminator_costs_ln_two():
    assert float(losses.adversarial(torch.zeros(4), True)) == pytest.approx(math.log(2))


def test_least_squares_is_the_squared_distance_from_the_label():
    logits = torch.tensor([0.5, -1.0])
    assert float(losses.adversarial(logits, True, "least_squares")) == pytest.approx(
        (0.25 + 4.0) / 2
    )
    assert float(losses.adversarial(logits, False, "least_squares")) == pytest.approx(
        (0.25 + 1.0) / 2
    )


def test_unknown_loss_is_named():
    with pytest.raises(ValueError, match="hinge"):
        losses.adversarial(torch.zeros(1), True, "hinge")


def test_masked_l1_ignores_what_is_outside():
    real, synthetic = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 9.0], [3.0, 9.0]]]])
    mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    assert float(losses.masked_l1(synthetic, real, mask)) == 2.0
    assert float(losses.masked_l1(synthetic, real, torch.ones_like(mask))) == 5.5
    assert float(losses.masked_l1(synthetic, real, torch.zeros_like(mask))) == 0.0


def test_masked_pixels_have_no_gradient():
    synthetic = torch.ones(1, 1, 2, 2, requires_grad=True)
    mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    losses.masked_l1(synthetic, torch.zeros(1, 1, 2, 2), mask).backward()
    assert torch.equal(synthetic.grad == 0, mask == 0)


def test_pool_of_size_zero_passes_everything_on():
    batch = torch.randn(3, 1, 2, 2)
    assert Pool(0).swap(batch) is batch


def test_pool_gives_back_past_images_half_of_the_time():
    random.seed(0)
    pool = Pool(5)
    numbers = [float(pool.swap(torch.full((1, 1, 1, 1), float(n)))) for n in range(400)]
    past = sum(given != n for n, given in enumerate(numbers))
    assert numbers[:5] == [0, 1, 2, 3, 4]
    assert 150 < past < 250
    assert all(given <= n for n, given in enumerate(numbers))
    # once on the way in, while the pool fills, and once as the past
    assert max(numbers.count(n) for n in set(numbers)) <= 2


def test_pool_goes_on_from_its_state():
    random.seed(1)
    first, second = Pool(2), Pool(2)
    for n in range(6):
        first.swap(torch.full((1, 1, 1, 1), float(n)))
    second.load_state(first.state())
    chance = random.getstate()
    given = [float(first.swap(torch.full((1, 1, 1, 1), float(n)))) for n in range(6, 12)]
    random.setstate(chance)
    assert given == [float(second.swap(torch.full((1, 1, 1, 1), float(n)))) for n in range(6, 12)]
