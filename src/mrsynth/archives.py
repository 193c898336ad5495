"""Zip and tar archives as folders: members are listed and read by name, and never become files.

A member's path is ``<archive>!/<name>``. Since no name of a member is ever opened on the disk, an
absolute one or one with ``..`` is text like any other. A compressed tar can only be read from its
start, so its plain tar is kept in a private folder (0600), where any member is one seek away.
"""

import atexit
import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from mrsynth.errors import Refusal, StudyError
from mrsynth.pseudonym import PRIVATE_FILE_MODE, make_private_folder

MARK = "!/"
"""Stands between an archive's path and a member's name."""

SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
"""Names of archives. Opening every file of a tree to look for others would double its reading."""

UNSUPPORTED = (".7z", ".rar", ".tar.zst", ".tzst", ".tar.lz4")
"""Archives that nothing here can open: named, so that their slices aren't lost silently."""

PACKERS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
"""First two bytes of a compressed tar → how it opens."""

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

LARGEST_FILE = 2**32
"""Bytes of one file or member; the largest enhanced objects are half of this."""

MOST_MEMBERS = 1_000_000
"""Members of one archive: a hospital's export of a thousand patients has fewer."""

LARGEST_RATIO = 100
"""Unpacked over packed size of an archive; slices shrink to a half or, if mostly air, a tenth."""

PLAIN_BYTES = 2**28
"""Up to this unpacked size, the ratio isn't asked."""

CHUNK = 2**20


def split(path: str) -> tuple[str, str] | None:
    """Archive and member of a member's path; None for the path of a plain file."""
    start = path.find(MARK)
    while start >= 0:
        archive = path[:start]
        if is_archive(archive) and os.path.isfile(archive):
            return archive, path[start + len(MARK) :]
        start = path.find(MARK, start + 1)
    return None


def is_archive(path: str) -> bool:
    """Whether a file's name says that it is an archive, readable here or not."""
    return path.lower().endswith(SUFFIXES + UNSUPPORTED)


def members(path: str, cache: str | Path | None = None) -> list[tuple[str, str]]:
    """Members of an archive that are files.

    Args:
        path: The archive.
        cache: Private folder for the plain tars of compressed ones; None takes a temporary one
            that ends with the process.

    Returns:
        Path to read and name to tell apart, of each member, in the archive's order.

    Raises:
        Refusal: ``BAD_ARCHIVE``, ``ENCRYPTED_ARCHIVE``, ``UNSUPPORTED_ARCHIVE`` or
            ``ARCHIVE_LIMIT``.
    """
    place, names = _opened(path, cache)
    return [(f"{place}{MARK}{name}", f"{path}{MARK}{name}") for name in names]


def _opened(path: str, cache: str | Path | None) -> tuple[str, dict[str, bool]]:
    """Where an archive's bytes are, and its files' names with whether they can be read."""
    if path.lower().endswith(UNSUPPORTED):
        raise Refusal(
            "UNSUPPORTED_ARCHIVE", "only zip and tar archives are read", "unpack it, or use zip"
        )
    try:
        with open(path, "rb") as file:
            start = file.read(2)
        place = _unpacked(path, start, cache) if start in PACKERS else path
        if start == b"PK":
            return place, dict.fromkeys(_zip_names(place), True)
        found = _tar_members(place, *_stamp(place))
        return place, {name: part is not None for name, part in found.items()}
    except (Refusal, StudyError):
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StudyError(
                "no space is left in the private folder to unpack a compressed tar; make room, "
                "pack the files as zip, or point 'private' to another disk"
            ) from None
        raise Refusal("UNREADABLE", "the archive can't be opened") from None
    except Exception:
        raise Refusal(
            "BAD_ARCHIVE", "the archive is cut or damaged, or is none", "send it again"
        ) from None


@dataclass(frozen=True)
class Entry:
    """A file of a tree, or a member of an archive in it.

    Attributes:
        path: To read it.
        name: To tell it apart: that of the archive itself, wherever its bytes are kept.
        code: ``ARCHIVE`` of an archive whose members follow, the reason of a refused one, or empty.
        message: The reason in words.
        remedy: What to do about it.
    """

    path: str
    name: str
    code: str = ""
    message: str = ""
    remedy: str = ""

    @property
    def state(self) -> str:
        """What becomes of a file with a code: ``skipped`` if nothing of it is lost."""
        return "skipped" if self.code == "ARCHIVE" else "refused"


def expand(paths: list[str], cache: str | Path | None = None) -> list[Entry]:
    """Files and, after each archive among them, its members.

    Args:
        paths: Files.
        cache: See :func:`members`.
    """
    entries = []
    for path in paths:
        if not is_archive(path):
            entries.append(Entry(path, path))
            continue
        try:
            place, names = _opened(path, cache)
        except Refusal as refusal:
            entries.append(Entry(path, path, refusal.code, refusal.message, refusal.remedy))
            continue
        code, message = "ARCHIVE", "an archive; its members are listed"
        entries.append(Entry(path, path, code, message))
        entries += [
            _member(f"{place}{MARK}{name}", f"{path}{MARK}{name}", readable)
            for name, readable in names.items()
        ]
    return entries


