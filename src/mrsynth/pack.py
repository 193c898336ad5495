"""What a training reads: one file per task, fold and role, at one size, with one crop range.

The range is measured on the training subjects of the fold alone and applied to every role; verdicts
of the registration, and of people, decide which slices are in. Slices are found by subject and key,
never by place.
"""

from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from mrsynth.errors import StudyError
from mrsynth.resample import antialias_sigma
from mrsynth.verdicts import apply_review, check_usable

SPLINE_ORDER = {"nearest": 0, "linear": 1, "cubic": 3}
ANCHORS = {"paper": "sac", "body": "body", "none": "field"}

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
    measures = [_measure(c, n, crop) for c in crops for n in range(len(c["key"]))]
    measures = np.array([m for m in measures if np.isfinite(m).all()], dtype=float).reshape(-1, 2)
    if len(measures) == 0:
        raise StudyError(
            f"pack.crop is {crop!r} but no training slice has "
            + ("landmarks" if crop == "paper" else "a body")
            + "; set pack.crop to none, or pick.slices to discs."
        )
    up, side = map(float, np.quantile(measures, quantile, axis=0))
    return Range(up + margin_mm, up + margin_mm, side + sideward, ANCHORS[crop])


def select(
    crops: list[dict | None],
    subjects: list[str],
    *,
    records: list[dict] | None = None,
    verdicts: tuple[str, ...] | list[str] = ("accepted",),
    crop: str = "paper",
    setting: str = "pack.verdicts",
) -> tuple[list[dict], list[str], list[dict]]:
    """Leave out refused subjects, slices without an allowed verdict, and slices without an anchor.

    Args:
        crops: Crop files' arrays; None for a refused subject.
        subjects: Pseudonyms, in the same order.
        records: Crop records in the same order, for the refusals' codes.
        verdicts: Verdicts that may go in.
        crop: As in :func:`crop_range`; ``paper`` needs landmarks.
        setting: Name of the key that holds ``verdicts``, for the messages.

    Returns:
        Crops with at least one slice, their subjects, and rows ``subject, key, name, code,
        message``.

    Raises:
        StudyError: A verdict that can't go in.
    """
    check_usable(verdicts, setting)
    allowed = f"{setting} allows {', '.join(verdicts)}"
    kept, names, out = [], [], []
    for place, (arrays, subject) in enumerate(zip(crops, subjects, strict=True)):
        if arrays is None:
            record = records[place] if records else {}
            code, message = record.get("code", "REFUSED"), record.get("message", "")
            out.append(_left(subject, "", "", code, message))
            continue
        reasons = [_reason(arrays, n, verdicts, allowed, crop) for n in range(len(arrays["key"]))]
        for n, reason in enumerate(reasons):
            if reason:
                out.append(_left(subject, arrays["key"][n], arrays["name"][n], *reason))
        mask = np.array([not reason for reason in reasons], dtype=bool)
        if mask.any():
            kept.append({name: array[mask] for name, array in arrays.items()})
            names.append(subject)
    return kept, names, out


