"""Headers as plain values, one mapping per slice, each checked.

What a header lacks is a named problem, never a guess. No text from a header ends in a message.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache

import numpy as np

from mrsynth import contrast, elements, stacks
from mrsynth.elements import Elements
from mrsynth.errors import Refusal
from mrsynth.wanted import FRAME_NAMES, LISTS, NAMES, NUMBERS, TEXTS

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
SINGLE_FRAME = {CT: "CT", MR: "MR"}
MULTI_FRAME = {
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
"""Enhanced and legacy converted enhanced image storage (PS3.4 B.5)."""

LARGEST_SIDE = 16384
"""Rows or columns above this are no medical slice; refused before anything is allocated."""
LOSSY_SYNTAXES = {
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.112",
}
"""JPEG baseline and extended, near-lossless JPEG-LS, JPEG XL (PS3.5 A.4)."""
EITHER_SYNTAXES = {"1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"}
"""JPEG 2000 that may be lossy: it is, unless LossyImageCompression says 00."""
OTHER_UNITS = {"OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"}
"""Rescale types of maps that a CT computes and that are no HU (PS3.3 C.11.1.1.2)."""
OTHER_MODALITIES = {"CR", "DX", "MG", "NM", "OT", "PT", "RF", "US", "XA", "XC"}
"""Modalities of images (PS3.3 C.7.3.1.1.1) besides CT and MR; any other word is somebody's text."""
COLOURS = {"RGB": "RGB", "PALETTE COLOR": "palette colour"}

OWN = (
    "SOPInstanceUID",
    "ImagePositionPatient",
    "AcquisitionNumber",
    "AcquisitionTime",
    "TriggerTime",
)
"""What usually differs from slice to slice; the rest is kept once per series."""
SHARED = tuple(name for name in NAMES if name not in OWN)
REMEMBERED = 4096
"""Headers kept in memory to be shared; more than any export has series being read at a time."""
UID = re.compile(r"[0-9A-Za-z.\-_]{1,64}")
"""UIDs as PS3.5 9.1 has them, and letters, which some anonymisers put there."""

MACROS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
}
"""The one macro that places a frame or gives its values; others may speak of other images."""

AGAIN = "Send the series again."
ORIGINAL = "Export the original slices with their geometry."


