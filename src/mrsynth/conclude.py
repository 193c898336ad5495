"""The closing summary: what was made, how good it is, what was left out and why, and where things
are.

Markdown that reads as plain text on a terminal of 100 columns, since it is printed when the run
ends.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import yaml

from mrsynth import tallies
from mrsynth.errors import StudyError
from mrsynth.prose import by, count, grid, paragraphs, people, wrap
from mrsynth.summarize import ERRORS, ordered
from mrsynth.verdicts import registrations

ALIGNED = ("warp", "window", "pick", "crop")
"""Stages that see what the registration made."""

STAGES = ("index", "convert", "locate", "resample", "register", *ALIGNED, "pack")
"""Stages that can leave a subject out, in the order of the data: it is told where it arose."""

REFUSED_CODES = ("REFUSED_SERIES",)
"""Codes of the cohort sheet that stand for a refusal by an earlier stage rather than for a
choice."""

SHOWN_METRICS = ("mae", "psnr", "psnr_paper", "ssim")
"""Metrics of the summary's main table, as far as they were measured."""

READING = (
    "Mean ± SD over subjects. psnr paper is psnr + 48.13 dB, the papers' formula, printed only to "
    "be read beside theirs. Only slices with a verdict of 'summarize.verdicts' count."
)
"""How to read the main table."""

NONE_USABLE = (
    "No test slice has a verdict of 'summarize.verdicts'; the table 'verdicts' has the others. "
    "Judge the registrations on results/review/<task>.html; its rows go to config/review.tsv."
)
"""Said of a task instead of its numbers."""

JUDGE = (
    "look at results/register/<task>/sub-<subject>.png and judge it on results/review/<task>.html, "
    "whose rows go to config/review.tsv; without a pose there is nothing to accept: exclude the "
    "subject in config/cohort.tsv, or change 'register'"
)
"""What to do about a registration that isn't accepted."""

REMEDIES = {
    "VERDICT": JUDGE,
    "NO_LANDMARKS": "set 'pack.crop' to body or none, or give landmarks to 'locate'",
    "FIELD": "lower 'pack.min_valid', or exclude the subject in config/cohort.tsv",
    "EMPTY": "look at results/crop/<task>/sub-<subject>.png; adapt 'warp.body_threshold'",
}
"""What to do when `pack` leaves out the last slice of a subject."""

SHOWN_SUBJECTS = 8
"""Subjects named in a line about single slices."""

POLICIES = ("report", "fail")
"""After refusals: end well and tell them, or tell them and end with an error."""


@dataclass(frozen=True)
class Conclusion:
    """The end of a study.

    Attributes:
        text: The summary.
        failed: Whether the run must end with an error, by the exit policy.
        status: The same in numbers, for a file.
    """

    text: str
    failed: bool
    status: dict = field(default_factory=dict)


def conclude(
    records: list[dict],
    options: list[dict],
    tables: list[pd.DataFrame],
    *,
    packs: list[dict] = (),
    excluded: list[dict] = (),
    noted: list[dict] = (),
    on_refusal: str = "report",
    region: str = "body",
    paths: list[str] = (),
) -> Conclusion:
    """Sum up a study.

    Args:
        records: The stages' records; refused ones are told, made ones counted, and `register`'s
            give the reasons for its verdicts.
        options: ``options.json`` of each training with ``task``, ``model``, ``fold`` added.
        tables: Tables ``methods`` and ``differences`` of every task, in any order.
        packs: Records of `pack`: counts per role and subject, and the slices ``left_out``.
        excluded: Subjects that the cohort sheet leaves out: ``task``, ``subject``, ``code``,
            ``message``.
        noted: Included pairs of the cohort sheet with ``notes``: ``task``, ``subject``, ``notes``.
        on_refusal: ``report`` or ``fail``.
        region: Region of the main numbers.
        paths: Files to point at.

    Raises:
        StudyError: An unknown policy.
    """
    if on_refusal not in POLICIES:
        raise StudyError(
            f"config key 'on_refusal' = '{on_refusal}'; use one of: {', '.join(POLICIES)}"
        )
    refused = refusals(records, [row for row in excluded if row["code"] in REFUSED_CODES])
    refused = sorted([*refused, *dropped(packs, records)], key=_rank)
    left_out = exclusions([row for row in excluded if row["code"] not in REFUSED_CODES])
    failed = on_refusal == "fail" and bool(refused)
    met = [row for row in records if row.get("subject")]
    parts = [
        "# Summary of the study",
        *_results(tables, region, packs),
        *tallies.images(packs),
        *_trainings(options),
        *_left_out("Left out because of their data", refused),
        *_left_out("Not included by the cohort's rules", left_out),
        *tallies.noted(list(noted)),
        *_slices(packs),
        *_doubts(records, refused),
        *_where(paths),
    ]
    if failed:
        parts.append("The run ends with an error because 'on_refusal' is 'fail'.")
    status = {
        "failed": failed,
        "left_out": people(refused),
        "on_refusal": on_refusal,
        "subjects": people([*met, *excluded]),
        "subjects_not_included": people(left_out),
        "trainings": len(options),
    }
    return Conclusion("\n\n".join(parts) + "\n", failed, status)


