"""The tables of a paper, from the long tables of :mod:`mrsynth.evaluate`.

The order of averaging, the same in all tables: a metric is computed per slice; a subject's value
is the mean over the slices of all the person's visits; with several seeds of a model, the mean
over the seeds; means, standard deviations (n−1) and intervals are over subjects. The PSNR is thus
a mean of dB, not the dB of a pooled error. With several folds each subject is tested once, and all
subjects are pooled.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from mrsynth.baselines import BASELINES
from mrsynth.errors import StudyError
from mrsynth.evaluate import REGIONS
from mrsynth.metrics import METRICS
from mrsynth.subjects import person

TABLES = ("cases", "methods", "differences", "verdicts", "flow")
"""The values of the wildcard ``{table}``."""

SEED = re.compile(r"^(?P<model>.+)-seed(?P<seed>\d+)$")
"""How a model with several seeds is named."""

SLICE = ["task", "fold", "subject", "key", "verdict", "method", "region", "metric"]
"""What tells one value of the long table from another, the model's own copy of a baseline aside."""

VERDICTS = ("accepted",)
"""Verdicts on the registration whose slices make the main numbers."""

ERRORS = ("mae", "mse")
"""Metrics of which less is better."""

TITLES = {
    "cases": "Each test subject, in the form of Table 1 of Lee et al. 2020",
    "methods": "Models and baselines",
    "differences": "Paired differences per subject",
    "verdicts": "Metrics by the verdict on the registration",
    "flow": "Inclusion",
}

NOTES = {
    "cases": (
        "A case is a subject: the mean over its slices. The last row is mean ± SD (n−1) over "
        "subjects. `psnr` is the true one (peak 255); `psnr_paper` is what the papers "
        "printed, the true one + 48.13 dB, because their code squares the peak twice. `image` "
        "is all pixels, letterbox included, as in the papers; `body` is the patient without "
        "it."
    ),
    "methods": (
        "Mean ± SD over subjects of each subject's mean over slices (and seeds). With several "
        "seeds, `seed_sd` is the SD between seeds of the mean over subjects. `identity`, "
        "`histogram`, `mean_target` and `lookup` need no network; the last three were fitted "
        "on the training subjects of the same fold. `image` is all pixels, `valid` leaves out "
        "padding, `body` is the patient. `psnr_paper` is `psnr` + 48.13 dB. "
        "A `control` was trained to fail, on shuffled pairs."
    ),
    "differences": (
        "Method minus reference within each subject; for errors, a negative difference is in "
        "the method's favour. `t` is Student's interval, `bootstrap` the percentile interval, "
        "both over subjects; neither holds the spread between seeds, whose SD is `seed_sd`. "
        "`better` counts the subjects in which the method is ahead."
    ),
    "verdicts": (
        "A subject's value is the mean over its slices with that verdict; mean ± SD over the "
        "subjects who have such slices. `all` are the slices of the test packs "
        "(`pack.test_verdicts`); what was left out before that is not in it, so it may still "
        "flatter."
    ),
    "flow": (
        "Who came in and who was left out: the number of subjects (persons) and of pairs (visits) "
        "for each status, pool and reason code, in alphabetical order; the order in which it was "
        "decided is in results/cohort/flow.tsv and its figure."
    ),
}
"""How to read each table, printed above it."""


def cases(long: pd.DataFrame, *, regions: list[str] = ("image", "body")) -> pd.DataFrame:
    """One row per model, region and test subject, then mean and SD over subjects.

    Returns:
        Columns ``task, model, region, fold, case, slices`` and the metrics; ``case`` is the
        subject, or ``Mean`` and ``SD``, whose ``fold`` is empty.
    """
    long = long[long["method"] == long["model"]]
    order = ordered(long["method"])
    wide = _wide(by_subject(long, pool_seeds=False))
    printed = [name for name in _metrics(wide) if name != "mse"]
    rows = []
    for (task, method, region), part in _groups(wide, ["task", "method", "region"], order):
        if region not in regions:
            continue
        head = {"task": task, "model": method, "region": region}
        part = part.sort_values(["fold", "subject"])
        for row in part.to_dict("records"):
            case = {"fold": str(row["fold"]), "case": row["subject"], "slices": row["slices"]}
            rows.append(head | case | {name: row[name] for name in printed})
        foot = {"fold": "", "slices": part["slices"].sum()}
        rows.append(head | foot | {"case": "Mean"} | {n: mean(part[n]) for n in printed})
        rows.append(head | foot | {"case": "SD"} | {n: deviation(part[n]) for n in printed})
    head = ["task", "model", "region", "fold", "case", "slices"]
    return pd.DataFrame(rows, columns=[*head, *printed])


