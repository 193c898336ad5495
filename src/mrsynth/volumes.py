"""Trees of volume files of public data sets: which image of whom each file is.

A file is known by its BIDS name (``sub-<label>[_ses-<label>]…_<suffix>.nii.gz``, Brain Imaging
Data Structure 1.10) or by its line of the user's sheet, which outranks the name. All others are
skipped: a label map or a derived image must not become a scan because it lies there.
"""

import csv
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mrsynth import archives, columns, contrast, digests, imagefiles
from mrsynth.errors import Refusal, StudyError
from mrsynth.files import list_files
from mrsynth.pseudonym import pseudonym
from mrsynth.pseudonym import subject as subject_of

SHEET_COLUMNS = (
    "path",
    "subject",
    "session",
    "modality",
    "weighting",
    "plane",
    "contrast",
    "fatsat",
    "day",
    "frame",
    "age",
    "sex",
)
"""Columns of the sheet; only path and subject are needed where the name says the rest."""

SUFFIX = {
    "t1w": ("MR", "T1"),
    "t2w": ("MR", "T2"),
    "pdw": ("MR", "PD"),
    "flair": ("MR", "FLAIR"),
    "stir": ("MR", "STIR"),
    "tirm": ("MR", "TIRM"),
    "ct": ("CT", ""),
}
"""BIDS suffix → modality and weighting; STIR, TIRM and ct are common, though not in BIDS itself."""

ENTITIES = {"sub", "ses", "acq", "ce", "rec", "run", "echo", "chunk", "part"}
"""Entities of raw images; others (``desc``, ``space``, ``seg``, ``label``) mark derived ones."""

NAME = re.compile(r"(?P<entities>(?:[a-z]+-[a-z0-9]+_)+)(?P<suffix>[a-z0-9]+)", re.IGNORECASE)

WEIGHTINGS = ("", "T1", "T2", "PD", "STIR", "TIRM", "FLAIR")
PRIVATE_COLUMNS = (
    "path",
    "instance",
    "frame",
    "stack",
    "position_mm",
    "digest",
    "modality",
    "weighting",
    "plane",
    "thickness_mm",
)
FILE_LETTERS = 13
LARGEST_SIDECAR = 2**20
"""Bytes of a JSON sidecar that are read; real ones have some thousand."""

OLDEST_YEARS = 90.0


@dataclass
class Found:
    """What a tree of volume files holds; the parts of :class:`mrsynth.index.Index`.

    Attributes:
        rows: Rows of the series table as mappings, with ``age_years`` and ``sex``.
        files: Id, state, code and series of each file.
        private: Series → table of its one file.
        paths: Id and path of each file.
        patients: Subjects' labels as they are in names and sheet.
        roots: The folders of config key ``volumes`` in which each label occurs.
    """

    rows: list[dict] = field(default_factory=list)
    files: list[tuple[str, str, str, str]] = field(default_factory=list)
    private: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)
    paths: list[tuple[str, str]] = field(default_factory=list, repr=False)
    patients: set[str] = field(default_factory=set, repr=False)
    roots: dict[str, set[str]] = field(default_factory=dict, repr=False)


def scan(
    roots: list[str | Path],
    sheet: list[dict] | None = None,
    *,
    key: bytes,
    links: dict[str, str] | None = None,
    cache: str | Path | None = None,
) -> Found:
    """List all volume files below some folders.

    Args:
        roots: Folders, or archives.
        sheet: Of :func:`read_sheet`.
        key: The study's secret.
        links: Label → person, as for patient IDs.
        cache: See :func:`mrsynth.archives.members`.

    Raises:
        StudyError: If a folder or a file of the sheet does not exist.
    """
    found, lines = Found(), _by_path(sheet or [], roots)
    for root in roots:
        if not Path(root).exists():
            raise StudyError(f"config key 'volumes': '{root}' does not exist; correct it")
        people = read_people(Path(root) / "participants.tsv")
        for entry in archives.expand(list_files(root), cache):
            name = f"{Path(root).resolve().name}/{archives.relative(entry.name, root)}"
            identifier = f"fil-{pseudonym(key, 'file', name, FILE_LETTERS)}"
            found.paths.append((identifier, entry.path))
            line = _line(entry.name, lines.pop(os.path.abspath(entry.name), None), people)
            if entry.code or line is None:
                found.files.append((identifier, *_state(entry), ""))
                continue
            found.patients.add(line["subject"])
            found.roots.setdefault(line["subject"], set()).add(str(root))
            row, private = _series(entry.path, name, line, key, links or {})
            found.rows.append(row)
            found.files.append((identifier, row["status"], _code(row), row["series"]))
            if private is not None:
                found.private[row["series"]] = private
    if lines:
        numbers = ", ".join(sorted(line["line"] for line in lines.values()))
        raise StudyError(
            f"volume sheet, line {numbers}: no such file below the folders of config key 'volumes'"
        )
    return found


