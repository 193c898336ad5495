"""The generators by kind: sizes and counts derived by hand, settings that belong to their kind."""

import pytest
import torch

from mrsynth.errors import StudyError
from mrsynth.models import generators, networks

WIDTHS = [64, 128, 256, 512, 512, 512, 512, 512]


def _pix2pix_parameters(skips):
    """Weights of the 4×4 kernels, biases of layers without norm, two values a normed channel."""
    down = 16 * sum(a * b for a, b in zip([1, *WIDTHS], WIDTHS, strict=False))
    down += 64 + 512 + 2 * sum(WIDTHS[1:-1])
    inputs = [512] + [(1 + skips) * width for width in reversed(WIDTHS[:-1])]
    outputs = [*reversed(WIDTHS[:-1]), 1]
    up = 16 * sum(a * b for a, b in zip(inputs, outputs, strict=True))
    up += 1 + 2 * sum(outputs[:-1])
    return down + up


@pytest.mark.parametrize("skips", [False, True])
def test_pix2pix_has_as_many_parameters_as_its_layers(skips):
    network = generators.build({"kind": "encoder_decoder", "skips": skips})
    assert networks.parameters(network) == _pix2pix_parameters(skips)


def test_pix2pix_with_skips_is_the_published_size():
    # 54.4 million with three colours in and out: 2·16·64 more going in, 2·16·128 + 2 coming out
    assert _pix2pix_parameters(True) + 2 * 16 * 64 + 2 * 16 * 128 + 2 == 54_414_531


@pytest.mark.parametrize(
    "given",
    [
        {"filters": 4, "blocks": 1},
        {"kind": "encoder_decoder", "filters": 4, "levels": 5},
        {"kind": "encoder_decoder", "filters": 4, "levels": 5, "skips": True, "norm": "none"},
        {"kind": "unet", "filters": 4, "levels": 4},
    ],
)
def test_every_kind_keeps_the_size_and_the_range_and_learns_everywhere(given):
    torch.manual_seed(1)
    network = generators.build(given)
    side = 2 * generators.multiple(given)
    made = network(torch.rand(1, 1, side, 2 * side) * 2 - 1)
    assert made.shape == (1, 1, side, 2 * side)
    assert float(made.detach().abs().max()) <= 1
    made.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, 4), ({"kind": "encoder_decoder"}, 256), ({"kind": "unet"}, 32)],
)
def test_sides_are_multiples_of_all_strides(given, expected):
    assert generators.multiple(given) == expected


def test_only_skips_carry_fine_detail_around_the_bottleneck():
    """The bottleneck of 1×1 can't tell where a pixel is but by its 512 channels."""
    torch.manual_seed(0)
    image = torch.zeros(1, 1, 32, 32)
    spot = image.clone()
    spot[0, 0, 3, 3] = 1.0
    peaks = {}
    for skips in (False, True):
        given = {"kind": "encoder_decoder", "filters": 8, "levels": 5, "skips": skips}
        network = generators.build({**given, "norm": "none", "dropout": 0.0})
        change = (network(spot) - network(image)).detach().abs()[0, 0]
        near = float(change[:8, :8].sum() / change.sum())
        peaks[skips] = near
    assert peaks[True] > 2 * peaks[False]


def test_dropout_is_in_the_first_three_decoder_layers():
    network = generators.build({"kind": "encoder_decoder", "filters": 2, "levels": 6})
    dropped = [any(isinstance(m, torch.nn.Dropout) for m in layer) for layer in network.up]
    assert dropped == [True, True, True, False, False, False]


def test_null_is_the_kinds_own_default():
    assert generators.complete({"kind": None, "filters": None})["filters"] == 64
    assert generators.complete({"kind": "unet", "norm": None})["norm"] == "instance"
    assert generators.complete({"kind": "encoder_decoder"})["norm"] == "batch"


def test_settings_of_another_kind_and_unknown_kinds_are_refused():
    for given, said in (
        ({"kind": "johnson"}, "johnson"),
        ({"kind": "unet", "blocks": 3}, "blocks"),
        ({"levels": 3}, "levels"),
        ({"kind": "unet", "norm": "none"}, "norm"),
    ):
        with pytest.raises(StudyError, match=said):
            generators.complete(given)


def test_a_forked_discriminator_shares_its_trunk_alone():
    network = networks.ForkedDiscriminator(filters=4, strided=2, tail=2)
    image = torch.rand(1, 1, 32, 32)
    network(image).sum().backward()
    moved = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert moved == {"image_head", "trunk", "image_tail"}
    network.zero_grad(set_to_none=True)
    network(torch.cat([image, image], dim=1)).sum().backward()
    moved = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert moved == {"pair_head", "trunk", "pair_tail"}


def test_jins_discriminator_sees_145_pixels_in_both_branches():
    network = networks.ForkedDiscriminator(filters=2, strided=4, tail=2)
    # tail 1 → 4 → 7; four strides 16, 34, 70, 142; head 145
    assert network.receptive_field == 145
    with pytest.raises(StudyError, match="head"):
        networks.ForkedDiscriminator(head=0)
