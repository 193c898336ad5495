"""Headers: every bad file ends in a code, never in an exception or a shorter volume."""

import os
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from mrsynth import dicom


def one(path, **options):
    """State and code of one file."""
    header = dicom.read_header(str(path), **options)
    return header.state, header.code


def test_a_good_slice_is_read_as_plain_values(dicom_writer):
    header = dicom.read_header(str(dicom_writer.write(modality="CT", SliceThickness="2.5")))
    assert header.state == "read"
    (values,) = header.slices
    assert values["SliceThickness"] == 2.5
    assert values["PixelSpacing"] == (2.0, 1.5)
    assert values["age_years"] == 61
    assert values["Modality"] == "CT"
    assert "PixelData" not in values
    assert "Canary" not in repr(values)


@pytest.mark.parametrize(
    ("drop", "elements", "code"),
    [
        (["ImagePositionPatient"], {}, "MISSING_POSITION"),
        (["ImageOrientationPatient"], {}, "MISSING_ORIENTATION"),
        (["PixelSpacing"], {}, "MISSING_SPACING"),
        (["Rows"], {}, "MISSING_SIZE"),
        ([], {"ImagePositionPatient": [1.0, 2.0]}, "BAD_POSITION"),
        ([], {"ImageOrientationPatient": [1, 0, 0, 0, 1]}, "BAD_ORIENTATION"),
        ([], {"ImageOrientationPatient": [1, 0, 0, 0.2, 1, 0]}, "BAD_ORIENTATION"),
        ([], {"PixelSpacing": [0, 1]}, "BAD_SPACING"),
        ([], {"PixelSpacing": [-1, 1]}, "BAD_SPACING"),
        (["SeriesInstanceUID"], {}, "MISSING_UID"),
        ([], {"PhotometricInterpretation": "PALETTE COLOR"}, "UNSUPPORTED_PHOTOMETRIC"),
        ([], {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 1}, "UNSUPPORTED_PHOTOMETRIC"),
        ([], {"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]}, "UNSUPPORTED_MOSAIC"),
        ([], {"SyntheticData": "YES"}, "SYNTHETIC"),
        ([], {"BurnedInAnnotation": "YES"}, "BURNED_IN"),
        ([], {"RescaleSlope": 0, "RescaleIntercept": 0}, "BAD_RESCALE"),
        ([], {"Rows": 65535}, "IMPOSSIBLE_SIZE"),
        ([], {"NumberOfFrames": 1000}, "UNSUPPORTED_MULTIFRAME"),
        ([], {"BitsStored": 17}, "BAD_BITS"),
        ([], {"HighBit": 3}, "BAD_BITS"),
        ([], {"SeriesInstanceUID": "1.2 3?"}, "MISSING_UID"),
    ],
)
def test_bad_headers_have_names(dicom_writer, drop, elements, code):
    assert one(dicom_writer.write(drop=drop, **elements)) == ("refused", code)


def test_not_a_number_is_a_bad_position(dicom_writer):
    path = dicom_writer.write(ImagePositionPatient=[1.25, 2.25, 3.25])
    content = path.read_bytes()
    assert content.count(b"2.25") == 1
    path.write_bytes(content.replace(b"2.25", b"NaN "))
    assert one(path) == ("refused", "BAD_POSITION")


def test_ct_without_rescale_is_refused(dicom_writer):
    path = dicom_writer.write(modality="CT", drop=["RescaleIntercept"])
    assert one(path) == ("refused", "CT_WITHOUT_RESCALE")
    assert one(dicom_writer.write(modality="MR"))[0] == "read"


@pytest.mark.parametrize(
    ("sop_class", "code"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.11", "UNSUPPORTED_CLASS"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "UNSUPPORTED_CLASS"),
        ("1.2.840.10008.5.1.4.1.1.7", "UNSUPPORTED_CLASS"),
        ("1.2.840.10008.5.1.4.1.1.1", "PROJECTION"),
    ],
)
def test_other_objects_are_skipped(dicom_writer, sop_class, code):
    assert one(dicom_writer.write(SOPClassUID=sop_class)) == ("skipped", code)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.dcm", b"", ("refused", "CORRUPT")),
        ("a.dcm", b"<html><body>404</body></html>", ("refused", "CORRUPT")),
        ("IM0001", os.urandom(3000), ("refused", "CORRUPT")),
        ("1.2.840.77", b"x" * 500, ("refused", "CORRUPT")),
        ("notes.txt", b"hello", ("skipped", "NOT_DICOM")),
        ("README", b"hello", ("skipped", "NOT_DICOM")),
        (".DS_Store", b"\0\0\0\1", ("skipped", "NOT_DICOM")),
    ],
)
def test_files_that_are_not_dicom(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content)
    assert one(path) == expected


