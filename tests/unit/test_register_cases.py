"""Lumbar pairs of known truth, right and wrong: a wrong pose is never accepted, whatever breaks is
a verdict, and everything behind a verdict is in the record. The cases are those of
``benchmarks/confusion.py``, on coarser phantoms."""

import importlib
import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from mrsynth import job, register
from mrsynth.crop import write_npz
from mrsynth.geometry import apply
from mrsynth.pack import assemble
from mrsynth.register.figure import write_figure
from mrsynth.register.settings import Settings
from mrsynth.register.verdict import GATES
from mrsynth.volume import affine, from_array, to_array, write_stacks
from mrsynth.warp import linear_matrix, transform_of, warp

ROOT = Path(__file__).parents[2]
SEED = 5151
CT_MM = 3.0
"""The CT's voxel; an error below it is right (C44)."""

QUICK = {
    "levels_mm": [5.0, 3.0],
    "samples": [1000, 5000],
    "block_samples": 4000,
    "search_mm": [20, 40, 80],
    "flips": False,
    "candidates": 10,
}


@pytest.fixture(scope="module")
def confusion():
    """The benchmark as a module, with phantoms of half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        module = importlib.import_module("confusion")
    module.PHANTOM |= {
        "ct_pixel_mm": CT_MM,
        "ct_slice_mm": CT_MM,
        "mr_pixel_mm": 2.5,
        "block_slices_max": 3,
    }
    return module


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("phantoms")


@pytest.fixture(scope="module")
def right(confusion, cache):
    """A right pair with its registration."""
    pair = confusion.make("plain", 0, 1, SEED, cache)
    return pair, *found(pair)


def found(pair, **settings):
    """The whole's and the stacks' registrations of a pair."""
    roi = pair.landmarks if len(pair.landmarks) else None
    return register.register_stacks(
        pair.stacks, pair.ct, roi=roi, aim=pair.aim, **(QUICK | settings)
    )


def errors(pair, single) -> list[float]:
    """Median error of each stack, mm."""
    return [
        float(np.median(np.linalg.norm(apply(result.matrix, points) - truth, axis=1)))
        for result, points, truth in zip(single, pair.points, pair.truth, strict=True)
    ]


@pytest.mark.parametrize(("angle", "length"), [(5, 40), (17, 25), (30, 10)])
def test_c44_a_known_offset_is_undone_or_not_accepted(confusion, cache, angle, length):
    pair = confusion.aligned(confusion.make("plain", 0, 2, SEED, cache))
    rng = np.random.default_rng(angle)
    shift = length * confusion.direction(rng)
    moved = confusion.turned(pair, angle, confusion.direction(rng), shift)
    untouched = [register.Registration(np.eye(4), "failed", {})] * len(moved.stacks)
    assert min(errors(moved, untouched)) > 5
    _, single = found(moved)
    far = errors(moved, single)
    for mm, one in zip(far, single, strict=True):
        assert mm < CT_MM or one.verdict != "accepted", one.measures
    # A search that gives everything up would pass the line above.
    if angle < 30:
        assert np.median(far) < CT_MM
        assert [one for one in single if one.verdict == "accepted"]


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("patient", 1),
        ("patient", 2),
        ("mirrored", 1),
        ("mirrored", 2),
        ("disjoint", 1),
        ("thorax", 1),
        ("head", 1),
    ],
)
def test_c45_what_does_not_belong_together_is_not_accepted(confusion, cache, kind, subject):
    pair = confusion.make(kind, subject, subject, SEED, cache)
    whole, single = found(pair)
    assert "accepted" not in {one.verdict for one in single}, [one.measures for one in single]
    assert all(one.measures["reasons"] for one in single)
    assert whole.verdict in confusion.VERDICTS


def test_c45_a_header_turned_by_90_degrees_is_never_wrong_and_accepted(confusion, cache):
    pair = confusion.make("plain", 0, 1, SEED, cache)
    pair = confusion.turned(confusion.aligned(pair), 90, (0, 1, 0), (0, 0, 0))
    _, single = found(pair)
    for mm, one in zip(errors(pair, single), single, strict=True):
        assert mm < CT_MM or one.verdict != "accepted"


@pytest.mark.parametrize("breaks", ["nan", "flat", "no overlap", "itk", "pose"])
def test_c46_whatever_breaks_is_a_verdict(monkeypatch, right, breaks):
    pair, *_ = right
    stacks, ct, settings = list(pair.stacks), pair.ct, dict(QUICK)
    if breaks == "nan":
        stacks[0] = stacks[0] * float("nan")
    elif breaks == "flat":
        ct = ct * 0
    elif breaks == "no overlap":
        stacks, settings["min_overlap"] = stacks[:1], 0.99
        ct = sitk.RegionOfInterest(ct, [8, 8, 8], [50, 40, 40])
    elif breaks == "itk":

        def crash(*_, **__):
            raise RuntimeError("Exception thrown in SimpleITK: /tmp/secret/Canary^Name.dcm")

        monkeypatch.setattr(sitk, "BinShrink", crash)
    else:
        monkeypatch.setattr(register.search, "_small", lambda _: np.full((4, 4), np.nan))
    whole, single = register.register_stacks(stacks, ct, roi=pair.landmarks, **settings)
    volume = register.register(stacks[0], ct, **settings)
    for result in (whole, volume, *single):
        assert result.verdict == "failed", result.measures
        assert np.isfinite(result.matrix).all()
        assert result.measures["reasons"]
        assert "Canary" not in json.dumps(result.measures["reasons"])
    assert len(single) == len(stacks)


def test_c47_every_gate_is_recorded_with_value_and_threshold(right):
    _, whole, single = right
    settings = Settings.read(dict(QUICK))
    thresholds = {value for value in vars(settings).values() if isinstance(value, float)}
    for result in (whole, *single):
        gates = {gate["measure"]: gate for gate in result.measures["gates"]}
        for gate in gates.values():
            assert set(gate) >= {"measure", "value", "limit", "side", "passed"}
            assert gate["side"] in ("most", "least")
            if gate["value"] is not None:
                kept = (
                    gate["value"] <= gate["limit"]
                    if gate["side"] == "most"
                    else gate["value"] >= gate["limit"]
                )
                assert gate["passed"] == kept, gate
        # The plan's list: overlap, other starts, a perturbed null, repeat, and chance.
        assert {"overlap", "rival", "peak", "repeat_mm", "mi"} <= set(gates)
        assert {gate["limit"] for gate in gates.values()} <= thresholds
    # A threshold that no gate reads would be a setting without effect.
    read = {gate.limit for gate in GATES} | {"fail_mi"}
    assert {name for name in vars(settings) if name.startswith(("accept_", "fail_"))} == read


def test_c47_a_threshold_of_the_config_decides(right):
    pair, _, single = right
    assert {one.verdict for one in single} == {"accepted"}
    _, strict = found(pair, accept_repeat_mm=1e-6)
    for one in strict:
        (gate,) = (gate for gate in one.measures["gates"] if gate["measure"] == "repeat_mm")
        assert one.verdict == "review"
        assert (gate["limit"], gate["passed"]) == (1e-6, False)


def test_c48_each_stack_is_rigid_and_follows_its_own_vertebrae(confusion, cache):
    pair = confusion.read_pair(cache, SEED, 3, level_change_deg=7.0)
    whole, single = found(pair)
    for result in (whole, *single):
        turn = result.matrix[:3, :3]
        assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(turn) == pytest.approx(1)
    together = errors(pair, [whole] * len(single))
    alone = errors(pair, single)
    assert max(alone) < max(together)
    # Nothing blends the stacks: without its neighbours a stack ends where it ended beside them.
    settings = Settings.read(dict(QUICK))
    images = register._pair(pair.stacks, pair.ct, settings, pair.landmarks, (None, None))
    alone = replace(images, fixed=[*[None] * (len(single) - 1), images.fixed[-1]])
    last = register._stack(alone, len(single) - 1, whole, settings)
    assert np.array_equal(last.matrix, single[-1].matrix)


REPEAT = """
import json, sys
import SimpleITK as sitk
from mrsynth.register import register_stacks
from mrsynth.volume import read_stacks
folder, settings = sys.argv[1], json.loads(sys.argv[2])
stacks, ct = read_stacks(folder, "t2ax"), read_stacks(folder, "ct")[0]
whole, single = register_stacks(stacks, ct, **settings)
print(json.dumps([[r.matrix.tobytes().hex(), r.verdict] for r in (whole, *single)]))
"""


def test_c49_a_repeat_in_another_process_is_bit_identical(cache, right):
    pair, whole, single = right
    settings = QUICK | {"roi": pair.landmarks.tolist(), "aim": pair.aim.tolist()}
    folder = str(cache / f"{SEED}-1")
    run = subprocess.run(
        [sys.executable, "-c", REPEAT, folder, json.dumps(settings)],
        env=os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    again = json.loads(run.stdout.splitlines()[-1])
    assert again == [[r.matrix.tobytes().hex(), r.verdict] for r in (whole, *single)]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, right, confusion):
    """What the adapter of `register` writes, from a folder with a name that must not get out."""
    pair, *_ = right
    folder = tmp_path_factory.mktemp("Canary^Name")
    out = tmp_path_factory.mktemp("results")
    write_stacks(pair.stacks, folder / "stacks", "target")
    write_stacks([pair.ct], folder / "stacks", "source")
    record_in, landmarks = folder / "in.json", folder / "landmarks.json"
    job.write_json({"status": "made"}, record_in)
    discs = [{"centre_mm": point} for point in pair.landmarks[:7].tolist()]
    canal = pair.landmarks[7:].tolist()
    job.write_json({"status": "made", "discs": discs, "canal": canal}, landmarks)
    outputs = {name: out / f"sub-ABCDEFGH.{name}" for name in ("tfm", "json", "png")}
    snakemake = SimpleNamespace(
        rule="register",
        input=Names(stacks=folder / "stacks", record_in=record_in, landmarks=landmarks),
        output=Names(transform=outputs["tfm"], record=outputs["json"], figure=outputs["png"]),
        params=SimpleNamespace(cfg=QUICK | {"fixed": "target", "landmarks_frame": "moving"}),
        wildcards=Names(subject="ABCDEFGH", task="lumbar"),
        resources=SimpleNamespace(),
        log=[str(out / "sub-ABCDEFGH.log")],
        threads=1,
    )
    runpy.run_path(
        str(ROOT / "workflow/scripts/register.py"), init_globals={"snakemake": snakemake}
    )
    return pair, out


class Names:
    """Snakemake's named lists: attributes, ``items`` and ``get``."""

    def __init__(self, **entries):
        self._entries = {name: str(value) for name, value in entries.items()}
        vars(self).update(self._entries)

    def items(self):
        return self._entries.items()

    def get(self, name, default=None):
        return self._entries.get(name, default)