def pack(
    crops: list[dict],
    range_: Range,
    *,
    subjects: list[str],
    size: tuple[int, int] | list[int] = (256, 256),
    interpolation: str = "linear",
) -> dict[str, np.ndarray]:
    """Resample the range of every crop once, low-pass filtered, to the final size.

    Pixels are square and of one size for all slices. Where the range's aspect isn't that of
    ``size``, the image stands in the middle and the rest is letterbox: 0, with ``valid`` and
    ``body`` 0.

    Args:
        crops: Arrays of the crop files, as :func:`select` leaves them.
        range_: From :func:`crop_range`.
        subjects: Pseudonym of each crop.
        size: Rows and columns of the images.
        interpolation: ``linear``, ``cubic`` or ``nearest``; masks are always ``nearest``.

    Returns:
        The arrays of the pack file (``docs/architecture.md``), of length 0 if there is no crop.

    Raises:
        StudyError: A setting is out of its range.
    """
    if interpolation not in SPLINE_ORDER:
        raise StudyError(
            f"pack.interpolation is {interpolation!r}; use one of {', '.join(SPLINE_ORDER)}."
        )
    size = tuple(int(length) for length in size)
    if len(size) != 2 or min(size) < 1:
        raise StudyError(f"pack.size is {list(size)}; give rows and columns, both positive.")
    pixel = pixel_size(range_, size)
    rows: dict[str, list] = {name: [] for name in PACKED}
    for arrays, subject in zip(crops, subjects, strict=True):
        for n in range(len(arrays["key"])):
            images = _resampled(arrays, n, range_, size, pixel, SPLINE_ORDER[interpolation])
            for name, image in images.items():
                rows[name].append(image)
            rows["pixel_mm"].append((pixel, pixel))
            rows["subject"].append(subject)
            for name in ("name", "key", "verdict"):
                rows[name].append(str(arrays[name][n]))
    shapes = dict.fromkeys(("source", "target", "body", "valid"), (-1, *size))
    shapes["pixel_mm"] = (-1, 2)
    return {
        name: np.array(rows[name], dtype=dtype).reshape(shapes.get(name, -1))
        for name, dtype in PACKED.items()
    }


PACKED = {
    "source": np.float32,
    "target": np.float32,
    "body": np.uint8,
    "valid": np.uint8,
    "subject": np.str_,
    "name": np.str_,
    "key": np.str_,
    "verdict": np.str_,
    "pixel_mm": np.float32,
}


def pixel_size(range_: Range, size: tuple[int, int]) -> float:
    """Side of the square pixel, mm, at which the whole range fits the size."""
    height, width = range_.ventral_mm + range_.dorsal_mm, 2 * range_.lateral_mm
    return max(height / size[0], width / size[1])


def screen(
    packed: dict[str, np.ndarray],
    range_: Range,
    *,
    min_valid: float = 0.5,
    min_body: float = 0.01,
) -> tuple[dict[str, np.ndarray], list[dict]]:
    """Leave out slices that show too little: outside the moving image's field, or without a
    patient.

    Args:
        packed: From :func:`pack`.
        range_: The range that was packed; letterbox doesn't count.
        min_valid: Least share of the range inside the moving image's field.
        min_body: Least share of the range that is body.

    Returns:
        The arrays without those slices, and rows ``subject, key, name, code, message`` with the
        codes ``FIELD`` and ``EMPTY``.
    """
    if not (0 <= min_valid <= 1 and 0 <= min_body <= 1):
        raise StudyError(
            f"pack.min_valid is {min_valid!r}, min_body {min_body!r}; give shares from 0 to 1."
        )
    size = packed["source"].shape[1:]
    area = max(1, int(_in_range(range_, size, pixel_size(range_, size)).sum()))
    valid = packed["valid"].sum(axis=(1, 2), dtype=int) / area
    body = (packed["body"] & packed["valid"]).sum(axis=(1, 2), dtype=int) / area
    out = []
    for n, (subject, key, name) in enumerate(
        zip(packed["subject"], packed["key"], packed["name"], strict=True)
    ):
        if valid[n] < min_valid:
            message = f"{valid[n]:.2f} of the range is in both fields, pack.min_valid {min_valid:g}"
            out.append(_left(subject, key, name, "FIELD", message))
        elif body[n] < min_body:
            message = f"{body[n]:.3f} of the range is body, pack.min_body {min_body:g}"
            out.append(_left(subject, key, name, "EMPTY", message))
    kept = (valid >= min_valid) & (body >= min_body)
    return {name: array[kept] for name, array in packed.items()}, out


