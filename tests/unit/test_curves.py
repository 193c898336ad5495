"""Events can be read back, a resumed training adds to them, without a folder there are none."""

import numpy as np
from tensorboardX.proto.event_pb2 import Event

from mrsynth.curves import FOLDER, Curves


def _events(folder):
    """All events of a folder's files: records of length, checksum, data, checksum (TFRecord)."""
    found = []
    for path in sorted((folder / FOLDER).iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            size = int.from_bytes(content[place : place + 8], "little")
            found.append(Event.FromString(content[place + 12 : place + 12 + size]))
            place += size + 16
    return found


def _scalars(folder):
    return {
        (value.tag, event.step): value.simple_value
        for event in _events(folder)
        for value in event.summary.value
        if value.HasField("simple_value")
    }


def test_history_becomes_scalars(tmp_path):
    with Curves(tmp_path) as curves:
        curves.add({"iteration": 4, "l1": 0.5, "validation_mae": None, "lr": 0.25})
        curves.add({"iteration": 8, "l1": 0.25, "validation_mae": 12.0, "lr": 0.25})
    assert _scalars(tmp_path) == {
        ("loss/l1", 4): 0.5,
        ("loss/l1", 8): 0.25,
        ("progress/lr", 4): 0.25,
        ("progress/lr", 8): 0.25,
        ("progress/validation_mae", 8): 12.0,
    }


def test_samples_are_images(tmp_path):
    with Curves(tmp_path) as curves:
        curves.show([np.full((8, 24), 100.0), np.full((8, 24), 300.0)], 4)
    images = [v.image for e in _events(tmp_path) for v in e.summary.value if v.HasField("image")]
    assert [(image.height, image.width) for image in images] == [(16, 24)]


def test_a_new_training_clears_the_folder_and_a_resumed_one_does_not(tmp_path):
    for _ in range(2):
        with Curves(tmp_path) as curves:
            curves.add({"iteration": 4, "l1": 0.5})
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    with Curves(tmp_path, 4) as curves:
        curves.add({"iteration": 8, "l1": 0.5})
    assert {step for _, step in _scalars(tmp_path)} == {4, 8}


def test_without_a_folder_nothing_is_written(tmp_path):
    with Curves(None) as curves:
        curves.add({"iteration": 1, "l1": 0.0})
        curves.show([np.zeros((2, 6))], 1)
    assert not list(tmp_path.iterdir())
