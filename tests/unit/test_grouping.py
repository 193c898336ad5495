"""Series as a whole: what belongs together, what does not, and what must not be lost silently."""

import numpy as np
import pydicom
import pytest

from mrsynth import index

KEY = bytes(range(32))
CORONAL = (1.0, 0, 0, 0, 0, -1)
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def scan(writer, **options):
    return index.scan([writer.folder], key=KEY, **options)


def only(found) -> dict:
    (row,) = found.series.to_dict("records")
    return row


def codes(found) -> list[str]:
    return sorted(f"{row.state}:{row.code}" for row in found.files.itertuples())


def change(path, **elements):
    """Rewrite a file with other elements."""
    dataset = pydicom.dcmread(path)
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def test_files_without_uid_are_in_both_tables(dicom_writer):
    dicom_writer.stack(range(4), drop=["SeriesInstanceUID"], modality="CT")
    found = scan(dicom_writer)
    row = only(found)
    assert (row["status"], row["code"], row["modality"]) == ("refused", "MISSING_UID", "CT")
    assert row["subject"]
    assert row["remedy"]
    assert codes(found) == ["refused:MISSING_UID"] * 4
    assert set(found.files["series"]) == {row["series"]}


def test_a_file_of_unknown_series_refuses_those_beside_it_and_no_others(dicom_writer):
    dicom_writer.stack(range(4))
    dicom_writer.write(drop=["SeriesInstanceUID"], ImagePositionPatient=[0, 0, 4.0])
    dicom_writer.folder = dicom_writer.folder / "other"
    dicom_writer.stack(range(4), SeriesInstanceUID="1.2.3")
    dicom_writer.folder = dicom_writer.folder.parent
    found = scan(dicom_writer).series
    assert sorted(zip(found["status"], found["code"], strict=True)) == [
        ("refused", "CORRUPT"),
        ("refused", "MISSING_UID"),
        ("used", ""),
    ]


def test_refused_series_tell_what_they_would_have_been(dicom_writer):
    """So that the cohort's flow says REFUSED_SERIES, not that there is no CT."""
    dicom_writer.stack(range(4), modality="CT", drop=["RescaleSlope"], ConvolutionKernel="B30f")
    row = only(scan(dicom_writer))
    assert (row["code"], row["modality"], row["kernel"]) == ("CT_WITHOUT_RESCALE", "CT", "B30f")
    assert (row["slices"], row["day"]) == ("4", "0")


def test_folders_name_the_subjects_of_refused_series_too(dicom_writer):
    root = dicom_writer.folder
    for name in ("p1", "p2"):
        dicom_writer.folder = root / name
        dicom_writer.stack(range(3), PatientID="", SeriesInstanceUID=dicom_writer.uid())
        dicom_writer.stack(range(3), PatientID="", PixelSpacing=[0, 1], SeriesInstanceUID="1.2.7")
    dicom_writer.folder = root
    found = scan(dicom_writer, subject_from="folder").series
    assert sorted(found["status"]) == ["refused"] * 2 + ["used"] * 2
    assert found["subject"].nunique() == 2
    assert "" not in set(found["subject"])


@pytest.mark.parametrize("sop_class", [CAPTURE, "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"])
def test_an_image_of_another_class_with_a_place_refuses_its_series(dicom_writer, sop_class):
    paths = dicom_writer.stack(range(5))
    change(paths[4], SOPClassUID=sop_class)
    row = only(scan(dicom_writer))
    assert (row["status"], row["code"]) == ("refused", "INCONSISTENT_IDENTITY")


def test_an_object_without_a_place_is_skipped(dicom_writer):
    dicom_writer.stack(range(5))
    dicom_writer.write(SOPClassUID=CAPTURE, drop=["ImagePositionPatient"])
    found = scan(dicom_writer)
    assert codes(found) == ["skipped:UNSUPPORTED_CLASS"] + ["used:"] * 5


@pytest.mark.parametrize(
    "elements",
    [
        {"SeriesInstanceUID": "1.2.3.4"},
        {"EchoTime": 101.5},
        {"ImageType": ["ORIGINAL", "PRIMARY", "X"]},
        {"ImageOrientationPatient": list(CORONAL)},
    ],
)
def test_an_end_slice_that_stands_elsewhere_refuses_the_stack(dicom_writer, elements):
    paths = dicom_writer.stack(range(6))
    change(paths[5], **elements)
    found = scan(dicom_writer)
    assert "used" not in set(found.series["status"])
    assert found.private == {}
    assert set(found.files["state"]) == {"refused"}


