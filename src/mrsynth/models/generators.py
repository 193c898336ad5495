"""The generators by kind: Johnson's residual network, pix2pix's encoder-decoder, a modern U-Net.

A kind has its own settings with its own defaults; a setting of another kind is refused. Images are
[n, 1, height, width] in [-1, 1].
"""

import torch
from torch import nn

from mrsynth.errors import StudyError
from mrsynth.models import networks

LEAK = 0.2
"""Slope of the encoder's leaky ReLU (Isola et al. 2017, appendix)."""

DROPPED_LAYERS = 3
"""Decoder layers, from the innermost on, that have dropout (Isola et al. 2017, appendix)."""

WIDEST = 8
"""Channels grow to this multiple of the first layer's: 64, 128, 256, 512, 512, …"""

UNET_WIDEST = 512
"""Most channels of the U-Net, as nnU-Net's planner limits them in two dimensions."""

RESIDUAL_UNITS = 2
"""Convolutions of each residual block of the U-Net, as in MONAI's tutorials."""

DEFAULTS = {
    "residual": {
        "filters": 64,
        "blocks": 9,
        "padding": "reflect",
        "block_padding": "zero",
        "norm": "instance",
        "affine": True,
        "dropout": 0.0,
    },
    "encoder_decoder": {
        "filters": 64,
        "levels": 8,
        "skips": False,
        "norm": "batch",
        "affine": True,
        "dropout": 0.5,
    },
    "unet": {"filters": 32, "levels": 6, "norm": "instance", "affine": True, "dropout": 0.0},
}
"""Lee et al. 2020 and Jin et al. 2019; Galbusera et al. 2018; and ours."""


class EncoderDecoder(nn.Module):
    """pix2pix: 4×4 convolutions of stride 2 down to a bottleneck and as many back up, tanh.

    Normalisation in all layers but the first, the bottleneck and the last; leaky ReLU down, ReLU
    up; dropout in the first three layers of the decoder (Isola et al. 2017, appendix). Without
    skips it is the network of Galbusera et al. 2018's text, with them that of their code.

    Args:
        filters: Channels of the first layer, doubled at each level up to eightfold.
        levels: Strides on the way down; the image's sides must be multiples of 2 to this power.
        skips: Hand each encoder layer to the decoder layer of its size.
        norm: ``batch``, ``instance`` or ``none``.
        affine: Normalisation with learned scale and shift.
        dropout: Probability in the first decoder layers.
    """

    def __init__(
        self,
        *,
        filters: int = 64,
        levels: int = 8,
        skips: bool = False,
        norm: str = "batch",
        affine: bool = True,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.skips = skips
        widths = [filters * min(2**level, WIDEST) for level in range(levels)]
        down = []
        for level, (inputs, outputs) in enumerate(zip([1, *widths], widths, strict=False)):
            normed = 0 < level < levels - 1 and norm != "none"
            down.append(
                nn.Sequential(
                    *([nn.LeakyReLU(LEAK)] if level else []),
                    nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not normed),
                    *(networks.normalization(norm, outputs, affine) if normed else []),
                )
            )
        up = []
        for level in reversed(range(levels)):
            joined = 2 if skips and level < levels - 1 else 1
            last = level == 0
            outputs = 1 if last else widths[level - 1]
            normed = not last and norm != "none"
            dropped = dropout and not last and levels - 1 - level < DROPPED_LAYERS
            up.append(
                nn.Sequential(
                    nn.ReLU(),
                    nn.ConvTranspose2d(joined * widths[level], outputs, 4, 2, 1, bias=not normed),
                    *(networks.normalization(norm, outputs, affine) if normed else []),
                    *([nn.Dropout(dropout)] if dropped else []),
                )
            )
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Source [n, 1, h, w] to target, the same shape; sides multiples of 2**levels."""
        passed = []
        features = image
        for layer in self.down:
            features = layer(features)
            passed.append(features)
        for layer, level in zip(self.up, reversed(range(len(self.up))), strict=True):
            if self.skips and level < len(self.up) - 1:
                features = torch.cat([features, passed[level]], dim=1)
            features = layer(features)
        return torch.tanh(features)


class UNet(nn.Module):
    """MONAI's residual U-Net in two dimensions (Kerfoot et al. 2019), and tanh (ours).

    Args:
        filters: Channels of the first level, doubled at each of the others up to 512.
        levels: Resolutions; the image's sides must be multiples of 2 to the power levels − 1.
        norm: ``instance`` or ``batch``.
        affine: Normalisation with learned scale and shift.
        dropout: Probability after every convolution.
    """

    def __init__(
        self,
        *,
        filters: int = 32,
        levels: int = 6,
        norm: str = "instance",
        affine: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        # Imported where it is used: it takes seconds, and most models do without.
        from monai.networks import nets

        self.layers = nets.UNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            channels=[min(filters * 2**level, UNET_WIDEST) for level in range(levels)],
            strides=[2] * (levels - 1),
            num_res_units=RESIDUAL_UNITS,
            norm=(norm, {"affine": affine}),
            dropout=dropout,
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Source [n, 1, h, w] to target, the same shape; sides multiples of 2**(levels − 1)."""
        return torch.tanh(self.layers(image))


KINDS = {"residual": networks.Generator, "encoder_decoder": EncoderDecoder, "unet": UNet}


def complete(given: dict) -> dict:
    """The settings of a generator with its kind's defaults where they are null or missing.

    Raises:
        StudyError: If the kind is unknown, or has no such setting or value.
    """
    kind = given.get("kind") or "residual"
    if kind not in KINDS:
        raise StudyError(
            f"config key 'train.generator.kind' = '{kind}'; use one of {', '.join(KINDS)}"
        )
    wanted = {name: value for name, value in given.items() if value is not None and name != "kind"}
    unknown = sorted(set(wanted) - set(DEFAULTS[kind]))
    if unknown:
        raise StudyError(
            f"config key 'train.generator.{unknown[0]}' is no setting of the kind '{kind}'; "
            f"it has {', '.join(DEFAULTS[kind])}"
        )
    chosen = {"kind": kind, **DEFAULTS[kind], **wanted}
    if kind == "unet" and chosen["norm"] == "none":
        raise StudyError("config key 'train.generator.norm' = 'none': the kind 'unet' needs one")
    return chosen


def build(settings: dict) -> nn.Module:
    """A generator with fresh weights; ``settings`` as :func:`complete` gives them."""
    chosen = complete(settings)
    network = KINDS[chosen.pop("kind")](**chosen)
    return networks.initialize(network)


def multiple(settings: dict) -> int:
    """What heights and widths must be multiples of."""
    chosen = complete(settings)
    if chosen["kind"] == "residual":
        return networks.GENERATOR_MULTIPLE
    return 2 ** (chosen["levels"] - (chosen["kind"] == "unet"))
