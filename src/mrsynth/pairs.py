"""Packed images as tensors, and the order in which a training sees them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mrsynth.errors import StudyError
from mrsynth.models.networks import GENERATOR_MULTIPLE, pad_to_multiple
from mrsynth.subjects import person

HALF_RANGE = 127.5
"""Half of the 256 grey levels: 0–255 becomes −1–1, the range of the generator's tanh."""

REGIONS = ("image", "valid", "body")


@dataclass(frozen=True)
class Pairs:
    """Images of a role, padded to the networks' multiple.

    Attributes:
        source: [n, 1, h, w] in [-1, 1].
        target: [n, 1, h, w] in [-1, 1].
        mask: [n, 1, h, w], 1 where the reconstruction loss counts.
        subject: [n] pseudonyms.
        original_size: Height and width before padding.
    """

    source: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor
    subject: np.ndarray
    original_size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width after padding."""
        return tuple(self.source.shape[-2:])

    def item(self, number: int) -> dict[str, torch.Tensor]:
        """One pair as a batch of one."""
        return self._take([number])

    def batch(self, iteration: int, count: int, seed: int) -> dict[str, torch.Tensor]:
        """The batch of an iteration (from 0); a function of its arguments alone."""
        return self._take(order(iteration, count, len(self), seed))

    def _take(self, numbers: list[int]) -> dict[str, torch.Tensor]:
        return {
            "source": self.source[numbers],
            "target": self.target[numbers],
            "mask": self.mask[numbers],
        }

    def mismatched(self, seed: int) -> "Pairs":
        """Every source with the target of another subject: the control that has nothing to learn
        but means.

        Raises:
            StudyError: If there is no such matching.
        """
        other = mismatch(self.subject, seed)
        return replace(self, target=self.target[other], mask=self.mask * self.mask[other])

    def digest(self) -> str:
        """16 hexadecimal digits of the content."""
        return _digest(self.source, self.target, self.mask)


def read_pack(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a pack file (``.npz``, no pickle)."""
    with np.load(path, allow_pickle=False) as pack:
        return {name: pack[name] for name in pack.files}


def prepare(
    pack: Mapping[str, np.ndarray], region: str, multiple: int = GENERATOR_MULTIPLE
) -> Pairs:
    """Arrays of a pack as tensors.

    Args:
        pack: ``source``, ``target`` [n, h, w] 0–255, ``valid``, ``body`` [n, h, w], ``subject``
            [n].
        region: Where the mask is 1: ``image``, ``valid``, or ``body`` (inside valid). Padding to
            the networks' multiple is never in it.
        multiple: What the networks need height and width to be multiples of.

    Raises:
        StudyError: If the pack holds NaN or infinite values.
    """
    source, target = (_to_tensor(pack[name], name) for name in ("source", "target"))
    mask = torch.ones_like(source)
    if region in ("valid", "body"):
        mask = _mask(pack["valid"], mask)
    if region == "body":
        mask = mask * _mask(pack["body"], mask)
    size = tuple(source.shape[-2:])
    down, right = (-side % multiple for side in size)
    return Pairs(
        pad_to_multiple(source, multiple) if len(source) else source,
        pad_to_multiple(target, multiple) if len(target) else target,
        torch.nn.functional.pad(mask, (0, right, 0, down)) if len(mask) else mask,
        np.asarray(pack["subject"]),
        size,
    )


@dataclass(frozen=True)
class Unpaired:
    """Source and target images that belong to nobody in common.

    Attributes:
        source: [n, 1, h, w] in [-1, 1], padded to the networks' multiple.
        target: [m, 1, h, w], the same size.
    """

    source: torch.Tensor
    target: torch.Tensor

    def batch(self, iteration: int, count: int, seed: int) -> dict[str, torch.Tensor]:
        """The batch of an iteration (from 0): each side in an order of its own."""
        sides = {"source": self.source, "target": self.target}
        return {
            name: images[order(iteration, count, len(images), [seed, number])]
            for number, (name, images) in enumerate(sides.items())
        }

    def digest(self) -> str:
        """16 hexadecimal digits of the content."""
        return _digest(self.source, self.target)


