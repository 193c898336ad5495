"""Files of the same series: checked against each other, parted by acquisition, cut into stacks."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mrsynth import acquisitions, archives, columns, contrast, dicom, pixels, stacks
from mrsynth.errors import Refusal, StudyError
from mrsynth.pseudonym import pseudonym
from mrsynth.pseudonym import subject as subject_of

PRIVATE_COLUMNS = ("path", "instance", "frame", "stack", "position_mm", "digest")

IDENTITY = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality", "SOPClassUID")
"""What all slices of one SeriesInstanceUID must share (PS3.3 A.1.2.3)."""
PIXEL_FORM = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
PIXEL_FORM += ("PhotometricInterpretation", "SamplesPerPixel")
"""What no scanner changes within a stack; a slice that differs was damaged or is another's."""
NEXT_MM = 0.2
"""How near a lone slice must lie to where a stack's next slice would be, to be taken for it."""

LEAVE = "Leave the series out, or choose another one in config/cohort.tsv."
AGAIN = "Send the series again."


@dataclass(slots=True)
class File:
    """A file on its way to a state."""

    id: str
    header: dicom.Header
    state: str = ""
    code: str = ""
    series: str = ""


@dataclass
class Series:
    """A row of the series table with what belongs to it.

    Attributes:
        row: Its cells.
        files: Its files.
        table: The files to convert; None if there are none.
        ends: Of a used series, the stacks with their first and last places.
        lone: Of a series that has too few slices, these.
    """

    row: dict
    files: list[File]
    table: pd.DataFrame | None = None
    ends: list[tuple] = field(default_factory=list)
    lone: list = field(default_factory=list)


def all_series(found: list[File], key: bytes, links: dict[str, str], options: dict):
    """Rows and private tables of all series; sets every file's state.

    Args:
        found: All files.
        key: The study's secret.
        links: Patient ID → person.
        options: Settings of :func:`mrsynth.index.scan` by name.

    Returns:
        Rows of the series table, and by series the table of the files to convert.

    Raises:
        StudyError: If two persons get the same pseudonym.
    """
    groups, tainted = _groups(found)
    everything = []
    for uid in sorted(groups):
        everything += _one_series(uid, groups[uid], tainted, key, options)
    _refuse_shortened(everything, key)
    people: dict[str, str] = {}
    shared = _shared_ids(found)
    for series in everything:
        series.row |= _study_row(series.files, key, links, people)
        if any(file.header.patient in shared for file in series.files):
            words = [word for word in series.row["notes"].split(",") if word]
            series.row["notes"] = ",".join([*words, "id_shared"])
        for file in series.files:
            file.series = series.row["series"] if file.state != "skipped" else file.series
    private = {
        series.row["series"]: series.table for series in everything if series.table is not None
    }
    return [series.row for series in everything], private


def _groups(found: list[File]) -> tuple[dict[str, list[File]], Counter]:
    """Files by series, and by folder how many may be lost slices of any series there.

    Images without a series' UID form one group per folder and patient.
    """
    groups, tainted = defaultdict(list), Counter()
    for file in found:
        header, folder = file.header, str(Path(file.header.path).parent)
        if header.state == "skipped" and not header.placed:
            file.state, file.code = header.state, header.code
        elif header.state == "read" or (header.series and header.code != "MISSING_UID"):
            groups[header.series].append(file)
        else:
            tainted[folder] += 1
            if header.known is not None:
                groups[header.series or f"\0{folder}\0{header.patient}"].append(file)
            else:
                file.state, file.code = header.state, header.code
    return groups, tainted


def _shared_ids(found: list[File]) -> set[str]:
    """Patient IDs under which there are two sexes or two birth dates: not one person's."""
    sexes, births = defaultdict(set), defaultdict(set)
    firsts = [piece for file in found for piece in file.header.slices[:1]]
    for piece in {(id(piece.shared), piece["PatientID"]): piece for piece in firsts}.values():
        sexes[piece["PatientID"]].add(piece["PatientSex"])
        births[piece["PatientID"]].add(piece["PatientBirthDate"])
    several = {patient for patient, own in sexes.items() if {"M", "F"} <= own}
    return several | {patient for patient, own in births.items() if len(own - {""}) > 1}