def methods(
    long: pd.DataFrame, *, regions: list[str] = REGIONS, controls: list[str] = ()
) -> pd.DataFrame:
    """Mean and SD over subjects for each region and method, models first, then the baselines.

    Returns:
        Columns ``task, region, method, kind, subjects, slices, seeds``, and ``<metric>_mean``,
        ``<metric>_sd``, ``<metric>_seed_sd`` for each metric.
    """
    order = ordered(map(base_name, long["method"]))
    wide = _wide(by_subject(long))
    seeds = _wide(by_subject(long, pool_seeds=False))
    rows = []
    for (task, region, method), part in _groups(wide, ["task", "region", "method"], order):
        if region not in regions:
            continue
        own = _select(seeds, task=task, region=region, base=method)
        row = {
            "task": task,
            "region": region,
            "method": method,
            "kind": kind(method, controls),
            "subjects": len(part),
            "slices": part["slices"].sum(),
            "seeds": own["method"].nunique(),
        }
        for name in _metrics(wide):
            row[f"{name}_mean"] = mean(part[name])
            row[f"{name}_sd"] = deviation(part[name])
            row[f"{name}_seed_sd"] = deviation(own.groupby("method")[name].mean())
        rows.append(row)
    columns = [f"{name}_{part}" for name in _metrics(wide) for part in ("mean", "sd", "seed_sd")]
    head = ["task", "region", "method", "kind", "subjects", "slices", "seeds"]
    return pd.DataFrame(rows, columns=[*head, *columns])


def kind(method: str, controls: list[str]) -> str:
    """``model``, ``control`` or ``baseline``; a control may be given with or without its seed."""
    if method in BASELINES:
        return "baseline"
    return "control" if method in {*controls, *map(base_name, controls)} else "model"


def differences(
    long: pd.DataFrame,
    *,
    controls: list[str] = (),
    metric: str = "mae",
    region: str = "body",
    confidence: float = 0.95,
    bootstrap_samples: int = 10000,
    bootstrap_seed: int = 1,
) -> pd.DataFrame:
    """Per-subject paired differences of every model from every baseline and every other model.

    Returns:
        Columns ``task, method, kind, reference, region, metric, subjects, seeds, mean, sd, seed_sd,
        t_low, t_high, bootstrap_low, bootstrap_high, better``; intervals are NaN with fewer than
        two subjects.
    """
    part = _select(by_subject(long), region=region, metric=metric)
    seeds = _select(by_subject(long, pool_seeds=False), region=region, metric=metric)
    larger_is_better = metric not in ERRORS
    rows = []
    for task in part["task"].unique():
        values = _select(part, task=task).pivot(index="subject", columns="method", values="value")
        single = _select(seeds, task=task).pivot(index="subject", columns="method", values="value")
        own = dict(zip(seeds["method"], seeds["base"], strict=True))
        names = ordered(_select(part, task=task)["method"])
        for method in [name for name in names if name not in BASELINES]:
            for reference in [name for name in names if name != method]:
                pair = values[[method, reference]].dropna()
                change = (pair[method] - pair[reference]).to_numpy()
                runs = [name for name in single.columns if own[name] == method]
                per_seed = [(single[run] - values[reference]).mean() for run in runs]
                rows.append(
                    {
                        "task": task,
                        "method": method,
                        "kind": kind(method, controls),
                        "reference": reference,
                        "region": region,
                        "metric": metric,
                        "subjects": len(change),
                        "seeds": len(runs),
                        "mean": mean(change),
                        "sd": deviation(change),
                        "seed_sd": deviation(per_seed),
                        **intervals(change, confidence, bootstrap_samples, bootstrap_seed),
                        "better": int(((change > 0) if larger_is_better else (change < 0)).sum()),
                    }
                )
    return pd.DataFrame(rows, columns=DIFFERENCES)


