"""Stored values to true values, bit by bit."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from dicommake import close
from dicomsyntax import SYNTAXES, recoded
from mrsynth import pixels
from mrsynth.errors import Refusal

NAMES = {
    "MR_small_RLE.dcm": "MR_small.dcm",
    "MR_small_bigendian.dcm": "MR_small.dcm",
    "MR_small_implicit.dcm": "MR_small.dcm",
    "MR_small_jp2klossless.dcm": "MR_small.dcm",
    "MR_small_jpeg_ls_lossless.dcm": "MR_small.dcm",
    "MR_small_padded.dcm": "MR_small.dcm",
    "MR_small_expb.dcm": "MR_small.dcm",
    "693_J2KI.dcm": "693_J2KI.dcm",
    "image_dfl.dcm": "image_dfl.dcm",
}
"""File → the file that holds the same image uncompressed, or itself, read by pydicom."""


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


@pytest.mark.parametrize("name", sorted(SYNTAXES))
@pytest.mark.parametrize("kind", ["signed 16", "unsigned 12", "signed 12"])
def test_every_lossless_syntax_is_equal_to_raw(dicom_writer, name, kind):
    sign, bits = kind.split()
    low, high = (-(2 ** (int(bits) - 1)), 2 ** (int(bits) - 1)) if sign == "signed" else (0, 4096)
    plane = np.random.default_rng(0).integers(low, high, (40, 36)).astype(np.int16)
    words = plane & 0x0FFF if bits == "12" else plane
    elements = {
        "BitsStored": int(bits),
        "HighBit": int(bits) - 1,
        "PixelRepresentation": int(sign == "signed"),
    }
    raw = dicom_writer.save(dicom_writer.dataset(words, **elements), "raw.dcm")
    packed = dicom_writer.save(recoded(dicom_writer.dataset(words, **elements), name), "packed.dcm")
    dataset = pixels.read_dataset(str(packed))
    assert dataset.file_meta.TransferSyntaxUID == SYNTAXES[name]
    assert (pixels.stored_values(dataset) == plane).all()
    assert pixels.pixel_digest(str(packed)) == pixels.pixel_digest(str(raw))
    assert not pixels.is_lossy(dataset)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_files_of_other_makers_are_equal_to_raw(name):
    """pydicom's own test files: one image in many syntaxes, written by other tools."""
    folder = Path(pydicom.__file__).parent / "data/test_files"
    if not (folder / name).exists():
        pytest.skip("this pydicom comes without it")
    found = pixels.stored_values(pixels.read_dataset(str(folder / name)))
    expected = pydicom.dcmread(folder / NAMES[name]).pixel_array
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["rle", "jpeg-2000", "jpeg-ls", "deflated", "big-endian"])
def test_every_frame_of_a_compressed_object_is_its_own(dicom_writer, name):
    planes = np.random.default_rng(0).integers(-500, 500, (4, 40, 36)).astype(np.int16)
    dataset = dicom_writer.dataset(planes.reshape(160, 36), Rows=40, NumberOfFrames=4)
    dataset = pixels.read_dataset(str(dicom_writer.save(recoded(dataset, name))))
    for number in (2, 0, 3, 1):
        assert np.array_equal(pixels.stored_values(dataset, number), planes[number])


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("JPEGBaseline8Bit", "", True),
        ("JPEGExtended12Bit", "00", True),
        ("JPEG2000", "", True),
        ("JPEG2000", "01", True),
        ("JPEG2000", "00", False),
        ("JPEGLSNearLossless", "", True),
        ("JPEG2000Lossless", "", False),
        ("JPEGLSLossless", "", False),
        ("ExplicitVRLittleEndian", "01", True),
        ("ExplicitVRLittleEndian", "", False),
    ],
)
def test_loss_is_told_by_header_or_syntax(dicom_writer, name, said, expected):
    dataset = dicom_writer.dataset(**({"LossyImageCompression": said} if said else {}))
    close(dataset, getattr(pydicom.uid, name))
    assert pixels.is_lossy(dataset) == expected


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.101", "1.2.3.4"])
def test_a_missing_decoder_is_named(dicom_writer, uid):
    dataset = dicom_writer.dataset()
    close(dataset, uid)
    with pytest.raises(Refusal) as error:
        pixels.stored_values(dataset)
    assert error.value.code == "MISSING_DECODER"
    assert "MPEG2" in error.value.message or "unknown" in error.value.message
    assert "pylibjpeg" in error.value.remedy


def test_a_missing_plugin_is_named(dicom_writer, monkeypatch):
    dataset = recoded(dicom_writer.dataset(np.zeros((40, 36), np.int16)), "jpeg-ls")
    decoder = type("Decoder", (), {"is_available": False})
    monkeypatch.setattr(pixels, "get_decoder", lambda syntax: decoder)
    with pytest.raises(Refusal) as error:
        pixels.stored_values(dataset)
    assert error.value.code == "MISSING_DECODER"
    assert "JPEG-LS" in error.value.message
    assert "pyjpegls" in error.value.remedy


