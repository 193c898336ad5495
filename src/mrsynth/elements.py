"""The few elements of a DICOM header that anything here asks for, as short texts and numbers.

Two readers give the same: a lean walk over the bytes for what nearly all files are (little endian,
usual text), and pydicom for the rest: deflated, big endian, multi-frame, shifting character sets,
odd value representations, damage. Whatever the walk isn't sure of it leaves to pydicom, so that
only pydicom ever decides that a file is bad. The walk is several times as fast, because it
converts nothing that isn't asked for.
"""

import io
import re
import struct
import warnings
from collections.abc import Iterable
from functools import cache

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.uid import UID

from mrsynth.wanted import GROUPS, META, NAMES, NAMES_BY_TAG, TAGS, VRS

IMPLICIT, DEFLATED, BIG_ENDIAN = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)
META_START = 132
"""The preamble and the magic word come first (PS3.10 7.1)."""
PIXELS = 0x7FE0
"""Group of the pixel data (PS3.3 C.7.6.3.1.4); nothing that is asked for comes after it."""
UNDEFINED = 0xFFFFFFFF
DEEPEST = 16
"""Sequences within sequences; deeper ones are left to pydicom."""
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""VRs with a length of two bytes, and of four after two reserved ones (PS3.5 7.1.2)."""
BINARY = {"US": "<H", "SS": "<h", "UL": "<L", "SL": "<l", "FD": "<d", "FL": "<f"}
PLAIN = re.compile(rb"[ -~]*\0*")
"""Text that means the same in every character set (PS3.5 6.1.1)."""
PRINTED = re.compile(rb"[ -~\x80-\xff]*\0*")
CODECS = {
    b"ISO_IR 100": "iso8859-1",
    b"ISO_IR 101": "iso8859-2",
    b"ISO_IR 109": "iso8859-3",
    b"ISO_IR 110": "iso8859-4",
    b"ISO_IR 144": "iso8859-5",
    b"ISO_IR 126": "iso8859-7",
    b"ISO_IR 148": "iso8859-9",
    b"ISO_IR 192": "utf-8",
}
"""Character sets in which a backslash's byte is a backslash; the rest is left to pydicom."""
DECIMAL = re.compile(r" *[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)? *")

_explicit = struct.Struct("<HH2sH").unpack_from
_implicit = struct.Struct("<HHL").unpack_from
_long = struct.Struct("<L").unpack_from

CHARACTER_SET = "SpecificCharacterSet"
KEYS = {tag_for_keyword(name): name for name in (*NAMES, CHARACTER_SET)}
KEYS |= {tag_for_keyword(name): "" for name in GROUPS}
"""Tag → name, empty for the functional groups, which are left to pydicom."""
META_KEYS = {tag_for_keyword(name): name for name in META}
PIXEL_DATA = tag_for_keyword("PixelData")
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


class NotPlainError(Exception):
    """The lean walk isn't sure of this file."""


class Elements(dict):
    """Name → tuple of texts or of numbers; absent and empty elements are left out.

    Attributes:
        syntax: UID of the transfer syntax.
        end: Where the pixel data's element begins; the file's end if it has none.
        promised: Length that the pixel data's element names, -1 if that is undefined or unknown.
        groups: The functional groups (shared, one list per frame) of a multi-frame object.
        implicit: Whether value representations are left out.
        raw: The undecoded values, equal for slices that share a header; None if pydicom read them.
    """

    syntax: str = ""
    end: int = 0
    promised: int = -1
    implicit: bool = False
    groups: tuple | None = None
    raw: dict[str, bytes] | None = None


def walk(data: bytes, length: int) -> Elements:
    """The lean reader.

    Args:
        data: The file's first bytes.
        length: The file's length; the walk must reach the pixels within ``data``.

    Returns:
        Elements whose values are still raw (:func:`decode`).

    Raises:
        NotPlainError: If the file isn't what this reader is made for.
    """
    if data[128:META_START] != b"DICM":
        raise NotPlainError
    try:
        meta, position, _ = _walk(data, META_START, False, META_KEYS, 2)
        found = Elements()
        found.syntax = _uid(meta.get("TransferSyntaxUID", b""))
        if found.syntax in (DEFLATED, BIG_ENDIAN) or not found.syntax:
            raise NotPlainError
        found.implicit = found.syntax == IMPLICIT
        if found.implicit and data[position + 4 : position + 6].isupper():
            # A file that says implicit and is explicit; pydicom looks at this too.
            raise NotPlainError
        found.raw, found.end, found.promised = _walk(data, position, found.implicit, KEYS, None)
        for name, other in zip(META[:2], NAMES[:2], strict=True):
            if not found.raw.get(other) and meta.get(name):
                found.raw[other] = meta[name]
    except struct.error:
        raise NotPlainError from None
    if found.end >= length:
        raise NotPlainError
    return found