def _study_row(members: list[File], key: bytes, links: dict[str, str], people: dict) -> dict:
    """Pseudonyms of the person and the study."""
    headers = [file.header for file in members]
    first = next((s for h in headers for s in (*h.slices[:1], h.known) if s is not None), None)
    patient = first["PatientID"] if first is not None else headers[0].patient
    person = links.get(patient, patient)
    subject = subject_of(key, person) if person else ""
    if people.setdefault(subject, person) != person:
        raise StudyError(
            f"two persons get the pseudonym '{subject}'; use another key ('private/key')"
        )
    study = first["StudyInstanceUID"] if first is not None else ""
    return {
        "subject": subject,
        "study": f"std-{pseudonym(key, 'study', study)}" if study else "",
    }


def _one_series(
    uid: str, members: list[File], tainted: Counter, key: bytes, options: dict
) -> Iterator[Series]:
    """What one SeriesInstanceUID holds."""
    patients = sorted({file.header.patient for file in members})
    if len(patients) > 1:
        for patient in patients:
            own = [file for file in members if file.header.patient == patient]
            problem = Refusal(
                "INCONSISTENT_IDENTITY",
                f"one series holds slices of {len(patients)} patients",
                "Mend the export; UIDs were copied or patients mixed.",
            )
            yield _refused(_series_name(key, f"{uid}\0{patient}"), own, problem, key)
        return
    name = _series_name(key, uid)
    if all(file.header.state == "skipped" for file in members):
        for file in members:
            file.state, file.code = file.header.state, file.header.code
        return
    try:
        _check_files(members, tainted)
        slices = _unique(members)
        _check_identity(slices)
        slices, kind = _without_pictures(slices)
    except Refusal as refusal:
        yield _refused(name, members, refusal, key)
        return
    if kind in contrast.NO_VOLUMES:
        row = columns.describe(name, [piece for _, piece in slices], key) | {"kind": kind}
        for file in members:
            file.state, file.code = "skipped", file.code or kind.upper()
            file.series = name
        yield Series(row | {"status": "skipped", "code": kind.upper()}, members)
        return
    parts = acquisitions.part(slices, options["min_slices"])
    for label, part in parts:
        own = list({id(file): file for file, _ in part}.values())
        part_name = name if len(parts) == 1 else _series_name(key, f"{uid}\0{label}")
        extra = [file for file in members if file.state == "skipped"] if part is parts[0][1] else []
        try:
            yield _stacked(part_name, part, [*own, *extra], key, options)
        except Refusal as refusal:
            series = _refused(part_name, [*own, *extra], refusal, key)
            if refusal.code == "TOO_FEW_SLICES":
                series.lone = [piece for _, piece in part]
            yield series


def _series_name(key: bytes, identity: str) -> str:
    return f"ser-{pseudonym(key, 'series', identity)}"


def _refused(name: str, members: list[File], refusal: Refusal, key: bytes) -> Series:
    """A refused series; its files that aren't skipped are refused with its code."""
    for file in members:
        if file.state != "skipped":
            own = file.header.state == "refused"
            file.state, file.code = "refused", file.header.code if own else refusal.code
        file.series = name
    headers = [file.header for file in members]
    known = [piece for h in headers for piece in (h.slices or [h.known]) if piece is not None]
    row = columns.describe(name, known, key) | {"slices": max(len(known), len(members))}
    words = {"code": refusal.code, "message": refusal.message, "remedy": refusal.remedy}
    return Series(row | {"status": "refused"} | words, members)


def _check_files(members: list[File], tainted: Counter) -> None:
    """Refuse a series of which a file can't be read, or may be the unreadable one beside it."""
    bad = [file.header for file in members if file.header.state == "refused"]
    bad.sort(key=lambda header: (header.code, header.message))
    for header in bad:
        text = f"{header.message} ({len(bad)} of {len(members)} files)"
        raise Refusal(header.code, text, header.remedy)
    others = sum(file.header.state == "skipped" for file in members)
    if others:
        raise Refusal(
            "INCONSISTENT_IDENTITY",
            f"{others} of {len(members)} files are images of another class than CT or MR",
            "Mend the export; these files belong to another series, or were damaged.",
        )
    folders = {str(Path(file.header.path).parent) for file in members}
    neighbours = sum(tainted[folder] for folder in folders)
    if neighbours:
        raise Refusal(
            "CORRUPT",
            f"{neighbours} unreadable files in its folder may be slices of this series",
            "Send the series again, or take the broken files out of the tree.",
        )