class Slice(Mapping):
    """Header values of one slice: those of its own, and those that it shares with its series.

    An export has hundreds of thousands of slices; a whole dictionary each would fill the memory.
    """

    __slots__ = ("own", "shared")

    def __init__(self, own: dict, shared: dict):
        self.own = own
        self.shared = shared

    def __getitem__(self, name: str):
        return self.own[name] if name in self.own else self.shared[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (name for name in self.shared if name not in self.own)

    def __len__(self) -> int:
        return len(self.shared.keys() | self.own.keys())

    def __repr__(self) -> str:
        return f"Slice({dict(self)})"

    def replaced(self, **entries) -> "Slice":
        """The same slice with other values of its own."""
        return Slice(self.own | entries, self.shared)


_known: dict = {}
"""Shared values by their raw or plain form, with what is wrong with them."""


def sop_class(found: Elements) -> str:
    """SOP class, or what the modality suggests where an anonymiser has removed it."""
    kind = _text(found, "SOPClassUID")
    if not kind and "ImagePositionPatient" in found:
        kind = {"CT": CT, "MR": MR}.get(_text(found, "Modality"), "")
    return kind


def lean(found: Elements) -> tuple[list[Slice], Refusal | None]:
    """The slice of a file that :func:`mrsynth.elements.walk` has read, and what is wrong with it.

    Raises:
        NotPlainError: If a value needs pydicom.
    """
    raw = found.raw
    key = (found.syntax, raw.get(elements.CHARACTER_SET), *(raw.get(name) for name in SHARED))
    known = _known.get(key)
    if known is None:
        parts = elements.decode(raw, SHARED)
        if "ImagePositionPatient" in raw:
            # It decides, by its presence alone, whether a file without SOP class is an image.
            parts["ImagePositionPatient"] = ()
        known = _remember(key, _shared(parts, sop_class(Elements(parts)), found.syntax))
    shared, problem = known
    own = _plain(elements.decode(raw, OWN), OWN) | {"frame": ""}
    piece = Slice(own, shared)
    return [piece], problem or _own_problem(piece)


def thorough(found: Elements) -> tuple[list[Slice], Refusal | None]:
    """The slices of a file that pydicom has read, one per frame, and what is wrong with them.

    Raises:
        Refusal: ``UNSUPPORTED_MULTIFRAME``.
    """
    kind = sop_class(found)
    if kind not in MULTI_FRAME:
        pieces = [_piece(found, "", kind, found.syntax)]
    else:
        shared, frames = found.groups or ([], [])
        parts = dict(found)
        for group in shared:
            parts |= _functional(group)
        pieces = [
            _piece(parts | _functional(frame), number, kind, found.syntax)
            for number, frame in enumerate(frames)
        ]
        count = _number(found, "NumberOfFrames")
        if not frames or len(frames) != count:
            raise Refusal(
                "UNSUPPORTED_MULTIFRAME",
                "frames without functional groups of their own",
                "Export as single frames.",
            )
    problems = (problem or _own_problem(piece) for piece, problem in pieces)
    problem = next((problem for problem in problems if problem), None)
    return [piece for piece, _ in pieces], problem


def _piece(parts: dict, frame, kind: str, syntax: str) -> tuple[Slice, Refusal | None]:
    own = _plain(parts, OWN) | {"frame": frame}
    shared, problem = _shared(parts, kind, syntax)
    return Slice(own, share(shared)), problem


def share(values: dict) -> dict:
    """One and the same dictionary for equal values."""
    return _remember(tuple(values.values()), (values, None))[0]


def _remember(key, entry):
    if len(_known) >= REMEMBERED:
        _known.clear()
    return _known.setdefault(key, entry)


def _functional(macros: list) -> dict[str, tuple]:
    """Values of one item of the functional groups."""
    found = {}
    for macro, part in macros:
        for name, value in part.items():
            if MACROS.get(name, macro) == macro:
                found[FRAME_NAMES.get(name, name)] = value
    return found


def _shared(parts: dict, kind: str, syntax: str) -> tuple[dict, Refusal | None]:
    """Plain values of what slices share, with what follows from them; and what is wrong."""
    values = _plain(parts, SHARED)
    values["SOPClassUID"] = kind
    # What was typed there may be a name: results have the modality of the class.
    said = values["Modality"].strip().upper()
    values["Modality"] = (SINGLE_FRAME | MULTI_FRAME).get(kind, "")
    _describe_enhanced(values)
    values["LossyImageCompression"] = _lossy(values["LossyImageCompression"], syntax)
    values["day"] = _day(values)
    values["age_years"] = _age(values)
    values["kind"] = contrast.kind(values)
    return values, _shared_problem(values, said)


def _describe_enhanced(values: dict) -> None:
    """Give the sequence of an enhanced MR the words of a single-frame one (PS3.3 C.8.13.4)."""
    if not values["ScanningSequence"]:
        pulse = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}
        words = pulse.get(values["EchoPulseSequence"], ())
        words += ("IR",) if values["InversionRecovery"] == "YES" else ()
        words += ("EP",) if values["EchoPlanarPulseSequence"] == "YES" else ()
        values["ScanningSequence"] = words
    if "FAT" in values["SpectrallySelectedSuppression"].split("\\"):
        values["ScanOptions"] = (*values["ScanOptions"], "FS")


def _lossy(flag: str, syntax: str) -> str:
    """``01`` if the pixels were ever compressed with loss (PS3.3 C.7.6.1.1.5)."""
    if syntax in LOSSY_SYNTAXES or (syntax in EITHER_SYNTAXES and flag != "00"):
        return "01"
    return flag


