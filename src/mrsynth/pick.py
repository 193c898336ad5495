"""Which acquired slices are compared, for which disc, and why the others are not.

A disc is a plane in the patient; a slice is a plane of the fixed image. Lee et al. (2020) take the
slice through the middle of the disc and parallel to the endplates, and leave pairs of different
planes out.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import SimpleITK as sitk

from mrsynth.errors import Refusal, StudyError
from mrsynth.geometry import angle_deg, apply, apply_direction, unit
from mrsynth.locate.landmarks import Disc, Landmarks
from mrsynth.verdicts import VERDICTS
from mrsynth.volume import affine

POINTS = ("centre", "sac", "ventral", "right", "left")
COLUMNS = [
    *("stack", "slice", "name", "offset_mm", "angle_deg", "status", "code"),
    *(f"{point}_{axis}" for point in POINTS for axis in "xyz"),
]

DISC_RADIUS_MM = 20.0
"""Half width of a lumbar disc: weighs angle against offset where two stacks cross the same disc."""

REACH_MM = 15.0
"""Half the height of a lumbar vertebra with its disc: a slice farther off belongs to another
level."""

FARTHEST_MOVE_MM = 100.0
"""Three lumbar levels: a person's point farther from the found one is in another frame (a changed
sign of x or y, voxels for mm) and no correction."""

STEEPEST_DEG = 80.0
"""A slice steeper to the disc than this one shows it edge on; its distance along the disc's normal
says nothing."""


def pick(
    stacks: list[sitk.Image],
    landmarks: Landmarks | None = None,
    matrices: list[np.ndarray] | None = None,
    *,
    slices: str = "discs",
    rule: str = "paper",
    max_offset_mm: float = 3.0,
    max_angle_deg: float = 10.0,
    levels: list[str] | None = None,
    neighbours: int = 0,
    landmarks_frame: str = "moving",
    verdict: str = "accepted",
) -> pd.DataFrame:
    """Choose slices of the fixed image.

    Args:
        stacks: Images of the fixed geometry; the third axis is the slices' normal. Only the
            geometry is read.
        landmarks: Discs and canal; not needed for ``all``.
        matrices: For each stack, the 4×4 matrix of fixed points to moving points (LPS mm); None
            where both images share a frame.
        slices: ``discs`` (for each disc the slice nearest its mid-plane), ``all``, or
            ``midsagittal`` (the slice nearest the canal's centre line).
        rule: ``paper`` leaves out a disc whose slice is tilted by more than ``max_angle_deg``;
            ``reformat`` (ours) keeps it, since the CT is reformatted on the MR's plane anyway.
        max_offset_mm: Largest distance of the slice from the disc's centre along the disc's normal,
            mm.
        max_angle_deg: Largest angle between slice and disc for the rule ``paper``, degrees.
        levels: Disc levels to keep, such as ``["L4-L5"]``; None keeps all, unnamed ones included.
        neighbours: With ``midsagittal``, how many slices on either side are taken too.
        landmarks_frame: Which image's frame the landmarks are given in: ``moving`` or ``fixed``.
        verdict: Verdict on the registration, for a refusal's message alone: whether a doubtful
            pair is used is for `pack` to say.

    Returns:
        One row per disc or slice, picked or out with a code (``NO_SLICE``: no slice near the
        disc shows its centre; ``OFFSET``, ``ANGLE``, ``LEVEL``; ``TAKEN``: the slice is nearer to
        another disc), columns as in ``docs/architecture.md``. Points are LPS mm of the fixed image.

    Raises:
        Refusal: ``NO_LANDMARKS``, ``NO_CANAL`` or ``NO_SLICES``.
        StudyError: A setting isn't one of its choices.
    """
    _check(slices, ("discs", "all", "midsagittal"), "slices")
    _check(rule, ("paper", "reformat"), "rule")
    _check(landmarks_frame, ("moving", "fixed"), "landmarks_frame")
    if not any(stack.GetSize()[2] for stack in stacks):
        told, remedy = _about(verdict, "Look at the earlier records.")
        raise Refusal("NO_SLICES", f"the pair has no slice in common{told}", remedy)
    if slices == "all":
        return _table(_all(stacks))
    if landmarks is None:
        raise Refusal(
            "NO_LANDMARKS",
            f"`pick.slices: {slices}` needs landmarks and there are none",
            "Give the user's landmarks to `locate`, or set pick.slices to all.",
        )
    if matrices is None or landmarks_frame == "fixed":
        matrices = [np.eye(4)] * len(stacks)
    to_fixed = [np.linalg.inv(np.asarray(matrix, dtype=float)) for matrix in matrices]
    if slices == "midsagittal":
        rows = _midsagittal(stacks, landmarks.canal, to_fixed, neighbours, max_offset_mm)
        return _table(rows)
    limit = max_angle_deg if rule == "paper" else STEEPEST_DEG
    rows = [
        _disc_row(stacks, to_fixed, disc, name, max_offset_mm, limit)
        for name, disc in named(landmarks)
    ]
    for row, disc in zip(rows, landmarks.discs, strict=True):
        if levels is not None and disc.level not in levels:
            row |= {"status": "out", "code": "LEVEL"}
    return _table(_once(rows))


def move(
    landmarks: Landmarks | None, moved: list[dict], slices: str = "discs"
) -> tuple[Landmarks | None, list[dict]]:
    """Landmarks with the points that people moved in the place of the found ones.

    Args:
        landmarks: As `locate` found them; None where nothing was looked for.
        moved: Rows of :func:`mrsynth.verdicts.moves`: ``disc`` (the name in the table of picks),
            ``point`` (``centre`` or ``sac``), ``mm`` (LPS mm of the landmarks' frame), ``readers``.
        slices: As in :func:`pick`; only ``discs`` uses the points.

    Returns:
        New landmarks, and one row per moved point for the record: ``disc``, ``point``,
        ``before_mm`` (None where nothing was found), ``after_mm``, ``shift_mm``, ``readers``.

    Raises:
        StudyError: The points would have no effect, there are no landmarks, a disc of that name
            doesn't exist, or a point lies too far from the found one.
    """
    if moved and slices != "discs":
        raise StudyError(
            f"review.tsv moves {moved[0]['point']} of {moved[0]['disc']}, but pick.slices is "
            f"'{slices}', which uses no disc's points; take the row out"
        )
    if landmarks is None:
        if not moved:
            return None, []
        raise StudyError(
            f"review.tsv moves {moved[0]['point']} of {moved[0]['disc']} of a subject that has no "
            "landmarks in this task, since it lacks the image of 'locate.image'; take the row out"
        )
    discs = {name: replace(disc) for name, disc in named(landmarks)}
    log = []
    for row in moved:
        if row["disc"] not in discs:
            raise StudyError(
                f"review.tsv moves {row['point']} of disc '{row['disc']}', which `locate` did not "
                f"find; this subject has {', '.join(discs) or 'none'}; correct the column disc"
            )
        disc, key = discs[row["disc"]], f"{row['point']}_mm"
        before, after = getattr(disc, key), np.array(row["mm"], dtype=float)
        origin = disc.centre_mm if before is None else before
        shift = float(np.linalg.norm(after - origin))
        if shift > FARTHEST_MOVE_MM:
            raise StudyError(
                f"review.tsv moves {row['point']} of {row['disc']} by {shift:.0f} mm, more than "
                f"{FARTHEST_MOVE_MM:.0f}; give x_mm, y_mm, z_mm as LPS mm of the landmarks' frame"
            )
        setattr(disc, key, after)
        log.append(
            {
                "disc": row["disc"],
                "point": row["point"],
                "before_mm": before,
                "after_mm": after,
                "shift_mm": None if before is None else shift,
                "readers": row["readers"],
            }
        )
    return replace(landmarks, discs=list(discs.values())), log


def named(landmarks: Landmarks) -> list[tuple[str, Disc]]:
    """Discs with their names in the tables: the level, or the number from the top."""
    return [
        (disc.level or f"disc-{number}", disc)
        for number, disc in enumerate(landmarks.discs, start=1)
    ]


def plane(stack: sitk.Image, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Centre (3,) and unit normal (3,) of a slice, LPS mm, the normal along rising slice
    numbers."""
    matrix = affine(stack)
    columns, rows, _ = stack.GetSize()
    return apply(matrix, [(columns - 1) / 2, (rows - 1) / 2, number]), unit(matrix[:3, 2])


def matrices_of(registration: dict, stacks: int) -> list[np.ndarray]:
    """For each stack its matrix (4, 4) from `register`'s record, or else the whole image's."""
    own = {
        int(entry["stack"]): entry["matrix"]
        for entry in registration.get("stacks") or []
        if entry.get("matrix")
    }
    whole = registration.get("matrix")
    matrices = [own.get(number, whole) for number in range(1, stacks + 1)]
    if any(matrix is None for matrix in matrices):
        told, remedy = _about(
            verdict_of(registration), "Look at the registration's record and figure."
        )
        raise Refusal(
            "NO_TRANSFORM", f"the registration gave no transform for some stack{told}", remedy
        )
    return [np.array(matrix, dtype=float) for matrix in matrices]


def verdict_of(registration: dict) -> str:
    """The worst verdict of a stack in `register`'s record, or else the whole image's."""
    entries = registration.get("stacks") or [registration]
    return max((entry.get("verdict") or "failed" for entry in entries), key=VERDICTS.index)


def _about(verdict: str, remedy: str) -> tuple[str, str]:
    """What a message adds about a registration that isn't accepted, and the remedy then."""
    if verdict == "accepted":
        return "", remedy
    return (
        f"; the registration's verdict is '{verdict}'",
        "Look at the registration's figure and its reasons first: the images may not be aligned.",
    )


def read_table(path) -> pd.DataFrame:
    """A table of picks as :func:`write_table` wrote it."""
    return pd.read_csv(path, sep="\t", keep_default_na=False, na_values={c: [""] for c in NUMBERS})


def write_table(table: pd.DataFrame, path) -> None:
    """Write the picks as TSV; mm and degrees with four decimals, as far as they mean anything."""
    table.to_csv(path, sep="\t", index=False, float_format="%.4f")


NUMBERS = [column for column in COLUMNS if column not in ("name", "status", "code")]


def _all(stacks) -> list[dict]:
    """Every slice of every stack."""
    return [
        {"stack": n, "slice": k, "name": f"stack-{n}_slice-{k:03d}", "status": "picked", "code": ""}
        for n, stack in enumerate(stacks, start=1)
        for k in range(stack.GetSize()[2])
    ]


def _disc_row(stacks, to_fixed, disc: Disc, name, max_offset, max_angle) -> dict:
    """The slice for one disc, or the nearest that there is and why it isn't taken."""
    found = [
        candidate
        for number, (stack, matrix) in enumerate(zip(stacks, to_fixed, strict=True), start=1)
        for candidate in _candidates(stack, number, matrix, disc)
    ]
    row = {"name": name, "status": "out", "code": "NO_SLICE"}
    found = [c for c in found if abs(c["offset_mm"]) <= max(REACH_MM, max_offset)]
    if not found:
        return row
    near = [c for c in found if abs(c["offset_mm"]) <= max_offset]
    good = [c for c in near if c["angle_deg"] <= max_angle]
    best = min(good or near or found, key=lambda c: _distance(c["offset_mm"], c["angle_deg"]))
    row |= best | _points(to_fixed[best["stack"] - 1], disc)
    if good:
        return row | {"status": "picked", "code": ""}
    return row | {"code": "ANGLE" if near else "OFFSET"}


def _candidates(stack, number, matrix, disc: Disc) -> list[dict]:
    """Slices of a stack in whose field of view a disc's centre lies, with offset and angle."""
    centre, normal = apply(matrix, disc.centre_mm), apply_direction(matrix, disc.normal)
    columns, rows, count = stack.GetSize()
    if not count:
        return []
    index = apply(np.linalg.inv(affine(stack)), centre)
    if not (-0.5 <= index[0] <= columns - 0.5 and -0.5 <= index[1] <= rows - 0.5):
        return []
    across = plane(stack, 0)[1]
    angle = float(angle_deg(across, normal))
    if angle > STEEPEST_DEG:
        return []
    step = stack.GetSpacing()[2] / float(across @ normal)
    return [
        {"stack": number, "slice": k, "offset_mm": (k - index[2]) * step, "angle_deg": angle}
        for k in range(count)
    ]


def _distance(offset_mm: float, angle: float) -> float:
    """Root mean square distance of slice and disc plane over a round disc."""
    return float(np.hypot(offset_mm, DISC_RADIUS_MM / 2 * np.tan(np.radians(angle))))


def _points(to_fixed, disc: Disc) -> dict:
    """The disc's landmarks in the fixed frame, as columns."""
    lateral = (None, None) if disc.lateral_mm is None else disc.lateral_mm
    points = dict(
        zip(POINTS, (disc.centre_mm, disc.sac_mm, disc.ventral_mm, *lateral), strict=True)
    )
    return {
        f"{name}_{axis}": value
        for name, point in points.items()
        if point is not None
        for axis, value in zip("xyz", apply(to_fixed, point), strict=True)
    }


def _once(rows: list[dict]) -> list[dict]:
    """A slice belongs to one disc: the nearest of those that want it."""
    wanted: dict[tuple, list[dict]] = {}
    for row in rows:
        if row["status"] == "picked":
            wanted.setdefault((row["stack"], row["slice"]), []).append(row)
    for rivals in wanted.values():
        rivals.sort(key=lambda row: abs(row["offset_mm"]))
        for row in rivals[1:]:
            row |= {"status": "out", "code": "TAKEN"}
    return rows


def _midsagittal(stacks, canal, to_fixed, neighbours, max_offset) -> list[dict]:
    """The sagittal slice nearest the canal's centre line, and its neighbours."""
    if len(canal) == 0:
        raise Refusal(
            "NO_CANAL",
            "`pick.slices: midsagittal` needs the canal's centre line and there is none",
            "Look at the figure of `locate`.",
        )
    rows = []
    for number, (stack, matrix) in enumerate(zip(stacks, to_fixed, strict=True), start=1):
        across = plane(stack, 0)[1]
        if np.argmax(np.abs(across)) != 0 or not stack.GetSize()[2]:
            continue
        line = apply(matrix, canal)
        index = apply(np.linalg.inv(affine(stack)), line)
        last = np.array(stack.GetSize()[:2]) - 0.5
        inside = np.all((index[:, :2] >= -0.5) & (index[:, :2] <= last), axis=1)
        if not inside.any():
            continue
        centre = line[inside].mean(axis=0)
        point = {
            f"{p}_{axis}": centre[n] for p in ("centre", "sac") for n, axis in enumerate("xyz")
        }
        for k in range(stack.GetSize()[2]):
            offsets = (k - index[inside, 2]) * stack.GetSpacing()[2]
            rows.append(
                {
                    "stack": number,
                    "slice": k,
                    "distance": float(np.abs(offsets).mean()),
                    "offset_mm": float(offsets.mean()),
                    "status": "picked",
                    "code": "",
                    **point,
                }
            )
    if not rows:
        return [{"name": "midsagittal", "status": "out", "code": "NO_SLICE"}]
    best = min(rows, key=lambda row: row["distance"])
    if abs(best["offset_mm"]) > max_offset:
        return [best | {"name": "midsagittal", "status": "out", "code": "OFFSET"}]
    return [
        row | {"name": f"midsagittal{row['slice'] - best['slice']:+d}".removesuffix("+0")}
        for row in rows
        if row["stack"] == best["stack"] and abs(row["slice"] - best["slice"]) <= neighbours
    ]


def _table(rows: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return table.astype({"stack": "Int64", "slice": "Int64"})


def _check(value, choices, key) -> None:
    if value not in choices:
        raise StudyError(f"pick.{key} is {value!r}; use one of {', '.join(choices)}.")
