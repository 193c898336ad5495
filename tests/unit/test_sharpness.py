"""CPBD: known edges, blur, noise, and the published package where it is installed."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data

from mrsynth import sharpness


def _ramp(width):
    """Upright edges of a known width: bars of 32 pixels with ramps between them."""
    row = np.tile(np.concatenate([np.zeros(32), np.full(32, 200.0)]), 4)
    row = np.convolve(np.pad(row, width, mode="edge"), np.ones(width) / width, mode="same")
    return np.tile(row[width:-width], (128, 1))


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7])
def test_widths_are_those_of_the_edges(width):
    found = sharpness.edge_widths(_ramp(width))
    inner = found[:, 40:-40]
    assert set(inner[inner > 0]) == {float(width)}


def test_edges_up_to_the_just_noticeable_width_count_as_sharp():
    assert sharpness.edge_cumulative(_ramp(3)) == 1.0
    assert sharpness.edge_cumulative(_ramp(4)) < 0.2
    # at low contrast the eye allows five pixels
    assert sharpness.edge_cumulative(_ramp(5) * 0.2) == 1.0


def test_blur_lowers_and_noise_raises_the_value():
    image = data.camera().astype(float)
    blurred = [sharpness.edge_cumulative(gaussian_filter(image, s)) for s in (0.5, 1, 2)]
    assert blurred == sorted(blurred, reverse=True)
    noisy = gaussian_filter(image, 2) + np.random.default_rng(0).normal(0, 10, image.shape)
    assert sharpness.edge_cumulative(noisy) > blurred[-1] + 0.2


def test_flat_and_broken_images_have_no_value():
    assert math.isnan(sharpness.edge_cumulative(np.full((128, 128), 40.0)))
    broken = data.camera().astype(float)
    broken[3, 3] = np.nan
    assert math.isnan(sharpness.edge_cumulative(broken))
    with pytest.raises(ValueError, match="single"):
        sharpness.edge_cumulative(np.zeros((2, 64, 64)))


def test_ranks_images_as_the_published_package_does():
    package = pytest.importorskip("cpbd", reason="the benchmarks' package cpbd-py312 is absent")
    ours, theirs = [], []
    for image in (data.camera(), data.coins(), data.grass()):
        for blur in (0, 0.7, 1.5, 3):
            part = gaussian_filter(image[:256, :256].astype(float), blur)
            ours.append(sharpness.edge_cumulative(part))
            theirs.append(package.compute(part))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9
    assert np.abs(np.subtract(ours, theirs)).mean() < 0.1
