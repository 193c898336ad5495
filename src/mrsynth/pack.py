"""What a training reads: one file per task, fold and role, at one size, with one crop range.

The range is measured on the training subjects of the fold alone and applied to every role; verdicts
of the registration, and of people, decide which slices are in. Slices are found by subject and key,
never by place.
"""

from collections import Counter
from dataclasses import asdict

import numpy as np
from scipy import ndimage

from mrsynth.errors import StudyError
from mrsynth.extent import (
    Range,
    anchor_of,
    crop_range,
    in_range,
    offsets,
    pixel_size,
)
from mrsynth.resample import antialias_sigma
from mrsynth.subjects import person
from mrsynth.verdicts import apply_review, check_usable

SPLINE_ORDER = {"nearest": 0, "linear": 1, "cubic": 3}


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
    area = max(1, int(in_range(range_, size, pixel_size(range_, size)).sum()))
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
    review: list[dict] | None = None,
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
        review: People's verdicts on these subjects, rows of :func:`mrsynth.verdicts.resolve`.
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
        "subjects": len({person(name) for name in packed["subject"].tolist()}),
        "slices": len(packed["key"]),
        "slices_by_subject": dict(sorted(Counter(packed["subject"].tolist()).items())),
        "slices_by_verdict": dict(sorted(Counter(packed["verdict"].tolist()).items())),
        "letterbox": 1 - float(in_range(range_, size, pixel).mean()),
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


def _resampled(arrays, n, range_, size, pixel, order) -> dict[str, np.ndarray]:
    """The images of one crop on the final grid."""
    spacing = np.asarray(arrays["pixel_mm"][n], dtype=float)
    first = np.array([axis[0] for axis in offsets(range_, size, pixel)])
    offset = anchor_of(arrays, n, range_.anchor) + first / spacing
    grid = {"matrix": np.diag(pixel / spacing), "offset": offset, "output_shape": size}
    inside = in_range(range_, size, pixel)
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
