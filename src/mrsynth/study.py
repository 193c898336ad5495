"""A study's settings: checked against the schemas, filled with defaults, merged per task and model.

Top-level stage blocks are defaults; a task may override any of them in a block of the same name,
and a model the training block. Every mistake is a :class:`StudyError` that names the key.
"""

import copy
import difflib
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from mrsynth import contradictions
from mrsynth.errors import StudyError
from mrsynth.index import manifest

PRIVATE_LISTS = ("links.tsv", "exclude.tsv")
"""The user's lists in the private folder that the cohort depends on."""

SHARED_STAGES = (
    "phantom",
    "index",
    "cohort",
    "convert",
    "segment",
    "locate",
    "forecast",
    "conclude",
)
"""Stages that run once for all tasks: a task can't override them."""

ON_UNPAIRED = ("unpaired", "mrgan")
"""Objectives that learn from unpaired images (their ``data``, known here without loading torch)."""

TASK_STAGES = (
    "resample",
    "register",
    "warp",
    "window",
    "pick",
    "crop",
    "show",
    "pack",
    "train",
    "synthesize",
    "evaluate",
    "summarize",
    "plot",
)


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        config: The whole config with defaults.
        blocks: (stage, task, model) → merged settings; task and model are empty where they don't
            matter.
        models: task → model names, seeds expanded.
    """

    config: dict
    blocks: dict = field(repr=False)
    models: dict

    @property
    def tasks(self) -> list[str]:
        return list(self.config["tasks"])

    def block(self, stage: str, task: str = "", model: str = "") -> dict:
        """The merged settings of a stage, as a new dict."""
        return copy.deepcopy(self.blocks[stage, task, model])

    def task(self, task: str) -> dict:
        """One task's own settings."""
        return self.config["tasks"][task]

    def needs_pools(self, task: str, model: str = "") -> bool:
        """Whether a model of a task, or any of them, trains on subjects with one image only."""
        blocks = [
            self.block("train", task, name) for name in ([model] if model else self.models[task])
        ]
        return any(
            block["objective"] in ON_UNPAIRED and block["unpaired"] in ("pools", "all")
            for block in blocks
        )

    def pair(self, task: str) -> dict:
        """A task's images and whether they are registered, as the cohort needs them."""
        keys = ("source", "target", "bridge", "alignment")
        return {key: self.task(task)[key] for key in keys}

    def public(self) -> dict:
        """The config without what may name people or this machine: paths and the key."""
        hidden = ("dicom", "volumes", "volume_sheet", "private", "key_hex", "sheet", "review")
        return {key: value for key, value in self.config.items() if key not in hidden}

    def controls(self, task: str) -> list[str]:
        """Models that were trained on shuffled pairs: controls, not candidates."""
        return [
            model
            for model in self.models[task]
            if self.block("train", task, model)["shuffle_pairs"]
        ]


def load_schemas(folder: str | Path) -> dict[str, dict]:
    """Schemas by name from ``<name>.schema.yaml``."""
    return {
        path.name.removesuffix(".schema.yaml"): yaml.safe_load(path.read_text())
        for path in sorted(Path(folder).glob("*.schema.yaml"))
    }


def load(config: dict, schemas: dict[str, dict]) -> Study:
    """Check a config and merge its blocks.

    Args:
        config: The content of a study file.
        schemas: ``config`` for the top level, and one per stage.

    Raises:
        StudyError: Naming the key, its value and what is allowed.
    """
    config = copy.deepcopy(config)
    _check(config, schemas["config"], "")
    config = with_defaults(config, schemas["config"])
    if not config["dicom"] and not config["volumes"]:
        raise StudyError(
            "config keys 'dicom' and 'volumes' are both empty; name a folder of DICOM or of volumes"
        )
    _check_references(config)
    blocks = {}
    for stage in SHARED_STAGES:
        blocks[stage, "", ""] = _stage(stage, schemas, [("", config.get(stage))])
    config["cohort"] = blocks["cohort", "", ""]
    models = {}
    for name, task in config["tasks"].items():
        for stage in TASK_STAGES:
            layers = [("", config.get(stage)), (f"tasks.{name}.", task.get(stage))]
            blocks[stage, name, ""] = _stage(stage, schemas, layers)
        models[name] = _models(name, task, config, schemas, blocks)
    loaded = Study(config, blocks, models)
    contradictions.check(loaded)
    return loaded


