"""DICOM files: their headers as plain values, slice by slice, and their pixels in true values.

Headers are read without pixels and without the elements that nothing needs. What a header lacks is
a
named problem, never a guess. No text from a header ends in a message.
"""

import contextlib
import hashlib
import math
import os
import warnings
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.pixels import get_decoder
from pydicom.tag import Tag

from mrsynth import stacks
from mrsynth.errors import Refusal

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
PROJECTION = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
}
DIRECTORY = "1.2.840.10008.1.3.10"
DEFLATED = b"1.2.840.10008.1.2.1.99"

LARGEST_SIDE = 16384
"""Rows or columns above this are no medical slice; refused before anything is allocated."""
LARGEST_HEADER = 2**28
"""A deflated file may not inflate beyond this many bytes (a zip bomb would)."""
IMAGE_SUFFIXES = {"", ".dcm", ".dicom", ".ima", ".img"}
"""Names of files that should have been DICOM; anything else without the magic word is not ours."""
NO_IMAGE_NAMES = {"dicomdir", "readme", "license", "licence", "version", "lockfile", "makefile"}
POOL_FROM = 400
"""With fewer files, starting processes costs more than it saves."""

TEXTS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "FrameOfReferenceUID",
    "Modality",
    "PatientSex",
    "PatientAge",
    "PatientBirthDate",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "Manufacturer",
    "ManufacturerModelName",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "SeriesDescription",
    "ProtocolName",
    "SequenceName",
    "PhotometricInterpretation",
    "LossyImageCompression",
    "SyntheticData",
    "BurnedInAnnotation",
    "ComplexImageComponent",
]
LISTS = ("ImageType", "ScanningSequence", "SequenceVariant", "ScanOptions")
NUMBERS = [
    "Rows",
    "Columns",
    "BitsAllocated",
    "SamplesPerPixel",
    "NumberOfFrames",
    "MagneticFieldStrength",
    "KVP",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "EchoNumbers",
    "EchoTrainLength",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
]
VECTORS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TAGS = {name: Tag(tag_for_keyword(name)) for name in (*TEXTS, *LISTS, *NUMBERS, *VECTORS, *GROUPS)}
WANTED = list(TAGS.values())
FRAME_NUMBERS = {"EffectiveEchoTime": "EchoTime", "InversionTimes": "InversionTime"}
"""Elements that enhanced objects call by other names (PS3.3 C.8.13.5)."""


@dataclass
class Header:
    """What one file's header says.

    Attributes:
        path: The file.
        state: ``read`` (has slices), ``skipped`` or ``refused``.
        code: Reason of the last two.
        series: SeriesInstanceUID, as far as it could be read.
        slices: One dict of plain values per slice.
        digest: Of the header's bytes and the file's size.
    """

    path: str
    state: str
    code: str = ""
    message: str = ""
    series: str = ""
    patient: str = ""
    slices: list[dict] = field(default_factory=list)
    digest: str = ""


def list_files(root: str | Path) -> list[str]:
    """Sorted paths of all files below a folder; linked folders are followed once."""
    seen, found, queue = set(), [], [str(root)]
    while queue:
        folder = queue.pop()
        with contextlib.suppress(OSError):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    (queue if entry.is_dir() else found).append(entry.path)
    return sorted(found)


def read_headers(paths: list[str], *, threads: int = 1, accept_bare: bool = False) -> list[Header]:
    """Read many headers, in the order of the paths.

    Args:
        paths: Files.
        threads: Processes to share the work.
        accept_bare: Read files without preamble and magic word as well.
    """
    bare = [accept_bare] * len(paths)
    if threads < 2 or len(paths) < POOL_FROM:
        return list(map(read_header, paths, bare))
    with ProcessPoolExecutor(threads) as pool:
        return list(pool.map(read_header, paths, bare, chunksize=64))


def read_header(path: str, accept_bare: bool = False) -> Header:
    """Read one file's header; every kind of bad file ends in a code, none in an exception."""
    header = Header(path, "refused")
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            _fill(header, accept_bare)
    except Refusal as refusal:
        header.code, header.message = refusal.code, refusal.message
    except OSError:
        header.code, header.message = "UNREADABLE", "the file can't be opened"
    except Exception:
        # A damaged file raises nearly anything in the parser, whose text may quote the header.
        header.code, header.message = "CORRUPT", "the file can't be parsed as DICOM"
    return header


