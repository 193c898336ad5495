"""What a person needs to see of one subject to judge it: the views of the review page.

A view is a picture with the map of its pixels to LPS mm of the landmarks' frame, so that a point
that a reader drags comes back in the millimetres that `locate` wrote.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from mrsynth.geometry import frame
from mrsynth.locate.landmarks import Disc, Landmarks
from mrsynth.pick import named
from mrsynth.show.gates import gates, strain
from mrsynth.show.pictures import fitted, png
from mrsynth.show.views import follow, on_slice, slice_line

__all__ = ["Card", "card", "moved_landmarks", "read_card", "write_card"]

MOST_VIEWS = 24
"""Slices shown where slices aren't chosen by disc; more are not looked at one by one."""

MANY_DISCS = 10
"""Beyond a lumbar spine's discs the views are coarser, so that a whole spine fits the budget."""

FIGURE_SHARES = {"register": 0.65, "locate": 0.35}
"""How the bytes that the views leave are shared: the registration's figure has more pictures."""

LEAST_FIGURE_BYTES = 40_000
"""Below this a figure can't be read."""

SAC_BEHIND_MM = 25.0
"""Where a sac that wasn't found waits to be placed: half a lumbar disc's depth and half a canal's
behind the disc's centre."""

BASE64 = 4 / 3
"""Growth of bytes written as text."""


@dataclass(frozen=True)
class Card:
    """One subject of the page.

    Attributes:
        content: Plain data: verdicts, views, points; pictures by name.
        pictures: PNG files by name.
    """

    content: dict
    pictures: dict[str, bytes]


def card(
    source: list[sitk.Image],
    target: list[sitk.Image],
    picks: pd.DataFrame,
    landmarks: Landmarks | None,
    native: sitk.Image | None,
    matrices: list[np.ndarray] | None,
    registration: dict,
    figures: dict[str, str | Path],
    *,
    moved: list[dict] = (),
    labels: dict[str, str] | None = None,
    side: str = "source",
    landmarks_frame: str = "moving",
    slices: str = "discs",
    pixel_mm: float = 0.75,
    extent_mm: float = 120.0,
    sagittal_mm: float = 1.0,
    subject_kb: int = 1000,
) -> Card:
    """Collect one subject's views.

    Args:
        source: Grey levels (0–255) of each stack on the fixed grids.
        target: The same grids.
        picks: Table of :func:`mrsynth.pick.pick`.
        landmarks: Discs as they now are (:func:`moved_landmarks`), or None.
        native: Volume in whose frame the landmarks are given (CT in HU), or None.
        matrices: Per stack, fixed points to moving points (LPS mm); None where both share a frame.
        registration: `register`'s record, or empty.
        figures: PNG files by name: ``register``, ``locate``.
        moved: What people moved, from `pick`'s record.
        labels: Names of the task's images by side.
        side: Which side's image holds the landmarks, ``source`` or ``target``.
        landmarks_frame: Which image's frame that is, ``moving`` or ``fixed``.
        slices: As in :func:`mrsynth.pick.pick`.
        pixel_mm: Pixels of the views of slices, mm.
        extent_mm: Side of these views, mm.
        sagittal_mm: Pixels of the sagittal views, mm.
        subject_kb: Most that this subject adds to the page, kB.

    Returns:
        The card.
    """
    if matrices is None or landmarks_frame == "fixed":
        matrices = [np.eye(4)] * len(target)
    discs = dict(named(landmarks)) if landmarks else {}
    rows = picks[picks["stack"].notna()]
    if len(discs) > MANY_DISCS:
        pixel_mm = pixel_mm * len(discs) / MANY_DISCS
    pictures: dict[str, bytes] = {}
    if slices != "discs":
        rows = _thinned(rows[rows["status"] == "picked"])
        discs = {}
    views = []
    for row in rows.to_dict("records"):
        stack, disc = int(row["stack"]), discs.get(row["name"])
        place = {"matrix": matrices[stack - 1], "slice_": int(row["slice"])}
        frame = None if disc is None else (_middle(disc), extent_mm, pixel_mm)
        made, view = on_slice(
            {"source": source[stack - 1], "target": target[stack - 1]}, frame=frame, **place
        )
        names = {}
        for name, array in made.items():
            names[name] = f"view-{len(views)}-{name}"
            pictures[names[name]] = png(array)
        views.append(view | _told(row) | {"pictures": names})
    content = {
        "labels": labels or {"source": "source", "target": "target"},
        "slices": slices,
        "registration": _judged(registration, len(target)),
        "stacks": len(target),
        "views": views,
        "unseen": [_told(row) for row in picks[picks["stack"].isna()].to_dict("records")],
        "discs": [_points(name, disc) for name, disc in discs.items()],
        "moved": list(moved),
    }
    if landmarks and landmarks.discs and native is not None:
        made, view = follow(
            native,
            (target if side == "source" else source),
            [np.linalg.inv(matrix) for matrix in matrices],
            [disc for _, disc in named(landmarks)],
            sagittal_mm,
        )
        pictures |= {f"sagittal-{name}": png(array) for name, array in made.items()}
        other = "target" if side == "source" else "source"
        content["sagittal"] = view | {
            "pictures": {side: "sagittal-native", other: "sagittal-other"},
            "lines": _lines(views, target, matrices),
        }
    used = BASE64 * sum(map(len, pictures.values()))
    for name, path in figures.items():
        most = max(
            LEAST_FIGURE_BYTES, int((1000 * subject_kb - used) * FIGURE_SHARES[name] / BASE64)
        )
        pictures[f"figure-{name}"] = fitted(path, most)
    content["figures"] = {name: f"figure-{name}" for name in figures}
    content["stamp"] = _stamp(matrices, content["registration"])
    return Card(content, pictures)


