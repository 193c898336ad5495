"""`warp`: the right place, the right side, the average over a slice's thickness."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.special import erf

from mrsynth.errors import Refusal, StudyError
from mrsynth.volume import from_array, to_array
from mrsynth.warp import alone, body, on_fixed_grid, transform_of, valid, warp


def grid(size, spacing, origin, direction=None) -> sitk.Image:
    """An empty volume, size and spacing in (x, y, z)."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if direction is None else direction) * np.array(spacing)
    matrix[:3, 3] = origin
    return from_array(np.zeros(size[::-1], np.float32), matrix)


def painted(image: sitk.Image, function) -> sitk.Image:
    """The volume with a function of LPS mm as its values."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in image.GetSize()], indexing="ij"), -1)
    steps = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    world = index @ steps.T + np.array(image.GetOrigin())
    result = sitk.GetImageFromArray(function(world).transpose(2, 1, 0).astype(np.float32))
    result.CopyInformation(image)
    return result


def turn_x(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


CT = grid((60, 60, 80), (1, 1, 1), (-30, -30, -40))


def test_point_lands_where_the_transform_says():
    """A spot at T(x) of the moving image shows at x, on a tilted plane (fixed → moving)."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn_x(20)
    matrix[:3, 3] = [4, -3, 6]
    fixed = grid((41, 41, 3), (1, 1, 4), (-20, -20, -4))
    spot = np.array([7.0, -5.0, 0.0])
    there = matrix[:3, :3] @ spot + matrix[:3, 3]
    moving = painted(CT, lambda w: 1000 * np.exp(-((w - there) ** 2).sum(-1) / 18))
    got = to_array(warp(moving, fixed, transform_of(matrix), pad=0))[1]
    row, column = np.unravel_index(got.argmax(), got.shape)
    assert (column - 20, row - 20) == (7, -5)
    back = to_array(warp(moving, fixed, transform_of(np.linalg.inv(matrix)), pad=0))[1]
    assert back[row, column] < 0.5 * got[row, column]


def test_left_stays_left():
    fixed = grid((21, 21, 2), (2, 2, 4), (-20, -20, -4), np.diag([-1.0, -1, 1]) @ np.eye(3))
    fixed.SetOrigin((20, 20, -4))
    moving = painted(CT, lambda w: np.where(w[..., 0] > 10, 500.0, -900.0))
    got = to_array(warp(moving, fixed, sitk.Transform()))
    left = [fixed.TransformIndexToPhysicalPoint([x, 10, 0])[0] > 12 for x in range(21)]
    assert (got[0, 10][left] > 400).all()
    assert (got[0, 10, 12:] < -800).all()


def test_step_is_averaged_over_the_thickness():
    """Tissue above z = 0.4 mm: an axial slice of 4 mm centred at 0 holds 40 % of it."""
    moving = painted(
        grid((20, 20, 400), (1, 1, 0.05), (-10, -10, -10)),
        lambda w: np.where(w[..., 2] > 0.4, 100.0, 0.0),
    )
    fixed = grid((9, 9, 1), (1, 1, 4), (-4, -4, 0))
    many = to_array(warp(moving, fixed, sitk.Transform(), thickness_mm=4, samples=40))
    assert np.allclose(many, 40, atol=1.5)
    point = to_array(warp(moving, fixed, sitk.Transform(), thickness_mm=4, samples=1))
    assert np.allclose(point, 0)
    thin = to_array(warp(moving, fixed, sitk.Transform(), thickness_mm=0.5, samples=40))
    assert np.allclose(thin, 0, atol=1.5)


def test_ramp_keeps_its_value_and_bending_adds_its_variance():
    """Over a slice of thickness h, z² averages to z₀² + h²/12, a ramp to its middle."""
    fine = grid((20, 20, 200), (1, 1, 0.2), (-10, -10, -20))
    fixed = grid((9, 9, 3), (1, 1, 6), (-4, -4, -6))
    ramp = to_array(
        warp(painted(fine, lambda w: 3 * w[..., 2]), fixed, sitk.Transform(), samples=9)
    )
    assert np.allclose(ramp, np.array([-18.0, 0, 18])[:, None, None], atol=0.05)
    square = painted(fine, lambda w: w[..., 2] ** 2)
    got = to_array(warp(square, fixed, sitk.Transform(), thickness_mm=6, samples=30))
    assert np.allclose(got[1], 36 / 12, atol=0.05)