def _models(name: str, task: dict, config: dict, schemas: dict, blocks: dict) -> list[str]:
    """Expand seeds into model names and merge each model's training block."""
    names = []
    for model, settings in task["models"].items():
        settings = dict(settings or {})
        seeds = settings.pop("seeds", None)
        for seed in seeds or [None]:
            label = model if seed is None else f"{model}-seed{seed}"
            layers = [
                ("", config.get("train")),
                (f"tasks.{name}.", task.get("train")),
                (f"tasks.{name}.models.{model}", settings),
            ]
            block = _stage("train", schemas, layers)
            if seed is not None:
                block["seed"] = seed
            blocks["train", name, label] = block
            names.append(label)
    return names


def _stage(stage: str, schemas: dict, layers: list[tuple[str, dict | None]]) -> dict:
    merged: dict = {}
    for prefix, layer in layers:
        layer = layer or {}
        where = prefix if ".models." in prefix else f"{prefix}{stage}"
        _check(layer, {**schemas[stage], "required": []}, where)
        merged = deep_merge(merged, layer)
    merged = with_defaults(merged, schemas[stage])
    _check(merged, schemas[stage], stage)
    return merged


def deep_merge(base: dict, over: dict) -> dict:
    """A new dict: ``over`` on top of ``base``, dicts merged key by key, anything else replaced."""
    merged = copy.deepcopy(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = deep_merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def with_defaults(value, schema: dict):
    """The value with the schema's defaults where keys are missing, at every depth."""
    if not isinstance(value, dict):
        return value
    filled = copy.deepcopy(value)
    for key, part in schema.get("properties", {}).items():
        if key not in filled and "default" in part:
            filled[key] = copy.deepcopy(part["default"])
        if key in filled:
            filled[key] = with_defaults(filled[key], part)
    others = schema.get("additionalProperties")
    if isinstance(others, dict):
        for key in filled.keys() - schema.get("properties", {}).keys():
            filled[key] = with_defaults(filled[key], others)
    return filled


def _check(value, schema: dict, where: str) -> None:
    errors = sorted(Draft202012Validator(schema).iter_errors(value), key=lambda e: list(e.path))
    if errors:
        raise StudyError(_explain(errors[0], where))


def _explain(error, where: str) -> str:
    """One schema error as a sentence with the key, the value and the remedy."""
    key = ".".join(filter(None, [where, *(str(part) for part in error.absolute_path)]))
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known))
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
        name = f"{key}.{unknown[0]}" if key else unknown[0]
        return f"config key '{name}' is unknown; {hint}"
    if error.validator == "required":
        missing = error.message.split("'")[1]
        name = f"{key}.{missing}" if key else missing
        return f"config key '{name}' is missing; {_describe(error.schema, missing)}"
    about = error.schema.get("description", "")
    return f"config key '{key}' = {error.instance!r}: {error.message}. {about}".strip()


def _describe(schema: dict, key: str) -> str:
    return schema.get("properties", {}).get(key, {}).get("description", "see config/README.md")


def _check_references(config: dict) -> None:
    """Names that one part of the config uses and another defines."""
    images = config["images"]
    for name, task in config["tasks"].items():
        for role in ("source", "target", "bridge"):
            image = task.get(role)
            if image is not None and image not in images:
                raise StudyError(
                    f"config key 'tasks.{name}.{role}' = '{image}' is not one of the images "
                    f"({', '.join(images)}); add it under 'images' or correct the name"
                )
        if task["source"] == task["target"]:
            raise StudyError(
                f"config keys 'tasks.{name}.source' and '.target' are both '{task['source']}'; "
                "a task needs two different images"
            )


def check_name(name: str, known: list[str], what: str) -> None:
    """Raise :class:`StudyError` if a name is not known, listing what there is."""
    if name not in known:
        raise StudyError(f"{what} '{name}' does not exist; there are: {', '.join(known)}")


