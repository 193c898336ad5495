"""States survive damage, kills and malice; nothing of them is lost."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from mrsynth import checkpoint


def _state(number):
    return {"iteration": number, "weights": torch.full((50,), float(number)), "history": [{"a": 1}]}


def test_a_state_comes_back_as_it_was(tmp_path):
    checkpoint.save(_state(3), tmp_path)
    back = checkpoint.load(tmp_path)
    assert back["iteration"] == 3
    assert torch.equal(back["weights"], _state(3)["weights"])
    assert back["history"] == [{"a": 1}]
    assert os.listdir(tmp_path) == [checkpoint.NEWEST]


def test_an_empty_folder_has_no_state(tmp_path):
    assert checkpoint.load(tmp_path) is None
    assert checkpoint.load(tmp_path / "absent") is None


@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "text"])
def test_a_damaged_newest_state_falls_back_to_the_one_before(tmp_path, damage, caplog):
    checkpoint.save(_state(1), tmp_path)
    checkpoint.save(_state(2), tmp_path)
    newest = tmp_path / checkpoint.NEWEST
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    spoilt = {"cut": content[:-40], "empty": b"", "flip": bytes(content), "text": b"<html>"}[damage]
    newest.write_bytes(spoilt)
    with caplog.at_level("WARNING", logger="mrsynth"):
        assert checkpoint.load(tmp_path)["iteration"] == 1
    assert "damaged" in caplog.text


def test_a_state_that_holds_code_is_not_run(tmp_path):
    marker = tmp_path / "marker"

    class Malice:
        def __reduce__(self):
            return (os.mkdir, (str(marker),))

    # a valid checksum, so that only weights_only stands between the file and its code
    import hashlib
    import io

    buffer = io.BytesIO()
    torch.save({"iteration": Malice()}, buffer)
    content = buffer.getvalue()
    path = tmp_path / checkpoint.NEWEST
    path.write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(checkpoint.DamagedError):
        checkpoint.read(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Malice()))
    assert marker.exists()


def test_a_failed_save_keeps_the_state_before_it(tmp_path, monkeypatch):
    checkpoint.save(_state(1), tmp_path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(_state(2), tmp_path)
    assert os.listdir(tmp_path) == [checkpoint.NEWEST]
    assert checkpoint.load(tmp_path)["iteration"] == 1


SAVER = """
import sys, torch
from mrsynth import checkpoint
number = int(sys.argv[2])
while True:
    weights = torch.full((300000,), float(number))
    checkpoint.save({"iteration": number, "weights": weights}, sys.argv[1])
    print(number, flush=True)
    number += 1
"""


def test_killed_at_random_moments_a_whole_state_remains(tmp_path):
    chance = random.Random(0)
    reached = 0
    for _ in range(3):
        saver = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(tmp_path), str(reached + 1)],
            stdout=subprocess.PIPE,
            text=True,
        )
        saver.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.15))
        os.kill(saver.pid, signal.SIGKILL)
        printed = [int(line) for line in saver.stdout.read().split()]
        saver.wait()
        state = checkpoint.load(tmp_path)
        assert state["iteration"] >= max([reached + 1, *printed])
        assert torch.equal(state["weights"], torch.full((300000,), float(state["iteration"])))
        reached = state["iteration"]


def test_random_numbers_go_on_where_they_were(tmp_path):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    np.random.normal()  # noqa: NPY002
    checkpoint.save({"random": checkpoint.random_state()}, tmp_path)

    def numbers():
        return random.random(), np.random.normal(), float(torch.rand(1))  # noqa: NPY002

    expected = numbers()
    assert numbers() != expected
    checkpoint.set_random_state(checkpoint.load(tmp_path)["random"])
    assert numbers() == expected


def test_a_state_of_another_training_is_refused_by_its_differences():
    saved = {"code": "a", "cfg": {"seed": 1, "generator": {"filters": 8, "blocks": 2}}}
    checkpoint.check_stamp(saved, {"code": "a", "cfg": saved["cfg"]})
    now = {"code": "b", "cfg": {"seed": 1, "generator": {"filters": 16, "blocks": 2}, "beta1": 0.5}}
    with pytest.raises(checkpoint.StateMismatchError) as error:
        checkpoint.check_stamp(saved, now)
    text = str(error.value)
    assert "cfg.generator.filters: 8 → 16" in text
    assert "cfg.beta1: null → 0.5" in text
    assert 'code: "a" → "b"' in text
    assert "seed" not in text


def test_finished_states_are_removed(tmp_path):
    checkpoint.save(_state(1), tmp_path)
    checkpoint.save(_state(2), tmp_path)
    checkpoint.remove(tmp_path)
    assert os.listdir(tmp_path) == []
