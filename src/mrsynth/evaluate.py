"""Compare synthetic with real images: one long table of every slice, method, region and metric.

Slices are matched by subject and key, never by position. The baselines of :mod:`mrsynth.baselines`
are fitted on the training pack and go into the same table. Nothing is averaged here;
:mod:`mrsynth.summarize` does that.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from mrsynth import baselines as baseline_methods
from mrsynth.errors import StudyError
from mrsynth.metrics import COMMON, METRICS, WHOLE
from mrsynth.subjects import person

COLUMNS = [
    "task",
    "model",
    "fold",
    "subject",
    "name",
    "key",
    "verdict",
    "method",
    "region",
    "metric",
    "value",
]

REGIONS = ("image", "valid", "body")
"""All pixels as in the papers; without letterbox and pixels beyond the source's field; inside the
body."""


def evaluate(
    synthetic: dict,
    test: dict,
    train: dict,
    *,
    task: str = "",
    model: str = "model",
    fold: int = 0,
    metrics: list[str] = COMMON,
    regions: list[str] = REGIONS,
    baselines: list[str] = baseline_methods.BASELINES,
    lookup_statistic: str = "median",
    lookup_min_pixels: int = 400,
) -> pd.DataFrame:
    """Measure a model's and the baselines' images of the test subjects.

    Images are clipped to 0–255 before they are compared, as they would be when stored, but not
    rounded.

    Args:
        synthetic: ``synthetic`` [n, h, w], ``subject`` [n], ``key`` [n].
        test: The test pack.
        train: The training pack of the same fold; only the baselines look at it.
        task, model, fold: Names for the table.
        metrics: Of :data:`mrsynth.metrics.METRICS`.
        regions: Of :data:`REGIONS`.
        baselines: Of :data:`mrsynth.baselines.BASELINES`.
        lookup_statistic, lookup_min_pixels: See :func:`mrsynth.baselines.fit`.

    Returns:
        A table of :data:`COLUMNS`, in the order of the test pack; empty if that is.

    Raises:
        StudyError: The model has a baseline's name.
        ValueError: The synthetic slices aren't those of the test pack, or a subject is in both
            packs.
    """
    if model in baseline_methods.BASELINES:
        raise StudyError(
            f"config key 'tasks.{task}.models.{model}': '{model}' is the name of a baseline; "
            "give the model another name"
        )
    _check_apart(test, train)
    images = {model: _matched(synthetic, test)}
    if len(test["target"]):
        fitted = baseline_methods.fit(
            train,
            list(baselines),
            lookup_statistic=lookup_statistic,
            lookup_min_pixels=lookup_min_pixels,
        )
        images |= {name: predict(test) for name, predict in fitted.items()}
    rows = []
    for number in range(len(test["target"])):
        who = [str(test[column][number]) for column in ("subject", "name", "key", "verdict")]
        masks = _masks(test, number)
        for method, made in images.items():
            image = np.clip(made[number], 0.0, 255.0)
            for region in regions:
                for metric in metrics:
                    if metric in WHOLE and region != "image":
                        continue
                    value = METRICS[metric](test["target"][number], image, mask=masks[region])
                    rows.append([task, model, fold, *who, method, region, metric, value])
    return pd.DataFrame(rows, columns=COLUMNS)


def _check_apart(test: dict, train: dict) -> None:
    """Nobody may be trained on and tested, with any of his visits."""
    tested, trained = ({person(str(name)) for name in pack["subject"]} for pack in (test, train))
    both = tested & trained
    if both:
        raise ValueError(f"{len(both)} subjects are in both the training and the test pack")


def _matched(synthetic: dict, test: dict) -> np.ndarray:
    """The synthetic images in the order of the test pack, [n, h, w]."""
    made, wanted = _keys(synthetic), _keys(test)
    place = {key: number for number, key in enumerate(made)}
    if len(place) < len(made) or len(set(wanted)) < len(wanted):
        raise ValueError("a slice (subject and key) is there more than once")
    if set(place) != set(wanted):
        raise ValueError(
            f"the synthetic slices are not those of the test pack: {len(set(wanted) - set(place))} "
            f"missing, {len(set(place) - set(wanted))} unknown"
        )
    images = np.asarray(synthetic["synthetic"])[[place[key] for key in wanted]]
    if images.shape != np.asarray(test["target"]).shape:
        raise ValueError(f"synthetic {images.shape} and real {test['target'].shape} differ in size")
    return images


def _keys(arrays: dict) -> list[tuple[str, str]]:
    return [(str(s), str(k)) for s, k in zip(arrays["subject"], arrays["key"], strict=True)]


def _masks(test: dict, number: int) -> dict[str, np.ndarray | None]:
    valid = np.asarray(test["valid"][number]) != 0
    return {"image": None, "valid": valid, "body": valid & (np.asarray(test["body"][number]) != 0)}


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a pack or synthesis file (``.npz`` without pickled objects)."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write_table(long: pd.DataFrame, path: str | Path) -> None:
    """Write the long table as TSV; undefined values as ``nan``, infinite ones as ``inf``."""
    long.to_csv(path, sep="\t", index=False, na_rep="nan", float_format="%.7g")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a long table.

    Names stay text: a pseudonym such as ``7e234567`` would else become a number.
    """
    kinds = dict.fromkeys(COLUMNS, str) | {"fold": int, "value": float}
    return pd.read_csv(
        path, sep="\t", dtype=kinds, keep_default_na=False, na_values={"value": ["nan"]}
    )
