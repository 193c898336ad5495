"""Body-sized crops around the picked slices, by whole pixels: nothing is interpolated or fitted
here.

The paper's range (Lee et al. 2020, Fig. 3) depends on the training subjects and is applied in
``pack``; a crop holds a box around the thecal sac that is large enough for it, and the measures
that the range is made of.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from mrsynth.errors import Refusal, StudyError
from mrsynth.volume import affine, to_array

VIEWS = {
    # Patient direction of rising rows and columns (LPS), as radiologists look at the slices.
    "axial": ((0, 1, 0), (1, 0, 0)),
    "sagittal": ((0, 0, -1), (0, 1, 0)),
    "coronal": ((0, 0, -1), (1, 0, 0)),
}

IMAGES = ("source", "target", "body", "valid")


def crop(
    source: list[sitk.Image],
    target: list[sitk.Image],
    valid: list[sitk.Image],
    body: list[sitk.Image],
    picks: pd.DataFrame,
    *,
    box_mm: float | None = 220.0,
    verdicts: dict[int, str] | None = None,
    posed: dict[int, bool] | None = None,
) -> dict[str, np.ndarray]:
    """Cut out the picked slices.

    Args:
        source: Grey levels of each stack, from the first stack on.
        target: The same grids.
        valid: Masks of the moving image's field.
        body: Masks of the patient.
        picks: Table of :func:`mrsynth.pick.pick`; only rows with status ``picked`` count.
        box_mm: Side of the square box around the sac's centre, mm; None, and slices without a sac,
            keep the whole slice.
        verdicts: Registration's verdict by stack number; None calls all ``accepted`` (same frame).
        posed: Whether the registration has a pose, by stack number; None says yes.

    Returns:
        The arrays of the crop file (``docs/architecture.md``). Axial rows run ventral to dorsal,
        columns from the patient's right to left; sagittal rows cranial to caudal, columns ventral
        to dorsal. Crops of different sizes are padded with 0 (``valid`` 0); whole slices stay in
        the middle.

    Raises:
        Refusal: ``NO_SLICES`` if nothing was picked; the message counts the reasons.
        StudyError: The box has no size.
    """
    if box_mm is not None and not box_mm > 0:
        raise StudyError(f"crop.box_mm is {box_mm!r}; give a positive length in mm, or null.")
    rows = picks[picks["status"] == "picked"].to_dict("records")
    if not rows:
        raise Refusal(
            "NO_SLICES",
            f"no slice was picked ({count_text(picks['code'])})",
            "See the subject's table of picks; relax pick.max_offset_mm, max_angle_deg or rule.",
        )
    stacks = dict(zip(IMAGES, (source, target, body, valid), strict=True))
    cuts = [_cut(stacks, row, box_mm) for row in rows]
    shape = np.max([cut["source"].shape for cut in cuts], axis=0)
    for cut in cuts:
        _pad(cut, shape)
    arrays = {name: np.stack([cut[name] for cut in cuts]) for name in cuts[0]}
    arrays["name"] = np.array([str(row["name"]) for row in rows])
    arrays["key"] = np.array([slice_key(row) for row in rows])
    verdicts, posed = verdicts or {}, posed or {}
    arrays["verdict"] = np.array([verdicts.get(int(row["stack"]), "accepted") for row in rows])
    arrays["posed"] = np.array([posed.get(int(row["stack"]), True) for row in rows], np.uint8)
    return arrays


def slice_key(row: dict) -> str:
    """The key of a slice, unique within a subject, such as ``stack-2_slice-03``."""
    return f"stack-{int(row['stack'])}_slice-{int(row['slice']):02d}"


def verdicts_of(registration: dict, stacks: int) -> dict[int, str]:
    """Verdict by stack number from `register`'s record; a stack without its own has the whole
    image's."""
    whole = registration.get("verdict") or "failed"
    own = {int(entry["stack"]): entry["verdict"] for entry in registration.get("stacks") or []}
    return {number: own.get(number, whole) for number in range(1, stacks + 1)}


def posed_of(registration: dict, stacks: int) -> dict[int, bool]:
    """Whether there is a pose, by stack number, from `register`'s record; where it doesn't say,
    a failed one has none."""
    own = {int(entry["stack"]): entry for entry in registration.get("stacks") or []}
    entries = {number: own.get(number, registration) for number in range(1, stacks + 1)}
    return {
        number: bool(entry.get("posed", entry.get("verdict", "failed") != "failed"))
        for number, entry in entries.items()
    }


