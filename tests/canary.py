"""Marked DICOM, and a search for the marks in everything that a study leaves behind.

Text elements begin with a word that occurs nowhere else; dates, times and UIDs, which can't hold
it, have values of their own. The search decodes what it finds: gzip, zip and npz, PNG text,
base64, UTF-16, percent signs.
"""

import base64
import binascii
import hashlib
import io
import re
import struct
import urllib.parse
import zipfile
import zlib
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import pydicom
from pydicom.datadict import DicomDictionary

WORD = "Zq7Canary"
UID_ROOT = "1.2.826.0.1.3680043.10.77317."
TIME = "134759.731613"
FIRST_DAY = date(2037, 11, 7)
BIRTH = date(1973, 3, 19)
SOURCE = Path(__file__).parents[1] / "src/mrsynth"

TEXT = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
LENGTH = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "PN": 64}
MEANT = {"SOPClassUID", "TransferSyntaxUID", "MediaStorageSOPClassUID"}
"""UIDs that mean something."""
LEFT_OUT = {"SpecificCharacterSet", "TimezoneOffsetFromUTC", "LengthToEnd", "FileSetID"}
GROUPS = (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040, 0x4008)
"""Where a header names persons, places and times (PS3.6)."""
DEEP = 8
"""How many containers may lie within each other."""
PIECE = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
NUMBER = re.compile(
    rb"(?<![0-9.])(?:\d\d[./-]?(?:\d\d|[a-z]{3})[./-]?\d{4}"
    rb"|\d{4}[./-]?\d\d[./-]?\d\d[t ]?(?:\d{6})?|\d\d:?\d\d:?\d\d)(?![0-9])"
)
"""Dates and times as whole numbers: a run of digits inside a longer one is chance."""
SEPARATOR = re.compile(rb"[./:t -]")
LARGE, EDGE = 1 << 22, 1 << 16
"""Of more bytes than the first number only the ends are searched for dates: it is a volume."""
INFLATED = 1 << 26
"""Bytes that are read of one compressed stream."""


@cache
def known_words() -> str:
    """The package's source: code strings that it names have a meaning and keep their value."""
    return "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))


@cache
def additional() -> tuple[tuple[str, str, bool], ...]:
    """The standard's text, date and UID elements of the groups above.

    Returns:
        Keyword, VR, whether the package names the element.
    """
    chosen = []
    for tag, (vr, _, _, retired, keyword) in sorted(DicomDictionary.items()):
        plain = not retired and keyword and keyword not in LEFT_OUT | MEANT
        if tag >> 16 not in GROUPS or not plain or keyword.endswith("ApplicableToSOPClassUIDs"):
            continue
        named = f'"{keyword}"' in known_words()
        if vr in TEXT | {"DA", "DT", "TM", "UI"} or (vr == "CS" and not named):
            chosen.append((keyword, vr, named))
    return tuple(chosen)


