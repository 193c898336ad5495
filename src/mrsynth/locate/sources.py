"""The same landmarks from what a user has: a label map of vertebrae, or points placed by hand."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy import ndimage

from mrsynth.errors import Refusal
from mrsynth.geometry import fit_plane, frame, project_to_plane, unit
from mrsynth.locate.canal import find_canal
from mrsynth.locate.column import BEYOND_MM, evenly
from mrsynth.locate.grid import Grid, upright
from mrsynth.locate.landmarks import Disc, Landmarks
from mrsynth.locate.levels import VERTEBRAE
from mrsynth.locate.numbering import EXTRA, ORDER, neighbours, table_of
from mrsynth.locate.refine import measure
from mrsynth.locate.sac import canal_in_plane
from mrsynth.volume import read_volume

# Label maps as if they were CT: bone and soft tissue.
BONE_HU, SOFT_HU = 400.0, 30.0
# Voxel size label maps are measured at; half of the usual 1.5 mm loses nothing.
LABEL_SPACING_MM = 1.5
# Rays around a body end in the background this far from its edge at most.
MARGIN_MM = 25.0
# A vertebra with fewer voxels of 1.5 mm is cut by the scan's edge: 3 cm³.
LEAST_VOXELS = 900
# What a point may be called after its disc's level.
ROLES = ("centre", "plane", "sac", "ventral", "right", "left")


def read_labels(path: str | Path) -> sitk.Image:
    """A label map (any format of ITK).

    Raises:
        Refusal: ``BAD_LANDMARK_FILE`` if it is no volume that can be read.
    """
    try:
        labels = read_volume(path)
    except (OSError, RuntimeError):
        raise _bad("the label map can't be read", "save it as `.nii.gz`") from None
    if labels.GetDimension() != 3 or labels.GetNumberOfComponentsPerPixel() != 1:
        raise _bad("the label map is no volume of single numbers", "save it as 3D `.nii.gz`")
    return labels


def from_labels(
    labels: sitk.Image,
    numbering: str | dict[str, int] = "totalsegmentator",
    body_hu: float = -300.0,
    canal: np.ndarray | None = None,
) -> Landmarks:
    """Discs as the gaps between labelled vertebrae.

    Args:
        labels: Label map (whole vertebrae or their bodies), any orientation, in the CT's frame.
        numbering: A name of ``numbering.NUMBERINGS``, ``auto``, or a table of vertebra (``L4``) to
            label value.
        body_hu: Handed on.
        canal: The canal's centre line (n, 3) from the CT, cranial to caudal; without it, it is
            looked for among the arches of the labelled vertebrae.

    Raises:
        StudyError: For an unknown numbering.
        Refusal: ``NO_DISC`` if no two neighbouring vertebrae are labelled; ``BAD_NUMBERING`` if
            the numbering doesn't fit or, with ``auto``, isn't clear.
    """
    table = table_of(numbering, labels)
    image = _around(sitk.Cast(labels, sitk.sitkFloat32))
    present = np.unique(sitk.GetArrayViewFromImage(image))
    grids = {name: _mask(image, value) for name, value in table.items() if value in present}
    grids = {name: grid for name, grid in grids.items() if grid.values.sum() >= LEAST_VOXELS}
    there = [name for name in ORDER if name in grids]
    pairs = [pair for pair in pairwise(there) if neighbours(*pair)]
    if not pairs:
        raise Refusal(
            "NO_DISC",
            "the label map holds no two neighbouring vertebrae of this numbering "
            f"(of {len(grids)} vertebrae found)",
            "check `locate.numbering` against the tool that made the labels",
        )
    first = next(iter(grids.values()))
    everything = np.max([grid.values for grid in grids.values()], axis=0)
    if canal is None:
        canal = _canal(Grid(everything, first.origin, first.spacing))
    discs = []
    for lower, upper in pairs:
        disc = _between(grids[upper], grids[lower], canal)
        if disc is not None:
            disc.level = f"{upper}-{lower}"
            discs.append(disc)
    if not discs:
        raise Refusal(
            "NO_DISC",
            f"no two facing endplates between the {len(grids)} labelled vertebrae",
            "check the label map in a viewer",
        )
    flags = [] if len(canal) else ["NO_CANAL"]
    if set(EXTRA) & set(grids):
        flags.append("TRANSITIONAL")
    return Landmarks(discs[::-1], canal, body_hu, "labels", flags)


def from_landmarks(path: str | Path, body_hu: float = -300.0) -> Landmarks:
    """Discs from points placed by hand.

    A 3D Slicer markups file (``.mrk.json``; its coordinate system is obeyed) with points called
    ``L4-L5``, ``L4-L5 plane``, ``L4-L5 sac``, ``L4-L5 ventral``, ``L4-L5 right``, ``L4-L5 left``,
    or a table (``.tsv``) with the columns ``level``, ``role``, ``x``, ``y``, ``z`` in LPS mm. Three
    or more points of a disc's plane (all but the sac's) give its normal; with fewer, it is taken
    from the line through the neighbouring discs' centres, and the flag ``NORMAL_FROM_CENTRES`` is
    set.

    Raises:
        Refusal: ``BAD_LANDMARK_FILE`` if it can't be read, a name isn't understood, or there is no
            disc in it.
    """
    path = Path(path)
    points = _read_tsv(path) if path.suffix == ".tsv" else _read_markups(path)
    levels = sorted({level for level, _, _ in points}, key=_height, reverse=True)
    if not levels:
        raise _bad("it holds no points", "name them such as `L4-L5` or `L4-L5 sac`")
    places = {level: [(r, p) for name, r, p in points if name == level] for level in levels}
    centres = {level: _centre(places[level]) for level in levels}
    discs, flags = [], []
    for level in levels:
        up = _line_direction(level, levels, centres)
        in_plane = np.array([p for role, p in places[level] if role != "sac"])
        if len(in_plane) >= 3:
            try:
                _, normal, _ = fit_plane(in_plane, towards=up, robust=False)
            except ValueError:
                raise _bad(
                    f"the points of {level} lie on one line", "place three or more around the disc"
                ) from None
        elif len(levels) > 1:
            normal = up
            flags.append("NORMAL_FROM_CENTRES")
        else:
            raise _bad(f"{level} has {len(in_plane)} points in its plane", "place three or more")
        discs.append(_placed(level, centres[level], normal, dict(places[level])))
    canal = np.array([disc.sac_mm for disc in discs if disc.sac_mm is not None]).reshape(-1, 3)
    return Landmarks(discs, canal, body_hu, "landmarks", sorted(set(flags)))


def _around(image: sitk.Image) -> sitk.Image:
    """The part of a label map that holds labels, with a margin for the measurements around them."""
    box = ndimage.find_objects((sitk.GetArrayViewFromImage(image) > 0).astype(np.uint8))
    if not box:
        return image
    margin = [int(np.ceil(MARGIN_MM / step)) for step in image.GetSpacing()]
    low = [max(part.start - m, 0) for part, m in zip(box[0][::-1], margin, strict=True)]
    high = [
        min(part.stop + m, size)
        for part, m, size in zip(box[0][::-1], margin, image.GetSize(), strict=True)
    ]
    return image[tuple(slice(*ends) for ends in zip(low, high, strict=True))]


def _mask(image: sitk.Image, value: int) -> Grid:
    """One label as shares 0..1 on upright axes; all labels of a map get the same grid."""
    grid = upright(sitk.Cast(sitk.Equal(image, float(value)), sitk.sitkFloat32), LABEL_SPACING_MM)
    grid.values = np.clip(grid.values, 0, 1)
    return grid


def _as_ct(share: Grid) -> Grid:
    """A mask (shares) as a CT in HU, with soft tissue around."""
    return Grid(SOFT_HU + share.values * (BONE_HU - SOFT_HU), share.origin, share.spacing)


def _canal(share: Grid) -> np.ndarray:
    """The canal among labelled vertebrae (n, 3), empty where only bodies are labelled."""
    try:
        return find_canal(_as_ct(share), (BONE_HU + SOFT_HU) / 2)
    except Refusal:
        return np.empty((0, 3))


def _between(upper: Grid, lower: Grid, canal: np.ndarray) -> Disc | None:
    above, below = _body(upper), _body(lower)
    normal = unit(above - below)
    middle = (above + below) / 2
    line = evenly(canal, beyond=BEYOND_MM) if len(canal) > 1 else canal
    front = np.array([0.0, -1.0, 0.0])
    near = middle - front
    if len(canal):
        near = canal[np.argmin(np.linalg.norm(canal - middle, axis=1))]
    both = _as_ct(Grid(np.maximum(upper.values, lower.values), upper.origin, upper.spacing))
    found = measure(both, middle, normal, middle - near)
    if found is None:
        return None
    sac = None
    ahead = found.ahead
    if len(line):
        sac = canal_in_plane(line, found.centre, found.normal, found.ahead, found.edge)
        ahead = found.centre - sac
    axes = frame(found.normal, ahead)
    along, sideways = found.edge @ axes[0], found.edge @ axes[1]
    return Disc(
        None,
        found.centre,
        found.normal,
        found.quality,
        sac,
        found.edge[np.argmax(along)],
        found.edge[[np.argmin(sideways), np.argmax(sideways)]],
    )


def _body(share: Grid) -> np.ndarray:
    """A point (3,) deep in the vertebra's body: the body is thicker than arch and processes."""
    inside = share.values > 0.5
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    deep = ndimage.distance_transform_edt(np.pad(inside[box], 1))
    weight = np.where(deep >= 0.8 * deep.max(), deep, 0)
    corner = np.array([part.start - 1 for part in box])
    return share.to_mm(corner + np.array(ndimage.center_of_mass(weight)))


