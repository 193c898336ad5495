"""Rolling training state: saved so that no interruption can spoil it, loaded so that training goes
on bit by bit.

A file is 32 bytes of SHA-256 and then torch's own format. The last two are kept (``state.pt`` and
``state-previous.pt``): a damaged newest one falls back to the one before.
"""

import hashlib
import io
import json
import logging
import os
import random
from pathlib import Path

import numpy as np
import torch

log = logging.getLogger("mrsynth")

NEWEST, PREVIOUS = "state.pt", "state-previous.pt"
DIGEST_BYTES = 32


class StateMismatchError(ValueError):
    """A saved state belongs to other settings, code or data."""


class DamagedError(ValueError):
    """A saved state is not what was written."""


def save(state: dict, folder: str | Path) -> None:
    """Write a state atomically; the newest one before it becomes the previous one.

    Args:
        state: Tensors, numbers, text, and dicts, lists and tuples of them.
        folder: Made if it is not there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    temporary = folder / f".{NEWEST}.{os.getpid()}"
    try:
        with open(temporary, "wb") as handle:
            handle.write(hashlib.sha256(content).digest())
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        if (folder / NEWEST).exists():
            os.replace(folder / NEWEST, folder / PREVIOUS)
        os.replace(temporary, folder / NEWEST)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: str | Path) -> dict:
    """Read one state onto the CPU. Runs no code that a file may hold (``weights_only``).

    Raises:
        DamagedError: If the file is cut, changed, or not a state at all.
    """
    content = Path(path).read_bytes()
    digest, content = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise DamagedError(f"{Path(path).name} is damaged: its checksum does not match")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise DamagedError(f"{Path(path).name} is not a state of mrsynth: {error}") from None


def load(folder: str | Path) -> dict | None:
    """The newest readable state of a folder; None if there is none. A damaged one is logged."""
    for name in (NEWEST, PREVIOUS):
        path = Path(folder) / name
        if path.exists():
            try:
                return read(path)
            except DamagedError as error:
                log.warning("%s; trying the state before it", error)
    return None


def remove(folder: str | Path) -> None:
    """Remove the states of a finished training."""
    for name in (NEWEST, PREVIOUS):
        (Path(folder) / name).unlink(missing_ok=True)


def differences(saved: dict, now: dict, prefix: str = "") -> list[str]:
    """What differs between two nested dicts, as ``key: saved → now``; keys joined by points."""
    found = []
    for key in sorted({*saved, *now}):
        name = f"{prefix}{key}"
        old, new = saved.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{name}.")
        elif old != new:
            found.append(f"{name}: {json.dumps(old)} → {json.dumps(new)}")
    return found


def check_stamp(saved: dict, now: dict) -> None:
    """Refuse a state of another training.

    Raises:
        StateMismatchError: Naming every difference.
    """
    found = differences(saved, now)
    if found:
        raise StateMismatchError(
            "the saved state belongs to another training (" + "; ".join(found) + "); "
            "restore these, or remove the state to train anew"
        )


def random_state() -> dict:
    """The states of all random number generators: Python's, numpy's, torch's, the cards'."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: dict) -> None:
    """Put all random number generators back."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