def prepare_unpaired(
    packs: list[tuple[Mapping[str, np.ndarray], tuple[str, ...]]], multiple: int
) -> Unpaired:
    """Images of several packs as two heaps.

    Args:
        packs: Arrays of a pack file, and which of ``source`` and ``target`` to take from it.
        multiple: What the networks need height and width to be multiples of.

    Raises:
        StudyError: If a heap is empty, or the images differ in size.
    """
    heaps = {}
    for side in ("source", "target"):
        images = [_to_tensor(pack[side], side) for pack, sides in packs if side in sides]
        images = [part for part in images if len(part)]
        if not images:
            raise StudyError(
                f"config key 'train.unpaired': there is no unpaired {side} image to train on; "
                "use 'pairs' or 'all', or add subjects with that image alone"
            )
        heaps[side] = pad_to_multiple(torch.cat(images), multiple)
    if heaps["source"].shape[2:] != heaps["target"].shape[2:]:
        raise StudyError("the unpaired source and target images differ in size; run 'pack' anew")
    return Unpaired(heaps["source"], heaps["target"])


def _digest(*tensors: torch.Tensor) -> str:
    digest = hashlib.sha256(repr(tuple(tensors[0].shape)).encode())
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _to_tensor(images: np.ndarray, name: str) -> torch.Tensor:
    if not np.isfinite(images).all():
        raise StudyError(f"a pack's '{name}' holds values that are not finite; run 'pack' anew")
    return to_network(images)


def _mask(mask: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.asarray(mask) > 0).to(like.dtype)[:, None]


def to_network(images: np.ndarray) -> torch.Tensor:
    """Grey levels [n, h, w] 0–255 to [n, 1, h, w] in [-1, 1]."""
    return torch.from_numpy(np.asarray(images, np.float32) / HALF_RANGE - 1)[:, None]


def to_grey(images: torch.Tensor) -> np.ndarray:
    """[n, 1, h, w] in [-1, 1] to grey levels float32 [n, h, w] 0–255."""
    return ((images[:, 0].float().cpu().numpy() + 1) * HALF_RANGE).astype(np.float32)


def order(iteration: int, count: int, total: int, seed: int | list[int]) -> list[int]:
    """Which of ``total`` items an iteration takes: one permutation of all after another."""
    numbers, permutations = [], {}
    for place in range(iteration * count, (iteration + 1) * count):
        epoch, within = divmod(place, total)
        if epoch not in permutations:
            entropy = [*np.atleast_1d(seed).tolist(), epoch]
            permutations[epoch] = np.random.default_rng(entropy).permutation(total)
        numbers.append(int(permutations[epoch][within]))
    return numbers


def mismatch(subject: np.ndarray, seed: int) -> np.ndarray:
    """A permutation that gives every item the partner of another subject, not of another visit.

    Items are lined up subject by subject, in random order, and the line is rotated by the length
    of its longest subject, which no two items of one subject can be apart.

    Raises:
        StudyError: If one subject has more than half of all items, so that no such permutation
        exists.
    """
    subject = np.array([person(str(name)) for name in subject])
    names, counts = np.unique(subject, return_counts=True)
    longest = int(counts.max())
    if 2 * longest > len(subject):
        raise StudyError(
            "config key 'train.shuffle_pairs' = true needs subjects of whom none has more than "
            "half of the "
            f"training pairs; here one of {len(names)} has {longest} of {len(subject)}"
        )
    random = np.random.default_rng(seed)
    line = random.permutation(len(subject))
    place = {name: rank for rank, name in enumerate(random.permutation(names))}
    line = line[np.argsort([place[name] for name in np.asarray(subject)[line]], kind="stable")]
    partner = np.empty(len(subject), int)
    partner[line] = np.roll(line, -longest)
    return partner
