"""The conda file and the pip lock name the same versions of the same direct dependencies."""

import ast
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
NOT_PINNED = {"python", "pip", "make"}


def locked() -> dict[str, str]:
    lines = (ROOT / "envs/requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower(): version for name, version in pairs}


def conda() -> dict[str, str]:
    content = yaml.safe_load((ROOT / "envs/environment.yaml").read_text())
    found = {}
    for entry in content["dependencies"]:
        for line in entry["pip"] if isinstance(entry, dict) else [entry]:
            name, _, version = re.match(r"([A-Za-z0-9_-]+)(=+)?(.*)", line).groups()
            found[CONDA_NAMES.get(name.lower(), name.lower())] = version
    return {name: v for name, v in found.items() if name not in NOT_PINNED and name != "-e"}


def imported(path: Path) -> set[str]:
    """First parts of the names that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_same_versions():
    lock = locked()
    assert {name: lock.get(name) for name in conda()} == conda()


def test_nothing_unpinned():
    assert all(re.fullmatch(r"[0-9][\w.]*", version) for version in locked().values())


def test_imports_are_declared():
    """Every third-party package that the code imports is a direct dependency of the conda file."""
    distribution = {
        "ants": "antspyx",
        "PIL": "pillow",
        "skimage": "scikit-image",
        "yaml": "pyyaml",
        "SimpleITK": "simpleitk",
    }
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow/scripts").glob("*.py")]
    used = {name for path in sources for name in imported(path)}
    third = used - set(sys.stdlib_module_names) - {"mrsynth"}
    declared = set(conda())
    missing = {name for name in third if distribution.get(name, name).lower() not in declared}
    assert not missing