def test_thickness_follows_the_tilted_slice():
    """Averaging runs along the slice's normal: a layer parallel to a tilted slice is not blurred
    in it."""
    tilt = turn_x(30)
    fixed = grid((15, 15, 1), (0.5, 0.5, 4), tilt @ np.array([-4, -4, 0]), tilt)
    fine = grid((120, 120, 160), (0.5, 0.5, 0.5), (-30, -30, -40))
    layer = painted(fine, lambda w: 100 * np.exp(-((w @ tilt[:, 2]) ** 2)))
    got = to_array(warp(layer, fixed, sitk.Transform(), thickness_mm=4, samples=40))
    # Along z instead of the normal it would be 50.4.
    assert np.allclose(got, 25 * np.sqrt(np.pi) * erf(2), atol=1.0)


def test_coarse_pixels_average_fine_ones():
    stripes = painted(
        grid((200, 40, 20), (0.25, 1, 1), (-25, -20, -10)),
        lambda w: np.where(np.floor(w[..., 0] / 0.25 + 0.5) % 2, 100.0, -100.0),
    )
    fixed = grid((19, 9, 1), (2, 2, 2), (-18.07, -8, 0))
    assert np.abs(to_array(warp(stripes, fixed, sitk.Transform()))).max() < 10


def test_field_and_padding():
    fixed = grid((41, 5, 1), (2, 2, 4), (-40, 0, 39))
    moving = painted(CT, lambda w: np.full(w.shape[:-1], 40.0))
    inside = to_array(valid(moving, fixed, sitk.Transform()))[0, 2]
    world = -40 + 2 * np.arange(41)
    assert np.array_equal(inside == 1, (world >= -30.5) & (world <= 29.5))
    got = to_array(warp(moving, fixed, sitk.Transform(), samples=8))[0, 2]
    # The slice's upper half leaves the field; the padding doesn't bleed into the average.
    assert np.allclose(got[inside == 1], 40)
    assert np.allclose(got[inside == 0], 0)
    ct = painted(CT, lambda w: np.where(w[..., 1] > 0, 40.0, -1000.0))
    assert to_array(warp(ct, fixed, sitk.Transform()))[0, 2, 0] == -1024


def test_valid_agrees_between_linear_and_other_transforms():
    matrix = np.eye(4)
    matrix[:3, :3] = turn_x(12)
    matrix[:3, 3] = [3.3, 7.1, 9.7]
    fixed = grid((40, 40, 4), (2, 2, 4), (-40, -40, 20))
    affine = transform_of(matrix)
    wrapped = sitk.DisplacementFieldTransform(
        sitk.TransformToDisplacementField(
            affine, sitk.sitkVectorFloat64, (60, 60, 30), (-60, -60, 0), (2, 2, 2)
        )
    )
    one, other = (to_array(valid(CT, fixed, t)) for t in (affine, wrapped))
    assert 0.1 < one.mean() < 0.9
    assert (one != other).mean() < 0.02


def field_of(image: sitk.Image, function) -> sitk.Image:
    """A mask on the grid of an image: 1 where a function of LPS mm holds."""
    return sitk.Cast(painted(image, lambda w: function(w).astype(np.float32)), sitk.sitkUInt8)


def test_padding_is_no_data_and_bleeds_into_nothing():
    """Beyond a plane that leans across the slices the moving image is padding."""
    moving = painted(CT, lambda w: np.where(w[..., 1] + 0.5 * w[..., 2] < 5, 50.0, -1024.0))
    field = field_of(moving, lambda w: w[..., 1] + 0.5 * w[..., 2] < 5)
    fixed = grid((40, 40, 5), (1, 1, 8), (-20, -20, -16))
    without = to_array(warp(moving, fixed, sitk.Transform()))
    got = to_array(warp(moving, fixed, sitk.Transform(), field=field))
    seen = to_array(valid(moving, fixed, sitk.Transform(), field)) > 0
    everywhere = to_array(valid(moving, fixed, sitk.Transform())) > 0
    assert everywhere.all()
    assert 0.3 < seen.mean() < 0.9
    assert np.abs(got[seen] - 50).max() < 1e-3
    assert np.abs(without[seen] - 50).max() > 100
    whole = field_of(moving, lambda w: w[..., 0] > -1e9)
    assert np.array_equal(to_array(warp(moving, fixed, sitk.Transform(), field=whole)), without)
    assert np.array_equal(to_array(valid(moving, fixed, sitk.Transform(), whole)) > 0, everywhere)


def test_padding_of_either_side_is_left_out():
    moving = painted(CT, lambda w: np.where(np.abs(w[..., 1]) < 12, 50.0, -900.0))
    fixed = [grid((30, 30, 3), (1, 1, 8), (-15, -15, z)) for z in (-16, 16)]
    fixed = [painted(image, lambda w: 100 + w[..., 0]) for image in fixed]
    right = field_of(moving, lambda w: w[..., 0] < 5)
    front = field_of(fixed[1], lambda w: w[..., 1] < 5)
    made, record = on_fixed_grid(
        fixed,
        [moving],
        [np.eye(4)] * 2,
        [None] * 2,
        moving_fields=[right],
        fixed_fields=[None, front],
    )
    first, second = (to_array(image) > 0 for image in made["valid"])
    assert not first[:, :, 21:].any()
    assert first[:, :, :19].all()
    assert np.array_equal(second, first & (to_array(front) > 0))
    assert record["valid_share"] == [first.mean(), second.mean()]


