"""One series, several volumes: parted by what the headers say, or refused."""

import numpy as np
import pytest

from mrsynth import index

KEY = bytes(range(32))


def rows(writer, **options) -> list[dict]:
    """Rows of the series table, and every file in a state."""
    found = index.scan([writer.folder], key=KEY, **options)
    assert set(found.files["state"]) <= {"used", "skipped", "refused"}
    return found.series.to_dict("records")


def planes(count, value):
    """Slices of one value each, so that no two acquisitions have equal pixels."""
    return [np.full((4, 5), value, np.int16)] * count


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ConvolutionKernel", ("B30f", "B70f")),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"])),
        ("EchoTime", (12.0, 96.0)),
        ("DiffusionBValue", (0.0, 800.0)),
        ("TemporalPositionIdentifier", (1, 2)),
        ("SequenceName", ("*ep_b0", "*ep_b800t")),
        ("AcquisitionNumber", (1, 2)),
        ("AcquisitionTime", ("101500.00", "101512.50")),
        ("TriggerTime", (10.0, 320.0)),
        ("ReconstructionDiameter", (150.0, 420.0)),
        ("SliceThickness", (1.0, 3.0)),
    ],
)
def test_acquisitions_at_the_same_places_are_parted(dicom_writer, name, values):
    for number, value in enumerate(values):
        dicom_writer.stack(3.0 * np.arange(5), pixels=planes(5, number), **{name: value})
    found = rows(dicom_writer)
    assert [(row["status"], row["slices"]) for row in found] == [("used", "5")] * 2


def test_two_fields_of_view_of_one_scan_are_parted(dicom_writer):
    dicom_writer.stack(np.arange(6.0), modality="CT", PixelSpacing=[0.3, 0.3])
    large = [np.zeros((8, 8), np.int16)] * 3
    dicom_writer.stack([0.0, 2.5, 5.0], modality="CT", PixelSpacing=[0.9, 0.9], pixels=large)
    found = rows(dicom_writer)
    assert sorted((row["pixel_mm"], row["slices"], row["status"]) for row in found) == [
        ("0.3", "6", "used"),
        ("0.9", "3", "used"),
    ]


def test_slices_of_a_wrong_size_beyond_the_stack_are_no_reconstruction(dicom_writer):
    dicom_writer.stack(np.arange(6.0))
    dicom_writer.stack(np.arange(6.0, 9.0), pixels=[np.zeros((6, 5), np.int16)] * 3)
    (row,) = rows(dicom_writer)
    assert (row["status"], row["code"]) == ("refused", "INCONSISTENT_SIZE")


def test_what_no_element_tells_apart_is_refused(dicom_writer):
    for number in (1, 2):
        dicom_writer.stack(np.arange(5.0), pixels=planes(5, number))
    (row,) = rows(dicom_writer)
    assert (row["status"], row["code"]) == ("refused", "DUPLICATE_POSITION")
    assert "places: 5" in row["message"]


def test_a_time_of_its_own_for_each_slice_parts_nothing(dicom_writer):
    for number in range(5):
        dicom_writer.stack([float(number)], AcquisitionTime=f"1015{number:02d}")
    (row,) = rows(dicom_writer)
    assert (row["status"], row["slices"]) == ("used", "5")
