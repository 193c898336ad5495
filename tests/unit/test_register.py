"""`register`: known poses are found, in the sense fixed → moving, and hopeless pairs are said to
be so."""

import runpy
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bodies import HU, SIGNAL, Body, box, rigid
from mrsynth.errors import StudyError
from mrsynth.register import Registration, prepare, register, register_stacks, search
from mrsynth.register.landmarks import aim, region
from mrsynth.register.pair import Pair
from mrsynth.register.prepare import Picture
from mrsynth.register.settings import Settings
from mrsynth.register.similarity import Moving, Points, mutual_information, sample, similarity
from mrsynth.register.verdict import judge
from mrsynth.volume import affine, read_volume, to_array
from mrsynth.warp import body as body_mask
from mrsynth.warp import linear_matrix

QUICK = {
    "levels_mm": [5.0, 2.5],
    "samples": [3000, 6000],
    "candidates": 9,
    "turn_deg": 0.0,
    "block_samples": 5000,
    "search_mm": [20, 20, 40],
}


def error(found: np.ndarray, truth: np.ndarray, points=None) -> float:
    """Largest distance over the body's corners, mm."""
    if points is None:
        points = np.array([[x, y, z] for x in (-50, 50) for y in (-40, 40) for z in (-60, 60)])
    difference = found - truth
    return float(np.linalg.norm(points @ difference[:3, :3].T + difference[:3, 3], axis=1).max())


CT_GRID = box((80, 66, 88), (2, 2, 2), (-79, -65, -87))


@pytest.fixture(scope="module")
def body():
    return Body()


@pytest.fixture(scope="module")
def ct(body):
    return body.image(HU, CT_GRID, np.eye(4), 10)


@pytest.fixture(scope="module")
def shifted_mr(body):
    """An MR whose true pose to the CT is known."""
    truth = rigid([4, -6, 8], [12, -9, 15])
    grid = box((80, 64, 44), (2, 2, 4), (-82, -58, -98))
    return body.image(SIGNAL, grid, truth, 5), truth


def test_known_pose_is_found_in_both_directions(ct, shifted_mr):
    mr, truth = shifted_mr
    found = register(mr, ct, **QUICK)
    assert found.verdict == "accepted", found.measures
    assert error(found.matrix, truth) < 1.0
    # ITK's sense: a point of the fixed image goes to its place in the moving image.
    point = (10.0, 20.0, -30.0)
    assert np.allclose(found.transform.TransformPoint(point), (truth @ [*point, 1])[:3], atol=1.0)
    back = register(ct, mr, **QUICK)
    assert error(back.matrix, np.linalg.inv(truth)) < 1.0


def test_same_seed_same_result(ct, shifted_mr):
    mr, _ = shifted_mr
    settings = QUICK | {"flips": False}
    one, other = register(mr, ct, **settings), register(mr, ct, **settings)
    assert np.array_equal(one.matrix, other.matrix)
    assert one.measures == other.measures


@pytest.mark.parametrize("turn", [[180, 0, 0], [0, 180, 0], [0, 0, 180]])
def test_half_turns_are_undone(body, ct, turn):
    truth = rigid(turn, [8, 5, -7]) @ rigid([2, 3, -2], [0, 0, 0])
    mr = body.image(SIGNAL, box((80, 64, 44), (2, 2, 4), (-82, -62, -90)), truth, 5)
    assert error(register(mr, ct, **QUICK).matrix, truth) < 1.5
    assert error(register(mr, ct, **QUICK, flips=False).matrix, truth) > 20


def test_affine_finds_a_stretch(body, ct):
    truth = rigid([3, 2, -4], [5, -8, 3]) @ np.diag([1.06, 0.96, 1.04, 1])
    mr = body.image(SIGNAL, box((80, 66, 44), (2, 2, 4), (-79, -60, -88)), truth, 5)
    settings = QUICK | {"flips": False}
    assert error(register(mr, ct, transform="affine", **settings).matrix, truth) < 1.2
    assert error(register(mr, ct, **settings).matrix, truth) > 2


