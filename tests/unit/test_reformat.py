"""CT on the discs' own planes: the plane is the disc's, and so is what is seen there."""

import numpy as np
import pytest

from mrsynth.errors import StudyError
from mrsynth.geometry import apply, rigid_from_axis, unit
from mrsynth.locate.landmarks import Disc, Landmarks
from mrsynth.reformat import disc_stacks, on_discs
from mrsynth.volume import affine, from_array, to_array

WEIGHTS = np.array([3.0, -2.0, 5.0])


def ct(pose, curved=0.0):
    """A CT in some pose; its HU are a field of the place: linear, or curved along the field's z."""
    size, spacing = np.array([90, 80, 100]), np.array([1.0, 1.25, 1.0])
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = -matrix[:3, :3] @ ((size - 1) / 2)
    matrix = pose @ matrix
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), -1)
    world = apply(matrix, index)
    hu = world @ WEIGHTS + curved * world[..., 2] ** 2
    return from_array(hu.transpose(2, 1, 0).astype(np.float32), matrix)


def disc(normal, centre, sac=None):
    return Disc("L4-L5", np.array(centre, float), unit(np.array(normal, float)), sac_mm=sac)


@pytest.mark.parametrize("degrees", [0, 20, 90])
def test_centre_normal_and_values_are_exact(degrees):
    pose = rigid_from_axis([0.1, 0.2, 1], degrees)
    discs = [disc([0, 0.3, 1], [4, -3, 8], [2, 20, 6]), disc([0.1, -0.6, 1], [-5, 2, -9])]
    for found, made in zip(discs, on_discs(ct(pose), Landmarks(discs), size=(41, 61)), strict=True):
        assert made.GetSize() == (61, 41, 1)
        matrix = affine(made)
        np.testing.assert_allclose(apply(matrix, [30, 20, 0]), found.centre_mm, atol=1e-9)
        np.testing.assert_allclose(matrix[:3, 2] / 4.0, found.normal, atol=1e-9)
        assert np.linalg.det(matrix[:3, :3]) > 0
        assert matrix[0, 0] > 0, "columns run to the patient's left"
        assert matrix[1, 1] > 0, "rows run to the back"
        c, r = np.meshgrid(np.arange(61), np.arange(41))
        world = apply(matrix, np.stack([c, r, np.zeros_like(c)], axis=-1))
        # A linear field's average over the thickness is its value on the plane.
        np.testing.assert_allclose(to_array(made)[0], world @ WEIGHTS, atol=0.05)
    towards = discs[0].sac_mm - discs[0].centre_mm
    down = affine(on_discs(ct(pose), Landmarks(discs[:1]))[0])[:3, 1]
    across = affine(on_discs(ct(pose), Landmarks(discs[:1]))[0])[:3, 0]
    assert towards @ down > 0
    assert abs(towards @ across) < 1e-9, "the sac lies straight behind the disc"


def test_the_thickness_is_averaged():
    """The mean of z² over ±t/2 exceeds the value on the plane by t²/12 (less 5 midpoints' 1/25)."""
    flat = Landmarks([disc([0, 0, 1], [0, 0, 0])])
    thin, thick = (
        to_array(on_discs(ct(np.eye(4), curved=1.0), flat, thickness_mm=t)[0])[0, 128, 128]
        for t in (0.01, 12.0)
    )
    assert thick - thin == pytest.approx(12**2 / 12 * 24 / 25, rel=0.05)


def test_settings_are_checked():
    with pytest.raises(StudyError, match="pixel_mm 0"):
        on_discs(ct(np.eye(4)), Landmarks([]), pixel_mm=0)
    assert on_discs(ct(np.eye(4)), Landmarks([])) == []


def test_where_the_ct_ends_the_disc_planes_are_no_data():
    image = ct(np.eye(4))
    field = from_array(np.ones_like(to_array(image), np.uint8), affine(image))
    stacks, fields = disc_stacks(
        image, Landmarks([disc([0, 0, 1], [0, 0, 0])]), field, size=(9, 400)
    )
    seen = to_array(fields[0])[0]
    assert stacks[0].GetSize() == fields[0].GetSize() == (400, 9, 1)
    # the CT is 90 mm wide, a row of the slice 200 mm
    assert seen[4].sum() == pytest.approx(180, abs=2)
    assert not seen[:, :100].any()
