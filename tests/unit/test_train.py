"""The training loop: it learns, it goes on bit by bit, it stops well, it refuses what can't be."""

import json
import os
import random as random_
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mrsynth import checkpoint
from mrsynth import train as trainer
from mrsynth.errors import StudyError
from mrsynth.models import paired

TINY = {
    "generator": {"filters": 4, "blocks": 1, "dropout": 0.2},
    "discriminator": {"filters": 4, "strided": 2},
    "pool_size": 2,
    "batch": 2,
    "total_iterations": 12,
    "constant_iterations": 6,
    "decay_iterations": 6,
    "history_every": 4,
    "validation_every": 4,
    "device": "cpu",
}


def _pack(count=5, size=24, seed=0):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    centres = random.uniform(0.3, 0.7, (count, 2))
    source = (
        np.array([(np.hypot(y - a, x - b) < 0.3) * 200.0 for a, b in centres])
        .astype(np.float32)
        .reshape(count, size, size)
    )
    ones = np.ones(source.shape, np.uint8)
    return {
        "source": source,
        "target": (230 - source).astype(np.float32),
        "body": ones,
        "valid": ones,
        "subject": np.array([f"S{number}" for number in range(count)]),
    }


def _train(folder, **cfg):
    return trainer.train(_pack(), _pack(2, seed=1), folder, **{**TINY, **cfg})


def _interrupt_at(monkeypatch, step, number=signal.SIGTERM):
    """A real signal to this process during a step (counted from 1)."""
    plain, calls = paired.Objective.step, []

    def step_(self, batch):
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), number)
        return plain(self, batch)

    monkeypatch.setattr(paired.Objective, "step", step_)


def _same(one, other):
    one, other = load_file(one), load_file(other)
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)


def _history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_training_writes_its_three_files_and_no_state(tmp_path):
    options = _train(tmp_path)
    made = ["events", "history.jsonl", "options.json", "weights.safetensors"]
    assert sorted(os.listdir(tmp_path)) == made
    assert json.loads((tmp_path / "options.json").read_text()) == json.loads(json.dumps(options))
    assert options["discriminator_receptive_field_px"] == 34
    assert options["image_size"] == [24, 24]
    assert options["grey_range"] == [0, 255]
    assert options["training_pairs"] == 5
    assert options["validation_pairs"] == 2
    history = _history(tmp_path)
    assert [entry["iteration"] for entry in history] == [4, 8, 12]
    assert all(0 < entry["validation_mae"] < 255 for entry in history)
    assert {"gan", "l1", "discriminator", "lr", "it_per_s"} <= set(history[0])


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _train(tmp_path / name, seed=seed)
    files = [tmp_path / name / "weights.safetensors" for name in "abc"]
    assert _same(files[0], files[1])
    assert not _same(files[0], files[2])


@pytest.mark.parametrize(
    ("step", "number"),
    [(5, signal.SIGTERM), (7, signal.SIGUSR1), (8, signal.SIGINT)],
    ids=["at an epoch's end", "mid-epoch", "after a validation"],
)
def test_an_interrupted_training_goes_on_bit_by_bit(tmp_path, monkeypatch, step, number):
    _train(tmp_path / "whole")
    _interrupt_at(monkeypatch, step, number)
    with pytest.raises(SystemExit) as stop:
        _train(tmp_path / "parts")
    assert stop.value.code == 75
    assert checkpoint.load(tmp_path / "parts")["iteration"] == step
    _train(tmp_path / "parts")
    assert _same(tmp_path / "whole/weights.safetensors", tmp_path / "parts/weights.safetensors")
    for one, other in zip(_history(tmp_path / "whole"), _history(tmp_path / "parts"), strict=True):
        assert {**one, "it_per_s": 0} == {**other, "it_per_s": 0}


