"""What a model has to beat: four predictions that need no network.

`identity` shows the source as it is; `histogram` gives each source the training targets' histogram;
`mean_target` ignores the source; `lookup` knows the best grey level for each source grey level,
and nothing of anatomy. Whatever is fitted is fitted on the training pack alone. Packs are dicts of
arrays as `pack` writes them: ``source``, ``target`` [n, h, w] in 0–255, ``body``, ``valid`` [n, h,
w].
"""

from collections.abc import Callable

import numpy as np

LEVELS = 256
"""Grey levels of a source, and with that the rows of the look-up."""

BIN = 0.25
"""Bin width of the target's histograms in grey levels: a median is then off by at most half of
this, far below any difference that matters, at a memory that does not grow with the cohort."""

PROBABILITIES = np.linspace(0.0, 1.0, 1025)
"""Where the training targets' distribution is tabulated: about four quantiles per grey level."""

Baseline = Callable[[dict], np.ndarray]
"""Takes a pack's arrays (its ``target`` is never looked at), returns images [n, h, w] in 0–255."""


def fit(
    train: dict,
    names: list[str],
    *,
    lookup_statistic: str = "median",
    lookup_min_pixels: int = 400,
) -> dict[str, Baseline]:
    """Fit baselines.

    Args:
        train: The training pack.
        names: Of :data:`BASELINES`.
        lookup_statistic: ``median`` (least MAE) or ``mean`` (least MSE) of the look-up.
        lookup_min_pixels: Least number of training pixels behind an entry of the look-up.

    Raises:
        ValueError: The training pack is empty.
    """
    if not len(train["target"]):
        raise ValueError("the training pack is empty: no baseline can be fitted")
    makers = {
        "identity": lambda: identity,
        "histogram": lambda: fit_histogram(train),
        "mean_target": lambda: fit_mean_target(train),
        "lookup": lambda: fit_lookup(train, lookup_statistic, lookup_min_pixels),
    }
    return {name: makers[name]() for name in names}


BASELINES = ("identity", "histogram", "mean_target", "lookup")
"""All of them, in the order of the tables."""


def identity(pack: dict) -> np.ndarray:
    """The source itself."""
    return np.array(pack["source"], np.float32)


def fit_histogram(train: dict) -> Baseline:
    """Give each source image the distribution of all training targets.

    Tied grey levels, such as the air's, get the middle of their ranks. Pixels outside ``valid``
    don't count in a distribution but are mapped like the others.
    """
    targets = np.concatenate(
        [image[_valid(train, n)] for n, image in enumerate(train["target"])] or [np.empty(0)]
    )
    if not targets.size:
        targets = np.asarray(train["target"]).ravel()
    quantiles = np.quantile(targets, PROBABILITIES)

    def predict(pack: dict) -> np.ndarray:
        made = np.empty(pack["source"].shape, np.float32)
        for number, image in enumerate(pack["source"]):
            pixels = image[_valid(pack, number)]
            values, counts = np.unique(pixels if pixels.size else image, return_counts=True)
            ranks = (np.cumsum(counts) - counts / 2) / counts.sum()
            made[number] = np.interp(np.interp(image, values, ranks), PROBABILITIES, quantiles)
        return made

    return predict


def fit_mean_target(train: dict) -> Baseline:
    """The mean of the training targets, each pixel over the images in which it is valid."""
    target = np.asarray(train["target"], np.float64)
    valid = np.asarray(train["valid"]) != 0
    count = valid.sum(0)
    inside = (target * valid).sum(0) / np.maximum(count, 1)
    mean = np.where(count > 0, inside, target.mean(0)).astype(np.float32)

    def predict(pack: dict) -> np.ndarray:
        shape = pack["source"].shape
        if shape[1:] != mean.shape:
            raise ValueError(f"images of {shape[1:]} pixels, training images of {mean.shape}")
        return np.broadcast_to(mean, shape).copy()

    return predict


def fit_lookup(train: dict, statistic: str = "median", min_pixels: int = 400) -> Baseline:
    """The target's median (or mean) for each source grey level, over the training pixels.

    One table inside the body; outside it a second one, without which air around the patient would
    be painted like gas in the bowel.
    """
    inside = np.zeros((LEVELS, round(255 / BIN) + 1))
    outside = np.zeros_like(inside)
    for number, source in enumerate(train["source"]):
        valid, body = _valid(train, number), train["body"][number] != 0
        target = train["target"][number]
        inside += _joint(source[valid & body], target[valid & body])
        outside += _joint(source[valid & ~body], target[valid & ~body])
    if not inside.sum() and not outside.sum():
        raise ValueError("no training pixel is valid: the look-up can't be fitted")
    tables = {
        True: table(inside if inside.sum() else outside, statistic, min_pixels),
        False: table(outside if outside.sum() else inside, statistic, min_pixels),
    }

    def predict(pack: dict) -> np.ndarray:
        levels = np.arange(LEVELS)
        body = np.asarray(pack["body"]) != 0
        within = np.interp(pack["source"], levels, tables[True])
        without = np.interp(pack["source"], levels, tables[False])
        return np.where(body, within, without).astype(np.float32)

    return predict


def table(joint: np.ndarray, statistic: str, min_pixels: int) -> np.ndarray:
    """Conditional median or mean [256] from a joint histogram [source level, target bin].

    A level with too few pixels borrows from its neighbours: the window around it grows evenly
    until it holds ``min_pixels`` (or everything).
    """
    total = np.vstack([np.zeros(joint.shape[1]), np.cumsum(joint, 0)])
    centres = np.arange(joint.shape[1]) * BIN
    count = total.sum(1)
    values = np.empty(LEVELS)
    for level in range(LEVELS):
        reach = np.arange(LEVELS)
        low, high = np.maximum(level - reach, 0), np.minimum(level + reach + 1, LEVELS)
        enough = count[high] - count[low] >= min(min_pixels, count[-1])
        chosen = int(np.argmax(enough))
        row = total[high[chosen]] - total[low[chosen]]
        if statistic == "mean":
            values[level] = (row * centres).sum() / row.sum()
        else:
            values[level] = centres[np.searchsorted(np.cumsum(row), row.sum() / 2)]
    return values


def _joint(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Joint histogram [256, bins] of two arrays of grey levels of one shape."""
    bins = round(255 / BIN) + 1
    row = np.clip(np.rint(source), 0, LEVELS - 1).astype(np.int64)
    column = np.clip(np.rint(target / BIN), 0, bins - 1).astype(np.int64)
    return np.bincount(row * bins + column, minlength=LEVELS * bins).reshape(LEVELS, bins)


def _valid(pack: dict, number: int) -> np.ndarray:
    return np.asarray(pack["valid"][number]) != 0