def _fill(header: Header, accept_bare: bool) -> None:
    if not os.path.isfile(header.path):
        raise Refusal("UNREADABLE", "not a regular file, or a dead link")
    length = os.path.getsize(header.path)
    with open(header.path, "rb", buffering=1 << 16) as file:
        start = file.read(1024)
        bare = start[128:132] != b"DICM"
        if bare and not _refuse_bare(header, start, accept_bare):
            return
        if DEFLATED in start[:400]:
            _check_deflated(file)
        file.seek(0)
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=bare, specific_tags=WANTED)
        end = file.tell()
        file.seek(0)
        digest = hashlib.sha256(file.read(min(end, length)))
    digest.update(str(length).encode())
    header.digest = digest.hexdigest()[:16]
    header.series = _text(dataset, "SeriesInstanceUID")
    header.patient = _text(dataset, "PatientID")
    kind = _sop_class(dataset)
    if kind in PROJECTION:
        header.state, header.code, header.message = "skipped", "PROJECTION", "a projection image"
    elif kind not in SINGLE_FRAME and kind not in MULTI_FRAME:
        if not header.series and kind != DIRECTORY:
            raise Refusal("CORRUPT", "neither SOP class nor series; the file may be cut")
        header.state, header.code = "skipped", "UNSUPPORTED_CLASS"
        header.message = "not a CT or MR image"
    else:
        deflated = DEFLATED in start[:400]
        _check_complete(dataset, length - end, deflated)
        header.slices = _slices(dataset, kind)
        header.state = "read"


def _refuse_bare(header: Header, start: bytes, accept: bool) -> bool:
    """Decide on a file without the magic word: True if it may be parsed."""
    plausible = start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00"
    if plausible and accept:
        return True
    name = Path(header.path)
    expected = name.suffix.lower() in IMAGE_SUFFIXES or name.suffix[1:].isdigit()
    if name.name.lower().split(".")[0] in NO_IMAGE_NAMES or name.name.startswith("."):
        expected = False
    if plausible:
        raise Refusal("NO_PREAMBLE", "DICOM without preamble and magic word")
    if expected:
        raise Refusal("CORRUPT", "empty, or not DICOM under a DICOM file's name")
    header.state, header.code, header.message = "skipped", "NOT_DICOM", "not a DICOM file"
    return False


