"""Plain text for the closing summary: counts in words, wrapped paragraphs, aligned columns."""

import textwrap
from collections.abc import Iterable

from mrsynth.subjects import person

WIDTH = 100
"""Columns of the terminal that the summary must fit."""


def count(number: int, what: str) -> str:
    """A number with its noun, in the plural unless it is one."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def people(rows: Iterable[dict]) -> int:
    """How many persons there are, each counted once with all visits."""
    return len({person(row["subject"]) for row in rows})


def by(rows: list[dict], keys: tuple[str, ...]) -> dict[tuple, list[dict]]:
    """Rows by the values of some keys, in the order in which these come."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def grid(rows: list[list[str]]) -> str:
    """Columns aligned with spaces, first one left, others right; indented, so Markdown keeps
    them."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("    " + "  ".join(cells))
    return "\n".join(lines)


def paragraphs(lines: list[str]) -> str:
    """Lines, each wrapped."""
    return "\n".join(wrap(line) for line in lines)


def wrap(line: str) -> str:
    """Wrapped at :data:`WIDTH`, later lines under the first word after the bullet."""
    indent = len(line) - len(line.lstrip(" -"))
    return textwrap.fill(
        line, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
