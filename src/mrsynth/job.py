"""What every adapter needs: a log, atomic outputs, refusals as records.

An adapter hands its work to :func:`run`. Outputs are written under temporary names in the folder
of their final ones and renamed when the work is whole, so that a killed job leaves nothing behind
that looks finished (a Slurm job in an unknown state counts as a success if its outputs are there).
"""

import json
import logging
import math
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from mrsynth.errors import Refusal, StudyError

log = logging.getLogger("mrsynth")

READERS = tuple(
    f"mrsynth.{name}"
    for name in (
        "acquisitions",
        "archives",
        "columns",
        "contrast",
        "convert",
        "decoder",
        "dicom",
        "elements",
        "files",
        "grouping",
        "headers",
        "imagefiles",
        "index",
        "notes",
        "pixels",
        "pseudonym",
        "stacks",
        "volumes",
        "wanted",
    )
)
"""Modules that handle header text: an unforeseen error from there may quote it."""

OPTIONAL = ("bridge_record", "file")
"""Inputs that refuse nobody: a record without which a stage can go on, a file of the user's."""


def run(snakemake, work: Callable[[SimpleNamespace], dict | None]) -> None:
    """Run one job.

    Args:
        snakemake: The object that Snakemake hands to a script; has ``params.cfg`` and a named
            output ``record`` where the stage may refuse a subject.
        work: Gets a namespace with ``input``, ``output`` (temporary paths by name), ``cfg``,
            ``wildcards``, ``threads``, ``resources``; returns the stage's own entries for the
            record, or None.

    Raises:
        SystemExit: With code 1 after an error, whose text is in the job's log, or with the code
            that the work asked for.
    """
    with _logging(snakemake.log[0] if snakemake.log else None):
        _limit_threads(snakemake.threads)
        try:
            _run(snakemake, work)
        except StudyError as error:
            log.error("%s", error)
            raise SystemExit(1) from None
        except Exception:
            log.error("%s", _safe_traceback())
            raise SystemExit(1) from None


def _limit_threads(threads: int) -> None:
    """ITK does not heed Snakemake's OMP_NUM_THREADS and would take every core of a shared node."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    if "SimpleITK" in sys.modules:
        sys.modules["SimpleITK"].ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def _run(snakemake, work) -> None:
    outputs = dict(snakemake.output.items())
    names = dict(snakemake.wildcards.items())
    record = {"stage": snakemake.rule, **names, "status": "made"}
    per_subject = "record" in outputs and "subject" in names
    upstream = _first_refusal(snakemake.input) if per_subject else None
    with _temporary(outputs) as temporary:
        try:
            if upstream:
                raise Refusal(*upstream)
            job = SimpleNamespace(
                input=snakemake.input,
                output=SimpleNamespace(**{k: v for k, v in temporary.items() if k != "record"}),
                cfg=snakemake.params.cfg,
                wildcards=snakemake.wildcards,
                threads=snakemake.threads,
                resources=snakemake.resources,
            )
            record |= work(job) or {}
        except Refusal as refusal:
            if not per_subject:
                raise
            log.warning("refused: %s", refusal)
            _empty(snakemake, temporary)
            record |= {
                "status": "refused",
                "code": refusal.code,
                "message": refusal.message,
                "remedy": refusal.remedy,
            }
        if "record" in outputs:
            write_json(record, temporary["record"])
        _publish(temporary, outputs)


def write_json(content: dict, path: str | Path) -> None:
    """Write JSON with sorted keys and no NaN (they become null)."""
    Path(path).write_text(json.dumps(_plain(content), indent=1, sort_keys=True) + "\n")


def read_json(path: str | Path) -> dict:
    """Read a JSON object."""
    return json.loads(Path(path).read_text())


def _plain(value):
    """Numpy scalars and arrays as plain Python, non-finite numbers as None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _first_refusal(inputs) -> tuple[str, str, str] | None:
    """Code, message and remedy of the first refused record among a job's inputs."""
    for name, value in inputs.items():
        if name in OPTIONAL:
            continue
        for path in [value] if isinstance(value, str) else value:
            if str(path).endswith(".json") and os.path.getsize(path):
                record = read_json(path)
                if isinstance(record, dict) and record.get("status") == "refused":
                    return record["code"], record["message"], record.get("remedy", "")
    return None


class _temporary:
    """Temporary paths beside the final ones, same base name; removed on leaving."""

    def __init__(self, outputs: dict[str, str]):
        self.outputs = outputs
        self.folders: list[str] = []

    def __enter__(self) -> dict[str, str]:
        paths, made = {}, {}
        for name, final in self.outputs.items():
            parent = str(Path(final).parent)
            if parent not in made:
                os.makedirs(parent, exist_ok=True)
                made[parent] = tempfile.mkdtemp(prefix=".tmp-", dir=parent)
                self.folders.append(made[parent])
            paths[name] = os.path.join(made[parent], Path(final).name)
        return paths

    def __exit__(self, *_) -> None:
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


def _publish(temporary: dict[str, str], outputs: dict[str, str]) -> None:
    """Sync and rename every output; the record last, since it vouches for the others."""
    for name in sorted(outputs, key=lambda name: name == "record"):
        source, final = temporary[name], outputs[name]
        if os.path.isdir(source):
            shutil.rmtree(final, ignore_errors=True)
        else:
            with open(source, "rb+") as handle:
                os.fsync(handle.fileno())
        os.replace(source, final)


def _empty(snakemake, temporary: dict[str, str]) -> None:
    """An empty file or folder in the place of each output of a refused subject."""
    for name, path in temporary.items():
        if name == "record":
            continue
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.remove(path)
        if "." in Path(path).name:
            Path(path).touch()
        else:
            os.makedirs(path)


def _safe_traceback() -> str:
    """The traceback without values of local variables and without pydicom's quotes of a header."""
    kind, error, trace = sys.exc_info()
    frames = "".join(traceback.format_tb(trace))
    text = str(error)
    modules = {frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(trace)}
    modules.add(kind.__module__)
    if any(module.split(".")[0] == "pydicom" or module in READERS for module in modules):
        text = "(text withheld: it may quote a header)"
    return f"{frames}{kind.__name__}: {text}"


class _logging:
    """Log to the job's file, and warnings and progress to the terminal as well."""

    def __init__(self, path: str | None):
        self.path = path

    def __enter__(self) -> None:
        handlers: list[logging.Handler] = []
        if self.path:
            os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
            handlers.append(logging.FileHandler(self.path, mode="w"))
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setLevel(logging.WARNING)
        handlers.append(terminal)
        for handler in handlers:
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            log.addHandler(handler)
        log.setLevel(logging.INFO)
        self.handlers = handlers

    def __exit__(self, *_) -> None:
        for handler in self.handlers:
            log.removeHandler(handler)
            handler.close()
