"""Several processes, one card each, that train one model together.

Every process draws the whole batch and works on its share; gradients are averaged before each
step. So the processes hold the same weights at all times, and the result is that of one process
with the same batch, up to the order of sums. Own code of a few lines on ``torch.distributed``,
since the wrappers of libraries expect one forward pass and one optimiser a step
(docs/decisions.md).
"""

import json
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

from mrsynth.signals import Signals

PACKS = ("train", "validation", "source_pool", "target_pool")
POLL_SECONDS = 0.5
"""How often the parent looks at its processes; short against any training."""


class Ranks:
    """One of several processes that train together.

    Args:
        rank: This process's number, from 0; the first one writes the results.
        world: How many there are; with one, everything here does nothing.
    """

    def __init__(self, rank: int = 0, world: int = 1):
        self.rank, self.world = rank, world
        self.parent = os.getppid()

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
        SystemExit: With the exit code of a process that ended otherwise than well; 75 after a
            requested stop.
    """
    with tempfile.TemporaryDirectory(prefix="mrsynth-ranks-") as place:
        place = Path(place)
        for name, arrays in packs.items():
            if arrays is not None:
                np.savez(place / f"{name}.npz", **arrays)
        (place / "arguments.json").write_text(json.dumps({**arguments, "folder": str(folder)}))
        codes = _wait([_start(place, rank, count) for rank in range(count)])
    if any(codes):
        raise SystemExit(max(codes, key=abs))
    return json.loads((folder / "options.json").read_text())


def _start(place: Path, rank: int, world: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "mrsynth.ranks", str(place), str(rank), str(world)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    # A session of its own: a terminal's Ctrl-C shall reach it once, through the parent.
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, start_new_session=True)


def _wait(processes: list[subprocess.Popen]) -> list[int]:
    """Exit codes; a signal is passed on once, and one process's failure ends the others."""
    passed_on = False
    with Signals() as signals:
        while any(process.poll() is None for process in processes):
            failed = any(process.poll() not in (None, 0) for process in processes)
            if (signals.received or failed) and not passed_on:
                passed_on = True
                for process in processes:
                    process.send_signal(signal.SIGTERM if signals.received else signal.SIGKILL)
            for process in processes:
                try:
                    process.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    break
    codes = [process.returncode for process in processes]
    # those that were killed for another one's failure have nothing to say
    return [0 if code == -signal.SIGKILL and any(c > 0 for c in codes) else code for code in codes]


def main(place: Path, rank: int, world: int) -> None:
    """Be one of the processes."""
    from mrsynth import device, pairs
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
        rank=rank,
        world_size=world,
    )
    try:
        train(**read, pools=pools, ranks=Ranks(rank, world), **arguments)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
