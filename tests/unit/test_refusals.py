"""docs/refusals.md lists the reason codes that the source can produce: all, and no others."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOC = ROOT / "docs/refusals.md"
CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
ROW = re.compile(r"^\| `([A-Z0-9_]+)` \| ([^|]*) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
KINDS = {"refused", "skipped", "warning", "excluded", "included", "out"}
SECTIONS = {
    "index": ("dicom", "files", "grouping", "headers", "pixels", "stacks", "index"),
    "archives": ("archives",),
    "volumes": ("imagefiles", "volumes"),
    "cohort": ("cohort", "choices", "matching", "candidates", "demographics"),
    "convert": ("convert", "decoder", "digests"),
    "locate": ("locate", "segment"),
    "resample, register, warp": ("resample", "register", "warp"),
    "window": ("window",),
    "pick": ("pick",),
    "crop": ("crop",),
    "pack": ("pack",),
    "conclude": ("conclude",),
}
"""Heading of the document → modules (or packages) and adapters whose codes stand under it."""

COMPUTED = {
    "f'NO_{side.upper()}'": ("NO_SOURCE", "NO_TARGET"),
    "kind.upper()": ("LOCALIZER", "PROJECTION", "SCREEN"),
}
"""Codes that the source builds from other words: expression → what it can give."""

HANDED_ON = re.compile(
    r"(\w+\.)*code|\w+\['code'\]|bad\[0\]\[0\]|\*upstream|''|','\.join\(sorted\(warnings\)\)"
)
"""Expressions that hold a code which was given elsewhere."""

LISTS = ("warnings", "flags")
"""Names of lists and sets of codes."""

NOT_CODES = {
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
}
"""Words with an underscore in capitals that are names of something else."""


HEADER_WORDS = ("contrast", "elements", "headers", "imagefiles", "notes")
"""Modules whose words in capitals are mostly those of DICOM headers."""


def sources(*names: str) -> list[Path]:
    """Files of some modules, packages and their adapters; all of the package without names."""
    files = [*(ROOT / "src/mrsynth").rglob("*.py"), *(ROOT / "workflow/scripts").glob("*.py")]
    return [path for path in sorted(files) if not names or {path.stem, path.parent.name} & {*names}]


def codes(node: ast.expr) -> set[str]:
    """Codes that an expression in the place of a code can give; fails on one it can't read."""
    if isinstance(node, ast.IfExp):
        return codes(node.body) | codes(node.orelse)
    if isinstance(node, ast.BoolOp):
        return set().union(*map(codes, node.values))
    if isinstance(node, ast.List | ast.Set):
        return set().union(*map(codes, node.elts))
    if isinstance(node, ast.Constant) and CODE.fullmatch(str(node.value)):
        return {node.value}
    text = ast.unparse(node)
    if isinstance(node, ast.Call) and name_of(node.func) == "get" and len(node.args) == 2:
        return codes(node.args[1])
    if text in COMPUTED:
        return set(COMPUTED[text])
    assert HANDED_ON.fullmatch(text), f"{text!r} stands for a code: add it to COMPUTED"
    return set()


def name_of(node: ast.expr) -> str:
    """The last name of a variable or attribute."""
    return getattr(node, "id", getattr(node, "attr", ""))


def assigned(target: ast.expr, value: ast.expr) -> set[str]:
    """Codes that an assignment gives to something called ``code``, also within tuples."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(target.elts, value.elts, strict=True)
        return set().union(*(assigned(*pair) for pair in pairs))
    return codes(value) if name_of(target) == "code" else set()


def listed(node: ast.AST) -> set[str]:
    """Codes that are added to a list of warnings or flags, or given as one or none of them."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in [f"{n}.append" for n in LISTS]:
        return codes(node.args[0])
    if isinstance(node, ast.AugAssign) and name_of(node.target) in LISTS:
        parts = [part for part in ast.walk(node.value) if isinstance(part, ast.List | ast.Set)]
        return set().union(*map(codes, parts))
    if isinstance(node, ast.IfExp):
        branches = [node.body, node.orelse]
        if "[]" in map(ast.unparse, branches):
            words = [v for b in branches for v in getattr(b, "elts", [])]
            values = [getattr(word, "value", None) for word in words]
            return {v for v in values if isinstance(v, str) and CODE.fullmatch(v)}
    return set()