def refusals(records: list[dict], series: list[dict] = ()) -> list[dict]:
    """Each refusal once, at the stage where it arose.

    A refused record is handed on by all later stages and appears in each of them.

    Returns:
        Dicts with ``stage``, ``subject``, ``code``, ``message``, ``remedy`` and ``where`` (tasks or
        images), by stage, code and subject.
    """
    merged: dict[tuple, dict] = {}
    for record in [*records, *({**row, "stage": "index", "status": "refused"} for row in series)]:
        if record.get("status") != "refused" or not record.get("subject"):
            continue
        key = (record["subject"], record["code"], record["message"])
        entry = merged.setdefault(key, {"remedy": "", "where": {}})
        entry |= dict(zip(("subject", "code", "message"), key, strict=True))
        entry["remedy"] = record.get("remedy") or entry["remedy"]
        names = [record.get("image") or "", record.get("task") or ""]
        entry["where"].setdefault(record["stage"], set()).update(filter(None, names))
    verdicts = {(row["subject"], row["task"]): row["verdict"] for row in registrations(records)}
    rows = []
    for entry in merged.values():
        stage = min(entry["where"], key=_place)
        row = {**entry, "stage": stage, "where": sorted(entry["where"][stage])}
        doubts = {verdicts.get((row["subject"], task)) for task in row["where"]} - {None}
        if stage in ALIGNED and doubts and "registration's verdict" not in row["message"]:
            told = "', '".join(sorted(doubts))
            row["message"] += f"; the registration's verdict is '{told}'"
        rows.append(row)
    return sorted(rows, key=_rank)


def dropped(packs: list[dict], records: list[dict] = ()) -> list[dict]:
    """Subjects whom nothing refused and who have no slice in any pack of a task.

    Args:
        packs: Records of `pack`.
        records: The stages' records, for the registration's reasons.

    Returns:
        One row per task and subject, the same keys as :func:`refusals`; ``code`` is the most
        frequent reason of the slices, ``stage`` is ``register`` where its verdict is that reason.
    """
    inside = {(p.get("task", ""), name) for p in packs for name in p.get("slices_by_subject", {})}
    slices: dict[tuple, dict[tuple, str]] = {}
    for pack in packs:
        for row in pack.get("left_out", []):
            who = (pack.get("task", ""), row["subject"])
            if row["key"] and who not in inside:
                slices.setdefault(who, {})[row["key"], row["code"]] = row["message"]
    reasons = {(row["task"], row["subject"]): row["message"] for row in registrations(records)}
    rows = []
    for (task, subject), found in sorted(slices.items()):
        counts = Counter(code for _, code in found)
        [(code, _), *_] = counts.most_common()
        stage = "register" if code == "VERDICT" and (task, subject) in reasons else "pack"
        why = next(message for (_, other), message in found.items() if other == code)
        why = f"registration {reasons[task, subject]}" if stage == "register" else why
        told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        row = {"stage": stage, "code": code, "subject": subject, "where": [task] if task else []}
        message = f"no slice is in any pack ({told}); {why}"
        rows.append(row | {"message": message, "remedy": REMEDIES.get(code, "")})
    return rows


def listing(records: list[dict]) -> str:
    """Who was left out so far and which registrations aren't accepted, as plain text.

    Args:
        records: Records of any stages and subjects, as many as exist when a run breaks off.
    """
    refused, doubtful = refusals(records), registrations(records)
    lines = [f"Refused so far: {_subjects(refused)}"]
    for row in refused:
        where = f" ({', '.join(row['where'])})" if row["where"] else ""
        lines.append(f"- {row['subject']}{where}, {row['stage']}, {row['code']}: {row['message']}")
        lines += [f"  - Remedy: {row['remedy']}"] if row["remedy"] else []
    lines.append(f"Registrations not accepted so far: {_subjects(doubtful)}")
    for row in doubtful:
        where = f" ({row['task']})" if row["task"] else ""
        lines.append(f"- {row['subject']}{where}: {row['message']}")
    lines += [f"  - Remedy: {JUDGE}"] if doubtful else []
    return paragraphs(lines) + "\n"