def _plain(parts: dict, names) -> dict:
    """Texts, upper-case words, numbers (or None) and vectors by name."""
    values: dict = {}
    for name in names:
        found = parts.get(name, ())
        if name in _TEXTS:
            values[name] = "\\".join(found)
        elif name in _LISTS:
            values[name] = tuple(part.upper() for part in found)
        elif name in _RESCALE:
            # Unlike other numbers these aren't optional where they are: no doubt is left out.
            values[name] = (found[0] if len(found) == 1 else math.nan) if found else None
        elif name in _NUMBERS:
            values[name] = found[0] if found and math.isfinite(found[0]) else None
        else:
            values[name] = tuple(found)
    return values


_RESCALE = ("RescaleSlope", "RescaleIntercept")
_TEXTS, _LISTS, _NUMBERS = frozenset(TEXTS), frozenset(LISTS), frozenset(NUMBERS)


def _text(parts: dict, name: str) -> str:
    return "\\".join(parts.get(name, ()))


def _number(parts: dict, name: str) -> float | None:
    return _plain(parts, [name])[name]


def _day(values: dict) -> int | None:
    """Day number of the study's date, else the series' or the acquisition's."""
    for name in ("StudyDate", "SeriesDate", "AcquisitionDate"):
        with contextlib.suppress(ValueError):
            return _date(values[name]).toordinal()
    return None


def _age(values: dict) -> float | None:
    """Age in years by PatientAge (PS3.5 6.2, VR AS), else by the birth date."""
    text = values["PatientAge"]
    with contextlib.suppress(ValueError, KeyError, IndexError):
        return int(text[:3]) * {"Y": 1, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}[text[3]]
    day = _day(values)
    with contextlib.suppress(ValueError):
        born = _date(values["PatientBirthDate"]).toordinal()
        if day is not None:
            return (day - born) / 365.25
    return None


def _date(text: str) -> date:
    """A date of eight digits, or of the old form with dots (PS3.5 6.2, VR DA)."""
    text = text.replace(".", "")
    return date(int(text[:4]), int(text[4:6]), int(text[6:8]))


def _shared_problem(values: dict, said: str) -> Refusal | None:
    """What is wrong with a header that doesn't depend on the slice's own place.

    A code per missing or bad element (PS3.3 C.7.6.2, C.7.6.3, C.8.2.1).

    Args:
        values: Of :func:`_shared`.
        said: The header's own Modality in capitals.
    """
    if not UID.fullmatch(values["SeriesInstanceUID"]):
        return Refusal(
            "MISSING_UID",
            "SeriesInstanceUID is missing or no UID",
            "Export again; an anonymiser may have emptied it.",
        )
    rows, columns = values["Rows"], values["Columns"]
    if not rows or not columns or rows < 1 or columns < 1:
        return Refusal("MISSING_SIZE", "Rows or Columns is missing or zero", AGAIN)
    if max(rows, columns) > LARGEST_SIDE:
        return Refusal("IMPOSSIBLE_SIZE", f"more than {LARGEST_SIDE} rows or columns", AGAIN)
    if values["kind"] in contrast.NO_VOLUMES:
        return None
    problem = _modality_problem(values["Modality"], said) or _pixel_problem(values)
    return problem or _claim_problem(values) or _geometry_problem(values)


def _modality_problem(modality: str, said: str) -> Refusal | None:
    if said == modality or said not in {"CT", "MR"} | OTHER_MODALITIES:
        return None
    return Refusal(
        "INCONSISTENT_IDENTITY",
        f"the header's Modality is {said}, its SOP class is of {modality} images",
        "Mend the export; the header was edited or belongs to another image.",
    )