DIFFERENCES = ["task", "method", "kind", "reference", "region", "metric", "subjects", "seeds"]
DIFFERENCES += ["mean", "sd", "seed_sd", "t_low", "t_high"]
DIFFERENCES += ["bootstrap_low", "bootstrap_high", "better"]


def by_verdict(long: pd.DataFrame, *, regions: list[str] = REGIONS) -> pd.DataFrame:
    """Mean and SD over subjects for each region, method and registration verdict, and for all.

    Returns:
        Columns ``task, region, method, verdict, subjects, slices``, ``<metric>_mean``,
        ``<metric>_sd``.
    """
    parts = [(verdict, part) for verdict, part in long.groupby("verdict", sort=True)]
    wides = [_wide(by_subject(part)).assign(verdict=str(v)) for v, part in [*parts, ("all", long)]]
    wide = pd.concat(wides, ignore_index=True)
    order = ordered(map(base_name, long["method"]))
    rows = []
    for (task, region, method), group in _groups(wide, ["task", "region", "method"], order):
        if region not in regions:
            continue
        for verdict, part in group.groupby("verdict", sort=False):
            head = {"task": task, "region": region, "method": method, "verdict": verdict}
            row = head | {"subjects": len(part), "slices": part["slices"].sum()}
            for name in _metrics(wide):
                row |= {f"{name}_mean": mean(part[name]), f"{name}_sd": deviation(part[name])}
            rows.append(row)
    columns = [f"{name}_{part}" for name in _metrics(wide) for part in ("mean", "sd")]
    return pd.DataFrame(
        rows, columns=["task", "region", "method", "verdict", "subjects", "slices", *columns]
    )


def flow(rows: list[dict]) -> pd.DataFrame:
    """The inclusion flow as `cohort` counted it, row by row."""
    return (
        pd.DataFrame(rows) if rows else pd.DataFrame(columns=["task", "step", "subjects", "code"])
    )


def make(
    table: str,
    long: pd.DataFrame,
    *,
    flow_rows: list[dict] = (),
    controls: list[str] = (),
    regions: list[str] = REGIONS,
    verdicts: list[str] = VERDICTS,
    difference_metric: str = "mae",
    difference_region: str = "body",
    confidence: float = 0.95,
    bootstrap_samples: int = 10000,
    bootstrap_seed: int = 1,
) -> pd.DataFrame:
    """A table by its name.

    Args:
        table: Of :data:`TABLES`.
        long: The long tables of one task, one under the other.
        flow_rows: The rows of the inclusion flow.
        controls: Models trained to fail, marked as such in ``kind``.
        regions: Regions shown; ``cases`` shows them without ``valid``.
        verdicts: Slices of these verdicts count; the table ``verdicts`` shows all.
        difference_metric, difference_region: What :func:`differences` compares.
        confidence: Level of its intervals.
        bootstrap_samples, bootstrap_seed: Of its bootstrap interval.

    Raises:
        StudyError: There is no such table, or the metric or region of the differences was not
            measured.
    """
    if table == "flow":
        return flow(list(flow_rows))
    if table == "verdicts":
        return by_verdict(long, regions=regions)
    measured, long = long, long[long["verdict"].isin(list(verdicts))]
    if table == "cases":
        return cases(long, regions=[region for region in regions if region != "valid"])
    if table == "methods":
        return methods(long, regions=regions, controls=controls)
    if table != "differences":
        raise StudyError(f"table '{table}' does not exist; there are: {', '.join(TABLES)}")
    _check_measured(measured, "metric", difference_metric)
    _check_measured(measured, "region", difference_region)
    return differences(
        long,
        controls=controls,
        metric=difference_metric,
        region=difference_region,
        confidence=confidence,
        bootstrap_samples=bootstrap_samples,
        bootstrap_seed=bootstrap_seed,
    )


