"""`cohort`: who is in a task, with which series, and why others are not.

Folds come from a keyed hash of the subject, never from rank, so that a new patient never moves an
old one.
The user's sheet outranks every rule.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mrsynth import pseudonym
from mrsynth.errors import StudyError

COLUMNS = [
    "task",
    "subject",
    "pool",
    "unit",
    "split",
    "source",
    "target",
    "source_series",
    "target_series",
    "source_stacks",
    "target_stacks",
    "bridge_series",
    "interval_days",
    "status",
    "code",
    "message",
]
SHEET_COLUMNS = [
    "subject",
    "task",
    "exclude",
    "reason",
    "split",
    "interval_days",
    "source_series",
    "target_series",
]
SIDES = ("source", "target")
ROLES = ("train", "validation", "test")
YES = ("yes", "true", "1", "x", "y")
NO = ("no", "false", "0", "", "n")
UNIT_DIGITS = 6
"""Digits of a subject's place in [0, 1): finer than any cohort needs, short enough to read."""


@dataclass
class Cohort:
    """Tables of text: `rows` (one per task and subject), `flow` (inclusion), `demographics`."""

    rows: pd.DataFrame
    flow: pd.DataFrame
    demographics: pd.DataFrame


def role(unit: float, split: str, fold: int, *, folds: int, test: float, validation: float) -> str:
    """A subject's role in a fold: ``train``, ``validation`` or ``test``.

    The user's split wins in every fold. With one fold (hold-out) the subjects below ``test`` are
    tested, those
    below ``test + validation`` validate. With k ≥ 2 folds the subjects fall into k buckets,
    floor(k · unit);
    bucket ``fold`` is tested; with k ≥ 3 the next bucket (cyclically) validates; with k = 2 a share
    ``validation`` of the other bucket does, chosen by the place within the bucket. ``test`` counts
    only in the
    hold-out, ``validation`` not from three folds on.

    Args:
        unit: The subject's place in [0, 1).
        split: Empty, or the user's choice.
        fold: From 0.
        folds: Number of folds, 1 for a hold-out.
        test: Share of test subjects.
        validation: Share of validation subjects.

    Raises:
        StudyError: If there is no such fold.
    """
    if not 0 <= fold < folds:
        raise StudyError(f"fold '{fold}' does not exist; config key 'cohort.folds' = {folds}")
    if split:
        return split
    if folds == 1:
        return "test" if unit < test else "validation" if unit < test + validation else "train"
    bucket = math.floor(unit * folds)
    if bucket == fold:
        return "test"
    if folds > 2:
        return "validation" if bucket == (fold + 1) % folds else "train"
    return "validation" if unit * folds - bucket < validation else "train"


def build(
    series: pd.DataFrame,
    sheet: pd.DataFrame | None,
    images: dict[str, dict],
    tasks: dict[str, dict],
    *,
    key: bytes,
    max_interval_days: int = 3,
    allow_unknown_interval: bool = False,
    coverage: float = 0.8,
    folds: int = 1,
    test: float = 0.2,
    validation: float = 0.2,
) -> Cohort:
    """Choose each subject's series for each task.

    A series belongs to an image if every key that the image sets (modality, weighting, plane, …)
    is the same. Of
    several, original ones come before derived ones, without contrast medium before with, without
    fat
    saturation before with; then those that cover at least ``coverage`` of the longest one's
    extent; of these the
    one with the smallest slice spacing, then with most slices. Of all pairs of source and target,
    the one with
    the smallest interval is taken, then the one ranked first. A later task keeps the series that
    an earlier one
    chose for the same image of a subject, so that an image is converted once.

    Args:
        series: The series table of `index`, cells as text.
        sheet: The user's sheet (:func:`read_sheet`) or None.
        images: Image name → keys to match; a key that is null accepts anything.
        tasks: Task → ``source``, ``target``, ``bridge`` (image names; bridge may be null), and
            ``alignment``: ``register``, or ``none`` where both sides must share their frame of
            reference.
        key: The study's secret.
        max_interval_days: Largest interval between source and target (Lee 2020: three days).
        allow_unknown_interval: Take pairs without dates.
        coverage: Share of the longest candidate's extent that a series must cover to be preferred
            for its spacing.
        folds: Number of folds; 1 is a hold-out.
        test: Share of test subjects (hold-out).
        validation: Share of validation subjects (hold-out, or two folds).

    Raises:
        StudyError: If the sheet or the shares contradict themselves or the index.
    """
    _check_shares(folds, test, validation)
    everything, series = series, series[series["subject"] != ""]
    sheet = _check_sheet(sheet, series, tasks)
    options = {
        "limit": max_interval_days,
        "unknown": allow_unknown_interval,
        "coverage": coverage,
    }
    rows = []
    lines = {(line["subject"], line["task"]): line for line in sheet.to_dict("records")}
    for subject, part in series.groupby("subject", sort=True):
        own = part.to_dict("records")
        place = math.floor(pseudonym.unit(key, subject) * 10**UNIT_DIGITS) / 10**UNIT_DIGITS
        chosen: dict[str, str] = {}
        for task, roles in tasks.items():
            wish = _wish(lines, subject, task)
            earlier = {f"{side}_series": chosen.get(roles[side], "") for side in SIDES}
            pinned = {k: v or earlier.get(k, "") for k, v in wish.items()}
            row = _row(task, subject, own, pinned, images, roles, options)
            rows.append(row | {"unit": f"{place:.{UNIT_DIGITS}f}", "split": wish["split"]})
            if row["status"] == "included":
                chosen |= {roles[s]: row[f"{s}_series"] for s in SIDES if row[f"{s}_series"]}
        _add_bridges(rows[-len(tasks) :], own, images, tasks)
    order = list(tasks)
    rows.sort(key=lambda row: (order.index(row["task"]), row["subject"]))
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=str)
    return Cohort(table, _flow(table, everything), _demographics(table, series))