def _pixel_problem(values: dict) -> Refusal | None:
    meaning = values["PhotometricInterpretation"].upper()
    if meaning not in ("MONOCHROME1", "MONOCHROME2") or (values["SamplesPerPixel"] or 1) > 1:
        name = "YBR colour" if meaning.startswith("YBR") else COLOURS.get(meaning, "unknown")
        return Refusal(
            "UNSUPPORTED_PHOTOMETRIC",
            f"pixels are no grey levels ({name})",
            "Export the original grey-level series.",
        )
    if "MOSAIC" in values["ImageType"]:
        return Refusal(
            "UNSUPPORTED_MOSAIC", "many slices in one image", "Export the series unmosaicked."
        )
    allocated, stored = values["BitsAllocated"] or 16, values["BitsStored"]
    high = values["HighBit"]
    if (
        allocated not in (8, 16, 32)
        or (stored is not None and not 1 <= stored <= allocated)
        or (stored and high is not None and not stored - 1 <= high < allocated)
        or values["PixelRepresentation"] not in (0, 1, None)
    ):
        return Refusal("BAD_BITS", "the pixels' bits contradict each other", AGAIN)
    if values["SOPClassUID"] not in MULTI_FRAME and (values["NumberOfFrames"] or 1) > 1:
        return Refusal(
            "UNSUPPORTED_MULTIFRAME",
            "several frames in a single-frame class",
            "Export as single frames, or as enhanced CT or MR.",
        )
    return None


def _claim_problem(values: dict) -> Refusal | None:
    if values["SyntheticData"].upper() == "YES":
        return Refusal(
            "SYNTHETIC", "a synthetic image never becomes training truth", "Leave it out."
        )
    if values["BurnedInAnnotation"].upper() == "YES":
        return Refusal(
            "BURNED_IN",
            "text may be burned into the pixels",
            "Export the series without annotation.",
        )
    if values["Modality"] == "CT":
        if None in (values["RescaleSlope"], values["RescaleIntercept"]):
            return Refusal(
                "CT_WITHOUT_RESCALE",
                "no rescale slope and intercept, so no HU",
                "Export the original CT with its rescale.",
            )
        if values["RescaleType"].upper() in OTHER_UNITS:
            return Refusal(
                "NOT_HU",
                f"the values' unit is {values['RescaleType'].upper()}",
                "Export the original CT in HU.",
            )
    rescale = [values[name] for name in _RESCALE if values[name] is not None]
    if values["RescaleSlope"] == 0 or not all(map(math.isfinite, rescale)):
        return Refusal("BAD_RESCALE", "the rescale is zero or not one number each", AGAIN)
    return None


def _geometry_problem(values: dict) -> Refusal | None:
    orientation, spacing = values["ImageOrientationPatient"], values["PixelSpacing"]
    if not orientation:
        return Refusal("MISSING_ORIENTATION", "no ImageOrientationPatient", ORIGINAL)
    if not _fits_orientation(orientation):
        return Refusal(
            "BAD_ORIENTATION",
            "ImageOrientationPatient is not two perpendicular axes of unit length",
            AGAIN,
        )
    if not spacing:
        return Refusal("MISSING_SPACING", "no PixelSpacing", ORIGINAL)
    if len(spacing) != 2 or not all(math.isfinite(side) and side > 0 for side in spacing):
        return Refusal("BAD_SPACING", "PixelSpacing is not two positive numbers", AGAIN)
    return None


@cache
def _fits_orientation(orientation: tuple) -> bool:
    return stacks.check_orientation(np.array(orientation))


def _own_problem(piece: Slice) -> Refusal | None:
    """What is wrong with a slice's own values."""
    if not UID.fullmatch(piece["SOPInstanceUID"]):
        return Refusal(
            "MISSING_UID",
            "SOPInstanceUID is missing or no UID",
            "Export again; an anonymiser may have emptied it.",
        )
    if piece["kind"] in contrast.NO_VOLUMES:
        return None
    position = piece["ImagePositionPatient"]
    if not position:
        return Refusal("MISSING_POSITION", "no ImagePositionPatient", ORIGINAL)
    if len(position) != 3 or not all(map(math.isfinite, position)):
        return Refusal("BAD_POSITION", "ImagePositionPatient is not three numbers", AGAIN)
    return None