def measures(crops: dict[str, np.ndarray]) -> list[dict]:
    """One row per slice for the record: its names, verdict and measures (mm)."""
    names = ("key", "name", "verdict", "ventral_mm", "lateral_mm")
    columns = [crops[name].tolist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def count_text(codes) -> str:
    """Reason codes with their counts, most frequent first, such as ``OFFSET 3, ANGLE 1``."""
    counts = pd.Series(list(codes), dtype=str).value_counts().sort_index()
    counts = counts.sort_values(ascending=False, kind="stable")
    return ", ".join(f"{code} {count}" for code, count in counts.items()) or "no candidates"


def view(stack: sitk.Image) -> str:
    """The anatomical plane nearest to the stack's slices."""
    normal = np.array(stack.GetDirection()).reshape(3, 3)[:, 2]
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(normal)))]


def read_npz(path: str | Path) -> dict[str, np.ndarray] | None:
    """Arrays of a crop or pack file, never pickles; None for the empty file of a refused
    subject."""
    if Path(path).stat().st_size == 0:
        return None
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def write_npz(arrays: dict[str, np.ndarray], path: str | Path) -> None:
    """Write arrays compressed; numpy dates the members 1980, so equal arrays give equal bytes."""
    np.savez_compressed(path, **{name: arrays[name] for name in sorted(arrays)})


def _cut(stacks: dict[str, list[sitk.Image]], row: dict, box_mm: float | None) -> dict:
    """One picked slice: images turned to the radiologist's view, cut to the box, and its
    measures."""
    grid = stacks["target"][int(row["stack"]) - 1]
    axes, signs = orientation(grid)
    spacing = np.array(grid.GetSpacing())[list(axes)]
    size = np.array(grid.GetSize())[list(axes)]
    sac = _place(row, "sac", grid, axes, signs)
    start, stop = np.zeros(2, int), size
    if box_mm is not None and np.isfinite(sac).all():
        length = np.maximum(1, np.rint(box_mm / spacing)).astype(int)
        start = np.rint(sac - (length - 1) / 2).astype(int)
        stop = start + length
    cut = {}
    for name, images in stacks.items():
        array = to_array(images[int(row["stack"]) - 1])[int(row["slice"])]
        array = _turn(array, axes, signs)
        array = _window(array, start, stop)
        mask = name in ("body", "valid")
        cut[name] = (array > 0.5).astype(np.uint8) if mask else array.astype(np.float32)
    direction = [
        sign * affine(grid)[:3, axis] / grid.GetSpacing()[axis]
        for axis, sign in zip(axes, signs, strict=True)
    ]
    along, across = direction
    to_ventral = (_point(row, "sac") - _point(row, "ventral")) @ along
    halves = [abs((_point(row, side) - _point(row, "sac")) @ across) for side in ("right", "left")]
    cut["pixel_mm"] = spacing.astype(np.float32)
    cut["sac_px"] = (sac - start).astype(np.float32)
    cut["ventral_mm"] = np.float32(to_ventral)
    cut["lateral_mm"] = np.float32(np.max(halves))
    return cut


def orientation(stack: sitk.Image) -> tuple[tuple[int, int], tuple[int, int]]:
    """Which image axis (0 or 1) becomes rows and which columns, and with which sign."""
    wanted = np.array(VIEWS[view(stack)], dtype=float)
    direction = np.array(stack.GetDirection()).reshape(3, 3)[:, :2]
    match = wanted @ direction
    swapped = abs(match[0, 0] * match[1, 1]) > abs(match[0, 1] * match[1, 0])
    axes = (0, 1) if swapped else (1, 0)
    signs = tuple(1 if match[n, axis] > 0 else -1 for n, axis in enumerate(axes))
    return axes, signs


def _turn(array: np.ndarray, axes, signs) -> np.ndarray:
    """A slice (y, x) as rows and columns of the view."""
    turned = array.T if axes == (0, 1) else array
    return turned[:: signs[0], :: signs[1]]


def _place(row: dict, point: str, grid: sitk.Image, axes, signs) -> np.ndarray:
    """Row and column (continuous, 0 at the first pixel's centre) of a landmark in the turned
    slice."""
    index = (np.linalg.inv(affine(grid)) @ np.append(_point(row, point), 1))[list(axes)]
    last = np.array(grid.GetSize())[list(axes)] - 1
    return np.where(np.array(signs) > 0, index, last - index)


def _point(row: dict, name: str) -> np.ndarray:
    return np.array([row[f"{name}_{axis}"] for axis in "xyz"], dtype=float)


def _window(array: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Part of a slice; zeros where the box leaves it."""
    result = np.zeros(tuple(stop - start), array.dtype)
    first, last = np.maximum(start, 0), np.minimum(stop, array.shape)
    if np.all(last > first):
        into = tuple(slice(a, b) for a, b in zip(first - start, last - start, strict=True))
        result[into] = array[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
    return result


def _pad(cut: dict, shape: np.ndarray) -> None:
    """Pad the images of a crop to a common shape, the crop in the middle, and move its sac
    along."""
    size = np.array(cut["source"].shape)
    before = (shape - size) // 2
    for name in IMAGES:
        cut[name] = _window(cut[name], -before, shape - before)
    cut["sac_px"] = cut["sac_px"] + before.astype(np.float32)
