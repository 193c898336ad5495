"""What of an image counts in the measure, besides its body."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from skimage.filters import threshold_otsu

from mrsynth.register.prepare import shrink
from mrsynth.register.settings import Settings
from mrsynth.volume import to_array
from mrsynth.warp import is_ct

GRID_MM = 2.0
"""Grid of the brain mask: finer than the bridges between brain and scalp that must be cut."""

BRIDGE_MM = 5.0
"""Erosion that parts brain from scalp, eyes and neck; meninges and vessels are thinner."""

MARGIN_MM = 2.0
"""Rim around the brain that is kept: its surface is an edge that both images show."""


def picture_mask(image: sitk.Image, settings: Settings, given: sitk.Image | None):
    """The mask of one side for the finer levels, or None where its whole body counts."""
    if settings.mask == "user":
        return given
    if settings.mask == "brain" and not is_ct(image):
        return brain(image)
    return None


def brain(image: sitk.Image) -> sitk.Image:
    """Brain of a head MR (T1 or T2), on a grid of about 2 mm (uint8).

    Signal above half of Otsu's threshold, eroded until the skull's dark layer parts what is inside
    from the scalp; the component with the greatest sum of depths in the head counts, grown back
    within the signal, its holes filled.
    """
    small = shrink(image, GRID_MM)
    array = to_array(small).astype(np.float32)
    spacing = np.array(small.GetSpacing())[::-1]
    head = array > 0.5 * threshold_otsu(array)
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in head])
    depth = ndimage.distance_transform_edt(filled, sampling=spacing)
    inside = ndimage.distance_transform_edt(head, sampling=spacing)
    core, count = ndimage.label(inside > BRIDGE_MM)
    if not count:
        return _like(filled, small)
    # Depth summed: a large and deep part beats a large shallow one (scalp) and a small deep one.
    weight = ndimage.sum(depth, core, np.arange(1, count + 1))
    kept = core == 1 + int(np.argmax(weight))
    # Through signal only: across the dark skull the scalp would be within reach.
    for number in range(1, round(BRIDGE_MM / spacing[1]) + 1):
        through = number % max(1, round(spacing[0] / spacing[1])) == 0
        cross = ndimage.generate_binary_structure(3, 1)
        if not through:
            cross[[0, 2]] = False
        kept = ndimage.binary_dilation(kept, cross, mask=head)
    grown = ndimage.distance_transform_edt(~kept, sampling=spacing) <= MARGIN_MM
    closed = np.stack([ndimage.binary_fill_holes(plane) for plane in grown])
    return _like(closed & filled, small)


def _like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    result = sitk.GetImageFromArray(array.astype(np.uint8))
    result.CopyInformation(image)
    return result
