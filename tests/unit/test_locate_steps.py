"""Single steps of `locate`: canal, chain, posture, levels, contrast medium, moves."""

import numpy as np
import pytest

from mrsynth import geometry
from mrsynth.locate import Disc, Landmarks
from mrsynth.locate import chain as chains
from mrsynth.locate.canal import best_path, longest_run
from mrsynth.locate.column import column_along
from mrsynth.locate.extend import next_disc
from mrsynth.locate.grid import Grid
from mrsynth.locate.levels import Count, names, sacral_disc
from mrsynth.locate.myelo import without_contrast
from mrsynth.locate.posture import upright_motion
from mrsynth.locate.refine import measure

LUMBAR = ["T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1"]


def test_chain_takes_even_intervals_over_a_brighter_outlier():
    def layer(index, worth):
        return chains.Candidate(index, worth, np.zeros(3), np.array([0, 0, 1.0]), 8.0)

    discs = [layer(30 + 35 * k, 0.6) for k in range(5)]
    wrong = [layer(52, 0.7), layer(121, 0.65)]
    chain = chains.best_chain(sorted(discs + wrong, key=lambda c: c.index))
    assert [c.index for c in chain] == [c.index for c in discs]


def test_layer_contrast_peaks_in_the_dark_layer_of_its_height():
    profile = np.full(80, 150.0)
    profile[30:33] = profile[42:45] = 300.0
    profile[33:42] = 70.0
    contrast = chains.layer_contrast(profile, 10.0)
    assert abs(int(np.argmax(contrast)) - 37) <= 1
    assert contrast.max() > 150
    assert contrast[0] == -np.inf


def test_best_path_follows_a_ridge_and_not_a_brighter_spot():
    score = np.zeros((20, 15, 15), np.float32)
    for z in range(20):
        score[z, 4 + z // 4, 6] = 1.0
    score[10, 14, 14] = 3.0
    path = best_path(score)
    np.testing.assert_array_equal(path[:, 0], 4 + np.arange(20) // 4)
    np.testing.assert_array_equal(path[:, 1], 6)


def test_longest_run_bridges_gaps_up_to_a_length():
    good = np.array([1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1], bool)
    assert longest_run(good, gap=1) == (0, 5)
    assert longest_run(good, gap=3) == (0, 10)
    assert longest_run(np.zeros(4, bool), gap=1) == (0, -1)


def test_names_count_up_from_the_sacrum():
    assert names(7) == [*LUMBAR[::-1], "T11-T12"]
    assert names(18)[-1] is None
    assert sacral_disc(np.array([np.nan, 0.0, 0.1, 0.4, 0.5]), ala=0.2) == 3
    assert sacral_disc(np.array([0.0, 0.1, np.nan]), ala=0.2) is None


@pytest.mark.parametrize(
    ("lumbar", "bridged", "transitional"),
    [(5, False, False), (None, False, False), (4, False, True), (6, False, True), (5, True, True)],
)
def test_other_than_five_free_vertebrae_are_transitional(lumbar, bridged, transitional):
    assert Count(5, lumbar, bridged).transitional is transitional


def test_a_turned_spine_is_stood_upright():
    height = np.arange(200.0, 0, -4)
    canal = np.column_stack([0 * height, 0 * height, height])
    matrix = geometry.rigid_from_axis([1, 2, 3], 25, [5, 9, 80], shift=[40, -30, 600])
    bodies = geometry.apply(matrix, canal + np.array([0, -26, 0]))
    moved = geometry.apply(matrix, canal)
    back = upright_motion(moved, column_along(bodies, moved))
    again = geometry.apply(back, moved)
    assert np.ptp(again[:, :2], axis=0).max() < 1.0
    ahead = geometry.apply(back, bodies).mean(0) - again.mean(0)
    assert geometry.angle_deg(ahead, [0, -1, 0], oriented=True) < 2.0


def test_landmarks_move_with_the_patient():
    disc = Disc(
        "L4-L5", [1, 2, 3], [0, 0, 1], sac_mm=[1, 30, 3], lateral_mm=[[-20, 2, 3], [22, 2, 3]]
    )
    found = Landmarks([disc], canal=np.array([[0.0, 30, 50], [0, 30, 0]]))
    matrix = geometry.rigid_from_axis([0, 1, 0], 40, shift=[5, 6, 7])
    back = found.moved(matrix).moved(np.linalg.inv(matrix))
    turned = found.moved(matrix).discs[0]
    assert geometry.angle_deg(turned.normal, [0, 0, 1], oriented=True) == pytest.approx(40)
    np.testing.assert_allclose(turned.centre_mm, geometry.apply(matrix, disc.centre_mm))
    np.testing.assert_allclose(back.discs[0].lateral_mm, disc.lateral_mm, atol=1e-9)
    np.testing.assert_allclose(back.canal, found.canal, atol=1e-9)
    assert turned.ventral_mm is None


def pillar(sac_hu=15.0, spacing=1.5):
    """A straight column of bodies of 26 mm with discs of 10 mm, and a sac 28 mm behind it."""
    z, y, x = np.meshgrid(
        *[np.arange(-n, n + spacing, spacing) for n in (90, 45, 40)], indexing="ij"
    )
    values = np.full(z.shape, 50.0, np.float32)
    body = (x / 24) ** 2 + (y / 17) ** 2 < 1
    at = np.abs((z + 18) % 36 - 18)
    values[body] = 150.0
    values[body & (at < 9)] = 500.0
    values[body & (at < 5)] = 80.0
    values[np.hypot(x, y - 28) < 7] = sac_hu
    return Grid(values, np.array([x.min(), y.min(), z.min()]), spacing)


def pillar_discs(grid, heights):
    up, ahead = np.array([0.0, 0, 1]), np.array([0.0, -1, 0])
    return [measure(grid, np.array([0.0, 0, h]), up, ahead) for h in heights]


@pytest.mark.parametrize("down", [True, False])
def test_the_next_disc_follows_from_the_last(down):
    grid = pillar()
    found = next_disc(grid, pillar_discs(grid, [0.0]), down)
    assert np.linalg.norm(found.centre - [0, 0, -36 if down else 36]) < 1.5
    assert geometry.angle_deg(found.normal, [0, 0, 1], oriented=True) < 2.0


def test_no_next_disc_outside_the_scan():
    grid = pillar()
    assert next_disc(grid, pillar_discs(grid, [36.0, 0.0, -36.0, -72.0]), down=True) is None


def test_contrast_medium_in_the_sac_is_filled():
    grid = pillar(sac_hu=600.0)
    native = without_contrast(grid, pillar_discs(grid, [36.0, 0.0, -36.0]))
    sac = grid.values == 600.0
    inner = np.abs(grid.to_mm(np.argwhere(sac))[:, 2]) < 50
    behind = native.values[sac][inner]
    assert np.percentile(behind, 95) < 100
    np.testing.assert_array_equal(native.values[..., :20, :], grid.values[..., :20, :])


def test_a_native_sac_is_left_alone():
    grid = pillar()
    assert without_contrast(grid, pillar_discs(grid, [36.0, 0.0, -36.0])) is None


def test_larger_voxels_keep_less_of_a_thin_bone():
    values = np.zeros((2, 2, 2), np.float32)
    grid = Grid(values, np.zeros(3), 1.5, np.diag([1.0, 1.0, 6.0]))
    assert grid.kept(np.array([0.0, 0, 1])) == pytest.approx(0.5)
    assert grid.kept(np.array([1.0, 0, 0])) == 1.0
    assert grid.kept() == 1.0
    assert Grid(values, np.zeros(3), 1.5).kept() == 1.0
