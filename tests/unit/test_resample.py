"""`resample`: world positions are kept, fine detail is averaged, not aliased."""

import numpy as np
import pytest
import SimpleITK as sitk

from mrsynth.errors import StudyError
from mrsynth.resample import orient, resample
from mrsynth.volume import affine, from_array, to_array

TURNED = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])


def ramp(size=(40, 36, 20), spacing=(1.0, 1.5, 2.0), slope=(2.0, -3.0, 5.0)) -> sitk.Image:
    """An oblique volume whose value is a linear function of LPS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = TURNED * np.array(spacing)
    matrix[:3, 3] = [10, -20, 30]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), -1)
    world = index @ matrix[:3, :3].T + matrix[:3, 3]
    return from_array((world @ np.array(slope)).transpose(2, 1, 0).astype(np.float32), matrix)


def world_values(image: sitk.Image, slope) -> tuple[np.ndarray, np.ndarray]:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in image.GetSize()], indexing="ij"), -1)
    world = index @ affine(image)[:3, :3].T + affine(image)[:3, 3]
    return to_array(image).transpose(2, 1, 0), world @ np.array(slope)


@pytest.mark.parametrize("spacing", [1.0, 2.5, [3.0, 1.0, 2.0]])
def test_world_positions_are_kept(spacing):
    slope = (2.0, -3.0, 5.0)
    image = resample(ramp(slope=slope), spacing_mm=spacing)
    assert np.allclose(image.GetSpacing(), np.broadcast_to(spacing, 3))
    got, expected = world_values(image, slope)
    inner = (slice(4, -4), slice(4, -4), slice(2, -2))
    assert got[inner].size
    # The blur repeats the border; inside, a ramp stays a ramp.
    assert np.abs(got - expected)[inner].max() < 2.0


def test_centre_stays():
    old, new = ramp(), resample(ramp(), spacing_mm=2.3)
    centres = [
        i.TransformContinuousIndexToPhysicalPoint(((np.array(i.GetSize()) - 1) / 2).tolist())
        for i in (old, new)
    ]
    assert np.allclose(*centres, atol=1e-6)


def test_fine_stripes_vanish_instead_of_aliasing():
    array = np.tile(np.where(np.arange(64) % 2, 100.0, -100.0).astype(np.float32), (8, 8, 1))
    image = from_array(array, np.eye(4))
    coarse = to_array(resample(image, spacing_mm=[3.0, 1.0, 1.0]))[:, :, 3:-3]
    assert np.abs(coarse).max() < 12
    labels = to_array(resample(image, spacing_mm=[3.0, 1.0, 1.0], interpolation="nearest"))
    assert set(np.unique(labels)) == {-100.0, 100.0}


def test_null_spacing_keeps_the_grid_exactly():
    image = ramp()
    same = resample(image)
    assert np.array_equal(affine(same), affine(image))
    assert np.array_equal(to_array(same), to_array(image))


def test_orientation_moves_axes_without_touching_points():
    image = orient(from_array(np.arange(60, dtype=np.float32).reshape(3, 4, 5), np.eye(4)), "RAI")
    flipped = orient(image, "LPS")
    marked = image.TransformIndexToPhysicalPoint([1, 2, 0])
    assert image[1, 2, 0] == flipped[flipped.TransformPhysicalPointToIndex(marked)]
    assert np.allclose(np.array(flipped.GetDirection()).reshape(3, 3), np.eye(3))


@pytest.mark.parametrize(
    "settings",
    [
        {"spacing_mm": 0},
        {"spacing_mm": [1.0, 2.0]},
        {"spacing_mm": float("nan")},
        {"interpolation": "sinc"},
        {"orientation": "LLS"},
        {"orientation": "XYZ"},
    ],
)
def test_wrong_settings_are_named(settings):
    with pytest.raises(StudyError, match=next(iter(settings))):
        resample(ramp(), **settings)
