"""Digests of whole files: pixels rewritten under the same header and size are seen.

`index` reads headers only. Of the series that the cohort has chosen, and that `convert` is going
to read anyway, each file's content is digested once; while its size and time of change stay the
same, the digest is taken from the private folder.
"""

import csv
import hashlib
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mrsynth import archives
from mrsynth.errors import Refusal, StudyError
from mrsynth.pseudonym import write_private

LETTERS = 32
"""Hexadecimal letters of a digest: 128 bits of SHA-256, no two files will share them."""

CACHE = "digests.tsv"
CACHE_COLUMNS = ("path", "size", "mtime_ns", "content")

DAMAGED = "damaged"
"""In place of the digest of a file whose content is damaged: `convert` accepts no content by it."""


def digest(content: bytes) -> str:
    """Digest of a file's content."""
    return hashlib.sha256(content).hexdigest()[:LETTERS]


def check(content: bytes, expected: str) -> None:
    """Refuse content that is not what the cohort was made from.

    Args:
        content: Of a file.
        expected: Its digest; empty asks nothing.

    Raises:
        Refusal: ``CHANGED``.
    """
    if expected and digest(content) != expected:
        raise Refusal(
            "CHANGED",
            "a file's content is another one than when the cohort was made",
            "run `snakemake cohort` again",
        )


def unreachable() -> StudyError:
    """The error for a listed file that can't be opened: of the disk, not of the patient's data."""
    return StudyError(
        "a file that `index` has listed can't be read now: its disk is not mounted or fails, its "
        "permissions have changed, or it is gone; mend that and start again. If the file was taken "
        "away, or private/unpacked was emptied, run `snakemake cohort --forcerun index`"
    )


def settle(private: str | Path, series: Iterable[str], threads: int = 1) -> None:
    """Write the lists from which `convert` reads: those of `index` with the files' digests.

    ``<private>/cohort/<series>.tsv`` is rewritten only when its content changes, so that an
    unchanged series is not converted again. Lists of series that aren't chosen any more go.

    Args:
        private: The private folder.
        series: Names of the chosen series.
        threads: Files that are read at the same time.

    Raises:
        StudyError: If a list is missing, or a file without a known digest can't be opened.
    """
    folder, known = Path(private) / "cohort", read_cache(Path(private) / CACHE)
    wanted = sorted(set(series))
    lists = {name: _read_rows(Path(private) / "index" / f"{name}.tsv") for name in wanted}
    paths = sorted({row["path"] for rows in lists.values() for row in rows})
    with ThreadPoolExecutor(threads) as pool:
        found = dict(zip(paths, pool.map(lambda path: _entry(path, known), paths), strict=True))
    for name, rows in lists.items():
        for row in rows:
            row["content"] = found[row["path"]][2]
        write_private(folder / f"{name}.tsv", _table(rows, list(rows[0]) if rows else []))
    kept = [dict(zip(CACHE_COLUMNS, (path, *found[path]), strict=True)) for path in paths]
    write_private(Path(private) / CACHE, _table(kept, CACHE_COLUMNS))
    for path in folder.glob("*.tsv"):
        if path.stem not in lists:
            path.unlink()


def read_cache(path: str | Path) -> dict[str, tuple[str, str, str]]:
    """Path → size, time of change and digest, as text; empty without the file."""
    rows = _read_rows(Path(path)) if Path(path).exists() else []
    return {row["path"]: (row["size"], row["mtime_ns"], row["content"]) for row in rows}


def _entry(path: str, known: dict) -> tuple[str, str, str]:
    """Size, time of change and digest of a file; the last known ones while it can't be opened."""
    old = known.get(path)
    known_well = old is not None and old[2] not in ("", DAMAGED)
    try:
        size, changed = map(str, archives.stamp(path))
        if known_well and old[:2] == (size, changed):
            return old
        return size, changed, digest(archives.read(path))
    except (OSError, Refusal) as error:
        if isinstance(error, Refusal) and error.code != "UNREADABLE":
            # `convert` meets the same file and refuses it with the reason.
            return size, changed, DAMAGED
        if known_well:
            return old
        raise unreachable() from None


def _read_rows(path: Path) -> list[dict]:
    if not path.exists():
        raise StudyError(
            f"the private folder has no list '{path.name}' of a series in results/index/series.tsv;"
            " restore the folder, or run `snakemake cohort --forcerun index`"
        )
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _table(rows: list[dict], columns: Iterable[str]) -> str:
    # Python 3.11 doesn't quote a carriage return by itself; other tables stay as they are.
    odd = any("\r" in str(cell) for row in rows for cell in row.values())
    quoting = csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL
    text = io.StringIO()
    names = list(columns)
    writer = csv.DictWriter(text, names, delimiter="\t", lineterminator="\n", quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
