"""DICOM files: what each is, and what its header says of every slice in it.

Headers are read without pixels and without the elements that nothing needs. Every bad file ends in
a code, none in an exception, and no text from a header ends in a message.
"""

import contextlib
import hashlib
import signal
import threading
import warnings
import zlib
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.pixels import get_decoder

from mrsynth import elements, files, headers
from mrsynth.errors import Refusal
from mrsynth.files import list_files as list_files
from mrsynth.headers import CT as CT
from mrsynth.headers import MR as MR
from mrsynth.wanted import VECTORS as VECTORS

PROJECTION = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
}
DIRECTORY = "1.2.840.10008.1.3.10"

START_BYTES = 2**15
"""Read at once; nearly all single-frame headers are shorter, and one read is all they take."""
LARGER_START_BYTES = 2**18
"""Second try for headers with icons, overlays or vendors' private blocks."""
LARGEST_HEADER = 2**28
"""A header may not be longer than this; that of a thousand frames has some ten million bytes."""
INFLATED_BYTES = 2**26
LARGEST_RATIO = 100
"""A deflated file may inflate to the first many bytes or to this many times its size; slices
shrink to a half, mostly empty ones to a twentieth."""
INFLATE_BYTES = 2**20
"""Inflated at a time."""
SECONDS_PER_FILE = 60.0
"""A header takes a millisecond; a file that takes this long hangs (on a lost network drive)."""
IMAGE_SUFFIXES = {"", ".dcm", ".dicom", ".ima", ".img"}
"""Names of files that should have been DICOM; anything else without the magic word is not ours."""
NO_IMAGE_NAMES = {"dicomdir", "readme", "license", "licence", "version", "lockfile", "makefile"}
POOL_FROM = 1000
"""With fewer files, starting processes costs more than it saves."""
CHUNK = 128
"""Files that a process takes at a time."""


@dataclass
class Header:
    """What one file's header says.

    Attributes:
        path: The file.
        state: ``read`` (has slices), ``skipped`` or ``refused``.
        code: Reason of the last two.
        message: The reason in words, with its numbers.
        remedy: What to do about it.
        series: SeriesInstanceUID, as far as it could be read.
        patient: PatientID, as far as it could be read.
        slices: Header values, one mapping per slice.
        known: Header values of a refused file's first slice, as far as they could be read.
        placed: Whether a skipped file is an image with a place in space all the same.
        digest: Of the header's bytes and the file's size.
    """

    path: str
    state: str
    code: str = ""
    message: str = ""
    remedy: str = ""
    series: str = ""
    patient: str = ""
    slices: list[headers.Slice] = field(default_factory=list)
    known: headers.Slice | None = None
    placed: bool = False
    digest: str = ""


