"""Curves and sample images of a training as TensorBoard events, to look at while it runs."""

import contextlib
import shutil
from pathlib import Path

import numpy as np

FOLDER = "events"
"""Folder of the event files beside the weights."""

RATES = ("lr", "it_per_s", "validation_mae")
"""Entries of the history that are no losses."""


class Curves(contextlib.AbstractContextManager):
    """Writes events; without a folder it writes nothing.

    Args:
        folder: Where to write, or None.
        iteration: The iteration that the training goes on from; later events of an earlier part,
            which will be made again, are taken out of sight. At 0 they are deleted.
    """

    def __init__(self, folder: str | Path | None, iteration: int = 0):
        self.writer = None
        if folder is None:
            return
        folder = Path(folder) / FOLDER
        if iteration == 0:
            shutil.rmtree(folder, ignore_errors=True)
        # Imported where it is used: a training without events does without protobuf.
        from tensorboardX import SummaryWriter

        # Files are named by the second; a part that follows at once must not take the same name.
        self.writer = SummaryWriter(
            str(folder), purge_step=iteration + 1, filename_suffix=f".{iteration}"
        )

    def add(self, entry: dict) -> None:
        """One entry of the history: losses, rates, and the validation error if there is one."""
        if self.writer is None:
            return
        for name, value in entry.items():
            if name == "iteration" or value is None:
                continue
            group = "progress" if name in RATES else "loss"
            self.writer.add_scalar(f"{group}/{name}", value, entry["iteration"])
        self.writer.flush()

    def show(self, rows: list[np.ndarray], iteration: int) -> None:
        """Sample images, one row per slice: source, synthetic and real side by side.

        Args:
            rows: Grey levels [h, 3·w] 0–255.
            iteration: When they were made.
        """
        if self.writer is None or not rows:
            return
        image = np.clip(np.concatenate(rows), 0, 255).round().astype(np.uint8)
        self.writer.add_image("validation", image, iteration, dataformats="HW")
        self.writer.flush()

    def __exit__(self, *_) -> None:
        if self.writer is not None:
            self.writer.close()