def test_body_drops_the_table_and_fills_the_lungs():
    def scene(w):
        radius = np.hypot(w[..., 0], w[..., 1] * 1.3)
        tissue = np.where(radius < 20, 40.0, -1000.0)
        tissue = np.where(np.hypot(w[..., 0] - 5, w[..., 1]) < 6, -850.0, tissue)
        return np.where(np.abs(w[..., 1] - 24) < 1, 100.0, tissue)

    mask = to_array(body(painted(CT, scene)))[40]
    assert mask[30, 35] == 1
    assert mask[30, 30] == 1
    assert mask[54].sum() == 0
    assert abs(int(mask.sum()) - np.pi * 20 * 20 / 1.3) < 60


def test_body_of_mr_and_of_nothing():
    fixed = grid((60, 60, 4), (1, 1, 4), (-30, -30, 0))
    noise = np.random.default_rng(0).rayleigh(5, (60, 60, 4))
    mr = painted(fixed, lambda w: np.where(np.hypot(w[..., 0], w[..., 1]) < 20, 200.0, 0.0) + noise)
    assert abs(to_array(body(mr))[0].sum() - np.pi * 400) < 40
    assert to_array(body(fixed)).sum() == 0


def test_all_of_a_subject():
    stacks = [grid((20, 20, 3), (2, 2, 4), (-20, -20, z)) for z in (-20, 10)]
    moving = painted(CT, lambda w: np.where(np.hypot(w[..., 0], w[..., 1]) < 15, 50.0, -1000.0))
    shift = np.eye(4)
    shift[0, 3] = 4
    images, record = on_fixed_grid(stacks, [moving], [np.eye(4), shift], [3.0, None])
    assert record["thickness_mm"] == [3.0, 4.0]
    centres = [np.argwhere(to_array(b)[1]).mean(0)[1] * 2 - 20 for b in images["body"]]
    assert np.allclose(centres, [0, -4], atol=0.6)
    with pytest.raises(Refusal, match="MOVING_STACKS"):
        on_fixed_grid(stacks, [moving] * 3, [np.eye(4)] * 2, [None] * 2)


def test_stacks_without_air_have_the_same_kind_of_body():
    """Which rule holds is the volume's matter: a slice inside the body shows no air."""
    moving = painted(
        CT, lambda w: np.where(np.abs(w).max(-1) < 27, -90 + 300 * (w[..., 0] > 5), -1000.0)
    )
    stacks = [grid((10, 10, 2), (2, 2, 4), (x, -9, -2)) for x in (-30, -9)]
    images, _ = on_fixed_grid(stacks, [moving], [np.eye(4)] * 2, [None] * 2)
    assert to_array(images["moving"][1]).min() > -100
    assert to_array(images["body"][1]).all()
    # The fixed image can be the CT as well.
    signal = painted(CT, lambda w: np.full(w.shape[:-1], 100.0))
    both, _ = on_fixed_grid(images["moving"], [signal], [np.eye(4)] * 2, [None] * 2)
    assert to_array(both["body"][1]).all()
    given, _ = on_fixed_grid(stacks, [moving], [np.eye(4)] * 2, [None] * 2, body_threshold=100)
    assert not to_array(given["body"][1]).all()


@pytest.mark.parametrize("settings", [{"samples": 0}, {"thickness_mm": -1.0}])
def test_wrong_settings_are_named(settings):
    with pytest.raises(StudyError, match=next(iter(settings))):
        warp(CT, CT, sitk.Transform(), **settings)


def test_an_only_image_stands_beside_a_black_one():
    ct, field = np.full((3, 20, 24), -1000.0, np.float32), np.ones((3, 20, 24), np.uint8)
    ct[:, 4:16, 4:20] = 40.0
    field[:, :, :6] = 0
    image = from_array(ct, np.diag([2.0, 2.0, 4.0, 1.0]))
    made, entries = alone([image], [from_array(field, np.diag([2.0, 2.0, 4.0, 1.0]))])
    assert made["fixed"] == [image]
    assert not to_array(made["moving"][0]).any()
    np.testing.assert_array_equal(to_array(made["valid"][0]), field)
    assert to_array(made["body"][0])[1, 10, 12] == 1
    assert to_array(made["body"][0])[1, 1, 1] == 0
    assert entries["thickness_mm"] == [4.0]
    assert entries["valid_share"] == [pytest.approx(18 / 24)]
