"""Stored values to true values, bit by bit."""

import numpy as np
import pytest
from pydicom.uid import RLELossless

from mrsynth import pixels
from mrsynth.errors import Refusal


@pytest.mark.parametrize(
    ("value", "bits", "signed", "expected"),
    [
        (0x0F0F, 12, True, -241),
        (0x0F0F, 12, False, 0x0F0F),
        (0xF7FF, 12, True, 2047),
        (0x8000, 16, True, -32768),
        (-2000 & 0xFFFF, 16, True, -2000),
    ],
)
def test_sign_is_that_of_the_highest_stored_bit(value, bits, signed, expected):
    assert pixels.sign_extended(value, bits, signed) == expected
    assert pixels.sign_extended(np.array([value]), bits, signed)[0] == expected


def test_unused_high_bits_are_dropped(dicom_writer):
    plane = np.array([[0x0F0F, 0x70FF], [0x07FF, 0x1001]], np.int16)
    dataset = dicom_writer.dataset(plane, BitsStored=12, HighBit=11, PixelRepresentation=1)
    path = dicom_writer.save(dataset)
    stored = pixels.stored_values(pixels.read_dataset(str(path)))
    assert stored.tolist() == [[-241, 255], [2047, 1]]


def test_rescale_is_not_truncated():
    values = {"RescaleSlope": 1.5, "RescaleIntercept": -0.63}
    found = pixels.rescaled(np.array([[92, -3]]), values)
    assert found.dtype == np.float32
    assert np.allclose(found, [[137.37, -5.13]], atol=1e-5)
    nothing = {"RescaleSlope": None, "RescaleIntercept": None}
    assert pixels.rescaled(np.array([7]), nothing) == 7


@pytest.mark.parametrize(("signed", "expected"), [(0, [[4095, 0, 4095 - 7]]), (1, [[-1, 0, 6]])])
def test_inversion_reverses_the_order_of_brightness(dicom_writer, signed, expected):
    dataset = dicom_writer.dataset(BitsStored=12, PixelRepresentation=signed)
    stored = np.array([[0, 4095, 7]]) if not signed else np.array([[0, -1, -7]])
    assert pixels.inverted(stored, dataset).tolist() == expected


def test_padding_is_found_whatever_the_sign_of_its_element(dicom_writer):
    stored = np.array([[-2000, -1999, 5, 0]])
    dataset = dicom_writer.dataset()
    assert not pixels.padding(stored, dataset).any()
    dataset.add_new(0x00280120, "US", 63536)
    assert pixels.padding(stored, dataset).tolist() == [[True, False, False, False]]
    dataset.add_new(0x00280121, "SS", -1000)
    assert pixels.padding(stored, dataset).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("name", ["PixelPaddingValue", "PixelPaddingRangeLimit"])
@pytest.mark.parametrize(("vr", "value"), [("US", [1, 2]), ("LO", "Doe^Jane"), ("UN", b"x\x00y")])
def test_padding_that_is_no_number_is_refused_without_a_quote(dicom_writer, name, vr, value):
    dataset = dicom_writer.dataset()
    dataset.add_new("PixelPaddingValue", "US", 0)
    dataset.add_new(name, vr, value)
    with pytest.raises(Refusal) as error:
        pixels.padding(np.zeros((1, 2), int), dataset)
    assert error.value.code == "BAD_PADDING"
    assert name in error.value.message
    assert "Doe" not in str(error.value)
    assert error.value.__suppress_context__


def test_compressed_pixels_are_equal_to_raw_ones(dicom_writer):
    plane = np.random.default_rng(0).integers(-500, 500, (16, 12)).astype(np.int16)
    raw = dicom_writer.write(plane)
    dataset = dicom_writer.dataset(plane)
    path = dicom_writer.save(dataset)
    dataset = pixels.read_dataset(str(path))
    dataset.compress(RLELossless)
    packed = dicom_writer.folder / "rle.dcm"
    dataset.save_as(packed)
    assert (pixels.stored_values(pixels.read_dataset(str(packed))) == plane).all()
    assert pixels.pixel_digest(str(packed)) == pixels.pixel_digest(str(raw))


def test_damaged_compressed_pixels_are_refused(dicom_writer):
    plane = np.random.default_rng(0).integers(-500, 500, (16, 12)).astype(np.int16)
    dataset = pixels.read_dataset(str(dicom_writer.write(plane)))
    dataset.compress(RLELossless)
    dataset.PixelData = dataset.PixelData[:100]
    with pytest.raises(Refusal) as error:
        pixels.stored_values(dataset)
    assert error.value.code == "CORRUPT"