def test_a_slab_is_never_stretched(body, ct):
    truth = rigid([0, 0, 3], [4, -2, 5]) @ np.diag([1.06, 0.96, 1.0, 1])
    slab = body.image(SIGNAL, box((80, 66, 5), (2, 2, 4), (-79, -60, -10)), truth, 5)
    found = register(slab, ct, transform="affine", flips=False, **QUICK)
    assert np.allclose(np.linalg.svd(found.matrix[:3, :3])[1], 1, atol=1e-9)
    assert found.measures["transform"] == "rigid"


@pytest.mark.parametrize("engine", ["simpleitk", "ants"])
def test_other_engines_mean_the_same_transform(engine, ct, shifted_mr):
    if engine == "ants":
        pytest.importorskip("ants")
    mr, truth = shifted_mr
    settings = QUICK | {"levels_mm": [5.0], "samples": [1500], "flips": False}
    found = register(mr, ct, engine=engine, **settings)
    assert error(found.matrix, truth) < 2.0
    assert found.measures["engine"] == engine


@pytest.fixture(scope="module")
def bent(body):
    """Three tilted stacks in one frame; each has its own true pose, a little off the common one."""
    common = rigid([3, -2, 4], [6, 8, -10])
    stacks, truths = [], []
    for number, z in enumerate((-45, 0, 45)):
        tilt = Rotation.from_rotvec(np.radians([10.0 * (number - 1), 0, 0])).as_matrix()
        grid = box((72, 56, 4), (2, 2, 4), np.array([-77, -63, z + 4]), tilt)
        own = rigid([2.5 * (number - 1), 0, 0], [0, 1.5 * (number - 1), 0]) @ common
        stacks.append(body.image(SIGNAL, grid, own, 5, seed=number))
        truths.append(own)
    return stacks, truths


def test_stacks_are_refined_one_by_one(bent, ct):
    stacks, truths = bent
    whole, single = register_stacks(stacks, ct, flips=False, **QUICK)
    assert whole.verdict == "accepted", whole.measures
    for stack, truth, found in zip(stacks, truths, single, strict=True):
        centre = np.array(stack.TransformContinuousIndexToPhysicalPoint((35.5, 27.5, 1.5)))
        near = centre + np.array([[x, y, 0] for x in (-30, 30) for y in (-30, 30)])
        assert error(found.matrix, truth, near) < 1.5
        assert np.allclose(np.linalg.svd(found.matrix[:3, :3])[1], 1, atol=1e-9)
    ends = [error(whole.matrix, truth) for truth in (truths[0], truths[2])]
    assert max(ends) > 2
    assert single[0].measures["from_whole_mm"] > 0.3


def test_bridge_and_region_take_part(body, bent, ct):
    stacks, truths = bent
    bridge = body.image(SIGNAL, box((40, 64, 76), (4, 2, 2), (-79, -66, -70)), truths[1], 5)
    canal = (truths[1] @ np.array([[0, 0, z, 1.0] for z in range(-50, 51, 10)]).T).T[:, :3]
    settings = QUICK | {"flips": False}
    whole, single = register_stacks([stacks[1]], ct, bridge=bridge, roi=canal, **settings)
    assert error(whole.matrix, truths[1]) < 1.5
    assert len(single) == 1


def test_several_stacks_are_never_stretched(bent, ct, caplog):
    settings = QUICK | {"flips": False}
    whole, single = register_stacks(bent[0][:2], ct, transform="affine", **settings)
    assert "rigidly" in caplog.text
    for result in (whole, *single):
        assert result.measures["transform"] == "rigid"
        assert np.allclose(np.linalg.svd(result.matrix[:3, :3])[1], 1, atol=1e-9)


