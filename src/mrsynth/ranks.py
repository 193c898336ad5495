"""Several processes, one card each, that train one model together.

Every process draws the whole batch and works on its share; gradients are averaged before each
step. So the processes hold the same weights at all times, and the result is that of one process
with the same batch, up to the order of sums. Only where L1 counts the valid pixels alone do the
results differ by more: every process divides by the number in its own share, so that a pixel weighs
more in a share with fewer. Own code of a few lines on ``torch.distributed``, since the wrappers of
libraries expect one forward pass and one optimiser a step (docs/decisions.md).

The process that starts the others locks all their cards at once (:func:`mrsynth.device.reserve`)
and hands one lock to each: two trainings that each held some would wait for each other for ever.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from mrsynth import device
from mrsynth.errors import StudyError
from mrsynth.signals import INTERRUPTED, Signals

PACKS = ("train", "validation", "source_pool", "target_pool")
POLL_SECONDS = 0.5
"""How often the parent looks at its processes; short against any training."""


class Ranks:
    """One of several processes that train together.

    Args:
        rank: This process's number, from 0; the first one writes the results.
        world: How many there are; with one, everything here does nothing.
        parent: ID of the process that started this one. Told by that process: asked for here, it
            could already be another's.
        card: Number of the card that is locked for this process, if one is.
    """

    def __init__(self, rank: int = 0, world: int = 1, parent: int = 0, card: int | None = None):
        self.rank, self.world = rank, world
        self.parent, self.card = parent, card

    @property
    def orphaned(self) -> bool:
        """Whether the process that started this one is gone, so that nobody waits for it."""
        return self.world > 1 and os.getppid() != self.parent

    @property
    def first(self) -> bool:
        """Whether this process writes the results."""
        return self.rank == 0

    def share(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """This process's part of a batch."""
        if self.world == 1:
            return batch
        return {name: images[self.rank :: self.world] for name, images in batch.items()}

    def average(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Put the mean over all processes in the place of every gradient."""
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= self.world

    def mean(self, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Losses averaged over all processes."""
        if self.world > 1:
            for loss in losses.values():
                distributed.all_reduce(loss)
                loss /= self.world
        return losses

    def most(self, value: int, device: torch.device) -> int:
        """The largest value of any process; all get the same answer."""
        if self.world == 1:
            return int(value)
        shared = torch.tensor(float(value), device=device)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return int(shared)

    def gather(self, value: dict) -> list[dict]:
        """The first process gets every process's value, in order; the others an empty list."""
        if self.world == 1:
            return [value]
        found = [None] * self.world if self.first else None
        distributed.gather_object(value, found)
        return found or []


def launch(
    count: int,
    packs: Mapping[str, Mapping[str, np.ndarray] | None],
    folder: Path,
    arguments: dict,
) -> dict:
    """Train in several processes and wait for them.

    Args:
        count: Number of processes.
        packs: Arrays by the names of :data:`PACKS`.
        folder: Where the results go.
        arguments: Plain keyword arguments of :func:`mrsynth.train.train`.

    Returns:
        The content of ``options.json``.

    Raises:
        StudyError: What a process raised.
        SystemExit: With the exit code of a process that ended otherwise than well; 75 after a
            requested stop.
    """
    with tempfile.TemporaryDirectory(prefix="mrsynth-ranks-") as place:
        place = Path(place)
        for name, arrays in packs.items():
            if arrays is not None:
                np.savez(place / f"{name}.npz", **arrays)
        (place / "arguments.json").write_text(json.dumps({**arguments, "folder": str(folder)}))
        with device.reserve(arguments["device"], count) as locks:
            cards = list(locks.items()) or [(None, None)] * count
            status = _wait([_start(place, n, count, *cards[n]) for n in range(count)])
        told = [path.read_text() for path in sorted(place.glob("error-*.txt"))]
    if status not in (0, INTERRUPTED) and any(told):
        raise StudyError(next(filter(None, told)))
    if status:
        raise SystemExit(status)
    return json.loads((folder / "options.json").read_text())


def _start(
    place: Path, rank: int, world: int, card: int | None, lock: int | None
) -> subprocess.Popen:
    numbers = [rank, world, os.getpid(), *([] if card is None else [card])]
    command = [sys.executable, "-m", "mrsynth.ranks", str(place), *map(str, numbers)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": path},
        # A session of its own: a terminal's Ctrl-C shall reach it once, through the parent.
        start_new_session=True,
        # The card stays locked for as long as its process lives, even without the parent.
        pass_fds=[] if lock is None else [lock],
    )


def _wait(processes: list[subprocess.Popen]) -> int:
    """The exit code of all; a signal is passed on once, and one's failure ends the others."""
    passed_on = ended = False
    with Signals() as signals:
        while any(process.poll() is None for process in processes):
            if not ended and any(p.poll() not in (None, 0, INTERRUPTED) for p in processes):
                ended = True
                for process in processes:
                    process.kill()
            if signals.received and not passed_on:
                passed_on = True
                for process in processes:
                    process.terminate()
            for process in processes:
                try:
                    process.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    break
    return _outcome([process.returncode for process in processes])


def _outcome(codes: list[int]) -> int:
    """The exit code that says most: a failure before a requested stop before none.

    Those that were killed for another one's failure have nothing to say of their own.
    """
    failures = [code for code in codes if code not in (0, INTERRUPTED)]
    if failures:
        return next((code for code in failures if code != -signal.SIGKILL), failures[0])
    return max(codes)


def main(place: Path, rank: int, world: int, parent: int, card: int | None = None) -> None:
    """Be one of the processes; a :class:`StudyError` goes to ``error-<rank>.txt`` in ``place``."""
    # the others would say the same
    level = logging.ERROR if rank else logging.WARNING
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=level)
    try:
        _train(place, Ranks(rank, world, parent, card))
    except StudyError as error:
        (place / f"error-{rank}.txt").write_text(str(error))
        raise SystemExit(1) from None


def _train(place: Path, ranks: Ranks) -> None:
    from mrsynth import pairs
    from mrsynth.train import train

    arguments = json.loads((place / "arguments.json").read_text())
    read = {
        name: pairs.read_pack(path) if (path := place / f"{name}.npz").exists() else None
        for name in PACKS
    }
    pools = {name: read.pop(name) for name in PACKS[2:]}
    cuda = device.wants_card(arguments["device"])
    distributed.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=f"file://{place}/meeting",
        rank=ranks.rank,
        world_size=ranks.world,
    )
    try:
        train(**read, pools=pools, ranks=ranks, **arguments)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
