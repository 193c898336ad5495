"""`index`: what is in a DICOM tree, from headers alone.

Every file ends in exactly one state (used, skipped, refused) with a reason code, every series in
one row. The
result depends on the files' content and names, not on the order in which the disk lists them.
"""

import hashlib
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mrsynth import columns, contrast, dicom, pixels, stacks
from mrsynth.errors import Refusal, StudyError
from mrsynth.pseudonym import make_private_folder, pseudonym, write_private
from mrsynth.pseudonym import subject as subject_of

FILE_COLUMNS = ("file", "state", "code", "series")
PRIVATE_COLUMNS = ("path", "instance", "frame", "stack", "position_mm", "digest")
FILE_LETTERS = 13
"""Letters of a file's pseudonym: 65 bits, enough for 10⁵ files."""

ACQUISITION = [
    "ImageType",
    "ComplexImageComponent",
    "EchoNumbers",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "KVP",
    "ConvolutionKernel",
]
"""Slices that differ in one of these are different acquisitions, whatever their series."""
ACQUISITION_DIGITS = 2
"""Times are compared to 0.01 ms: scanners print the same echo time with rounding noise."""

IDENTITY = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality")
"""What all slices of one SeriesInstanceUID must share (PS3.3 A.1.2.3)."""


@dataclass
class Index:
    """What `scan` found.

    Attributes:
        series: One row per series, free of identities.
        files: One row per file: pseudonymous id, state, code, series.
        private: Series → table of the files to convert, with paths; for the private folder only.
        paths: File id → path; for the private folder only.
    """

    series: pd.DataFrame
    files: pd.DataFrame
    private: dict[str, pd.DataFrame] = field(repr=False)
    paths: pd.DataFrame = field(repr=False)


