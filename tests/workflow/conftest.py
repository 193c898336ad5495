"""A small study in a copy of the checkout, run for real."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MACHINE = ("--cores", "2", "--resources", "gpu=1")
PARTS = ("Snakefile", "workflow", "src", "profiles", "envs")


class Checkout:
    """A copy of the workflow with a study in it; counts jobs that really ran, by their logs."""

    def __init__(self, folder: Path, config: Path):
        self.folder = folder
        for part in PARTS:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / part)
        self.environment: dict[str, str] = {}
        self.prefix: list[str] = []
        (folder / "config").mkdir()
        shutil.copy2(config, folder / "config/config.yaml")

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run snakemake as a user would, in the copy."""
        done = subprocess.run(
            [*self.prefix, sys.executable, "-m", "snakemake", *arguments, *MACHINE],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder / "src")} | self.environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert not check or done.returncode == 0, done.stderr[-6000:] + self.logs()
        return done

    def plan(self) -> str:
        """What a dry run says (Snakemake sends it to standard output)."""
        done = self.snakemake("--dry-run")
        return done.stdout + done.stderr

    def logs(self) -> str:
        """The end of every log that holds an error."""
        texts = [path.read_text()[-2000:] for path in (self.folder / "logs").rglob("*.log")]
        return "\n".join(text for text in texts if "ERROR" in text)

    def executed(self, *arguments: str) -> dict[str, list[str]]:
        """Run and return the jobs that were executed: stage → names, by log files rewritten."""
        before = self._stamps()
        self.snakemake(*arguments)
        ran: dict[str, list[str]] = {}
        for path, stamp in self._stamps().items():
            if before.get(path) != stamp:
                stage, name = path.relative_to(self.folder / "logs").as_posix().split("/", 1)
                ran.setdefault(stage, []).append(name.removesuffix(".log"))
        return ran

    def _stamps(self) -> dict[Path, int]:
        logs = self.folder / "logs"
        return {path: path.stat().st_mtime_ns for path in logs.rglob("*.log")}

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file of the copy; it must be there."""
        path = self.folder / name
        text = path.read_text()
        assert old in text, f"{name} has no {old!r}"
        path.write_text(text.replace(old, new, 1))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id) -> Checkout:
    """The tiny study, run from raw DICOM to tables. Tests that change it use `changed`.

    All workers of one test run share it: whoever comes first makes it, the others wait.
    """
    if worker_id == "master":
        return _finished(tmp_path_factory.mktemp("study"))
    folder = tmp_path_factory.getbasetemp().parent / "study"
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = folder.with_suffix(".made")
        if not made.exists():
            folder.mkdir()
            _finished(folder)
            made.touch()
        return _opened(folder)


def _finished(folder: Path) -> Checkout:
    checkout = Checkout(folder, ROOT / "tests/data/tiny.yaml")
    checkout.snakemake()
    return checkout


def _opened(folder: Path) -> Checkout:
    """A checkout that is there already."""
    checkout = object.__new__(Checkout)
    checkout.folder, checkout.environment, checkout.prefix = folder, {}, []
    return checkout


@pytest.fixture
def fresh():
    """Makes a copy of the checkout with the tiny study, nothing run yet, in a folder."""
    return lambda folder: Checkout(folder, ROOT / "tests/data/tiny.yaml")


@pytest.fixture(scope="session")
def make_checkout():
    """Makes a copy of the checkout in an empty folder, with a config file of one's own."""
    return Checkout


@pytest.fixture
def changed(finished, tmp_path) -> Checkout:
    """A copy of the finished study, time stamps kept, free to be changed."""
    shutil.copytree(finished.folder, tmp_path / "study", symlinks=True)
    return _opened(tmp_path / "study")