def _unique(members: list[File]) -> list[tuple]:
    """Slices of the files, those delivered twice counted once."""
    by_instance = defaultdict(list)
    for file in members:
        by_instance[file.header.slices[0]["SOPInstanceUID"]].append(file)
    slices = []
    for instance in sorted(by_instance):
        first, *others = by_instance[instance]
        for other in others:
            if not _same(first, other):
                raise Refusal(
                    "DUPLICATE_CONFLICT",
                    "two files with one SOPInstanceUID have different content",
                    "Take the wrong one out of the tree.",
                )
            other.state, other.code = "skipped", "DUPLICATE"
        slices += [(first, piece) for piece in first.header.slices]
    return slices


def _same(first: File, second: File) -> bool:
    """Whether two files hold the same slices, whatever their encoding."""
    one, two = first.header, second.header
    if one.digest == two.digest and _content(one.path) == _content(two.path):
        return True
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


def _content(path: str) -> bytes:
    return hashlib.sha256(archives.read(path)).digest()


def _check_identity(slices: list[tuple]) -> None:
    for name in IDENTITY:
        count = len({piece[name] for _, piece in slices})
        if count > 1:
            raise Refusal(
                "INCONSISTENT_IDENTITY",
                f"one series holds {count} different values of {name}",
                "Mend the export; UIDs were copied or series mixed.",
            )


def _without_pictures(slices: list[tuple]) -> tuple[list[tuple], str]:
    """Slices without the localizers, projections and pictures of text; the series' kind."""
    kinds = [piece["kind"] for _, piece in slices]
    rest = [kind for kind in kinds if kind not in contrast.NO_VOLUMES]
    if not rest:
        return slices, kinds[0]
    for (file, _), kind in zip(slices, kinds, strict=True):
        if kind in contrast.NO_VOLUMES:
            file.state, file.code = "skipped", kind.upper()
    return [item for item in slices if item[0].state != "skipped"], rest[0]


def _stacked(name: str, part: list[tuple], members: list[File], key: bytes, options: dict):
    """A series that converts."""
    part = _without_repeats(part)
    split = {name: options[name] for name in ("min_slices", "gap_factor")}
    positions, orientations = acquisitions.places(part)
    groups, stray = stacks.split(positions, orientations, **split)
    table, geometries, warnings, notes, ends = [], [], set(), [], []
    for number, group in enumerate(groups, start=1):
        pieces = [part[i][1] for i in group]
        geometry, note = _geometry(pieces, positions[group], orientations[group], options)
        geometries.append(geometry)
        ends.append((pieces[0], geometry.matrix, len(group)))
        notes += [note] if note else []
        direction = stacks.normal(orientations[group].mean(axis=0))
        warnings |= {"TILT"} if geometry.tilt_deg > 0 else set()
        for i in group:
            table.append(_private_row(*part[i], number, positions[i] @ direction))
    for i in stray:
        if _continues(part[i][1], ends):
            raise Refusal(
                "INCONSISTENT_GEOMETRY",
                "a slice lies where the stack's next one should, with another orientation",
                AGAIN,
            )
        part[i][0].state, part[i][0].code = "skipped", "STRAY_SLICE"
    warnings |= {"VARIABLE_SPACING"} if notes else set()
    used = [part[i][1] for i in np.concatenate(groups)]
    warnings |= {"LOSSY"} if any(p["LossyImageCompression"] == "01" for p in used) else set()
    for file in members:
        if file.state != "skipped":
            file.state, file.code = "used", ""
        file.series = name
    row = columns.describe(name, used, key) | columns.extent(
        groups, positions, orientations, geometries, used
    )
    row |= {"status": "used", "code": ",".join(sorted(warnings)), "message": "; ".join(notes)}
    return Series(row, members, pd.DataFrame(table, columns=list(PRIVATE_COLUMNS)), ends)


