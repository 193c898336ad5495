"""Grey levels: HU by a fixed window, MR signal by one robust range per volume.

Grey levels run from 0 to 255 whatever their number, stored as 32-bit float. A range is never taken
from a slice or a crop: the same tissue would get another grey in each slice.
"""

import numpy as np
import SimpleITK as sitk

from mrsynth.errors import Refusal, StudyError
from mrsynth.volume import to_array

GREY_MAX = 255.0
"""Top of the grey scale of the papers (256 levels from 0)."""

N4_PIXELS = 48
"""Pixels per row of the copy on which the bias field is fitted; the field is far smoother than
that."""

N4_ITERATIONS = (30, 30, 20)
"""Iterations per fitting level; a level doubles the spline's control points. Three levels resolve a
quarter of the field of view, finer ones begin to take out anatomy."""

N4_CONVERGENCE = 1e-3
"""Relative change of the field that ends a level; ITK's own stays at work on changes of no
consequence."""

METHODS = ("auto", "window", "range", "none")


def to_grey_levels(
    images: list[sitk.Image],
    *,
    body: list[sitk.Image],
    valid: list[sitk.Image],
    kind: str,
    method: str = "auto",
    center_hu: float = 40.0,
    width_hu: float = 400.0,
    lower_percentile: float = 0.5,
    upper_percentile: float = 99.5,
    bias_correction: str = "none",
    levels: int = 256,
) -> tuple[list[sitk.Image], dict]:
    """One side of a pair as grey levels, by the way that fits its modality.

    Args:
        images: All stacks of the side.
        body: Masks of the patient, same grids.
        valid: Masks of the moving image's field; a range is measured where both images are.
        kind: Modality in small letters (``ct``, ``mr``, ``cr``, ``dx``); decides what ``auto`` is.
        method: ``window`` (HU), ``range`` (robust range of the volume), ``none`` (grey levels
            already), or ``auto``: the window for CT, else the range.
        center_hu: As in :func:`window_ct`.
        width_hu: As in :func:`window_ct`.
        lower_percentile: As in :func:`window_mr`.
        upper_percentile: As in :func:`window_mr`.
        bias_correction: As in :func:`window_mr`.
        levels: Number of grey levels.

    Returns:
        The images, and what was done: ``method``, ``low`` and ``high`` (HU or signal of grey 0 and
        255), ``bias_skipped`` (stacks, from 1, too flat for a bias field).

    Raises:
        Refusal: As :func:`window_mr`.
        StudyError: A setting is out of its range.
    """
    if method not in METHODS:
        raise StudyError(f"window method is {method!r}; use one of {', '.join(METHODS)}.")
    if method == "auto":
        method = "window" if kind == "ct" else "range"
    if method == "none":
        return [keep_grey(image) for image in images], {"method": "none"}
    if method == "window":
        settings = {"center_hu": center_hu, "width_hu": width_hu, "levels": levels}
        ends = {"low": center_hu - width_hu / 2, "high": center_hu + width_hu / 2}
        return [window_ct(image, **settings) for image in images], {"method": "window", **ends}
    masks = [_both(*pair) for pair in zip(body, valid, strict=True)]
    if bias_correction != "none":
        images = _corrected(images, masks, bias_correction)
    low, high = signal_range(images, masks, lower_percentile, upper_percentile)
    grey = [_like(to_grey(to_array(image), low, high, levels), image) for image in images]
    done = {"method": "range", "bias_correction": bias_correction, "low": low, "high": high}
    if bias_correction != "none":
        numbered = enumerate(images, start=1)
        done["bias_skipped"] = [number for number, image in numbered if not has_depth(image)]
    return grey, done


def window_ct(
    image: sitk.Image, *, center_hu: float = 40.0, width_hu: float = 400.0, levels: int = 256
) -> sitk.Image:
    """Map HU linearly from ``center ± width/2`` to grey 0–255, clipped and rounded.

    Lee et al. (2020) report no window; centre 40, width 400 (soft tissue) is ours. Jin et al.
    (2019) use centre 40, width 80 for the brain.

    Args:
        image: CT in HU.
        center_hu: Middle of the window, HU.
        width_hu: Width of the window, HU.
        levels: Number of grey levels between 0 and 255.

    Returns:
        Image on the same grid, 32-bit float in 0–255.

    Raises:
        StudyError: The width or the number of levels is out of its range.
    """
    if not width_hu > 0:
        raise StudyError(f"window width_hu is {width_hu!r}; give a positive number of HU.")
    low = center_hu - width_hu / 2
    return _like(to_grey(to_array(image), low, low + width_hu, levels), image)


def window_mr(
    images: list[sitk.Image],
    *,
    masks: list[sitk.Image] | None = None,
    lower_percentile: float = 0.5,
    upper_percentile: float = 99.5,
    bias_correction: str = "none",
    levels: int = 256,
) -> list[sitk.Image]:
    """Map the signal of all stacks of one volume by one robust range to grey 0–255.

    Args:
        images: The stacks of one acquired series.
        masks: Body mask of each stack, same grids; None takes all voxels.
        lower_percentile: Percentile of the body's signal that becomes grey 0.
        upper_percentile: Percentile that becomes grey 255.
        bias_correction: ``none`` or ``n4``.
        levels: Number of grey levels between 0 and 255.

    Returns:
        Images on the same grids, 32-bit float in 0–255.

    Raises:
        Refusal: ``NO_BODY`` (empty masks), ``FLAT_SIGNAL`` or ``BIAS_FIELD``.
        StudyError: A setting is out of its range.
    """
    full = [sitk.Image(image) * 0 + 1 for image in images] if masks is None else masks
    return to_grey_levels(
        images,
        body=full,
        valid=full,
        kind="mr",
        lower_percentile=lower_percentile,
        upper_percentile=upper_percentile,
        bias_correction=bias_correction,
        levels=levels,
    )[0]