def test_c50_record_and_figure_hold_numbers_and_no_identity(adapted):
    _, out = adapted
    record = job.read_json(out / "sub-ABCDEFGH.json")
    assert record["status"] == "made"
    assert len(record["stacks"]) == 3
    for entry in (record, *record["stacks"]):
        assert entry["verdict"] in ("accepted", "review", "failed")
        assert entry["measures"]["gates"]
        assert np.shape(entry["matrix"]) == (4, 4)
    assert (out / "sub-ABCDEFGH.png").stat().st_size > 50_000
    for path in out.iterdir():
        assert b"Canary" not in path.read_bytes()


def test_c50_the_figure_follows_from_the_record(adapted, tmp_path):
    pair, out = adapted
    record = job.read_json(out / "sub-ABCDEFGH.json")
    whole, *single = (register.Registration(**pick(entry)) for entry in (record, *record["stacks"]))
    write_figure(
        tmp_path / "again.png",
        pair.stacks,
        pair.ct,
        whole,
        single,
        stack_note="sub-ABCDEFGH",
        spine=pair.landmarks,
    )
    one, other = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(int)
        for path in (tmp_path / "again.png", out / "sub-ABCDEFGH.png")
    )
    assert one.shape == other.shape
    # The images were written and read between the two: grey levels may differ by rounding.
    assert np.mean(np.abs(one - other) > 2) < 0.01