def read_series(path: str | Path) -> pd.DataFrame:
    """The series table, every cell as text."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def read_sheet(path: str | Path) -> pd.DataFrame:
    """The user's sheet, every cell as stripped text; columns that are left out are empty."""
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, comment="#")
    except (ValueError, UnicodeDecodeError) as error:
        raise StudyError(f"'{path}' is not a table separated by tabs: {error}") from None
    unknown = sorted(set(table.columns) - set(SHEET_COLUMNS))
    if unknown or "subject" not in table.columns:
        raise StudyError(
            f"'{path}': columns {', '.join(unknown) or 'without subject'}; "
            f"known are {', '.join(SHEET_COLUMNS)}, separated by tabs"
        )
    table = table.reindex(columns=SHEET_COLUMNS, fill_value="")
    return table.apply(lambda column: column.str.strip())


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """A table of text, separated by tabs."""
    table.to_csv(path, sep="\t", index=False, lineterminator="\n")


def _check_shares(folds: int, test: float, validation: float) -> None:
    if folds == 1 and test + validation >= 1:
        raise StudyError(
            f"config keys 'cohort.test' = {test} and 'cohort.validation' = {validation} leave "
            "nobody to train on; their sum must be below 1"
        )


def _check_sheet(sheet: pd.DataFrame | None, series: pd.DataFrame, tasks: dict) -> pd.DataFrame:
    """Refuse a sheet that names what is not there."""
    if sheet is None:
        return pd.DataFrame(columns=SHEET_COLUMNS, dtype=str)
    sheet = sheet.assign(subject=sheet["subject"].str.removeprefix("sub-"))
    for number, row in enumerate(sheet.to_dict("records"), start=2):
        where = f"cohort sheet, line {number}"
        own = series[series["subject"] == row["subject"]]
        if own.empty:
            raise StudyError(
                f"{where}: subject '{row['subject']}' is not in results/index/series.tsv; correct "
                "or remove the line (a new key renames all subjects)"
            )
        if row["task"] and row["task"] not in tasks:
            raise StudyError(
                f"{where}: task '{row['task']}' is unknown; there are {', '.join(tasks)}"
            )
        if row["split"] and row["split"] not in ROLES:
            raise StudyError(f"{where}: split '{row['split']}' is none of {', '.join(ROLES)}")
        if row["exclude"].lower() not in (*YES, *NO):
            raise StudyError(f"{where}: exclude '{row['exclude']}' is neither yes nor no")
        if row["interval_days"] and not row["interval_days"].lstrip("-").isdigit():
            raise StudyError(f"{where}: interval_days '{row['interval_days']}' is no whole number")
        for side in ("source_series", "target_series"):
            if row[side] and row[side] not in set(own["series"]):
                raise StudyError(f"{where}: {side} '{row[side]}' is no series of this subject")
    twice = sheet[sheet.duplicated(["subject", "task"])]
    if len(twice):
        raise StudyError(
            f"cohort sheet: subject '{twice['subject'].iloc[0]}' has two lines; keep one"
        )
    return sheet


def _wish(lines: dict[tuple[str, str], dict], subject: str, task: str) -> dict:
    """The user's line for a subject, the one for this task over the one for all; empty without."""
    wish = dict.fromkeys(SHEET_COLUMNS, "")
    for name in ("", task):
        line = lines.get((subject, name), {})
        wish |= {column: value for column, value in line.items() if value}
    return wish


