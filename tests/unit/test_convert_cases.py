"""Cases of the list of a converter's traps (A5 to A30) that one stack's conversion decides."""

import gzip
import inspect
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import yaml

from dicomsyntax import SYNTAXES, recoded
from mrsynth import convert as module
from mrsynth import volume
from mrsynth.convert import convert, convert_stack
from mrsynth.errors import Refusal
from mrsynth.job import write_json

POSITIONS = {
    "HFS": (1, 0, 0, 0, 1, 0),
    "FFS": (-1, 0, 0, 0, 1, 0),
    "HFP": (-1, 0, 0, 0, -1, 0),
    "FFP": (1, 0, 0, 0, -1, 0),
    "HFDR": (0, 1, 0, -1, 0, 0),
    "HFDL": (0, -1, 0, 1, 0, 0),
    "FFDR": (0, 1, 0, 1, 0, 0),
    "FFDL": (0, -1, 0, -1, 0, 0),
}
"""Patient positions and how an axial slice's rows and columns then run."""


def rows(paths) -> pd.DataFrame:
    return pd.DataFrame({"path": [str(path) for path in paths], "frame": ""})


def round_field(size: int = 24) -> np.ndarray:
    """True outside the inscribed circle."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return y**2 + x**2 > (size / 2) ** 2


def tissue(size: int = 24) -> np.ndarray:
    plane = np.full((size, size), -1000, np.int16)
    plane[6:18, 6:18] = 400
    return plane


def leaning(writer, angle: float, planes, spacing: float = 3.0) -> pd.DataFrame:
    """A CT whose slices lie on a line that leans by an angle, in the y direction."""
    paths = []
    for number, plane in enumerate(planes):
        shift = np.tan(np.radians(angle)) * spacing * number
        paths += writer.stack(
            [0.0],
            origin=(0, shift, spacing * number),
            pixels=[plane],
            modality="CT",
            PixelSpacing=[1, 1],
        )
    return rows(paths)


@pytest.mark.parametrize("angle", [-20.0, -7.5, 12.0, 25.0])
def test_a5_corners_of_a_cube_stay_within_half_a_voxel(dicom_writer, angle):
    """Of 13 × 13 × 15 mm: bright half a voxel inside each face, dark half a voxel outside."""
    planes = []
    y, x = np.mgrid[:60, :60].astype(float)
    for number in range(20):
        shift = np.tan(np.radians(angle)) * 3.0 * number
        inside = (abs(x - 30) < 6.5) & (abs(y + shift - 30) < 6.5) & (abs(3.0 * number - 30) < 7.5)
        planes.append(np.where(inside, 1000, -1000).astype(np.int16))
    image, record = convert(leaning(dicom_writer, angle, planes))
    assert record["tilt_deg"] == pytest.approx(abs(angle), abs=1e-3)
    half, voxel = np.array([6.5, 6.5, 7.5]), np.array([1.0, 1.0, 3.0])
    for signs in np.ndindex(2, 2, 2):
        side = 2.0 * np.array(signs) - 1
        corner = 30 + side * half
        inside = corner - side * voxel * 0.5
        assert value(image, inside) > 0
        for axis in range(3):
            outside = inside.copy()
            outside[axis] = corner[axis] + side[axis] * voxel[axis] * 0.5
            assert value(image, outside) < 0


def value(image: sitk.Image, point) -> float:
    """Linear interpolation at a point (LPS mm)."""
    grid = sitk.Image([1, 1, 1], sitk.sitkFloat32)
    grid.SetOrigin([float(n) for n in point])
    found = sitk.Resample(sitk.Cast(image, sitk.sitkFloat32), grid, sitk.Transform())
    return float(found[0, 0, 0])


@pytest.mark.parametrize("angle", [-15.0, 15.0])
def test_a5_corners_that_no_slice_reaches_are_no_data(dicom_writer, angle):
    planes = [np.full((20, 20), 500, np.int16)] * 10
    made = convert_stack(leaning(dicom_writer, angle, planes))
    values, measured = volume.to_array(made.image), volume.to_array(made.field) > 0
    assert 0.5 < measured.mean() < 1
    # Interpolated values that mix the filling in are out as well.
    assert np.abs(values[measured] - 500).max() < 1e-3
    assert (values[~measured] < 500 - 1e-3).mean() > 0.9
    assert made.record["minimum"] == 500


def test_a6_uneven_steps_keep_padding_out(dicom_writer):
    planes = []
    for number in range(5):
        plane = np.full((4, 5), 100 * number, np.int16)
        plane[:, 0] = -2000
        planes.append(plane)
    heights = [0.0, 2.0, 4.0, 6.6, 8.0]
    paths = dicom_writer.stack(heights, pixels=planes, modality="CT", PixelPaddingValue=-2000)
    made = convert_stack(rows(paths), uneven="resample")
    measured = volume.to_array(made.field) > 0
    assert not measured[:, :, 0].any()
    assert measured[:, :, 1:].all()
    assert volume.to_array(made.image)[measured].min() == 0


@pytest.mark.parametrize("name", sorted(SYNTAXES))
def test_a14_every_lossless_syntax_gives_the_same_volume(dicom_writer, name):
    rng = np.random.default_rng(0)
    planes = [rng.integers(-1024, 3000, (40, 36)).astype(np.int16) for _ in range(3)]
    paths = dicom_writer.stack(3.0 * np.arange(3), pixels=planes, modality="CT")
    plain = volume.to_array(convert(rows(paths))[0])
    for number, path in enumerate(paths):
        elements = {"ImagePositionPatient": [0, 0, 3.0 * number]}
        dataset = dicom_writer.dataset(planes[number], modality="CT", **elements)
        dicom_writer.save(recoded(dataset, name), path.name)
    packed, record = convert(rows(paths))
    assert np.array_equal(volume.to_array(packed), plain)
    assert np.array_equal(plain, np.stack(planes))
    assert "LOSSY" not in record["warnings"]


def test_a14_lossy_pixels_are_told(dicom_writer):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(3):
        plane = rng.integers(0, 3000, (40, 36)).astype(np.int16)
        elements = {"ImagePositionPatient": [0, 0, 3.0 * number], "PixelRepresentation": 0}
        dataset = recoded(dicom_writer.dataset(plane, **elements), "jpeg-2000-lossy")
        del dataset.LossyImageCompression
        paths.append(dicom_writer.save(dataset))
    with pytest.raises(Refusal) as error:
        convert(rows(paths))
    assert error.value.code == "LOSSY"
    assert convert(rows(paths), lossy="keep")[1]["warnings"] == ["LOSSY"]


def test_a15_fractions_are_exact_and_a_whole_first_slice_decides_nothing(dicom_writer):
    paths = []
    for number, (slope, intercept) in enumerate([(1, 0), (1.5, -11.63), (0.5, 152.5)]):
        paths += dicom_writer.stack(
            [3.0 * number],
            modality="CT",
            pixels=[np.array([[100, 200], [-32768, 32767]], np.int16)],
            RescaleSlope=slope,
            RescaleIntercept=intercept,
        )
    array = volume.to_array(convert(rows(paths))[0])
    assert array.dtype == np.float32
    assert np.array_equal(array[:, 0, 0], np.float32([100, 138.37, 202.5]))
    assert np.array_equal(array[:, 0, 1], np.float32([200, 288.37, 252.5]))
    assert array[1, 1, 1] == np.float32(32767 * 1.5 - 11.63)


def test_a15_mr_has_its_slope_too(dicom_writer):
    paths = dicom_writer.stack(range(3), RescaleSlope=0.25, RescaleIntercept=7)
    assert volume.to_array(convert(rows(paths))[0])[0, 0].tolist() == [7, 7.25, 7.5, 7.75, 8]


@pytest.mark.parametrize("declared", [True, False])
def test_a17_what_lies_outside_the_round_field_is_no_data(dicom_writer, declared):
    outside, plane = round_field(), tissue()
    plane[outside] = -2000
    elements = {"PixelPaddingValue": -2000} if declared else {}
    paths = dicom_writer.stack(range(4), pixels=[plane] * 4, modality="CT", **elements)
    made = convert_stack(rows(paths))
    values, field = volume.to_array(made.image), volume.to_array(made.field)
    assert (values[:, outside] == -1024).all()
    assert np.array_equal(field == 0, np.broadcast_to(outside, field.shape))
    assert (made.record["minimum"], made.record["maximum"]) == (-1000, 400)
    assert made.record["padding_voxels"] == 4 * outside.sum()


def test_a17_a_range_of_padding_and_dark_streaks(dicom_writer):
    plane = tissue()
    plane[0, :5] = [-2000, -1990, -1980, -1979, -1100]
    limits = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1980}
    paths = dicom_writer.stack(range(3), pixels=[plane] * 3, modality="CT", **limits)
    made = convert_stack(rows(paths))
    assert volume.to_array(made.field)[0, 0, :6].tolist() == [0, 0, 0, 1, 1, 1]
    # Streaks of metal go below air; they are data and are cut there.
    assert volume.to_array(made.image)[0, 0, :6].tolist() == [-1024] * 5 + [-1000]


def test_a17_all_data_needs_no_mask(dicom_writer):
    paths = dicom_writer.stack(range(3), pixels=[tissue()] * 3, modality="CT")
    assert convert_stack(rows(paths)).field is None


def test_a17_nothing_but_padding_is_refused(dicom_writer):
    planes = [np.full((4, 5), -2000, np.int16)] * 3
    paths = dicom_writer.stack(range(3), pixels=planes, modality="CT", PixelPaddingValue=-2000)
    with pytest.raises(Refusal) as error:
        convert(rows(paths))
    assert error.value.code == "EMPTY_VOLUME"


def test_a18_signed_12_bits_in_16_with_an_overlay_above(dicom_writer):
    plane = np.array([[0x0F0F, 0x7F0F], [0x07FF, 0x8800]], np.uint16).view(np.int16)
    paths = dicom_writer.stack(
        range(3), pixels=[plane] * 3, BitsStored=12, HighBit=11, PixelRepresentation=1
    )
    array = volume.to_array(convert(rows(paths))[0])
    assert array[0].tolist() == [[-241, -241], [2047, -2048]]


def test_a24_jitter_of_two_micrometres_is_accepted(dicom_writer):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(20):
        place = np.round(np.array([0, 0, 1.25 * number]) + rng.uniform(-0.002, 0.002, 3), 4)
        paths += dicom_writer.stack([0.0], origin=place, pixels=[tissue()], modality="CT")
    image, record = convert(rows(paths))
    assert record["deviation_mm"] < 0.006
    assert image.GetSpacing()[2] == pytest.approx(1.25, abs=1e-3)
    assert record["tilt_deg"] == 0


@pytest.mark.parametrize("position", POSITIONS)
def test_a27_every_patient_position_keeps_left_back_and_head(dicom_writer, position):
    orientation = np.array(POSITIONS[position], float)
    across, down = orientation[:3], orientation[3:]
    normal = np.cross(across, down)
    planes = [np.zeros((30, 40), np.int16) for _ in range(6)]
    planes[4][20, 33] = 999
    origin = np.array([-11.0, 22.0, -33.0])
    paths = dicom_writer.stack(
        3.0 * np.arange(6), orientation=orientation, origin=origin, pixels=planes
    )
    image, _ = convert(rows(paths))
    place = np.argwhere(volume.to_array(image) == 999)
    assert len(place) == 1
    point = image.TransformIndexToPhysicalPoint(place[0][::-1].tolist())
    expected = origin + 12 * normal + 33 * 1.5 * across + 20 * 2.0 * down
    assert np.allclose(point, expected, atol=1e-4)
    axes = np.array(image.GetDirection()).reshape(3, 3)
    assert np.allclose(axes, np.stack([across, down, normal], axis=1))
    assert np.linalg.det(axes) == pytest.approx(1)


def test_a28_a_volume_that_is_too_large_is_refused(dicom_writer, monkeypatch):
    monkeypatch.setattr(module, "MOST_VOXELS", 50)
    with pytest.raises(Refusal) as error:
        convert(rows(dicom_writer.stack(range(3))))
    assert error.value.code == "IMPOSSIBLE_SIZE"


def test_a30_the_same_files_give_the_same_bytes(dicom_writer, tmp_path):
    plane = tissue()
    plane[round_field()] = -2000
    paths = dicom_writer.stack(range(4), pixels=[plane] * 4, modality="CT")
    outputs = []
    for name in ("one", "two"):
        made = convert_stack(rows(paths))
        (tmp_path / name).mkdir()
        volume.write_volume(made.image, tmp_path / name / "v.nii.gz")
        volume.write_field(made.field, tmp_path / name / "f.nii.gz")
        write_json(made.record, tmp_path / name / "r.json")
        outputs.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 3


def test_metal_is_told_with_its_volume(dicom_writer):
    plane = np.full((60, 60), -1000, np.int16)
    plane[10:50, 10:50] = 40
    plane[30:34, 20:40] = 3071
    paths = dicom_writer.stack(
        3.0 * np.arange(4), pixels=[plane] * 4, modality="CT", PixelSpacing=[1, 1]
    )
    _, record = convert(rows(paths))
    assert record["metal_ml"] == pytest.approx(4 * 4 * 20 * 3 / 1000)
    assert record["warnings"] == ["METAL"]
    _, record = convert(rows(dicom_writer.stack(range(3))))
    assert record["metal_ml"] is None


def test_no_text_of_a_header_is_written(dicom_writer, tmp_path):
    texts = "PatientName StudyDescription SeriesDescription ImageComments InstitutionName"
    paths = dicom_writer.stack(range(3), **dict.fromkeys(texts.split(), "Canary"))
    made = convert_stack(rows(paths))
    volume.write_volume(made.image, tmp_path / "v.nii.gz")
    content = gzip.decompress((tmp_path / "v.nii.gz").read_bytes())
    assert b"Canary" not in content
    assert b"Canary" not in (tmp_path / "v.nii.gz").read_bytes()[:64]
    texts = content[4:32] + content[148:252] + content[328:344] + content[348:352]
    assert not any(texts), "a text field of the NIfTI header is not empty"
    assert "Canary" not in json.dumps(made.record)


def test_schema_and_function_agree():
    path = Path(__file__).parents[2] / "workflow/schemas/convert.schema.yaml"
    properties = yaml.safe_load(path.read_text())["properties"]
    parameters = inspect.signature(convert_stack).parameters
    assert {key: entry["default"] for key, entry in properties.items()} == {
        key: parameter.default for key, parameter in parameters.items() if key != "files"
    }
