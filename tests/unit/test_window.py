"""Grey levels: the window's two ends, one range for all stacks, bias without loss of contrast."""

import numpy as np
import pytest
import SimpleITK as sitk

from mrsynth import window
from mrsynth.errors import Refusal, StudyError
from mrsynth.volume import from_array, to_array


def image(array, spacing=(1.0, 1.0, 4.0)):
    return from_array(np.asarray(array, np.float32), np.diag([*spacing, 1.0]))


def mask(array):
    return image(np.asarray(array) > 0)


def test_ct_window_is_linear_and_clipped():
    hu = np.array([[[-1000, -160, 40, 140, 240, 3000]]])
    grey = to_array(window.window_ct(image(hu), center_hu=40, width_hu=400))
    assert grey.dtype == np.float32
    np.testing.assert_array_equal(grey[0, 0], [0, 0, 128, 191, 255, 255])


def test_ct_levels_are_counted():
    ramp = np.linspace(-200, 300, 1000).reshape(1, 10, 100)
    for levels in (2, 16, 256):
        grey = np.unique(to_array(window.window_ct(image(ramp), levels=levels)))
        np.testing.assert_allclose(grey, np.arange(levels) * 255 / (levels - 1), rtol=1e-6)


def test_geometry_is_kept():
    before = image(np.zeros((2, 3, 4)), (0.5, 0.7, 5))
    before.SetOrigin((1, 2, 3))
    after = window.window_ct(before)
    for name in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        assert getattr(before, name)() == getattr(after, name)()


def test_mr_range_is_of_all_stacks_inside_the_body():
    rng = np.random.default_rng(1)
    first, second = rng.uniform(100, 200, (4, 20, 20)), rng.uniform(500, 1000, (3, 20, 20))
    body = [np.ones_like(first), np.ones_like(second)]
    first[0, :5], body[0][0, :5] = 1e6, 0
    images, masks = [image(first), image(second)], [mask(b) for b in body]
    low, high = window.signal_range(images, masks, 0, 100)
    inside = np.concatenate([first[body[0] > 0], second.ravel()])
    assert (low, high) == pytest.approx((inside.min(), inside.max()))
    grey = window.window_mr(images, masks=masks, lower_percentile=0, upper_percentile=100)
    # One line through both stacks: a range per stack would stretch the first to 255.
    expected = 255 * (first[1:] - low) / (high - low)
    assert np.abs(to_array(grey[0])[1:] - expected).max() <= 0.51
    assert to_array(grey[0])[body[0] > 0].max() < 40
    assert to_array(grey[1]).max() == 255


def test_mr_range_leaves_out_what_the_other_image_lacks():
    signal = np.full((1, 4, 8), 50.0)
    signal[..., :4] = np.linspace(0, 30, 16).reshape(4, 4)
    valid = np.zeros_like(signal)
    valid[..., :4] = 1
    ones = [mask(np.ones_like(signal))]
    kinds = {"kind": "mr", "lower_percentile": 0, "upper_percentile": 100}
    _, done = window.to_grey_levels([image(signal)], body=ones, valid=[mask(valid)], **kinds)
    assert (done["low"], done["high"]) == (0, 30)
    _, done = window.to_grey_levels([image(signal)], body=ones, valid=ones, **kinds)
    assert done["high"] == 50


def test_method_follows_the_modality():
    ones = [mask(np.ones((1, 2, 2)))]
    values = [image([[[-160, 240], [0, 40]]])]
    both = {"body": ones, "valid": ones}
    assert window.to_grey_levels(values, kind="ct", **both)[1]["method"] == "window"
    assert window.to_grey_levels(values, kind="dx", **both)[1]["method"] == "range"
    grey, done = window.to_grey_levels(values, kind="mr", method="none", **both)
    assert done == {"method": "none"}
    np.testing.assert_array_equal(to_array(grey[0]).ravel(), [0, 240, 0, 40])


def test_n4_evens_out_the_field_and_keeps_the_stacks_apart():
    rows, columns = np.mgrid[:64, :64]
    inside = (rows - 32) ** 2 + (columns - 32) ** 2 < 28**2
    tissue = np.where((rows // 8 + columns // 8) % 2, 100.0, 160.0) * inside
    field = np.exp(0.5 * (columns - 32) / 32)
    stacks = [np.stack([tissue * field] * 4), np.stack([2 * tissue * field] * 4)]
    images, masks = [image(s) for s in stacks], [mask(np.stack([inside] * 4))] * 2

    def unevenness(array):
        bright = (tissue == 160) & inside
        return array[1][bright].std() / array[1][bright].mean()

    corrected = [to_array(i) for i in window.correct_bias(images, masks)]
    assert unevenness(stacks[0]) > 0.2
    assert unevenness(corrected[0]) < 0.5 * unevenness(stacks[0])
    inside4 = np.stack([inside] * 4)
    ratio = corrected[1][inside4].mean() / corrected[0][inside4].mean()
    assert ratio == pytest.approx(2, rel=0.02)
    log_mean = [np.log(a[inside4]).mean() for a in (stacks[0], corrected[0])]
    assert log_mean[0] == pytest.approx(log_mean[1], abs=1e-4)


def test_n4_leaves_a_single_slice_as_it_is():
    rng = np.random.default_rng(2)
    stacks = [image(rng.uniform(50, 100, (depth, 24, 24))) for depth in (1, 2)]
    ones = [mask(np.ones((depth, 24, 24))) for depth in (1, 2)]
    grey, done = window.to_grey_levels(
        stacks, body=ones, valid=ones, kind="mr", bias_correction="n4"
    )
    assert done["bias_skipped"] == [1]
    assert all(np.isfinite(to_array(g)).all() for g in grey)
    assert to_array(window.correct_bias(stacks[:1], ones[:1])[0]) == pytest.approx(
        to_array(stacks[0])
    )


def test_a_broken_fit_is_a_refusal(monkeypatch):
    class Broken:
        def __getattr__(self, _):
            return lambda *_: None

        def Execute(self, *_):
            raise RuntimeError("zero-valued spacing")

    monkeypatch.setattr(sitk, "N4BiasFieldCorrectionImageFilter", Broken)
    stack = image(np.ones((2, 8, 8)))
    with pytest.raises(Refusal, match="BIAS_FIELD"):
        window.correct_bias([stack], [mask(np.ones((2, 8, 8)))])


def test_refusals_and_settings():
    flat, empty = image(np.full((1, 4, 4), 7)), mask(np.zeros((1, 4, 4)))
    with pytest.raises(Refusal, match="FLAT_SIGNAL"):
        window.window_mr([flat])
    with pytest.raises(Refusal, match="NO_BODY"):
        window.window_mr([flat], masks=[empty])
    with pytest.raises(StudyError, match="width_hu"):
        window.window_ct(flat, width_hu=0)
    with pytest.raises(StudyError, match="levels"):
        window.window_ct(flat, levels=1)
    with pytest.raises(StudyError, match="percentile"):
        window.window_mr([flat], lower_percentile=90, upper_percentile=10)
    with pytest.raises(StudyError, match="bias_correction"):
        window.window_mr([flat], bias_correction="n3")
    assert isinstance(flat, sitk.Image)