def test_a_decompression_bomb_is_refused_before_it_is_decoded(dicom_writer, monkeypatch):
    dataset = recoded(dicom_writer.dataset(np.zeros((40, 36), np.int16)), "jpeg-2000")
    dataset.Rows = dataset.Columns = 16000
    monkeypatch.setattr(pixels.decoder, "decode", None)
    with pytest.raises(Refusal) as error:
        pixels.stored_values(dataset)
    assert error.value.code == "IMPOSSIBLE_SIZE"
    assert "488 MiB" in error.value.message


@pytest.mark.parametrize("name", ["jpeg-2000", "jpeg-ls", "jpeg-lossless"])
def test_a_codestream_of_another_size_is_refused(dicom_writer, monkeypatch, name):
    dataset = recoded(dicom_writer.dataset(np.zeros((40, 36), np.int16)), name)
    dataset.Rows = 20
    monkeypatch.setattr(pixels.decoder, "decode", None)
    with pytest.raises(Refusal) as error:
        pixels.stored_values(dataset)
    assert error.value.code == "CORRUPT"
    assert "40 x 36" in error.value.message


@pytest.mark.parametrize("name", ["rle", "jpeg-2000", "jpeg-ls", "jpeg-lossless"])
def test_damaged_codestreams_never_crash_and_never_hang(dicom_writer, name):
    plane = np.random.default_rng(0).integers(0, 500, (40, 36)).astype(np.int16)
    dataset = recoded(dicom_writer.dataset(plane), name)
    content = bytes(dataset.PixelData)
    rng = np.random.default_rng(1)
    for _ in range(25):
        changed = bytearray(content)
        for place in rng.integers(16, len(changed), 3):
            changed[place] ^= int(rng.integers(1, 256))
        dataset.PixelData = bytes(changed)
        try:
            found = pixels.stored_values(dataset)
        except Refusal:
            continue
        assert found.shape == (40, 36)


def test_overlays_are_never_read(dicom_writer):
    plane = np.arange(20, dtype=np.int16).reshape(4, 5)
    dataset = dicom_writer.dataset(plane | 0x4000, BitsStored=12, HighBit=11, PixelRepresentation=0)
    dataset.add_new(0x60000010, "US", 4)
    dataset.add_new(0x60000011, "US", 5)
    dataset.add_new(0x60000022, "LO", "Canary")
    dataset.add_new(0x60003000, "OW", b"\xff" * 4)
    dataset.add_new(0x60020102, "US", 14)
    read = pixels.read_dataset(str(dicom_writer.save(dataset)))
    assert (pixels.stored_values(read) == plane).all()
    assert not [element for element in read if element.tag.group in (0x6000, 0x6002)]


@pytest.mark.parametrize(
    "elements", [{"BitsStored": 0}, {"BitsStored": 17}, {"BitsStored": 12, "HighBit": 16}]
)
def test_bits_that_do_not_fit_are_refused(dicom_writer, elements):
    dataset = dicom_writer.dataset(**{"HighBit": 15, **elements})
    close(dataset)
    with pytest.raises(Refusal) as error:
        pixels.stored_values(dataset)
    assert error.value.code == "CORRUPT"


@pytest.mark.parametrize(("high", "signed"), [(14, False), (15, True), (12, True), (11, False)])
def test_bits_may_lie_anywhere_in_the_word(dicom_writer, high, signed):
    values = np.arange(-10, 10).reshape(4, 5) if signed else np.arange(20).reshape(4, 5)
    words = ((values & 0xFFF) << (high - 11)).astype(np.uint16).view(np.int16)
    dataset = dicom_writer.dataset(
        words, BitsStored=12, HighBit=high, PixelRepresentation=int(signed)
    )
    close(dataset)
    assert (pixels.stored_values(dataset) == values).all()


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "kind"),
    [
        ([0, 4095], 1, -1024, np.int16),
        ([-2000, 3071], 1, 0, np.int16),
        ([-32768, 0], 1, 100, np.int16),
        ([-32768, 0], 1, -1, np.float32),
        ([0, 65535], 1, 0, np.float32),
        ([0, 65535], 1, -32768, np.int16),
        ([0, 10], 0.5, 0, np.float32),
        ([0, 10], 2, 0, np.float32),
        ([0, 10], 1, 0.5, np.float32),
    ],
)
def test_true_values_are_whole_numbers_where_that_is_exact(stored, slope, intercept, kind):
    values = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    words = np.array([stored], np.uint16 if max(stored) > 32767 else np.int16)
    found = pixels.rescaled(words, values)
    assert found.dtype == kind
    assert found.astype(float).tolist() == [[n * slope + intercept for n in stored]]


def test_damaged_compressed_pixels_are_refused(dicom_writer):
    plane = np.random.default_rng(0).integers(-500, 500, (16, 12)).astype(np.int16)
    dataset = pixels.read_dataset(str(dicom_writer.write(plane)))
    dataset.compress(RLELossless)
    dataset.PixelData = dataset.PixelData[:100]
    with pytest.raises(Refusal) as error:
        pixels.stored_values(dataset)
    assert error.value.code == "CORRUPT"
