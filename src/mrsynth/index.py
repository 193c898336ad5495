"""`index`: what is in a DICOM tree, from headers alone.

Every file ends in exactly one state (used, skipped, refused) with a reason code, every series in
one row. The result depends on the files' content and names, not on the order in which the disk
lists them.
"""

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mrsynth import archives, columns, dicom, volumes
from mrsynth.errors import StudyError
from mrsynth.grouping import File, all_series
from mrsynth.pseudonym import check_links, make_private_folder, pseudonym, write_private

FILE_COLUMNS = ("file", "state", "code", "series")
SHORT_LABEL = re.compile(r"(sub-?)?\d{1,4}", re.IGNORECASE)
"""Labels that a message may quote: running numbers of a data set."""
FILE_LETTERS = 13
"""Letters of a file's pseudonym: 65 bits, enough for 10⁵ files."""


@dataclass
class Index:
    """What `scan` found.

    Attributes:
        series: One row per series, free of identities.
        files: One row per file: pseudonymous id, state, code, series.
        private: Series → table of the files to convert, with paths; for the private folder only.
        paths: File id → path; for the private folder only.
        persons: Ages and sexes by series; for the private folder only.
    """

    series: pd.DataFrame
    files: pd.DataFrame
    private: dict[str, pd.DataFrame] = field(repr=False)
    paths: pd.DataFrame = field(repr=False)
    persons: pd.DataFrame = field(repr=False)


def index(root: str | Path, *, key: bytes = b"mrsynth", **cfg) -> pd.DataFrame:
    """The series table of one folder; see :func:`scan`."""
    return scan([root], key=key, **cfg).series


def scan(
    roots: list[str | Path],
    *,
    key: bytes,
    links: dict[str, str] | None = None,
    min_slices: int = 3,
    gap_factor: float = 1.5,
    tolerance_mm: float = 0.01,
    accept_bare: bool = False,
    subject_from: str = "patient_id",
    uneven: str = "refuse",
    volume_roots: Iterable[str | Path] = (),
    volume_sheet: list[dict] | None = None,
    cache: str | Path | None = None,
    threads: int = 1,
) -> Index:
    """List all series below some folders.

    A series whose slices belong to several acquisitions (echoes, b-values, magnitude and phase,
    image types) becomes several rows. A file that should have been DICOM and isn't makes all
    series of its folder refused, since any of them may have lost a slice.

    Args:
        roots: DICOM folders.
        key: The study's secret, for pseudonyms.
        links: Patient ID → person.
        min_slices: Fewest slices of a stack; a lone one beside a larger stack is skipped as stray.
        gap_factor: Steps above this multiple of the most frequent step are gaps.
        tolerance_mm: Largest distance of a slice's corner from its stack's grid.
        accept_bare: Accept DICOM without preamble.
        subject_from: ``patient_id``, or ``folder``: the first folder below the root names the
            person (for trees whose patient IDs were emptied).
        uneven: ``refuse`` series with uneven steps between slices, or ``keep`` them, with the code
            and a note, for `convert` to decide on.
        volume_roots: Folders of NIfTI, MetaImage and NRRD files (:mod:`mrsynth.volumes`).
        volume_sheet: What is known of these (:func:`mrsynth.volumes.read_sheet`).
        cache: Private folder for compressed tar archives (:func:`mrsynth.archives.members`).
        threads: Processes that read headers.

    Raises:
        StudyError: If a folder does not exist, a link's patient ID is nobody's, a label occurs
            below two folders, or two persons get the same pseudonym.
    """
    named = _named_files(roots, cache)
    plain = [entry.path for entry, *_ in named if not entry.code]
    headers = iter(dicom.read_headers(plain, threads=threads, accept_bare=accept_bare))
    files = []
    seen: Counter = Counter()
    labels: dict[str, set[str]] = {}
    for entry, name, folder, root in named:
        header = _aside(entry) if entry.code else next(headers)
        seen[name] += 1
        identity = f"{name}\0{seen[name]}" if seen[name] > 1 else name
        identifier = f"fil-{pseudonym(key, 'file', identity, FILE_LETTERS)}"
        if subject_from == "folder":
            _rename(header, folder)
            if header.slices or header.known:
                labels.setdefault(folder, set()).add(root)
        if header.state == "read" and not header.patient:
            header.state, header.code = "refused", "NO_PATIENT_ID"
            header.message = "PatientID is missing or empty"
            header.remedy = "Put each person's files into a folder and set index.subject_from."
        files.append(File(identifier, header))
    others = volumes.scan(volume_roots, volume_sheet, key=key, links=links, cache=cache)
    check_links(links or {}, {file.header.patient for file in files} | others.patients)
    for label, own in others.roots.items():
        labels.setdefault(label, set()).update(own)
    _check_labels(labels, {*(links or {}), *(line["subject"] for line in volume_sheet or [])})
    options = {"min_slices": min_slices, "gap_factor": gap_factor, "tolerance_mm": tolerance_mm}
    options["uneven"] = uneven
    rows, private = all_series(files, key, links or {}, options)
    rows += _without_days(others.rows, rows)
    return Index(
        series=columns.table(rows),
        files=pd.DataFrame(
            sorted(
                [(file.id, file.state, file.code, file.series) for file in files] + others.files
            ),
            columns=list(FILE_COLUMNS),
        ),
        private=private | others.private,
        paths=pd.DataFrame(
            sorted([(file.id, file.header.path) for file in files] + others.paths),
            columns=["file", "path"],
        ),
        persons=columns.persons(rows),
    )


