"""Weighting, kind and names from header values."""

import pytest

from mrsynth import contrast, elements

KEY = bytes(32)


def values(**entries) -> dict:
    """Header values of an MR slice, empty but for the entries."""
    empty = dict.fromkeys(elements.NUMBERS) | dict.fromkeys(elements.TEXTS, "")
    return empty | dict.fromkeys(elements.LISTS, ()) | {"Modality": "MR"} | entries


def spin(tr, te, **entries) -> dict:
    return values(ScanningSequence=("SE",), RepetitionTime=tr, EchoTime=te, **entries)


def inverted(ti, **entries) -> dict:
    parts = {"ScanningSequence": ("SE", "IR"), "RepetitionTime": 4000, "EchoTime": 40}
    return values(InversionTime=ti, **(parts | entries))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (spin(550, 12), "T1"),
        (spin(1400, 10), "T1"),
        (spin(3500, 105), "T2"),
        (spin(1500, 130), "T2"),
        (spin(2500, 15), "PD"),
        (spin(2500, 50), ""),
        (spin(2500, 50, SeriesDescription="sag PD fs"), "PD"),
        (spin(550, 12, SeriesDescription="T2 typed wrongly"), "T1"),
        (inverted(160), "STIR"),
        (inverted(220, SeriesDescription="t2_tirm_sag"), "TIRM"),
        (inverted(220, SeriesDescription="STIR", EchoTrainLength=16), "STIR"),
        (inverted(160, Manufacturer="SIEMENS", EchoTrainLength=16), "TIRM"),
        (inverted(160, Manufacturer="GE MEDICAL SYSTEMS", EchoTrainLength=16), "STIR"),
        (inverted(160, SequenceName="*tir2d1_16"), "TIRM"),
        (inverted(2500, EchoTime=120), "FLAIR"),
        (inverted(850, RepetitionTime=2000, EchoTime=10), "T1"),
        (inverted(900, ScanningSequence=("GR", "IR"), EchoTime=3), "T1"),
        (values(ScanningSequence=("GR",), EchoTime=3.0, FlipAngle=20), "T1"),
        (values(ScanningSequence=("GR",), EchoTime=20.0, FlipAngle=20), ""),
        (values(ScanningSequence=("EP", "SE"), RepetitionTime=5000, EchoTime=80), ""),
        (values(DiffusionBValue=800, SeriesDescription="T2"), ""),
        (values(SeriesDescription="SAG T2 TSE"), "T2"),
        (values(SeriesDescription="ax t1_tse"), "T1"),
        (values(SeriesDescription="T2* gre"), ""),
        (values(SeriesDescription="T12 level"), ""),
        (values(Modality="CT", SeriesDescription="T2"), ""),
    ],
)
def test_weighting(header, expected):
    assert contrast.weighting(header) == expected


@pytest.mark.parametrize(
    ("image_type", "description", "expected"),
    [
        (("ORIGINAL", "PRIMARY", "AXIAL"), "", "original"),
        (("DERIVED", "SECONDARY"), "", "derived"),
        (("DERIVED", "PRIMARY", "MPR"), "", "derived"),
        (("ORIGINAL", "PRIMARY", "LOCALIZER"), "", "localizer"),
        (("ORIGINAL", "PRIMARY", "M"), "3-plane loc", "localizer"),
        (("ORIGINAL", "PRIMARY", "M"), "location of block", "original"),
        (("DERIVED", "SECONDARY", "MIP"), "", "projection"),
    ],
)
def test_kind(image_type, description, expected):
    assert contrast.kind(values(ImageType=image_type, SeriesDescription=description)) == expected


def test_fat_suppression_from_options_or_words():
    assert contrast.fat_suppressed(values(ScanOptions=("FS",)))
    assert contrast.fat_suppressed(values(SeriesDescription="t2 tse fs sag"))
    assert not contrast.fat_suppressed(values(SeriesDescription="offset t2"))


def test_vendors_are_known_names_only():
    assert contrast.vendor("SIEMENS Healthineers") == "Siemens"
    assert contrast.vendor("GE MEDICAL SYSTEMS") == "GE"
    assert contrast.vendor("Dr. Who") == "other"
    assert contrast.vendor("") == ""


def test_unknown_scanners_and_kernels_are_hashed():
    assert contrast.scanner("MAGNETOM Skyra_fit", KEY) in ("Skyra", "Magnetom")
    assert contrast.scanner("Dr. Who", KEY).startswith("scn-")
    assert contrast.scanner("Dr. Who", KEY) == contrast.scanner("Dr. Who", KEY)
    assert contrast.scanner("Dr. Who", KEY) != contrast.scanner("Dr. Who", bytes(31) + b"1")
    assert contrast.kernel("B30f", KEY) == "B30f"
    assert contrast.kernel("BONE", KEY) == "BONE"
    assert contrast.kernel("Hr40f\\3", KEY) == "Hr40f"
    assert contrast.kernel("John Smith", KEY).startswith("krn-")
