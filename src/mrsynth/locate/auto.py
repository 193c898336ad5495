"""Discs, canal and body edges from the CT alone."""

import logging

import numpy as np
import SimpleITK as sitk

from mrsynth.errors import Refusal
from mrsynth.geometry import apply, cross_polyline, frame, project_to_plane, unit
from mrsynth.locate.canal import find_canal
from mrsynth.locate.chain import FULL_CONTRAST, Candidate, find_discs
from mrsynth.locate.column import BEYOND_MM, Column, evenly, find_column
from mrsynth.locate.extend import next_disc
from mrsynth.locate.grid import Grid, resized, shrunk, turned, upright
from mrsynth.locate.landmarks import Disc, Landmarks
from mrsynth.locate.levels import count_levels, names
from mrsynth.locate.myelo import without_contrast
from mrsynth.locate.posture import around, trial_turns, upright_motion
from mrsynth.locate.refine import Measured, measure
from mrsynth.locate.sac import DISTANCE_MM, canal_in_plane, sac_centre

log = logging.getLogger("mrsynth")

# The canal is some 20 mm wide: 2 mm are enough to follow it, and eight times quicker than 1 mm.
CANAL_SPACING_MM = 2.0
# A disc whose endplates couldn't be measured keeps its place in the count, with this confidence.
UNMEASURED = 0.05
# A canal this long is believed at once; a shorter one is compared with those after other turns.
LONG_MM = 120.0
# How many discs may follow at an end of the chain.
FURTHER = 3


def find(
    ct: sitk.Image,
    spacing_mm: float,
    bone_hu: float,
    body_hu: float,
    least_confidence: float,
    ala: float,
) -> Landmarks:
    """Landmarks of a CT (HU), see :func:`mrsynth.locate.locate` for the settings.

    A scout on the whole scan finds how the spine lies; the search itself runs on a crop in which
    the spine stands upright, and its result is moved back.

    Raises:
        Refusal: ``NO_SPINE``, ``NO_CANAL`` or ``NO_DISC``.
    """
    small = shrunk(ct, spacing_mm)
    motion, box = scout(small, bone_hu)
    grid = upright(turned(small, motion), spacing_mm, box)
    canal, layers, found = search(grid, bone_hu)
    native = without_contrast(grid, [disc for disc in found if disc is not None])
    if native is not None:
        grid = native
        canal, layers, found = search(grid, bone_hu)
    line = evenly(canal, beyond=BEYOND_MM)
    discs, flags = name_discs(grid, layers, found, line, ala)
    if native is not None:
        flags.append("MYELO")
    discs = [disc for disc in discs if disc.confidence >= least_confidence]
    if not discs:
        raise Refusal(
            "NO_DISC",
            f"{len(layers)} layers were considered, none is a disc with a confidence of "
            f"{least_confidence:g} or more",
            "give labels or landmarks for this subject (`source`), or lower `least_confidence`",
        )
    log.info("%d discs: %s", len(discs), ", ".join(str(disc.level) for disc in discs))
    return Landmarks(discs, canal, body_hu, "auto", flags).moved(np.linalg.inv(motion))


def search(grid: Grid, bone_hu: float) -> tuple[np.ndarray, list[Candidate], list[Measured | None]]:
    """Canal (n, 3), layers that may be discs, and the same measured (None where that failed)."""
    canal = find_canal(resized(grid, CANAL_SPACING_MM), bone_hu)
    column = find_column(grid, canal)
    line = evenly(canal, beyond=BEYOND_MM)
    layers = find_discs(grid, column)
    found = [measure_disc(grid, layer, column, line) for layer in layers]
    return canal, *with_ends(grid, layers, found)


def scout(ct: sitk.Image, bone_hu: float) -> tuple[np.ndarray, np.ndarray]:
    """How the spine lies in a scan: the motion (4×4) that stands it upright, and its box (2, 3)
    after that motion.

    Raises:
        Refusal: ``NO_SPINE`` or ``NO_CANAL``, as from the first trial.
    """
    size = np.array(ct.GetSize())
    centre = np.array(ct.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist()))
    best, length, first = None, 0.0, None
    for turn in (np.eye(4), *trial_turns(centre)):
        try:
            grid = upright(turned(ct, turn), CANAL_SPACING_MM)
            canal = find_canal(grid, bone_hu)
            column = find_column(grid, canal)
        except Refusal as refusal:
            first = first or refusal
            continue
        extent = float(np.linalg.norm(canal[0] - canal[-1]))
        if extent > 1.1 * length:
            best, length = (turn, canal, column), extent
        if length >= LONG_MM:
            break
    if best is None:
        raise first
    turn, canal, column = best
    motion = upright_motion(canal, column)
    return motion @ turn, around(apply(motion, canal))