def test_limits_are_told_per_axis(monkeypatch, bent, ct):
    stacks, truths = bent
    settings = Settings.read(QUICK)
    pair = Pair([Picture(stacks[1], settings)], [0], Picture(ct, settings), settings)
    start = rigid([0, 0, 0], [2, 0, 0]) @ truths[1]
    sides = pair.view(1, [start]).sides(count=3000)
    narrow, wide = (
        search.refine(sides, start, stiffness=(0.0, 8.0, limit)) for limit in (1.0, 10.0)
    )
    assert narrow.bounded
    assert not wide.bounded
    assert not search.refine(sides, start).bounded
    # The limits are those of the whole's pose, wherever the search begins.
    moved = search.refine(sides, start, start=truths[1], stiffness=(0.0, 8.0, 1.0))
    centre = search.centre_of(sides)
    assert np.abs((moved.pose - start) @ [*centre, 1])[:3].max() < 1 + 1e-6

    refine = search.refine
    monkeypatch.setattr(
        search,
        "refine",
        lambda *a, **k: replace(refine(*a, **k), bounded=k.get("stiffness") is not None),
    )
    _, (single,) = register_stacks([stacks[1]], ct, flips=False, **QUICK)
    assert single.measures["from_whole_mm"] < 10
    assert single.measures["at_limit"]
    assert single.verdict == "review"


def test_ct_is_told_by_the_whole_and_not_by_the_box(ct):
    picture = Picture(ct, Settings())
    inside = (np.full(3, -25.0), np.full(3, 25.0))
    assert to_array(prepare.crop(ct, *inside)).min() > -500
    part, whole = picture.layer(2.5, inside).moving.values, picture.layer(2.5).moving.values
    assert part.max() == pytest.approx(whole.max(), abs=0.5)


@pytest.mark.parametrize("case", ["flat", "nan", "noise", "slab too far"])
def test_hopeless_pairs_fail_without_a_traceback(case, ct, shifted_mr):
    mr, _ = shifted_mr
    settings = QUICK | {"flips": False}
    array = to_array(mr)
    if case == "flat":
        array[:] = 7
    elif case == "nan":
        array[3, 3, 3] = np.nan
    elif case == "noise":
        array = np.random.default_rng(0).rayleigh(100, array.shape).astype(np.float32)
    other = sitk.GetImageFromArray(array)
    other.CopyInformation(mr)
    if case == "slab too far":
        settings |= {"min_overlap": 0.9, "search_mm": [0, 0, 0]}
        other = sitk.RegionOfInterest(mr, [80, 64, 8], [0, 0, 0])
        small = sitk.RegionOfInterest(ct, [20, 20, 20], [30, 22, 30])
        found = register(other, small, **settings)
    else:
        found = register(other, ct, **settings)
    assert found.verdict == "failed", found.measures
    assert found.measures["reasons"]
    whole, single = register_stacks([other, other], ct, **settings)
    if case in ("flat", "nan"):
        assert whole.verdict == "failed"
        assert [r.verdict for r in single] == ["failed", "failed"]
        assert np.array_equal(whole.matrix, np.eye(4))
        assert not any(r.posed for r in (whole, *single))


def test_a_crashing_engine_is_a_failed_verdict(monkeypatch, ct, shifted_mr):
    def crash(*_):
        raise RuntimeError("out of its depth")

    monkeypatch.setattr("mrsynth.register.engine_pose", crash)
    found = register(shifted_mr[0], ct, engine="simpleitk", flips=False, **QUICK)
    assert found.verdict == "failed"
    assert found.measures["reasons"] == ["RuntimeError"]
    assert not found.posed


def test_a_stack_that_fails_alone_is_posed_with_the_whole(monkeypatch, bent, ct):
    def crash(*_):
        raise RuntimeError("out of its depth")

    monkeypatch.setattr("mrsynth.register._stack", crash)
    whole, single = register_stacks(bent[0][:2], ct, flips=False, **QUICK)
    assert whole.posed
    for result in single:
        assert result.verdict == "failed"
        assert result.posed
        assert np.array_equal(result.matrix, whole.matrix)