def test_dead_links_and_pipes_do_not_hang(tmp_path):
    (tmp_path / "dead.dcm").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.dcm")
    paths = dicom.list_files(tmp_path)
    assert [one(path) for path in paths] == [("refused", "UNREADABLE")] * 2


def test_truncated_files_are_never_read(dicom_writer):
    content = dicom_writer.write().read_bytes()
    rng = np.random.default_rng(0)
    path = dicom_writer.folder / "cut.dcm"
    for length in [*rng.integers(1, len(content) - 1, 40), len(content) - 1, 131, 132, 140]:
        path.write_bytes(content[: int(length)])
        assert one(path)[0] == "refused", length


def test_flipped_bytes_never_raise(dicom_writer):
    content = dicom_writer.write(modality="CT").read_bytes()
    rng = np.random.default_rng(1)
    path = dicom_writer.folder / "flipped.dcm"
    states = set()
    for _ in range(200):
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        header = dicom.read_header(str(path))
        assert header.state in ("read", "skipped", "refused")
        assert (header.state == "read") == bool(header.slices)
        assert bool(header.code) == (header.state != "read")
        states.add(header.state)
    assert {"read", "refused"} <= states


def test_without_preamble_only_by_explicit_setting(dicom_writer):
    dataset = dicom_writer.dataset()
    path = dicom_writer.folder / "bare.dcm"
    dataset.save_as(path, implicit_vr=True, little_endian=True)
    assert one(path) == ("refused", "NO_PREAMBLE")
    assert one(path, accept_bare=True) == ("read", "")


def test_class_and_instance_come_from_the_meta_group_where_they_were_removed(dicom_writer):
    dataset = dicom_writer.dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    del dataset.SOPClassUID, dataset.SOPInstanceUID
    path = dicom_writer.folder / "a.dcm"
    dataset.save_as(path, enforce_file_format=True)
    assert dicom.read_header(str(path)).slices[0]["SOPInstanceUID"] == "1.2.3"


def test_a_syntax_without_decoder_is_named(dicom_writer, monkeypatch):
    dataset = dicom_writer.dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    dataset["PixelData"].VR = "OB"
    path = dicom_writer.save(dataset)
    monkeypatch.setattr(dicom, "_decodable", lambda syntax: False)
    assert one(path) == ("refused", "MISSING_DECODER")


def test_a_deflated_bomb_is_refused_before_it_inflates(dicom_writer, monkeypatch):
    dataset = dicom_writer.dataset(np.zeros((512, 512), np.int16))
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = dicom_writer.save(dataset)
    assert one(path)[0] == "read"
    monkeypatch.setattr(dicom, "INFLATED_BYTES", 4096)
    assert one(path) == ("refused", "IMPOSSIBLE_SIZE")


def test_a_giant_declared_length_needs_no_memory(dicom_writer):
    path = dicom_writer.write(ImageComments="x" * 16)
    content = path.read_bytes()
    place = content.index(b"PN", 132) + 2
    path.write_bytes(content[: place - 2] + b"UT\0\0\xf0\xff\xff\xff" + content[place + 2 :])
    limit = (
        "import resource, sys; from mrsynth import dicom; "
        f"resource.setrlimit(resource.RLIMIT_AS, ({3 * 2**30},) * 2); "
        "print(dicom.read_header(sys.argv[1]).state)"
    )
    done = subprocess.run(
        [sys.executable, "-c", limit, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "refused", done.stderr


def test_files_are_found_under_any_name_and_loops_end(tmp_path):
    names = ["a b", "ünï", "🦴.dcm", "new\nline", "UPPER.DCM", "quote'\"$(id)"]
    for name in names:
        (tmp_path / "deep" / name).mkdir(parents=True)
        (tmp_path / "deep" / name / "x").write_bytes(b"")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    found = dicom.list_files(tmp_path)
    assert len(found) == len(names)
    assert found == sorted(found)


def test_processes_give_the_same_as_one(dicom_writer, monkeypatch):
    paths = [str(path) for path in dicom_writer.stack(range(8))]
    monkeypatch.setattr(dicom, "POOL_FROM", 4)
    assert dicom.read_headers(paths, threads=2) == dicom.read_headers(paths, threads=1)
