"""Low-resolution images: what is kept, what is lost, which ways there are."""

import numpy as np
import pytest
from skimage import data

from mrsynth.degrade import degrade
from mrsynth.errors import StudyError


def test_a_plane_is_kept_but_at_its_edges():
    y, x = np.mgrid[:32, :32].astype(np.float32)
    plane = (2 * y + 3 * x)[None]
    for way in ("linear", "cubic"):
        made = degrade(plane, 4, way)
        assert made.shape == plane.shape
        assert made.dtype == np.float32
        assert np.abs(made - plane)[0, 8:-8, 8:-8].max() < 0.5


def test_detail_below_the_large_pixels_is_lost_and_the_range_is_kept():
    image = data.camera()[None, :256, :256].astype(np.float32)
    made = {factor: degrade(image, factor) for factor in (2, 4, 8)}
    errors = [np.abs(made[factor] - image).mean() for factor in (2, 4, 8)]
    assert errors == sorted(errors)
    assert errors[0] > 1
    assert all(image.min() <= one.min() and one.max() <= image.max() for one in made.values())


def test_a_pixel_of_the_low_resolution_is_interpolated_from_the_two_in_its_middle():
    row = np.arange(8, dtype=np.float32) ** 2
    made = degrade(np.tile(row, (8, 1))[None], 4)
    # middles of 0…3 and 4…7: (1² + 2²)/2 and (5² + 6²)/2; between them linear, beyond them constant
    assert made[0, 0, 0] == pytest.approx(2.5)
    assert made[0, 0, 7] == pytest.approx(30.5)
    assert made[0, 0, 3] == pytest.approx(2.5 + 28 * 3 / 8)


def test_sizes_that_the_factor_does_not_divide_are_refused():
    with pytest.raises(StudyError, match=r"pack\.degrade"):
        degrade(np.zeros((1, 30, 32)), 4)
    with pytest.raises(StudyError, match=r"pack\.degrade"):
        degrade(np.zeros((1, 32, 32)), 1)
    assert degrade(np.zeros((0, 32, 32)), 4).shape == (0, 32, 32)
