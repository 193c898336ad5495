"""Low-resolution images made from real ones, for super-resolution (Galbusera et al. 2018)."""

import numpy as np
import torch
from torch.nn import functional

from mrsynth.errors import StudyError

WAYS = {"linear": "bilinear", "cubic": "bicubic"}
"""How an image is brought back to its size: name in the settings → torch's."""


def degrade(images: np.ndarray, factor: int, way: str = "linear") -> np.ndarray:
    """Images at a lower resolution, brought back to their size.

    The way down is linear without a low-pass, as the paper's 512² to 128² was ("linearly
    down-sampled"); so what is lost is also aliased.

    Args:
        images: [n, h, w]; h and w multiples of ``factor``.
        factor: Side of the large pixels in small ones.
        way: How they are brought back: ``linear`` (the paper's input, and its first baseline) or
            ``cubic`` (its second baseline).

    Returns:
        float32 [n, h, w] within the images' range.

    Raises:
        StudyError: If the size is no multiple of the factor.
    """
    images = np.asarray(images, np.float32)
    height, width = images.shape[1:]
    if factor < 2 or height % factor or width % factor:
        raise StudyError(
            f"config key 'pack.degrade' = {factor} does not divide 'pack.size' = "
            f"{[height, width]}; give a whole number above 1 that divides both"
        )
    if way not in WAYS:
        raise ValueError(f"way {way!r} is none of {', '.join(WAYS)}")
    if not len(images):
        return images
    small = functional.interpolate(
        torch.from_numpy(images)[:, None], scale_factor=1 / factor, mode="bilinear"
    )
    # On the way up antialias filters nothing; it chooses Keys's kernel of −0.5, which keeps planes.
    large = functional.interpolate(small, size=(height, width), mode=WAYS[way], antialias=True)
    return large[:, 0].numpy().clip(images.min(), images.max())