def _walk(data, position: int, implicit: bool, keys: dict, group: int | None):
    """Raw values of the wanted elements of one group, or of all before the pixels.

    Returns:
        Values, position of the first element that doesn't belong, and the length that it names.
    """
    found = {}
    last = -1
    while True:
        if implicit:
            own, element, length = _implicit(data, position)
            start = position + 8
        else:
            own, element, vr, length = _explicit(data, position)
            if group is not None and own != group:
                return found, position, -1
            start = position + 8
            if vr in LONG_VRS:
                length = _long(data, start)[0]
                start += 4
            elif vr not in SHORT_VRS:
                raise NotPlainError
        tag = own << 16 | element
        if own >= PIXELS:
            if tag != PIXEL_DATA:
                raise NotPlainError
            return found, position, -1 if length == UNDEFINED else length
        if tag <= last:
            raise NotPlainError
        last = tag
        if length == UNDEFINED:
            if tag in keys or (not implicit and vr != b"SQ"):
                raise NotPlainError
            position = _after_sequence(data, start, implicit, DEEPEST)
            continue
        position = start + length
        if tag in keys:
            name = keys[tag]
            value = data[start:position]
            odd = not implicit and name in VRS and vr.decode() != VRS[name]
            if not name or odd or len(value) < length:
                raise NotPlainError
            found[name] = value


def _after_sequence(data, position: int, implicit: bool, depth: int) -> int:
    """Position after a sequence of undefined length (PS3.5 7.5.2)."""
    if not depth:
        raise NotPlainError
    while True:
        group, element, length = _implicit(data, position)
        position += 8
        tag = group << 16 | element
        if tag == SEQUENCE_END:
            return position
        if tag != ITEM:
            raise NotPlainError
        position = (
            position + length
            if length != UNDEFINED
            else _after_item(data, position, implicit, depth)
        )


def _after_item(data, position: int, implicit: bool, depth: int) -> int:
    """Position after an item of undefined length."""
    while True:
        group, element, length = _implicit(data, position)
        start = position + 8
        if group << 16 | element == ITEM_END:
            return start
        vr = b"SQ"
        if not implicit:
            _, _, vr, length = _explicit(data, position)
            if vr in LONG_VRS:
                length = _long(data, start)[0]
                start += 4
            elif vr not in SHORT_VRS:
                raise NotPlainError
        if length != UNDEFINED:
            position = start + length
        elif vr == b"SQ":
            position = _after_sequence(data, start, implicit, depth - 1)
        else:
            raise NotPlainError


def _uid(value: bytes) -> str:
    if not PLAIN.fullmatch(value):
        raise NotPlainError
    return value.decode("ascii").strip(" \0")


def decode(raw: dict[str, bytes], names: Iterable[str] = NAMES) -> dict[str, tuple]:
    """Raw values as texts and numbers.

    Raises:
        NotPlainError: If a value needs pydicom's knowledge of character sets, or isn't what its
            representation promises.
    """
    found = {}
    codec = CODECS.get(raw.get(CHARACTER_SET, b"").strip(b" \0"), "")
    for name in names:
        value = raw.get(name)
        if value:
            parts = _decoded(value, VRS[name], codec)
            if parts:
                found[name] = parts
    return found


def _decoded(value: bytes, vr: str, codec: str) -> tuple:
    form = BINARY.get(vr)
    if form:
        if len(value) % struct.calcsize(form):
            raise NotPlainError
        return tuple(float(number) for (number,) in struct.iter_unpack(form, value))
    if PLAIN.fullmatch(value):
        text = value.decode("ascii").rstrip(" \0")
    elif codec and vr in ("LO", "SH") and PRINTED.fullmatch(value):
        try:
            text = value.decode(codec).rstrip(" \0")
        except UnicodeDecodeError:
            raise NotPlainError from None
    else:
        raise NotPlainError
    if not text:
        return ()
    parts = text.split("\\")
    if vr not in ("DS", "IS"):
        return tuple(part.strip(" ") for part in parts)
    if not all(map(DECIMAL.fullmatch, parts)):
        raise NotPlainError
    return tuple(map(float, parts))


