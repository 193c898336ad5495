"""The part of a slice that is kept: one range, measured on the training subjects, applied to all.

Lee et al. (2020), Fig. 3. A range is in mm from an anchor, so that it means the same in every
patient and at every pixel size.
"""

from dataclasses import dataclass

import numpy as np

from mrsynth.errors import StudyError

ANCHORS = {"paper": "sac", "body": "body", "none": "field"}
"""Setting ``pack.crop`` and the point that the range is measured from."""

EDGE = 1e-6
"""Tolerance, pixels, for a pixel's centre on the border of the range."""


@dataclass(frozen=True)
class Range:
    """The part of a slice that is kept, in mm from its anchor.

    Attributes:
        ventral_mm: Upwards in the image (ventral in axial slices).
        dorsal_mm: Downwards.
        lateral_mm: To either side.
        anchor: ``sac`` (the sac's centre), ``body`` (middle of the body's bounding box) or
            ``field`` (middle of the crop).
    """

    ventral_mm: float
    dorsal_mm: float
    lateral_mm: float
    anchor: str = "sac"


def crop_range(
    crops: list[dict],
    *,
    crop: str = "paper",
    margin_mm: float = 0.0,
    lateral_margin_mm: float | None = None,
    quantile: float = 1.0,
) -> Range:
    """Measure the crop range on the training crops.

    Lee et al. (2020), Fig. 3: the image begins at the most ventral part of the vertebral body,
    reaches as far dorsally from the sac's centre, and is as wide, symmetric about the sac, as both
    sides of the body need in all images.

    Args:
        crops: Crop files' arrays of the training subjects, verdicts applied (:func:`select`).
        crop: ``paper``, ``body`` (bounding boxes of the body masks) or ``none`` (the whole crops).
        margin_mm: Added on every side, mm (paper: 0).
        lateral_margin_mm: Added on either side instead, mm; None takes ``margin_mm``.
        quantile: Quantile of the training measures that the range must hold (1: all images, as the
            paper).

    Returns:
        The range, to be applied to every role.

    Raises:
        StudyError: A setting is out of its range, or the crops lack the measures.
    """
    if crop not in ANCHORS:
        raise StudyError(f"pack.crop is {crop!r}; use one of {', '.join(ANCHORS)}.")
    sideward = margin_mm if lateral_margin_mm is None else lateral_margin_mm
    if not 0 < quantile <= 1 or not min(margin_mm, sideward) >= 0:
        raise StudyError(
            f"pack.quantile is {quantile!r}, margin_mm {margin_mm!r}, lateral_margin_mm "
            f"{lateral_margin_mm!r}; give 0 < quantile ≤ 1 and margins ≥ 0."
        )
    measures = [measure(c, n, crop) for c in crops for n in range(len(c["key"]))]
    measures = np.array([m for m in measures if np.isfinite(m).all()], dtype=float).reshape(-1, 2)
    if len(measures) == 0:
        raise StudyError(
            f"pack.crop is {crop!r} but no training slice has "
            + ("landmarks" if crop == "paper" else "a body")
            + "; set pack.crop to none, or pick.slices to discs."
        )
    up, side = map(float, np.quantile(measures, quantile, axis=0))
    return Range(up + margin_mm, up + margin_mm, side + sideward, ANCHORS[crop])


def pixel_size(range_: Range, size: tuple[int, int]) -> float:
    """Side of the square pixel, mm, at which the whole range fits the size."""
    height, width = range_.ventral_mm + range_.dorsal_mm, 2 * range_.lateral_mm
    return max(height / size[0], width / size[1])


def measure(arrays: dict, n: int, crop: str) -> tuple[float, float]:
    """How far a slice reaches from its anchor, mm: upwards (and downwards), sidewards."""
    if crop == "paper":
        return float(arrays["ventral_mm"][n]), float(arrays["lateral_mm"][n])
    shape = np.array(arrays["source"].shape[1:], dtype=float)
    if crop == "body":
        low, high = bounds(arrays["body"][n])
        shape = high - low + 1
    height, width = shape * arrays["pixel_mm"][n] / 2
    return float(height), float(width)


def anchor_of(arrays: dict, n: int, anchor: str) -> np.ndarray:
    """Row and column of the point that the range is measured from."""
    if anchor == "sac":
        return np.asarray(arrays["sac_px"][n], dtype=float)
    if anchor == "body":
        return np.mean(bounds(arrays["body"][n]), axis=0)
    return (np.array(arrays["source"].shape[1:]) - 1) / 2


def bounds(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last row and column of a mask; NaN if it is empty."""
    places = np.argwhere(mask)
    if len(places) == 0:
        return np.full(2, np.nan), np.full(2, np.nan)
    return places.min(axis=0), places.max(axis=0)


def offsets(range_: Range, size: tuple[int, int], pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the final rows and columns from the anchor, mm; the range stands in the
    middle."""
    middle = (range_.dorsal_mm - range_.ventral_mm) / 2
    rows = (np.arange(size[0]) - (size[0] - 1) / 2) * pixel + middle
    columns = (np.arange(size[1]) - (size[1] - 1) / 2) * pixel
    return rows, columns


def in_range(range_: Range, size: tuple[int, int], pixel: float) -> np.ndarray:
    """Which pixels of the final image are no letterbox."""
    rows, columns = offsets(range_, size, pixel)
    slack = EDGE * pixel
    inside = (rows >= -range_.ventral_mm - slack) & (rows <= range_.dorsal_mm + slack)
    return inside[:, None] & (np.abs(columns) <= range_.lateral_mm + slack)[None, :]