def test_every_bit_of_the_state_goes_on(tmp_path, monkeypatch):
    states = {}

    def keep(state, folder):
        states.setdefault(folder.name, {})[state["iteration"]] = state

    for name, step in (("whole", 10), ("parts", 6)):
        with monkeypatch.context() as patch:
            _interrupt_at(patch, step)
            if name == "whole":
                patch.setattr(checkpoint, "save", keep)
            with pytest.raises(SystemExit):
                _train(tmp_path / name)
    with monkeypatch.context() as patch:
        _interrupt_at(patch, 4)
        patch.setattr(checkpoint, "save", keep)
        with pytest.raises(SystemExit):
            _train(tmp_path / "parts")
    one, other = states["whole"][10], states["parts"][10]
    for state in (one, other):
        state["history"] = [{**entry, "it_per_s": 0} for entry in state["history"]]
        state["seconds"] = 0
    assert _flat(one) == _flat(other)


def _flat(value, prefix=""):
    """A nested state as a dict of comparable leaves."""
    if isinstance(value, dict):
        return {k: v for key in value for k, v in _flat(value[key], f"{prefix}.{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for n, one in enumerate(value) for k, v in _flat(one, f"{prefix}.{n}").items()}
    if isinstance(value, torch.Tensor):
        return {prefix: (tuple(value.shape), value.numpy().tobytes())}
    return {prefix: value}


@pytest.mark.parametrize("lost", ["torch", "python", "optimizers", "extra"])
def test_a_state_without_one_of_its_parts_would_not_go_on_bit_by_bit(tmp_path, monkeypatch, lost):
    _train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        _interrupt_at(patch, 6)
        with pytest.raises(SystemExit):
            _train(tmp_path / "parts")
    state = checkpoint.load(tmp_path / "parts")
    if lost == "optimizers":
        for optimizer in state["optimizers"].values():
            optimizer["state"] = {}
    elif lost == "extra":
        state["extra"] = [{"images": []}]
    elif lost == "python":
        state["random"]["python"] = random_.Random(99).getstate()
    else:
        state["random"]["torch"] = torch.Generator().manual_seed(99).get_state()
    checkpoint.save(state, tmp_path / "parts")
    _train(tmp_path / "parts")
    assert not _same(tmp_path / "whole/weights.safetensors", tmp_path / "parts/weights.safetensors")


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"code": "other"}, {"seed": 9}])
def test_a_state_of_another_training_is_left_aside(tmp_path, monkeypatch, change, caplog):
    with monkeypatch.context() as patch:
        _interrupt_at(patch, 6)
        with pytest.raises(SystemExit):
            _train(tmp_path / "parts")
    with pytest.raises(checkpoint.StateMismatchError, match=next(iter(change))):
        _train(tmp_path / "parts", resume="strict", **change)
    with caplog.at_level("WARNING", logger="mrsynth"):
        _train(tmp_path / "parts", **change)
    assert "training anew" in caplog.text
    assert next(iter(change)) in caplog.text
    _train(tmp_path / "fresh", **change)
    assert _same(tmp_path / "fresh/weights.safetensors", tmp_path / "parts/weights.safetensors")


