"""The config reference in the docs is the schemas' text."""

from pathlib import Path

from mrsynth import reference, study

ROOT = Path(__file__).parents[2]


def test_config_readme_is_current():
    """`make reference` brings it up to date."""
    readme = (ROOT / "config/README.md").read_text()
    made = reference.tables(study.load_schemas(ROOT / "workflow/schemas"))
    assert readme.split(reference.MARKER)[1].strip() == made.strip()


def test_nested_keys_and_defaults_are_listed():
    schema = {
        "properties": {
            "a": {
                "description": "An a.",
                "default": {},
                "properties": {"b_mm": {"description": "A b.", "default": 2}},
            }
        }
    }
    rows = "".join(reference._rows(schema, ""))
    assert "| `a.b_mm` | `2` | A b. |" in rows
