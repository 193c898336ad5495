"""Weighting, kind and names from header values."""

import pytest

from mrsynth import contrast, wanted

KEY = bytes(32)


def values(**entries) -> dict:
    """Header values of an MR slice, empty but for the entries."""
    empty = dict.fromkeys(wanted.NUMBERS) | dict.fromkeys(wanted.TEXTS, "")
    return empty | dict.fromkeys(wanted.LISTS, ()) | {"Modality": "MR"} | entries


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
        (values(SeriesDescription="T1 FLAIR sag"), "T1"),
        (values(SeriesDescription="T2 FLAIR ax"), "FLAIR"),
        (values(SeriesDescription="t1w dark-fluid"), "T1"),
        (values(SeriesDescription="t2_tirm_tra_dark-fluid"), "FLAIR"),
        (inverted(2200, SeriesDescription="t2_tirm_tra_dark-fluid"), "FLAIR"),
        (inverted(165, ImageType=("ORIGINAL", "PRIMARY", "R_IR", "R", "IR")), "STIR"),
        (values(ScanningSequence=("GR",), EchoTime=18.0, SeriesDescription="t2_medic_tra"), ""),
        (
            values(ScanningSequence=("GR",), SequenceVariant=("SS",), SeriesDescription="T2 ciss"),
            "",
        ),
        (values(ScanningSequence=("SE", "GR"), SeriesDescription="T2 grase"), "T2"),
        # Philips: the delay of SPAIR is no inversion recovery.
        (
            spin(3500, 90, InversionTime=110, ScanOptions=("FS",), SeriesDescription="T2 SPAIR"),
            "T2",
        ),
        (spin(3500, 90, InversionTime=110, SeriesDescription="t2_spir_sag"), "T2"),
        (inverted(165, Manufacturer="Philips", SeriesDescription="STIR_TSE_sag"), "STIR"),
        (inverted(220, Manufacturer="TOSHIBA", EchoTrainLength=12), "STIR"),
        # GE writes an inversion time of 0 for a plain fast spin echo.
        (spin(3000, 100, InversionTime=0, Manufacturer="GE MEDICAL SYSTEMS"), "T2"),
        (spin(550, 12, ImageType=("DERIVED", "PRIMARY", "T2 MAP")), ""),
        (spin(5000, 80, ImageType=("DERIVED", "PRIMARY", "DIFFUSION", "ADC")), ""),
        (spin(5000, 80, ImageType=("ORIGINAL", "PRIMARY", "P", "ND")), ""),
        (spin(5000, 80, ComplexImageComponent="PHASE"), ""),
        (spin(5000, 80, ImageType=("DERIVED", "PRIMARY", "DIXON", "FAT")), ""),
        (spin(5000, 80, ImageType=("DERIVED", "PRIMARY", "DIXON", "WATER")), "T2"),
        (values(AcquisitionContrast="PROTON_DENSITY"), "PD"),
        (values(AcquisitionContrast="T2_STAR", ScanningSequence=("GR",)), ""),
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
        (("DERIVED", "SECONDARY", "MIN_IP"), "", "projection"),
        (("DERIVED", "SECONDARY", "VOLUME", "VRT"), "", "projection"),
        (("ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"), "", "localizer"),
        (("ORIGINAL", "PRIMARY", "SCANOSCOPE"), "", "localizer"),
        (("DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"), "Patient Protocol", "screen"),
        (("DERIVED", "SECONDARY", "SCREEN SAVE"), "", "screen"),
        (("DERIVED", "SECONDARY", "DOSE_INFO"), "", "screen"),
        (("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"), "", "original"),
        (("ORIGINAL", "PRIMARY", "M", "ND", "NORM"), "protocol 7", "original"),
        (("DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"), "", "derived"),
        (("ORIGINAL", "PRIMARY", "REFORMATTED", "AVERAGE"), "", "derived"),
        (("ORIGINAL", "PRIMARY", "M", "ND", "T2 MAP"), "", "derived"),
    ],
)
def test_kind(image_type, description, expected):
    assert contrast.kind(values(ImageType=image_type, SeriesDescription=description)) == expected