def _member(place: str, name: str, readable: bool) -> Entry:
    if not readable:
        code, message = "UNSUPPORTED_MEMBER", "a sparse member of a tar, or a link to none of its"
        return Entry(place, name, code, message, "pack it again without --sparse, links as files")
    if not is_archive(name):
        return Entry(place, name)
    code, message = "NESTED_ARCHIVE", "an archive inside another one"
    return Entry(place, name, code, message, "unpack the outer one")


def relative(name: str, root: str | Path) -> str:
    """A file's name as seen from its root, parted by ``/``; an archive in it ends in ``!``."""
    if name == str(root):
        return os.path.basename(name)
    if name.startswith(f"{root}{MARK}"):
        return name[len(str(root)) + len(MARK) :]
    # A member's own name is no path of this disk, and stays as it is.
    archive, mark, member = name.partition(MARK)
    return os.path.relpath(archive, root).replace(os.sep, "/") + mark + member


def folder_name(name: str) -> str:
    """The name of the folder that an archive stands for; any other name as it is."""
    bare = name.removesuffix("!")
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if bare.lower().endswith(suffix):
            return bare[: -len(suffix)]
    return name


def read(path: str, limit: int | None = None) -> bytes:
    """Bytes of a file or of a member, from the start.

    Args:
        path: A plain path or a member's.
        limit: At most so many bytes.

    Raises:
        Refusal: ``UNREADABLE`` or ``CORRUPT``; ``ARCHIVE_LIMIT`` beyond 4 GiB.
    """
    try:
        place = split(path) if MARK in path else None
        if place is None:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise Refusal("UNREADABLE", "not a regular file, or a dead link")
            with open(path, "rb") as file:
                _check_size(os.fstat(file.fileno()).st_size, limit)
                return file.read(-1 if limit is None else limit)
        return _read_member(*place, limit)
    except Refusal:
        raise
    except Exception as error:
        # bz2 tells of a damaged stream by an error of the system without a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise Refusal("UNREADABLE", "a file can't be opened") from None
        raise Refusal("CORRUPT", "a member of an archive can't be read") from None


def open_file(path: str) -> BinaryIO:
    """A file or a member as a binary file that can be read and sought in.

    Raises:
        OSError: If there is none; of a member's container also errors of `zipfile` and `tarfile`.
    """
    place = split(path) if MARK in path else None
    if place is None:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError("not a regular file")
        return open(path, "rb", buffering=2**16)
    archive, name = place
    if _is_zip(archive):
        return _zip(archive, *_stamp(archive), os.getpid()).open(name)
    start, length = _tar_members(archive, *_stamp(archive))[name]
    return io.BufferedReader(_Part(archive, start, length), 2**16)


class _Part(io.RawIOBase):
    """A stretch of a file, as a file."""

    def __init__(self, path: str, start: int, length: int):
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed with the part)
        self._start, self._length, self._place = start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._length}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer) -> int:
        wanted = max(0, min(len(buffer), self._length - self._place))
        content = os.pread(self._file.fileno(), wanted, self._start + self._place)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def size(path: str) -> int:
    """Length of a file or of a member in bytes; 0 if there is none."""
    place = split(path) if MARK in path else None
    if place is None:
        return os.path.getsize(path) if os.path.isfile(path) else 0
    archive, name = place
    try:
        if _is_zip(archive):
            return _zip(archive, *_stamp(archive), os.getpid()).getinfo(name).file_size
        return _tar_members(archive, *_stamp(archive))[name][1]
    except Exception:
        return 0


def stamp(path: str) -> tuple[int, int]:
    """Size and time of change (ns) of the file that holds the bytes: the archive of a member."""
    place = split(path) if MARK in path else None
    return _stamp(place[0] if place else path)


def forget(cache: str | Path, kept: list[str]) -> None:
    """Remove the plain tars that no path uses any more.

    Args:
        cache: The folder given to :func:`members`.
        kept: Paths of members that are still wanted.
    """
    used = {os.path.abspath(path.split(MARK, 1)[0]) for path in kept if MARK in path}
    for file in Path(cache).glob("*.tar") if Path(cache).is_dir() else []:
        if os.path.abspath(file) not in used:
            file.unlink()


