"""Slices in space: stacks, gaps, order, affine."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mrsynth import stacks
from mrsynth.errors import Refusal

AXIAL = np.array([1.0, 0, 0, 0, 1, 0])


def oriented(seed: int) -> np.ndarray:
    """Random direction cosines of a row and a column."""
    matrix = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    return np.concatenate([matrix[:, 0], matrix[:, 1]])


def block(orientation, heights, origin=(0, 0, 0)):
    """Positions and orientations of slices at heights along the normal."""
    positions = np.array(origin) + np.outer(heights, stacks.normal(orientation))
    return positions, np.tile(orientation, (len(heights), 1))


def joined(*blocks):
    return np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])


@pytest.mark.parametrize("seed", range(20))
def test_affine_puts_every_voxel_where_its_slice_says(seed):
    orientation = oriented(seed)
    rng = np.random.default_rng(seed)
    positions, orientations = block(orientation, 3.3 * np.arange(7), rng.normal(0, 100, 3))
    pixel_mm = tuple(rng.uniform(0.3, 2, 2))
    found = stacks.geometry(positions, orientations, pixel_mm, (30, 50))
    for index, (x, y, z) in enumerate([(0, 0, 0), (49, 0, 6), (0, 29, 3), (49, 29, 6), (13, 7, 2)]):
        expected = (
            positions[z] + orientation[:3] * pixel_mm[1] * x + orientation[3:] * pixel_mm[0] * y
        )
        assert np.allclose((found.matrix @ (x, y, z, 1))[:3], expected, atol=1e-6), index
    assert found.tilt_deg == 0
    assert np.linalg.det(found.matrix[:3, :3]) > 0


@pytest.mark.parametrize("seed", range(5))
def test_order_follows_the_normal_for_any_order_of_the_input(seed):
    orientation = oriented(seed)
    positions, orientations = block(orientation, 2.5 * np.arange(9))
    shuffle = np.random.default_rng(seed).permutation(9)
    (order,), stray = stacks.split(positions[shuffle], orientations[shuffle])
    assert (shuffle[order] == np.arange(9)).all()
    assert not len(stray)


def test_angled_blocks_are_stacks_of_their_own_cranial_first():
    blocks = []
    for number, angle in enumerate((-12, 0, 15)):
        matrix = Rotation.from_euler("x", angle, degrees=True).as_matrix()
        orientation = np.concatenate([matrix[:, 0], matrix[:, 1]])
        blocks.append(block(orientation, 4.0 * np.arange(4), (-100, -50, -35 * number)))
    positions, orientations = joined(*blocks)
    shuffle = np.random.default_rng(0).permutation(12)
    groups, stray = stacks.split(positions[shuffle], orientations[shuffle])
    found = [sorted(int(i) // 4 for i in shuffle[group]) for group in groups]
    assert found == [[0] * 4, [1] * 4, [2] * 4]
    assert not len(stray)


def test_parallel_blocks_with_gaps_are_split():
    heights = np.concatenate([start + 4.0 * np.arange(4) for start in (0, 33, 67)])
    groups, _ = stacks.split(*block(AXIAL, heights))
    assert [sorted(group) for group in groups] == [[8, 9, 10, 11], [4, 5, 6, 7], [0, 1, 2, 3]]


def test_equal_small_blocks_on_the_lattice_are_split():
    heights = np.concatenate([start + 4.0 * np.arange(4) for start in (0, 32, 64)])
    assert len(stacks.split(*block(AXIAL, heights))[0]) == 3


def test_parallel_blocks_off_one_line_are_split():
    first = block(AXIAL, 4.0 * np.arange(4), (0, 0, 0))
    second = block(AXIAL, 4.0 * np.arange(4), (0, 11, 20))
    assert len(stacks.split(*joined(first, second))[0]) == 2


@pytest.mark.parametrize("lost", [(5,), (3, 4), (2, 7)])
def test_missing_slices_are_refused_with_the_gap(lost):
    heights = 3.0 * np.delete(np.arange(11), lost)
    with pytest.raises(Refusal) as error:
        stacks.split(*block(AXIAL, heights))
    assert error.value.code == "MISSING_SLICES"
    assert ("6 mm" if len(lost) == 1 or lost[1] - lost[0] > 1 else "9 mm") in error.value.message


@pytest.mark.parametrize(
    "heights",
    [
        np.delete(np.arange(60.0), np.arange(20, 30)),
        np.concatenate([np.arange(6.0), [31.7]]),
        np.concatenate([np.arange(6.0), 20 + np.arange(4.0)]),
    ],
)
def test_gaps_that_could_be_either_are_refused(heights):
    with pytest.raises(Refusal) as error:
        stacks.split(*block(AXIAL, heights))
    assert error.value.code == "AMBIGUOUS_GAPS"


def test_a_lone_slice_of_another_orientation_is_stray():
    coronal = np.array([1.0, 0, 0, 0, 0, -1])
    groups, stray = stacks.split(*joined(block(AXIAL, np.arange(8.0)), block(coronal, [0.0])))
    assert len(groups) == 1
    assert stray.tolist() == [8]


def test_too_few_slices_are_refused():
    with pytest.raises(Refusal) as error:
        stacks.split(*block(AXIAL, [0.0, 1.0]))
    assert error.value.code == "TOO_FEW_SLICES"


def test_two_slices_at_one_position_are_refused_and_named():
    positions, orientations = block(AXIAL, [0.0, 1, 2, 2, 3])
    assert stacks.same_position(positions, orientations) == [[2, 3]]
    with pytest.raises(Refusal) as error:
        stacks.split(positions, orientations)
    assert error.value.code == "DUPLICATE_POSITION"


def test_jitter_of_micrometres_and_rounding_are_accepted():
    rng = np.random.default_rng(1)
    orientation = np.round(oriented(3), 6)
    positions, orientations = block(orientation, 1.25 * np.arange(20))
    positions = np.round(positions + rng.normal(0, 0.001, positions.shape), 3)
    (order,), _ = stacks.split(positions, orientations)
    found = stacks.geometry(positions[order], orientations, (0.4, 0.4), (64, 64))
    assert found.tilt_deg == 0
    assert 0 < found.deviation_mm < 0.01


def test_uneven_steps_are_refused():
    positions, orientations = block(AXIAL, [0.0, 2, 4, 6.4, 8.4])
    with pytest.raises(Refusal) as error:
        stacks.geometry(positions, orientations, (1, 1), (8, 8))
    assert error.value.code == "VARIABLE_SPACING"


def test_a_slice_pushed_sideways_is_refused():
    positions, orientations = block(AXIAL, 2.0 * np.arange(9))
    positions[4, 0] += 1.0
    for work in (
        lambda: stacks.split(positions, orientations),
        lambda: stacks.geometry(positions, orientations, (1, 1), (8, 8)),
    ):
        with pytest.raises(Refusal) as error:
            work()
        assert error.value.code == "INCONSISTENT_GEOMETRY"


@pytest.mark.parametrize("angle", [-20.0, 5.0, 15.0])
def test_tilt_is_found_from_positions(angle):
    heights = 3.0 * np.arange(10)
    positions = np.stack([0 * heights, np.tan(np.radians(angle)) * heights, heights], axis=1)
    orientations = np.tile(AXIAL, (10, 1))
    (order,), _ = stacks.split(positions, orientations)
    found = stacks.geometry(positions[order], orientations, (1, 1), (8, 8))
    assert found.tilt_deg == pytest.approx(abs(angle), abs=1e-6)


@pytest.mark.parametrize(
    ("orientation", "good"),
    [
        (AXIAL, True),
        (AXIAL[:5], False),
        (AXIAL * 1.01, False),
        (np.array([1, 0, 0, 0.1, 0.995, 0]), False),
        (np.array([1, 0, 0, 0, np.nan, 0]), False),
    ],
)
def test_orientation_must_be_orthonormal(orientation, good):
    assert stacks.check_orientation(orientation) is good


@pytest.mark.parametrize(
    ("angle", "expected"), [(0, "axial"), (40, "axial"), (50, "coronal"), (90, "coronal")]
)
def test_plane_is_the_nearest(angle, expected):
    matrix = Rotation.from_euler("x", angle, degrees=True).as_matrix()
    assert stacks.plane(np.concatenate([matrix[:, 0], matrix[:, 1]])) == expected


def test_plane_far_from_all_is_oblique():
    normal = np.ones(3) / np.sqrt(3)
    row = np.cross(normal, [0, 0, 1])
    row /= np.linalg.norm(row)
    assert stacks.plane(np.concatenate([row, np.cross(normal, row)])) == "oblique"