def _height(level: str) -> int:
    return VERTEBRAE.index(level.split("-")[1])


def _bad(message: str, remedy: str) -> Refusal:
    """One subject's file is wrong; its name stays out of the record, since it may name somebody."""
    return Refusal("BAD_LANDMARK_FILE", f"the subject's file (`locate.file`): {message}", remedy)


def _name(text: str) -> tuple[str, str]:
    """Level and role of a point's name."""
    level, _, role = str(text).strip().partition(" ")
    role = role.strip().lower() or "centre"
    upper, _, lower = level.upper().replace("/", "-").partition("-")
    known = upper in VERTEBRAE and lower in VERTEBRAE
    if not known or VERTEBRAE.index(upper) != VERTEBRAE.index(lower) + 1 or role not in ROLES:
        raise _bad(
            "a point's name isn't understood",
            f"write a disc such as `L4-L5`, and after it nothing or one of {', '.join(ROLES)}",
        )
    return f"{upper}-{lower}", role


def _read_markups(path: Path) -> list[tuple[str, str, np.ndarray]]:
    try:
        markups = json.loads(path.read_text())["markups"]
        points = [
            (markup.get("coordinateSystem", ""), point.get("label", ""), point["position"])
            for markup in markups
            for point in markup.get("controlPoints", [])
            if point.get("positionStatus", "defined") == "defined"
        ]
        places = [_place(position) for _, _, position in points]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise _bad("it is no 3D Slicer markups file", "save the points as `.mrk.json`") from None
    signs = [_sign(str(system)) for system, _, _ in points]
    return [
        (*_name(label), place * [sign, sign, 1.0])
        for (_, label, _), place, sign in zip(points, places, signs, strict=True)
    ]


