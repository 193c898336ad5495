"""What made a result: a fingerprint of the code, the versions of the libraries, the commit.

Snakemake does not see a change in an imported package, and its own ``code`` trigger fires on a
file's time alone, so on every fresh clone. The fingerprint is a digest of content: the syntax of
the adapter and of all modules of the package that it imports, without comments and docstrings.
"""

import ast
import hashlib
import importlib.util
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = "mrsynth"
LIBRARIES = (
    "antspyx",
    "matplotlib",
    "numpy",
    "pandas",
    "pydicom",
    "safetensors",
    "scikit-image",
    "scipy",
    "SimpleITK",
    "snakemake",
    "torch",
)
"""The libraries that a result's numbers depend on."""


def fingerprint(script: str | Path, modules: tuple[str, ...] = ()) -> str:
    """Digest of a script and of everything of the package that it imports, directly or not.

    Args:
        script: The adapter's path.
        modules: Dotted names that the script imports by name at run time (an objective's module).

    Returns:
        16 hexadecimal digits, the same for the same content on every machine and Python version.
    """
    digests = {Path(script).name: _read(Path(script), "").digest}
    queue = [*_read(Path(script), "").imports, *modules]
    while queue:
        name = queue.pop()
        path = _locate(name)
        if name in digests or path is None:
            continue
        file = _read(path, name)
        digests[name] = file.digest
        for data in _data(path, file.texts):
            digests[f"{name}:{data.name}"] = _read(data, "").digest
        queue += file.imports
    listing = "".join(f"{name}\0{digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


def lead_jobs_to(folder: Path) -> None:
    """Make jobs import the package from this folder, whatever else is installed."""
    others = [path for path in [os.environ.get("PYTHONPATH")] if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *others])


def versions() -> dict[str, str]:
    """Installed versions of the libraries that results depend on."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "absent"
    return found


def commit(folder: str | Path) -> str:
    """The commit of a working tree, ``-changed`` behind it if it has changes; empty without git."""
    try:
        return subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty=-changed", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def canonical(node) -> str:
    """A syntax tree as text that does not differ between Python versions.

    ``ast.dump`` prints fields that newer versions added; here empty fields are left out. Docstrings
    are left out as well; positions and comments are not part of the tree.
    """
    if isinstance(node, ast.AST):
        fields = []
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(value, list):
                value = _without_docstring(node, value)
            if value is None or value == [] or name in ("type_comment", "kind"):
                continue
            fields.append(f"{name}={canonical(value)}")
        return f"{type(node).__name__}({','.join(sorted(fields))})"
    if isinstance(node, list):
        return f"[{','.join(canonical(item) for item in node)}]"
    return f"{type(node).__name__}:{node!r}"


def _without_docstring(node: ast.AST, body: list) -> list:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, documented) and body and _is_text(body[0]):
        return body[1:]
    return body


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@dataclass(frozen=True)
class _File:
    """What the fingerprint needs of one file: its digest, the names it imports, its texts."""

    digest: str
    imports: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()


def _read(path: Path, name: str) -> _File:
    status = path.stat()
    return _read_stamped(path, name, status.st_mtime_ns, status.st_size)


@cache
def _read_stamped(path: Path, name: str, *_stamp) -> _File:
    """Read one file once per process and change; ``name`` is its dotted name (empty: a script)."""
    if path.suffix != ".py":
        return _File(hashlib.sha256(path.read_bytes()).hexdigest())
    tree = ast.parse(path.read_text())
    texts = frozenset(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    package = name.split(".") if name else []
    package = package if path.name == "__init__.py" else package[:-1]
    digest = hashlib.sha256(canonical(tree).encode()).hexdigest()
    return _File(digest, _imports(tree, package), texts)


def _imports(tree: ast.AST, package: list[str]) -> frozenset[str]:
    """Dotted names of our package that a module imports, and the packages above them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    ours = {name for name in found if name.split(".")[0] == PACKAGE}
    parents = {name.rsplit(".", n)[0] for name in ours for n in range(1, name.count(".") + 1)}
    return frozenset(ours | parents)


@cache
def _locate(name: str) -> Path | None:
    """The file of a module of the package, or None if the name is not a module."""
    root = Path(importlib.util.find_spec(PACKAGE).origin).parent
    path = root.joinpath(*name.split(".")[1:])
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def _data(path: Path, texts: frozenset[str]) -> list[Path]:
    """Package data that a module names in a string: files of its own folder."""
    return [
        file
        for file in sorted(path.parent.iterdir())
        if file.is_file() and file.suffix != ".py" and file.name in texts
    ]