def _check_deflated(file) -> None:
    """Refuse a file that inflates beyond reason (PS3.5 A.5)."""
    file.seek(0)
    content = file.read()
    meta = 144 + int.from_bytes(content[140:144], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(content[meta:], LARGEST_HEADER)
    if inflater.unconsumed_tail:
        raise Refusal("IMPOSSIBLE_SIZE", f"inflates beyond {LARGEST_HEADER >> 20} MiB")


def _check_complete(dataset, left: int, deflated: bool) -> None:
    """Compare what is left of the file with the pixels that the header promises."""
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    if not rows or not columns or rows < 1 or columns < 1:
        raise Refusal("MISSING_SIZE", "Rows or Columns is missing or zero")
    if max(rows, columns) > LARGEST_SIDE:
        raise Refusal("IMPOSSIBLE_SIZE", f"more than {LARGEST_SIDE} rows or columns")
    frames = _number(dataset, "NumberOfFrames") or 1
    samples = _number(dataset, "SamplesPerPixel") or 1
    promised = rows * columns * frames * samples * (_number(dataset, "BitsAllocated") or 16) / 8
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    native = syntax is None or not syntax.is_compressed
    # The pixel element's own tag, VR and length come before its value (PS3.5 7.1).
    left -= 12 if syntax is not None and not syntax.is_implicit_VR else 8
    if not deflated and (left <= 0 or (native and left < promised)):
        raise Refusal("CORRUPT", "the file ends before its pixels do")
    if syntax is not None and not native and not _decodable(syntax):
        raise Refusal("MISSING_DECODER", f"no decoder for transfer syntax {syntax.name}")


def _decodable(syntax) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _sop_class(dataset) -> str:
    """SOP class, from the file's meta group or the modality where an anonymiser has removed it."""
    found = _text(dataset, "SOPClassUID") or str(
        getattr(dataset.file_meta, "MediaStorageSOPClassUID", "")
    )
    if not found and "ImagePositionPatient" in dataset:
        found = {"CT": CT, "MR": MR}.get(_text(dataset, "Modality"), "")
    return found


def _slices(dataset, kind: str) -> list[dict]:
    """One dict per frame; a single-frame file has one."""
    common = _values(dataset)
    common["Modality"] = common["Modality"] or (SINGLE_FRAME | MULTI_FRAME)[kind]
    common["SOPInstanceUID"] = common["SOPInstanceUID"] or str(
        getattr(dataset.file_meta, "MediaStorageSOPInstanceUID", "")
    )
    common["day"] = _day(common)
    common["age_years"] = _age(common)
    if kind in SINGLE_FRAME:
        if (common["NumberOfFrames"] or 1) > 1:
            raise Refusal("UNSUPPORTED_MULTIFRAME", "several frames in a single-frame class")
        return [_checked(common | {"frame": ""})]
    frames = dataset.get("PerFrameFunctionalGroupsSequence")
    if not frames or len(frames) != (common["NumberOfFrames"] or 0):
        raise Refusal("UNSUPPORTED_MULTIFRAME", "frames without functional groups of their own")
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for group in shared:
        common |= _functional(group)
    return [
        _checked(common | _functional(frame) | {"frame": number})
        for number, frame in enumerate(frames)
    ]


def _functional(item) -> dict:
    """Values of one item of the functional groups, one level of macros deep (PS3.3 C.7.6.16)."""
    found = {}
    for macro in item:
        if macro.VR != "SQ":
            continue
        for part in macro.value:
            values = {name: value for name, value in _values(part).items() if _present(value)}
            for enhanced, plain in FRAME_NUMBERS.items():
                if _number(part, enhanced) is not None:
                    values[plain] = _number(part, enhanced)
            if "FrameType" in part:
                values["ImageType"] = tuple(str(word).upper() for word in part.FrameType)
            found |= values
    return found


def _present(value) -> bool:
    return value is not None and value != "" and value != ()


def _values(dataset) -> dict:
    """The wanted elements of a dataset as plain Python values."""
    values: dict = {name: _text(dataset, name) for name in TEXTS}
    values |= {name: _words(dataset, name) for name in LISTS}
    values |= {name: _number(dataset, name) for name in NUMBERS}
    values |= {name: _vector(dataset, name) for name in VECTORS}
    return values


def _value(dataset, name: str):
    """An element's value or None; by tag, since looking up absent keywords is slow."""
    tag = TAGS.get(name) or Tag(tag_for_keyword(name))
    return dataset[tag].value if tag in dataset else None


def _text(dataset, name: str) -> str:
    value = _value(dataset, name)
    if value is None:
        return ""
    return "\\".join(map(str, value)) if _several(value) else str(value).strip()


def _words(dataset, name: str) -> tuple[str, ...]:
    value = _value(dataset, name)
    if value is None or value == "":
        return ()
    return tuple(str(part).upper().strip() for part in (value if _several(value) else [value]))


def _number(dataset, name: str) -> float | None:
    vector = _vector(dataset, name)
    return vector[0] if vector and math.isfinite(vector[0]) else None


def _vector(dataset, name: str) -> tuple[float, ...]:
    value = _value(dataset, name)
    if value is None or value == "":
        return ()
    try:
        return tuple(float(part) for part in (value if _several(value) else [value]))
    except (TypeError, ValueError):
        return (math.nan,)


def _several(value) -> bool:
    return isinstance(value, (list, tuple, pydicom.multival.MultiValue))


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
    return date(int(text[:4]), int(text[4:6]), int(text[6:8]))


def _checked(values: dict) -> dict:
    """Refuse a slice whose header can't give its place in space or its values.

    Raises:
        Refusal: With a code per missing or bad element (PS3.3 C.7.6.2, C.7.6.3, C.8.2.1).
    """
    for name in ("SeriesInstanceUID", "SOPInstanceUID"):
        if not values[name]:
            raise Refusal("MISSING_UID", f"{name} is missing or empty")
    if values["PhotometricInterpretation"] not in ("MONOCHROME1", "MONOCHROME2"):
        raise Refusal("UNSUPPORTED_PHOTOMETRIC", "pixels are coloured or of unknown meaning")
    if "MOSAIC" in values["ImageType"]:
        raise Refusal("UNSUPPORTED_MOSAIC", "many slices in one image")
    if values["SyntheticData"].upper() == "YES":
        raise Refusal("SYNTHETIC", "a synthetic image never becomes training truth")
    if values["BurnedInAnnotation"].upper() == "YES":
        raise Refusal("BURNED_IN", "text may be burned into the pixels")
    if not _is_localizer(values["ImageType"]):
        _check_geometry(values)
        if values["Modality"] == "CT" and None in (
            values["RescaleSlope"],
            values["RescaleIntercept"],
        ):
            raise Refusal("CT_WITHOUT_RESCALE", "no rescale slope and intercept, so no HU")
    if values["RescaleSlope"] == 0:
        raise Refusal("BAD_RESCALE", "the rescale slope is zero")
    return values


def _is_localizer(image_type: tuple[str, ...]) -> bool:
    return bool({"LOCALIZER", "SCOUT"} & set(image_type))


def _check_geometry(values: dict) -> None:
    position = np.array(values["ImagePositionPatient"])
    orientation = np.array(values["ImageOrientationPatient"])
    spacing = np.array(values["PixelSpacing"])
    if not len(position):
        raise Refusal("MISSING_POSITION", "no ImagePositionPatient")
    if position.shape != (3,) or not np.isfinite(position).all():
        raise Refusal("BAD_POSITION", "ImagePositionPatient is not three numbers")
    if not len(orientation):
        raise Refusal("MISSING_ORIENTATION", "no ImageOrientationPatient")
    if not stacks.check_orientation(orientation):
        raise Refusal("BAD_ORIENTATION", "ImageOrientationPatient is not two perpendicular axes")
    if not len(spacing):
        raise Refusal("MISSING_SPACING", "no PixelSpacing")
    if spacing.shape != (2,) or not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise Refusal("BAD_SPACING", "PixelSpacing is not two positive numbers")