def _without_repeats(part: list[tuple]) -> list[tuple]:
    """Drop slices that repeat a place and its pixels; refuse those with other pixels."""
    repeated = stacks.same_position(*acquisitions.places(part))
    dropped = set()
    for group in repeated:
        first, *others = sorted(
            group, key=lambda i: (part[i][1]["SOPInstanceUID"], part[i][1]["frame"])
        )
        digest = _slice_digest(*part[first])
        for other in others:
            if _slice_digest(*part[other]) != digest:
                raise Refusal(
                    "DUPLICATE_POSITION",
                    f"different slices lie at the same place (places: {len(repeated)})",
                    "Export each acquisition as a series of its own, or leave the series out.",
                )
            part[other][0].state, part[other][0].code = "skipped", "DUPLICATE"
            dropped.add(other)
    return [item for i, item in enumerate(part) if i not in dropped]


def _slice_digest(file: File, piece) -> tuple:
    frame = None if piece["frame"] == "" else piece["frame"]
    digest = pixels.pixel_digest(file.header.path, frame)
    return digest, piece["RescaleSlope"], piece["RescaleIntercept"]


def _geometry(pieces, positions, orientations, options: dict) -> tuple[stacks.Geometry, str]:
    """A stack's geometry, and what it says of uneven steps if these are kept."""
    for name in ("Rows", "Columns", "PixelSpacing", *PIXEL_FORM):
        values = {piece[name] for piece in pieces}
        if len(values) > 1:
            code = "INCONSISTENT_PIXELS" if name in PIXEL_FORM else "INCONSISTENT_SIZE"
            text = f"the slices of one stack have {len(values)} different values of {name}"
            raise Refusal(code, text, f"{AGAIN[:-1]}, or leave it out.")
    first = pieces[0]
    size, thickness = (int(first["Rows"]), int(first["Columns"])), first["SliceThickness"] or 1.0
    place = (positions, orientations, first["PixelSpacing"], size)
    tolerance = options["tolerance_mm"]
    try:
        return stacks.geometry(*place, thickness_mm=thickness, tolerance_mm=tolerance), ""
    except Refusal as refusal:
        if refusal.code != "VARIABLE_SPACING" or options["uneven"] != "keep":
            raise
        return stacks.geometry(*place, tolerance_mm=np.inf), refusal.message


def _private_row(file: File, piece, stack: int, position: float) -> tuple:
    frame = "" if piece["frame"] == "" else str(piece["frame"] + 1)
    instance = piece["SOPInstanceUID"]
    return file.header.path, instance, frame, stack, round(float(position), 4), file.header.digest


def _continues(piece, ends: list[tuple]) -> bool:
    """Whether a slice begins where the next one of a stack would."""
    position = np.array(piece["ImagePositionPatient"])
    for first, matrix, count in ends:
        if _space(piece) != _space(first):
            continue
        for number in (-1, count):
            place = matrix[:3, 3] + number * matrix[:3, 2]
            if np.linalg.norm(position - place) < NEXT_MM:
                return True
    return False


def _space(piece) -> tuple[str, str]:
    """What two slices must share for their places to mean the same."""
    return piece["Modality"], piece["FrameOfReferenceUID"]


def _refuse_shortened(everything: list[Series], key: bytes) -> None:
    """Refuse stacks of which an end slice lies alone elsewhere, by a damaged or copied header."""
    lone = defaultdict(list)
    for series in everything:
        for piece in series.lone:
            lone[_space(piece)].append(piece)
    for series in everything:
        near = [piece for space in {_space(end[0]) for end in series.ends} for piece in lone[space]]
        if any(_continues(piece, series.ends) for piece in near):
            refusal = Refusal(
                "MISSING_SLICES",
                "a slice that continues the stack stands in a series or acquisition of its own",
                AGAIN,
            )
            again = _refused(series.row["series"], series.files, refusal, key)
            series.row, series.table, series.ends = again.row, None, []
