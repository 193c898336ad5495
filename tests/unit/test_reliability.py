"""docs/reliability.md names a test for every line, and the tests exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/reliability.md").read_text()
FILES = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}


def test_every_line_has_a_row_with_a_test():
    rows = re.findall(r"^\| ([ABE]\d+) \| [^|]+ \| ([^|]+) \|$", TEXT, flags=re.MULTILINE)
    named = {name for name, tests in rows if "test_" in tests}
    wanted = {f"A{number}" for number in range(1, 31)} | {f"B{number}" for number in range(31, 41)}
    assert wanted | {"B43"} <= named


def test_the_named_tests_exist():
    found = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", TEXT)
    assert len(found) > 50
    for file, name in found:
        assert file in FILES, file
        assert not name or f"def {name}(" in FILES[file].read_text(), f"{file}::{name}"