def _row(task, subject, own, wish, images, roles, options) -> dict:
    """One row of the cohort table, without unit and split."""
    row = dict.fromkeys(COLUMNS, "") | {
        "task": task,
        "subject": subject,
        "pool": "paired",
        "source": roles["source"],
        "target": roles["target"],
        "status": "excluded",
    }
    if wish["exclude"].lower() in YES:
        return row | {"code": "EXCLUDED_BY_SHEET", "message": wish["reason"]}
    found, lost = {}, {}
    for side in SIDES:
        image = images[roles[side]]
        found[side] = _candidates(own, image, wish[f"{side}_series"], options["coverage"])
        if not found[side]:
            lost[side] = _refused(own, image, wish[f"{side}_series"])
    for side, refused in lost.items():
        if refused is not None:
            message = f"{roles[side]}: {refused['code']}: {refused['message']}"
            return row | {"code": "REFUSED_SERIES", "message": message}
    if len(lost) == 2:
        return row | {
            "pool": "",
            "code": "NO_SOURCE_NO_TARGET",
            "message": "neither image is there",
        }
    if lost:
        side, other = ("target", "source") if "target" in lost else ("source", "target")
        best = found[other][0]
        return row | {
            "pool": other,
            f"{other}_series": best["series"],
            f"{other}_stacks": best["stacks"],
            "status": "included",
            "code": f"NO_{side.upper()}",
            "message": f"no series is a {roles[side]}; in the unpaired pool only",
        }
    return row | _pair(found, wish, roles, options)


def _candidates(own: list[dict], image: dict, wish: str, coverage: float) -> list[dict]:
    """Series that are an image, best first."""
    used = [row for row in own if row["status"] == "used"]
    if wish:
        return [row for row in used if row["series"] == wish]
    rows = [row for row in used if _matches(row, image, strict=True)]
    longest = max((_float(row["extent_mm"]) for row in rows), default=0.0)
    return sorted(
        rows,
        key=lambda row: (
            row["kind"] != "original",
            row["contrast"] == "yes",
            row["fatsat"] == "yes",
            _float(row["extent_mm"]) < coverage * longest,
            _float(row["spacing_mm"]),
            -_float(row["slices"]),
            row["series"],
        ),
    )


def _refused(own: list[dict], image: dict, wish: str) -> dict | None:
    """A refused series that would have been the image; keys that it lacks count as met."""
    for row in sorted(own, key=lambda row: row["series"]):
        if row["status"] != "refused":
            continue
        if row["series"] == wish or (not wish and _matches(row, image, strict=False)):
            return row
    return None


def _matches(row: dict, image: dict, strict: bool) -> bool:
    wanted = {name: value for name, value in image.items() if value is not None}
    return all(
        row.get(name, "") == str(value)
        or (not strict and not row.get(name, "") and name != "modality")
        for name, value in wanted.items()
    )


def _pair(found: dict, wish: dict, roles: dict, options: dict) -> dict:
    """Entries of the best pair, or the reason against it."""
    pairs = [
        (_derived(source) + _derived(target), _interval(source, target, wish), i + j, i, j)
        for i, source in enumerate(found["source"])
        for j, target in enumerate(found["target"])
    ]
    pairs = [(kind, math.inf if days is None else days, *rest) for kind, days, *rest in pairs]
    aligned = pairs
    if roles.get("alignment") == "none":
        sides = found["source"], found["target"]
        aligned = [pair for pair in pairs if _same_frame(sides[0][pair[3]], sides[1][pair[4]])]
    within = [pair for pair in aligned if pair[1] <= options["limit"]]
    _, days, _, i, j = min(within or aligned or pairs)
    source, target = found["source"][i], found["target"][j]
    entries = {
        "source_series": source["series"],
        "target_series": target["series"],
        "source_stacks": source["stacks"],
        "target_stacks": target["stacks"],
        "interval_days": "" if math.isinf(days) else str(days),
    }
    if not aligned:
        return entries | {
            "code": "FRAME",
            "message": "'alignment: none', but source and target do not share a frame of reference",
        }
    if math.isinf(days) and not options["unknown"]:
        return entries | {
            "code": "UNKNOWN_INTERVAL",
            "message": "source or target has no date; set interval_days in config/cohort.tsv, or "
            "'cohort.allow_unknown_interval: true'",
        }
    if not math.isinf(days) and days > options["limit"]:
        return entries | {
            "code": "INTERVAL",
            "message": f"{days} days between source and target, at most {options['limit']} allowed",
        }
    return entries | {"status": "included"}