def with_ends(
    grid: Grid, layers: list[Candidate], found: list[Measured | None]
) -> tuple[list[Candidate], list[Measured | None]]:
    """The chain with the discs below and above it that follow from its ends."""
    for down in (True, False):
        for _ in range(FURTHER):
            measured = [disc for disc in found if disc is not None]
            end = found[-1 if down else 0] if found else None
            if end is None:
                break
            new = next_disc(grid, measured, down)
            if new is None:
                break
            layer = Candidate(-1, min(new.contrast / FULL_CONTRAST, 1), new.centre, new.normal, 0.0)
            layers = [*layers, layer] if down else [layer, *layers]
            found = [*found, new] if down else [new, *found]
    return layers, found


def canal_of(ct: sitk.Image, bone_hu: float) -> np.ndarray | None:
    """The canal's centre line (n, 3) in a CT, or None where there is none to be found."""
    try:
        return find_canal(upright(ct, CANAL_SPACING_MM), bone_hu)
    except Refusal:
        return None


def measure_disc(
    grid: Grid, layer: Candidate, column: Column, canal: np.ndarray
) -> Measured | None:
    """A layer of the chain, measured twice: the second time straight ahead of the canal."""
    first = measure(grid, layer.centre, layer.normal, column.ahead[layer.index], turns=3)
    if first is None:
        return None
    sac = cross_polyline(canal, first.centre, first.normal)
    if sac is None or not DISTANCE_MM[0] <= np.linalg.norm(first.centre - sac) <= DISTANCE_MM[1]:
        return first
    again = measure(grid, first.centre, first.normal, first.centre - sac)
    return again or first


def name_discs(
    grid: Grid,
    layers: list[Candidate],
    found: list[Measured | None],
    canal: np.ndarray,
    ala: float,
) -> tuple[list[Disc], list[str]]:
    """Discs with levels (cranial to caudal) and flags; sacral remnant discs are left out.

    Where the sacrum isn't seen, or the ribs or a bony bridge say that the usual five lumbar
    vertebrae aren't there, no disc gets a name: counted from the sacrum it would be another one
    than counted from the ribs.
    """
    count = count_levels(grid, found, ala)
    log.info("%s", count)
    levels, flags = [None] * len(found), []
    if count.last is None:
        flags.append("NO_SACRUM")
    else:
        layers, found = layers[: count.last + 1], found[: count.last + 1]
        levels = names(len(found))[::-1]
    if count.transitional:
        flags.append("TRANSITIONAL")
        levels = [None] * len(found)
    discs = []
    for level, layer, disc in zip(levels, layers, found, strict=True):
        if disc is None:
            centre, normal, confidence = layer.centre, layer.normal, UNMEASURED
            discs.append(Disc(level, centre, normal, confidence, _sac(canal, centre, normal)))
        else:
            discs.append(_disc(grid, level, disc, layer, canal))
    return discs, flags


def _disc(
    grid: Grid, level: str | None, disc: Measured, layer: Candidate, canal: np.ndarray
) -> Disc:
    sac = canal_in_plane(canal, disc.centre, disc.normal, disc.ahead, disc.edge)
    sac = sac_centre(grid, sac, disc.centre, disc.normal, disc.edge)
    ahead = unit(disc.centre - sac)
    left = frame(disc.normal, ahead)[1]
    ventral = disc.edge[np.argmax(disc.edge @ ahead)]
    sideways = disc.edge @ left
    lateral = np.stack([disc.edge[np.argmin(sideways)], disc.edge[np.argmax(sideways)]])
    confidence = float(np.clip(np.sqrt(disc.quality * min(layer.worth * 2, 1.0)), 0, 1))
    return Disc(level, disc.centre, disc.normal, confidence, sac, ventral, lateral)


def _sac(canal: np.ndarray, centre: np.ndarray, normal: np.ndarray) -> np.ndarray | None:
    sac = cross_polyline(canal, centre, normal)
    return None if sac is None else project_to_plane(sac, centre, normal)