def _check_measured(long: pd.DataFrame, column: str, value: str) -> None:
    if len(long) and value not in set(long[column]):
        raise StudyError(
            f"config key 'summarize.difference_{column}' = '{value}' is not measured; add it to "
            f"'evaluate.{column}s' or choose one of: {', '.join(long[column].unique())}"
        )


def by_subject(long: pd.DataFrame, *, pool_seeds: bool = True) -> pd.DataFrame:
    """Each person's mean over all slices of all visits, and over a model's seeds if pooled.

    Returns:
        Columns ``task, fold, subject, method, base, region, metric, value, slices``; ``base`` is
        the method's name without its seed.

    Raises:
        ValueError: A subject was tested in more than one fold.
    """
    long = long.drop_duplicates(SLICE)
    long = long.assign(subject=long["subject"].astype(str).map(person))
    if len(long) and (long.groupby(["task", "subject"])["fold"].nunique() > 1).any():
        raise ValueError("a subject was tested in more than one fold")
    group = ["task", "fold", "subject", "method", "region", "metric"]
    # A mean must not hide an undefined slice, as pandas' own would.
    values = long.groupby(group, sort=False)["value"].agg([mean, "size"]).reset_index()
    values = values.rename(columns={"mean": "value", "size": "slices"})
    values["base"] = [base_name(method) for method in values["method"]]
    if pool_seeds:
        values["method"] = values["base"]
        pooled = values.groupby([*group, "base"], sort=False)
        values = pooled.agg(value=("value", mean), slices=("slices", "max")).reset_index()
    return values[
        ["task", "fold", "subject", "method", "base", "region", "metric", "value", "slices"]
    ]


def mean(values) -> float:
    """Arithmetic mean; NaN if one value is, or if there is none; infinite if one value is."""
    values = np.asarray(values, np.float64)
    return float(values.mean()) if values.size else float("nan")


def deviation(values) -> float:
    """Standard deviation with n−1; NaN with fewer than two values or one that is not finite."""
    values = np.asarray(values, np.float64)
    if values.size < 2 or not np.isfinite(values).all():
        return float("nan")
    return float(values.std(ddof=1))


