"""`train`: one readable loop for every objective, from packed pairs to weights.

The order of the data is a function of seed and epoch, all other chance comes from the generators
whose states a checkpoint keeps; so an interrupted training goes on to the very same weights (on
the same processor and number of threads).
"""

import contextlib
import hashlib
import json
import logging
import os
import random
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as to_safetensors

from mrsynth import batches, checkpoint, device, pairs, provenance, recipe
from mrsynth.curves import Curves
from mrsynth.errors import StudyError
from mrsynth.models import generators, load_objective
from mrsynth.progress import Progress
from mrsynth.ranks import Ranks, launch
from mrsynth.signals import INTERRUPTED, Signals

log = logging.getLogger("mrsynth")

SAVE, STOP = 1, 2
"""What a process may wish after a step; all do what the most urgent wish is."""

COLLAPSE_LOSS = 1e-3
"""A discriminator's mean loss below this has nothing left to teach; ln 2 means it can't tell."""

COLLAPSE_GREY = 1.0
"""Grey levels; validation images whose pixels all vary less than this (SD) are empty."""

NOT_IN_STAMP = (
    "report_seconds",
    "checkpoint_seconds",
    "share_device",
    "tensorboard",
    "samples",
)
"""Settings that may change between two parts of one training: they don't touch the weights."""


class NotFiniteError(RuntimeError):
    """A loss or a weight became NaN or infinite."""


class Interrupted(SystemExit):
    """The training was asked to stop; its state is saved, the process's exit code is 75."""

    def __init__(self):
        super().__init__(INTERRUPTED)


