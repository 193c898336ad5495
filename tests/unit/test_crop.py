"""Crops: the same pixels in the same place whatever the image's axes, with measures in mm."""

import itertools

import numpy as np
import pandas as pd
import pytest

from mrsynth import crop as module
from mrsynth import cropfigure as figure_module
from mrsynth.crop import crop
from mrsynth.errors import Refusal, StudyError
from mrsynth.geometry import apply, rigid_from_axis
from mrsynth.locate.landmarks import Disc, Landmarks
from mrsynth.pick import COLUMNS, pick, write_table
from mrsynth.pick import read_table as read_picks
from mrsynth.volume import from_array

SPACING = np.array([0.5, 0.8, 4.0])
SIZE = np.array([140, 100, 5])
SAC = np.array([8.0, 20.0, -3.0])
"""LPS mm; 8 mm left of and 20 mm behind the middle of the field."""


def volume(order=(0, 1, 2), flips=(1, 1, 1), value=None):
    """A grid in LPS axes order ``order`` (which patient axis each image axis runs along), with
    signs.

    The field is centred at (0, 0, −3) mm; by default a voxel holds 2·x + 3·y mm of its place.
    """
    matrix = np.zeros((4, 4))
    for axis, (patient, sign) in enumerate(zip(order, flips, strict=True)):
        matrix[patient, axis] = sign * SPACING[axis]
    matrix[3, 3] = 1
    matrix[:3, 3] = [0, 0, -3] - matrix[:3, :3] @ ((SIZE - 1) / 2)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SIZE], indexing="ij"), -1)
    place = index @ matrix[:3, :3].T + matrix[:3, 3]
    array = 2 * place[..., 0] + 3 * place[..., 1] if value is None else np.full(SIZE, value)
    return from_array(array.transpose(2, 1, 0).astype(np.float32), matrix)


def picks(*rows):
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return table.fillna({"status": "picked", "code": ""})


def row(stack=1, slice_=2, name="L4-L5", sac=SAC, **others):
    points = {"sac": sac, "ventral": sac - [0, 30, 0], "right": sac - [26, 8, 0]}
    points["left"] = sac - [-22, 8, 0]
    places = {f"{k}_{a}": v for k, p in points.items() for a, v in zip("xyz", p, strict=True)}
    return {"stack": stack, "slice": slice_, "name": name, **places, **others}


def cut(image, table, **settings):
    ones = [volume(value=1) for _ in image]
    for one, grid in zip(ones, image, strict=True):
        one.CopyInformation(grid)
    return crop(image, image, ones, ones, table, **settings)


def place_value(crops, n, dy=0.0, dx=0.0):
    """Value at an offset (mm, patient's) from the sac, read from the crop to the nearest pixel."""
    spot = crops["sac_px"][n] + np.array([dy, dx]) / crops["pixel_mm"][n]
    return crops["source"][n][tuple(np.rint(spot).astype(int))]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
@pytest.mark.parametrize("flips", list(itertools.product((1, -1), repeat=3)))
def test_axial_views_are_the_same_for_all_axes(order, flips):
    image = volume(order, flips)
    crops = cut([image], picks(row()), box_mm=24)
    pixel = SPACING[[list(order).index(1), list(order).index(0)]]
    np.testing.assert_allclose(crops["pixel_mm"][0], pixel)
    assert crops["source"].shape[1:] == tuple(np.rint(24 / pixel).astype(int))
    for dy, dx in ((0, 0), (-8, 0), (0, 8), (8, -8)):
        expected = 2 * (SAC[0] + dx) + 3 * (SAC[1] + dy)
        # Half a pixel either way, since crops are cut at whole pixels.
        assert abs(place_value(crops, 0, dy, dx) - expected) <= pixel[1] + 1.5 * pixel[0] + 1e-3
    steps = np.gradient(crops["source"][0])
    np.testing.assert_allclose(steps[0], 3 * pixel[0], atol=1e-3)
    np.testing.assert_allclose(steps[1], 2 * pixel[1], atol=1e-3)
    assert crops["ventral_mm"][0] == pytest.approx(30)
    assert crops["lateral_mm"][0] == pytest.approx(26)
    assert crops["valid"].all()


def test_measures_lie_in_the_slices_plane():
    image, angle = volume(), np.radians(25)
    down = np.array([0, np.cos(angle), np.sin(angle)])
    across = np.cross([1, 0, 0], down)
    image.SetDirection(np.stack([[1, 0, 0], down, across], axis=1).ravel().tolist())
    image.SetOrigin((SAC - 20 * down - 60 * np.array([1, 0, 0]) - 8 * across).tolist())
    tilted = {f"ventral_{a}": v for a, v in zip("xyz", SAC - 30 * down + 5 * across, strict=True)}
    crops = cut([image], picks(row(**tilted)))
    assert crops["ventral_mm"][0] == pytest.approx(30)