def assemble(
    crops: list[dict | None],
    records: list[dict],
    train_crops: list[dict | None],
    train_records: list[dict],
    *,
    subjects: list[str],
    train_subjects: list[str],
    task: str = "",
    fold: int = 0,
    role: str = "",
    review: pd.DataFrame | None = None,
    size: tuple[int, int] | list[int] = (256, 256),
    crop: str = "paper",
    margin_mm: float = 0.0,
    lateral_margin_mm: float | None = None,
    quantile: float = 1.0,
    verdicts: tuple[str, ...] | list[str] = ("accepted",),
    test_verdicts: tuple[str, ...] | list[str] = ("accepted", "review"),
    interpolation: str = "linear",
    min_valid: float = 0.5,
    min_body: float = 0.01,
) -> tuple[dict[str, np.ndarray], dict]:
    """Everything from crop files to one pack file and its record.

    Args:
        crops: Crop files' arrays of this role's subjects; None for a refused subject.
        records: Their records.
        train_crops: The same of the fold's training subjects, for the range alone.
        train_records: Their records.
        subjects: Pseudonyms, in the order of ``crops``.
        train_subjects: Pseudonyms, in the order of ``train_crops``.
        task: Name of the task.
        fold: Number of the fold.
        role: ``train``, ``validation`` or ``test``.
        review: Table of :func:`mrsynth.verdicts.read_review`.
        size: As in :func:`pack`.
        crop: As in :func:`crop_range`.
        margin_mm: As in :func:`crop_range`.
        lateral_margin_mm: As in :func:`crop_range`.
        quantile: As in :func:`crop_range`.
        verdicts: As in :func:`select`, for training, validation and the range.
        test_verdicts: The same for the role ``test``.
        interpolation: As in :func:`pack`.
        min_valid: As in :func:`screen`.
        min_body: As in :func:`screen`.

    Returns:
        Arrays of the pack file and the entries of its record.

    Raises:
        StudyError: No training slice is left, or a setting is out of its range.
    """
    resampling = {"size": size, "interpolation": interpolation}
    shares = {"min_valid": min_valid, "min_body": min_body}
    train_crops, _ = apply_review(train_crops, train_subjects, review, task)
    train, names, out = select(
        train_crops, train_subjects, records=train_records, verdicts=verdicts, crop=crop
    )
    if not train:
        raise StudyError(_nothing_left(task, fold, train_subjects, out))
    margins = {"margin_mm": margin_mm, "lateral_margin_mm": lateral_margin_mm}
    range_ = crop_range(train, crop=crop, quantile=quantile, **margins)
    crops, changes = apply_review(crops, subjects, review, task)
    if role == "test":
        verdicts, setting = test_verdicts, "pack.test_verdicts"
    else:
        setting = "pack.verdicts"
    chosen, names, out = select(
        crops, subjects, records=records, verdicts=verdicts, crop=crop, setting=setting
    )
    packed = pack(chosen, range_, subjects=names, **resampling)
    packed, dropped = screen(packed, range_, **shares)
    out += dropped
    if role == "train" and len(packed["key"]) == 0:
        raise StudyError(_nothing_left(task, fold, subjects, out))
    size = tuple(size)
    pixel = pixel_size(range_, size)
    record = {
        "range": asdict(range_),
        "pixel_mm": pixel,
        "subjects": len(set(packed["subject"].tolist())),
        "slices": len(packed["key"]),
        "slices_by_subject": dict(sorted(Counter(packed["subject"].tolist()).items())),
        "slices_by_verdict": dict(sorted(Counter(packed["verdict"].tolist()).items())),
        "letterbox": 1 - float(_in_range(range_, size, pixel).mean()),
        "left_out": out,
        "left_out_by_code": dict(sorted(Counter(row["code"] for row in out).items())),
        "reviewed": changes,
    }
    return packed, record


def _nothing_left(task: str, fold: int, subjects: list[str], out: list[dict]) -> str:
    return (
        f"task '{task}', fold {fold}: no training slice is left of {len(subjects)} subjects "
        f"({_told(out)}). See the subjects' records; then change pack.verdicts (VERDICT), "
        "pack.crop (NO_LANDMARKS) or pack.min_valid (FIELD), or judge the pairs in "
        "config/review.tsv"
    )


def _told(out: list[dict]) -> str:
    """Codes, most frequent first, with the number of rows and whose they are."""
    parts = []
    for code, count in Counter(row["code"] for row in out).most_common():
        names = list(dict.fromkeys(row["subject"] for row in out if row["code"] == code))
        parts.append(f"{code} {count}: {', '.join(names)}")
    return "; ".join(parts) or "no subjects"


