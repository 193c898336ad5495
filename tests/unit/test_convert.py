"""One stack to one volume: order, values, world coordinates."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from mrsynth import index, stacks, volume
from mrsynth.convert import convert, read_files, upright
from mrsynth.errors import Refusal

SHARED = Path(__file__).parents[3] / "shared/data"
KEY = bytes(32)


def rows(paths) -> pd.DataFrame:
    return pd.DataFrame({"path": [str(path) for path in paths], "frame": ""})


def ramp(count: int, shape=(4, 5)) -> list[np.ndarray]:
    """Slices that hold 100 · z + 10 · y + x."""
    rows_, columns = np.mgrid[: shape[0], : shape[1]]
    return [(100 * z + 10 * rows_ + columns).astype(np.int16) for z in range(count)]


def test_shuffled_files_become_a_ramp_in_world_order(dicom_writer, tmp_path):
    paths = dicom_writer.stack(3.0 * np.arange(10), origin=(-7, 11, -20), pixels=ramp(10))
    rng = np.random.default_rng(0)
    for number, (path, name) in enumerate(zip(paths, rng.permutation(10), strict=True)):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = 10 - number
        dataset.save_as(path)
        path.rename(path.with_name(f"x{name}.dcm"))
    found = index.scan([dicom_writer.folder], key=KEY)
    (table,) = found.private.values()
    image, record = convert(table)
    assert (volume.to_array(image) == np.stack(ramp(10))).all()
    assert np.allclose(image.GetSpacing(), (1.5, 2.0, 3.0), atol=1e-4)
    assert np.allclose(image.TransformIndexToPhysicalPoint((2, 3, 4)), (-4, 17, -8), atol=1e-4)
    assert record["slices"] == 10
    assert record["thickness_mm"] == 4.0


@pytest.mark.parametrize("seed", range(6))
def test_world_coordinates_hold_for_any_patient_position(dicom_writer, seed):
    matrix = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    orientation = np.concatenate([matrix[:, 0], matrix[:, 1]])
    origin = np.random.default_rng(seed).normal(0, 200, 3)
    paths = dicom_writer.stack(
        2.5 * np.arange(5), orientation=orientation, origin=origin, pixels=ramp(5)
    )
    image, _ = convert(rows(paths))
    bright = origin + 2.5 * 3 * matrix[:, 2] + 1.5 * 4 * matrix[:, 0] + 2.0 * 1 * matrix[:, 1]
    assert image[image.TransformPhysicalPointToIndex(bright)] == 314
    assert np.allclose(image.TransformIndexToPhysicalPoint((4, 1, 3)), bright, atol=1e-2)


@pytest.mark.parametrize(
    ("orientation", "left"),
    [((1, 0, 0, 0, 1, 0), 4), ((-1, 0, 0, 0, -1, 0), 0), ((-1, 0, 0, 0, 1, 0), 0)],
)
def test_the_left_side_stays_left(dicom_writer, orientation, left):
    image, _ = convert(rows(dicom_writer.stack(range(4), orientation=orientation)))
    points = [image.TransformIndexToPhysicalPoint((x, 0, 0))[0] for x in range(5)]
    assert int(np.argmax(points)) == left


def test_rescale_is_each_slices_own_and_exact(dicom_writer):
    paths = []
    for number, slope in enumerate((1.0, 0.75, 1.5)):
        paths += dicom_writer.stack(
            [4.0 * number],
            modality="CT",
            pixels=[np.full((4, 5), 200, np.int16)],
            RescaleSlope=slope,
            RescaleIntercept=-11.63,
        )
    array = volume.to_array(convert(rows(paths))[0])
    assert np.allclose(array[:, 0, 0], [188.37, 138.37, 288.37], atol=1e-4)


def test_ct_padding_and_values_below_air_become_air(dicom_writer):
    plane = np.array([[-2000, -1100, -1000, 300], [0, 1, 2, 3]], np.int16)
    paths = dicom_writer.stack(range(3), modality="CT", pixels=[plane] * 3, PixelPaddingValue=-2000)
    image, record = convert(rows(paths))
    assert volume.to_array(image)[0].tolist() == [[-1024, -1024, -1000, 300], [0, 1, 2, 3]]
    assert record["padding_voxels"] == 3
    assert record["minimum"] == -1024
    assert record["warnings"] == []


def test_ct_that_may_not_be_hu_is_flagged(dicom_writer):
    _, record = convert(rows(dicom_writer.stack(range(3), modality="CT")))
    assert record["warnings"] == ["HU_RANGE"]


@pytest.mark.parametrize(("modality", "brightest"), [("MR", 0), ("CT", 19)])
def test_monochrome1_inverts_mr_once_and_never_hu(dicom_writer, modality, brightest):
    paths = dicom_writer.stack(
        range(3), modality=modality, PhotometricInterpretation="MONOCHROME1", PixelRepresentation=0
    )
    array = volume.to_array(convert(rows(paths))[0])[1]
    assert int(np.argmax(array)) == brightest
    assert array.max() == (65535 if modality == "MR" else 19)


def tilted_cube(dicom_writer, angle: float) -> list:
    """A bright cube of 12 mm at (30, 30, 30) in slices whose line leans by an angle."""
    paths = []
    y, x = np.mgrid[:60, :60].astype(float)
    for number in range(20):
        shift = np.tan(np.radians(angle)) * 3.0 * number
        inside = (abs(x - 30) <= 6) & (abs(y + shift - 30) <= 6) & (abs(3.0 * number - 30) <= 6)
        plane = np.where(inside, 1000, -1000).astype(np.int16)
        paths += dicom_writer.stack(
            [0.0],
            origin=(0, shift, 3.0 * number),
            pixels=[plane],
            modality="CT",
            PixelSpacing=[1, 1],
        )
    return paths


@pytest.mark.parametrize("angle", [-15.0, 10.0, 20.0])
def test_tilted_slices_are_put_upright(dicom_writer, angle):
    image, record = convert(rows(tilted_cube(dicom_writer, angle)))
    assert record["tilt_deg"] == pytest.approx(abs(angle), abs=1e-3)
    assert "TILT" in record["warnings"]
    matrix = volume.affine(image)[:3, :3]
    assert np.allclose(matrix.T @ matrix, np.diag(np.diag(matrix.T @ matrix)), atol=1e-9)
    inside = np.argwhere(volume.to_array(image) > 0)
    points = np.array([image.TransformIndexToPhysicalPoint(p[::-1].tolist()) for p in inside])
    assert np.abs(points.mean(axis=0) - 30).max() < 0.5
    assert np.abs(np.ptp(points[:, :2], axis=0) - 12).max() <= 1.0


def test_tilted_slices_can_be_refused(dicom_writer):
    with pytest.raises(Refusal) as error:
        convert(rows(tilted_cube(dicom_writer, 10.0)), tilt="refuse")
    assert error.value.code == "TILT"


def test_upright_leaves_whole_pixel_shifts_exact():
    pixels = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    matrix = np.eye(4)
    matrix[:3, 2] = (-2, 1, 5)
    moved, grid = upright(pixels, matrix, -1.0)
    assert np.allclose(grid[:3, 2], (0, 0, 5))
    for z in range(2):
        for y in range(3):
            for x in range(4):
                world = (matrix @ (x, y, z, 1))[:3]
                i, j, k = np.round(np.linalg.solve(grid, [*world, 1])[:3]).astype(int)
                assert moved[k, j, i] == pixels[z, y, x]


def enhanced(dicom_writer, order, slopes) -> Path:
    """One enhanced MR object whose frames lie in any order, each with a position and a slope."""
    frames = []
    for position, slope in zip(order, slopes, strict=True):
        frame = pydicom.Dataset()
        for macro, elements in {
            "PlanePositionSequence": {"ImagePositionPatient": [5, 6, 3.0 * position]},
            "PixelValueTransformationSequence": {"RescaleSlope": slope, "RescaleIntercept": 0.5},
            "MREchoSequence": {"EffectiveEchoTime": 90},
        }.items():
            part = pydicom.Dataset()
            for name, value in elements.items():
                setattr(part, name, value)
            setattr(frame, macro, [part])
        frames.append(frame)
    shared, plane, measures = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [2.0, 1.5], 2.5
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    dataset = dicom_writer.dataset(
        np.concatenate([ramp(len(order))[position] for position in order]),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1",
        Rows=4,
        NumberOfFrames=len(order),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
        drop=["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"],
    )
    return dicom_writer.save(dataset)


def test_frames_of_an_enhanced_object_are_placed_by_their_own_geometry(dicom_writer):
    order = [3, 0, 4, 1, 2]
    enhanced(dicom_writer, order, slopes=[1.0 + position for position in order])
    found = index.scan([dicom_writer.folder], key=KEY)
    (table,) = found.private.values()
    assert table["frame"].tolist() == [str(order.index(z) + 1) for z in range(5)]
    assert found.series["te_ms"].tolist() == ["90"]
    image, record = convert(table)
    expected = np.stack([plane * (1.0 + z) + 0.5 for z, plane in enumerate(ramp(5))])
    assert np.allclose(volume.to_array(image), expected)
    assert np.allclose(image.TransformIndexToPhysicalPoint((2, 3, 4)), (8, 12, 12))
    assert record["thickness_mm"] == 2.5


def test_an_enhanced_object_with_a_lost_frame_is_refused(dicom_writer):
    path = enhanced(dicom_writer, [4, 0, 2, 1, 3], slopes=[1.0] * 5)
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[2]
    dataset.save_as(path)
    found = index.scan([dicom_writer.folder], key=KEY)
    assert found.series["code"].tolist() == ["UNSUPPORTED_MULTIFRAME"]


def test_uneven_steps_are_refused_or_resampled(dicom_writer):
    heights = [0.0, 2.0, 4.0, 6.6, 8.0]
    planes = [np.full((4, 5), int(100 * h), np.int16) for h in heights]
    paths = rows(dicom_writer.stack(heights, pixels=planes))
    with pytest.raises(Refusal) as error:
        convert(paths)
    assert error.value.code == "VARIABLE_SPACING"
    image, record = convert(paths, uneven="resample")
    assert np.allclose(volume.to_array(image)[:, 0, 0], [0, 200, 400, 600, 800], atol=1e-3)
    assert record["warnings"] == ["UNEVEN"]


def test_lossy_pixels_are_refused_unless_wanted(dicom_writer):
    paths = rows(dicom_writer.stack(range(3), LossyImageCompression="01"))
    with pytest.raises(Refusal) as error:
        convert(paths)
    assert error.value.code == "LOSSY"
    assert convert(paths, lossy="keep")[1]["warnings"] == ["LOSSY"]


def test_a_file_that_was_cut_since_is_refused(dicom_writer):
    paths = dicom_writer.stack(range(4))
    paths[2].write_bytes(paths[2].read_bytes()[:-7])
    with pytest.raises(Refusal) as error:
        convert(rows(paths))
    assert error.value.code == "CORRUPT"


def test_slices_of_another_size_are_refused(dicom_writer):
    paths = dicom_writer.stack([0.0, 1.0])
    paths += dicom_writer.stack([2.0], pixels=[np.zeros((5, 5), np.int16)])
    with pytest.raises(Refusal) as error:
        convert(rows(paths))
    assert error.value.code == "INCONSISTENT_SIZE"


def test_the_record_holds_nothing_of_the_patient(dicom_writer):
    texts = "PatientID PatientName SeriesDescription ProtocolName ConvolutionKernel Manufacturer"
    canaries = {name: f"Canary{name}"[:16] for name in texts.split()}
    _, record = convert(rows(dicom_writer.stack(range(3), modality="CT", **canaries)))
    assert "canary" not in json.dumps(record).lower()


def test_read_files_gives_one_stack_in_order(tmp_path):
    (tmp_path / "s.tsv").write_text("path\tframe\tstack\na\t\t1\nb\t\t2\nc\t2\t2\n")
    table = read_files(tmp_path / "s.tsv", 2)
    assert [(row["path"], row["frame"]) for row in table] == [("b", ""), ("c", "2")]
    with pytest.raises(Refusal):
        read_files(tmp_path / "s.tsv", 3)


def shared_series(folder: str):
    """Volumes of every stack below a folder of the shared data."""
    if not (SHARED / folder).is_dir():
        pytest.skip("no ../shared")
    found = index.scan([SHARED / folder], key=KEY, subject_from="folder")
    for name in sorted(found.private):
        table = found.private[name]
        for stack in sorted(set(table["stack"])):
            yield convert(table[table["stack"] == stack])


@pytest.mark.shared
@pytest.mark.parametrize(
    "folder",
    [
        "generic/anatomical/001",
        "generic/anatomical/001_implicit",
        "generic/anatomical/002_non_isotropic",
        "generic/compressed_rle/001",
        "generic/compressed_j2k/001",
        "generic/compressed_jpegls/001",
        "generic/compressed_jpeg/001",
        "philips_enhanced/anatomical/001",
        "philips_enhanced/anatomical/001_implicit",
        "siemens_multiframe/anatomical/001",
    ],
)
def test_real_series_equal_their_reference_volumes(folder):
    ((image, _),) = shared_series(f"dicom2nifti/{folder}")
    expected = volume.read_volume(SHARED / "dicom2nifti" / f"{folder}_ground_truth.nii.gz")
    grid = sitk.Resample(expected, image, sitk.Transform(), sitk.sitkNearestNeighbor, -9999.0)
    assert np.allclose(volume.to_array(grid), volume.to_array(image), rtol=1e-3, atol=0.51)


@pytest.mark.shared
@pytest.mark.parametrize("case", ["sliceincrement", "notavolume", "slicecount"])
def test_real_series_that_are_no_volume_are_refused(case):
    folder = SHARED / "dicom2nifti/failing" / case
    if not folder.is_dir():
        pytest.skip("no ../shared")
    found = index.scan([folder], key=KEY)
    assert set(found.series["status"]) == {"refused"}
    assert not found.private


@pytest.mark.shared
def test_meat_phantom_has_the_values_that_its_headers_promise():
    (ct, record), (mr, other) = sorted(
        shared_series("mridir"), key=lambda item: item[1]["modality"]
    )
    assert ct.GetSize() == (512, 512, 103)
    assert mr.GetSize() == (512, 512, 94)
    assert (record["minimum"], record["maximum"]) == (-1024, 3071)
    assert np.allclose(ct.GetSpacing(), (0.390625, 0.390625, 2.5))
    assert other["weighting"] == "T2"
    assert stacks.plane(np.array(mr.GetDirection()).reshape(3, 3)[:, :2].T.ravel()) == "axial"
