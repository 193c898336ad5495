"""Image similarity to the real image: errors, signal-to-noise ratios, structural similarity.

Every metric has the form ``name(reference, synthetic, *, mask=None, data_range=255.0) -> float``.

Policies, the same for all:

* arrays have equal shapes (else ``ValueError``) and are compared as 64-bit floats, never as 8-bit
  integers, whose differences would wrap around;
* a mask (non-zero is inside) selects the pixels; with no pixel inside, the metric is NaN;
* a non-finite pixel inside the region makes the metric NaN: a broken image is seen, not averaged
  away;
* ``data_range`` is a constant of the study (256 grey levels), never taken from an image, so that
  values of different images can be compared;
* identical images have MAE 0, an infinite PSNR and SSIM 1. The infinity is kept: a mean that holds
  it is infinite and its SD undefined.
"""

import math

import numpy as np
from skimage.metrics import structural_similarity

from mrsynth import sharpness

DATA_RANGE = 255.0
"""Range of 256 grey levels, the scale of every image from `window` on."""

PAPER_OFFSET_DB = 10.0 * math.log10(DATA_RANGE**2)
"""48.1308 dB. The papers' code takes 20·log10(255²) where 10·log10(255²) is meant: the numbers
printed (Lee et al. 2020, Table 1: 64.92 dB at an MAE of 21.19) are the true PSNR plus this
constant."""

SSIM_WINDOW = 7
"""Side of the sliding window in pixels: the default of scikit-image, used by most published
values."""


VIF_WINDOW = 41
"""Smallest side in pixels: four scales of windows of 17 to 3 pixels."""


def mae(reference, synthetic, *, mask=None, data_range: float = DATA_RANGE) -> float:
    """Mean absolute error in grey levels; ``data_range`` is not used."""
    first, second = _inside(reference, synthetic, mask)
    return float(np.mean(np.abs(first - second))) if first.size else math.nan


def mse(reference, synthetic, *, mask=None, data_range: float = DATA_RANGE) -> float:
    """Mean squared error in squared grey levels; ``data_range`` is not used."""
    first, second = _inside(reference, synthetic, mask)
    return float(np.mean((first - second) ** 2)) if first.size else math.nan


def psnr(reference, synthetic, *, mask=None, data_range: float = DATA_RANGE) -> float:
    """True peak signal-to-noise ratio, 10·log10(data_range² / MSE), in dB.

    Infinite for identical images, NaN where the MSE is.
    """
    error = mse(reference, synthetic, mask=mask)
    if error == 0:
        return math.inf
    return 10.0 * math.log10(data_range**2 / error) if math.isfinite(error) else math.nan


def psnr_paper(reference, synthetic, *, mask=None, data_range: float = DATA_RANGE) -> float:
    """The PSNR as the papers printed it: the true one + 48.1308 dB (10·log10(data_range²))."""
    return psnr(reference, synthetic, mask=mask, data_range=data_range) + 10.0 * math.log10(
        data_range**2
    )


def ssim(reference, synthetic, *, mask=None, data_range: float = DATA_RANGE) -> float:
    """Mean structural similarity of two images [h, w] (Wang et al. 2004, uniform 7×7 window).

    The mean is over the map's pixels inside the mask, less a border of three pixels where the
    window would leave the image; the window itself may look over the mask's edge. NaN where
    nothing is left.
    """
    first, second = _pair(reference, synthetic)
    if first.ndim != 2:
        raise ValueError(f"ssim compares single images [h, w], got {first.ndim} dimensions")
    inside = np.ones(first.shape, bool) if mask is None else _mask(mask, first.shape)
    if min(first.shape) < SSIM_WINDOW or not (np.isfinite(first) & np.isfinite(second)).all():
        return math.nan
    _, values = structural_similarity(
        first, second, win_size=SSIM_WINDOW, data_range=data_range, full=True
    )
    border = (slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2)),) * 2
    chosen = values[border][inside[border]]
    return float(chosen.mean()) if chosen.size else math.nan


def vifp(reference, synthetic, *, mask=None, data_range: float = DATA_RANGE) -> float:
    """Visual information fidelity in the pixel domain of two images [h, w] (Sheikh and Bovik 2006).

    1 for identical images, above 1 for a reference with enhanced contrast. Of whole images only:
    with a mask that leaves pixels out, for images below 41 pixels or without any variation it is
    NaN. The published constants belong to grey levels of 0–255, to which ``data_range`` is scaled.
    """
    first, second = _pair(reference, synthetic)
    if not _whole(first, second, mask) or min(first.shape) < VIF_WINDOW or not first.std():
        return math.nan
    # Imported where it is used: it takes a second, and only super-resolution asks for it.
    import torch
    from torchmetrics.functional.image import visual_information_fidelity

    images = [
        torch.from_numpy(image * (255.0 / data_range))[None, None] for image in (second, first)
    ]
    return float(visual_information_fidelity(*images))


def cpbd(reference, synthetic, *, mask=None, data_range: float = DATA_RANGE) -> float:
    """Sharpness of the synthetic image [h, w] alone (:mod:`mrsynth.sharpness`), 0 to 1.

    The reference is not looked at. Of whole images only; NaN on an image without edges.
    """
    first, second = _pair(reference, synthetic)
    if not _whole(first, second, mask):
        return math.nan
    return sharpness.edge_cumulative(second * (255.0 / data_range))


METRICS = {
    "mae": mae,
    "mse": mse,
    "psnr": psnr,
    "psnr_paper": psnr_paper,
    "ssim": ssim,
    "vifp": vifp,
    "cpbd": cpbd,
}
"""Name in the settings and in the long table → function."""

COMMON = ("mae", "mse", "psnr", "psnr_paper", "ssim")
"""What is measured unless a study asks for more."""

WHOLE = ("vifp", "cpbd")
"""Metrics of whole images, without a value in a region."""


def _pair(reference, synthetic) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(reference, np.float64), np.asarray(synthetic, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"images of different shapes: {first.shape} and {second.shape}")
    return first, second


def _whole(first: np.ndarray, second: np.ndarray, mask) -> bool:
    """Whether two images are finite, single and wholly inside the mask."""
    if first.ndim != 2:
        raise ValueError(f"a metric of single images [h, w] got {first.ndim} dimensions")
    if mask is not None and not _mask(mask, first.shape).all():
        return False
    return bool(np.isfinite(first).all() and np.isfinite(second).all())


def _mask(mask, shape: tuple[int, ...]) -> np.ndarray:
    inside = np.asarray(mask) != 0
    if inside.shape != shape:
        raise ValueError(f"mask of shape {inside.shape} for images of shape {shape}")
    return inside


def _inside(reference, synthetic, mask) -> tuple[np.ndarray, np.ndarray]:
    first, second = _pair(reference, synthetic)
    if mask is None:
        return first.ravel(), second.ravel()
    inside = _mask(mask, first.shape)
    return first[inside], second[inside]