def keep_grey(image: sitk.Image) -> sitk.Image:
    """Values that are grey levels already, clipped to 0–255 and else unchanged."""
    return _like(np.clip(to_array(image), 0, GREY_MAX), image)


def signal_range(
    images: list[sitk.Image],
    masks: list[sitk.Image],
    lower_percentile: float = 0.5,
    upper_percentile: float = 99.5,
) -> tuple[float, float]:
    """The two percentiles of the signal inside the masks, over all stacks at once."""
    if not 0 <= lower_percentile < upper_percentile <= 100:
        raise StudyError(
            f"window lower_percentile is {lower_percentile!r}, "
            f"upper_percentile {upper_percentile!r}; give 0 ≤ lower < upper ≤ 100."
        )
    inside = _inside(images, masks)
    low, high = np.percentile(inside, [lower_percentile, upper_percentile])
    if not high > low:
        raise Refusal(
            "FLAT_SIGNAL",
            f"the signal is {low:g} at both ends of its robust range",
            "Look at the converted volume; exclude an empty series in config/cohort.tsv.",
        )
    return float(low), float(high)


def to_grey(values: np.ndarray, low: float, high: float, levels: int = 256) -> np.ndarray:
    """Values mapped linearly from ``low``..``high`` to 0..255, clipped, on ``levels`` grey
    levels."""
    if levels < 2:
        raise StudyError(f"window levels is {levels!r}; give at least 2.")
    share = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0, 1)
    return (np.rint(share * (levels - 1)) * (GREY_MAX / (levels - 1))).astype(np.float32)


def correct_bias(images: list[sitk.Image], masks: list[sitk.Image]) -> list[sitk.Image]:
    """Divide out the slowly varying receive field of each stack (N4, Tustison et al. 2010).

    The field is fitted on a copy shrunk in the slices and has a geometric mean of 1 inside the
    body, so that a stack's brightness against the other stacks of the volume stays as acquired. A
    stack without depth (:func:`has_depth`) is left as it is.

    Raises:
        Refusal: ``BIAS_FIELD`` if the fit breaks down.
    """
    return [_n4(image, mask) for image, mask in zip(images, masks, strict=True)]


def has_depth(image: sitk.Image) -> bool:
    """Whether every axis has two voxels or more: N4's spline needs an extent along each."""
    return min(image.GetSize()) >= 2


def _n4(image: sitk.Image, mask: sitk.Image) -> sitk.Image:
    image = sitk.Cast(image, sitk.sitkFloat32)
    if not has_depth(image):
        return image
    body = sitk.And(mask > 0.5, image > 0)
    shrink = [max(1, size // N4_PIXELS) for size in image.GetSize()[:2]] + [1]
    small, small_body = sitk.Shrink(image, shrink), sitk.Shrink(body, shrink)
    if not sitk.GetArrayViewFromImage(small_body).any():
        return image
    fit = sitk.N4BiasFieldCorrectionImageFilter()
    fit.SetMaximumNumberOfIterations(N4_ITERATIONS)
    fit.SetConvergenceThreshold(N4_CONVERGENCE)
    try:
        fit.Execute(small, small_body)
        field = to_array(fit.GetLogBiasFieldAsImage(image)).astype(np.float64)
    except RuntimeError:
        raise Refusal(
            "BIAS_FIELD",
            f"no bias field could be fitted to a stack of {image.GetSize()} voxels",
            "Set window's bias_correction to none, or leave the series out.",
        ) from None
    inside = to_array(body) > 0
    field -= field[inside].mean()
    return _like((to_array(image) / np.exp(field)).astype(np.float32), image)


def _corrected(images, masks, bias_correction: str) -> list[sitk.Image]:
    if bias_correction != "n4":
        raise StudyError(f"window bias_correction is {bias_correction!r}; use none or n4.")
    return correct_bias(images, masks)


def _both(body: sitk.Image, valid: sitk.Image) -> sitk.Image:
    return sitk.And(body > 0.5, valid > 0.5)


def _inside(images: list[sitk.Image], masks: list[sitk.Image]) -> np.ndarray:
    """The finite values inside the masks of all stacks, in one row."""
    values = [to_array(a)[to_array(m) > 0.5] for a, m in zip(images, masks, strict=True)]
    inside = np.concatenate(values) if values else np.empty(0)
    inside = inside[np.isfinite(inside)]
    if inside.size == 0:
        raise Refusal(
            "NO_BODY",
            "no voxel of the volume lies in the body and in the field of both images",
            "Look at the registration's figure.",
        )
    return inside


def _like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    result = sitk.GetImageFromArray(array.astype(np.float32))
    result.CopyInformation(image)
    return result
