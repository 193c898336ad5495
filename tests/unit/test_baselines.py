"""Baselines recover what they should, from the training pack only."""

import numpy as np
import pytest

from mrsynth import baselines, metrics


def a_pack(source, target, body=None, valid=None):
    source, target = np.asarray(source, np.float32), np.asarray(target, np.float32)
    ones = np.ones(source.shape, np.uint8)
    return {
        "source": source,
        "target": target,
        "body": ones if body is None else np.asarray(body, np.uint8),
        "valid": ones if valid is None else np.asarray(valid, np.uint8),
    }


@pytest.fixture
def noisy():
    """Sources and targets that depend on them by a curve that is not monotone, with noise."""
    rng = np.random.default_rng(1)
    source = np.rint(rng.uniform(0, 255, (4, 40, 40)))
    curve = 120 + 100 * np.sin(source / 40)
    target = np.clip(curve + rng.exponential(12, source.shape), 0, 255)
    return a_pack(source, target)


def test_identity_is_the_source(noisy):
    np.testing.assert_array_equal(baselines.identity(noisy), noisy["source"])


def test_mean_target_by_hand_without_invalid_pixels():
    train = a_pack(
        np.zeros((2, 1, 3)), [[[10, 20, 30]], [[30, 60, 50]]], valid=[[[1, 1, 0]], [[1, 0, 0]]]
    )
    test = a_pack(np.ones((3, 1, 3)), np.zeros((3, 1, 3)))
    made = baselines.fit_mean_target(train)(test)
    np.testing.assert_allclose(made, np.tile([[[20, 20, 40]]], (3, 1, 1)))


def test_mean_target_refuses_another_size():
    train = a_pack(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match="pixels"):
        baselines.fit_mean_target(train)(a_pack(np.zeros((1, 5, 4)), np.zeros((1, 5, 4))))


def test_histogram_gives_the_training_targets_distribution():
    rng = np.random.default_rng(2)
    target = np.clip(rng.normal(150, 20, (3, 50, 50)), 0, 255)
    train = a_pack(rng.uniform(0, 255, target.shape), target)
    source = rng.gamma(2, 20, (1, 50, 50))
    made = baselines.fit_histogram(train)(a_pack(source, np.zeros_like(source)))
    shares = [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(np.quantile(made, shares), np.quantile(target, shares), atol=0.5)
    order = np.argsort(source.ravel())
    assert (np.diff(made.ravel()[order]) >= 0).all()


def test_histogram_gives_ties_the_middle_of_their_ranks():
    source = np.concatenate([np.zeros(50), np.arange(1.0, 51.0)]).reshape(1, 10, 10)
    train = a_pack(source, np.linspace(0, 100, 100).reshape(1, 10, 10))
    made = baselines.fit_histogram(train)(train)
    np.testing.assert_allclose(made[source == 0], 25, atol=0.01)


def test_histogram_leaves_padding_out():
    source = np.tile(np.arange(100.0), (1, 10, 1))
    valid = np.zeros(source.shape)
    valid[..., 50:] = 1
    train = a_pack(source, np.where(valid > 0, 200.0, 0.0), valid=valid)
    made = baselines.fit_histogram(train)(a_pack(source, source, valid=valid))
    np.testing.assert_allclose(made[valid > 0], 200)


def test_lookup_recovers_a_curve():
    source = np.tile(np.arange(256.0), (2, 8, 1))
    train = a_pack(source, 255 - source)
    made = baselines.fit_lookup(train, min_pixels=1)(a_pack(source[:1], source[:1]))
    np.testing.assert_allclose(made[0, 0], 255 - np.arange(256))


def test_lookup_takes_the_statistic_by_hand():
    source, target = np.full((1, 1, 5), 7.0), np.array([[[0.0, 0.0, 10.0, 100.0, 240.0]]])
    train = a_pack(source, target)
    median = baselines.fit_lookup(train, "median", 1)(train)
    mean = baselines.fit_lookup(train, "mean", 1)(train)
    np.testing.assert_allclose(median, 10)
    np.testing.assert_allclose(mean, 70)


def test_lookup_is_best_in_its_own_metric(noisy):
    images = {
        kind: baselines.fit_lookup(noisy, kind, 1)(noisy).ravel() for kind in ("median", "mean")
    }
    target = noisy["target"].ravel()
    assert metrics.mae(target, images["median"]) < metrics.mae(target, images["mean"])
    assert metrics.mse(target, images["mean"]) < metrics.mse(target, images["median"])
    for name in ("identity", "histogram", "mean_target"):
        other = baselines.fit(noisy, [name])[name](noisy).ravel()
        assert metrics.mae(target, images["median"]) < 0.7 * metrics.mae(target, other)


def test_sparse_levels_borrow_from_their_neighbours():
    source = np.concatenate([np.full(1000, 100.0), [101.0], np.full(1000, 200.0)])[None, None]
    target = np.where(source < 150, 50.0, 90.0)
    target[source == 101] = 255
    train = a_pack(source, target)
    query = a_pack([[[101.0, 0.0, 255.0]]], [[[0.0, 0.0, 0.0]]])
    np.testing.assert_allclose(baselines.fit_lookup(train, min_pixels=1)(query)[0, 0, 0], 255)
    pooled = baselines.fit_lookup(train, min_pixels=400)(query)
    np.testing.assert_allclose(pooled[0, 0], [50, 50, 90])


def test_lookup_keeps_air_around_the_body_apart_from_gas_in_it():
    source = np.zeros((1, 10, 10))
    body = np.zeros(source.shape)
    body[:, 3:7] = 1
    train = a_pack(source, np.where(body > 0, 80.0, 2.0), body=body)
    np.testing.assert_allclose(baselines.fit_lookup(train)(train), train["target"])


def test_nothing_looks_at_the_test_targets(noisy):
    fitted = baselines.fit(noisy, list(baselines.BASELINES))
    test = a_pack(noisy["source"][:1], np.zeros((1, 40, 40)))
    other = a_pack(noisy["source"][:1], np.full((1, 40, 40), 255.0))
    for predict in fitted.values():
        np.testing.assert_array_equal(predict(test), predict(other))


def test_an_empty_training_pack_is_refused(noisy):
    empty = {name: array[:0] for name, array in noisy.items()}
    with pytest.raises(ValueError, match="empty"):
        baselines.fit(empty, ["identity"])