def read_with_pydicom(file, *, force: bool = False) -> Elements:
    """The thorough reader.

    Args:
        file: A binary file at any position.
        force: Read on without preamble and magic word.

    Raises:
        Exception: Nearly any, from the parser of a damaged file; its text may quote the header.
    """
    file.seek(0)
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=force, specific_tags=TAGS)
        found = Elements(values(dataset))
        found.end = file.tell()
        meta = dataset.file_meta
        found.syntax = str(getattr(meta, "TransferSyntaxUID", ""))
        for name, other in zip(META[:2], NAMES[:2], strict=True):
            if other not in found and meta.get(name):
                found[other] = (str(meta.get(name)),)
        if "PerFrameFunctionalGroupsSequence" in dataset:
            shared = dataset.get("SharedFunctionalGroupsSequence") or []
            frames = dataset.PerFrameFunctionalGroupsSequence
            found.groups = [_macros(item) for item in shared], [_macros(item) for item in frames]
        found.implicit, little = dataset.original_encoding
        if found.syntax != DEFLATED:
            found.promised = _promised(file, found, "little" if little else "big")
    return found


def _macros(item) -> list[tuple[str, dict[str, tuple]]]:
    """Names and values of a functional group's macros, one level deep (PS3.3 C.7.6.16).

    Private ones are left out: Philips repeats the whole classic header in (2005,140F), with a
    position that is half a pixel away from the standard's.
    """
    macros = [macro for macro in item if macro.VR == "SQ" and not macro.tag.is_private]
    return [(macro.keyword, values(part)) for macro in macros for part in macro.value]


def _promised(file, found: Elements, order: str) -> int:
    """Length that the pixel data's element names (PS3.5 7.1)."""
    file.seek(found.end)
    head = file.read(12)
    if len(head) < 8 or int.from_bytes(head[:2], order) != PIXELS:
        return -1
    if found.implicit:
        length = int.from_bytes(head[4:8], order)
    else:
        long = head[4:6] in LONG_VRS
        length = int.from_bytes(head[8:12] if long else head[6:8], order)
    return -1 if length == UNDEFINED else length


def values(dataset: pydicom.Dataset) -> dict[str, tuple]:
    """The wanted elements of a dataset, in the form of :func:`decode`."""
    found = {}
    for tag in dataset.keys() & NAMES_BY_TAG.keys():
        value = dataset[tag].value
        parts = value if isinstance(value, (list, tuple, MultiValue)) else [value]
        parts = [part for part in parts if part is not None]
        if not parts or parts == [""]:
            continue
        name = NAMES_BY_TAG[tag]
        if VRS[name] in ("DS", "IS") or VRS[name] in BINARY:
            found[name] = tuple(_float(part) for part in parts)
        else:
            found[name] = tuple(str(part).strip(" \0") for part in parts)
    return {name: parts for name, parts in found.items() if parts != ("",)}


def _float(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


class TooLongError(Exception):
    """A header goes on and on."""


class Bounded(io.RawIOBase):
    """Reads of a file, each cut to what is left of it before any memory is taken.

    A declared length of 4 GB in a small file would otherwise allocate 4 GB first.

    Attributes:
        left: Bytes that may still be read; negative after the limit.
        failed: Whether the disk, not the content, was at fault.
    """

    def __init__(self, file, length: int, limit: int):
        super().__init__()
        self.file, self.length, self.left = file, length, limit
        self.name, self.failed = "", False

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes; all that are left if it is negative."""
        left = max(self.length - self.file.tell(), 0)
        size = left if size is None or size < 0 else min(size, left)
        self.left -= size
        if self.left < 0:
            raise TooLongError
        try:
            return self.file.read(size)
        except OSError:
            self.failed = True
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """As of a file."""
        return self.file.tell()

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True


@cache
def syntax_kind(uid: str) -> tuple[bool, bool] | None:
    """Whether a transfer syntax is compressed, deflated; None if it is none or a private one.

    Without one the file is bare, and never compressed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = UID(uid or IMPLICIT)
    if known.is_private or not known.is_transfer_syntax:
        return None
    return known.is_compressed and not known.is_deflated, known.is_deflated
