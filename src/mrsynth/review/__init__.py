"""The page on which a person judges registrations and moves points: one HTML file per task.

Everything is inside the file: style, script, pictures. Its security policy forbids any request, so
that nothing of a patient can leave the reader's machine; what the reader writes goes into a file
of his own.
"""

import base64
import hashlib
import html
import json
from pathlib import Path

from mrsynth.verdicts import VERDICTS

TEMPLATE, STYLE, SCRIPTS = "page.html", "page.css", ("views.js", "page.js")

TROUBLE = len(VERDICTS)
"""Rank of a subject that can't be shown: before all verdicts, or nobody would look for it."""


def rank(card: dict | None) -> tuple[int, float]:
    """How bad a subject is: its stacks' worst verdict, then the measure nearest its threshold.

    Args:
        card: A card's content (:mod:`mrsynth.show`); None for a refused subject.
    """
    if card is None:
        return TROUBLE, 0.0
    judged = card["registration"]
    if judged is None:
        return -1, 0.0
    parts = judged["stacks"] or [judged]
    return (
        max(VERDICTS.index(part["verdict"]) for part in parts),
        max(part["strain"] for part in parts),
    )


def entries(
    subjects: list[str], cards: list[dict | None], records: list[dict], judged: list[dict]
) -> list[dict]:
    """The list of subjects, worst first.

    Args:
        subjects: Pseudonyms.
        cards: Their cards' contents; None for a refused subject.
        records: `show`'s records, with the refusals' codes.
        judged: People's verdicts, rows of :func:`mrsynth.verdicts.resolve`.

    Returns:
        ``subject, verdict, strain, stacks, discs, picked, refused`` (code, message, remedy or None)
        and ``judged`` (stack → verdict; 0 for all others), worst first, else by name.
    """
    result = []
    for subject, card, record in zip(subjects, cards, records, strict=True):
        worst, strain = rank(card)
        refused = None
        if card is None:
            refused = {key: record.get(key, "") for key in ("code", "message", "remedy")}
        views = (card or {}).get("views", [])
        result.append(
            {
                "subject": subject,
                "verdict": VERDICTS[worst] if 0 <= worst < TROUBLE else None,
                "strain": strain,
                "rank": [-worst, -strain],
                "stacks": stacks_of(card),
                "slices": len(views) + len((card or {}).get("unseen", [])),
                "picked": sum(view["status"] == "picked" for view in views),
                "refused": refused,
                "judged": {
                    str(row["stack"]): row["verdict"] for row in judged if row["subject"] == subject
                },
            }
        )
    return sorted(result, key=lambda entry: (entry.pop("rank"), entry["subject"]))


def stacks_of(card: dict | None) -> int:
    """How many stacks of a subject there are to judge, registered or not; none of a refused one."""
    return card["stacks"] if card else 0


def page(
    task: str,
    study: str,
    listed: list[dict],
    cards: dict[str, tuple[dict, dict[str, str]]],
    agreement: list[dict],
    rows_in_file: int = 0,
) -> str:
    """The page's HTML.

    Args:
        task: Name of the task.
        study: Mark of the study, under which the browser keeps the reader's progress.
        listed: Rows of :func:`entries`.
        cards: Content and pictures (base64) by subject.
        agreement: Rows of :func:`mrsynth.agreement.agreement`.
        rows_in_file: How many rows about this task the review file holds.
    """
    style, script = read_part(STYLE), "".join(map(read_part, SCRIPTS))
    head = {
        "task": task,
        "study": study,
        "subjects": listed,
        "agreement": agreement,
        "rowsInFile": rows_in_file,
    }
    data = [_data("head", head)]
    for entry in listed:
        if entry["subject"] in cards:
            content, pictures = cards[entry["subject"]]
            data.append(_data(f"card-{entry['subject']}", content | {"png": pictures}))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "@POLICY@": policy,
        "@TITLE@": html.escape(f"Review of {task}"),
        "@STYLE@": style,
        "@SCRIPT@": script,
        "@DATA@": "\n".join(data),
    }
    text = read_part(TEMPLATE)
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def read_part(name: str) -> str:
    """A file of this package: the page's frame, style or script."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def write_page(text: str, path: str | Path) -> None:
    """Write the page."""
    Path(path).write_text(text, encoding="utf-8")


def _data(name: str, content: dict) -> str:
    """Data that the browser doesn't run, and reads only when the subject is looked at."""
    text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    # "</script>" inside a text would end the block.
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{html.escape(name)}">{text}</script>'


def _digest(text: str) -> str:
    """The hash by which the security policy knows an inline block (CSP level 2)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
