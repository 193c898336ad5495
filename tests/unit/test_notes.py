"""Notes: what a header says against a series, in closed words."""

import pytest

from mrsynth import notes, wanted


def values(**entries) -> dict:
    """Header values of an MR slice, empty but for the entries."""
    empty = dict.fromkeys(wanted.NUMBERS) | dict.fromkeys(wanted.TEXTS, "")
    return empty | dict.fromkeys(wanted.LISTS, ()) | {"Modality": "MR"} | entries


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, []),
        ({"SeriesDescription": "CT Myelography L-spine"}, ["myelo"]),
        ({"StudyDescription": "Post-Myelo-CT LWS"}, ["myelo"]),
        ({"ContrastBolusRoute": "Intrathecal"}, ["myelo"]),
        ({"SeriesDescription": "multiple myeloma staging"}, []),
        ({"SeriesDescription": "Myelopathy C-spine"}, []),
        ({"SeriesDescription": "Myelon sag"}, []),
        ({"ProtocolName": "CT_Arthrography"}, ["arthro"]),
        ({"SeriesDescription": "LWS 1.0 iMAR"}, ["metal_reduction"]),
        ({"SeriesDescription": "O-MAR B"}, ["metal_reduction"]),
        ({"SeriesDescription": "T2 SEMAC sag"}, ["metal_reduction"]),
        ({"SeriesDescription": "t1_tse_WARP"}, ["metal_reduction"]),
        ({"SeriesDescription": "Metal artifact reduction"}, ["metal_reduction"]),
        ({"SeriesDescription": "marked sagittal"}, []),
        ({"StudyDescription": "s/p spondylodesis, screws L4"}, ["metal"]),
        ({"StudyDescription": "Implant, smart MAR"}, ["metal", "metal_reduction"]),
        ({"StudyDescription": "CT guided biopsy"}, ["intervention"]),
        ({"SeriesDescription": "TOF angio"}, ["angiography"]),
        ({"Modality": "CT", "SeriesDescription": "VNC 1.5"}, ["spectral"]),
        ({"Modality": "CT", "SeriesDescription": "Monoenergetic 70 keV"}, ["spectral"]),
        ({"Modality": "CT", "ImageType": ("DERIVED", "PRIMARY", "AXIAL", "Z_EFF")}, ["spectral"]),
        ({"SeriesDescription": "t2*_gre_tra"}, ["t2_star"]),
        ({"ImageType": ("DERIVED", "PRIMARY", "ADC")}, ["map"]),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "P")}, ["phase"]),
        ({"ImageType": ("DERIVED", "PRIMARY", "DIXON", "W")}, ["dixon_water"]),
        ({"SeriesDescription": "InPhase: T1 FLEX"}, ["dixon_in"]),
        ({"SeriesDescription": "t1_vibe_dixon_opp"}, ["dixon_out"]),
        ({"ScanningSequence": ("GR",), "SequenceVariant": ("SS", "SK")}, ["steady_state"]),
        ({"BodyPartExamined": "HEAD"}, ["no_spine"]),
        ({"BodyPartExamined": "LSPINE"}, []),
    ],
)
def test_words(header, expected):
    assert notes.notes(values(**header)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LSPINE", "lspine"),
        ("L-SPINE", "lspine"),
        ("LWS", "lspine"),
        ("CSPINE", "cspine"),
        ("Thoracic spine", "tspine"),
        ("SPINE", "spine"),
        ("ABDOMEN", "abdomen"),
        ("ABDOMENPELVIS", "abdomen"),
        ("WHOLEBODY", "whole_body"),
        ("KNEE", "limb"),
        ("HEART", "heart"),
        ("Smith", ""),
        ("", ""),
    ],
)
def test_body_part(text, expected):
    assert notes.body_part(values(BodyPartExamined=text)) == expected


def test_no_header_text_comes_through():
    header = values(**dict.fromkeys(wanted.TEXTS, "Canary Myelo Implant HEAD"))
    assert set(notes.notes(header)) <= set(notes.NOTES)
    assert notes.notes(header)
