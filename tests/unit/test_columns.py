"""The series table: closed words, short numbers, an order that people can read."""

import re

import numpy as np
import pydicom

from mrsynth import columns, contrast, index, notes

KEY = bytes(range(32))
WORD = re.compile(r"[A-Za-z0-9_.,: -]*")


def test_rows_stand_by_subject_and_used_ones_first(dicom_writer):
    for number, (patient, day) in enumerate([("b", "05"), ("a", "07"), ("a", "05")]):
        uids = {"SeriesInstanceUID": f"1.2.{number + 3}", "StudyInstanceUID": f"1.3.{number + 3}"}
        dicom_writer.stack(range(3), PatientID=patient, StudyDate=f"202401{day}", **uids)
    dicom_writer.stack(range(2), PatientID="a", SeriesInstanceUID="1.2.9")
    found = index.scan([dicom_writer.folder], key=KEY).series
    rows = list(zip(found["subject"], found["status"], found["day"], strict=True))
    first = [row for row in rows if row[0] == rows[0][0]]
    assert rows == first + [row for row in rows if row[0] != rows[0][0]]
    by_size = sorted([first, rows[len(first) :]], key=len)
    assert [row[1:] for row in by_size[0]] == [("used", "0")]
    assert [row[1:] for row in by_size[1]] == [("used", "0"), ("used", "2"), ("refused", "0")]


def test_numbers_are_rounded_to_what_scanners_print(dicom_writer):
    dicom_writer.stack(
        0.6000001 * np.arange(4),
        RepetitionTime="3500.00012",
        EchoTime="101.0000001",
        MagneticFieldStrength="1.4939999",
        PixelSpacing=[0.39062500001, 0.39062500001],
        SliceThickness="0.60000002",
    )
    (row,) = index.scan([dicom_writer.folder], key=KEY).series.to_dict("records")
    names = ("tr_ms", "te_ms", "field_t", "pixel_mm", "spacing_mm", "thickness_mm", "extent_mm")
    assert [row[name] for name in names] == ["3500", "101", "1.494", "0.3906", "0.6", "0.6", "2.4"]


def test_no_free_text_reaches_the_table(dicom_writer):
    """Every text element holds a marked text; none of it is in a cell."""
    paths = dicom_writer.stack(range(4), modality="CT")
    for number, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        for name in ("SeriesDescription", "ProtocolName", "StudyDescription", "Manufacturer"):
            setattr(dataset, name, "Canary myelo")
        for name in ("ManufacturerModelName", "ConvolutionKernel", "BodyPartExamined"):
            setattr(dataset, name, "CANARY")
        dataset.ContrastBolusAgent = "Canary"
        dataset.SequenceName = f"Canary{number // 2}"
        dataset.save_as(path)
    found = index.scan([dicom_writer.folder], key=KEY)
    text = found.series.to_csv() + found.files.to_csv()
    assert "canary" not in text.lower()
    assert set(found.series["notes"]) == {"myelo"}


def test_cells_hold_closed_words(dicom_writer):
    dicom_writer.stack(range(4), modality="CT", SeriesDescription="CT Myelo guided")
    dicom_writer.stack(range(4), SeriesInstanceUID="1.2.3", BodyPartExamined="KNEE")
    for row in index.scan([dicom_writer.folder], key=KEY).series.to_dict("records"):
        assert set(row["notes"].split(",")) <= {*notes.NOTES, ""}
        assert row["contrast"] in ("yes", "no", "")
        assert row["fatsat"] in ("yes", "no", "")
        assert row["kind"] in ("original", "derived", *contrast.NO_VOLUMES)
        assert all(WORD.fullmatch(cell) for cell in row.values())


def test_columns_are_unique_and_end_with_the_reason():
    assert len(set(columns.SERIES_COLUMNS)) == len(columns.SERIES_COLUMNS)
    assert columns.SERIES_COLUMNS[-2:] == ["message", "remedy"]
