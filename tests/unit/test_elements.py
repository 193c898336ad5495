"""The lean walk and pydicom give the same, and whatever the walk isn't sure of goes to pydicom."""

import io
import random
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicomcases import CASES
from dicomframes import enhanced
from dicommake import Grid, Maker
from mrsynth import dicom, elements, headers

TEST_FILES = Path(pydicom.__file__).parent / "data/test_files"
SHARED = Path(__file__).parents[3] / "shared/data"
LIMIT = 2**28


def both(content: bytes) -> bool:
    """Compare the readers on one file; returns whether the walk took it."""
    try:
        lean = elements.walk(content, len(content))
        own, problem = headers.lean(lean)
    except elements.NotPlainError:
        return False
    thorough = elements.read_with_pydicom(
        elements.Bounded(io.BytesIO(content), len(content), LIMIT)
    )
    other, other_problem = headers.thorough(thorough)
    assert dict(own[0]) == dict(other[0])
    assert repr(problem) == repr(other_problem)
    for name in ("syntax", "end", "promised", "implicit"):
        assert getattr(lean, name) == getattr(thorough, name), name
    return True


def taken(paths) -> tuple[int, int]:
    """How many DICOM files there are among some paths, and how many the walk took."""
    contents = [path.read_bytes() for path in paths if path.is_file()]
    contents = [content for content in contents if content[128:132] == b"DICM"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return len(contents), sum(map(both, contents))


@pytest.mark.parametrize("name", ["A1", "A7", "A9-phase", "A14-rle", "A15-fraction", "A27-ffs"])
def test_equal_on_the_cases(name, tmp_path):
    CASES[name].make(Maker(tmp_path, 1))
    count, lean = taken(sorted(tmp_path.rglob("*")))
    assert lean == count > 0


@pytest.mark.parametrize("name", ["A12-order", "A14-big-endian", "A14-deflated", "A20-setting"])
def test_left_to_pydicom(name, tmp_path):
    CASES[name].make(Maker(tmp_path, 1))
    _, lean = taken(sorted(tmp_path.rglob("*")))
    assert lean == 0


def test_equal_on_pydicoms_own_test_files():
    count, lean = taken(sorted(TEST_FILES.rglob("*")))
    assert count > 50
    assert lean > count / 3


@pytest.mark.shared
def test_equal_on_real_files():
    if not SHARED.is_dir():
        pytest.skip("no ../shared")
    files = [path for path in sorted(SHARED.rglob("*")) if path.suffix not in (".gz", ".nii")]
    count, lean = taken(files)
    assert lean > 0.8 * count > 200


def test_equal_where_bytes_are_flipped(dicom_writer):
    content = dicom_writer.write(
        modality="CT", ContrastBolusAgent="x", ScanOptions="FS"
    ).read_bytes()
    rng = random.Random(0)
    lean = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(400):
            damaged = bytearray(content)
            damaged[rng.randrange(132, len(content) - 40)] ^= rng.randrange(1, 256)
            lean += both(bytes(damaged))
    assert 100 < lean < 400


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("implicit", [False, True])
def test_sequences_are_stepped_over(dicom_writer, undefined, implicit):
    def item(depth):
        dataset = pydicom.Dataset()
        dataset.PatientID = "nested"
        dataset.is_undefined_length_sequence_item = undefined
        if depth:
            dataset.ReferencedImageSequence = [item(depth - 1)]
            dataset["ReferencedImageSequence"].is_undefined_length = undefined
        return dataset

    dataset = dicom_writer.dataset()
    dataset.ReferencedImageSequence = [item(3), item(0)]
    dataset["ReferencedImageSequence"].is_undefined_length = undefined
    if implicit:
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    content = dicom_writer.save(dataset).read_bytes()
    assert both(content)
    found = elements.walk(content, len(content))
    assert found.raw["PatientID"].strip() == b"patient-1"


@pytest.mark.parametrize(
    ("charset", "text", "lean"),
    [
        ("ISO_IR 100", "Müller\\Schädel", True),
        ("ISO_IR 192", "Œuvre 腰椎", True),
        ("ISO_IR 144", "Иванов", True),
        ("", "Mueller", True),
        ("GB18030", "王小东", False),
        (["", "ISO 2022 IR 87"], "腰椎", False),
    ],
)
def test_character_sets(dicom_writer, charset, text, lean):
    path = dicom_writer.write(SpecificCharacterSet=charset, PatientID=text)
    assert both(path.read_bytes()) is lean
    assert dicom.read_header(str(path)).patient == text


def test_text_that_its_character_set_has_not_goes_to_pydicom(dicom_writer):
    content = dicom_writer.write(SpecificCharacterSet="ISO_IR 192", PatientID="abcd").read_bytes()
    assert not both(content.replace(b"abcd", b"ab\xff\xfe"))


@pytest.mark.parametrize("implicit", [False, True])
def test_a_long_header_is_read_further(dicom_writer, implicit):
    dataset = dicom_writer.dataset(ImageComments="x" * 10)
    block = dataset.private_block(0x0029, "MAKER", create=True)
    block.add_new(1, "OB", bytes(dicom.START_BYTES + 10))
    if implicit:
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    path = dicom_writer.save(dataset)
    assert path.stat().st_size > dicom.START_BYTES
    header = dicom.read_header(str(path))
    assert header.state == "read"
    with open(path, "rb", buffering=0) as file:
        found, start = dicom._walked(file, file.read(dicom.START_BYTES), path.stat().st_size)
    assert found.raw is not None
    assert len(start) > dicom.START_BYTES


def test_big_endian_numbers_are_right(dicom_writer):
    dataset = dicom_writer.dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    path = dicom_writer.folder / "big.dcm"
    dataset.save_as(path, enforce_file_format=True)
    (piece,) = dicom.read_header(str(path)).slices
    assert (piece["Rows"], piece["Columns"]) == (4, 5)


def test_slices_share_what_is_the_same(dicom_writer):
    first, second, other = [
        dicom.read_header(str(path)).slices[0]
        for path in [*dicom_writer.stack([0, 1]), dicom_writer.write(EchoTime=12)]
    ]
    assert first.shared is second.shared
    assert first.shared is not other.shared
    assert first["SOPInstanceUID"] != second["SOPInstanceUID"]
    assert first.replaced(PatientID="x")["PatientID"] == "x"
    assert first["PatientID"] == "patient-1"
    assert len(dict(first)) == len(first)


def test_pydicoms_warnings_are_kept_in(tmp_path):
    """They are about single values, some with their text, and come when these are looked at."""
    maker, item = Maker(tmp_path, 1), pydicom.Dataset()
    dataset = enhanced(maker, [Grid(shape=(3, 8, 8))], "CT", "per-frame", range(3))
    path = str(tmp_path / "multi.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        item.ConvolutionKernel = "X" * 24
        dataset.PerFrameFunctionalGroupsSequence[0].CTReconstructionSequence = [item]
        maker.save(dataset, "multi.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        part = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence[0]
        with pytest.raises(UserWarning, match="exceeds"):
            elements.values(part.CTReconstructionSequence[0])
        assert dicom.read_header(path).state == "read"
        assert dicom.read_headers([path])[0].state == "read"