def _check_size(length: int, limit: int | None) -> None:
    if limit is None and length > LARGEST_FILE:
        raise Refusal("ARCHIVE_LIMIT", f"a file of {length >> 20} MiB", "leave it out")


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _is_zip(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def _read_member(archive: str, name: str, limit: int | None) -> bytes:
    if _is_zip(archive):
        # One handle per process: children that share their parent's would share its position.
        handle = _zip(archive, *_stamp(archive), os.getpid())
        _check_size(handle.getinfo(name).file_size, limit)
        with handle.open(name) as file:
            return file.read() if limit is None else file.read(limit)
    start, length = _tar_members(archive, *_stamp(archive))[name]
    _check_size(length, limit)
    with open(archive, "rb") as file:
        file.seek(start)
        content = file.read(length if limit is None else min(limit, length))
    if limit is None and len(content) < length:
        raise Refusal("CORRUPT", "a member of an archive is cut")
    return content


@lru_cache(maxsize=4)
def _zip(path: str, *_stamp) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _zip_names(path: str) -> list[str]:
    """Names of the files in a zip, its limits checked by what its directory promises."""
    found = [info for info in _zip(path, *_stamp(path), os.getpid()).infolist() if not _aside(info)]
    if any(info.flag_bits & 0x1 for info in found):
        raise Refusal(
            "ENCRYPTED_ARCHIVE", "members of the archive are encrypted", "pack it without password"
        )
    if any(info.compress_type not in METHODS for info in found):
        raise Refusal(
            "UNSUPPORTED_ARCHIVE", "the archive is packed by an unusual method", "pack it as zip"
        )
    names = [info.filename for info in found]
    _check_limits(names, sum(info.file_size for info in found), os.path.getsize(path))
    return names


def _aside(info: zipfile.ZipInfo) -> bool:
    """Folders and links: a link's content would be a path, not a slice."""
    return info.is_dir() or stat.S_ISLNK(info.external_attr >> 16)


@lru_cache(maxsize=4)
def _tar_members(path: str, *_stamp) -> dict[str, tuple[int, int] | None]:
    """Name → start and length of the files in a plain tar; None of one that can't be read."""
    names, parts = [], {}
    with tarfile.open(path, "r:") as file:
        for info in file:
            if not (info.isreg() or info.islnk()):
                continue
            names.append(info.name)
            parts[info.name] = _part(info, parts)
            if len(names) > MOST_MEMBERS:
                break
        else:
            _check_end(path, file.offset)
    _check_limits(names, 0, 0)
    return parts


def _part(info: tarfile.TarInfo, earlier: dict) -> tuple[int, int] | None:
    """Start and length of a file's bytes; of a hard link those of the earlier member it names."""
    if info.islnk():
        return earlier.get(info.linkname)
    return None if info.issparse() else (info.offset_data, info.size)


def _check_end(path: str, offset: int) -> None:
    """Refuse a tar without the empty block at its end: one cut between two members looks whole."""
    with open(path, "rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise Refusal("BAD_ARCHIVE", "the archive has no end; it may be cut", "send it again")


def _check_limits(names: list[str], unpacked: int, packed: int) -> None:
    if len(names) > MOST_MEMBERS:
        raise Refusal("ARCHIVE_LIMIT", f"more than {MOST_MEMBERS} members", "pack fewer in one")
    if unpacked > max(PLAIN_BYTES, LARGEST_RATIO * packed):
        raise Refusal(
            "ARCHIVE_LIMIT",
            f"{packed} bytes promise {unpacked >> 20} MiB, more than {LARGEST_RATIO} times as much",
            "unpack it by hand if you trust it",
        )
    if len(set(names)) < len(names):
        raise Refusal("BAD_ARCHIVE", "two members of the archive share a name", "pack it again")


def _unpacked(path: str, start: bytes, cache: str | Path | None) -> str:
    """The plain tar of a compressed one, made once per size and time of change."""
    folder = Path(_temporary_folder() if cache is None else cache)
    identity = f"{os.path.abspath(path)}\0{_stamp(path)}".encode("utf-8", "surrogateescape")
    target = folder / f"{hashlib.sha256(identity).hexdigest()[:32]}.tar"
    if target.exists():
        return str(target)
    make_private_folder(folder)
    packed = os.path.getsize(path)
    limit = max(PLAIN_BYTES, LARGEST_RATIO * packed)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE_MODE)
        with os.fdopen(handle, "wb") as output, PACKERS[start](path, "rb") as file:
            total = 0
            while chunk := file.read(CHUNK):
                total += len(chunk)
                if total > limit:
                    _check_limits([], total, packed)
                output.write(chunk)
        if not tarfile.is_tarfile(temporary):
            raise Refusal("BAD_ARCHIVE", "no tar archive inside", "send it again")
        os.replace(temporary, target)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, OSError) as error:
        # bz2 tells of a damaged stream by an error of the system without a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Refusal("BAD_ARCHIVE", "the archive is cut or damaged", "send it again") from None
    finally:
        temporary.unlink(missing_ok=True)
    return str(target)


@lru_cache(maxsize=1)
def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix="mrsynth-")
    atexit.register(shutil.rmtree, folder, True)
    return folder