def check_targets(targets, study: Study) -> None:
    """Refuse a requested file whose task, model or fold the study does not have.

    Raises:
        StudyError: Naming the unknown name and what there is.
    """
    for target in map(str, targets):
        parts = target.split("/")
        if parts[0] != "results" or len(parts) < 3 or parts[1] not in TASK_STAGES:
            continue
        check_name(parts[2], study.tasks, "task (config key 'tasks')")
        if parts[1] in ("train", "synthesize", "evaluate") and len(parts) > 3:
            key = f"model (config key 'tasks.{parts[2]}.models')"
            check_name(parts[3], study.models[parts[2]], key)
        fold = re.search(r"/fold-([^/.]+)", target)
        if fold:
            folds = [str(fold) for fold in range(study.config["cohort"]["folds"])]
            check_name(fold[1], folds, "fold (config key 'cohort.folds')")


def drifts(study: Study, results: Path, installed: dict[str, str]) -> list[str]:
    """What has changed since the results were made and does not rerun by itself, as sentences."""
    said = []
    made = results / "cohort/settings.json"
    if made.exists():
        recorded = json.loads(made.read_text())
        if recorded.get("settings") != cohort_key(study):
            said.append(
                "settings of 'index', 'cohort', 'images' or 'tasks' (or config/cohort.tsv, or a "
                "list in the private folder) changed since results/cohort/cohort.tsv was made; "
                "`snakemake cohort` applies them"
            )
        lost = missing_trees(study)
        if lost:
            said.append(
                f"{_keys(study)}: {', '.join(lost)} can't be reached now; what is converted "
                "already stays"
            )
        elif recorded.get("tree") not in (None, manifest(roots(study))):
            said.append(
                "the input tree changed since results/cohort/cohort.tsv was made; "
                "`snakemake cohort` brings new scans in"
            )
    made = results / "conclude/versions.json"
    if made.exists():
        before = json.loads(made.read_text())
        changed = [
            f"{name} {before[name]} → {version}"
            for name, version in installed.items()
            if before.get(name, version) != version
        ]
        if changed:
            said.append(
                f"library versions changed since the last complete run ({', '.join(changed)}); "
                "results made before stay as they are; `snakemake --forceall` remakes everything"
            )
    return said


def missing_trees(study: Study) -> list[str]:
    """Input trees of the config that do not exist."""
    return [f"'{root}'" for root in roots(study) if not Path(root).exists()]


def roots(study: Study) -> list[str]:
    """All input trees: of DICOM and of volume files."""
    return [*study.config["dicom"], *study.config["volumes"]]


def _keys(study: Study) -> str:
    """What to call them in a message."""
    return "config key 'dicom'" + (" or 'volumes'" if study.config["volumes"] else "")


def check_trees(study: Study, cohort: Path) -> None:
    """Refuse missing input trees of a study that has no cohort yet and makes none itself.

    Raises:
        StudyError: Naming the folders.
    """
    lost = missing_trees(study)
    if lost and not cohort.exists() and "phantom" not in study.config:
        raise StudyError(
            f"{_keys(study)}: {', '.join(lost)} does not exist; paths are seen from the folder "
            "in which the command runs (or --directory)"
        )


def tree_key(study: Study, made: str) -> str:
    """Digest of the input trees: which they are, and path, size and time of every file.

    Args:
        study: The study.
        made: A tree that the workflow makes itself, whose files are inputs already.
    """
    found = [root for root in roots(study) if Path(root) != Path(made)]
    text = json.dumps(roots(study)) + (manifest(found) if found else "")
    if study.config["volumes"]:
        text += json.dumps([len(study.config["dicom"]), _stamp(Path(study.config["volume_sheet"]))])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stamp(path: Path) -> list[int]:
    """Size and time of change: a digest of the content might be undone by trying patient IDs."""
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else []


def cohort_key(study: Study) -> str:
    """Digest of all settings that the cohort sheet depends on, the user's sheet included."""
    keys = {
        "index": study.block("index"),
        "cohort": study.block("cohort"),
        "images": study.config["images"],
        "tasks": {name: study.pair(name) for name in study.tasks},
        "dicom": study.config["dicom"],
        "volumes": [study.config["volumes"], _stamp(Path(study.config["volume_sheet"]))],
        "phantom": study.block("phantom") if "phantom" in study.config else None,
        "private": [_stamp(Path(study.config["private"]) / name) for name in PRIVATE_LISTS],
    }
    sheet = Path(study.config["sheet"])
    # Bytes, since `cohort` is to say what is wrong with a sheet in another encoding.
    content = json.dumps(keys, sort_keys=True).encode()
    content += sheet.read_bytes() if sheet.exists() else b""
    return hashlib.sha256(content).hexdigest()[:16]
