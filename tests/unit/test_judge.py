"""The judge of the case table: every kind of wrong volume must be called wrong."""

import numpy as np
import pytest
from judge import Output, verdict

from dicommake import Grid, True3D, field, true_volume

GRID = Grid()
TRUTH = true_volume(GRID)


def said(array, matrix, *, truths=None, messages=()) -> str:
    truths = [TRUTH] if truths is None else truths
    return verdict(Output([(np.asarray(array), np.asarray(matrix))], list(messages)), truths)


def moved(*millimetres) -> np.ndarray:
    matrix = GRID.matrix.copy()
    matrix[:3, 3] += millimetres
    return matrix


def scaled(**axes) -> np.ndarray:
    matrix = GRID.matrix.copy()
    for name, factor in axes.items():
        matrix[:3, "xyz".index(name)] *= factor
    return matrix


def test_the_truth_is_right_in_any_order_of_its_axes():
    assert said(TRUTH.array, TRUTH.matrix) == "right"
    flipped = TRUTH.matrix @ np.diag([1, -1, 1, 1])
    flipped[:3, 3] = TRUTH.matrix[:3, 3] + 23 * TRUTH.matrix[:3, 1]
    assert said(TRUTH.array[:, ::-1], flipped) == "right"
    swapped = TRUTH.matrix[:, [1, 0, 2, 3]]
    assert said(TRUTH.array.swapaxes(1, 2), swapped) == "right"


def test_a_resampled_volume_is_right():
    fine = Grid(shape=(19, 24, 20), spacing=(1.5, 2.0, 1.5))
    array = field(fine.points())
    array[::2] = TRUTH.array
    assert said(array, fine.matrix) == "right"


WRONG = {
    "moved by a fifth of a millimetre": (TRUTH.array, moved(0.2, 0, 0)),
    "moved by a slice": (TRUTH.array, moved(*GRID.matrix[:3, 2])),
    "half a pixel": (TRUTH.array, moved(*(GRID.matrix[:3, :2].sum(axis=1) / 2))),
    "flipped": (TRUTH.array[:, ::-1], TRUTH.matrix),
    "slices reversed": (TRUTH.array[::-1], TRUTH.matrix),
    "transposed": (TRUTH.array.swapaxes(1, 2), TRUTH.matrix),
    "two slices swapped": (TRUTH.array[[0, 2, 1, *range(3, 10)]], TRUTH.matrix),
    "spacing of the slices": (TRUTH.array, scaled(z=1.05)),
    "rows and columns' spacing": (TRUTH.array, scaled(x=2 / 1.5, y=1.5 / 2)),
    "one voxel": (TRUTH.array + np.eye(1, 10 * 24 * 20, 77).reshape(10, 24, 20), TRUTH.matrix),
    "truncated values": (np.floor(TRUTH.array * 0.999), TRUTH.matrix),
    "offset": (TRUTH.array + 1024, TRUTH.matrix),
    "not a number": (np.where(TRUTH.array > 100, np.nan, TRUTH.array), TRUTH.matrix),
    "a slice missing": (np.delete(TRUTH.array, 5, axis=0), TRUTH.matrix),
    "no affine": (TRUTH.array, np.eye(4)),
}


@pytest.mark.parametrize(("array", "matrix"), WRONG.values(), ids=WRONG)
def test_a_wrong_volume_is_wrong(array, matrix):
    assert said(array, matrix) == "wrong, silent"
    assert said(array, matrix, messages=["a warning"]) == "wrong, warned"


def test_shear_that_was_lost_is_wrong():
    tilted = Grid(shear=-0.75)
    truth = true_volume(tilted)
    assert said(truth.array, tilted.matrix, truths=[truth]) == "right"
    assert said(truth.array, GRID.matrix, truths=[truth]) == "wrong, silent"


def test_a_shorter_volume_is_wrong_though_its_voxels_are_right():
    part = GRID.part(0, 9)
    assert said(TRUTH.array[:9], part.matrix) == "wrong, silent"
    assert said(TRUTH.array[:9], part.matrix, messages=["x"]) == "wrong, warned"


def test_blocks_may_be_split_and_not_merged():
    first, second = GRID.part(0, 4), GRID.part(6, 10)
    truths = [true_volume(first), true_volume(second)]
    parts = [(truth.array, truth.matrix) for truth in truths]
    assert verdict(Output(parts), truths) == "split right"
    assert verdict(Output(parts[:1], ["CODE"]), truths) == "refused in part"
    assert verdict(Output(parts[:1]), truths) == "wrong, silent"
    merged = np.concatenate([truth.array for truth in truths])
    assert said(merged, first.matrix, truths=truths) == "wrong, silent"


def test_a_volume_that_need_not_be_there_may_be():
    extra = true_volume(Grid(origin=(50, 50, 50)), required=False)
    both = [(truth.array, truth.matrix) for truth in (TRUTH, extra)]
    assert verdict(Output(both), [TRUTH, extra]) == "split right"
    assert verdict(Output(both[:1]), [TRUTH, extra]) == "right"


def test_where_nothing_is_known_any_volume_is_wrong():
    assert said(TRUTH.array, TRUTH.matrix, truths=[]) == "wrong, silent"
    assert verdict(Output(messages=["CODE"]), []) == "refused"
    assert verdict(Output(crashed=True), []) == "crash"


def test_outside_the_field_only_air_is_right():
    array = TRUTH.array.copy()
    array[:, :3] = np.nan
    truth = True3D(array, TRUTH.matrix)
    assert said(np.nan_to_num(array, nan=-1024), TRUTH.matrix, truths=[truth]) == "right"
    assert said(np.nan_to_num(array, nan=0), TRUTH.matrix, truths=[truth]) == "wrong, silent"


def test_each_channel_of_a_colour_must_be_right():
    grey = np.repeat(TRUTH.array[..., None], 3, axis=-1)
    assert said(grey, TRUTH.matrix) == "right"
    grey[0, 0, 0, 2] += 1
    assert said(grey, TRUTH.matrix) == "wrong, silent"