@pytest.mark.parametrize(
    ("bridge", "status", "expected"),
    [
        ([], None, (None, "none")),
        ("b.nii.gz", "made", ("b.nii.gz", "used")),
        ("b.nii.gz", "refused", (None, "refused")),
    ],
)
def test_adapter_leaves_a_refused_bridge_out(monkeypatch, tmp_path, bridge, status, expected):
    monkeypatch.setattr("mrsynth.job.run", lambda *_: None)
    script = Path(__file__).parents[2] / "workflow/scripts/register.py"
    adapter = runpy.run_path(str(script), {"snakemake": None})
    record = tmp_path / "b.json"
    record.write_text(f'{{"status": "{status}"}}')
    given = {"bridge": bridge, "bridge_record": str(record) if bridge else []}
    assert adapter["usable_bridge"](SimpleNamespace(input=given)) == expected
    names = adapter["entry"](Registration(np.eye(4), "failed", {}, posed=False))
    assert names["posed"] is False


def test_adapter_looks_along_the_spine_only_in_the_moving_frame(monkeypatch, tmp_path):
    monkeypatch.setattr("mrsynth.job.run", lambda *_: None)
    script = Path(__file__).parents[2] / "workflow/scripts/register.py"
    adapter = runpy.run_path(str(script), {"snakemake": None})
    record = tmp_path / "landmarks.json"
    record.write_text('{"discs": []}')
    assert adapter["spine_of"](str(record), "moving") == {"discs": []}
    assert adapter["spine_of"](str(record), "fixed") == {}
    assert adapter["spine_of"]([], "moving") == {}


GOOD = {"mi": 0.5, "overlap": 0.9, "rival": 0.3, "repeat_mm": 0.4, "peak": 1.0}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "accepted"),
        ({"rival": 0.98}, "review"),
        ({"rival": None}, "accepted"),
        ({"repeat_mm": 4.0}, "review"),
        ({"repeat_mm": float("nan")}, "review"),
        ({"peak": 0.8}, "review"),
        ({"overlap": 0.5}, "review"),
        ({"overlap": 0.1}, "failed"),
        ({"at_limit": True}, "review"),
        ({"mi": 0.01}, "failed"),
        ({"mi": float("nan")}, "failed"),
    ],
)
def test_verdict(change, verdict):
    got, reasons = judge(GOOD | change, Settings())
    assert got == verdict
    assert bool(reasons) == (verdict != "accepted")


def test_rival_one_period_off_asks_for_review():
    """A ladder of like vertebrae: a short stack fits at several rungs, and the verdict says so."""

    def ladder(world):
        inside = np.hypot(world[..., 0], world[..., 1]) < 55
        rung = np.abs((world[..., 2] + 15) % 30 - 15) < 8
        core = np.hypot(world[..., 0] - 9, world[..., 1] + 5) < 30
        return np.where(inside, 1 + core + (rung & core), 0)

    periodic = Body()
    periodic.tissue = ladder
    ct = periodic.image(HU, box((70, 70, 110), (2, 2, 2), (-69, -69, -109)), np.eye(4), 10)
    mr = periodic.image(SIGNAL, box((64, 64, 8), (2, 2, 4), (-63, -63, -12)), np.eye(4), 5)
    found = register(mr, ct, flips=False, level_shift_mm=30.0, **QUICK)
    assert found.measures["rival"] > 0.75
    assert found.verdict == "review"


def test_gradient_is_the_derivative():
    generator = np.random.default_rng(0)
    values = ndimage.gaussian_filter(generator.standard_normal((20, 22, 24)), 2)
    values = prepare.to_bins(values, values.min(), values.max())
    moving = Moving(values, np.linalg.inv(np.diag([2.0, 2, 3, 1])))
    world = generator.uniform(10, 30, (800, 3))
    spread = np.array([[0, 0, -1.0], [0, 0.5, 1.0]])
    pose = rigid([2, -3, 1], [1, 2, 3])
    # Related values: the gradient is then no sum of noise that cancels.
    true = world @ pose[:3, :3].T + pose[:3, 3] + [1.5, -1, 2]
    level = sample(moving, true / [2, 2, 3])[0].astype(int)
    group = Points(world, level, spread)
    _, gradient = similarity([group], moving, pose, 0.1)
    for row, column in ((0, 0), (1, 2), (2, 3), (0, 3)):
        step = np.zeros((4, 4))
        step[row, column] = 1e-3
        ends = [similarity([group], moving, pose + s * step, 0.1)[0] for s in (1, -1)]
        assert gradient[row, column] == pytest.approx(
            (ends[0] - ends[1]) / 2e-3, rel=0.05, abs=1e-5
        )


