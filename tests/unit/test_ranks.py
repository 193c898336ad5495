"""Two processes train one model as one process does; they stop together and fail together."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
from safetensors.torch import load_file

from mrsynth import checkpoint
from mrsynth import train as trainer
from mrsynth.errors import StudyError

CFG = {
    "generator": {"filters": 4, "blocks": 1},
    "discriminator": {"filters": 4, "strided": 2, "head": 1},
    "batch": 2,
    "total_iterations": 6,
    "constant_iterations": 3,
    "decay_iterations": 3,
    "history_every": 3,
    "validation_every": 3,
    "l1_region": "image",
    "device": "cpu",
    "tensorboard": False,
}


def _pack(count=4, seed=0):
    random = np.random.default_rng(seed)
    source = random.uniform(0, 255, (count, 24, 24)).astype(np.float32)
    ones = np.ones(source.shape, np.uint8)
    subject = np.array([f"S{number}" for number in range(count)])
    return {"source": source, "target": 255 - source, "body": ones, "valid": ones} | {
        "subject": subject
    }


def _train(folder, **cfg):
    pools = {"source_pool": _pack(3, 5), "target_pool": _pack(3, 6)}
    return trainer.train(_pack(), _pack(2, 1), folder, pools=pools, **{**CFG, **cfg})


def _history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def _weights(folder):
    return load_file(folder / "weights.safetensors")


@pytest.mark.parametrize("objective", ["paired", "mrgan"])
def test_two_processes_make_the_weights_of_one(tmp_path, objective):
    _train(tmp_path / "one", objective=objective)
    options = _train(tmp_path / "two", objective=objective, devices=2)
    assert options["settings"]["devices"] == 2
    one, two = _weights(tmp_path / "one"), _weights(tmp_path / "two")
    _train(tmp_path / "start", objective=objective, total_iterations=1)
    start = _weights(tmp_path / "start")
    moved = max(float((one[name] - start[name]).abs().max()) for name in one)
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    # only the order of sums differs; Adam makes more of it where a gradient is near zero
    assert apart < moved / 5
    history, alone = (_history(tmp_path / name) for name in ("two", "one"))
    for entry, expected in zip(history, alone, strict=True):
        for name in set(entry) - {"it_per_s"}:
            assert entry[name] == pytest.approx(expected[name], rel=1e-2)


def test_two_processes_stop_together_and_go_on(tmp_path):
    cfg = {"devices": 2, "total_iterations": 60, "constant_iterations": 60}
    _train(tmp_path / "whole", **cfg)

    def stop():
        while not (tmp_path / "parts" / checkpoint.NEWEST).exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(SystemExit) as stopped:
        _train(tmp_path / "parts", **cfg, checkpoint_seconds=0)
    assert stopped.value.code == 75
    assert 0 < checkpoint.load(tmp_path / "parts")["iteration"] < 60
    _train(tmp_path / "parts", **cfg)
    one, two = _weights(tmp_path / "whole"), _weights(tmp_path / "parts")
    assert all((one[name] == two[name]).all() for name in one)


def test_a_process_that_fails_ends_the_others(tmp_path):
    broken = _pack()
    broken["source"][0, 0, 0] = np.nan
    with pytest.raises(SystemExit) as stop:
        trainer.train(broken, None, tmp_path, **CFG, devices=2)
    assert stop.value.code == 1


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(StudyError, match=r"train\.batch"):
        trainer.recipe.settings(batch=3, devices=2)
    with pytest.raises(StudyError, match="norm"):
        trainer.recipe.settings(batch=2, devices=2, generator={"kind": "encoder_decoder"})
