"""Which processor trains: the choice of a card, a lock on it, and the precision it computes in."""

import contextlib
import fcntl
import functools
import logging
import os
import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from mrsynth.errors import StudyError

log = logging.getLogger("mrsynth")

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")

POLL_SECONDS = 2.0
"""How often a waiting training looks for a free card; short against any training."""


def lock_folder() -> Path:
    """Where the lock files are: on this machine's own disk, one folder per user."""
    return Path(tempfile.gettempdir()) / f"mrsynth-locks-{os.getuid()}"


def visible_cards() -> list[str]:
    """A name per card that this process may use, in torch's order.

    The card's own UUID where torch knows it: under Slurm or ``CUDA_VISIBLE_DEVICES`` two processes
    may both call different cards number 0.
    """
    if not torch.cuda.is_available():
        return []
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    cards = []
    for number in range(torch.cuda.device_count()):
        uuid = getattr(torch.cuda.get_device_properties(number), "uuid", None)
        fallback = named[number] if number < len(named) and named[number] else str(number)
        cards.append(str(uuid or fallback))
    return cards


@contextlib.contextmanager
def acquire(
    device: str = "auto",
    *,
    share: bool = False,
    number: int | None = None,
    cards: list[str] | None = None,
    folder: Path | None = None,
    patience_s: float = float("inf"),
) -> Iterator[torch.device]:
    """A device for as long as the ``with`` block lasts; a card is locked against other trainings.

    Args:
        device: ``cpu``, ``cuda``, or ``auto``: a card if there is one.
        share: Take the first card whether or not another training uses it.
        number: The card that :func:`reserve` has locked for this process.
        cards: Names of the cards; those of the machine if left out.
        folder: Folder of the lock files.
        patience_s: How long to wait for a free card.

    Raises:
        StudyError: If a card is asked for and there is none, or none gets free in time.
    """
    cards = _usable(device, cards)
    if not cards:
        yield torch.device("cpu")
    elif share or number is not None:
        yield torch.device("cuda", number or 0)
    else:
        (number, handle), *_ = _wait_for_cards(cards, 1, folder or lock_folder(), patience_s)
        with handle:
            yield torch.device("cuda", number)


@contextlib.contextmanager
def reserve(
    device: str,
    count: int,
    *,
    cards: list[str] | None = None,
    folder: Path | None = None,
    patience_s: float = float("inf"),
) -> Iterator[dict[int, int]]:
    """Cards for processes that train together, locked all at once or none.

    Who has too few lets them go before he waits, so that two trainings never wait for each other.

    Args:
        device: As for :func:`acquire`.
        count: How many cards.
        cards: Names of the cards; those of the machine if left out.
        folder: Folder of the lock files.
        patience_s: How long to wait for free cards.

    Yields:
        Card numbers with their locks' file descriptors, for the processes to inherit; empty for
        the CPU.

    Raises:
        StudyError: If there are fewer cards, or too few get free in time.
    """
    cards = _usable(device, cards)
    if not cards:
        yield {}
        return
    if count > len(cards):
        raise StudyError(
            f"config key 'train.devices' = {count}, but torch sees {len(cards)} cards "
            f"(CUDA_VISIBLE_DEVICES = {os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')!r}); "
            f"set 'devices: {len(cards)}'"
        )
    locked = _wait_for_cards(cards, count, folder or lock_folder(), patience_s)
    with contextlib.ExitStack() as held:
        yield {number: held.enter_context(handle).fileno() for number, handle in locked}


def _usable(device: str, cards: list[str] | None) -> list[str]:
    """The cards that a setting may take, those of the machine for None; empty for the CPU."""
    if device not in DEVICES:
        raise StudyError(f"config key 'device' = '{device}'; use one of {', '.join(DEVICES)}")
    if device == "cpu":
        return []
    cards = visible_cards() if cards is None else cards
    if device == "cuda" and not cards:
        raise StudyError(
            "config key 'device' = 'cuda', but torch sees no card "
            f"(CUDA_VISIBLE_DEVICES = {os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')!r}); "
            "set 'device: auto' or install a torch with CUDA and the card's driver"
        )
    return cards


def _wait_for_cards(cards: list[str], count: int, folder: Path, patience_s: float) -> list[tuple]:
    """``count`` card numbers, each with its open, locked file."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline, told = time.monotonic() + patience_s, False
    while True:
        locked = []
        for number, card in enumerate(cards):
            handle = _try_lock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', card)}.lock")
            locked += [(number, handle)] if handle else []
            if len(locked) == count:
                return locked
        for _, handle in locked:
            handle.close()
        if time.monotonic() >= deadline:
            raise StudyError(
                f"too few of {len(cards)} cards are free of other trainings of mrsynth; start "
                f"snakemake with "
                f"'--resources gpu={len(cards)}', or set 'share_device: true'"
            )
        if not told:
            text = "waiting for %d free of %d cards: other models train"
            log.warning(text, count, len(cards))
            told = True
        time.sleep(min(POLL_SECONDS, max(deadline - time.monotonic(), 0.01)))


def _try_lock(path: Path):
    """An open, locked file, or None. The lock ends with the process, however that ends."""
    handle = open(path, "a")  # noqa: SIM115
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle


def wants_card(device: str) -> bool:
    """Whether :func:`acquire` would give a card for this setting."""
    return device == "cuda" or (device == "auto" and bool(visible_cards()))


def use_threads(threads: int) -> int:
    """Let torch compute in ``threads`` threads, but no more than there are cores for this process.

    Torch's threads wait for each other busily: more of them than cores slow a training down.
    """
    usable = max(min(threads, len(os.sched_getaffinity(0))), 1)
    torch.set_num_threads(usable)
    return usable


def choose_precision(precision: str, device: torch.device) -> str:
    """``fp32``, ``bf16`` or ``fp16``; ``auto`` takes bf16 where the processor computes in it."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def autocast(
    precision: str, device: torch.device
) -> Callable[[], contextlib.AbstractContextManager]:
    """A factory of contexts under which networks run in a precision of :func:`choose_precision`."""
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision in kinds:
        return functools.partial(torch.autocast, device.type, dtype=kinds[precision])
    return contextlib.nullcontext


def scaler(precision: str, device: torch.device) -> torch.amp.GradScaler | None:
    """What keeps small gradients from vanishing in fp16 (Micikevicius et al. 2018), else None."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def memory_bytes(device: torch.device) -> int:
    """Peak memory so far: of the card, or of the process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
