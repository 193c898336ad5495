"""Elements as plain values: what enhanced objects, old dates and other units become."""

import numpy as np
import pydicom
import pytest

from dicomframes import enhanced
from dicommake import Grid, Maker
from mrsynth import dicom, headers, wanted


def piece(parts: dict, kind: str = headers.MR, syntax: str = "1.2.840.10008.1.2.1"):
    """Shared values, and what is wrong with them, of some elements."""
    return headers._shared({name: (value,) for name, value in parts.items()}, kind, syntax)


@pytest.mark.parametrize(
    ("flag", "syntax", "expected"),
    [
        ("", "1.2.840.10008.1.2.1", ""),
        ("01", "1.2.840.10008.1.2.1", "01"),
        ("", "1.2.840.10008.1.2.4.50", "01"),
        ("00", "1.2.840.10008.1.2.4.81", "01"),
        ("", "1.2.840.10008.1.2.4.91", "01"),
        ("00", "1.2.840.10008.1.2.4.91", "00"),
        ("", "1.2.840.10008.1.2.4.90", ""),
        ("", "1.2.840.10008.1.2.4.70", ""),
    ],
)
def test_loss_is_known_by_flag_or_syntax(flag, syntax, expected):
    values, _ = piece({"LossyImageCompression": flag}, syntax=syntax)
    assert values["LossyImageCompression"] == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"EchoPulseSequence": "SPIN"}, ("SE",)),
        ({"EchoPulseSequence": "SPIN", "InversionRecovery": "YES"}, ("SE", "IR")),
        ({"EchoPulseSequence": "GRADIENT", "EchoPlanarPulseSequence": "YES"}, ("GR", "EP")),
        ({"EchoPulseSequence": "SPIN", "ScanningSequence": "GR"}, ("GR",)),
    ],
)
def test_enhanced_sequences_get_the_old_words(parts, expected):
    assert piece(parts)[0]["ScanningSequence"] == expected


def test_enhanced_fat_saturation():
    assert piece({"SpectrallySelectedSuppression": "FAT"})[0]["ScanOptions"] == ("FS",)
    assert piece({"SpectrallySelectedSuppression": "NONE"})[0]["ScanOptions"] == ()


@pytest.mark.parametrize("text", ["20240105", "2024.01.05"])
def test_days_of_both_date_forms(text):
    assert piece({"StudyDate": text})[0]["day"] == 738890


@pytest.mark.parametrize("text", ["", "0000", "20241301", "yesterday"])
def test_bad_dates_are_no_day(text):
    assert piece({"StudyDate": text})[0]["day"] is None


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"PatientAge": "061Y"}, 61),
        ({"PatientAge": "018M"}, 1.5),
        ({"PatientAge": "61"}, None),
        ({"PatientBirthDate": "19640105", "StudyDate": "20240105"}, 60),
    ],
)
def test_age(parts, expected):
    assert piece(parts)[0]["age_years"] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("elements_", "code"),
    [
        ({"RescaleType": "Z_EFF"}, "NOT_HU"),
        ({"RescaleType": "HU"}, ""),
        ({"RescaleType": "US"}, ""),
        ({"RescaleIntercept": [-1, 24]}, "BAD_RESCALE"),
        ({"RescaleSlope": [1, 1]}, "BAD_RESCALE"),
        ({"PixelRepresentation": 2}, "BAD_BITS"),
        ({"BitsAllocated": 12}, "BAD_BITS"),
        ({"BitsStored": 0}, "BAD_BITS"),
        ({"PhotometricInterpretation": "YBR_FULL"}, "UNSUPPORTED_PHOTOMETRIC"),
        ({"SamplesPerPixel": 3}, "UNSUPPORTED_PHOTOMETRIC"),
        ({"SOPInstanceUID": "no uid!"}, "MISSING_UID"),
    ],
)
def test_values_that_contradict_are_refused(dicom_writer, elements_, code):
    header = dicom.read_header(str(dicom_writer.write(modality="CT", **elements_)))
    assert header.code == code
    assert bool(header.remedy) == bool(code)
    assert (header.known is None) == (code == "")


def test_the_modality_is_that_of_the_class(dicom_writer):
    """Anything may be typed into Modality, and nothing of it may reach the results."""
    path = dicom_writer.write(modality="CT", Modality="CANARY", ConvolutionKernel="B30f")
    header = dicom.read_header(str(path))
    assert (header.state, header.slices[0]["Modality"]) == ("read", "CT")
    path = dicom_writer.write(modality="CT", Modality="CANARY", drop=["RescaleSlope"])
    assert dicom.read_header(str(path)).code == "CT_WITHOUT_RESCALE"
    assert piece({"Modality": "CANARY"}, kind="1.2.840.10008.5.1.4.1.1.4.1")[0]["Modality"] == "MR"


@pytest.mark.parametrize("said", ["MR", "PT", "OT"])
def test_another_known_modality_is_refused(dicom_writer, said):
    header = dicom.read_header(str(dicom_writer.write(modality="CT", Modality=said)))
    assert (header.state, header.code) == ("refused", "INCONSISTENT_IDENTITY")
    assert said in header.message
    assert header.known["Modality"] == "CT"


def test_photometric_interpretation_is_named_by_known_words_only(dicom_writer):
    for text, word in (("RGB", "RGB"), ("PALETTE COLOR", "palette colour"), ("SECRET", "unknown")):
        path = dicom_writer.write(PhotometricInterpretation=text)
        message = dicom.read_header(str(path)).message
        assert word in message
        assert "SECRET" not in message


def test_a_file_without_transfer_syntax_is_read_only_by_setting(dicom_writer):
    path = dicom_writer.write()
    content = path.read_bytes()
    place = content.index(b"\x02\0\x10\0UI")
    path.write_bytes(content[:place] + b"\x02\0\x12\0" + content[place + 4 :])
    assert dicom.read_header(str(path)).code == "NO_SYNTAX"
    assert dicom.read_header(str(path), accept_bare=True).state == "read"


def test_a_frame_is_placed_by_the_macro_made_for_it(tmp_path):
    """Other macros repeat elements of the images that a frame was derived from."""
    maker, grid = Maker(tmp_path, 1), Grid(shape=(4, 8, 8))
    dataset = enhanced(maker, [grid], "CT", "per-frame", np.arange(4))
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        other = pydicom.Dataset()
        other.ImagePositionPatient, other.PixelSpacing = [7.0, 7.0, 7.0], [9.0, 9.0]
        other.RescaleSlope, other.RescaleIntercept, other.KVP = 3.0, 5.0, 80.0
        frame.DerivationImageSequence = [other]
    header = dicom.read_header(str(maker.save(dataset, "multi.dcm")))
    assert header.state == "read"
    for number, piece in enumerate(header.slices):
        place = grid.matrix[:3] @ (0, 0, number, 1)
        assert piece["ImagePositionPatient"] == pytest.approx(place, abs=1e-5)
        assert piece["PixelSpacing"] == (2.0, 1.5)
        assert (piece["RescaleSlope"], piece["RescaleIntercept"]) == (1.0, -1024.0)


def test_memory_of_shared_headers_is_bounded(monkeypatch):
    monkeypatch.setattr(headers, "REMEMBERED", 10)
    for number in range(50):
        headers.share({"a": number})
    assert len(headers._known) <= 10


def test_all_names_have_a_representation():
    assert set(wanted.VRS) == {*wanted.NAMES, *wanted.FRAME_NAMES}
    assert set(headers.OWN) < set(wanted.NAMES)
