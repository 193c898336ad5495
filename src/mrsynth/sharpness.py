"""Sharpness without a reference: the cumulative probability of blur detection.

Narvekar and Karam, IEEE Transactions on Image Processing 2011: an edge is blurred visibly if it is
wider than a just noticeable width that depends on the contrast around it; CPBD is the share of
edges whose probability of being seen as blurred is at most that of the just noticeable width.
"""

import math

import numpy as np
from scipy.ndimage import sobel
from skimage.feature import canny

BLOCK = 64
"""Side of the blocks in pixels, the size of the fovea's view at normal distance (section III)."""

EDGE_SHARE = 0.002
"""Share of edge pixels above which a block counts as one with edges (section III)."""

LOW_CONTRAST = 50.0
"""Contrast (grey levels in 256) up to which the wider just noticeable width holds (equation 2)."""

WIDTHS = (5.0, 3.0)
"""Just noticeable edge widths in pixels at low and at high contrast (equation 2)."""

EDGE_FACTOR = 4.0
"""Sobel edges: squared gradient above this multiple of its mean, the usual automatic threshold. The
paper names none; the package ``cpbd-py312`` takes a lower one and so counts fainter edges."""


def edge_cumulative(image: np.ndarray) -> float:
    """CPBD of an image [h, w] of grey levels 0–255: 0 is blurred, 1 is sharp.

    Noise has narrow edges, so that it raises the value; a flat image has no edge and gives NaN.
    """
    image = np.asarray(image, np.float64)
    if image.ndim != 2:
        raise ValueError(f"cpbd takes a single image [h, w], got {image.ndim} dimensions")
    if not np.isfinite(image).all():
        return math.nan
    widths = edge_widths(image)
    edges = canny(image)
    seen, counted = 0, 0
    for top in range(0, image.shape[0] - BLOCK + 1, BLOCK):
        for left in range(0, image.shape[1] - BLOCK + 1, BLOCK):
            place = np.s_[top : top + BLOCK, left : left + BLOCK]
            if edges[place].mean() <= EDGE_SHARE:
                continue
            own = widths[place]
            own = own[own > 0]
            limit = WIDTHS[int(np.ptp(image[place]) > LOW_CONTRAST)]
            # their equation 1, 1 − exp(−(w/limit)^β), is at most 1 − 1/e just where w ≤ limit
            seen += int((own <= limit).sum())
            counted += len(own)
    return seen / counted if counted else math.nan


def edge_widths(image: np.ndarray) -> np.ndarray:
    """Widths [h, w] in pixels of the edges that run up and down, 0 where there is none.

    An edge's width is the way along its row from the nearest minimum on one side to the nearest
    maximum on the other (Marziliano et al., ICIP 2002).
    """
    across, down = sobel(image, axis=1), sobel(image, axis=0)
    strength = across**2
    thin = (strength >= np.roll(strength, 1, axis=1)) & (strength > np.roll(strength, -1, axis=1))
    upright = np.abs(down) < math.tan(math.radians(22.5)) * np.abs(across)
    found = thin & upright & (strength > EDGE_FACTOR * strength.mean())
    found[:, [0, -1]] = False
    rising = np.diff(image, axis=1) > 0
    falling = np.diff(image, axis=1) < 0
    widths = np.zeros(image.shape)
    for steps, direction in ((rising, across > 0), (falling, across < 0)):
        left = _run(steps)
        right = _run(steps[:, ::-1])[:, ::-1]
        width = np.zeros(image.shape)
        width[:, 1:] += left
        width[:, :-1] += right
        widths = np.where(found & direction, width, widths)
    return widths


def _run(steps: np.ndarray) -> np.ndarray:
    """How many true steps in a row [h, w − 1] end at each place."""
    count = np.cumsum(steps, axis=1)
    before = np.maximum.accumulate(np.where(steps, 0, count), axis=1)
    return (count - before).astype(float)
