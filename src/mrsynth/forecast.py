"""`forecast`: what a study's trainings will take, from a few timed steps on made-up images.

Time and memory of a step depend on the networks, the image size and the machine, not on what the
images show. So a study of days is known in a minute, before any patient's data are there.
"""

import time

import numpy as np
import pandas as pd
import torch

from mrsynth import batches, device, recipe
from mrsynth.ranks import Ranks
from mrsynth.roles import POOLS
from mrsynth.train import Run

WARM_UP = 2
"""First steps, left out: they include allocation and the libraries' own set-up."""

COLUMNS = ("model", "device", "precision", "seconds_a_step", "steps", "hours_a_fold", "memory_mb")
SECONDS = 3600
MEGABYTE = 2**20


def forecast(models: dict[str, dict], *, folds: int, steps: int = 5, threads: int = 1):
    """Time some steps of every model.

    Args:
        models: Name → ``size`` (rows, columns of the packed images) and ``train`` (the merged
            training block).
        folds: How often each model is trained.
        steps: Timed steps a model.
        threads: Processor threads.

    Returns:
        A table of :data:`COLUMNS`, whose first row ``all`` is the whole study: the hours of all
        models and folds one after the other, and the most memory of any.
    """
    rows = [measure(name, **model, steps=steps, threads=threads) for name, model in models.items()]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    total = dict.fromkeys(COLUMNS, "") | {
        "model": "all",
        "steps": int(table["steps"].sum() * folds),
        "hours_a_fold": table["hours_a_fold"].sum() * folds,
        "memory_mb": table["memory_mb"].max(),
    }
    return pd.concat([pd.DataFrame([total]), table], ignore_index=True)


def measure(name: str, *, size: tuple[int, int], train: dict, steps: int, threads: int) -> dict:
    """Time some steps of one model.

    Args:
        name: The model's name.
        size: Rows and columns of its images.
        train: The merged training block. With several devices one of them is timed on its share.
        steps: Timed steps.
        threads: Processor threads.

    Returns:
        A row of the table.

    Raises:
        StudyError: For settings that can't be trained with.
    """
    chosen = recipe.settings(**train)
    own = recipe.settings(**train | {"devices": 1, "batch": chosen.batch // chosen.devices})
    pack = _made_up(size, max(own.batch, 2))
    pools = dict.fromkeys(POOLS, pack)
    with device.acquire(own.device, share=True) as processor:
        if processor.type == "cuda":
            torch.cuda.reset_peak_memory_stats(processor)
        data = batches.gather(pack, pools, own, name)
        run = Run(own, data, None, processor, name, threads, Ranks())
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                start = time.perf_counter()
            run.step()
        seconds = (time.perf_counter() - start) / steps
        memory = device.memory_bytes(processor) / MEGABYTE
    return {
        "model": name,
        "device": processor.type,
        "precision": run.precision,
        "seconds_a_step": seconds,
        "steps": chosen.total_iterations,
        "hours_a_fold": seconds * chosen.total_iterations / SECONDS,
        "memory_mb": memory,
    }


def write_forecast(table: pd.DataFrame, path) -> None:
    """The table, separated by tabs, rounded to what a forecast can know."""
    rounded = table.copy()
    for column in ("seconds_a_step", "hours_a_fold", "memory_mb"):
        rounded[column] = [f"{value:.3g}" if value != "" else "" for value in table[column]]
    rounded.to_csv(path, sep="\t", index=False, lineterminator="\n")


def _made_up(size: tuple[int, int], count: int) -> dict[str, np.ndarray]:
    """A pack of noise."""
    images = np.random.default_rng(0).uniform(0, 255, (count, *size)).astype(np.float32)
    ones = np.ones(images.shape, np.uint8)
    subject = np.array([f"made-up-{number}" for number in range(count)])
    return {"source": images, "target": images[::-1].copy(), "body": ones, "valid": ones} | {
        "subject": subject
    }
