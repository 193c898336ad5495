"""Pixels of DICOM files: decoded, with the header's bits and sign, in true values."""

import hashlib
import io
import struct
import warnings

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from mrsynth import archives, decoder
from mrsynth.errors import Refusal

WANTED = [
    tag_for_keyword(name)
    for name in (
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
        "LossyImageCompression",
        "PixelData",
    )
]
"""What the pixels' meaning depends on; overlays (60xx) and icons are never read."""

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
"""Syntaxes of which the pixels are words in the machine's own order."""

LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
"""JPEG baseline and extended, which always lose (PS3.5 A.4.1)."""

PERHAPS_LOSSY = ("1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203")
"""JPEG-LS, JPEG 2000 and high-throughput JPEG 2000 that may lose: the header has to say that they
don't."""

FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Second bytes of the markers that begin a JPEG or JPEG-LS frame header."""

PLAIN_BYTES = 2**26
"""A decoded frame up to this size (4096² pixels of 32 bits) needs no question."""

LARGEST_RATIO = 200
"""A larger frame that shrank more than this is no image: noise alone prevents it."""


def read_dataset(path: str, content: bytes | None = None) -> pydicom.Dataset:
    """Read the elements of a file that its pixels need (still encoded).

    Args:
        path: The file, or a member of an archive.
        content: The file's bytes, where they are at hand.

    Raises:
        Refusal: ``CORRUPT`` if it can't be parsed.
    """
    content = archives.read(path) if content is None else content
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(io.BytesIO(content), force=True, specific_tags=WANTED)
    except Exception:
        raise Refusal("CORRUPT", "a file of the series can't be parsed") from None


def stored_values(dataset: pydicom.Dataset, frame: int | None = None) -> np.ndarray:
    """Stored pixel values of a dataset or of one of its frames.

    Bits outside BitsStored are dropped (old overlays and noise live there) and the sign is that
    of the highest stored bit (PS3.5 8.1.1).

    Returns:
        Integers [rows, columns], before any rescale.

    Raises:
        Refusal: ``CORRUPT`` if the pixels can't be decoded, ``MISSING_DECODER``,
            ``IMPOSSIBLE_SIZE``, ``TOO_SLOW``.
    """
    try:
        syntax = dataset.file_meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian
        if syntax in NATIVE:
            values = _native(dataset, frame or 0)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = _decoded(dataset, syntax, frame)
        if values.shape != (dataset.Rows, dataset.Columns):
            raise Refusal("CORRUPT", "the pixels of a file don't have the promised size")
        return _stored_bits(values, dataset)
    except Refusal:
        raise
    except Exception:
        raise Refusal("CORRUPT", "the pixels of a file can't be decoded") from None


def is_lossy(dataset: pydicom.Dataset) -> bool:
    """Whether the pixels lost something when they were compressed, or may have and don't say."""
    syntax = dataset.file_meta.get("TransferSyntaxUID", "")
    said = str(dataset.get("LossyImageCompression") or "")
    return said == "01" or syntax in LOSSY or (syntax in PERHAPS_LOSSY and said != "00")


def _native(dataset: pydicom.Dataset, frame: int) -> np.ndarray:
    """Words of one frame, without a copy."""
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise Refusal("CORRUPT", "the pixels of a file have several samples")
    kind = np.dtype(f"<u{int(dataset.BitsAllocated) // 8}")
    count = int(dataset.Rows) * int(dataset.Columns)
    start = frame * count * kind.itemsize
    values = np.frombuffer(dataset.PixelData, kind, count, start)
    return values.reshape(int(dataset.Rows), int(dataset.Columns))


