"""The files of a tree: which there are, in the order of their names, and their bytes."""

import os
import stat
from pathlib import Path

from mrsynth import archives
from mrsynth.errors import Refusal


def list_files(root: str | Path) -> list[str]:
    """Sorted paths of all files below a folder; linked folders are followed once.

    Nothing but the file system is followed: what a DICOMDIR refers to counts only if it lies in
    the tree. A folder that can't be opened is listed itself, so that it is refused and not lost.
    """
    seen, found, queue = set(), [], [str(root)]
    while queue:
        folder = queue.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    (queue if _is_folder(entry) else found).append(entry.path)
        except OSError:
            found.append(folder)
    return sorted(found)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself.
        return False


def length(path: str) -> int:
    """Length in bytes of a file, or of an archive's member.

    Raises:
        Refusal: ``UNREADABLE`` if it is no regular file: opening a pipe or a device may hang.
    """
    if archives.MARK in path and archives.split(path):
        return archives.size(path)
    try:
        status = os.stat(path)
    except OSError:
        raise _unreadable("the file is gone, or a dead link") from None
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable("not a regular file")
    return status.st_size


def open_file(path: str):
    """The bytes of a file, unbuffered, or of an archive's member, for reading.

    Raises:
        Refusal: ``UNREADABLE``.
    """
    try:
        if archives.MARK in path and archives.split(path):
            return archives.open_file(path)
        return open(path, "rb", buffering=0)
    except OSError:
        raise _unreadable("the file can't be opened") from None


def _unreadable(message: str) -> Refusal:
    return Refusal("UNREADABLE", message, "Mend the link or the permissions, or copy it again.")
