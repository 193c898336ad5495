"""The choice of a card and the lock on it, with cards that need not exist."""

import multiprocessing
import os

import pytest
import torch

from mrsynth import device
from mrsynth.errors import StudyError


def test_auto_without_a_card_is_the_processor():
    with device.acquire("auto", cards=[]) as chosen:
        assert chosen == torch.device("cpu")


def test_a_card_that_is_not_there_is_refused():
    with pytest.raises(StudyError, match="device"), device.acquire("cuda", cards=[]):
        pass


def test_unknown_device_is_named():
    with pytest.raises(StudyError, match="tpu"), device.acquire("tpu"):
        pass


def test_two_trainings_take_two_cards_and_a_third_none(tmp_path):
    def take():
        return device.acquire("auto", cards=["a", "b"], folder=tmp_path, patience_s=0)

    with take() as first, take() as second:
        assert {first.index, second.index} == {0, 1}
        with pytest.raises(StudyError, match="--resources gpu=2"), take():
            pass
    with take() as again:
        assert again.index == 0


def test_sharing_ignores_the_lock(tmp_path):
    cards = {"cards": ["a"], "folder": tmp_path}
    with device.acquire("cuda", **cards) as first:
        assert first == torch.device("cuda", 0)
        with device.acquire("cuda", share=True, **cards) as second:
            assert second == first


def _hold(folder, queue):
    with device.acquire("cuda", cards=["GPU-1/x"], folder=folder) as chosen:
        queue.put(chosen.index)
        queue.put(None)
        os.kill(os.getpid(), 9)


def test_a_killed_training_frees_its_card(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    other = context.Process(target=_hold, args=(tmp_path, queue))
    other.start()
    assert queue.get() == 0
    with device.acquire("cuda", cards=["GPU-1/x"], folder=tmp_path, patience_s=30) as chosen:
        assert chosen.index == 0
    other.join()
    assert other.exitcode == -9


def test_cards_are_told_apart_by_what_they_are_not_by_their_number(monkeypatch):
    class Properties:
        uuid = None

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert device.visible_cards() == ["3", "1"]
    Properties.uuid = "7f1e"
    assert device.visible_cards() == ["7f1e", "7f1e"]


@pytest.mark.parametrize(("avx", "amx", "chosen"), [(1, 0, "bf16"), (0, 1, "bf16"), (0, 0, "fp32")])
def test_precision_follows_the_processor(monkeypatch, avx, amx, chosen):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx))
    assert device.choose_precision("auto", torch.device("cpu")) == chosen
    assert device.choose_precision("fp32", torch.device("cpu")) == "fp32"


def test_autocast_computes_in_the_precision():
    layer, image = torch.nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 4, 4)
    cpu = torch.device("cpu")
    with device.autocast("bf16", cpu)():
        assert layer(image).dtype == torch.bfloat16
    with device.autocast("fp32", cpu)():
        assert layer(image).dtype == torch.float32


def test_memory_is_that_of_this_process():
    assert 10 * 2**20 < device.memory_bytes(torch.device("cpu")) < 2**40


def test_threads_never_exceed_the_cores(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    try:
        assert [device.use_threads(asked) for asked in (0, 1, 2, 8)] == [1, 1, 2, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
