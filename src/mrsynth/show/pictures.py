"""Small PNG files: grey pictures, and figures brought down to a number of bytes."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

GREYS = 64
"""Grey levels of a view: more can't be told apart on a screen beside each other, fewer bytes."""

FIGURE_GREYS, FIGURE_COLOURS = 56, 64
"""Palette of a figure: greys for the images, and at most so many colours for edges and letters,
which a palette made by area alone would fade."""

CHROMA = 24
"""Least difference of a colour's channels (of 255) that isn't grey."""

STEP = 0.85
"""Each try is this much smaller."""

LEAST_WIDTH = 480
"""Narrower than this, the figure's text can't be read."""


def png(grey: np.ndarray) -> bytes:
    """A picture [rows, columns] of grey levels 0–255 as PNG."""
    step = 255 / (GREYS - 1)
    coarse = (np.rint(np.clip(grey, 0, 255) / step) * step).astype(np.uint8)
    return _bytes(Image.fromarray(coarse))


def fitted(path: str | Path, most: int) -> bytes:
    """A figure as PNG with few colours, made smaller until it has at most so many bytes.

    Args:
        path: PNG file.
        most: Bytes; may be exceeded where the figure would become narrower than ``LEAST_WIDTH``.
    """
    with Image.open(path) as file:
        image = file.convert("RGB")
    palette = _palette(image)
    width = image.width
    while True:
        size = (width, max(1, round(image.height * width / image.width)))
        small = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
        content = _bytes(small.quantize(palette=palette, dither=Image.Dither.NONE))
        if len(content) <= most or width * STEP < LEAST_WIDTH:
            return content
        # Bytes grow with the area: the first guess goes nearly all the way.
        width = int(max(LEAST_WIDTH, width * min(STEP, (most / len(content)) ** 0.5)))


def _palette(image: Image.Image) -> Image.Image:
    """Even greys and the image's own colours."""
    octree = image.quantize(FIGURE_COLOURS, method=Image.Quantize.FASTOCTREE)
    found = np.array(octree.getpalette()).reshape(-1, 3)
    vivid = found[np.ptp(found, axis=1) >= CHROMA]
    greys = np.repeat(np.linspace(0, 255, FIGURE_GREYS).round()[:, None], 3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([greys, vivid]).astype(np.uint8).ravel().tolist())
    return palette


def _bytes(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG", optimize=True)
    return target.getvalue()