def test_other_data_are_another_training(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _interrupt_at(patch, 6)
        with pytest.raises(SystemExit):
            _train(tmp_path)
    with pytest.raises(checkpoint.StateMismatchError, match="data"):
        trainer.train(_pack(6), None, tmp_path, resume="strict", **TINY)


@pytest.mark.parametrize(
    ("weights", "patience", "anew"), [("best", 0, True), ("last", 0, False), ("last", 9, True)]
)
def test_other_validation_data_choose_another_best(tmp_path, monkeypatch, weights, patience, anew):
    """Or another end, where a validation decides that."""
    with monkeypatch.context() as patch:
        _interrupt_at(patch, 6)
        with pytest.raises(SystemExit):
            _train(tmp_path, weights=weights, patience=patience)
    cfg = {**TINY, "weights": weights, "patience": patience, "resume": "strict"}
    if anew:
        with pytest.raises(checkpoint.StateMismatchError, match="validation"):
            trainer.train(_pack(), _pack(3, seed=2), tmp_path, **cfg)
    else:
        trainer.train(_pack(), _pack(3, seed=2), tmp_path, **cfg)


def test_the_time_of_all_parts_is_summed(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _interrupt_at(patch, 6)
        with pytest.raises(SystemExit):
            _train(tmp_path)
    state = checkpoint.load(tmp_path)
    assert state["seconds"] > 0
    checkpoint.save({**state, "seconds": 1000.0}, tmp_path)
    assert 1000 < _train(tmp_path)["seconds"] < 1100


def test_how_often_to_report_is_no_other_training(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _interrupt_at(patch, 6)
        with pytest.raises(SystemExit):
            _train(tmp_path)
    _train(tmp_path, resume="strict", report_seconds=1.0, checkpoint_seconds=5.0)


@pytest.mark.parametrize("loss", ["gan", "l1", "discriminator"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(
    tmp_path, monkeypatch, loss, value
):
    plain, calls = paired.Objective.step, []

    def step(self, batch):
        calls.append(1)
        losses = plain(self, batch)
        if len(calls) == 5:
            losses[loss] = torch.tensor(value)
        return losses

    monkeypatch.setattr(paired.Objective, "step", step)
    with pytest.raises(trainer.NotFiniteError, match=rf"loss '{loss}' is .* at iteration 5"):
        _train(tmp_path, checkpoint_seconds=0)
    assert checkpoint.load(tmp_path)["iteration"] == 4
    assert not (tmp_path / "weights.safetensors").exists()


def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch):
    plain, calls = paired.Objective.step, []

    def step(self, batch):
        losses = plain(self, batch)
        calls.append(1)
        if len(calls) == 3:
            next(self.discriminator.parameters()).data[0] = float("nan")
        return losses

    monkeypatch.setattr(paired.Objective, "step", step)
    with pytest.raises(trainer.NotFiniteError, match="discriminator"):
        _train(tmp_path, checkpoint_seconds=0)
    assert checkpoint.load(tmp_path)["iteration"] == 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
    ids=["card", "torch", "python"],
)
def test_too_little_memory_is_said_with_a_way_out(tmp_path, monkeypatch, error):
    def step(self, batch):
        raise error

    monkeypatch.setattr(paired.Objective, "step", step)
    with pytest.raises(StudyError, match=r"train\.batch' = 2 of 24×24 pixels"):
        _train(tmp_path)


def test_other_errors_keep_their_own_words(tmp_path, monkeypatch):
    def step(self, batch):
        raise RuntimeError("something else")

    monkeypatch.setattr(paired.Objective, "step", step)
    with pytest.raises(RuntimeError, match="something else"):
        _train(tmp_path)


def test_a_discriminator_that_wins_is_flagged_once(tmp_path, monkeypatch, caplog):
    plain = paired.Objective.step
    monkeypatch.setattr(
        paired.Objective,
        "step",
        lambda self, batch: {**plain(self, batch), "discriminator": torch.tensor(1e-5)},
    )
    with caplog.at_level("WARNING", logger="mrsynth"):
        _train(tmp_path)
    assert caplog.text.count("collapsed") == 1


def test_empty_synthetic_images_are_flagged(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(trainer, "COLLAPSE_GREY", 300.0)
    with caplog.at_level("WARNING", logger="mrsynth"):
        _train(tmp_path)
    assert caplog.text.count("empty at iteration 4") == 1


def test_regression_learns_the_relation(tmp_path):
    cfg = {"objective": "regression", "learning_rate": 5e-3, "batch": 4}
    cfg |= {"total_iterations": 60, "constant_iterations": 60, "validation_every": 60}
    cfg |= {"generator": {"filters": 8, "blocks": 1}}
    _train(tmp_path, **cfg)
    target = _pack(2, seed=1)["target"]
    knows_no_source = np.abs(target - _pack()["target"].mean(axis=0)).mean()
    assert _history(tmp_path)[-1]["validation_mae"] < 0.6 * knows_no_source


def test_best_weights_are_those_of_the_lowest_validation_error(tmp_path, monkeypatch):
    errors = iter([5.0, 3.0, 4.0])
    plain = trainer.Run.validate

    def validate(self):
        self.held_out = None
        error = next(errors)
        plain(self)
        if self.best is None or error < self.best["mae"]:
            state = self.objective.generator.state_dict()
            weights = {k: v.clone() for k, v in state.items()}
            self.best = {"mae": error, "iteration": self.iteration, "weights": weights}
        return error

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Run, "validate", validate)
        options = _train(tmp_path / "best", weights="best")
    assert options["iteration"] == 8
    _train(tmp_path / "eight", total_iterations=8)
    assert _same(tmp_path / "best/weights.safetensors", tmp_path / "eight/weights.safetensors")


def test_best_is_kept_by_the_real_validation(tmp_path):
    options = _train(tmp_path, weights="best", validation_every=1)
    history = _history(tmp_path)
    best = min(history, key=lambda entry: entry["validation_mae"])
    assert options["iteration"] == best["iteration"]


@pytest.mark.parametrize("validation", [None, _pack(0)], ids=["none", "empty"])
def test_no_validation_subjects_are_no_error(tmp_path, validation):
    options = trainer.train(_pack(), validation, tmp_path, **{**TINY, "weights": "best"})
    assert (options["iteration"], options["weights"]) == (12, "last")
    assert all(entry["validation_mae"] is None for entry in _history(tmp_path))


def test_no_training_pairs_are_an_error(tmp_path):
    with pytest.raises(StudyError, match="no training pairs"):
        trainer.train(_pack(0), None, tmp_path, **TINY)


def test_shuffled_pairs_are_another_training(tmp_path):
    options = _train(tmp_path / "shuffled", shuffle_pairs=True)
    assert options["data"] != _train(tmp_path / "paired")["data"]


def test_patience_ends_a_training_that_gets_no_better(tmp_path):
    options = _train(tmp_path, patience=1, learning_rate=1e-30, weights="best", total_iterations=12)
    assert options["stopped_early"]
    # the rate is too small for any change, so that the second validation is no better
    assert [entry["iteration"] for entry in _history(tmp_path)] == [4, 8]
    assert options["iteration"] == 4
    assert not _train(tmp_path / "whole", learning_rate=1e-30)["stopped_early"]


def test_half_precision_scales_the_loss_and_goes_on_bit_by_bit(tmp_path, monkeypatch):
    assert _train(tmp_path / "whole", precision="fp16")["precision"] == "fp16"
    _interrupt_at(monkeypatch, 5)
    with pytest.raises(SystemExit):
        _train(tmp_path / "parts", precision="fp16")
    assert checkpoint.load(tmp_path / "parts")["scaler"]["scale"] > 1
    _train(tmp_path / "parts", precision="fp16")
    assert _same(tmp_path / "whole/weights.safetensors", tmp_path / "parts/weights.safetensors")


@pytest.mark.parametrize("objective", ["unpaired", "mrgan"])
def test_unpaired_objectives_train_on_pools_and_go_on_bit_by_bit(tmp_path, monkeypatch, objective):
    pools = {"source_pool": _pack(3, seed=5), "target_pool": _pack(4, seed=6)}
    discriminator = {**TINY["discriminator"], "head": 1}
    cfg = {**TINY, "objective": objective, "discriminator": discriminator}

    def run(folder):
        return trainer.train(_pack(), _pack(2, seed=1), folder, pools=pools, **cfg)

    options = run(tmp_path / "whole")
    assert (options["unpaired_source_images"], options["unpaired_target_images"]) == (3, 4)
    assert options["training_pairs"] == (5 if objective == "mrgan" else 0)
    module = __import__(f"mrsynth.models.{objective}", fromlist=["Objective"])
    plain, calls = module.Objective.step, []

    def step(self, batch):
        calls.append(1)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, batch)

    monkeypatch.setattr(module.Objective, "step", step)
    with pytest.raises(SystemExit):
        run(tmp_path / "parts")
    run(tmp_path / "parts")
    assert _same(tmp_path / "whole/weights.safetensors", tmp_path / "parts/weights.safetensors")


def test_unpaired_images_may_be_the_pairs_drawn_apart(tmp_path):
    options = _train(tmp_path, objective="unpaired", unpaired="pairs")
    assert options["unpaired_source_images"] == options["unpaired_target_images"] == 5
    with pytest.raises(StudyError, match=r"train\.unpaired"):
        _train(tmp_path / "none", objective="unpaired", unpaired="pools")


@pytest.mark.parametrize(
    "generator",
    [
        {"kind": "encoder_decoder", "filters": 2, "levels": 4},
        {"kind": "unet", "filters": 4, "levels": 3},
    ],
)
def test_every_generator_trains_and_is_loaded_again(tmp_path, generator):
    from mrsynth import synthesize

    options = _train(tmp_path, generator=generator)
    assert options["generator"]["kind"] == generator["kind"]
    made = synthesize.load(tmp_path / "weights.safetensors", tmp_path / "options.json")
    assert made(_pack(2)["source"]).shape == (2, 24, 24)


SLOW = """
import sys, numpy as np
from mrsynth import train
image = np.zeros((2, 24, 24), np.float32)
one = image + 1
pack = dict(source=image, target=image, body=one, valid=one, subject=np.array(["A", "B"]))
print("ready", flush=True)
train.train(pack, None, sys.argv[1], generator={"filters": 4, "blocks": 1},
            discriminator={"filters": 4, "strided": 2}, device="cpu", report_seconds=0.2)
"""


def test_a_terminated_process_saves_and_exits_with_75(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "it/s," in line:
            break
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 75
    assert checkpoint.load(tmp_path)["iteration"] > 0


class _Names(dict):
    """Named files as Snakemake hands them over: attributes, and values when iterated."""

    __getattr__ = dict.__getitem__

    def __iter__(self):
        return iter(self.values())


def test_the_adapters_train_and_synthesize(tmp_path, monkeypatch):
    folder = tmp_path / "results/train/ct2mr/small/fold-0"
    names = np.array(["n"] * 5)
    np.savez(tmp_path / "train.npz", **_pack(), key=names, name=names)
    np.savez(tmp_path / "validation.npz", **_pack(0), key=names[:0], name=names[:0])
    files = ("weights.safetensors", "history.jsonl", "options.json")
    outputs = _Names((Path(file).stem, str(folder / file)) for file in files)
    fake = SimpleNamespace(
        rule="train",
        input=_Names(train=tmp_path / "train.npz", validation=tmp_path / "validation.npz"),
        output=outputs,
        params=SimpleNamespace(cfg=TINY, code="0123"),
        wildcards=_Names(task="ct2mr", model="small", fold="0"),
        threads=1,
        resources=None,
        log=[str(tmp_path / "logs/train.log")],
    )
    scripts = Path(__file__).parents[2] / "workflow/scripts"
    with monkeypatch.context() as patch:
        _interrupt_at(patch, 6)
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(scripts / "train.py"), {"snakemake": fake})
    assert stop.value.code == 75
    assert sorted(os.listdir(folder)) == ["events", checkpoint.NEWEST]
    runpy.run_path(str(scripts / "train.py"), {"snakemake": fake})
    assert "going on from iteration 6" in (tmp_path / "logs/train.log").read_text()
    assert sorted(os.listdir(folder)) == sorted([*files, "events"])

    fake.rule = "synthesize"
    fake.input = _Names(
        weights=outputs.weights, options=outputs.options, pack=tmp_path / "train.npz"
    )
    fake.output = _Names(synthetic=str(tmp_path / "results/fold-0.npz"))
    fake.params = SimpleNamespace(cfg={"device": "cpu", "batch": 2})
    runpy.run_path(str(scripts / "synthesize.py"), {"snakemake": fake})
    with np.load(tmp_path / "results/fold-0.npz") as made:
        assert made["synthetic"].shape == (5, 24, 24)