def returned(function: ast.AST) -> set[str]:
    """First words of the pairs (code, message) that a function ``_reason`` returns."""
    if not isinstance(function, ast.FunctionDef) or function.name != "_reason":
        return set()
    values = [part.value for part in ast.walk(function) if isinstance(part, ast.Return)]
    return set().union(*(codes(v.elts[0]) for v in values if isinstance(v, ast.Tuple)))


def produced(path: Path) -> set[str]:
    """All codes that a file can write."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        found |= listed(node) | returned(node)
        if isinstance(node, ast.Call) and name_of(node.func) == "Refusal":
            found |= codes(node.args[0])
        elif isinstance(node, ast.Call) and name_of(node.func) == "_left":
            found |= set() if isinstance(node.args[-1], ast.Starred) else codes(node.args[3])
        elif isinstance(node, ast.Assign):
            found |= set().union(*(assigned(target, node.value) for target in node.targets))
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            named = [value for key, value in pairs if getattr(key, "value", None) == "code"]
            found |= set().union(*map(codes, named))
        elif isinstance(node, ast.BoolOp) and ast.unparse(node.values[0]) == "row['code']":
            found |= codes(node)
    return found


def documented() -> dict[str, list[str]]:
    """Codes by heading, in the order of the document."""
    parts = re.split(r"^## (.+)$", DOC.read_text(), flags=re.MULTILINE)[1:]
    return {
        heading: [row[0] for row in ROW.findall(text)]
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }


def test_all_code_is_read():
    in_sections = {path for names in SECTIONS.values() for path in sources(*names)}
    for path in set(sources()) - in_sections:
        assert not produced(path), f"{path.name} writes codes; give it a place in SECTIONS"


@pytest.mark.parametrize("heading", SECTIONS)
def test_codes_are_those_of_the_source(heading):
    source = set().union(*map(produced, sources(*SECTIONS[heading])))
    listed_there = documented().get(heading, [])
    assert len(listed_there) == len(set(listed_there)), "a code is listed twice"
    assert source - set(listed_there) == set(), "missing in docs/refusals.md"
    assert set(listed_there) - source == set(), "not in the source"


def test_headings():
    assert list(documented()) == list(SECTIONS)


def test_rows_are_whole():
    text = DOC.read_text()
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    rows = ROW.findall(text)
    assert len(rows) == len(lines)
    for code, kinds, meaning, remedy in rows:
        assert set(kinds.split(", ")) <= KINDS, code
        assert meaning.endswith("."), code
        assert remedy.endswith("."), code


def test_nothing_looks_like_a_code_and_is_none():
    """A net for codes that are written down in a way that `produced` does not know."""
    known = {code for part in documented().values() for code in part} | NOT_CODES
    strange = {
        f"{path.name}: {node.value}"
        for path in sources()
        if path.stem not in HEADER_WORDS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if "_" in node.value and CODE.fullmatch(node.value) and node.value not in known
    }
    assert not strange


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('raise Refusal("A_B", "…")', {"A_B"}),
        ('raise Refusal("A" if x else "B", "…")', {"A", "B"}),
        ('file.state, file.code = "refused", file.header.code or refusal.code', set()),
        ('header.state, header.code = "skipped", "A_B"', {"A_B"}),
        ('row |= {"status": "out", "code": "A_B" if near else "C"}', {"A_B", "C"}),
        ('code, message = record.get("code", "A"), record.get("message", "")', {"A"}),
        ('warnings |= {"A"} if tilted else set()', {"A"}),
        ('flags.append("A_B")', {"A_B"}),
        ('return [] if usual else ["A_B"]', {"A_B"}),
        ("def _reason(n):\n    return 'A', f'…'", {"A"}),
        ('out.append(_left(subject, key, name, "A", message))', {"A"}),
        ('key = (row["code"] or "A_B", row["subject"])', {"A_B"}),
    ],
)
def test_reading(tmp_path, line, expected):
    path = tmp_path / "module.py"
    path.write_text(line)
    assert produced(path) == expected


def test_unreadable_code_fails(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("raise Refusal(make_code(), 'x')")
    with pytest.raises(AssertionError, match="make_code"):
        produced(path)