class Marker:
    """Marks datasets; the same UID or date always becomes the same mark."""

    def __init__(self, person: str):
        self.person = person
        self.uids: dict[str, str] = {}
        self.first: date | None = None

    def patient_id(self) -> str:
        """The marked patient ID."""
        return f"{WORD}-ID-{self.person}"

    def uid(self, old: str) -> str:
        """A marked UID instead of another."""
        number = int(hashlib.sha256(f"{self.person}{old}".encode()).hexdigest()[:12], 16)
        return self.uids.setdefault(old, f"{UID_ROOT}{number}")

    def day(self, old: str) -> str:
        """A marked date; intervals stay as they are."""
        given = date(int(old[:4]), int(old[4:6]), int(old[6:8]))
        self.first = self.first or given
        return (FIRST_DAY + (given - self.first)).strftime("%Y%m%d")

    def mark(self, dataset: pydicom.Dataset, full: bool = True) -> pydicom.Dataset:
        """Mark a file's dataset in place, nested and private elements included.

        Args:
            dataset: With file meta information.
            full: Add every text, date, time and UID element of the standard; else those alone that
                the package names, which may tell the acquisitions of a series apart.
        """
        self._known(dataset)
        self._add(dataset, full)
        self._nest(dataset)
        dataset.PatientID = self.patient_id()
        dataset.PatientName = f"{WORD}^{self.person}"
        dataset.PatientBirthDate = BIRTH.strftime("%Y%m%d")
        meta = dataset.file_meta
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        meta.ImplementationClassUID = self.uid("implementation")
        meta.ImplementationVersionName = meta.SourceApplicationEntityTitle = WORD
        dataset.preamble = f"{WORD} preamble".encode().ljust(128, b"\0")
        return dataset

    def _known(self, dataset: pydicom.Dataset) -> None:
        for element in dataset:
            if element.VR == "SQ":
                for item in element.value:
                    self._known(item)
            elif element.VR == "UI" and element.keyword not in MEANT:
                element.value = self.uid(str(element.value))
            elif element.VR == "DA":
                day = str(element.value)
                element.value = self.day(day) if day else _date()
            elif element.VR in ("TM", "DT"):
                element.value = _time(element.VR)
            elif element.VR in TEXT and not str(element.value).startswith(WORD):
                element.value = _text(element.VR, str(element.value))

    def _add(self, dataset: pydicom.Dataset, full: bool) -> None:
        for keyword, vr, named in additional():
            if (full or named) and keyword not in dataset:
                value = {"UI": self.uid(keyword), "DA": _date()}.get(vr)
                setattr(dataset, keyword, value or (_time(vr) if vr in ("TM", "DT") else _text(vr)))

    def _nest(self, dataset: pydicom.Dataset) -> None:
        inner, outer = pydicom.Dataset(), pydicom.Dataset()
        inner.PatientID, inner.PersonName = self.patient_id(), f"{WORD}^Nested"
        inner.StudyDate, inner.ReferencedSOPInstanceUID = _date(), self.uid("nested")
        outer.OtherPatientIDsSequence = [inner]
        outer.RequestedProcedureDescription = f"{WORD} nested"
        dataset.RequestAttributesSequence = [outer]
        block = dataset.private_block(0x0029, f"{WORD.upper()} PRIVATE", create=True)
        block.add_new(0x01, "LO", f"{WORD} private")
        block.add_new(0x02, "SQ", [inner])
        block.add_new(0x03, "UN", f"{WORD} unknown".encode())
        block.add_new(0x04, "OB", f"{WORD} bytes ".encode())
        block.add_new(0x05, "UI", self.uid("private"))
        dataset.add_new(0x60003000, "OW", f"{WORD} overlay ".encode())
        dataset.add_new(0x60004000, "LT", f"{WORD} overlay")


def _text(vr: str, old: str = "") -> str:
    """The word before what was there, so that the words of a protocol go on working."""
    word = WORD.upper() if vr == "CS" else WORD
    if vr == "UR":
        return f"http://{WORD}/"
    return f"{word} {old}".strip()[: LENGTH.get(vr, 1000)].strip()


def _time(vr: str) -> str:
    return TIME if vr == "TM" else _date() + TIME


def _date() -> str:
    return FIRST_DAY.strftime("%Y%m%d")