def test_sac_is_kept_below_a_pixel():
    crops = cut([volume()], picks(row()), box_mm=24)
    exact = crops["source"][0][0, 0] + np.array([3 * 0.8, 2 * 0.5]) @ crops["sac_px"][0]
    assert exact == pytest.approx(2 * SAC[0] + 3 * SAC[1], abs=1e-3)
    middle = (np.array(crops["source"].shape[1:]) - 1) / 2
    assert np.abs(crops["sac_px"][0] - middle).max() <= 0.5


def test_sagittal_rows_run_down_and_columns_backwards():
    # Image axes: y, z, x, acquired upwards and forwards.
    image = volume((1, 2, 0), (-1, 1, 1))
    crops = cut([image], picks({"stack": 1, "slice": 2, "name": "midsagittal"}))
    np.testing.assert_allclose(crops["pixel_mm"][0], [0.8, 0.5])
    steps = np.gradient(crops["source"][0])
    np.testing.assert_allclose(steps[0], 0, atol=1e-3)
    np.testing.assert_allclose(steps[1], 3 * 0.5, atol=1e-3)
    assert module.view(image) == "sagittal"


def test_box_beyond_the_image_is_padded_and_not_valid():
    crops = cut([volume()], picks(row()), box_mm=90)
    height, width = crops["source"].shape[1:]
    assert (height, width) == (112, 180)
    valid = crops["valid"][0].astype(bool)
    # The sac is at row 74.5 of 100 and column 85.5 of 140: rows 19 to 130, columns −4 to 175.
    inside = np.zeros((112, 180), bool)
    inside[:81, 4:144] = True
    np.testing.assert_array_equal(valid, inside)
    assert not crops["source"][0][~valid].any()
    assert not crops["body"][0][~valid].any()


def test_whole_slices_without_landmarks():
    crops = cut([volume()], picks({"stack": 1, "slice": 4, "name": "stack-1_slice-004"}))
    assert crops["source"].shape == (1, 100, 140)
    assert np.isnan(crops["sac_px"]).all()
    assert np.isnan(crops["ventral_mm"]).all()
    assert crops["key"].tolist() == ["stack-1_slice-04"]


def test_stacks_of_different_pixels_share_one_file():
    small, large = volume(), volume((1, 0, 2))
    crops = cut([small, large], picks(row(1), row(2, 0, "L5-S1")), box_mm=24)
    assert crops["source"].shape == (2, 48, 48)
    assert crops["key"].tolist() == ["stack-1_slice-02", "stack-2_slice-00"]
    np.testing.assert_allclose(crops["pixel_mm"], [[0.8, 0.5], [0.5, 0.8]])
    assert crops["valid"].sum(axis=(1, 2)).tolist() == [30 * 48, 48 * 30]
    for n in range(2):
        assert abs(place_value(crops, n) - (2 * SAC[0] + 3 * SAC[1])) <= 2


def test_only_picked_slices_and_none_is_refused():
    table = picks(row(), row(slice_=3, name="L5-S1", status="out", code="ANGLE"))
    assert cut([volume()], table)["name"].tolist() == ["L4-L5"]
    with pytest.raises(Refusal, match=r"NO_SLICES.*ANGLE 1"):
        cut([volume()], table[1:])
    with pytest.raises(StudyError, match="box_mm"):
        cut([volume()], table, box_mm=0)


def test_verdicts_by_stack():
    record = {"verdict": "review", "stacks": [{"stack": 2, "verdict": "accepted"}]}
    verdicts = module.verdicts_of(record, 2)
    assert verdicts == {1: "review", 2: "accepted"}
    assert module.verdicts_of({}, 1) == {1: "failed"}
    table = picks(row(1), row(2))
    assert cut([volume()] * 2, table, verdicts=verdicts)["verdict"].tolist() == [
        "review",
        "accepted",
    ]
    assert cut([volume()] * 2, table)["verdict"].tolist() == ["accepted", "accepted"]


def test_a_pose_by_stack():
    stacks = [
        {"stack": 1, "verdict": "failed", "posed": True},
        {"stack": 2, "verdict": "failed", "posed": False},
        {"stack": 3, "verdict": "failed"},
    ]
    posed = module.posed_of({"verdict": "review", "stacks": stacks}, 4)
    assert posed == {1: True, 2: False, 3: False, 4: True}
    assert module.posed_of({}, 1) == {1: False}
    crops = cut([volume()] * 2, picks(row(1), row(2)), posed=posed)
    assert crops["posed"].tolist() == [1, 0]
    assert cut([volume()], picks(row()))["posed"].tolist() == [1]