def test_fat_suppression_from_options_or_words():
    assert contrast.fat_suppressed(values(ScanOptions=("FS",)))
    assert contrast.fat_suppressed(values(SeriesDescription="t2 tse fs sag"))
    assert not contrast.fat_suppressed(values(SeriesDescription="offset t2"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"ScanOptions": ("PFP", "FS")}, True),
        ({"SeriesDescription": "T2 SPAIR sag"}, True),
        ({"SeriesDescription": "t2_tse_dixon_sag_W"}, True),
        ({"ImageType": ("DERIVED", "PRIMARY", "DIXON", "WATER")}, True),
        ({"SeriesDescription": "WATER: T2 FSE IDEAL"}, True),
        ({"SeriesDescription": "FAT: T2 FSE IDEAL"}, False),
        ({"SeriesDescription": "t2_tse_dixon_sag_in"}, False),
        ({"SeriesDescription": "T2 fsems"}, False),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE")}, False),
    ],
)
def test_fat_suppression(header, expected):
    assert contrast.fat_suppressed(values(**header)) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, ""),
        ({"ContrastBolusAgent": "Dotarem"}, "yes"),
        ({"ContrastBolusAgent": "APPLIED"}, "yes"),
        ({"ContrastBolusAgent": "NONE"}, "no"),
        ({"ContrastBolusAgent": "No contrast"}, "no"),
        ({"ContrastBolusAgent": "NONE", "ContrastBolusVolume": 80.0}, "yes"),
        ({"ContrastBolusAgent": "Gd-DTPA"}, "yes"),
        ({"ContrastBolusAgent": "OMNIPAQUE-350"}, "yes"),
        ({"ContrastBolusAgent": "Gadovist 0.1 mmol/kg"}, "yes"),
        ({"ContrastBolusAgent": "Dotarem 0,1"}, "yes"),
        ({"ContrastBolusAgent": "ISOVUE-370 100 ML"}, "yes"),
        ({"ContrastBolusAgent": "0"}, "no"),
        ({"ContrastBolusAgent": " 0.0 ml"}, "no"),
        ({"ContrastBolusAgent": "-"}, "no"),
        ({"SeriesDescription": "LWS post OP"}, ""),
        ({"SeriesDescription": "T2 sag post-op"}, ""),
        ({"SeriesDescription": "t1_sag_post_surgery"}, ""),
        ({"SeriesDescription": "T1 post OP +KM"}, "yes"),
        ({"SeriesDescription": "T1 sag post"}, "yes"),
        ({"SeriesDescription": "T1 SAG +C"}, "yes"),
        ({"SeriesDescription": "t1_tse_sag_KM"}, "yes"),
        ({"SeriesDescription": "t1_fs_post_gd"}, "yes"),
        ({"SeriesDescription": "T1 C+ FS"}, "yes"),
        ({"SeriesDescription": "LWS nativ 1.0"}, "no"),
        ({"SeriesDescription": "CT without contrast"}, "no"),
        ({"SeriesDescription": "T1 pre contrast"}, "no"),
        ({"SeriesDescription": "non-contrast L-spine"}, "no"),
        ({"SeriesDescription": "T2 posterior elements"}, ""),
        ({"SeriesDescription": "iliac crest, ceph"}, ""),
        ({"SeriesDescription": "AX T2 C-SPINE"}, ""),
    ],
)
def test_contrast_medium(header, expected):
    assert contrast.medium(values(**header)) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"ImageType": ("ORIGINAL", "PRIMARY", "M", "ND")}, False),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "P", "ND")}, True),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE")}, True),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "R_IR", "R", "IR")}, False),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "OTHER", "R", "IR")}, False),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "R_FFE", "R", "FFE")}, True),
        ({"ComplexImageComponent": "MAGNITUDE", "ImageType": ("ORIGINAL", "PRIMARY", "P")}, False),
        ({"ComplexImageComponent": "REAL"}, True),
        ({"Modality": "CT", "ImageType": ("ORIGINAL", "PRIMARY", "P")}, False),
    ],
)
def test_phase(header, expected):
    assert contrast.phase(values(**header)) is expected


def test_vendors_are_known_names_only():
    assert contrast.vendor("SIEMENS Healthineers") == "Siemens"
    assert contrast.vendor("GE MEDICAL SYSTEMS") == "GE"
    assert contrast.vendor("Dr. Who") == "other"
    assert contrast.vendor("") == ""


def test_unknown_scanners_and_kernels_are_hashed():
    assert contrast.scanner("MAGNETOM Skyra_fit", KEY) == "Skyra"
    assert contrast.scanner("SOMATOM Force", KEY) == "Force"
    assert contrast.scanner("Dr. Who", KEY).startswith("scn-")
    assert contrast.scanner("Dr. Who", KEY) == contrast.scanner("Dr. Who", KEY)
    assert contrast.scanner("Dr. Who", KEY) != contrast.scanner("Dr. Who", bytes(31) + b"1")
    assert contrast.kernel("B30f", KEY) == "B30f"
    assert contrast.kernel("BONE", KEY) == "BONE"
    assert contrast.kernel("FC08-H", KEY) == "FC08-H"
    assert contrast.kernel("Hr40f\\3", KEY) == "Hr40f"
    assert contrast.kernel("John Smith", KEY).startswith("krn-")
