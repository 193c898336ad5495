"""Where a scan over shifts starts: enough places to cover the moving image, and no more."""

import numpy as np
import SimpleITK as sitk

from mrsynth.register.settings import Settings
from mrsynth.volume import to_array

NEAR_MM = 30.0
"""Landmarks this near in z give the spine's place at that height: a canal point per vertebra."""


def targets(
    world: np.ndarray, body: sitk.Image, settings: Settings, roi=None, aim=None
) -> list[np.ndarray]:
    """Points of the moving frame (LPS mm) at which the samples' centre may lie.

    Args:
        world: Samples of the fixed images [n, 3], LPS mm of the fixed frame.
        body: Mask of the moving image's body.
        settings: For the reach of one scan (``search_mm``, ``search_step_mm``).
        roi: Landmarks [n, 3] in the moving frame, or None.
        aim: The likeliest place; None takes the landmarks' mean, or the body's centre.

    Returns:
        The likeliest place first; then places along z at which scans reach all of the spine, or of
        the body without landmarks; then the header's own place where it lies inside the image and
        no scan reaches it.
    """
    inside = _world(np.argwhere(to_array(body) > 0)[:, ::-1], body)
    spine = inside if roi is None or not len(roi) else np.asarray(roi, float)
    first = spine.mean(axis=0) if aim is None else np.asarray(aim, float)
    half = (world[:, 2].max() - world[:, 2].min()) / 2
    found = [first]
    for height in heights(first[2], spine[:, 2].min(), spine[:, 2].max(), half, settings):
        found.append(_at_height(spine, height))
    centre = world.mean(axis=0)
    if _holds(body, centre) and not any(_reached(centre, place, settings) for place in found):
        found.append(centre)
    return found


def heights(first, low, high, half, settings: Settings) -> list[float]:
    """Heights in mm beside the first one at which scans reach every place of a fixed image inside
    a range.

    Args:
        first: Height of the first scan, mm.
        low: Lower end of what the fixed image can show, mm.
        high: Upper end.
        half: Half the fixed image's height: its centre keeps that far from either end.
        settings: For the scans' reach; without a range along z there is one scan alone.
    """
    step = settings.search_step_mm
    reach = np.floor(settings.search_mm[2] / step) * step
    if reach == 0:
        return []
    low, high = sorted((low + half, high - half))
    found = []
    for sign, gap in ((-1, first - low), (1, high - first)):
        # Scans whose outermost poses are a step apart leave no gap.
        count = int(np.ceil((gap - reach - step / 2) / (2 * reach + step)))
        away = [min(n * (2 * reach + step), gap) for n in range(1, count + 1)]
        found += [float(first + sign * distance) for distance in away]
    return found


def _at_height(spine: np.ndarray, height: float) -> np.ndarray:
    """The spine's (or the body's) place at a height, from the points nearest to it."""
    away = np.abs(spine[:, 2] - height)
    near = spine[away <= max(NEAR_MM, away.min())].mean(axis=0)
    return np.array([near[0], near[1], height])


def _reached(point, place, settings: Settings) -> bool:
    reach = np.array(settings.search_mm) + settings.search_step_mm / 2
    return bool(np.all(np.abs(point - place) <= reach))


def _holds(image: sitk.Image, point: np.ndarray) -> bool:
    index = image.TransformPhysicalPointToContinuousIndex(point.tolist())
    size = np.array(image.GetSize())
    return bool(np.all(np.array(index) >= -0.5) and np.all(np.array(index) <= size - 0.5))


def _world(index: np.ndarray, image: sitk.Image) -> np.ndarray:
    steps = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    return index @ steps.T + np.array(image.GetOrigin())
