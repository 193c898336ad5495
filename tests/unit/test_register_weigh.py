"""`register`: the signs behind a verdict see what they are there for."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import heads
import numpy as np
import pytest
import SimpleITK as sitk

from bodies import HU, SIGNAL, Body, box, rigid
from mrsynth.register import bone, register, search, weigh
from mrsynth.register.mask import brain, picture_mask
from mrsynth.register.pair import Pair, holds
from mrsynth.register.prepare import Picture
from mrsynth.register.settings import Settings
from mrsynth.register.verdict import GATES, gates, judge
from mrsynth.volume import from_array, to_array

QUICK = {
    "levels_mm": [5.0, 2.5],
    "samples": [4000, 6000],
    "candidates": 6,
    "turn_deg": 0.0,
    "search_mm": [15, 15, 15],
    "flips": False,
}
GRID = box((54, 44, 58), (3, 3, 3), (-79, -65, -86))


@pytest.fixture(scope="module")
def pair():
    body = Body(4)
    settings = Settings.read(QUICK)
    ct, mr = (body.image(values, GRID, np.eye(4), 5) for values in (HU, SIGNAL))
    return Pair([Picture(mr, settings)], [0], Picture(ct, settings), settings, None, True)


def test_restarts_come_back_to_the_right_pose_alone(pair):
    coarse = pair.coarse()
    right = weigh.agreement(pair, np.eye(4), weigh.restart(pair, coarse, np.eye(4)))
    assert right["restart_mm"] < 0.5
    assert right["restart_share"] == 1.0
    wrong = rigid([0, 0, 40], [25, 0, 30])
    found = weigh.agreement(pair, wrong, weigh.restart(pair, coarse, wrong))
    assert found["restart_mm"] > 2.5


def test_restarts_find_a_better_level(pair):
    """A result one vertebra off: the start at the next level ends at the right one, above it."""
    wrong = rigid([0, 0, 0], [0, 0, 35])
    found = weigh.agreement(pair, wrong, weigh.restart(pair, pair.coarse(), wrong))
    assert found["level_rival"] > 1


def test_mirrored_image_fits_better_than_the_result(pair):
    assert weigh.mirror(pair, np.eye(4)) < 0.6
    mr = pair.fixed[0].image
    array = to_array(mr)[:, :, ::-1].copy()
    back = from_array(array, np.diag([3.0, 3, 3, 1]))
    back.SetOrigin((-80.0, -65, -86))
    mirrored = replace(pair, fixed=[Picture(back, pair.settings)])
    sides = mirrored.view(1, [np.eye(4)]).sides()
    best = search.refine(sides, np.eye(4)).pose
    assert weigh.mirror(mirrored, best) > 1.2


def test_sharpness_and_inverse_consistency(pair):
    right = weigh.measures(pair, pair.coarse(), np.eye(4), "rigid")
    wrong = weigh.measures(pair, pair.coarse(), rigid([0, 0, 40], [25, 0, 30]), "rigid")
    assert right["inverse_mm"] < 1 < wrong["inverse_mm"]
    assert right["overlap"] > 0.95
    # Smooth tissue of the same kind: there is a best pose, but those beside it are nearly as good.
    blurred = sitk.SmoothingRecursiveGaussian(pair.fixed[0].image, 8.0)
    dull = replace(pair, fixed=[Picture(blurred, pair.settings)])
    assert (
        weigh.measures(dull, dull.coarse(), np.eye(4), "rigid")["sharpness"]
        < 0.5 * right["sharpness"]
    )


def shell(value: float, inside: float, outside: float, size=60) -> sitk.Image:
    """A hollow ball of 30 mm radius and 3 mm thickness on a grid of 1.5 mm."""
    index = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1)
    radius = np.linalg.norm((index - (size - 1) / 2) * 1.5, axis=-1)
    array = np.where(radius < 28.5, inside, np.where(radius < 31.5, value, outside))
    matrix = np.diag([1.5, 1.5, 1.5, 1])
    return from_array(array.astype(np.float32), matrix)


def test_bone_lies_on_the_dark_layer():
    settings = Settings()
    ct, mr = Picture(shell(1200, 40, -1000), settings), Picture(shell(5, 200, 150), settings)
    box_mm = np.zeros(3), np.full(3, 90.0)
    assert bone.bone_distance(ct, [mr], np.eye(4), box_mm, 1) <= 0.5
    # A shift of 6 mm is 6·|cos| along the normals: 3 mm in the median.
    found = bone.bone_distance(ct, [mr], rigid([0, 0, 0], [6, 0, 0]), box_mm, 1)
    assert 1.5 < found < 4.5
    soft = Picture(shell(60, 40, -1000), settings)
    assert bone.bone_distance(soft, [mr], np.eye(4), box_mm, 1) is None


GOOD = {
    "mi": 0.5,
    "overlap": 0.9,
    "rival": 0.3,
    "restart_mm": 0.5,
    "mirror": 0.7,
    "sharpness": 0.2,
    "inverse_mm": 0.5,
    "repeat_mm": 0.4,
    "peak": 1.0,
    "bone_mm": 1.0,
}


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.key)
def test_every_gate_can_ask_for_review(gate):
    settings = Settings()
    limit = getattr(settings, gate.limit)
    for value, verdict in ((limit, "accepted"), (limit + (0.01 if gate.most else -0.01), "review")):
        got, reasons = judge(GOOD | {gate.key: value}, settings)
        assert got == verdict
        assert any(gate.key in reason for reason in reasons) == (verdict == "review")
        row = next(
            row
            for row in gates(GOOD | {gate.key: value}, settings)
            if row["measure"] == gate.key and row["limit"] == limit
        )
        assert row["passed"] == (verdict == "accepted")
        assert row["side"] == ("most" if gate.most else "least")
    assert judge(GOOD | {gate.key: float("nan")}, settings)[0] != "accepted"


def test_small_overlap_keeps_the_pose():
    assert judge(GOOD | {"overlap": 0.1}, Settings())[0] == "failed"


@pytest.fixture(scope="module")
def head_mr():
    head = heads.Head(7)
    return head, head.image(heads.T2, (90, 104, 40), (2.2, 2.2, 4.0), np.eye(4), 8.0, 1)


def test_brain_is_parted_from_the_scalp(head_mr):
    head, mr = head_mr
    mask = brain(mr)
    index = np.argwhere(np.ones(mask.GetSize()[::-1], bool))[:, ::-1]
    place = np.array([mask.TransformIndexToPhysicalPoint(i.tolist()) for i in index[::7]])
    tissue = head.tissue(place)
    inside = to_array(mask)[tuple(index[::7, ::-1].T)] > 0
    true = np.isin(tissue, (heads.GREY, heads.WHITE, heads.CSF, heads.LESION))
    dice = 2 * (inside & true).sum() / (inside.sum() + true.sum())
    assert dice > 0.85
    # Thick slices cut the vertex obliquely: there it keeps scalp, a body mask all of it.
    assert inside[tissue == heads.SCALP].mean() < 0.3


def test_masks_choose_the_samples_and_nothing_else(pair):
    mr = pair.fixed[0].image
    half = from_array(np.zeros(to_array(mr).shape, np.uint8), np.diag([3.0, 3, 3, 1]))
    half.CopyInformation(mr)
    half[:27, :, :] = 1
    settings = replace(pair.settings, mask="user")
    assert picture_mask(mr, pair.settings, half) is None
    assert picture_mask(mr, settings, half) is half
    masked = replace(pair, fixed=[Picture(mr, settings, half)])
    forward, inverse = masked.view(1, [np.eye(4)]).sides()
    assert forward.groups[0].world[:, 0].max() < 3
    # The other image's samples are those that the pose shows in the mask.
    assert inverse.groups[0].world[:, 0].max() < 3
    assert holds(half, inverse.groups[0].world).all()
    # The image itself is whole.
    assert np.array_equal(inverse.moving.values, pair.view(1, [np.eye(4)]).sides()[1].moving.values)
    ct = pair.moving.image
    found = register(mr, ct, mask="user", masks=(half, None), **QUICK)
    assert np.abs(found.matrix - np.eye(4)).max() < 0.7


def test_adapter_reads_the_users_masks(monkeypatch, tmp_path):
    monkeypatch.setattr("mrsynth.job.run", lambda *_: None)
    script = Path(__file__).parents[2] / "workflow/scripts/register.py"
    adapter = runpy.run_path(str(script), {"snakemake": None})
    path = tmp_path / "mask.nii.gz"
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkUInt8) + 1, str(path))
    job = SimpleNamespace(input={"source_mask": str(path), "target_mask": []})
    assert adapter["mask"](job, "source").GetSize() == (4, 4, 4)
    assert adapter["mask"](job, "target") is None
