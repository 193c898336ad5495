"""Geometry and values survive the way to disk and back."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from mrsynth import volume


def oblique(shape=(4, 5, 6)) -> tuple:
    matrix = np.eye(4)
    turn = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
    matrix[:3, :3] = turn * [0.7, 0.8, 4.4]
    matrix[:3, 3] = [-120.25, 33.5, -871.125]
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return volume.from_array(array, matrix), array, matrix


def test_affine_is_the_matrix_that_was_given():
    image, _, matrix = oblique()
    np.testing.assert_allclose(volume.affine(image), matrix, atol=1e-9)


def test_world_point_of_a_known_voxel():
    image, _, matrix = oblique()
    point = image.TransformIndexToPhysicalPoint((5, 4, 3))
    np.testing.assert_allclose(point, (matrix @ [5, 4, 3, 1])[:3], atol=1e-6)


def test_round_trip_keeps_values_and_corners(tmp_path):
    image, array, _ = oblique()
    volume.write_volume(image, tmp_path / "a.nii.gz")
    back = volume.read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.to_array(back), array)
    for corner in [(0, 0, 0), (5, 4, 3), (5, 0, 3)]:
        before = image.TransformIndexToPhysicalPoint(corner)
        after = back.TransformIndexToPhysicalPoint(corner)
        np.testing.assert_allclose(after, before, atol=1e-3)


def test_metadata_is_not_written(tmp_path):
    image, _, _ = oblique()
    image.SetMetaData("0010|0010", "Canary^Name")
    volume.write_volume(image, tmp_path / "a.mha")
    assert b"Canary" not in (tmp_path / "a.mha").read_bytes()


def test_stacks_keep_their_numbers(tmp_path):
    images = [volume.from_array(np.full((1, 2, 2), n, np.float32), np.eye(4)) for n in range(12)]
    volume.write_stacks(images, tmp_path / "s", "source")
    back = volume.read_stacks(tmp_path / "s", "source")
    assert [volume.to_array(image)[0, 0, 0] for image in back] == list(range(12))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.nii\.gz"):
        volume.read_volume(tmp_path / "nowhere.nii.gz")


def test_a_field_comes_back_and_a_whole_one_takes_no_room(tmp_path):
    mask = sitk.Image(4, 5, 6, sitk.sitkUInt8)
    mask[1, 2, 3] = 1
    mask.SetOrigin((1, 2, 3))
    volume.write_field(mask, tmp_path / "a.nii.gz")
    again = volume.read_field(tmp_path / "a.nii.gz")
    assert (volume.to_array(again) == volume.to_array(mask)).all()
    assert again.GetOrigin() == mask.GetOrigin()
    volume.write_field(None, tmp_path / "b.nii.gz")
    assert (tmp_path / "b.nii.gz").stat().st_size == 0
    assert volume.read_field(tmp_path / "b.nii.gz") is None


def test_a_packed_volume_holds_no_name_and_no_time(tmp_path):
    volume.write_volume(sitk.Image(4, 5, 6, sitk.sitkInt16), tmp_path / "secret.nii.gz")
    content = (tmp_path / "secret.nii.gz").read_bytes()
    assert content[3] == 0, "no file name in the gzip header (RFC 1952)"
    assert content[4:8] == bytes(4), "no time of change"
    assert [path.name for path in tmp_path.iterdir()] == ["secret.nii.gz"]
