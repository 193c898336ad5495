"""Two processes train one model as one process does; they stop together and fail together."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mrsynth import checkpoint, device, ranks
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


def test_a_process_that_fails_ends_the_others_and_the_parent_says_why(tmp_path):
    broken = _pack()
    broken["source"][0, 0, 0] = np.nan
    with pytest.raises(StudyError, match="not finite; run 'pack' anew"):
        trainer.train(broken, None, tmp_path, **CFG, devices=2)


def _ending(code, wait=0.0):
    return subprocess.Popen(
        [sys.executable, "-c", f"import os, time; time.sleep({wait}); os._exit({code})"]
    )


def test_a_failure_after_a_passed_on_signal_still_ends_the_others(monkeypatch):
    monkeypatch.setattr(ranks, "POLL_SECONDS", 0.05)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True)"
    deaf = subprocess.Popen(
        [sys.executable, "-c", f"{deaf}; time.sleep(60)"], stdout=subprocess.PIPE
    )
    deaf.stdout.readline()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    failing = _ending(1, wait=60)
    assert ranks._wait([deaf, failing]) == -signal.SIGTERM
    assert deaf.returncode == -signal.SIGKILL


def test_a_process_that_stopped_first_ends_no_other(monkeypatch):
    monkeypatch.setattr(ranks, "POLL_SECONDS", 0.05)
    late = _ending(75, wait=0.5)
    assert ranks._wait([_ending(75), late]) == 75
    assert late.returncode == 75


@pytest.mark.parametrize(
    ("codes", "said"),
    [([0, 0], 0), ([0, 75], 75), ([1, 75], 1), ([-9, 3], 3), ([-9, -11], -11), ([-9, -9], -9)],
)
def test_a_failure_says_more_than_a_stop(codes, said):
    assert ranks._outcome(codes) == said


def test_the_parent_is_who_started_the_process_not_who_is_asked_later():
    assert not ranks.Ranks(0, 2, os.getppid()).orphaned
    assert ranks.Ranks(0, 2, os.getppid() + 1).orphaned


def test_two_trainings_never_hold_a_card_each_and_wait(tmp_path):
    free = {"cards": ["a", "b", "c"], "folder": tmp_path, "patience_s": 0}
    with device.reserve("cuda", 2, **free) as first:
        assert list(first) == [0, 1]
        with pytest.raises(StudyError, match="too few"), device.reserve("cuda", 2, **free):
            pass
        # who waited holds nothing meanwhile
        with device.acquire("cuda", **free) as third:
            assert third == torch.device("cuda", 2)
        with device.acquire("cuda", number=1, **free) as own:
            assert own == torch.device("cuda", 1)
    with device.reserve("cuda", 3, **free) as whole:
        assert len(whole) == 3
    with pytest.raises(StudyError, match=r"devices.* = 4.*3 cards"), ExitStack() as stack:
        stack.enter_context(device.reserve("cuda", 4, **free))


def test_a_process_keeps_its_card_without_the_parent(tmp_path):
    free = {"cards": ["a"], "folder": tmp_path, "patience_s": 0}
    with device.reserve("cuda", 1, **free) as locks:
        child = subprocess.Popen(["sleep", "60"], pass_fds=list(locks.values()))
    with pytest.raises(StudyError, match="too few"), device.reserve("cuda", 1, **free):
        pass
    child.kill()
    child.wait()
    with device.reserve("cuda", 1, **free):
        pass


def test_every_process_makes_its_card_the_current_one(tmp_path, monkeypatch):
    """Else all of them gather objects by way of the first card."""
    current = []

    def set_device(card):
        current.append(card)
        raise StudyError("no card here")

    monkeypatch.setattr(device, "visible_cards", lambda: ["a", "b"])
    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    second = ranks.Ranks(1, 2, os.getppid(), card=1)
    with pytest.raises(StudyError, match="no card here"):
        trainer.train(_pack(), None, tmp_path, ranks=second, **CFG | {"device": "cuda"})
    assert current == [torch.device("cuda", 1)]


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(StudyError, match="share_device"):
        trainer.recipe.settings(batch=2, devices=2, share_device=True)
    with pytest.raises(StudyError, match=r"train\.batch"):
        trainer.recipe.settings(batch=3, devices=2)
    with pytest.raises(StudyError, match="norm"):
        trainer.recipe.settings(batch=2, devices=2, generator={"kind": "encoder_decoder"})
