"""Packs as tensors, the order of data, and the deliberate mismatch."""

import numpy as np
import pytest
import torch

from mrsynth import pairs
from mrsynth.errors import StudyError


def _pack(subjects, height=9, width=12):
    random = np.random.default_rng(0)
    shape = (len(subjects), height, width)
    body = np.zeros(shape, np.uint8)
    body[:, 2:6, 2:6] = 1
    valid = np.ones(shape, np.uint8)
    valid[:, :, :3] = 0
    return {
        "source": (random.random(shape) * 255).astype(np.float32),
        "target": (random.random(shape) * 255).astype(np.float32),
        "body": body,
        "valid": valid,
        "subject": np.array(subjects),
    }


def test_grey_levels_survive_the_networks_range():
    grey = np.array([[[0, 127.5, 255.0, 12.25]]], np.float32)
    tensor = pairs.to_network(grey)
    assert tensor.ravel().tolist()[:3] == [-1, 0, 1]
    assert np.allclose(pairs.to_grey(tensor), grey, atol=1e-4)


@pytest.mark.parametrize(
    ("region", "pixels"), [("image", 9 * 12), ("valid", 9 * 9), ("body", 4 * 3)]
)
def test_masks_follow_the_region_and_never_count_padding(region, pixels):
    prepared = pairs.prepare(_pack(["A", "B"]), region)
    assert prepared.size == (12, 12)
    assert prepared.original_size == (9, 12)
    assert prepared.mask.sum(dim=(1, 2, 3)).tolist() == [pixels] * 2


def test_an_empty_pack_is_no_error():
    assert len(pairs.prepare(_pack([]), "valid")) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    pack = _pack(["A"])
    pack["target"][0, 1, 1] = bad
    with pytest.raises(StudyError, match="target"):
        pairs.prepare(pack, "valid")


@pytest.mark.parametrize("count", [1, 3])
def test_every_epoch_is_a_new_permutation(count):
    seen = [n for i in range(14 // count * count) for n in pairs.order(i, count, 7, seed=5)]
    epochs = [tuple(seen[start : start + 7]) for start in range(0, len(seen) - 6, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) == len(epochs)


def test_order_depends_on_the_seed_alone():
    first = [pairs.order(i, 1, 20, seed=1) for i in range(20)]
    assert first == [pairs.order(i, 1, 20, seed=1) for i in range(20)]
    assert first != [pairs.order(i, 1, 20, seed=2) for i in range(20)]


@pytest.mark.parametrize("seed", range(5))
def test_mismatch_never_keeps_a_subject(seed):
    subject = np.array(list("AAAABBCCDEEEE"))
    partner = pairs.mismatch(subject, seed)
    assert sorted(partner) == list(range(len(subject)))
    assert (subject[partner] != subject).all()


def test_mismatch_differs_between_seeds():
    subject = np.repeat(list("ABCDEFGH"), 4)
    assert (pairs.mismatch(subject, 1) != pairs.mismatch(subject, 2)).any()


def test_mismatch_needs_other_subjects():
    for subject in (["A", "A"], ["A", "A", "A", "B"]):
        with pytest.raises(StudyError, match="shuffle_pairs"):
            pairs.mismatch(np.array(subject), 0)


def test_mismatched_pairs_keep_sources_and_join_masks():
    pack = _pack(["A", "B", "C"])
    pack["valid"][1] = 0
    prepared = pairs.prepare(pack, "valid")
    mixed = prepared.mismatched(0)
    partner = pairs.mismatch(prepared.subject, 0)
    assert torch.equal(mixed.source, prepared.source)
    assert torch.equal(mixed.target, prepared.target[partner])
    assert mixed.mask[1].sum() == 0
    assert mixed.mask[list(partner).index(1)].sum() == 0


def test_digest_follows_the_content():
    one, other = _pack(["A", "B"]), _pack(["A", "B"])
    assert pairs.prepare(one, "valid").digest() == pairs.prepare(other, "valid").digest()
    other["target"][0, 0, 0] += 1
    assert pairs.prepare(one, "valid").digest() != pairs.prepare(other, "valid").digest()


def test_packs_are_read_without_pickle(tmp_path):
    np.savez(tmp_path / "good.npz", **_pack(["A"]))
    assert pairs.read_pack(tmp_path / "good.npz")["subject"].tolist() == ["A"]
    np.savez(tmp_path / "bad.npz", subject=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        pairs.read_pack(tmp_path / "bad.npz")


@pytest.mark.parametrize("seed", range(10))
def test_mismatch_never_takes_another_visit_of_the_person(seed):
    names = ["AAAAAAAA", "AAAAAAAA_ses-204817", "BBBBBBBB", "CCCCCCCC"]
    partner = pairs.mismatch(np.array(names), seed)
    assert sorted(partner) == [0, 1, 2, 3]
    assert set(partner[:2]) == {2, 3}