def train(
    train: Mapping[str, np.ndarray],
    validation: Mapping[str, np.ndarray] | None,
    folder: str | Path,
    *,
    pools: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    state_folder: str | Path | None = None,
    code: str = "",
    label: str = "train",
    threads: int = 1,
    resume: str = "auto",
    ranks: Ranks | None = None,
    **cfg,
) -> dict:
    """Train a model and write ``weights.safetensors``, ``history.jsonl`` and ``options.json``.

    Args:
        train: Arrays of a pack file: ``source``, ``target`` [n, h, w] grey levels 0–255;
            ``valid``, ``body`` [n, h, w]; ``subject`` [n].
        validation: The same of the validation subjects; may be empty or None. Never the test
            subjects'.
        folder: Where the results go.
        pools: ``source_pool`` and ``target_pool``: packs of the subjects with one image only, for
            objectives on unpaired data.
        state_folder: Where the rolling state is kept; ``folder`` if left out.
        code: Fingerprint of the code; a state made by other code is not gone on with.
        label: Name for progress messages.
        threads: Processor threads; never more than there are cores.
        resume: What to do with a state of other settings, code or data: ``auto`` logs the
            difference and trains anew, ``strict`` raises.
        ranks: The processes that train together, this one being one of them; None starts them if
            the settings ask for several.
        **cfg: The training block.

    Returns:
        The content of ``options.json``.

    Raises:
        StudyError: For settings or data that can't be trained on, or too little memory.
        NotFiniteError: When a loss becomes NaN or infinite; the last good state is kept.
        checkpoint.StateMismatchError: With ``resume="strict"``.
        Interrupted: After SIGTERM, SIGUSR1 or SIGINT, when the state has been saved.
    """
    chosen = recipe.settings(**cfg)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state_folder = Path(state_folder or folder)
    if ranks is None and chosen.devices > 1:
        packs = {"train": train, "validation": validation, **(pools or {})}
        arguments = {"state_folder": str(state_folder), "code": code, "label": label}
        arguments |= {"threads": max(threads // chosen.devices, 1), "resume": resume}
        return launch(chosen.devices, packs, folder, arguments | asdict(chosen))
    ranks = ranks or Ranks()
    training = batches.gather(train, pools, chosen, label)
    held_out = None
    if validation is not None:
        held_out = pairs.prepare(validation, "body", generators.multiple(chosen.generator))
    with device.acquire(chosen.device, share=chosen.share_device, number=ranks.card) as processor:
        if processor.type == "cuda":
            # NCCL sends objects by way of the current card, whatever the tensors' own
            torch.cuda.set_device(processor)
        stamp = {
            "cfg": {k: v for k, v in asdict(chosen).items() if k not in NOT_IN_STAMP},
            "code": code,
            "data": training.digest(),
        }
        if held_out and (chosen.weights == "best" or chosen.patience):
            stamp["validation"] = held_out.digest()
        try:
            run = Run(chosen, training, held_out, processor, label, threads, ranks)
            run.resume(state_folder, stamp, strict=resume == "strict")
            run.loop(state_folder, stamp)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            raise _explain_memory(error, chosen, training) from None
        if not ranks.first:
            return {}
        options = _write_results(run, folder, code)
    checkpoint.remove(state_folder)
    return options


class Run:
    """One training in progress: the objective, its data, and all that a checkpoint holds."""

    def __init__(self, chosen, training, held_out, processor, label, threads, ranks):
        self.chosen, self.training, self.held_out = chosen, training, held_out
        self.device, self.label, self.ranks = processor, label, ranks
        self.threads = device.use_threads(threads)
        _seed_everything(chosen)
        self.precision = device.choose_precision(chosen.precision, processor)
        self.objective = load_objective(chosen.objective)(
            asdict(chosen), device.autocast(self.precision, processor)
        )
        self.objective.check_size(*training.size)
        for network in self.objective.networks().values():
            network.to(processor)
            if chosen.channels_last:
                network.to(memory_format=torch.channels_last)
            if chosen.compile:
                network.compile()
        self.objective.players.ranks = ranks
        self.objective.players.scaler = device.scaler(self.precision, processor)
        self.iteration = 0
        self.sums: dict[str, float] = {}
        self.summed = 0
        self.history: list[dict] = []
        self.best: dict | None = None
        self.warned = False
        self.stopped_early = False
        self.curves = Curves(None)
        self.seconds = 0.0

    def loop(self, state_folder: Path, stamp: dict) -> None:
        """Train to the end, or to a signal."""
        chosen = self.chosen
        progress = Progress(
            chosen.total_iterations,
            start=self.iteration,
            label=self.label,
            report_seconds=chosen.report_seconds,
            memory=lambda: device.memory_bytes(self.device),
        )
        saved = window_start = since = time.monotonic()
        shown = state_folder if chosen.tensorboard and self.ranks.first else None
        with (
            Signals() as signals,
            contextlib.closing(progress),
            Curves(shown, self.iteration) as self.curves,
        ):
            while not self.ranks.most(self._is_done(), self.device):
                losses = self.step()
                if self.ranks.first:
                    progress.update(self.iteration, losses)
                if self._is_time_for_history():
                    now = time.monotonic()
                    self._add_history(self.summed / max(now - window_start, 1e-9))
                    window_start = now
                now = time.monotonic()
                self.seconds, since = self.seconds + now - since, now
                wish = SAVE if now - saved >= chosen.checkpoint_seconds else 0
                wish = STOP if signals.received or self.ranks.orphaned else wish
                wish = self.ranks.most(wish, self.device)
                if wish:
                    self.save(state_folder, stamp)
                    saved = time.monotonic()
                if wish == STOP:
                    log.warning(
                        "%s: stopped by signal at iteration %d; the same command goes on from here",
                        self.label,
                        self.iteration,
                    )
                    raise Interrupted

    def step(self) -> dict[str, float]:
        """One iteration: the rate, a batch, an update; returns the losses.

        Raises:
            NotFiniteError: When a loss is NaN or infinite.
        """
        chosen = self.chosen
        rate = recipe.learning_rate(self.iteration, chosen)
        for optimizer in self.objective.optimizers().values():
            for group in optimizer.param_groups:
                group["lr"] = rate
        batch = self.training.batch(self.iteration, chosen.batch, chosen.seed, self.device)
        batch = self.ranks.share(batch)
        if chosen.channels_last:
            batch = {k: v.to(memory_format=torch.channels_last) for k, v in batch.items()}
        losses = self.ranks.mean(self.objective.step(batch))
        values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
        self.iteration += 1
        for name, value in values.items():
            if not np.isfinite(value):
                raise NotFiniteError(
                    f"{self.label}: loss '{name}' is {value} at iteration {self.iteration}; the "
                    f"last good "
                    "state is kept. Lower 'train.learning_rate' or use 'precision: fp32'"
                )
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.summed += 1
        return values

    def _is_done(self) -> bool:
        """Whether all iterations are made, or no validation was better for too long."""
        chosen = self.chosen
        waited = self.iteration - self.best["iteration"] if self.best else 0
        self.stopped_early = bool(
            chosen.patience
            and waited >= chosen.patience * chosen.validation_every
            and self.iteration < chosen.total_iterations
        )
        return self.stopped_early or self.iteration >= chosen.total_iterations

    def _is_time_for_history(self) -> bool:
        chosen = self.chosen
        return (
            self.iteration % chosen.history_every == 0
            or self.iteration % chosen.validation_every == 0
            or self.iteration == chosen.total_iterations
        )

    def _add_history(self, rate: float) -> None:
        entry = {name: total / self.summed for name, total in self.sums.items()}
        entry = {"iteration": self.iteration, **entry, "validation_mae": None}
        last = self.iteration == self.chosen.total_iterations
        if self.iteration % self.chosen.validation_every == 0 or last:
            entry["validation_mae"] = self.validate()
        entry["lr"] = recipe.learning_rate(self.iteration - 1, self.chosen)
        entry["it_per_s"] = rate
        self.history.append(entry)
        self.curves.add(entry)
        self.sums, self.summed = {}, 0
        if entry.get("discriminator", 1.0) < COLLAPSE_LOSS:
            self._warn_of_collapse("the discriminator tells all synthetic images from real ones")

    def _warn_of_collapse(self, sign: str) -> None:
        if not self.warned:
            self.warned = True
            text = "%s: %s at iteration %d; the GAN may have collapsed: look at the images"
            log.warning(text, self.label, sign, self.iteration)

    def validate(self) -> float | None:
        """Mean over validation slices of the MAE in the body (grey levels); None without any."""
        if self.held_out is None or not len(self.held_out) or not self.ranks.first:
            return None
        generator = self.objective.generator
        generator.eval()
        errors, spreads, rows = [], [], []
        for number in range(len(self.held_out)):
            batch = {k: v.to(self.device) for k, v in self.held_out.item(number).items()}
            with torch.inference_mode(), self.objective.precision():
                synthetic = generator(batch["source"]).float()
            difference = (synthetic - batch["target"]).abs() * batch["mask"]
            errors.append(float(difference.sum() / batch["mask"].sum().clamp(min=1)))
            spreads.append(float(synthetic.std()) * pairs.HALF_RANGE)
            if number < self.chosen.samples:
                shown = torch.cat([batch["source"], synthetic, batch["target"]], dim=3)
                rows.append(pairs.to_grey(shown)[0])
        generator.train()
        self.curves.show(rows, self.iteration)
        if max(spreads) < COLLAPSE_GREY:
            self._warn_of_collapse("all synthetic validation images are empty")
        error = float(np.mean(errors)) * pairs.HALF_RANGE
        if self.best is None or error < self.best["mae"]:
            weights = {k: v.detach().cpu().clone() for k, v in generator.state_dict().items()}
            self.best = {"mae": error, "iteration": self.iteration, "weights": weights}
        return error

    def state(self, stamp: dict) -> dict:
        """Everything that the next step depends on."""
        objective = self.objective
        return {
            "stamp": json.dumps(stamp, sort_keys=True),
            "iteration": self.iteration,
            "networks": {k: v.state_dict() for k, v in objective.networks().items()},
            "optimizers": {k: v.state_dict() for k, v in objective.optimizers().items()},
            "extra": self.ranks.gather(objective.extra_state()),
            "scaler": scaler.state_dict() if (scaler := objective.players.scaler) else None,
            "random": checkpoint.random_state(),
            "sums": self.sums,
            "summed": self.summed,
            "history": self.history,
            "best": self.best,
            "seconds": self.seconds,
        }

    def save(self, state_folder: Path, stamp: dict) -> None:
        """Save the state, unless a weight is not finite."""
        for name, network in self.objective.networks().items():
            if not all(bool(v.isfinite().all()) for v in network.state_dict().values()):
                raise NotFiniteError(
                    f"{self.label}: weights of the {name} are not finite at iteration "
                    f"{self.iteration}; the last good state is kept"
                )
        state = self.state(stamp)
        if self.ranks.first:
            checkpoint.save(state, state_folder)

    def resume(self, state_folder: Path, stamp: dict, strict: bool) -> None:
        """Go on from the folder's state if there is one of this very training."""
        state = checkpoint.load(state_folder)
        if state is None:
            return
        try:
            checkpoint.check_stamp(json.loads(state["stamp"]), json.loads(json.dumps(stamp)))
        except checkpoint.StateMismatchError as error:
            if strict:
                raise
            log.warning("%s: training anew: %s", self.label, error)
            return
        for name, network in self.objective.networks().items():
            network.load_state_dict(state["networks"][name])
        for name, optimizer in self.objective.optimizers().items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.objective.load_extra_state(state["extra"][self.ranks.rank])
        if self.objective.players.scaler:
            self.objective.players.scaler.load_state_dict(state["scaler"])
        self.iteration, self.best = state["iteration"], state["best"]
        self.sums, self.summed, self.history = state["sums"], state["summed"], state["history"]
        self.seconds = state["seconds"]
        checkpoint.set_random_state(state["random"])
        log.warning("%s: going on from iteration %d", self.label, self.iteration)

    def weights(self) -> tuple[dict[str, torch.Tensor], int, str]:
        """The weights that the settings ask for, their iteration, and which they are."""
        if self.chosen.weights == "best" and self.best is not None:
            return self.best["weights"], self.best["iteration"], "best"
        last = self.objective.generator.state_dict()
        last = {k: v.detach().cpu().contiguous() for k, v in last.items()}
        return last, self.iteration, "last"


def _seed_everything(chosen: recipe.Settings) -> None:
    random.seed(chosen.seed)
    np.random.seed(chosen.seed)  # noqa: NPY002
    torch.manual_seed(chosen.seed)
    torch.backends.cudnn.benchmark = not chosen.deterministic
    if chosen.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(chosen.deterministic, warn_only=True)
    # part of that mode, only there to find bugs, and it costs time in every layer
    torch.utils.deterministic.fill_uninitialized_memory = False


def _explain_memory(error: BaseException, chosen: recipe.Settings, training) -> BaseException:
    """An error of too little memory as a message with a way out; any other error as it is."""
    text = str(error)
    short = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate" in text
    if not short:
        return error
    height, width = training.size
    return StudyError(
        f"too little memory for 'train.batch' = {chosen.batch} of {height}×{width} pixels with "
        f"'train.generator.filters' = {chosen.generator['filters']}; lower one of them. The "
        f"last saved state is kept"
    )


def _write_results(run: Run, folder: Path, code: str) -> dict:
    weights, iteration, kind = run.weights()
    content = to_safetensors(weights)
    (folder / "weights.safetensors").write_bytes(content)
    with open(folder / "history.jsonl", "w") as handle:
        handle.writelines(json.dumps(entry) + "\n" for entry in run.history)
    options = {
        "objective": run.chosen.objective,
        "generator": run.chosen.generator,
        "multiple": generators.multiple(run.chosen.generator),
        "image_size": list(run.training.pairs.original_size),
        "grey_range": [0, 255],
        "weights": kind,
        "iteration": iteration,
        "stopped_early": run.stopped_early,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        **run.objective.describe(),
        "seed": run.chosen.seed,
        "settings": asdict(run.chosen),
        "device": run.device.type,
        "precision": run.precision,
        "threads": run.threads,
        "seconds": round(run.seconds, 1),
        **run.training.counts(),
        "validation_pairs": len(run.held_out) if run.held_out else 0,
        "data": run.training.digest(),
        "code": code,
        "versions": provenance.versions(),
    }
    (folder / "options.json").write_text(json.dumps(options, indent=1, sort_keys=True) + "\n")
    return options
