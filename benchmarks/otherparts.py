"""Simple CTs of other parts of the body, for pairs that do not belong together."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mrsynth.volume import from_array


def chest(rng) -> tuple[sitk.Image, np.ndarray]:
    """A chest in CT, and its disc centres: ellipsoid trunk, lungs, heart, a column of vertebrae
    with canal and arches, ribs. All sizes in mm, drawn about textbook means."""
    step, size = 2.5, (136, 100, 100)
    matrix = np.diag([step, step, step, 1.0])
    matrix[:3, 3] = -step * (np.array(size) - 1) / 2
    z, y, x = np.meshgrid(
        *(matrix[a, 3] + step * np.arange(size[a]) for a in (2, 1, 0)), indexing="ij"
    )
    curve = 0.0011 * z**2
    back = y - 35 - curve
    pitch = rng.uniform(22, 26)
    phase = np.abs((z + pitch / 2) % pitch - pitch / 2)

    def ball(centre, radii):
        offsets = zip((x, y, z), centre, radii, strict=True)
        return sum(((axis - at) / radius) ** 2 for axis, at, radius in offsets) < 1

    tissue = np.full(x.shape, -1000.0)
    trunk = (x / rng.uniform(140, 158)) ** 2 + (y / rng.uniform(98, 110)) ** 2
    tissue[trunk < 1] = -95
    tissue[trunk < 0.84] = 55
    for side in (-1, 1):
        tissue[ball((side * 68, 0, 20), (52, 72, 190))] = -850
    tissue[ball((18, -32, -20), (46, 36, 58))] = 50
    tissue[np.hypot(x - 20, back) < 12] = 45
    ribs = np.abs((z + 0.5 * back - 0.25 * np.abs(x)) % pitch - pitch / 2) < 4
    tissue[(trunk > 0.70) & (trunk < 0.82) & ribs] = 450
    column = np.hypot(x / 16, back / 14)
    tissue[column < 1] = np.where(phase < 2.5, 90, 190)[column < 1]
    tissue[(column < 1) & (column > 0.88) & (phase > 2.5)] = 550
    tissue[np.hypot(x, back - 23) < 12] = 500
    tissue[np.hypot(x, back - 23) < 8.5] = 25
    arch = (phase > 5) & (np.abs(x) < 4) & (back > 32) & (back < 58)
    tissue[arch] = 450
    noisy = ndimage.gaussian_filter(tissue, 0.4) + 14 * rng.standard_normal(tissue.shape)
    heights = pitch * np.arange(np.ceil(-110 / pitch), 110 / pitch)
    discs = np.stack([0 * heights, 35 + 0.0011 * heights**2, heights], axis=1)
    landmarks = np.concatenate([discs, discs + np.array([0, 23, 0])])
    return from_array(noisy.astype(np.float32), matrix), landmarks


def skull(rng) -> sitk.Image:
    """A head in CT: nested ellipsoids of skin, skull, brain and ventricles, with airways."""
    step, size = 2.5, (76, 90, 90)
    matrix = np.diag([step, step, step, 1.0])
    matrix[:3, 3] = -step * (np.array(size) - 1) / 2
    z, y, x = np.meshgrid(
        *(matrix[a, 3] + step * np.arange(size[a]) for a in (2, 1, 0)), indexing="ij"
    )
    half = np.array([76, 95, 98]) * rng.uniform(0.94, 1.06, 3)

    def shell(shrink_mm, centre=(0, 0, 0)):
        offsets = zip((x, y, z), centre, half, strict=True)
        return sum(((axis - at) / (radius - shrink_mm)) ** 2 for axis, at, radius in offsets) < 1

    tissue = np.full(x.shape, -1000.0)
    for shrink_mm, hu in ((0, -90), (2.5, 40), (6, 900), (13, 12), (16, 36)):
        tissue[shell(shrink_mm)] = hu
    for side in (-1, 1):
        tissue[shell(half.min() - 14, (side * 12, 5, 12))] = 8
    tissue[(np.abs(x) < 12) & (y < -45) & (z < -25) & shell(8)] = -900
    texture = ndimage.gaussian_filter(rng.standard_normal(tissue.shape), 2)
    tissue += np.where(shell(16), 8 * texture / texture.std(), 0)
    noisy = ndimage.gaussian_filter(tissue, 0.4) + 14 * rng.standard_normal(tissue.shape)
    return from_array(noisy.astype(np.float32), matrix)