@pytest.mark.parametrize("place", [[0, 0, 40.0], [30.0, 0, 6.0]])
def test_a_lone_series_elsewhere_changes_nothing(dicom_writer, place):
    dicom_writer.stack(range(6))
    dicom_writer.write(ImagePositionPatient=place, SeriesInstanceUID="1.2.3.4")
    found = scan(dicom_writer).series
    assert sorted(found["status"]) == ["refused", "used"]


def test_pictures_of_text_in_a_series_are_skipped(dicom_writer):
    dicom_writer.stack(range(5))
    dicom_writer.write(
        ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"],
        drop=["ImagePositionPatient", "PixelSpacing"],
        BurnedInAnnotation="YES",
    )
    assert codes(scan(dicom_writer)) == ["skipped:SCREEN"] + ["used:"] * 5


def test_a_patient_protocol_is_a_skipped_series(dicom_writer):
    dicom_writer.write(
        modality="CT",
        ImageType=["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"],
        drop=["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"],
        PhotometricInterpretation="MONOCHROME2",
    )
    row = only(scan(dicom_writer))
    assert (row["kind"], row["status"], row["code"]) == ("screen", "skipped", "SCREEN")


def test_slices_with_other_bits_are_refused(dicom_writer):
    paths = dicom_writer.stack(range(5))
    change(paths[2], BitsStored=12, HighBit=11)
    row = only(scan(dicom_writer))
    assert (row["status"], row["code"]) == ("refused", "INCONSISTENT_PIXELS")


def test_redelivered_files_are_compared_by_content_or_pixels(dicom_writer):
    """The second copy has another header, the third another content."""
    paths = dicom_writer.stack(range(4))
    dicom_writer.folder = dicom_writer.folder / "again"
    dicom_writer.folder.mkdir()
    copies = [pydicom.dcmread(path) for path in paths]
    copies[1].ImageComments = "sent again"
    for dataset in copies:
        dicom_writer.save(dataset, f"{dataset.SOPInstanceUID}.dcm")
    dicom_writer.folder = dicom_writer.folder.parent
    assert codes(scan(dicom_writer)) == ["skipped:DUPLICATE"] * 4 + ["used:"] * 4
    copies[2].PixelData = bytes(40)
    dicom_writer.save(copies[2], "again/x.dcm")
    assert only(scan(dicom_writer))["code"] == "DUPLICATE_CONFLICT"


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("PatientSex", ("F", "M"), True),
        ("PatientSex", ("F", ""), False),
        ("PatientBirthDate", ("19600101", "19710203"), True),
        ("PatientBirthDate", ("19600101", ""), False),
    ],
)
def test_one_id_of_two_persons_is_noted(dicom_writer, name, values, expected):
    for number, value in enumerate(values):
        dicom_writer.stack(range(3), SeriesInstanceUID=f"1.2.{number + 3}", **{name: value})
    dicom_writer.stack(range(3), SeriesInstanceUID="1.2.9", PatientID="somebody else")
    found = scan(dicom_writer).series
    noted = found["notes"].str.contains("id_shared")
    assert noted.sum() == (2 if expected else 0)


def test_notes_and_contrast_of_any_slice_count_for_the_series(dicom_writer):
    dicom_writer.stack(range(3), modality="CT")
    dicom_writer.stack(range(3, 6), modality="CT", ContrastBolusAgent="x", ProtocolName="Myelo CT")
    row = only(scan(dicom_writer))
    assert (row["contrast"], row["notes"], row["fatsat"]) == ("yes", "myelo", "")


def test_lossy_compression_is_told_by_the_flag(dicom_writer):
    dicom_writer.stack(range(3), LossyImageCompression="01")
    assert only(scan(dicom_writer))["code"] == "LOSSY"


def test_patients_in_a_mixed_series_are_counted_not_named(dicom_writer):
    dicom_writer.stack(range(3))
    dicom_writer.stack(np.arange(3.0, 6), PatientID="Canary-2")
    found = scan(dicom_writer)
    assert found.series["message"].tolist() == ["one series holds slices of 2 patients"] * 2
    assert "Canary" not in found.series.to_csv() + found.files.to_csv()