def moved_landmarks(landmarks: Landmarks, moved: list[dict]) -> Landmarks:
    """Landmarks with the moves of `pick`'s record."""
    discs = dict(named(landmarks))
    for row in moved:
        setattr(discs[row["disc"]], f"{row['point']}_mm", np.array(row["after_mm"], dtype=float))
    return landmarks


def write_card(card_: Card, path: str | Path) -> None:
    """Write a card as JSON lines: its content, then one picture a line in base64."""
    lines = [card_.content] + [
        {"name": name, "png": base64.b64encode(content).decode()}
        for name, content in sorted(card_.pictures.items())
    ]
    text = "\n".join(json.dumps(line, sort_keys=True, allow_nan=False) for line in lines)
    Path(path).write_text(text + "\n")


def read_card(path: str | Path) -> tuple[dict, dict[str, str]] | None:
    """A card's content and its pictures in base64; None for the empty file of a refused subject."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    if not lines:
        return None
    return lines[0], {line["name"]: line["png"] for line in lines[1:]}


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """At most ``MOST_VIEWS`` rows, evenly spread."""
    if len(rows) <= MOST_VIEWS:
        return rows
    return rows.iloc[np.linspace(0, len(rows) - 1, MOST_VIEWS).round().astype(int)]


def _middle(disc: Disc) -> np.ndarray:
    """What a disc's view is centred on: between the disc and the sac, so that both are seen."""
    return disc.centre_mm if disc.sac_mm is None else (disc.centre_mm + disc.sac_mm) / 2


def _told(row: dict) -> dict:
    """A pick as it stands on the page."""
    told = {"name": row["name"], "status": row["status"], "code": row["code"]}
    for key in ("stack", "slice"):
        told[key] = None if pd.isna(row[key]) else int(row[key])
    for key in ("offset_mm", "angle_deg"):
        told[key] = None if pd.isna(row[key]) else round(float(row[key]), 2)
    return told


def _points(name: str, disc: Disc) -> dict:
    points = {"name": name, "confidence": round(float(disc.confidence), 2)}
    for key in ("centre_mm", "normal", "sac_mm", "ventral_mm"):
        value = getattr(disc, key)
        points[key] = None if value is None else [round(float(v), 4) for v in value]
    points["guessed"] = disc.sac_mm is None
    if disc.sac_mm is None:
        behind = disc.centre_mm + SAC_BEHIND_MM * frame(disc.normal, np.array([0.0, 1.0, 0.0]))[0]
        points["sac_mm"] = [round(float(v), 4) for v in behind]
    return points


def _lines(views: list[dict], stacks, matrices) -> list[dict]:
    """Where the shown slices cross the sagittal view, in mm of the landmarks' frame."""
    return [
        {"name": view["name"], "status": view["status"], "stack": view["stack"]}
        | slice_line(stacks[view["stack"] - 1], view["slice"], matrices[view["stack"] - 1])
        for view in views
    ]


def _judged(registration: dict, stacks: int) -> dict | None:
    """Verdict, reasons and measures with their thresholds, of the whole and of each stack."""
    if not registration:
        return None

    def entry(part: dict) -> dict:
        measures = part.get("measures") or {}
        found = gates(measures)
        verdict = part.get("verdict") or "failed"
        return {
            "verdict": verdict,
            "posed": bool(part.get("posed", verdict != "failed")),
            "reasons": list(measures.get("reasons") or []),
            "gates": found,
            "strain": round(max(map(strain, found), default=0.0), 3),
        }

    parts = registration.get("stacks") or []
    own = {int(part["stack"]): part for part in parts}
    return entry(registration) | {
        "stacks": [
            {"stack": number, **entry(own.get(number, registration))}
            for number in range(1, stacks + 1)
        ]
    }


def _stamp(matrices, judged: dict | None) -> str:
    """Digest of what a verdict is about: poses and verdicts. A moved point doesn't change it."""
    text = json.dumps([np.round(matrices, 4).tolist(), judged], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
