"""Pseudonyms: keyed hashes of identities, and the private files that make them.

A pseudonym is the start of HMAC-SHA256(key, identity) (RFC 2104) in base32 (RFC 4648). Without the
key it can
be neither undone nor found by trying all patient numbers, which a plain hash would allow.
"""

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from mrsynth.errors import StudyError

KEY_BYTES = 32
"""Length of a random key: that of SHA-256's output; more adds nothing (RFC 2104, 3)."""

LETTERS = 8
"""Letters of a pseudonym: 40 bits, so that 10 000 persons collide with a chance of 1 in 20 000."""

VISITS = (100_000, 1_000_000)
"""Numbers of visits: six digits, so that two of one person's collide with a chance of 1 in 10⁶."""

PRIVATE_FOLDER_MODE = 0o700
PRIVATE_FILE_MODE = 0o600


def pseudonym(key: bytes, kind: str, identity: str, letters: int = LETTERS) -> str:
    """Keyed hash of an identity.

    Args:
        key: The study's secret.
        kind: What the identity names (``subject``, ``series``, …); the same text gives different
            pseudonyms for different kinds.
        identity: Patient ID, UID or path.
        letters: Length of the result.

    Returns:
        Base32 characters (A–Z, 2–7).
    """
    return base64.b32encode(_digest(key, kind, identity)).decode()[:letters]