def pick(entry: dict) -> dict:
    """A record's entry as a registration's arguments."""
    names = ("verdict", "measures", "posed")
    return {"matrix": np.array(entry["matrix"])} | {name: entry[name] for name in names}


def crops(verdicts) -> dict:
    """A crop file of one slice per verdict; its grey value tells which."""
    count, shape = len(verdicts), (40, 40)
    levels = np.arange(1.0, count + 1)[:, None, None] * np.ones(shape)
    return {
        "source": levels.astype(np.float32),
        "target": levels.astype(np.float32),
        "body": np.ones((count, *shape), np.uint8),
        "valid": np.ones((count, *shape), np.uint8),
        "posed": np.ones(count, np.uint8),
        "pixel_mm": np.ones((count, 2), np.float32),
        "name": np.array([f"disc-{n}" for n in range(count)]),
        "key": np.array([f"stack-{n + 1}_slice-01" for n in range(count)]),
        "verdict": np.array(verdicts),
        "sac_px": np.full((count, 2), 20, np.float32),
        "ventral_mm": np.full(count, 10, np.float32),
        "lateral_mm": np.full(count, 10, np.float32),
    }


@pytest.mark.parametrize("role", ["train", "validation"])
def test_c51_only_accepted_slices_reach_training(tmp_path, role):
    made = crops(["accepted", "review", "failed", "accepted"])
    write_npz(made, tmp_path / "crop.npz")
    record = {"status": "made"}
    packed, entries = assemble(
        [made],
        [record],
        [made],
        [record],
        subjects=["ABCDEFGH"],
        train_subjects=["ABCDEFGH"],
        role=role,
        size=(16, 16),
    )
    assert sorted(packed["key"]) == ["stack-1_slice-01", "stack-4_slice-01"]
    assert set(np.round(packed["target"].max(axis=(1, 2)))) == {1, 4}
    assert {reason["code"] for reason in entries["left_out"]} == {"VERDICT"}