def read_sheet(path: str | Path) -> list[dict]:
    """Lines of the user's sheet; columns that are left out are empty.

    Raises:
        StudyError: Naming the line, the column and what may stand there; never a subject.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (UnicodeDecodeError, csv.Error):
        raise StudyError(f"'{path}' is not a table separated by tabs in UTF-8") from None
    names = [name for name in (rows[0] if rows else ()) if name is not None]
    # By number, since a sheet without a first line of names has a subject there.
    unknown = [str(i) for i, name in enumerate(names, start=1) if name not in SHEET_COLUMNS]
    if unknown or (rows and not {"path", "subject"} <= set(names)):
        said = f"column {', '.join(unknown)} is unknown" if unknown else "no path or subject"
        raise StudyError(
            f"'{path}': {said} in the first line; known are {', '.join(SHEET_COLUMNS)}, separated "
            "by tabs"
        )
    lines = []
    for number, row in enumerate(rows, start=2):
        line = {name: (row.get(name) or "").strip() for name in SHEET_COLUMNS}
        if not any(line.values()) or line["path"].startswith("#"):
            continue
        _check_line(line, f"volume sheet, line {number}")
        lines.append(line | {"line": str(number)})
    return lines


def read_people(path: str | Path) -> dict[str, dict]:
    """Age and sex by label from BIDS' participants.tsv, if there is one."""
    if not Path(path).is_file():
        return {}
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {
        (row.get("participant_id") or "").removeprefix("sub-"): {
            "age": (row.get("age") or "").strip(),
            "sex": (row.get("sex") or "").strip()[:1].upper(),
        }
        for row in rows
    }


def _check_line(line: dict, where: str) -> None:
    if not line["path"] or not line["subject"]:
        raise StudyError(f"{where}: path or subject is empty")
    allowed = {
        "modality": ("", "CT", "MR"),
        "weighting": WEIGHTINGS,
        "plane": ("", *imagefiles.ORIENTATIONS),
        "contrast": ("", "yes", "no"),
        "fatsat": ("", "yes", "no"),
        "sex": ("", "F", "M", "O"),
    }
    for name, values in allowed.items():
        if line[name] not in values:
            known = ", ".join(filter(None, values))
            raise StudyError(f"{where}: {name} is none of {known} and not empty")
    if line["day"] and not re.fullmatch(r"-?\d{1,6}", line["day"]):
        raise StudyError(f"{where}: day is no whole number of days")
    if line["age"] and not re.fullmatch(r"\d{1,3}(\.\d+)?", line["age"]):
        raise StudyError(f"{where}: age is no number of years")


def _by_path(sheet: list[dict], roots: list[str | Path]) -> dict[str, dict]:
    """Lines by absolute path: a path is seen from the first of the folders that has it."""
    lines: dict[str, dict] = {}
    for line in sheet:
        places = [os.path.abspath(os.path.join(root, line["path"])) for root in roots]
        place = next(
            (place for place in places if os.path.lexists(place)), places[0] if places else ""
        )
        if place in lines:
            raise StudyError(
                f"volume sheet, line {line['line']}: this file has two lines; keep one"
            )
        lines[place] = line
    return lines


def _line(path: str, line: dict | None, people: dict) -> dict | None:
    """What is known of a file, by its line over by its name; None if that isn't enough."""
    if not imagefiles.is_volume(path):
        return None
    known = dict.fromkeys(SHEET_COLUMNS, "") | (_by_name(Path(path).name) or {})
    known |= people.get(known["subject"], {})
    known |= {name: value for name, value in (line or {}).items() if value}
    return known if known["subject"] and known["modality"] else None