def subject(key: bytes, person: str) -> str:
    """The eight characters that stand for a person: HMAC-SHA256 of the bare patient ID."""
    digest = hmac.new(key, person.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
    return base64.b32encode(digest).decode()[:LETTERS]


def visit(key: bytes, person: str, studies: str) -> str:
    """The name of one of a person's further visits, such as ``ABCDEFGH_ses-204817``.

    The number is a keyed hash of the visit's studies, so that it does not depend on which other
    visits there are. In the form of the Brain Imaging Data Structure's labels.

    Args:
        key: The study's secret.
        person: Pseudonym.
        studies: What tells the visit from others.
    """
    number = int.from_bytes(_digest(key, "visit", f"{person}\0{studies}")[:6])
    return f"{person}_ses-{VISITS[0] + number % (VISITS[1] - VISITS[0])}"


def unit(key: bytes, subject: str, purpose: str = "unit") -> float:
    """A number in [0, 1) that depends on the key and the subject alone, for splits by patient.

    Args:
        key: The study's secret.
        subject: Pseudonym.
        purpose: Gives independent numbers for the same subject.
    """
    return int.from_bytes(_digest(key, purpose, subject)[:6]) / 2**48


def _digest(key: bytes, kind: str, identity: str) -> bytes:
    text = f"{kind}\0{identity}".encode("utf-8", "surrogateescape")
    return hmac.new(key, text, hashlib.sha256).digest()


def settle_key(folder: str | Path, key_hex: str | None) -> None:
    """Write the config's fixed key to the private folder, so that no job has to carry it.

    Raises:
        StudyError: If the folder holds another key already.
    """
    if key_hex is None:
        return
    path = Path(folder) / "key"
    if not path.exists():
        write_private(path, key_hex + "\n")
    elif path.read_text().strip() != key_hex:
        raise StudyError(
            f"config key 'key_hex' differs from the key in '{path}'; use another 'private' folder, "
            "or remove 'key_hex' to keep the key that made the results there"
        )


def read_key(folder: str | Path, key_hex: str | None = None) -> bytes:
    """The study's key: the config's fixed one, or ``<folder>/key``, made if absent.

    Args:
        folder: The private folder.
        key_hex: Fixed key in hexadecimal, only for data that need no protection, such as the
            phantoms.

    Raises:
        StudyError: If either key is not hexadecimal or too short.
    """
    if key_hex:
        return _parse_key(key_hex, "config key 'key_hex'")
    path = Path(folder) / "key"
    if not path.exists():
        write_private(path, secrets.token_hex(KEY_BYTES) + "\n")
    return _parse_key(path.read_text().strip(), f"the key file '{path}'")


def _parse_key(text: str, where: str) -> bytes:
    """Bytes of a hexadecimal key; the message does not hold the key."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) < 16:
        raise StudyError(
            f"{where} is not a hexadecimal number of at least 32 digits; "
            "restore the study's own key (a new one renames every subject)"
        )
    return key


class Links(dict):
    """Patient ID → person; ``lines`` holds the number of each ID's line."""

    def __init__(self):
        super().__init__()
        self.lines: dict[str, int] = {}


def read_links(folder: str | Path) -> Links:
    """Patient ID → person, from ``<folder>/links.tsv`` (columns patient_id, person), if any.

    Two IDs of one person get one pseudonym, so that the person can't be in two roles. With
    ``index.subject_from: folder`` the folders' names are the patient IDs. A person may be named by
    one of his IDs.

    Raises:
        StudyError: If the file is no such table or an ID is linked to two persons. The message
            names the line and no ID.
    """
    links = Links()
    for number, row in _private_rows(Path(folder) / "links.tsv", ("patient_id", "person")):
        patient, person = row["patient_id"], row["person"]
        if not patient or not person:
            raise StudyError(
                f"links.tsv, line {number}: 'patient_id' or 'person' is empty or missing; "
                "give both columns, separated by a tab"
            )
        if links.get(patient, person) != person:
            raise StudyError(
                f"links.tsv, line {number}: this patient ID is linked to another person in line "
                f"{links.lines[patient]}; keep one"
            )
        links[patient] = person
        links.lines.setdefault(patient, number)
    for patient, person in links.items():
        if links.get(person, person) != person:
            raise StudyError(
                f"links.tsv, line {links.lines[patient]}: its person is a patient ID that line "
                f"{links.lines[person]} links to someone else; name one person in both"
            )
    return links


def check_links(links: dict[str, str], patients: set[str]) -> None:
    """Refuse a link of an ID that no file has: a mistyped one would part a person silently.

    Args:
        links: Of :func:`read_links`.
        patients: All patient IDs of the trees (names of folders with
            ``index.subject_from: folder``).

    Raises:
        StudyError: Naming the lines, not the IDs.
    """
    lines = getattr(links, "lines", {})
    unknown = sorted(lines.get(patient, 0) for patient in set(links) - patients)
    if unknown:
        raise StudyError(
            f"links.tsv, line {', '.join(map(str, unknown))}: no file has this patient ID (with "
            "'index.subject_from: folder': no folder has this name); correct or remove the line"
        )


def read_exclusions(folder: str | Path, key: bytes) -> dict[str, int]:
    """Pseudonyms of the persons in ``<folder>/exclude.tsv`` (column patient_id), with their lines.

    For who withdrew or must not be in: the list has hospital IDs, as its author knows them, and
    stays private. The links hold for it too, so that one ID of a person leaves him out.

    Raises:
        StudyError: If the file is no such table. The message names the line and no ID.
    """
    links, found = read_links(folder), {}
    for number, row in _private_rows(Path(folder) / "exclude.tsv", ("patient_id",)):
        if not row["patient_id"]:
            raise StudyError(f"exclude.tsv, line {number}: 'patient_id' is empty; remove the line")
        found[subject(key, links.get(row["patient_id"], row["patient_id"]))] = number
    return found


def _private_rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Numbers and cells of a private table's lines; empty without a file."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise StudyError(f"{path.name} is not UTF-8; save it as text separated by tabs") from None
    head = [cell.strip() for cell in lines[0].split("\t")]
    missing = [column for column in columns if column not in head]
    if missing:
        raise StudyError(
            f"{path.name}, line 1: the column '{missing[0]}' is missing; it needs "
            f"{', '.join(columns)}, separated by tabs"
        )
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if line.strip() and not line.startswith("#"):
            cells = dict(zip(head, [cell.strip() for cell in line.split("\t")], strict=False))
            rows.append((number, {column: cells.get(column, "") for column in columns}))
    return rows


def write_private(path: str | Path, text: str) -> bool:
    """Write a private file (0600, its folder 0700) if its content changes; atomically.

    Returns:
        Whether the file was written.
    """
    path = Path(path)
    make_private_folder(path.parent)
    content = text.encode("utf-8", "surrogateescape")
    if path.exists() and path.read_bytes() == content:
        os.chmod(path, PRIVATE_FILE_MODE)
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE_MODE)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def make_private_folder(folder: str | Path) -> None:
    """A folder that only its owner can enter."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.chmod(folder, PRIVATE_FOLDER_MODE)