def test_c51_training_reads_packs_and_nothing_else():
    rules = (ROOT / "workflow/rules/learn.smk").read_text()
    block = re.search(r"rule train:.*?\n    output:", rules, re.DOTALL).group(0)
    inputs = block.split("input:")[1]
    assert re.findall(r"^ +(\w+)=", inputs, re.MULTILINE)[:2] == ["train", "validation"]
    # Besides, packs of subjects with one image alone, where there is nothing to register.
    assert set(re.findall(r"lambda w: (\w+)", inputs)) <= {"pool_pack"}
    functions = (ROOT / "workflow/inputs/learn.smk").read_text()
    pool = re.search(r"def pool_pack.*?(?=\ndef |\Z)", functions, re.DOTALL).group(0)
    paths = re.findall(r'"([^"]*/[^"]*)"', inputs) + re.findall(r'"(results/[^"]*)"', pool)
    assert len(paths) >= 2
    assert all(path.startswith("results/pack/") for path in paths)
    defaults = yaml.safe_load((ROOT / "workflow/schemas/pack.schema.yaml").read_text())
    assert defaults["properties"]["verdicts"]["default"] == ["accepted"]


def test_c52_the_written_transform_goes_from_fixed_to_moving(adapted):
    pair, out = adapted
    record = job.read_json(out / "sub-ABCDEFGH.json")
    written = sitk.ReadTransform(str(out / "sub-ABCDEFGH.tfm"))
    assert np.allclose(linear_matrix(written), record["matrix"])
    for points, truth, entry in zip(pair.points, pair.truth, record["stacks"], strict=True):
        transform = transform_of(np.array(entry["matrix"]))
        there = np.array([transform.TransformPoint(point) for point in points.tolist()])
        assert np.median(np.linalg.norm(there - truth, axis=1)) < CT_MM
        back = transform.GetInverse()
        again = np.array([back.TransformPoint(point) for point in truth.tolist()])
        assert np.median(np.linalg.norm(again - points, axis=1)) < CT_MM
        # The two frames are far apart, so that the wrong sense can't pass by chance.
        wrong = np.array([transform.TransformPoint(point) for point in truth.tolist()])
        assert np.median(np.linalg.norm(wrong - points, axis=1)) > 50


def test_c52_a_mark_in_the_moving_image_lands_on_its_fixed_point(adapted):
    pair, out = adapted
    entry = job.read_json(out / "sub-ABCDEFGH.json")["stacks"][1]
    stack = pair.stacks[1]
    index = apply(np.linalg.inv(affine(stack)), pair.points[1])
    at = int(np.argmin(np.linalg.norm(index - (np.array(stack.GetSize()) - 1) / 2, axis=1)))
    grid = np.stack(np.meshgrid(*map(np.arange, pair.ct.GetSize()), indexing="ij"), -1)
    away = np.linalg.norm(apply(affine(pair.ct), grid) - pair.truth[1][at], axis=-1)
    mark = from_array((away < 9).T.astype(np.float32), affine(pair.ct))
    laid = to_array(warp(mark, stack, transform_of(np.array(entry["matrix"])), pad=0.0))
    place = apply(affine(stack), np.argwhere(laid > 0.5)[:, ::-1]).mean(axis=0)
    assert np.linalg.norm(place - pair.points[1][at]) < 4
