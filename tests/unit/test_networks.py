"""Networks: sizes, paddings, receptive fields, and parameter counts derived by hand."""

import pytest
import torch

from mrsynth.errors import StudyError
from mrsynth.models import networks


def test_generator_has_the_parameters_of_lees_description():
    # convolutions k²·in·out, no bias before a norm; affine norm 2·out; the last 7×7 has its bias
    first = 49 * 1 * 64 + 2 * 64
    down = 9 * 64 * 128 + 2 * 128 + 9 * 128 * 256 + 2 * 256
    blocks = 9 * 2 * (9 * 256 * 256 + 2 * 256)
    up = 9 * 256 * 128 + 2 * 128 + 9 * 128 * 64 + 2 * 64
    last = 49 * 64 * 1 + 1
    assert networks.parameters(networks.Generator()) == first + down + blocks + up + last


def test_discriminator_has_the_parameters_of_lees_description():
    # five strided convolutions 64 128 256 512 512, one more 512, one logit; kernel 4
    first = 16 * 2 * 64 + 64
    normed = sum(
        16 * a * b + 2 * b for a, b in [(64, 128), (128, 256), (256, 512), (512, 512), (512, 512)]
    )
    last = 16 * 512 * 1 + 1
    network = networks.Discriminator()
    assert networks.parameters(network) == first + normed + last
    assert network.strides == (2, 2, 2, 2, 2, 1, 1)


def test_discriminator_with_a_head_starts_at_stride_one():
    network = networks.Discriminator(head=1, strided=5, tail=1, filters=8, max_filters=32)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [c.stride[0] for c in convolutions] == [1, 2, 2, 2, 2, 2, 1]
    assert [c.out_channels for c in convolutions] == [8, 16, 32, 32, 32, 32, 1]


@pytest.mark.parametrize(
    ("strides", "field"),
    [((2, 2, 2, 1, 1), 70), ((2, 2, 2, 2, 2, 1, 1), 286), ((1, 1), 7)],
    ids=["pix2pix", "lee2020", "two"],
)
def test_receptive_field_of_known_discriminators(strides, field):
    assert networks.receptive_field(4, strides) == field


def test_receptive_field_is_what_one_logit_sees():
    network = networks.Discriminator(filters=2, strided=2, tail=2, norm="none").double()
    image = torch.randn(1, 2, 96, 96, dtype=torch.double, requires_grad=True)
    logits = network(image)
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().ravel()
    assert int(rows.max() - rows.min()) + 1 == network.receptive_field == 34


@pytest.mark.parametrize("norm", networks.NORMS)
@pytest.mark.parametrize("padding", networks.PADDINGS)
def test_generator_keeps_size_and_range(norm, padding):
    network = networks.Generator(
        filters=4, blocks=1, norm=norm, padding=padding, block_padding=padding
    )
    made = network(torch.randn(2, 1, 32, 44))
    assert made.shape == (2, 1, 32, 44)
    assert made.abs().max() <= 1


def test_paddings_differ_at_the_border_only_in_value():
    image = torch.randn(1, 1, 32, 32)
    made = {}
    for padding in networks.PADDINGS:
        torch.manual_seed(0)
        made[padding] = networks.Generator(filters=4, blocks=1, padding=padding)(image)
    assert not torch.allclose(made["reflect"], made["zero"])
    assert not torch.allclose(made["reflect"], made["replicate"])


def test_normalisation_is_affine_only_if_asked():
    plain = networks.Generator(filters=4, blocks=1, affine=False)
    affine = networks.Generator(filters=4, blocks=1)
    norms = [m for m in affine.modules() if isinstance(m, torch.nn.InstanceNorm2d)]
    extra = 2 * sum(m.num_features for m in norms)
    assert networks.parameters(affine) - networks.parameters(plain) == extra
    assert {m.eps for m in norms} == {1e-5}


def test_first_and_last_convolution_of_the_discriminator_have_no_norm():
    kinds = [type(m).__name__ for m in networks.Discriminator(strided=2, filters=4).layers]
    assert kinds[:2] == ["Conv2d", "LeakyReLU"]
    assert kinds[-2:] == ["LeakyReLU", "Conv2d"]
    assert kinds.count("InstanceNorm2d") == kinds.count("Conv2d") - 2


def test_initialisation_draws_the_published_spread():
    torch.manual_seed(1)
    network = networks.initialize(networks.Generator(filters=32, blocks=2))
    weights = torch.cat(
        [m.weight.detach().flatten() for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    )
    assert float(weights.std()) == pytest.approx(0.02, rel=0.02)


def test_small_images_are_refused_with_the_key():
    network = networks.Discriminator(filters=4)
    network.check_size(256, 256)
    network(torch.randn(1, 2, 160, 128))
    network.check_size(160, 128)
    with pytest.raises(StudyError, match=r"train\.discriminator\.strided"):
        network.check_size(48, 128)


@pytest.mark.parametrize("strided", range(1, 6))
def test_every_size_that_passes_the_check_runs(strided):
    network = networks.Discriminator(filters=2, max_filters=4, strided=strided)
    passed = []
    for side in range(8, 132, 4):
        try:
            network.check_size(side, side)
        except StudyError:
            continue
        passed.append(side)
        assert network(torch.randn(1, 2, side, side)).numel() >= 1
    assert passed
    assert passed[-1] == 128


@pytest.mark.parametrize("size", [(33, 46), (32, 44), (1, 5), (2, 2)])
def test_padding_reaches_the_multiple_and_keeps_the_image(size):
    image = torch.randn(1, 1, *size)
    padded = networks.pad_to_multiple(image)
    assert padded.shape[-2] % 4 == padded.shape[-1] % 4 == 0
    assert torch.equal(padded[..., : size[0], : size[1]], image)
