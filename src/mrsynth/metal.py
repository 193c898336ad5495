"""Metal in CT: how much of it lies in the body, from the values alone."""

import numpy as np

METAL_HU = 2500
"""Denser than any bone of the trunk (compact bone ends below 2000 HU) and than contrast medium."""

LEAST_ML = 0.1
"""A smaller cluster is noise or calcified; the thinnest pedicle screw fills ten times as much."""

BODY_HU = -300
"""Between air and fat."""

COARSE_MM = 4.0
"""Step at which the body is looked for: it only has to be told from what lies outside."""


def metal_ml(values: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """Volume of the clusters of metal in the body.

    Args:
        values: CT in HU, (z, y, x).
        spacing_mm: Of x, y, z.

    Returns:
        Millilitres, 0 without a cluster of at least 0.1 ml in the body. Scanners cut at 3071 HU, so
        that nothing tells steel from titanium; streaks count as far as they are that bright.
    """
    above = values > METAL_HU
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    if np.count_nonzero(above) * voxel_ml < LEAST_ML:
        return 0.0
    # Imported here, since few volumes hold anything that bright and scipy takes long to load.
    from scipy import ndimage

    box = ndimage.find_objects(above.view(np.uint8))[0]
    labels, _ = ndimage.label(above[box], np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel()) * voxel_ml
    large = np.flatnonzero(sizes >= LEAST_ML)
    large = large[large > 0]
    if not len(large):
        return 0.0
    steps = [max(1, round(COARSE_MM / step)) for step in spacing_mm[::-1]]
    body = _body(values[:: steps[0], :: steps[1], :: steps[2]])
    total = 0.0
    for label in large:
        place = np.argwhere(labels == label) + [part.start for part in box]
        inside = body[tuple((place // steps).T)].mean() > 0.5
        total += float(sizes[label]) * bool(inside)
    return total


def _body(coarse: np.ndarray) -> np.ndarray:
    """The largest thing that isn't air, without tables and cables, filled slice by slice."""
    from scipy import ndimage

    cross = ndimage.generate_binary_structure(3, 1)
    cross[0] = cross[2] = False
    above = ndimage.binary_opening(coarse > BODY_HU, cross)
    labels, count = ndimage.label(above)
    if not count:
        return np.zeros(coarse.shape, dtype=bool)
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    body = ndimage.binary_dilation(labels == largest, cross)
    return np.stack([ndimage.binary_fill_holes(plane) for plane in body])