def _place(position) -> np.ndarray:
    """Three finite numbers as a point (3,); ValueError for anything else."""
    place = np.array(position, dtype=float)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise ValueError("a point is no three numbers")
    return place


def _sign(system: str) -> float:
    """What turns x and y of a coordinate system into LPS."""
    # Slicer before 5.0 wrote the number of its enumeration: 0 is RAS, 1 is LPS.
    sign = {"LPS": 1.0, "1": 1.0, "RAS": -1.0, "0": -1.0}.get(system.upper())
    if sign is None:
        raise _bad("`coordinateSystem` is neither LPS nor RAS", "save it anew with 3D Slicer")
    return sign


def _read_tsv(path: Path) -> list[tuple[str, str, np.ndarray]]:
    try:
        table = pd.read_csv(path, sep="\t", dtype={"level": str, "role": str})
        rows = table[["level", "role", "x", "y", "z"]].fillna({"role": ""})
        places = [_place(position) for position in rows[["x", "y", "z"]].to_numpy(dtype=float)]
    except (OSError, ValueError, KeyError):
        raise _bad(
            "it can't be read as a table", "separate level, role, x, y, z (LPS mm) by tabs"
        ) from None
    names = [f"{level} {role}" for level, role in zip(rows["level"], rows["role"], strict=True)]
    return [(*_name(n), p) for n, p in zip(names, places, strict=True)]


def _centre(points: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """The point called centre, or the middle of the disc's other points."""
    named = [p for role, p in points if role == "centre"]
    rest = [p for role, p in points if role != "sac"] or [p for _, p in points]
    return np.mean(named if len(named) else rest, axis=0)


def _line_direction(level: str, levels: list[str], centres: dict[str, np.ndarray]) -> np.ndarray:
    """Up the spine, along the line through the neighbouring centres."""
    at = levels.index(level)
    above, below = levels[max(at - 1, 0)], levels[min(at + 1, len(levels) - 1)]
    if above == below:
        return np.array([0.0, 0.0, 1.0])
    return unit(centres[above] - centres[below])


def _placed(level: str, centre: np.ndarray, normal: np.ndarray, roles: dict) -> Disc:
    def foot(role: str) -> np.ndarray | None:
        return project_to_plane(roles[role], centre, normal) if role in roles else None

    right, left = foot("right"), foot("left")
    lateral = None if right is None or left is None else np.stack([right, left])
    return Disc(level, centre, normal, 1.0, foot("sac"), foot("ventral"), lateral)
