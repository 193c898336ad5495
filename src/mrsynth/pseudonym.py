"""Pseudonyms: keyed hashes of identities, and the private files that make them.

A pseudonym is the start of HMAC-SHA256(key, identity) (RFC 2104) in base32 (RFC 4648). Without the
key it can
be neither undone nor found by trying all patient numbers, which a plain hash would allow.
"""

import base64
import csv
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


def read_links(folder: str | Path) -> dict[str, str]:
    """Patient ID → person, from ``<folder>/links.tsv`` (columns patient_id, person), if any.

    Two IDs of one person get one pseudonym, so that the person can't be in two roles.

    Raises:
        StudyError: If a column is missing or an ID is linked to two persons.
    """
    path = Path(folder) / "links.tsv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    links: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        patient, person = (row.get("patient_id") or "").strip(), (row.get("person") or "").strip()
        if not patient or not person:
            raise StudyError(
                f"'{path}' line {number}: 'patient_id' or 'person' is empty or missing; "
                "give both columns, separated by a tab"
            )
        if links.get(patient, person) != person:
            raise StudyError(f"'{path}' line {number}: this patient ID is linked to two persons")
        links[patient] = person
    return links


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
