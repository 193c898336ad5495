"""What a training sees: pairs alike, unpaired images apart, from the packs that it asks for."""

import numpy as np
import pytest
import torch

from mrsynth import batches, recipe
from mrsynth.errors import StudyError

SMALL = {"generator": {"filters": 4, "blocks": 1}, "rotation_deg": 0.0, "pad_ratio": 1.0}


def _pack(count, start):
    """Images whose grey level tells which they are: sources even, targets odd."""
    level = (start + 2 * np.arange(count, dtype=np.float32))[:, None, None]
    ones = np.ones((count, 8, 8), np.uint8)
    return {
        "source": np.tile(level, (1, 8, 8)),
        "target": np.tile(level + 1, (1, 8, 8)),
        "body": ones,
        "valid": ones,
        "subject": np.array([f"S{start}-{n}" for n in range(count)]),
    }


POOLS = {"source_pool": _pack(3, 100), "target_pool": _pack(5, 200)}


def _levels(images):
    return sorted({round(float(image.mean() + 1) * 127.5) for image in images})


def _seen(chosen, name, count=12):
    data = batches.gather(_pack(4, 0), POOLS, chosen, "model")
    drawn = [data.batch(n, 1, 7, torch.device("cpu")).get(name) for n in range(count)]
    return data, [images[0] for images in drawn if images is not None]


def test_an_objective_gets_what_it_learns_from():
    _, pairs = _seen(recipe.settings(**SMALL), "source")
    assert _levels(pairs) == [0, 2, 4, 6]
    assert not _seen(recipe.settings(**SMALL), "unpaired_source")[1]
    chosen = recipe.settings(**SMALL, objective="unpaired")
    assert not _seen(chosen, "source")[1]


@pytest.mark.parametrize(
    ("unpaired", "sources", "targets"),
    [
        ("pools", [100, 102, 104], [201, 203, 205, 207, 209]),
        ("pairs", [0, 2, 4, 6], [1, 3, 5, 7]),
        ("all", [0, 2, 4, 6, 100, 102, 104], [1, 3, 5, 7, 201, 203, 205, 207, 209]),
    ],
)
def test_unpaired_images_come_from_where_the_setting_says(unpaired, sources, targets):
    chosen = recipe.settings(**SMALL, objective="mrgan", unpaired=unpaired)
    data, seen = _seen(chosen, "unpaired_source", 3 * len(sources))
    assert _levels(seen) == sources
    assert _levels(_seen(chosen, "unpaired_target", 3 * len(targets))[1]) == targets
    assert data.counts() == {
        "training_pairs": 4,
        "unpaired_source_images": len(sources),
        "unpaired_target_images": len(targets),
    }


def test_pairs_stay_together_and_unpaired_images_do_not():
    chosen = recipe.settings(**SMALL, objective="mrgan", unpaired="pairs")
    data = batches.gather(_pack(4, 0), None, chosen, "model")
    drawn = [data.batch(n, 1, 7, torch.device("cpu")) for n in range(16)]

    def partners(one, other):
        return {(_levels(b[one])[0], _levels(b[other])[0]) for b in drawn}

    assert partners("source", "target") == {(0, 1), (2, 3), (4, 5), (6, 7)}
    assert len(partners("unpaired_source", "unpaired_target")) > 4


def test_an_empty_heap_is_refused_by_its_key():
    chosen = recipe.settings(**SMALL, objective="unpaired")
    pools = POOLS | {"target_pool": {k: v[:0] for k, v in POOLS["target_pool"].items()}}
    with pytest.raises(StudyError, match=r"train\.unpaired.*target"):
        batches.gather(_pack(4, 0), pools, chosen, "model")
    # without any pair the pools are enough
    data = batches.gather(_pack(0, 0), POOLS, chosen, "model")
    assert data.size == (8, 8)


def test_the_digest_follows_every_kind_of_data():
    chosen = recipe.settings(**SMALL, objective="mrgan")
    plain = batches.gather(_pack(4, 0), POOLS, chosen, "m").digest()
    other = batches.gather(
        _pack(4, 0), POOLS | {"source_pool": _pack(3, 300)}, chosen, "m"
    ).digest()
    assert plain != other != batches.gather(_pack(4, 2), POOLS, chosen, "m").digest() != plain