def test_mutual_information_of_equal_and_of_independent_values():
    level = np.random.default_rng(0).integers(4, 28, 50000)
    same, _ = mutual_information(level, level.astype(float))
    none, _ = mutual_information(level, np.random.default_rng(1).permutation(level).astype(float))
    assert 1.5 < same < np.log(24)
    assert none < 0.02


def test_region_from_landmarks():
    record = {"discs": [{"centre_mm": [1, 2, 3]}], "canal": [[4, 5, 6], [7, 8, 9]]}
    assert region(record).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert region({"discs": []}) is None
    record["discs"].append({"centre_mm": [3, 2, 1]})
    assert aim(record).tolist() == [2, 2, 2]
    assert aim({"canal": [[4, 5, 6]]}) is None
    assert (region({}), aim({})) == (None, None)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"engine": "elastix"}, "engine"),
        ({"transform": "bspline"}, "transform"),
        ({"mask": "skull"}, "mask"),
        ({"turn_deg": 200}, "turn_deg"),
        ({"turn_step_deg": 1}, "turn_step_deg"),
        ({"levels_mm": [5.0]}, "levels_mm"),
        ({"levels_mm": [1.0, 5.0], "samples": [100, 100]}, "levels_mm"),
        ({"search_step_mm": 0}, "search_step_mm"),
        ({"ct_window_hu": [400, -200]}, "ct_window_hu"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_settings_are_named(settings, key, ct):
    with pytest.raises(StudyError, match=key):
        register(ct, ct, **settings)


def test_perturbed_poses_move_as_told():
    centre = np.array([10.0, 0, -5])
    poses = search.perturbed(rigid([0, 0, 90], [1, 2, 3]), centre, 3.0)
    start = rigid([0, 0, 90], [1, 2, 3])
    assert len(poses) == 12
    moved = [np.linalg.norm((p @ [*centre, 1] - start @ [*centre, 1])[:3]) for p in poses]
    assert np.allclose(sorted(moved), [0] * 6 + [3] * 6, atol=1e-9)


def test_schema_and_settings_have_the_same_defaults():
    path = Path(__file__).parents[2] / "workflow/schemas/register.schema.yaml"
    properties = yaml.safe_load(path.read_text())["properties"]
    defaults = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(Settings()).items()
    }
    # The adapter turns the masks' file names into images.
    assert {key: part["default"] for key, part in properties.items()} == defaults | {
        "mask_files": None
    }


RIRE = Path(__file__).parents[3] / "shared/data/rire_001"


@pytest.mark.shared
@pytest.mark.skipif(not RIRE.exists(), reason="the real data are not here")
@pytest.mark.parametrize("side", ["mr", "ct"])
def test_rire_head_against_its_fiducials(side):
    """CT and T1 of a head, 43 mm apart, 26 slices of 4 mm; truth from fiducials."""
    ct, mr = (read_volume(RIRE / f"{name}_example.nii.gz") for name in ("ct", "mri_t1"))
    name = "training_001_ct_to_mr_T1_ground_truth.tfm"
    truth = linear_matrix(sitk.ReadTransform(str(RIRE / name)))
    found = register(mr, ct) if side == "mr" else register(ct, mr)
    matrix = np.linalg.inv(found.matrix) if side == "mr" else found.matrix
    index = np.argwhere(to_array(body_mask(ct)) > 0)[::500, ::-1]
    head = index @ affine(ct)[:3, :3].T + affine(ct)[:3, 3]
    difference = matrix - truth
    errors = np.linalg.norm(head @ difference[:3, :3].T + difference[:3, 3], axis=1)
    assert found.verdict == "accepted"
    assert np.median(errors) < 1.3
    assert errors.max() < 2.5
