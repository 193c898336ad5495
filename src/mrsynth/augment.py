"""Random flips, shifts and small rotations of whole batches, on the device that holds them.

The settings are those of Jin et al. 2019 ("we augmented the training data with random online
transforms"): flip with probability 0.5, padding to 286² and a random 256² crop, rotation within
±5°. Random numbers are drawn on the CPU from torch's global generator, so that a checkpoint keeps
them and all devices draw alike.
"""

import math

import torch
from torch.nn import functional

PAD_RATIO = 286 / 256
"""Padded size over image size (Jin et al. 2019): shifts of up to 15 of 256 pixels either way."""

ROTATION_DEG = 5.0
"""Largest rotation either way (Jin et al. 2019)."""

FLIP_PROBABILITY = 0.5
"""Probability of a left-right flip (Jin et al. 2019)."""

BACKGROUND = -1.0
"""Grey level 0 on the networks' scale; what padding is filled with."""

INSIDE = 0.999
"""An interpolated mask counts only above this: where all the pixels it comes from do."""


def draw(
    count: int,
    size: tuple[int, int],
    *,
    flip: float = FLIP_PROBABILITY,
    pad_ratio: float = PAD_RATIO,
    rotation_deg: float = ROTATION_DEG,
) -> torch.Tensor:
    """One random transform per image.

    Args:
        count: Number of images n.
        size: Height and width in pixels.
        flip: Probability of a left-right flip.
        pad_ratio: Padded size over image size; 1 leaves shifts out.
        rotation_deg: Largest rotation either way, uniform; 0 leaves rotations out.

    Returns:
        [n, 2, 3] matrices from output to input positions, in ``affine_grid``'s units (±1 are the
        image's outer edges). Shifts are whole pixels, so that without rotation no value is
        interpolated.
    """
    height, width = size
    sign = torch.where(torch.rand(count) < flip, -1.0, 1.0)
    angle = (torch.rand(count) * 2 - 1) * math.radians(rotation_deg)
    shift_y = _shifts(count, round(height * (pad_ratio - 1) / 2)) * 2 / height
    shift_x = _shifts(count, round(width * (pad_ratio - 1) / 2)) * 2 / width
    cosine, sine = torch.cos(angle), torch.sin(angle)
    # a rotation in pixels is sheared in relative units unless the image is square
    rows = [
        torch.stack([sign * cosine, -sign * sine * height / width, shift_x], dim=1),
        torch.stack([sine * width / height, cosine, shift_y], dim=1),
    ]
    return torch.stack(rows, dim=1)


def _shifts(count: int, largest: int) -> torch.Tensor:
    return torch.randint(-largest, largest + 1, (count,)).float()


def apply(
    images: torch.Tensor,
    matrices: torch.Tensor,
    border: str = "reflect",
    fill: float = BACKGROUND,
) -> torch.Tensor:
    """Transform images [n, c, h, w] by bilinear interpolation.

    Args:
        images: To transform.
        matrices: From :func:`draw`.
        border: What lies outside: ``reflect`` (the image mirrored) or ``background``. Where the
            crop cuts through the body, background would teach a dark frame that no image has.
        fill: Value of the background.
    """
    grid = functional.affine_grid(
        matrices.to(images.device), list(images.shape), align_corners=False
    )
    mode = {"reflect": "reflection", "background": "zeros"}[border]
    moved = functional.grid_sample(
        images - fill, grid, mode="bilinear", padding_mode=mode, align_corners=False
    )
    return moved + fill


def apply_mask(
    masks: torch.Tensor, matrices: torch.Tensor, border: str = "reflect"
) -> torch.Tensor:
    """Transform masks [n, 1, h, w] of 0 and 1.

    Outside an image with background the mask is 1: source and target are known there.
    """
    return (apply(masks, matrices, border, fill=1.0) > INSIDE).to(masks.dtype)


def augment(batch: dict[str, torch.Tensor], border: str = "reflect", **settings) -> dict:
    """Transform a pair's ``source``, ``target`` and ``mask`` [n, 1, h, w] by one draw.

    Args:
        batch: Images in [-1, 1], mask of 0 and 1.
        border: As in :func:`apply`.
        **settings: As :func:`draw` takes them.
    """
    count, _, height, width = batch["source"].shape
    matrices = draw(count, (height, width), **settings)
    return {
        "source": apply(batch["source"], matrices, border),
        "target": apply(batch["target"], matrices, border),
        "mask": apply_mask(batch["mask"], matrices, border),
    }


def augment_apart(batch: dict[str, torch.Tensor], border: str = "reflect", **settings) -> dict:
    """Transform unpaired images [n, 1, h, w], each by a draw of its own (Jin et al. 2019)."""
    return {
        name: apply(images, draw(len(images), tuple(images.shape[2:]), **settings), border)
        for name, images in batch.items()
    }
