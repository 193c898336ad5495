"""Pixels of DICOM files: decoded, with the header's bits and sign, in true values."""

import hashlib
import warnings

import numpy as np
import pydicom
from pydicom.pixels import get_decoder

from mrsynth.errors import Refusal


def read_dataset(path: str) -> pydicom.Dataset:
    """Read a whole file, pixels included (still encoded).

    Raises:
        Refusal: ``CORRUPT`` if it can't be parsed.
    """
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, force=True)
    except Exception:
        raise Refusal("CORRUPT", "a file of the series can't be parsed") from None


def stored_values(dataset: pydicom.Dataset, frame: int | None = None) -> np.ndarray:
    """Stored pixel values of a dataset or of one of its frames.

    Bits outside BitsStored are dropped (old overlays and noise live there) and the sign is that of
    the highest
    stored bit (PS3.5 8.1.1).

    Returns:
        int32 [rows, columns], before any rescale.

    Raises:
        Refusal: ``CORRUPT`` if the pixels can't be decoded, ``MISSING_DECODER``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            decoder = get_decoder(dataset.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))
            pixels, _ = decoder.as_array(dataset, index=frame, raw=True)
    except RuntimeError as error:
        if "plugin" in str(error) and "missing" in str(error):
            raise Refusal("MISSING_DECODER", "no decoder for the transfer syntax") from None
        raise Refusal("CORRUPT", "the pixels of a file can't be decoded") from None
    except Exception:
        raise Refusal("CORRUPT", "the pixels of a file can't be decoded") from None
    if pixels.shape != (dataset.Rows, dataset.Columns):
        raise Refusal("CORRUPT", "the pixels of a file don't have the promised size")
    return _stored_bits(pixels, dataset)


def _stored_bits(values: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Integers of BitsStored bits out of the words that hold them."""
    bits = int(dataset.BitsStored)
    if bits == dataset.BitsAllocated:
        return values.astype(np.int64)
    shift = int(dataset.get("HighBit", bits - 1)) - (bits - 1)
    return sign_extended(values.astype(np.int64) >> shift, bits, dataset.PixelRepresentation == 1)


def sign_extended(values, bits: int, signed: bool):
    """Integers (array or number) as the lowest ``bits`` bits mean them."""
    values = values & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    return (values ^ half) - half if signed else values


def pixel_digest(path: str, frame: int | None = None) -> str:
    """Digest of the stored values, to tell a repeated slice from another one at its place."""
    return hashlib.sha256(stored_values(read_dataset(path), frame).tobytes()).hexdigest()


def padding(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Mask of stored values that mark places outside the field of view (PS3.3 C.7.5.1.1.2).

    Raises:
        Refusal: ``BAD_PADDING`` if an element of the padding isn't one number.
    """
    first = _padding_value(dataset, "PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    last = _padding_value(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
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
    signed = dataset.PixelRepresentation == 1
    return sign_extended(number, int(dataset.BitsAllocated), signed)


def inverted(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Stored values with the order of brightness reversed (MONOCHROME1, PS3.3 C.7.6.3.1.2)."""
    top = -1 if dataset.PixelRepresentation == 1 else (1 << int(dataset.BitsStored)) - 1
    return top - stored


def rescaled(stored: np.ndarray, values: dict) -> np.ndarray:
    """True values as float32; slope and intercept of this very slice (PS3.3 C.11.1.1.2)."""
    slope = values["RescaleSlope"] if values["RescaleSlope"] is not None else 1.0
    intercept = values["RescaleIntercept"] if values["RescaleIntercept"] is not None else 0.0
    return (stored * slope + intercept).astype(np.float32)