def intervals(change: np.ndarray, confidence: float, samples: int, seed: int) -> dict[str, float]:
    """Student's and the percentile bootstrap's interval of a mean over subjects [n]."""
    names = ("t_low", "t_high", "bootstrap_low", "bootstrap_high")
    if change.size < 2 or not np.isfinite(change).all():
        return dict.fromkeys(names, float("nan"))
    half = stats.t.ppf((1 + confidence) / 2, change.size - 1) * stats.sem(change)
    drawn = stats.bootstrap(
        (change,),
        np.mean,
        n_resamples=samples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    low, high = change.mean() - half, change.mean() + half
    return dict(zip(names, map(float, (low, high, drawn.low, drawn.high)), strict=True))


def markdown(table: str, frame: pd.DataFrame, *, verdicts: list[str] = VERDICTS) -> str:
    """A table as Markdown with its title and how to read it; mean and SD share a cell.

    Args:
        table: Of :data:`TABLES`.
        frame: From :func:`make`.
        verdicts: As in :func:`make`, for the note.
    """
    shown = _cells(table, frame)
    heads = list(shown.columns)
    body = [[_escape(cell) for cell in row] for row in shown.itertuples(index=False)]
    lines = [heads, ["---"] * len(heads), *body]
    grid = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    allowed = ", ".join(verdicts)
    note, none = NOTES[table], "there are no test subjects"
    if table in ("cases", "methods", "differences"):
        note += (
            f" Only slices with the verdict {allowed} (`summarize.verdicts`); the table "
            "`verdicts` shows the others."
        )
        none = f"no test slice has the verdict {allowed} (`summarize.verdicts`)"
    empty = f"\n\nNo rows: {none}." if not body else ""
    return f"# {TITLES[table]}\n\n{note}\n\n{grid}{empty}\n"


def _cells(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as text for people: rounded, mean ± SD and the ends of intervals joined."""
    if table == "cases":
        return _cases_cells(frame)
    shown = pd.DataFrame(index=frame.index)
    for column in frame.columns:
        stem = column.removesuffix("_mean")
        if column.endswith("_sd") and column.split("_sd")[0].removesuffix("_seed") in METRICS:
            continue
        if column.endswith("_high"):
            continue
        if column.endswith("_low"):
            name = column.removesuffix("_low")
            pairs = zip(frame[column], frame[f"{name}_high"], strict=True)
            shown[name] = [f"[{_number(low)}, {_number(high)}]" for low, high in pairs]
        elif stem != column and stem in METRICS:
            pairs = zip(frame[column], frame[f"{stem}_sd"], strict=True)
            shown[stem] = [_spread(centre, spread) for centre, spread in pairs]
            spread = frame.get(f"{stem}_seed_sd")
            if spread is not None and spread.notna().any():
                shown[f"{stem} seed_sd"] = [_number(value) for value in spread]
        else:
            shown[column] = [_number(value) for value in frame[column]]
    return shown


def _cases_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and SD rows joined into one, as in the paper."""
    rows: list[dict] = []
    above: dict = {}
    for row in frame.to_dict("records"):
        if row["case"] == "SD":
            joined = {name: _spread(above[name], row[name]) for name in _metrics(frame)}
            rows[-1] |= joined | {"case": "Mean ± SD"}
        else:
            rows.append({name: _number(value) for name, value in row.items()})
        above = row
    return pd.DataFrame(rows, columns=frame.columns)


def _spread(centre: float, spread: float) -> str:
    return _number(centre) if np.isnan(spread) else f"{_number(centre)} ± {_number(spread)}"


def _number(value) -> str:
    """Whole numbers and text as they are, others with four digits but never an exponent."""
    if not isinstance(value, float):
        return str(value)
    if not np.isfinite(value):
        return "–" if np.isnan(value) else str(value)
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"


def _escape(cell: str) -> str:
    return str(cell).replace("|", "\\|")


def base_name(method: str) -> str:
    """The model's name without its seed."""
    match = SEED.match(method)
    return match["model"] if match else method


def _wide(values: pd.DataFrame) -> pd.DataFrame:
    """One row per subject, method and region with a column per metric."""
    index = ["task", "fold", "subject", "method", "base", "region", "slices"]
    if values.empty:
        return pd.DataFrame(columns=index)
    return values.pivot(index=index, columns="metric", values="value").reset_index()


def _metrics(frame: pd.DataFrame) -> list[str]:
    return [name for name in METRICS if name in frame.columns]


def _select(frame: pd.DataFrame, **wanted) -> pd.DataFrame:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame


def ordered(names) -> list[str]:
    """Models in the order in which they come (the study's), then the baselines in their own."""
    names = list(dict.fromkeys(names))
    models = [name for name in names if name not in BASELINES]
    return models + [name for name in BASELINES if name in names]


def _groups(frame: pd.DataFrame, by: list[str], order: list[str]):
    """Groups in the tables' order: tasks, regions as in the papers, methods as in ``order``."""
    place = {"method": order.index, "region": REGIONS.index, "task": str}
    parts = list(frame.groupby(by, sort=False))
    return sorted(parts, key=lambda part: [place[c](v) for c, v in zip(by, part[0], strict=True)])


def write_frame(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table as TSV; undefined values as ``nan``."""
    frame.to_csv(path, sep="\t", index=False, na_rep="nan", float_format="%.7g")


def write_text(text: str, path: str | Path) -> None:
    """Write UTF-8 text."""
    Path(path).write_text(text, encoding="utf-8")