def test_file_is_the_same_bytes_again_and_needs_no_pickle(tmp_path):
    write_table(
        picks(row(), {"name": "L5-S1", "status": "out", "code": "NO_SLICE"}), tmp_path / "p"
    )
    crops = cut([volume()], read_picks(tmp_path / "p"), box_mm=24)
    module.write_npz(crops, tmp_path / "a.npz")
    module.write_npz(dict(reversed(crops.items())), tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = module.read_npz(tmp_path / "a.npz")
    assert set(again) == set(crops)
    for name, array in crops.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype.hasobject is False
    (tmp_path / "refused.npz").touch()
    assert module.read_npz(tmp_path / "refused.npz") is None


def test_two_images_per_slice(tmp_path):
    crops = cut([volume()], picks(row(), row(slice_=1, name="L3-L4"), row(slice_=0, name="L5-S1")))
    figure = figure_module.plot_crops(crops)
    assert sum(bool(axis.images) for axis in figure.axes) == 6
    figure_module.write_figure(figure, tmp_path / "crop.png")
    assert (tmp_path / "crop.png").read_bytes()[:4] == b"\x89PNG"
    assert b"Matplotlib" not in (tmp_path / "crop.png").read_bytes()


def native():
    matrix = np.diag([3.0, 3.0, 3.0, 1.0])
    matrix[:3, 3] = [-60, -60, -60]
    return from_array(np.full((41, 41, 41), 40, np.float32), matrix)


@pytest.mark.parametrize("degrees", [0, 25])
def test_planes_and_boxes_lie_where_the_slices_are(degrees):
    stack = volume()
    to_native = rigid_from_axis([1, 0, 0], degrees, shift=[0, 12, -5])
    fixed = Disc("L4-L5", SAC - [0, 25, 0], [0, 0, 1], sac_mm=SAC, ventral_mm=SAC - [0, 40, 0])
    fixed.lateral_mm = np.array([SAC - [20, 30, 0], SAC - [-20, 30, 0]])
    found = Disc(
        "L4-L5",
        apply(to_native, fixed.centre_mm),
        to_native[:3, :3] @ fixed.normal,
        sac_mm=apply(to_native, SAC),
        ventral_mm=apply(to_native, fixed.ventral_mm),
        lateral_mm=apply(to_native, fixed.lateral_mm),
    )
    landmarks = Landmarks([found])
    table = pick([stack], landmarks, [to_native], max_offset_mm=5)
    along = figure_module.along_spine(native(), landmarks, [stack], [to_native], table, 60.0)
    (entry,) = along["slices"]
    assert entry["picked"]
    # A box of 60 mm along the slice and of its 4 mm across, turned with the patient.
    sides = np.linalg.norm(np.diff(entry["box"], axis=0), axis=1)
    np.testing.assert_allclose(sides, [60, 4, 60])
    along_slice = (entry["box"][1] - entry["box"][0]) / 60
    angle = np.radians(degrees)
    np.testing.assert_allclose(along_slice, [np.cos(angle), np.sin(angle)], atol=1e-9)
    # The range reaches as far to the back as to the ventral edge; the sac is in its middle.
    np.testing.assert_allclose(np.linalg.norm(np.diff(entry["range"], axis=0)), 80)
    np.testing.assert_allclose(entry["range"].mean(axis=0), entry["sac"])
    place = [*SAC[:2], -3 + 4.0 * (table.loc[0, "slice"] - 2)]
    np.testing.assert_allclose(entry["sac"], apply(to_native, place)[1:])
    figure = figure_module.plot_crops(cut([stack], table), along=along, box_mm=60.0)
    assert sum(bool(axis.images) for axis in figure.axes) == 3


def test_slices_that_were_left_out_are_drawn_as_such():
    table = picks(row(), row(slice_=3, name="L5-S1", status="out", code="OFFSET"))
    table = table.reindex(columns=COLUMNS)
    landmarks = Landmarks([Disc("L4-L5", SAC, [0, 0, 1])])
    along = figure_module.along_spine(native(), landmarks, [volume()], None, table, None)
    assert [entry["picked"] for entry in along["slices"]] == [True, False]
    # Without a box the whole slice is drawn: 100 rows of 0.8 mm.
    assert np.linalg.norm(np.diff(along["slices"][0]["box"][:2], axis=0)) == pytest.approx(80)
