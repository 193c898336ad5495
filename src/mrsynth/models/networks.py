"""The networks: Johnson's residual generator and the PatchGAN discriminator.

Johnson et al. 2016 ("Perceptual losses for real-time style transfer", supplement) in the form that
Lee et al. 2020 and Jin et al. 2019 describe; the discriminator is that of Isola et al. 2017.
Images are [n, channels, height, width] in [-1, 1].
"""

import torch
from torch import nn
from torch.nn import functional

from mrsynth.errors import StudyError

NORM_EPSILON = 1e-5
"""Added to the variance in normalisation; the value of the papers' code."""

WEIGHT_SD = 0.02
"""SD of the normal draw of first weights, as in DCGAN (Radford et al. 2016) and pix2pix."""

GENERATOR_MULTIPLE = 4
"""Two stride-2 convolutions: heights and widths must be multiples of this."""

PADDINGS = ("reflect", "zero", "replicate")
NORMS = ("instance", "batch", "none")


class Generator(nn.Module):
    """7×7 convolution, two 3×3 of stride 2, residual blocks, two 3×3 transposed, 7×7, tanh.

    Normalisation and ReLU follow all convolutions but the last (Lee et al. 2020, "Implementation").

    Args:
        filters: Channels after the first convolution; doubled at each of the two strides.
        blocks: Residual blocks.
        padding: Padding of the two 7×7 convolutions.
        block_padding: Padding inside the residual blocks.
        norm: ``instance``, ``batch`` or ``none``.
        affine: Normalisation with learned scale and shift.
        dropout: Probability after the first convolution of each block; 0 leaves it out.
    """

    def __init__(
        self,
        *,
        filters: int = 64,
        blocks: int = 9,
        padding: str = "reflect",
        block_padding: str = "zero",
        norm: str = "instance",
        affine: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        bias = norm == "none"
        wide = 4 * filters

        def after(channels: int) -> list[nn.Module]:
            return [*normalization(norm, channels, affine), nn.ReLU(inplace=True)]

        layers: list[nn.Module] = [_conv(1, filters, 7, padding, bias), *after(filters)]
        for channels in (filters, 2 * filters):
            layers += [nn.Conv2d(channels, 2 * channels, 3, 2, 1, bias=bias), *after(2 * channels)]
        layers += [ResidualBlock(wide, block_padding, norm, affine, dropout) for _ in range(blocks)]
        for channels in (wide, wide // 2):
            layers += [
                nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, 1, bias=bias),
                *after(channels // 2),
            ]
        layers += [_conv(filters, 1, 7, padding, True), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Source [n, 1, h, w] to target, the same shape; h and w multiples of 4."""
        return self.layers(image)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with normalisation, ReLU between them, added to the input."""

    def __init__(self, channels: int, padding: str, norm: str, affine: bool, dropout: float):
        super().__init__()
        bias = norm == "none"
        self.layers = nn.Sequential(
            _conv(channels, channels, 3, padding, bias),
            *normalization(norm, channels, affine),
            nn.ReLU(inplace=True),
            *([nn.Dropout(dropout)] if dropout else []),
            _conv(channels, channels, 3, padding, bias),
            *normalization(norm, channels, affine),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features plus their residual, the same shape."""
        return features + self.layers(features)


class _Patches(nn.Module):
    """What all PatchGANs know of their patches, from ``kernel`` and ``strides``."""

    kernel: int
    strides: tuple[int, ...]

    @property
    def receptive_field(self) -> int:
        """Side in pixels of the patch that one logit sees."""
        return receptive_field(self.kernel, self.strides)

    def check_size(self, height: int, width: int) -> None:
        """Refuse images that shrink to nothing, or to one pixel where instance normalisation is
        undefined.

        Raises:
            StudyError: Naming the size and the setting to lower.
        """
        for side in (height, width):
            for number, stride in enumerate(self.strides):
                side = (side + 2 - self.kernel) // stride + 1
                # a normalised layer needs two values; two rows or columns are the safe side of that
                if side < (2 if number < len(self.strides) - 1 else 1):
                    raise StudyError(
                        f"config key 'train.discriminator.strided': images of {height}×{width} "
                        f"pixels "
                        f"are too small for {self.strides.count(2)} strided convolutions; "
                        "use fewer, or larger images ('pack')"
                    )


class Discriminator(_Patches):
    """PatchGAN: a map of logits, each for one patch of the image.

    Stride-1 head convolutions, stride-2 convolutions, stride-1 tail convolutions, all of one
    kernel size and padded by 1. Normalisation and leaky ReLU after all but the first and the last
    convolution; the first keeps its leaky ReLU (Isola et al. 2017, appendix).

    Args:
        channels: Input channels; 2 for a source and a target side by side.
        filters: Channels after the first convolution, doubled at each stride after it.
        max_filters: The most channels of any layer.
        head: Stride-1 convolutions before the strided ones.
        strided: Stride-2 convolutions.
        tail: Stride-1 convolutions after them, the one that gives the logits among them; at least
            1.
        kernel: Kernel size (3 or 4).
        slope: Leaky ReLU's slope.
        norm: ``instance``, ``batch`` or ``none``.
        affine: Normalisation with learned scale and shift.
    """

    def __init__(
        self,
        *,
        channels: int = 2,
        filters: int = 64,
        max_filters: int = 512,
        head: int = 0,
        strided: int = 5,
        tail: int = 2,
        kernel: int = 4,
        slope: float = 0.2,
        norm: str = "instance",
        affine: bool = True,
    ):
        super().__init__()
        self.kernel = kernel
        self.strides = (1,) * head + (2,) * strided + (1,) * tail
        outputs = _discriminator_widths(filters, max_filters, head, strided, tail)
        layers: list[nn.Module] = []
        inputs, last = channels, len(self.strides) - 1
        for number, (width, stride) in enumerate(zip(outputs, self.strides, strict=True)):
            normed = 0 < number < last and norm != "none"
            layers.append(nn.Conv2d(inputs, width, kernel, stride, 1, bias=not normed))
            if normed:
                layers += normalization(norm, width, affine)
            if number < last:
                layers.append(nn.LeakyReLU(slope, inplace=True))
            inputs = width
        self.layers = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Images [n, channels, h, w] to logits [n, 1, h', w']."""
        return self.layers(image)


class ForkedDiscriminator(_Patches):
    """Two PatchGANs with one trunk: one judges images, the other pairs (Jin et al. 2019, Fig. 4).

    Each has its own head (stride 1, one input channel for images, two for pairs) and its own tail;
    the strided convolutions between them are shared.

    Args:
        head: Stride-1 convolutions of each head, at least 1.
        **settings: As those of :class:`Discriminator`.
    """

    def __init__(self, *, head: int = 1, **settings):
        super().__init__()
        if head < 1:
            raise StudyError(
                "config key 'train.discriminator.head' = 0; the objective 'mrgan' judges images "
                "and pairs, which needs a head of at least 1 convolution for each"
            )
        single = Discriminator(channels=1, head=head, **settings)
        double = Discriminator(channels=2, head=head, **settings)
        convolutions = [n for n, m in enumerate(single.layers) if isinstance(m, nn.Conv2d)]
        strided = single.strides.count(2)
        first = convolutions[head]
        last = convolutions[head + strided]
        self.strides, self.kernel = single.strides, single.kernel
        self.image_head, self.pair_head = single.layers[:first], double.layers[:first]
        self.trunk = single.layers[first:last]
        self.image_tail, self.pair_tail = single.layers[last:], double.layers[last:]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Images [n, 1, h, w] or pairs [n, 2, h, w] to logits [n, 1, h', w']."""
        if image.shape[1] == 1:
            return self.image_tail(self.trunk(self.image_head(image)))
        return self.pair_tail(self.trunk(self.pair_head(image)))


def _discriminator_widths(
    filters: int, max_filters: int, head: int, strided: int, tail: int
) -> list[int]:
    """Output channels of every convolution: ``filters``, doubled up to ``max_filters``."""
    widths = [filters] * head
    doublings = 0
    for _ in range(strided):
        doublings += bool(widths)
        widths.append(min(filters * 2**doublings, max_filters))
    for _ in range(tail - 1):
        doublings += bool(widths)
        widths.append(min(filters * 2**doublings, max_filters))
    return [*widths, 1]


def receptive_field(kernel: int, strides: tuple[int, ...]) -> int:
    """Side of the patch that one output sees: r ← (r − 1)·stride + kernel, backwards."""
    field = 1
    for stride in reversed(strides):
        field = (field - 1) * stride + kernel
    return field


def parameters(network: nn.Module) -> int:
    """Number of learned values."""
    return sum(parameter.numel() for parameter in network.parameters())


def initialize(network: nn.Module) -> nn.Module:
    """Draw all convolutions' weights from N(0, 0.02), norm scales from N(1, 0.02); shifts are 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, WEIGHT_SD)
        elif isinstance(module, nn.InstanceNorm2d | nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, WEIGHT_SD)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return network


def pad_to_multiple(image: torch.Tensor, multiple: int = GENERATOR_MULTIPLE) -> torch.Tensor:
    """Extend [n, c, h, w] at its bottom and right by reflection to multiples of ``multiple``.

    Sides too short to reflect (1 pixel) repeat their edge.
    """
    height, width = image.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if not (down or right):
        return image
    mode = "reflect" if down < height and right < width else "replicate"
    return functional.pad(image, (0, right, 0, down), mode=mode)


def _conv(inputs: int, outputs: int, kernel: int, padding: str, bias: bool) -> nn.Conv2d:
    mode = {"zero": "zeros"}.get(padding, padding)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode=mode, bias=bias)


def normalization(kind: str, channels: int, affine: bool) -> list[nn.Module]:
    """Layers that normalise ``channels``: ``instance``, ``batch``, or none."""
    if kind == "instance":
        return [nn.InstanceNorm2d(channels, NORM_EPSILON, affine=affine)]
    if kind == "batch":
        return [nn.BatchNorm2d(channels, NORM_EPSILON, affine=affine)]
    return []