@dataclass
class _File:
    """A file on its way to a state."""

    id: str
    header: dicom.Header
    state: str = ""
    code: str = ""
    series: str = ""


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
    threads: int = 1,
) -> Index:
    """List all series below some folders.

    A series whose slices belong to several acquisitions (echoes, b-values, magnitude and phase,
    image
    types) becomes several rows. A file that should have been DICOM and isn't makes all series of
    its folder
    refused, since any of them may have lost a slice.

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
        threads: Processes that read headers.

    Raises:
        StudyError: If a folder does not exist, or two persons get the same pseudonym.
    """
    named = _named_files(roots)
    headers = dicom.read_headers(
        [path for path, _, _ in named], threads=threads, accept_bare=accept_bare
    )
    files = []
    seen: Counter = Counter()
    for header, (_, name, folder) in zip(headers, named, strict=True):
        seen[name] += 1
        identity = f"{name}\0{seen[name]}" if seen[name] > 1 else name
        identifier = f"fil-{pseudonym(key, 'file', identity, FILE_LETTERS)}"
        if subject_from == "folder":
            _rename(header, folder)
        if header.state == "read" and not header.patient:
            header.state, header.code = "refused", "NO_PATIENT_ID"
            header.message = "PatientID is missing or empty"
        files.append(_File(identifier, header))
    options = {"min_slices": min_slices, "gap_factor": gap_factor, "tolerance_mm": tolerance_mm}
    options["uneven"] = uneven
    rows, private = _all_series(files, key, links or {}, options)
    return Index(
        series=columns.table(rows),
        files=pd.DataFrame(
            sorted((file.id, file.state, file.code, file.series) for file in files),
            columns=list(FILE_COLUMNS),
        ),
        private=private,
        paths=pd.DataFrame(
            sorted((file.id, file.header.path) for file in files), columns=["file", "path"]
        ),
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


def _named_files(roots: list[str | Path]) -> list[tuple[str, str, str]]:
    """Path, name with the root's own name, first folder below the root; in name order."""
    found = {}
    for root in roots:
        if not Path(root).is_dir():
            raise StudyError(f"config key 'dicom': the folder '{root}' does not exist; correct it")
        for path in dicom.list_files(root):
            relative = os.path.relpath(path, root)
            head = relative.split(os.sep)[0] if os.sep in relative else Path(root).resolve().name
            found.setdefault(path, (path, f"{Path(root).resolve().name}/{relative}", head))
    return sorted(found.values(), key=lambda item: (item[1], item[0]))


def _rename(header: dicom.Header, person: str) -> None:
    header.patient = person
    for values in header.slices:
        values["PatientID"] = person


def _all_series(files: list[_File], key: bytes, links: dict[str, str], options: dict):
    """Rows and private tables of all series; sets every file's state."""
    groups, tainted = defaultdict(list), Counter()
    for file in files:
        header = file.header
        if header.state == "read" or (header.series and header.state == "refused"):
            groups[header.series].append(file)
        else:
            file.state, file.code = header.state, header.code
            if header.code in ("CORRUPT", "UNREADABLE"):
                tainted[str(Path(header.path).parent)] += 1
    people: dict[str, str] = {}
    rows, private = [], {}
    for uid in sorted(groups):
        for row, table, members in _one_series(uid, groups[uid], tainted, key, options):
            row |= _study_row(members, key, links, people)
            rows.append(row)
            for file in members:
                file.series = row["series"] if file.state != "skipped" else file.series
            if table is not None:
                private[row["series"]] = table
    return rows, private


def _study_row(members: list[_File], key: bytes, links: dict[str, str], people: dict) -> dict:
    """Pseudonyms of the person and the study."""
    slices = [values for file in members for values in file.header.slices[:1]]
    patient = slices[0]["PatientID"] if slices else members[0].header.patient
    person = links.get(patient, patient)
    subject = subject_of(key, person) if person else ""
    if people.setdefault(subject, person) != person:
        raise StudyError(
            f"two persons get the pseudonym '{subject}'; use another key ('private/key')"
        )
    study = slices[0]["StudyInstanceUID"] if slices else ""
    return {
        "subject": subject,
        "study": f"std-{pseudonym(key, 'study', study)}" if study else "",
    }


def _one_series(uid: str, files: list[_File], tainted: Counter, key: bytes, options: dict):
    """Rows, private tables and files of what one SeriesInstanceUID holds."""
    patients = sorted({file.header.patient for file in files})
    if len(patients) > 1:
        for patient in patients:
            own = [file for file in files if file.header.patient == patient]
            name = _series_name(key, f"{uid}\0{patient}")
            problem = Refusal(
                "INCONSISTENT_IDENTITY", "one series holds slices of several patients"
            )
            yield _refused(name, own, problem, key)
        return
    name = _series_name(key, uid)
    try:
        _check_files(files, tainted)
        slices = _unique(files)
        _check_identity(slices)
        slices, kind = _without_localizers(slices)
    except Refusal as refusal:
        yield _refused(name, files, refusal, key)
        return
    if kind in ("localizer", "projection"):
        row = columns.describe(name, [item for _, item in slices], key) | {"kind": kind}
        for file in files:
            file.state, file.code = "skipped", file.code or kind.upper()
            file.series = name
        yield row | {"status": "skipped", "code": kind.upper(), "message": ""}, None, files
        return
    parts = _acquisitions(slices, options["min_slices"])
    for label, part in parts:
        own = list({id(file): file for file, _ in part}.values())
        part_name = name if len(parts) == 1 else _series_name(key, f"{uid}\0{label}")
        extra = [file for file in files if file.state == "skipped"] if part is parts[0][1] else []
        try:
            yield _stacked(part_name, part, [*own, *extra], key, options)
        except Refusal as refusal:
            yield _refused(part_name, [*own, *extra], refusal, key)


def _series_name(key: bytes, identity: str) -> str:
    return f"ser-{pseudonym(key, 'series', identity)}"


def _refused(name: str, files: list[_File], refusal: Refusal, key: bytes):
    """The row of a refused series; its files that aren't skipped are refused with its code."""
    for file in files:
        if file.state != "skipped":
            file.state, file.code = "refused", file.header.code or refusal.code
        file.series = name
    row = columns.describe(name, [values for file in files for values in file.header.slices], key)
    row |= {"status": "refused", "code": refusal.code, "message": refusal.message}
    return row, None, files


def _check_files(files: list[_File], tainted: Counter) -> None:
    """Refuse a series of which a file can't be read, or may be the unreadable one beside it."""
    bad = sorted(
        (file.header.code, file.header.message) for file in files if file.header.state == "refused"
    )
    if bad:
        raise Refusal(bad[0][0], f"{bad[0][1]} ({len(bad)} of {len(files)} files)")
    neighbours = sum(tainted[folder] for folder in {str(Path(f.header.path).parent) for f in files})
    if neighbours:
        raise Refusal(
            "CORRUPT", f"{neighbours} unreadable files in its folder may be slices of this series"
        )


def _unique(files: list[_File]) -> list[tuple[_File, dict]]:
    """Slices of the files, those delivered twice counted once."""
    by_instance = defaultdict(list)
    for file in files:
        by_instance[file.header.slices[0]["SOPInstanceUID"]].append(file)
    slices = []
    for instance in sorted(by_instance):
        first, *others = by_instance[instance]
        for other in others:
            if not _same(first, other):
                raise Refusal(
                    "DUPLICATE_CONFLICT", "two files with one SOPInstanceUID have different content"
                )
            other.state, other.code = "skipped", "DUPLICATE"
        slices += [(first, values) for values in first.header.slices]
    return slices


def _same(first: _File, second: _File) -> bool:
    """Whether two files hold the same slices, whatever their encoding."""
    one, two = first.header, second.header
    if len(one.slices) != len(two.slices):
        return False
    names = (*dicom.VECTORS, "RescaleSlope", "RescaleIntercept", "PatientID")
    if any(one.slices[0][name] != two.slices[0][name] for name in names):
        return False
    frames = [None] if one.slices[0]["frame"] == "" else range(len(one.slices))
    return all(
        pixels.pixel_digest(one.path, frame) == pixels.pixel_digest(two.path, frame)
        for frame in frames
    )


def _check_identity(slices) -> None:
    for name in IDENTITY:
        count = len({values[name] for _, values in slices})
        if count > 1:
            raise Refusal(
                "INCONSISTENT_IDENTITY", f"one series holds {count} different values of {name}"
            )


def _without_localizers(slices):
    """Slices without the localizers and projections among them; the series' kind."""
    kinds = [contrast.kind(values) for _, values in slices]
    rest = [kind for kind in kinds if kind in ("original", "derived")]
    if not rest:
        return slices, kinds[0]
    for (file, _), kind in zip(slices, kinds, strict=True):
        if kind not in ("original", "derived"):
            file.state, file.code = "skipped", kind.upper()
    kept = [item for item, kind in zip(slices, kinds, strict=True) if item[0].state != "skipped"]
    return kept, rest[0]


def _acquisitions(slices, min_slices: int) -> list[tuple[str, list]]:
    """Slices by acquisition, in the order of their labels."""
    parts = defaultdict(list)
    for file, values in slices:
        parts[repr([_rounded(values[name]) for name in ACQUISITION])].append((file, values))
    split = []
    for label in sorted(parts):
        split += _by_number(label, parts[label], min_slices)
    return split


def _by_number(label: str, part, min_slices: int) -> list[tuple[str, list]]:
    """Repeated measurements, if AcquisitionNumber tells the slices at one place apart."""
    repeated = stacks.same_position(*_arrays(part))
    numbers = [values["AcquisitionNumber"] for _, values in part]
    distinct = all(len({numbers[i] for i in group}) == len(group) for group in repeated)
    sizes = set(Counter(numbers).values())
    if not (
        repeated
        and distinct
        and None not in numbers
        and len(sizes) == 1
        and min(sizes) >= min_slices
    ):
        return [(label, part)]
    return [
        (
            f"{label}{number}",
            [item for item, own in zip(part, numbers, strict=True) if own == number],
        )
        for number in sorted(set(numbers))
    ]


def _rounded(value):
    return round(value, ACQUISITION_DIGITS) if isinstance(value, float) else value


def _arrays(part) -> tuple[np.ndarray, np.ndarray]:
    positions = np.array([values["ImagePositionPatient"] for _, values in part])
    return positions, np.array([values["ImageOrientationPatient"] for _, values in part])


def _stacked(name: str, part, files: list[_File], key: bytes, options: dict):
    """Row, private table and files of a series that converts."""
    part = _without_repeats(part)
    split = {name: options[name] for name in ("min_slices", "gap_factor")}
    positions, orientations = _arrays(part)
    groups, stray = stacks.split(positions, orientations, **split)
    for position in stray:
        part[position][0].state, part[position][0].code = "skipped", "STRAY_SLICE"
    table, geometries, warnings, notes = [], [], set(), []
    for number, group in enumerate(groups, start=1):
        geometry, note = _geometry(
            [part[i][1] for i in group], positions[group], orientations[group], options
        )
        geometries.append(geometry)
        notes += [note] if note else []
        direction = stacks.normal(orientations[group].mean(axis=0))
        warnings |= {"TILT"} if geometry.tilt_deg > 0 else set()
        for i in group:
            table.append(_private_row(*part[i], number, positions[i] @ direction))
    warnings |= {"VARIABLE_SPACING"} if notes else set()
    used = [values for i in np.concatenate(groups) for values in [part[i][1]]]
    warnings |= {"LOSSY"} if any(v["LossyImageCompression"] == "01" for v in used) else set()
    for file in files:
        if file.state != "skipped":
            file.state, file.code = "used", ""
        file.series = name
    row = columns.describe(name, used, key) | columns.extent(
        groups, positions, orientations, geometries, used
    )
    row |= {"status": "used", "code": ",".join(sorted(warnings)), "message": "; ".join(notes)}
    return row, pd.DataFrame(table, columns=list(PRIVATE_COLUMNS)), files


def _without_repeats(part):
    """Drop slices that repeat a place and its pixels; refuse those with other pixels."""
    repeated = stacks.same_position(*_arrays(part))
    dropped = set()
    for group in repeated:
        first, *others = sorted(
            group, key=lambda i: (part[i][1]["SOPInstanceUID"], part[i][1]["frame"])
        )
        digest = _slice_digest(*part[first])
        for other in others:
            if _slice_digest(*part[other]) != digest:
                raise Refusal(
                    "DUPLICATE_POSITION", f"different slices at one position, {len(repeated)} times"
                )
            part[other][0].state, part[other][0].code = "skipped", "DUPLICATE"
            dropped.add(other)
    return [item for i, item in enumerate(part) if i not in dropped]


def _slice_digest(file: _File, values: dict) -> tuple:
    frame = None if values["frame"] == "" else values["frame"]
    digest = pixels.pixel_digest(file.header.path, frame)
    return digest, values["RescaleSlope"], values["RescaleIntercept"]


def _geometry(slices, positions, orientations, options: dict) -> tuple[stacks.Geometry, str]:
    """A stack's geometry, and what it says of uneven steps if these are kept."""
    for name in ("Rows", "Columns", "PixelSpacing"):
        if len({values[name] for values in slices}) > 1:
            raise Refusal("INCONSISTENT_SIZE", f"the slices of one stack differ in {name}")
    first = slices[0]
    size, thickness = (int(first["Rows"]), int(first["Columns"])), first["SliceThickness"] or 1.0
    place = (positions, orientations, first["PixelSpacing"], size)
    tolerance = options["tolerance_mm"]
    try:
        return stacks.geometry(*place, thickness_mm=thickness, tolerance_mm=tolerance), ""
    except Refusal as refusal:
        if refusal.code != "VARIABLE_SPACING" or options["uneven"] != "keep":
            raise
        return stacks.geometry(*place, tolerance_mm=np.inf), refusal.message


def _private_row(file: _File, values: dict, stack: int, position: float) -> tuple:
    frame = "" if values["frame"] == "" else str(values["frame"] + 1)
    instance = values["SOPInstanceUID"]
    return file.header.path, instance, frame, stack, round(float(position), 4), file.header.digest


def write_index(found: Index, series: str | Path, files: str | Path, private: str | Path) -> None:
    """Write the two public tables, and the private ones where their content has changed.

    Private tables of series that are gone, such as those of who withdrew, are removed.

    Args:
        found: What :func:`scan` found.
        series: Path of the series table.
        files: Path of the file table.
        private: The private folder; its ``index`` folder gets ``files.tsv`` and one table per used
            series.
    """
    for table, path in ((found.series, series), (found.files, files)):
        table.to_csv(path, sep="\t", index=False, lineterminator="\n")
    folder = Path(private) / "index"
    make_private_folder(Path(private))
    for name, table in {"files": found.paths, **found.private}.items():
        text = table.to_csv(sep="\t", index=False, lineterminator="\n", errors="surrogateescape")
        write_private(folder / f"{name}.tsv", text)
    for path in folder.glob("ser-*.tsv"):
        if path.stem not in found.private:
            path.unlink()
