"""What a training sees at each iteration: pairs, unpaired images, or both, augmented."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mrsynth import augment, pairs
from mrsynth.errors import StudyError
from mrsynth.models import generators, load_objective
from mrsynth.roles import POOLS


@dataclass(frozen=True)
class Batches:
    """The training data of one model.

    Attributes:
        pairs: The training pairs; objectives without pairs take the size from them alone.
        unpaired: Unpaired images, or None.
        kinds: What the objective needs: ``paired``, ``unpaired``, or both.
        augmentation: Arguments of :func:`mrsynth.augment.augment`.
    """

    pairs: pairs.Pairs
    unpaired: pairs.Unpaired | None
    kinds: tuple[str, ...]
    augmentation: dict

    def batch(
        self, iteration: int, count: int, seed: int, device: torch.device
    ) -> dict[str, torch.Tensor]:
        """The augmented batch of an iteration (from 0), as the objectives' ``step`` takes it."""
        made = {}
        if "paired" in self.kinds:
            drawn = self.pairs.batch(iteration, count, seed)
            made |= augment.augment(_to(drawn, device), **self.augmentation)
        if "unpaired" in self.kinds:
            drawn = self.unpaired.batch(iteration, count, seed)
            moved = augment.augment_apart(_to(drawn, device), **self.augmentation)
            made |= {f"unpaired_{name}": images for name, images in moved.items()}
        return made

    @property
    def size(self) -> tuple[int, int]:
        """Height and width after padding."""
        images = self.pairs.source if "paired" in self.kinds else self.unpaired.source
        return tuple(images.shape[2:])

    def digest(self) -> str:
        """16 hexadecimal digits of everything that is trained on."""
        parts = [self.pairs.digest()] if "paired" in self.kinds else []
        parts += [self.unpaired.digest()] if "unpaired" in self.kinds else []
        if len(parts) == 1:
            return parts[0]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]

    def counts(self) -> dict:
        """How much there is to learn from, for ``options.json``."""
        made = {"training_pairs": len(self.pairs) if "paired" in self.kinds else 0}
        if "unpaired" in self.kinds:
            made["unpaired_source_images"] = len(self.unpaired.source)
            made["unpaired_target_images"] = len(self.unpaired.target)
        return made


def gather(
    train: Mapping[str, np.ndarray],
    pools: Mapping[str, Mapping[str, np.ndarray]] | None,
    chosen,
    label: str,
) -> Batches:
    """The data that an objective needs, from the packs of a fold's training role.

    Args:
        train: Pack of the training pairs.
        pools: ``source_pool`` and ``target_pool``: packs of the subjects with one image only.
        chosen: :class:`mrsynth.recipe.Settings`.
        label: The model's name for messages.

    Raises:
        StudyError: If there is nothing to train on.
    """
    multiple = generators.multiple(chosen.generator)
    training = pairs.prepare(train, chosen.l1_region, multiple)
    kinds = load_objective(chosen.objective).data
    if not len(training) and ("paired" in kinds or chosen.unpaired != "pools"):
        raise StudyError(
            f"{label}: no training pairs; see results/cohort/flow.tsv and the pack's JSON for "
            "who was left out"
        )
    if chosen.shuffle_pairs:
        training = training.mismatched(chosen.seed)
    unpaired = None
    if "unpaired" in kinds:
        heaps = [(train, ("source", "target"))] if chosen.unpaired in ("pairs", "all") else []
        if chosen.unpaired in ("pools", "all"):
            heaps += [(pools[name], (name.removesuffix("_pool"),)) for name in POOLS if pools]
        unpaired = pairs.prepare_unpaired(heaps, multiple)
    augmentation = {
        "flip": chosen.flip_probability,
        "pad_ratio": chosen.pad_ratio,
        "rotation_deg": chosen.rotation_deg,
        "border": chosen.border,
    }
    return Batches(training, unpaired, kinds, augmentation)


def _to(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}
