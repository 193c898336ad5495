"""Metal in CT: how much, and where it counts."""

import numpy as np
import pytest

from mrsynth.metal import metal_ml

SPACING = (1.0, 1.0, 2.0)


def trunk() -> np.ndarray:
    """An elliptic trunk of soft tissue with a vertebra, over a table, in air."""
    values = np.full((30, 120, 160), -1000, np.int16)
    y, x = np.mgrid[:120, :160]
    values[:, ((y - 55) / 40) ** 2 + ((x - 80) / 60) ** 2 < 1] = 40
    values[:, 60:80, 70:90] = 1200
    values[:, 110:113, 10:150] = 50
    return values


def test_bone_and_contrast_medium_are_no_metal():
    values = trunk()
    values[:, 40:50, 60:70] = 2400
    assert metal_ml(values, SPACING) == 0.0


@pytest.mark.parametrize("value", [2600, 3071, 20000])
def test_a_screw_is_counted_by_its_volume(value):
    values = trunk().astype(np.int32)
    values[10:12, 40:80, 75:80] = value
    assert metal_ml(values, SPACING) == pytest.approx(2 * 40 * 5 * 2.0 / 1000)


def test_two_screws_add_up_and_noise_does_not():
    values = trunk()
    values[10:12, 40:80, 72:76] = 3000
    values[20:22, 40:80, 84:88] = 3000
    rng = np.random.default_rng(0)
    values[tuple(rng.integers(1, size, 200) for size in values.shape)] = 3000
    assert metal_ml(values, SPACING) == pytest.approx(2 * 2 * 40 * 4 * 2.0 / 1000, abs=0.05)


@pytest.mark.parametrize("place", [np.s_[5:15, 108:116, 20:40], np.s_[5:15, 2:8, 2:12]])
def test_metal_outside_the_body_is_left_out(place):
    values = trunk()
    values[place] = 3000
    assert metal_ml(values, SPACING) == 0.0


def test_a_volume_without_anything_bright_takes_no_time_to_judge(monkeypatch):
    monkeypatch.setattr("mrsynth.metal._body", None)
    assert metal_ml(trunk(), SPACING) == 0.0