def read_headers(paths: list[str], *, threads: int = 1, accept_bare: bool = False) -> list[Header]:
    """Read many headers, in the order of the paths.

    Args:
        paths: Files.
        threads: Processes to share the work.
        accept_bare: Read files without preamble and magic word as well.
    """
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    bare = [accept_bare] * len(chunks)
    found: list[Header] = []
    if threads > 1 and len(paths) >= POOL_FROM:
        # A decoder's crash would break the pool; what is left is then read here.
        with contextlib.suppress(BrokenProcessPool), ProcessPoolExecutor(threads) as pool:
            for part in pool.map(_read_chunk, chunks, bare):
                found += _shared_anew(part)
    for chunk in chunks[len(found) // CHUNK if len(found) < len(paths) else len(chunks) :]:
        found += _read_chunk(chunk, accept_bare)
    return found


def _read_chunk(paths: list[str], accept_bare: bool) -> list[Header]:
    with warnings.catch_warnings():
        # pydicom's warnings quote the values that they are about.
        warnings.simplefilter("ignore")
        return [read_header(path, accept_bare) for path in paths]


def _shared_anew(part: list[Header]) -> list[Header]:
    """Headers of another process, with values shared among each other as in this one."""
    again: dict[int, dict] = {}
    for header in part:
        for piece in [*header.slices, *([header.known] if header.known else [])]:
            known = again.get(id(piece.shared))
            if known is None:
                known = again[id(piece.shared)] = headers.share(piece.shared)
            piece.shared = known
    return part


def read_header(path: str, accept_bare: bool = False) -> Header:
    """Read one file's header; every kind of bad file ends in a code, none in an exception."""
    header = Header(path, "refused")
    try:
        with _time_limit(SECONDS_PER_FILE):
            _fill(header, accept_bare)
    except Refusal as refusal:
        header.code, header.message, header.remedy = refusal.code, refusal.message, refusal.remedy
    except TimeoutError:
        header.code = "UNREADABLE"
        header.message = f"reading took more than {SECONDS_PER_FILE:g} s"
    except OSError:
        header.code, header.message = "UNREADABLE", "the file can't be read"
    except elements.TooLongError:
        header.code, header.message = "IMPOSSIBLE_SIZE", f"longer than {LARGEST_HEADER >> 20} MiB"
    except Exception:
        # A damaged file raises nearly anything in the parser, whose text may quote the header.
        header.code, header.message = "CORRUPT", "the file can't be parsed as DICOM"
    if header.state == "refused":
        header.remedy = header.remedy or headers.AGAIN
        if header.slices:
            header.known, header.slices = header.slices[0], []
    return header


@contextlib.contextmanager
def _time_limit(seconds: float):
    """Raise ``TimeoutError`` after some time; without effect outside a main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _alarm(number, frame):
    raise TimeoutError


def _fill(header: Header, accept_bare: bool) -> None:
    try:
        length = files.length(header.path)
    except Refusal:
        if _named_as_image(header.path) or Path(header.path).is_dir():
            raise
        # Editors lock a file by a dead link beside it.
        header.state, header.code, header.message = "skipped", "NOT_DICOM", "not a regular file"
        return
    with files.open_file(header.path) as file:
        start = file.read(START_BYTES)
        bare = start[128:132] != b"DICM"
        if bare and not _refuse_bare(header, start, accept_bare):
            return
        problem = None
        try:
            found, start = _walked(file, start, length)
            header.slices, problem = headers.lean(found)
        except elements.NotPlainError:
            found = _thoroughly(file, start, length, bare)
        digest = hashlib.sha256(_before(file, start, min(found.end, length)))
    digest.update(str(length).encode())
    header.digest = digest.hexdigest()[:16]
    if found.raw is None:
        header.series = "\\".join(found.get("SeriesInstanceUID", ()))
        header.patient = "\\".join(found.get("PatientID", ()))
        kind = headers.sop_class(found)
    else:
        piece = header.slices[0]
        header.series, header.patient = piece["SeriesInstanceUID"], piece["PatientID"]
        kind = piece["SOPClassUID"]
    if not _wanted(header, kind):
        header.slices, header.placed = [], "ImagePositionPatient" in (found.raw or found)
        return
    if found.raw is None:
        header.slices, problem = headers.thorough(found)
    if problem:
        raise problem
    if not found.syntax and not accept_bare:
        raise Refusal(
            "NO_SYNTAX",
            "the file doesn't name its transfer syntax",
            "Set 'index.accept_bare: true' to read it as it looks, or export again.",
        )
    _check_complete(header.slices[0], found, length)
    header.state = "read"


def _walked(file, start: bytes, length: int) -> tuple[elements.Elements, bytes]:
    """The lean reader's elements, with a longer start of the file where that is needed."""
    try:
        return elements.walk(start, length), start
    except elements.NotPlainError:
        if length <= START_BYTES or len(start) < START_BYTES or start[128:132] != b"DICM":
            raise
    start += file.read(LARGER_START_BYTES - START_BYTES)
    return elements.walk(start, length), start


def _thoroughly(file, start: bytes, length: int, bare: bool) -> elements.Elements:
    """pydicom's elements; nothing is inflated or allocated beyond a limit."""
    if elements.DEFLATED.encode() in start[:1024]:
        _check_deflated(file, length)
    limited = elements.Bounded(file, length, LARGEST_HEADER)
    try:
        return elements.read_with_pydicom(limited, force=bare)
    except OSError:
        # The parser has turned whatever happened into an error of its own.
        if limited.left < 0:
            raise elements.TooLongError from None
        if limited.failed:
            raise
        raise ValueError("damaged") from None


def _before(file, start: bytes, end: int) -> bytes:
    """The bytes before the pixels."""
    if end <= len(start):
        return start[:end]
    file.seek(len(start))
    return start + file.read(min(end, LARGEST_HEADER) - len(start))


def _wanted(header: Header, kind: str) -> bool:
    """Whether the SOP class is one of those that are read (PS3.4 B.5); a list of what is let in."""
    if kind in headers.SINGLE_FRAME or kind in headers.MULTI_FRAME:
        return True
    if kind not in PROJECTION and not header.series and kind != DIRECTORY:
        raise Refusal("CORRUPT", "neither SOP class nor series; the file may be cut")
    header.state = "skipped"
    header.code, header.message = "UNSUPPORTED_CLASS", "not a CT or MR image"
    if kind in PROJECTION:
        header.code, header.message = "PROJECTION", "a projection image"
    return False


def _refuse_bare(header: Header, start: bytes, accept: bool) -> bool:
    """Decide on a file without the magic word: True if it may be parsed."""
    plausible = start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00"
    if plausible and accept:
        return True
    if plausible:
        raise Refusal(
            "NO_PREAMBLE",
            "DICOM without preamble and magic word",
            "Set 'index.accept_bare: true', or export as DICOM files.",
        )
    if _named_as_image(header.path):
        raise Refusal("CORRUPT", "empty, or not DICOM under a DICOM file's name")
    header.state, header.code, header.message = "skipped", "NOT_DICOM", "not a DICOM file"
    return False


def _named_as_image(path: str) -> bool:
    """Whether a file's name says that it should have been DICOM."""
    name = Path(path)
    if name.name.lower().split(".")[0] in NO_IMAGE_NAMES or name.name.startswith("."):
        return False
    return name.suffix.lower() in IMAGE_SUFFIXES or name.suffix[1:].isdigit()


def _check_deflated(file, length: int) -> None:
    """Refuse a file that inflates beyond reason (PS3.5 A.5); keeps nothing of what it inflates."""
    limit = max(INFLATED_BYTES, LARGEST_RATIO * length)
    file.seek(140)
    file.seek(144 + int.from_bytes(file.read(4), "little"))
    inflater, total, tail = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
    while not inflater.eof:
        tail = tail or file.read(INFLATE_BYTES)
        if not tail:
            return
        total += len(inflater.decompress(tail, INFLATE_BYTES))
        tail = inflater.unconsumed_tail
        if total > limit:
            text = f"{length} bytes inflate beyond {limit >> 20} MiB"
            raise Refusal("IMPOSSIBLE_SIZE", text, headers.AGAIN)


def _check_complete(piece: headers.Slice, found: elements.Elements, length: int) -> None:
    """Compare what is left of the file with the pixels that the header promises."""
    kind = elements.syntax_kind(found.syntax)
    if kind is None:
        raise Refusal(
            "MISSING_DECODER",
            "a private or unknown transfer syntax",
            "Export uncompressed, as Explicit VR Little Endian.",
        )
    compressed, deflated = kind
    size = piece["Rows"] * piece["Columns"] * (piece["NumberOfFrames"] or 1)
    size *= (piece["SamplesPerPixel"] or 1) * (piece["BitsAllocated"] or 16) / 8
    # The pixel element's own tag, VR and length come before its value (PS3.5 7.1).
    left = length - found.end - (8 if found.implicit else 12)
    if not deflated:
        if left <= 0 or (not compressed and left < size):
            raise Refusal("CORRUPT", "the file ends before its pixels do")
        if not compressed and found.promised >= 0 and not size <= found.promised <= left:
            raise Refusal("CORRUPT", "the pixels' element has another length than rows and columns")
    if compressed and not _decodable(found.syntax):
        raise Refusal(
            "MISSING_DECODER",
            f"no decoder for transfer syntax {elements.UID(found.syntax).name}",
            "Install the packages of envs/, or export uncompressed.",
        )


def _decodable(syntax: str) -> bool:
    try:
        return get_decoder(elements.UID(syntax)).is_available
    except NotImplementedError:
        return False