def _by_name(name: str) -> dict | None:
    """Subject, session, modality and weighting by a BIDS name."""
    for suffix in sorted(imagefiles.SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            match = NAME.fullmatch(name[: -len(suffix)])
            break
    if not match or match["suffix"].lower() not in SUFFIX:
        return None
    entities = dict(part.split("-", 1) for part in match["entities"].strip("_").split("_"))
    if not entities.keys() <= ENTITIES or "sub" not in entities:
        return None
    if entities.get("part", "mag") != "mag":
        return None
    modality, weighting = SUFFIX[match["suffix"].lower()]
    return {
        "subject": entities["sub"],
        "session": entities.get("ses", ""),
        "modality": modality,
        "weighting": weighting,
        "contrast": "yes" if "ce" in entities else "",
    }


def _state(entry: archives.Entry) -> tuple[str, str]:
    """State and code of a file that is no scan."""
    if entry.code:
        return entry.state, entry.code
    if entry.name.lower().endswith(imagefiles.DETACHED):
        code = "UNSUPPORTED_TYPE"
        return "refused", code
    code = "NOT_LISTED" if imagefiles.is_volume(entry.name) else "NOT_VOLUME"
    return "skipped", code


def _code(row: dict) -> str:
    return row["code"] if row["status"] == "refused" else ""


def _series(path: str, name: str, line: dict, key: bytes, links: dict):
    """Row and private table of one file."""
    series = f"ser-{pseudonym(key, 'series', name)}"
    person = links.get(line["subject"], line["subject"])
    session = f"{line['subject']}\0{line['session']}"
    row: dict = dict.fromkeys(columns.SERIES_COLUMNS, "") | {
        "series": series,
        "subject": subject_of(key, person),
        "study": f"std-{pseudonym(key, 'study', f'volumes{chr(0)}{session}')}",
        "day": int(line["day"]) if line["day"] else None,
        "status": "used",
        "code": "",
        "modality": line["modality"],
        "weighting": line["weighting"],
        "kind": "original",
        "contrast": line["contrast"],
        "fatsat": line["fatsat"],
        "stacks": 0,
        "slices": 0,
        "age_years": round(min(float(line["age"]), OLDEST_YEARS)) if _number(line["age"]) else None,
        "sex": line["sex"],
        "message": "",
    }
    try:
        header = imagefiles.read_header(path)
    except Refusal as refusal:
        said = {"code": refusal.code, "message": refusal.message, "remedy": refusal.remedy}
        return row | {"status": "refused"} | said, None
    plane = line["plane"] or header.plane
    sidecar = read_sidecar(path)
    row |= sidecar | _geometry(header, plane, sidecar.get("thickness_mm"))
    warnings = header.warnings
    row |= {"code": ",".join(sorted(warnings)), "frame": _frame(line, header, key)}
    start = archives.read(path, imagefiles.HEADER_BYTES) + str(archives.size(path)).encode()
    thickness = sidecar.get("thickness_mm") or ""
    cells = (path, "", "", 1, 0, digests.digest(start), line["modality"], line["weighting"], plane)
    return row, pd.DataFrame([(*cells, thickness)], columns=list(PRIVATE_COLUMNS))


def _geometry(header: imagefiles.FileHeader, plane: str, thickness_mm: float | None) -> dict:
    """Columns that the affine gives; the axes in the order that `convert` brings them into."""
    axes = header.matrix[:3, :3] / header.spacing
    # Slices, rows and columns lie along the world's axes like this (imagefiles.ORIENTATIONS).
    order = {"axial": (0, 1, 2), "sagittal": (1, 2, 0), "coronal": (0, 2, 1)}[plane]
    along = [int(np.argmax(np.abs(axes[world]))) for world in order]
    x, y, z = along
    sign = -1.0 if plane == "sagittal" else 1.0
    normal = axes[:, z] * np.sign(axes[order[2], z]) * sign
    ends = [header.matrix @ (0, 0, 0, 1), header.matrix @ (*np.subtract(header.size, 1), 1)]
    ends = [float(end[:3] @ normal) for end in ends]
    return {
        "plane": plane,
        "stacks": 1,
        "slices": header.size[z],
        "rows": header.size[y],
        "columns": header.size[x],
        "pixel_mm": float(header.spacing[y]),
        "spacing_mm": float(header.spacing[z]),
        "extent_mm": float((header.size[z] - 1) * header.spacing[z])
        + (thickness_mm or float(header.spacing[z])),
        "start_mm": round(min(ends), 2),
    }


def _frame(line: dict, header: imagefiles.FileHeader, key: bytes) -> str:
    """The frame of reference that the sheet names; none otherwise.

    That two files have the same affine proves nothing: tools write zeros where they have lost the
    place. A volume at exactly (0, 0, 0) shares the named frame only with volumes of its own grid.
    """
    if not line["frame"]:
        return ""
    identity = f"volumes\0{line['subject']}\0{line['frame']}"
    if "NO_ORIGIN" in header.warnings:
        identity += f"\0{header.size}\0{np.round(header.matrix, 3).tolist()}"
    return f"for-{pseudonym(key, 'frame', identity)}"


def read_sidecar(path: str) -> dict:
    """Columns that a BIDS sidecar of the same name gives: numbers and known names only.

    Values that BIDS lets be inherited from a file of a parent folder are not looked for.
    """
    base = str(path)
    for suffix in sorted(imagefiles.SUFFIXES, key=len, reverse=True):
        base = base.removesuffix(suffix)
    try:
        content = json.loads(archives.read(f"{base}.json", LARGEST_SIDECAR))
    except (Refusal, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    wanted = {
        "field_t": ("MagneticFieldStrength", 1),
        "kvp": ("KVP", 1),
        "tr_ms": ("RepetitionTime", 1000),
        "te_ms": ("EchoTime", 1000),
        "ti_ms": ("InversionTime", 1000),
        "thickness_mm": ("SliceThickness", 1),
    }
    found = {
        name: float(content[element]) * factor
        for name, (element, factor) in wanted.items()
        if _number(content.get(element))
    }
    maker = content.get("Manufacturer")
    return found | ({"manufacturer": contrast.vendor(maker)} if isinstance(maker, str) else {})


def _number(value) -> bool:
    """Whether something is, or reads as, a finite positive number."""
    try:
        return not isinstance(value, bool) and 0 < float(value) < math.inf
    except (TypeError, ValueError):
        return False