def _decoded(dataset: pydicom.Dataset, syntax: str, frame: int | None) -> np.ndarray:
    """One frame of any other syntax, decoded in a child where C libraries do it."""
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise Refusal(
            "MISSING_DECODER",
            f"no decoder for transfer syntax {name_of(syntax)}",
            "install the packages of envs/environment.yaml (pylibjpeg-openjpeg, pyjpegls, "
            "python-gdcm), or export uncompressed",
        )
    if not pydicom.uid.UID(syntax).is_encapsulated:
        return get_decoder(syntax).as_array(dataset, index=frame, raw=True)[0]
    frames = int(dataset.get("NumberOfFrames") or 1)
    encoded = get_frame(dataset.PixelData, frame or 0, number_of_frames=frames)
    promised = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    if promised > max(PLAIN_BYTES, LARGEST_RATIO * len(encoded)):
        raise Refusal(
            "IMPOSSIBLE_SIZE",
            f"{len(encoded)} bytes of compressed pixels promise a frame of {promised >> 20} MiB",
            "send the series again",
        )
    said = codestream_size(encoded)
    if said is not None and said != (int(dataset.Rows), int(dataset.Columns)):
        raise Refusal(
            "CORRUPT",
            f"compressed pixels of {said[0]} x {said[1]} under a header of "
            f"{int(dataset.Rows)} x {int(dataset.Columns)}",
            "send the series again",
        )
    options = {
        "rows": int(dataset.Rows),
        "columns": int(dataset.Columns),
        "samples_per_pixel": int(dataset.get("SamplesPerPixel") or 1),
        "photometric_interpretation": str(dataset.PhotometricInterpretation),
        "bits_allocated": int(dataset.BitsAllocated),
        "bits_stored": int(dataset.BitsStored),
        "pixel_representation": int(dataset.PixelRepresentation),
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    return decoder.decode(_decode, str(syntax), encoded, options)


def _decode(syntax: str, encoded: bytes, options: dict) -> np.ndarray:
    """The same in the child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed = encapsulate([encoded], has_bot=False)
        return get_decoder(syntax).as_array(packed, index=0, raw=True, **options)[0]


def codestream_size(encoded: bytes) -> tuple[int, int] | None:
    """Rows and columns by a compressed frame's own header; None where it has none, as in RLE.

    JPEG and JPEG-LS: the frame header SOF (ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2). JPEG 2000: the
    size marker SIZ (ISO/IEC 15444-1 A.5.1).
    """
    if encoded[:4] == b"\xff\x4f\xff\x51" and len(encoded) >= 24:
        right, bottom, left, top = struct.unpack_from(">4I", encoded, 8)
        return bottom - top, right - left
    place = 2 if encoded[:2] == b"\xff\xd8" else len(encoded)
    while place + 9 <= len(encoded) and encoded[place] == 0xFF:
        marker, length = encoded[place + 1], int.from_bytes(encoded[place + 2 : place + 4])
        if marker in FRAME_MARKERS:
            return struct.unpack_from(">2H", encoded, place + 5)
        place += 1 if marker == 0xFF else 2 + length
    return None


def name_of(syntax: str) -> str:
    """A transfer syntax by its name in the standard; by its UID where it has none."""
    uid = pydicom.uid.UID(str(syntax))
    return uid.name if uid in pydicom.uid.AllTransferSyntaxes else "of an unknown UID"


def _stored_bits(values: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Integers of BitsStored bits out of the words that hold them."""
    width = values.dtype.itemsize * 8
    bits, signed = int(dataset.BitsStored), dataset.get("PixelRepresentation") == 1
    high = int(dataset.get("HighBit", bits - 1))
    if not 0 < bits <= high + 1 <= width:
        raise Refusal("CORRUPT", "BitsStored and HighBit do not fit the pixels")
    words = values.view(values.dtype.str.replace("i", "u")).astype(f"u{width // 8}", copy=False)
    words = words.view(f"i{width // 8}") if signed else words
    if bits == width:
        return words
    # To the left edge and back: drops the bits above and below and, if signed, extends the sign.
    return (words << (width - 1 - high)) >> (width - bits)


def sign_extended(values, bits: int, signed: bool):
    """Integers (array or number) as the lowest ``bits`` bits mean them."""
    values = values & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    return (values ^ half) - half if signed else values


def pixel_digest(path: str, frame: int | None = None) -> str:
    """Digest of the stored values, to tell a repeated slice from another one at its place."""
    stored = stored_values(read_dataset(path), frame)
    return hashlib.sha256(stored.astype("<i8").tobytes()).hexdigest()


def padding(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Mask of stored values that mark places outside the field of view (PS3.3 C.7.5.1.1.2).

    Raises:
        Refusal: ``BAD_PADDING`` if an element of the padding isn't one number.
    """
    first = _padding_value(dataset, "PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    last = _padding_value(dataset, "PixelPaddingRangeLimit")
    if last is None or last == first:
        return stored == first
    low, high = sorted((first, last))
    return (stored >= low) & (stored <= high)


def _padding_value(dataset: pydicom.Dataset, name: str) -> int | None:
    """A padding value with the sign of the pixels: its VR is often written as the other one."""
    try:
        value = dataset.get(name)
        if value is None or value == "":
            return None
        number = int(value)
    except Exception:
        # The error's own text would quote the value, and a wrong one may hold anything.
        raise Refusal(
            "BAD_PADDING", f"{name} is not one whole number", "Mend the header, or export again."
        ) from None
    signed = dataset.get("PixelRepresentation") == 1
    return sign_extended(number, int(dataset.BitsAllocated), signed)


def inverted(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Stored values with the order of brightness reversed (MONOCHROME1, PS3.3 C.7.6.3.1.2)."""
    top = -1 if dataset.get("PixelRepresentation") == 1 else (1 << int(dataset.BitsStored)) - 1
    return top - stored


def rescaled(stored: np.ndarray, values: dict) -> np.ndarray:
    """True values; slope and intercept of this very slice (PS3.3 C.11.1.1.2).

    Returns:
        int16 where that holds every value of the slice exactly, else float32.
    """
    slope = values["RescaleSlope"] if values["RescaleSlope"] is not None else 1.0
    intercept = values["RescaleIntercept"] if values["RescaleIntercept"] is not None else 0.0
    if slope == 1 and float(intercept).is_integer():
        low, high = int(stored.min()) + int(intercept), int(stored.max()) + int(intercept)
        limits = np.iinfo(np.int16)
        # Words may wrap on the way, since the sum is back in range at the end.
        if limits.min <= low and high <= limits.max and stored.dtype.itemsize <= 2:
            return stored.astype(np.int16) + np.array(int(intercept) & 0xFFFF, "u2").view(np.int16)
    return (stored * float(slope) + float(intercept)).astype(np.float32)