def exclusions(rows: list[dict]) -> list[dict]:
    """Each exclusion once, with the tasks it holds for; the same keys as :func:`refusals`."""
    merged: dict[tuple, set] = {}
    for row in rows:
        key = (row["code"] or "NO_PAIR", row["subject"], row.get("message", ""))
        merged.setdefault(key, set()).add(row.get("task", ""))
    return [
        {"stage": "cohort", "code": code, "subject": subject, "message": message, "remedy": ""}
        | {"where": sorted(filter(None, tasks))}
        for (code, subject, message), tasks in sorted(merged.items())
    ]


def judge(differences: pd.DataFrame, method: str, baselines: Iterable[str]) -> str:
    """Whether a method beats the baselines, in words: every interval must lie on its side of 0."""
    rows = differences[(differences["method"] == method) & differences["reference"].isin(baselines)]
    if rows.empty or rows[["t_low", "t_high"]].isna().any(axis=None):
        return f"{method}: too few test subjects for an interval"
    lower = rows["metric"].isin(ERRORS)
    ahead = (lower & (rows["t_high"] < 0)) | (~lower & (rows["t_low"] > 0))
    behind = (lower & (rows["t_low"] > 0)) | (~lower & (rows["t_high"] < 0))
    if ahead.all():
        return f"{method}: better than every baseline, all intervals clear of 0"
    sides = {"better than": ahead, "worse than": behind, "not told apart from": ~(ahead | behind)}
    told = {word: ", ".join(rows["reference"][side]) for word, side in sides.items()}
    return f"{method}: " + "; ".join(f"{word} {names}" for word, names in told.items() if names)


def _results(tables: list[pd.DataFrame], region: str, packs: list[dict]) -> list[str]:
    """A section per task: the methods' main numbers, then the differences from the baselines."""
    methods = [table for table in tables if "seeds" in table and "reference" not in table]
    differences = [table for table in tables if "reference" in table]
    measured = [task for table in [*methods, *differences] for task in table["task"]]
    tested = [p["task"] for p in packs if p.get("role") == "test" and p["slices"]]
    tasks = dict.fromkeys([*measured, *tested])
    parts = []
    for task in tasks:
        parts.append(f"## Task {task}: test subjects, region '{region}'")
        part = _of_task(methods, task)
        part = part[part["region"] == region] if len(part) else part
        if len(part):
            parts += [grid(_method_rows(part)), wrap(READING)]
        gaps = _of_task(differences, task)
        if len(gaps):
            parts.append(paragraphs(_difference_lines(gaps)))
        if task not in measured:
            parts.append(wrap(NONE_USABLE))
    return parts or [wrap("No test images were measured.")]


def _method_rows(part: pd.DataFrame) -> list[list[str]]:
    names = [name for name in SHOWN_METRICS if f"{name}_mean" in part]
    rows = [["method", "subjects", *(name.replace("_", " ") for name in names)]]
    for row in part.to_dict("records"):
        places = [3 if name == "ssim" else 2 for name in names]
        cells = [
            f"{row[f'{name}_mean']:.{n}f} ± {row[f'{name}_sd']:.{n}f}"
            for name, n in zip(names, places, strict=True)
        ]
        name = row["method"] + (" (control)" if row["kind"] == "control" else "")
        rows.append([name, str(row["subjects"]), *cells])
    return rows


def _difference_lines(gaps: pd.DataFrame) -> list[str]:
    """One sentence per model, then a line per model and baseline."""
    baselines = [name for name in ordered(gaps["reference"]) if name not in set(gaps["method"])]
    first = gaps.iloc[0]
    lines = [
        f"Paired differences within the subject in {first['metric']} ({first['region']}), mean "
        f"with Student's interval over subjects:"
    ]
    for method in gaps["method"].unique():
        lines.append(f"- {judge(gaps, method, baselines)}")
        for row in gaps[gaps["method"] == method].to_dict("records"):
            lines.append(
                f"  - minus {row['reference']}: {row['mean']:.2f} [{row['t_low']:.2f}, "
                f"{row['t_high']:.2f}], better in {row['better']} of {row['subjects']} subjects"
            )
    return lines