def _same_frame(one: dict, other: dict) -> bool:
    """Whether two series say that they share their coordinates."""
    return one["frame"] == other["frame"] != ""


def _add_bridges(rows: list[dict], own: list[dict], images: dict, tasks: dict) -> None:
    """Give a subject's pairs the series in the target's frame that eases their registration.

    An image is converted from one series, so a bridge that some pair has as its source or target,
    or an earlier pair as its bridge, is that very series or none.
    """
    pairs = [row for row in rows if row["status"] == "included" and row["pool"] == "paired"]
    used = {row[side]: row[f"{side}_series"] for row in pairs for side in SIDES}
    for row in pairs:
        bridge = tasks[row["task"]].get("bridge")
        if not bridge:
            continue
        target = next(line for line in own if line["series"] == row["target_series"])
        candidates = _candidates(own, images[bridge], used.get(bridge, ""), 0.0)
        near = [line["series"] for line in candidates if _same_frame(line, target)]
        if near:
            row["bridge_series"] = used[bridge] = near[0]


def _derived(row: dict) -> int:
    return int(row["kind"] != "original")


def _interval(source: dict, target: dict, wish: dict) -> int | None:
    """Days between two series: the user's, else by the dates; 0 within one study without dates."""
    if wish["interval_days"]:
        return abs(int(wish["interval_days"]))
    if source["day"] and target["day"]:
        return abs(int(target["day"]) - int(source["day"]))
    return 0 if source["study"] == target["study"] != "" else None


def _float(text: str) -> float:
    return float(text) if text else 0.0


def _flow(rows: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Inclusion flow: how many subjects (and series) each step leaves, in order.

    Series without a subject (no patient ID) count as series of nobody.
    """
    series = series.assign(subject=series["subject"].where(series["subject"] != ""))
    steps = [("", "indexed", "", series["subject"].nunique(), len(series))]
    for status in ("skipped", "refused"):
        for code, part in series[series["status"] == status].groupby("code", sort=True):
            steps.append(("", f"series {status}", code, part["subject"].nunique(), len(part)))
    for task, own in rows.groupby("task", sort=False):
        steps.append((task, "considered", "", len(own), ""))
        out = own[own["status"] == "excluded"]
        steps += [(task, "excluded", code, len(part), "") for code, part in out.groupby("code")]
        kept = own[own["status"] == "included"]
        for pool in ("source", "target"):
            steps.append((task, f"unpaired {pool}", "", int((kept["pool"] == pool).sum()), ""))
        steps.append((task, "paired", "", int((kept["pool"] == "paired").sum()), ""))
    return pd.DataFrame(steps, columns=["task", "step", "code", "subjects", "series"], dtype=object)


def _demographics(rows: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Who the included subjects of each task are; no date, no single value but the age range."""
    table = []
    kept = rows[rows["status"] == "included"]
    for (task, pool), own in kept.groupby(["task", "pool"], sort=True):
        theirs = series[series["subject"].isin(own["subject"])]
        chosen = theirs[theirs["series"].isin([*own["source_series"], *own["target_series"]])]
        for name, value in _quantities(own, theirs, chosen):
            table.append((task, pool, name, value))
    return pd.DataFrame(table, columns=["task", "pool", "quantity", "value"], dtype=object)


def _quantities(own: pd.DataFrame, theirs: pd.DataFrame, chosen: pd.DataFrame):
    """Names and values of one group of subjects."""
    sex = theirs.groupby("subject")["sex"].max()
    age = pd.to_numeric(theirs["age_years"]).groupby(theirs["subject"]).min().dropna()
    yield "subjects", len(own)
    yield from ((name, int((sex == code).sum())) for name, code in (("women", "F"), ("men", "M")))
    yield "other or unknown sex", int((~sex.isin(["F", "M"])).sum())
    if len(age):
        yield "age, mean (years)", f"{age.mean():.1f}"
        yield "age, range (years)", f"{age.min():.0f}–{age.max():.0f}"
    days = pd.to_numeric(own["interval_days"]).dropna()
    if len(days):
        yield "interval, mean (days)", f"{days.mean():.1f}"
        yield "interval, largest (days)", f"{days.max():.0f}"
    for stacks in ("source_stacks", "target_stacks"):
        counts = pd.to_numeric(own[stacks]).dropna()
        if len(counts):
            yield f"{stacks.replace('_', ' ')} per subject, mean", f"{counts.mean():.2f}"
    for name, column in (
        ("scanner", "scanner"),
        ("manufacturer", "manufacturer"),
        ("field (T)", "field_t"),
    ):
        for value, count in (
            chosen[chosen[column] != ""].groupby(column)["subject"].nunique().items()
        ):
            yield f"{name}: {value}", int(count)