def _reason(arrays: dict, n: int, verdicts, allowed: str, crop: str) -> tuple[str, str] | None:
    """Code and message why a slice can't go in, or None."""
    verdict = str(arrays["verdict"][n])
    if verdict not in verdicts:
        return "VERDICT", f"verdict {verdict}; {allowed}"
    if crop == "paper" and not np.isfinite(arrays["sac_px"][n]).all():
        return "NO_LANDMARKS", "pack.crop: paper needs the sac's centre"
    if crop == "body" and not arrays["body"][n].any():
        return "EMPTY", "pack.crop: body needs a body mask"
    return None


def _measure(arrays: dict, n: int, crop: str) -> tuple[float, float]:
    """How far a slice reaches from its anchor, mm: upwards (and downwards), sidewards."""
    if crop == "paper":
        return float(arrays["ventral_mm"][n]), float(arrays["lateral_mm"][n])
    shape = np.array(arrays["source"].shape[1:], dtype=float)
    if crop == "body":
        low, high = _bounds(arrays["body"][n])
        shape = high - low + 1
    height, width = shape * arrays["pixel_mm"][n] / 2
    return float(height), float(width)


def _anchor(arrays: dict, n: int, anchor: str) -> np.ndarray:
    """Row and column of the point that the range is measured from."""
    if anchor == "sac":
        return np.asarray(arrays["sac_px"][n], dtype=float)
    if anchor == "body":
        return np.mean(_bounds(arrays["body"][n]), axis=0)
    return (np.array(arrays["source"].shape[1:]) - 1) / 2


def _bounds(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last row and column of a mask; NaN if it is empty."""
    places = np.argwhere(mask)
    if len(places) == 0:
        return np.full(2, np.nan), np.full(2, np.nan)
    return places.min(axis=0), places.max(axis=0)


def _offsets(range_: Range, size: tuple[int, int], pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the final rows and columns from the anchor, mm; the range stands in the
    middle."""
    middle = (range_.dorsal_mm - range_.ventral_mm) / 2
    rows = (np.arange(size[0]) - (size[0] - 1) / 2) * pixel + middle
    columns = (np.arange(size[1]) - (size[1] - 1) / 2) * pixel
    return rows, columns


def _in_range(range_: Range, size: tuple[int, int], pixel: float) -> np.ndarray:
    """Which pixels of the final image are no letterbox."""
    rows, columns = _offsets(range_, size, pixel)
    slack = EDGE * pixel
    inside = (rows >= -range_.ventral_mm - slack) & (rows <= range_.dorsal_mm + slack)
    return inside[:, None] & (np.abs(columns) <= range_.lateral_mm + slack)[None, :]


def _resampled(arrays, n, range_, size, pixel, order) -> dict[str, np.ndarray]:
    """The images of one crop on the final grid."""
    spacing = np.asarray(arrays["pixel_mm"][n], dtype=float)
    first = np.array([axis[0] for axis in _offsets(range_, size, pixel)])
    offset = _anchor(arrays, n, range_.anchor) + first / spacing
    grid = {"matrix": np.diag(pixel / spacing), "offset": offset, "output_shape": size}
    inside = _in_range(range_, size, pixel)
    sigma = antialias_sigma(spacing, np.full(2, pixel))
    images = {}
    for name in ("source", "target"):
        image = arrays[name][n].astype(np.float64)
        if order > 0:
            image = ndimage.gaussian_filter(image, sigma, mode="nearest")
        image = ndimage.affine_transform(image, order=order, mode="grid-constant", cval=0.0, **grid)
        images[name] = np.where(inside, np.clip(image, 0, 255), 0).astype(np.float32)
    for name in ("body", "valid"):
        mask = ndimage.affine_transform(
            arrays[name][n], order=0, mode="grid-constant", cval=0, **grid
        )
        images[name] = (mask.astype(bool) & inside).astype(np.uint8)
    return images


def _left(subject, key, name, code, message) -> dict:
    values = (subject, key, name, code, message)
    return dict(zip(("subject", "key", "name", "code", "message"), map(str, values), strict=True))