def manifest(roots: list[str | Path]) -> str:
    """A cheap digest of some folders: relative path, size and time of change of every file."""
    digest = hashlib.sha256()
    for root in roots:
        for path in dicom.list_files(root):
            try:
                status = os.stat(path)
                stamp = f"{status.st_size}\0{status.st_mtime_ns}"
            except OSError:
                stamp = "dead"
            name = os.path.relpath(path, root)
            digest.update(f"{name}\0{stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _named_files(roots: list[str | Path], cache) -> list[tuple[archives.Entry, str, str, str]]:
    """File, name with the root's own name, first folder below the root, root; in name order.

    An archive counts as a folder of its name without the suffix; one that is a root itself, as
    the root.
    """
    found = {}
    for root in roots:
        if not Path(root).is_dir() and not archives.is_archive(str(root)):
            raise StudyError(f"config key 'dicom': the folder '{root}' does not exist; correct it")
        if not Path(root).exists():
            raise StudyError(f"config key 'dicom': '{root}' does not exist; correct it")
        base = archives.folder_name(Path(root).resolve().name)
        for entry in archives.expand(dicom.list_files(root), cache):
            relative = archives.relative(entry.name, root)
            head = relative.split("/")[0] if "/" in relative else base
            person = archives.folder_name(head)
            found.setdefault(entry.path, (entry, f"{base}/{relative}", person, str(root)))
    return sorted(found.values(), key=lambda item: (item[1], item[0].path))


def _check_labels(labels: dict[str, set[str]], named: set[str]) -> None:
    """Refuse a label of two data sets: ``sub-01`` is another person in each of them.

    Args:
        labels: Names of folders or BIDS labels, and the roots below which each occurs.
        named: Labels of which the user says who they are.
    """
    several = {label: own for label, own in labels.items() if len(own) > 1 and label not in named}
    if several:
        label = min(several)
        # A folder may have a patient's name.
        shown = f"'{label}'" if SHORT_LABEL.fullmatch(label) else "(not shown, it may name one)"
        raise StudyError(
            f"person {shown} occurs below {' and '.join(sorted(several[label]))} ({len(several)} "
            "such labels), and nothing says that it is one person; rename the one's folder or "
            "give it another subject in config/volumes.tsv, or name the person in private/links.tsv"
        )


def _aside(entry: archives.Entry) -> dicom.Header:
    """A file that is known without its header: an archive."""
    return dicom.Header(entry.path, entry.state, entry.code, entry.message, entry.remedy)


def _without_days(rows: list[dict], dated: list[dict]) -> list[dict]:
    """Rows of volume files; their days count from another day than those of DICOM headers."""
    known = {row["subject"] for row in dated if isinstance(row["day"], int)}
    return [row | {"day": None} if row["subject"] in known else row for row in rows]


def _rename(header: dicom.Header, person: str) -> None:
    header.patient = person
    header.slices = [piece.replaced(PatientID=person) for piece in header.slices]
    header.known = header.known and header.known.replaced(PatientID=person)


def _private_text(table: pd.DataFrame) -> str:
    """A table with paths as text; all cells quoted where one holds a carriage return."""
    form = {"sep": "\t", "index": False, "lineterminator": "\n", "errors": "surrogateescape"}
    text = table.to_csv(**form)
    # Python 3.11 doesn't quote a carriage return by itself.
    return table.to_csv(**form, quoting=csv.QUOTE_ALL) if "\r" in text else text


def write_index(found: Index, series: str | Path, files: str | Path, private: str | Path) -> None:
    """Write the two public tables, and the private ones where their content has changed.

    Private tables of series that are gone, such as those of who withdrew, are removed.

    Args:
        found: What :func:`scan` found.
        series: Path of the series table.
        files: Path of the file table.
        private: The private folder; its ``index`` folder gets ``files.tsv``, ``persons.tsv`` and
            one table per used series.
    """
    for table, path in ((found.series, series), (found.files, files)):
        table.to_csv(path, sep="\t", index=False, lineterminator="\n")
    folder = Path(private) / "index"
    make_private_folder(Path(private))
    tables = {"files": found.paths, "persons": found.persons, **found.private}
    for name, table in tables.items():
        write_private(folder / f"{name}.tsv", _private_text(table))
    for path in folder.glob("ser-*.tsv"):
        if path.stem not in found.private:
            path.unlink()
