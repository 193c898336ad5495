"""`synthesize`: a trained generator as a function from grey levels to grey levels."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as from_safetensors
from torch import nn

from mrsynth import device as devices
from mrsynth import pairs
from mrsynth.errors import StudyError
from mrsynth.models import generators, networks

BATCH = 8
"""Images at once; a compromise that fits small cards, without effect on the result."""

NORMS = ("running", "batch")


def load(
    weights: str | Path,
    options: str | Path,
    *,
    device: str = "auto",
    batch: int = BATCH,
    dropout: bool = False,
    norm: str = "running",
) -> Callable[[np.ndarray], np.ndarray]:
    """Load a generator.

    Args:
        weights: ``weights.safetensors`` of a training.
        options: Its ``options.json``.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch: Images at once.
        dropout: Keep dropout on, as Galbusera et al. 2018 (pix2pix) do; results then differ from
            call to call.
        norm: Batch normalisation by ``running`` averages or by the present ``batch`` (pix2pix).
            Instance normalisation knows no difference.

    Returns:
        A function of grey levels [n, h, w] (0–255) that gives synthetic ones, float32 of the same
        shape. Sizes that the network can't take are extended by reflection and cut back.

    Raises:
        StudyError: If the weights are not those that the options describe.
    """
    described = json.loads(Path(options).read_text())
    generator = _build(read_weights(weights, described["weights_sha256"]), described)
    _set_mode(generator, dropout, norm)
    processor = _device(device)
    generator.to(processor)

    def synthesize(images: np.ndarray) -> np.ndarray:
        """Grey levels [n, h, w] 0–255 to synthetic ones of the same shape."""
        return _apply(generator, images, batch, described["multiple"], processor)

    return synthesize


def read_weights(path: str | Path, sha256: str) -> dict[str, torch.Tensor]:
    """Read weights whose checksum is known.

    Raises:
        StudyError: If the file is another one.
    """
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StudyError(
            f"{Path(path).name} is not the file that options.json describes (its SHA-256 differs); "
            "keep both files of one training together"
        )
    return from_safetensors(content)


def pack_synthetic(synthesize: Callable, pack: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Synthetic images of a pack with the keys that pair them with the real ones.

    Args:
        synthesize: As :func:`load` returns it.
        pack: Arrays of a pack file.

    Returns:
        ``synthetic`` float32 [n, h, w], ``subject``, ``key``, ``name`` [n].
    """
    names = {key: pack[key] for key in ("subject", "key", "name")}
    return {"synthetic": synthesize(pack["source"]), **names}


def write_synthetic(arrays: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Write a synthesis file (``.npz``)."""
    with open(path, "wb") as handle:
        np.savez_compressed(handle, **arrays)


def _build(weights: dict[str, torch.Tensor], described: dict) -> nn.Module:
    generator = generators.build(described["generator"])
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        raise StudyError(f"the weights don't fit the network of options.json: {error}") from None
    return generator


def _set_mode(generator: nn.Module, dropout: bool, norm: str) -> None:
    """Evaluation mode, but for what the settings keep as in training."""
    if norm not in NORMS:
        raise StudyError(f"config key 'synthesize.norm' = '{norm}'; use one of {', '.join(NORMS)}")
    generator.eval()
    for module in generator.modules():
        if isinstance(module, nn.Dropout):
            module.train(dropout)
        if isinstance(module, nn.BatchNorm2d) and norm == "batch":
            # training mode uses the batch's statistics; without averages it does not change the
            # weights
            module.track_running_stats = False
            module.running_mean = module.running_var = None


def _device(name: str) -> torch.device:
    with devices.acquire(name, share=True) as processor:
        return processor


def _apply(generator, images: np.ndarray, batch: int, multiple: int, processor) -> np.ndarray:
    images = np.asarray(images, np.float32)
    height, width = images.shape[-2:]
    made = np.empty(images.shape, np.float32)
    for start in range(0, len(images), batch):
        chunk = pairs.to_network(images[start : start + batch]).to(processor)
        with torch.inference_mode():
            synthetic = generator(networks.pad_to_multiple(chunk, multiple))
        made[start : start + batch] = pairs.to_grey(synthetic[..., :height, :width])
    return made
