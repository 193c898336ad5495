"""The config reference: every key of every schema as Markdown tables.

``make reference`` writes them into ``config/README.md`` behind the marker; a test compares.
"""

import json
from pathlib import Path

from mrsynth.study import SHARED_STAGES, TASK_STAGES, load_schemas

MARKER = "<!-- Below: made by `make reference` from workflow/schemas. Don't edit by hand. -->\n"


def tables(schemas: dict[str, dict]) -> str:
    """Markdown tables of all keys: the top level, then the stages in the order of the data."""
    order = [
        "config",
        "phantom",
        "index",
        "cohort",
        "convert",
        "segment",
        "locate",
        *TASK_STAGES,
        "forecast",
        "conclude",
    ]
    assert set(order[1:]) == {*SHARED_STAGES, *TASK_STAGES}
    parts = []
    for name in order:
        title = "Top level" if name == "config" else f"`{name}`"
        rows = list(_rows(schemas[name], ""))
        head = f"## {title}\n{schemas[name].get('description', '').strip()}\n\n"
        table = "| key | default | what it is |\n|---|---|---|\n" + "".join(rows) if rows else ""
        parts.append(head + table)
    return "\n".join(parts)


def write_reference(readme: str | Path, schemas: str | Path) -> None:
    """Replace what stands behind the marker in ``config/README.md``."""
    path = Path(readme)
    head = path.read_text().split(MARKER)[0]
    path.write_text(head + MARKER + "\n" + tables(load_schemas(schemas)))


def _rows(schema: dict, prefix: str):
    """One line per key, nested keys behind their parents."""
    for key, part in schema.get("properties", {}).items():
        if prefix == "" and part.get("description", "").startswith("Settings of the stage"):
            continue
        if part.get("description", "").startswith("Overrides of the top-level block"):
            continue
        name = f"{prefix}{key}"
        yield f"| `{name}` | {_default(part)} | {_description(part)} |\n"
        yield from _rows(part, f"{name}.")
        others = part.get("additionalProperties")
        if isinstance(others, dict):
            yield from _rows(others, f"{name}.<name>.")


def _default(part: dict) -> str:
    if "default" not in part:
        return "–" if part.get("properties") else "(required)"
    if part.get("properties"):
        return "–"
    return f"`{json.dumps(part['default'])}`"


def _description(part: dict) -> str:
    text = " ".join(part.get("description", "").split()).replace("|", "\\|")
    if "enum" in part:
        allowed = ", ".join(f"`{json.dumps(value)}`" for value in part["enum"])
        text += f" One of {allowed}."
    return text
