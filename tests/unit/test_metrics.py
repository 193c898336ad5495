"""Metrics against numbers worked out by hand, and against the paper's own table."""

import math

import numpy as np
import pytest
from skimage import data
from skimage.metrics import structural_similarity

from mrsynth import metrics

REFERENCE = np.zeros((2, 2))
SYNTHETIC = np.array([[3.0, -4.0], [0.0, 5.0]])

# Lee et al. 2020, Table 1: MAE and PSNR as printed, CT01 to CT15.
TABLE_1 = [
    (34.2438, 62.19011),
    (16.17634, 66.29696),
    (23.92239, 63.87309),
    (13.74883, 68.16079),
    (21.08447, 64.35221),
    (24.9148, 64.08604),
    (18.20002, 65.42336),
    (26.93308, 62.8914),
    (19.16938, 64.81556),
    (14.6635, 67.66655),
    (23.86057, 64.74725),
    (28.89516, 61.95778),
    (16.32125, 66.3896),
    (18.26298, 64.31207),
    (17.50098, 66.67446),
]


def test_errors_by_hand():
    assert metrics.mae(REFERENCE, SYNTHETIC) == 3.0
    assert metrics.mse(REFERENCE, SYNTHETIC) == 12.5
    assert metrics.psnr(REFERENCE, SYNTHETIC) == pytest.approx(37.16170, abs=1e-5)
    assert metrics.psnr_paper(REFERENCE, SYNTHETIC) == pytest.approx(85.29250, abs=1e-4)


def test_only_pixels_in_the_mask_count():
    mask = np.array([[1, 0], [0, 1]], np.uint8)
    assert metrics.mae(REFERENCE, SYNTHETIC, mask=mask) == 4.0
    assert metrics.mse(REFERENCE, SYNTHETIC, mask=mask) == 17.0


def test_eight_bit_images_do_not_wrap():
    dark, bright = np.full((8, 8), 10, np.uint8), np.full((8, 8), 250, np.uint8)
    assert metrics.mae(dark, bright) == 240.0


@pytest.mark.parametrize("name", list(metrics.METRICS))
def test_no_pixel_or_a_broken_pixel_gives_nan(name):
    image = np.arange(100.0).reshape(10, 10)
    broken = image.copy()
    broken[5, 5] = math.nan
    assert math.isnan(metrics.METRICS[name](image, image + 1, mask=np.zeros((10, 10))))
    assert math.isnan(metrics.METRICS[name](image, broken))


def test_identical_images():
    image = np.arange(100.0).reshape(10, 10)
    assert metrics.mae(image, image) == 0
    assert metrics.psnr(image, image) == math.inf
    assert metrics.psnr_paper(image, image) == math.inf
    assert metrics.ssim(image, image) == pytest.approx(1.0)


@pytest.mark.parametrize("name", list(metrics.METRICS))
def test_shapes_must_agree(name):
    with pytest.raises(ValueError, match="shape"):
        metrics.METRICS[name](np.zeros((8, 8)), np.zeros((8, 9)))
    with pytest.raises(ValueError, match="mask"):
        metrics.METRICS[name](np.zeros((8, 8)), np.zeros((8, 8)), mask=np.zeros((8, 9)))


def test_the_range_is_fixed_whatever_the_images_hold():
    small = np.array([[0.0, 1.0], [0.0, 1.0]])
    expected = 10 * math.log10(255**2 / 0.5)
    assert metrics.psnr(small, np.zeros((2, 2))) == pytest.approx(expected)


def test_ssim_of_flat_images_is_the_luminance_term():
    first, second = np.full((20, 20), 100.0), np.full((20, 20), 120.0)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert metrics.ssim(first, second) == pytest.approx(expected)


def test_ssim_in_a_mask_is_the_mean_of_the_map_there():
    rng = np.random.default_rng(1)
    first = rng.uniform(0, 255, (24, 30))
    second = np.clip(first + rng.normal(0, 40, first.shape), 0, 255)
    whole = structural_similarity(first, second, data_range=255)
    assert metrics.ssim(first, second) == pytest.approx(whole)
    assert metrics.ssim(first, second, mask=np.ones(first.shape)) == pytest.approx(whole)
    half = np.zeros(first.shape, bool)
    half[:, :15] = True
    _, values = structural_similarity(first, second, data_range=255, full=True)
    expected = values[3:-3, 3:15].mean()
    assert metrics.ssim(first, second, mask=half) == pytest.approx(expected)


def test_ssim_needs_single_images_of_at_least_a_window():
    assert math.isnan(metrics.ssim(np.zeros((6, 20)), np.ones((6, 20))))
    with pytest.raises(ValueError, match="dimensions"):
        metrics.ssim(np.zeros((9, 9, 9)), np.zeros((9, 9, 9)))


def test_the_papers_offset():
    assert pytest.approx(48.1308, abs=1e-4) == metrics.PAPER_OFFSET_DB


@pytest.mark.parametrize(("mae", "printed"), TABLE_1)
def test_table_1_cannot_be_true_psnr_but_fits_the_papers_formula(mae, printed):
    """The RMSE is never below the MAE, which bounds the true PSNR from above."""
    bound = 20 * math.log10(255 / mae)
    assert printed > bound + 40
    rmse = 255 / 10 ** ((printed - metrics.PAPER_OFFSET_DB) / 20)
    assert mae <= rmse < 3 * mae


def test_no_image_reaches_the_printed_mean_at_its_error():
    """At an MAE of 21.19 the best possible image errs by as much everywhere: 21.6 dB, not 64.92."""
    reference = np.full((16, 16), 100.0)
    best = metrics.psnr(reference, reference + 21.19317)
    assert best == pytest.approx(21.607, abs=1e-3)
    uneven = reference + 21.19317 * np.tile([0.0, 2.0], (16, 8))
    assert metrics.mae(reference, uneven) == pytest.approx(21.19317)
    assert metrics.psnr(reference, uneven) < best


def test_vifp_is_one_for_itself_and_falls_with_noise_and_blur():
    image = data.camera()[:128, :128].astype(float)
    noise = np.random.default_rng(0).normal(0, 10, image.shape)
    assert metrics.vifp(image, image) == pytest.approx(1, abs=1e-4)
    values = [metrics.vifp(image, image + scale * noise) for scale in (0.5, 1, 2)]
    assert values == sorted(values, reverse=True)
    assert values[0] < 0.9
    assert metrics.vifp(image, image * 0 + 30) < 0.01


def test_vifp_reads_grey_levels_whatever_their_range():
    image = data.camera()[:64, :64].astype(float)
    noisy = image + np.random.default_rng(0).normal(0, 20, image.shape)
    expected = metrics.vifp(image, noisy)
    assert metrics.vifp(image / 255, noisy / 255, data_range=1.0) == pytest.approx(expected)
    assert expected < 0.6  # on 0–1 data with the constants of 0–255 it would be near 1


@pytest.mark.parametrize("name", ["vifp", "cpbd"])
def test_metrics_of_whole_images_have_no_value_in_a_region(name):
    image = data.coins()[:128, :128].astype(float)
    mask = np.ones(image.shape)
    function = metrics.METRICS[name]
    assert function(image, image, mask=mask) == function(image, image)
    mask[0, 0] = 0
    assert math.isnan(function(image, image, mask=mask))
    assert math.isnan(function(image, image * np.nan))
    assert math.isnan(function(image * 0 + 5, image * 0 + 5))
