"""Who the subjects are, in the form of a paper's table; ages and sexes stay in the private folder.

Ages and sexes are read from ``private/index/persons.tsv``, counted, and forgotten: ``results/``
holds counts, means and ranges of groups, never a line about one person.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mrsynth.subjects import person

COLUMNS = ["task", "group", "quantity", "value"]

UNKNOWN = "no header tells the {}, and the study limits it"
HIDDEN = "–"
"""Stands for what too few persons share to be printed."""

WORDS = (("women", "F"), ("men", "M"))
SCANNING = (
    ("scanner", ["manufacturer", "scanner"], ""),
    ("field strength", ["field_t"], " T"),
    ("tube voltage", ["kvp"], " kV"),
)
"""Rows about scanners: name, columns of the series table, unit."""


@dataclass(frozen=True)
class Limits:
    """Who is in by age and sex.

    Attributes:
        min_years, max_years: Ages that are in, both included; None is no limit.
        sex: ``F``, ``M``, or None for all.
        unknown: Whether those are in of whom no header tells what a limit asks for.
    """

    min_years: float | None = None
    max_years: float | None = None
    sex: str | None = None
    unknown: bool = False


def read_persons(private: str | Path) -> pd.DataFrame | None:
    """Ages and sexes by series, from ``<private>/index/persons.tsv``; None where there is none."""
    path = Path(private) / "index/persons.tsv"
    if not path.exists():
        return None
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def by_person(table: pd.DataFrame | None) -> dict[str, dict]:
    """Each person's age at the first scan (years, or None) and sex (``F``, ``M``, ``O`` or empty).

    A person of two sexes in the headers has none.
    """
    if table is None or table.empty:
        return {}
    ages = pd.to_numeric(table["age_years"], errors="coerce").groupby(table["subject"]).min()
    people = {}
    for subject, own in table[table["sex"] != ""].groupby("subject")["sex"]:
        people[subject] = {"sex": own.iloc[0] if own.nunique() == 1 else ""}
    return {
        subject: {"age": None if pd.isna(age) else float(age), "sex": ""} | people.get(subject, {})
        for subject, age in ages.items()
        if subject
    }


def outside(one: dict | None, limits: Limits) -> dict[str, str] | None:
    """``code`` and ``message`` of who is outside the limits; the message tells no age, no sex."""
    one = one or {"age": None, "sex": ""}
    low, high = limits.min_years, limits.max_years
    if low is not None or high is not None:
        if one["age"] is None:
            if not limits.unknown:
                return {"code": "UNKNOWN_PERSON", "message": UNKNOWN.format("age")}
        elif (low is not None and one["age"] < low) or (high is not None and one["age"] > high):
            keys = "cohort.min_age_years and cohort.max_age_years"
            return {"code": "AGE", "message": f"outside the ages of {keys}"}
    if limits.sex is not None and one["sex"] != limits.sex:
        if one["sex"] in ("F", "M"):
            return {"code": "SEX", "message": f"cohort.sex takes {limits.sex} only"}
        if not limits.unknown:
            return {"code": "UNKNOWN_PERSON", "message": UNKNOWN.format("sex")}
    return None


def table(
    rows: pd.DataFrame,
    series: pd.DataFrame,
    people: dict[str, dict],
    groups: dict[str, dict[str, pd.DataFrame]],
    *,
    min_cell: int = 3,
) -> pd.DataFrame:
    """Quantities of every group of every task.

    Groups and cells of fewer than ``min_cell`` persons are not told: of such a group only its
    size, of such a cell only that it is small. Ages from 90 on count as 90 (the index caps them).

    Args:
        rows: The cohort table.
        series: The series table.
        people: Of :func:`by_person`.
        groups: Task → group → its included rows.
        min_cell: Smallest count that is printed.
    """
    lines = []
    for task, parts in groups.items():
        for name, own in parts.items():
            if len(own) or name == "paired":
                lines += [
                    (task, name, *line) for line in _quantities(own, series, people, min_cell)
                ]
    return pd.DataFrame(lines, columns=COLUMNS, dtype=object)


def _quantities(own: pd.DataFrame, series: pd.DataFrame, people: dict, min_cell: int):
    """Names and values of one group."""
    members = own["subject"].map(person)
    names = sorted(set(members))
    yield "subjects", str(len(names))
    if len(names) < max(min_cell, 1):
        return
    known = [people.get(name, {"age": None, "sex": ""}) for name in names]
    yield from _sexes(known, min_cell)
    ages = pd.Series([one["age"] for one in known], dtype=float).dropna()
    yield from _ages(ages, min_cell)
    if set(own["pool"]) == {"paired"}:
        counts = members.value_counts()
        yield "pairs per subject, mean (range)", _mean(counts, 2) + _range(counts)
    days = pd.to_numeric(own["interval_days"]).dropna()
    if len(days):
        yield "interval, days, mean (range)", _mean(days, 1) + _range(days)
    for side in ("source", "target"):
        stacks = pd.to_numeric(own[f"{side}_stacks"]).dropna()
        if len(stacks):
            yield f"{side} stacks, mean (range)", _mean(stacks, 2) + _range(stacks)
    used = [*own["source_series"], *own["target_series"]]
    yield from _scanners(series[series["series"].isin(used)], min_cell)
    yield from _noted(own, min_cell)


def _sexes(known: list[dict], min_cell: int):
    """Women and men; both hidden if one count is small, since the other would tell it."""
    counts = {word: sum(one["sex"] == code for one in known) for word, code in WORDS}
    counts["other or unknown sex"] = len(known) - sum(counts.values())
    small = any(0 < count < min_cell for count in counts.values())
    for word, count in counts.items():
        if count or word != "other or unknown sex":
            yield word, HIDDEN if small else str(count)


def _ages(ages: pd.Series, min_cell: int):
    if len(ages) < max(min_cell, 2):
        yield "age, years, mean ± SD (range)", HIDDEN
        return
    oldest = "≥90" if ages.max() >= 90 else f"{ages.max():.0f}"
    spread = f"{ages.mean():.1f} ± {ages.std(ddof=1):.1f} ({ages.min():.0f}–{oldest})"
    yield "age, years, mean ± SD (range)", spread


def _scanners(chosen: pd.DataFrame, min_cell: int):
    """Persons by scanner, field strength and tube voltage, per modality; small cells are summed."""
    for modality in ("CT", "MR"):
        part = chosen[chosen["modality"] == modality]
        for name, columns, unit in SCANNING:
            words = part[columns].agg(" ".join, axis=1).str.strip() if len(part) else pd.Series()
            # A hash says nothing to a reader, and a rare scanner may name its hospital.
            words = words.str.replace(r"\bscn-\w+", "", regex=True).str.strip()
            told = words[words != ""]
            counts = part.loc[told.index].groupby(told)["subject"].nunique()
            few = counts[counts < min_cell]
            for word, count in counts[counts >= min_cell].items():
                yield f"{modality} {name}: {word}{unit}", str(count)
            if len(few):
                yield f"{modality} {name}: others, fewer than {min_cell} each", HIDDEN


def _noted(own: pd.DataFrame, min_cell: int):
    """Pairs by note, such as a CT with contrast medium."""
    words = own["notes"].str.split(",").explode()
    for word, count in words[words != ""].value_counts().sort_index().items():
        yield f"noted: {word}", str(count) if count >= min_cell else HIDDEN


def _mean(values: pd.Series, digits: int) -> str:
    return f"{values.mean():.{digits}f}"


def _range(values: pd.Series) -> str:
    return f" ({values.min():.0f}–{values.max():.0f})"


def markdown(table: pd.DataFrame, *, min_cell: int = 3) -> str:
    """The demographics as Markdown: one table per task, a column per group."""
    parts = ["# Demographics"]
    parts.append(
        "Subjects are persons; a pair is a source and a target image of one visit. Ages are at the "
        "first scan; SD with n−1. Ages from 90 on count as 90. Groups and cells of fewer than "
        f"{min_cell} persons (`cohort.min_cell`) are not told ({HIDDEN})."
    )
    for task, own in table.groupby("task", sort=False):
        wide = own.pivot(index="quantity", columns="group", values="value").fillna("")
        wide = wide.loc[own["quantity"].drop_duplicates(), own["group"].drop_duplicates()]
        lines = [["", *wide.columns], ["---"] * (len(wide.columns) + 1)]
        lines += [[name, *cells] for name, cells in zip(wide.index, wide.to_numpy(), strict=True)]
        grid = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"## Task {task}\n\n{grid}")
    return "\n\n".join(parts) + "\n"


def write_markdown(text: str, path: str | Path) -> None:
    """Write UTF-8 text."""
    Path(path).write_text(text, encoding="utf-8")
