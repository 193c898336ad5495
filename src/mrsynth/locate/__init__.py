"""Where the lumbar discs, the canal and the bodies' edges are, from the native CT."""

from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk

from mrsynth.errors import Refusal, StudyError
from mrsynth.locate import auto
from mrsynth.locate.figure import figure
from mrsynth.locate.landmarks import Disc, Landmarks
from mrsynth.locate.sources import from_labels, from_landmarks, read_labels

__all__ = ["Disc", "Landmarks", "figure", "from_labels", "from_landmarks", "locate"]

SOURCES = ("auto", "labels", "landmarks", "totalsegmentator")


def locate(
    ct: sitk.Image,
    source: str = "auto",
    file: str | Path = "",
    numbering: str = "totalsegmentator",
    spacing_mm: float = 1.5,
    bone_hu: float = 200.0,
    body_hu: float = -300.0,
    least_confidence: float = 0.2,
    ala: float = 0.2,
) -> Landmarks:
    """Find discs, sac, body edges and canal.

    Args:
        ct: Native CT in HU, any orientation, spacing and field of view.
        source: ``auto`` finds them in the CT; ``labels`` takes a label map of vertebrae,
            ``landmarks`` points that the user has placed, ``totalsegmentator`` the label map that
            the stage `segment` made, all three from ``file``.
        file: The subject's label map or landmarks file.
        numbering: How the user's label map numbers vertebrae, see ``numbering.NUMBERINGS``;
            ``auto`` where the numbers leave no doubt.
        spacing_mm: Voxel size that the search works at.
        bone_hu: CT number above which a voxel is cortical bone.
        body_hu: CT number above which a voxel belongs to the patient's body; handed on.
        least_confidence: Discs below this confidence (0 to 1) are left out.
        ala: Share of bone (0 to 1) beside a vertebra from which it counts as the sacrum.

    Returns:
        Landmarks in LPS mm of the CT's frame.

    Raises:
        Refusal: ``NO_SPINE``, ``NO_CANAL``, ``NO_DISC``: this CT has none that can be found;
            ``NO_LANDMARK_FILE``, ``BAD_LANDMARK_FILE``, ``BAD_NUMBERING``: the source needs a file
            that the subject lacks, or that can't be used.
        StudyError: For an unknown source or numbering.
    """
    if source not in SOURCES:
        raise StudyError(f"locate.source is {source!r}, it must be one of {', '.join(SOURCES)}")
    if source == "auto":
        return auto.find(ct, spacing_mm, bone_hu, body_hu, least_confidence, ala)
    if not file:
        raise Refusal(
            "NO_LANDMARK_FILE",
            f"locate.source is {source!r} and this subject has no file",
            "give the file where `locate.file` says, such as `landmarks/sub-{subject}.mrk.json` "
            "with the subject's pseudonym in the place of {subject}; or set `locate.source: auto`",
        )
    if source == "totalsegmentator":
        numbering = "totalsegmentator"
    if source in ("labels", "totalsegmentator"):
        canal = auto.canal_of(ct, bone_hu)
        found = from_labels(read_labels(file), numbering, body_hu, canal)
        return replace(found, source=source)
    return from_landmarks(file, body_hu=body_hu)
