"""One word per stage, everywhere; two params per rule; adapters stay thin."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "workflow/rules"
TARGETS = {"all", "preprocess", "datasets", "models", "tables"}
NO_SETTINGS = {"enforce", "review"}


def blocks() -> dict[str, str]:
    """Text of every rule by name."""
    found = {}
    for path in [ROOT / "Snakefile", *sorted(RULES.glob("*.smk"))]:
        parts = re.split(r"^(?:rule|checkpoint) (\w+):\n", path.read_text(), flags=re.MULTILINE)
        found |= dict(zip(parts[1::2], parts[2::2], strict=True))
    return found


STAGES = {name: text for name, text in blocks().items() if name not in TARGETS}


def test_stages_are_found():
    assert {"phantom", "index", "cohort", "convert", "train", "conclude"} <= set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_one_word(stage):
    package = ROOT / "src/mrsynth"
    assert (ROOT / f"workflow/scripts/{stage}.py").is_file()
    assert (package / f"{stage}.py").is_file() or (package / stage / "__init__.py").is_file()
    assert list((ROOT / "tests/unit").glob(f"test_{stage}*.py"))
    schema = ROOT / f"workflow/schemas/{stage}.schema.yaml"
    assert schema.is_file() or stage in NO_SETTINGS
    outputs = re.findall(r'"(results|logs)/(\w+)/', STAGES[stage].split("    output:")[1])
    assert {folder for _, folder in outputs} <= {stage, "benchmarks"}


@pytest.mark.parametrize("stage", STAGES)
def test_rule_has_script_log_and_two_params(stage):
    text = STAGES[stage]
    assert f'"../scripts/{stage}.py"' in text
    assert "    log:" in text
    params = re.search(r"    params:\n((?:        .*\n)+)", text)[1]
    assert re.findall(r"^        (\w+)=", params, flags=re.MULTILINE) == ["cfg", "code"]
    assert text.lstrip().startswith('"""'), "a rule says what it does"


@pytest.mark.parametrize("stage", STAGES)
def test_adapter_is_thin(stage):
    lines = (ROOT / f"workflow/scripts/{stage}.py").read_text().splitlines()
    code = [line for line in lines if line.strip()]
    assert len(code) <= 60


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_shadows_an_installed_module(stage):
    """workflow/scripts lands on sys.path: a stage must not hide a module of that name."""
    assert stage not in sys.stdlib_module_names
    import importlib.util

    path = [entry for entry in sys.path if not Path(entry).resolve().is_relative_to(ROOT)]
    assert importlib.machinery.PathFinder.find_spec(stage, path) is None


def test_no_settings_in_wildcards_and_no_long_lambdas():
    for path in RULES.glob("*.smk"):
        for line in path.read_text().splitlines():
            if "lambda" in line:
                assert re.search(r"lambda w: (\w+|\[)", line), f"{path.name}: {line.strip()}"


def test_common_stays_short():
    assert len((RULES / "common.smk").read_text().splitlines()) < 150