def _trainings(options: list[dict]) -> list[str]:
    """A line per training: the network and the image size that the settings allowed."""
    if not options:
        return []
    lines = []
    for entry in options:
        settings = entry.get("settings", {})
        network = entry.get("generator", {})
        size = "×".join(str(side) for side in entry.get("image_size", []))
        facts = [
            f"objective {entry.get('objective')}",
            f"{network.get('filters')} filters, {network.get('blocks')} residual blocks",
            f"{size} pixels",
            f"{entry.get('iteration')} iterations of batch {settings.get('batch')}",
            f"{entry.get('training_pairs')} training pairs",
            f"{entry.get('validation_pairs')} validation pairs",
            f"on {entry.get('device')}",
        ]
        if entry.get("seconds"):
            facts.append(f"{float(entry['seconds']):.0f} s")
        if settings.get("shuffle_pairs"):
            facts.append("control: trained on shuffled pairs")
        name = f"{entry['task']}, {entry['model']}, fold {entry['fold']}"
        lines.append(f"- {name}: {', '.join(facts)}")
    return ["## Trained models", paragraphs(lines)]


def _left_out(title: str, rows: list[dict]) -> list[str]:
    """Everybody who is not in, by stage and code, with the reason; the remedy once per reason."""
    lines = []
    for (stage, code), part in by(rows, ("stage", "code")).items():
        lines.append(f"- {stage}, {code}: {_subjects(part)}")
        for row in part:
            where = f" ({', '.join(row['where'])})" if row["where"] else ""
            told = f": {row['message']}" if row["message"] else ""
            lines.append(f"  - {row['subject']}{where}{told}")
        for remedy in dict.fromkeys(row["remedy"] for row in part if row["remedy"]):
            lines.append(f"  - Remedy: {remedy}")
    return [f"## {title}: {_subjects(rows)}", *([paragraphs(lines)] if lines else [])]


def _subjects(rows: list[dict]) -> str:
    return count(people(rows), "subject")


def _names(rows: list[dict]) -> str:
    names = sorted({row["subject"] for row in rows})
    more = len(names) - SHOWN_SUBJECTS
    return ", ".join(names[:SHOWN_SUBJECTS]) + (f" and {more} more" if more > 0 else "")


def _slices(packs: list[dict]) -> list[str]:
    """Single slices left out of the packs, each once whatever the folds, and whose they are."""
    seen = {
        (record.get("task", ""), row["code"], row["subject"], row["key"])
        for record in packs
        for row in record.get("left_out", [])
        if row["key"]
    }
    rows = [dict(zip(("task", "code", "subject", "key"), one, strict=True)) for one in sorted(seen)]
    lines = [
        f"- {task}, {code}: {len(part)} of {_subjects(part)}: {_names(part)}"
        for (task, code), part in by(rows, ("task", "code")).items()
    ]
    return [
        f"## Slices left out of the packs: {len(rows)}",
        *([paragraphs(lines)] if lines else []),
    ]


def _doubts(records: list[dict], refused: list[dict]) -> list[str]:
    """Registrations that aren't accepted, of subjects who aren't listed as left out."""
    gone = {(row["subject"], task) for row in refused for task in row["where"]}
    rows = [r for r in registrations(records) if (r["subject"], r["task"]) not in gone]
    lines = [f"- {row['subject']} ({row['task']}): {row['message']}" for row in rows]
    title = f"## Other registrations not accepted by themselves: {_subjects(rows)}"
    return [title, paragraphs(lines)] if rows else []


def _where(paths: list[str]) -> list[str]:
    return ["## Files", "\n".join(f"- {path}" for path in paths)] if paths else []


def _place(stage: str) -> int:
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def _rank(row: dict) -> tuple:
    return _place(row["stage"]), row["code"], row["subject"]


def _of_task(tables: list[pd.DataFrame], task: str) -> pd.DataFrame:
    parts = [table[table["task"] == task] for table in tables if task in set(table["task"])]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def read_options(path: str | Path) -> dict:
    """Read ``options.json`` and add ``task``, ``model`` and ``fold`` from where it lies."""
    task, model, fold = Path(path).parts[-4:-1]
    return {
        "task": task,
        "model": model,
        "fold": fold.removeprefix("fold-"),
        **json.loads(Path(path).read_text()),
    }


def read_records(paths: list[str]) -> list[dict]:
    """Read records; an empty file counts for nothing."""
    return [json.loads(Path(path).read_text()) for path in paths if Path(path).stat().st_size]


def read_frame(path: str | Path) -> pd.DataFrame:
    """Read a table of `summarize`."""
    kinds = dict.fromkeys(("task", "method", "reference", "region", "metric", "case", "model"), str)
    return pd.read_csv(path, sep="\t", dtype=kinds, keep_default_na=False, na_values=["nan"])


def write_study(config: dict, path: str | Path) -> None:
    """Write the merged config as YAML, without the pseudonym key: results may be shared."""
    shown = {key: value for key, value in config.items() if key != "key_hex"}
    Path(path).write_text(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
