"""Loss terms, one function per equation. All return scalars in 32-bit float."""

import torch
from torch.nn import functional

GAN_LOSSES = ("log", "least_squares")


def adversarial(
    logits: torch.Tensor, real: bool, kind: str = "log", real_label: float = 1.0
) -> torch.Tensor:
    """How far a discriminator's logits are from calling everything real (or synthetic).

    Args:
        logits: Any shape.
        real: The label that the logits should express.
        kind: ``log``: −log D or −log(1 − D), Goodfellow et al. 2014, the term of Lee et al. 2020;
            the generator takes it with ``real=True`` (the non-saturating form). ``least_squares``:
            (D − label)², Mao et al. 2017, as Jin et al. 2019 use on unpaired data.
        real_label: What stands for real; below 1 it is smoothed (the code of Jin et al.: 0.9).
    """
    logits = logits.float()
    label = torch.full_like(logits, real_label if real else 0.0)
    if kind == "log":
        return functional.binary_cross_entropy_with_logits(logits, label)
    if kind == "least_squares":
        return functional.mse_loss(logits, label)
    raise ValueError(f"GAN loss {kind!r} is none of {GAN_LOSSES}")


def masked_l1(synthetic: torch.Tensor, real: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference over the pixels where ``mask`` is 1 (Lee et al. 2020's L1 with all
    ones).

    Args:
        synthetic: [n, 1, h, w].
        real: The same shape.
        mask: The same shape, 0 or 1. All zeros give a loss of 0, not NaN.
    """
    difference = (synthetic.float() - real.float()).abs() * mask
    return difference.sum() / mask.sum().clamp(min=1.0)