class Search:
    """Looks for marks in bytes, files and folders.

    Attributes:
        ids: Marked patient IDs; their unkeyed hashes count as marks, since they can be undone.
    """

    def __init__(self, ids: list[str] = ()):
        times = [TIME[:6], f"{TIME[:2]}:{TIME[2:4]}:{TIME[4:6]}", TIME[7:]]
        self.words = [WORD.lower().encode(), UID_ROOT.encode()]
        for person in ids:
            for kind in ("md5", "sha1", "sha256"):
                digest = hashlib.new(kind, person.encode())
                self.words.append(digest.hexdigest()[:12].encode())
                self.words.append(base64.b32encode(digest.digest())[:8].lower())
        days = [FIRST_DAY + timedelta(days=offset) for offset in range(-2, 15)] + [BIRTH]
        forms = ("%Y%m%d", "%d%m%Y", "%m%d%Y", "%d%b%Y")
        self.numbers = {day.strftime(form).lower().encode() for day in days for form in forms}
        self.numbers |= {text.replace(":", "").encode() for text in times}

    def tree(self, folder: Path, skip: tuple[str, ...] = ()) -> list[str]:
        """Places in a folder that hold a mark: names, links' targets and contents.

        Args:
            folder: Where to look, hidden files included.
            skip: Top-level names to leave out.
        """
        found = []
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if name.parts[0] in skip:
                continue
            found += [f"{name}: in the name" for _ in self.text(str(name).encode(errors="replace"))]
            if path.is_symlink():
                target = str(path.readlink()).encode(errors="replace")
                found += [f"{name}: in the link" for _ in self.text(target)]
            elif path.is_file():
                found += [f"{name}: {hit}" for hit in self.text(path.read_bytes())]
        return found

    def text(self, content: bytes, depth: int = 0) -> list[str]:
        """Marks in some bytes and in whatever can be decoded from them."""
        hits = []
        small = content.lower()
        # Without the zeros, UTF-16 and UTF-32 read like ASCII.
        for form in (small, small.replace(b"\0", b"")) if b"\0" in small else (small,):
            places = [form.find(word) for word in self.words]
            texts = [form] if len(form) < LARGE else [form[:EDGE], form[-EDGE:]]
            numbers = [number for text in texts for number in NUMBER.finditer(text)]
            places += [number.start() for number in numbers if self._is_mark(number)]
            hits += [
                form[max(0, p - 30) : p + 50].decode(errors="replace") for p in places if p >= 0
            ]
        if depth < DEEP:
            for part in self._decoded(content):
                hits += self.text(part, depth + 1)
        return hits

    def _is_mark(self, number: re.Match) -> bool:
        """Whether a number with its separators is a marked date or time, or both in one."""
        digits = SEPARATOR.sub(b"", number[0])
        return digits in self.numbers or (len(digits) >= 14 and digits[:8] in self.numbers)

    def _decoded(self, content: bytes):
        if content[:2] == b"\x1f\x8b" or (content[:1] == b"\x78" and _inflates(content)):
            yield _inflate(content)
            return
        if content[:4] == b"PK\x03\x04" and zipfile.is_zipfile(io.BytesIO(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                yield "\n".join(archive.namelist()).encode()
                for name in archive.namelist():
                    yield archive.read(name)
            return
        if content[:8] == b"\x89PNG\r\n\x1a\n":
            yield from _png_texts(content)
            return
        if b"%" in content and b"\0" not in content[:1000]:
            plain = urllib.parse.unquote_to_bytes(content)
            if plain != content:
                yield plain
        if b"\0" in content[:1000]:
            return
        for piece in PIECE.finditer(content):
            yield from _base64(piece[0])


def _inflates(content: bytes) -> bool:
    try:
        return bool(_inflate(content[: 1 << 16]))
    except zlib.error:
        return False


def _inflate(content: bytes) -> bytes:
    """All members of a gzip file, or a zlib stream, up to a limit."""
    parts = []
    while content:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        try:
            parts.append(inflater.decompress(content, INFLATED))
        except zlib.error:
            break
        content = inflater.unused_data
    return b"".join(parts)


def _png_texts(content: bytes):
    """Every chunk but the pixels; compressed texts inflated (PNG 11.3.3)."""
    place = 8
    while place + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        data = content[place + 8 : place + 8 + length]
        place += 12 + length
        if kind == b"IDAT":
            continue
        yield data
        if kind in (b"zTXt", b"iTXt"):
            for start in [mark.end() for mark in re.finditer(b"\0", data)]:
                if data[start : start + 1] == b"\x78":
                    yield _inflate(data[start:])
    yield content[place:]


def _base64(piece: bytes):
    """What a run of base64 letters holds, begun at any of its first four letters."""
    piece = piece.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    for start in range(4):
        part = piece[start:]
        part = part[: len(part) - (len(part) % 4 == 1)]
        try:
            yield base64.b64decode(part + b"=" * (-len(part) % 4))
        except binascii.Error:
            continue
