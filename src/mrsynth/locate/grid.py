"""A CT on upright axes: arrays (z, y, x) with x to the left, y to the back, z up, isotropic in LPS
mm.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

# Outside the scan. Air, so that nothing there is taken for tissue.
AIR_HU = -1000.0


@dataclass
class Grid:
    """HU values (z, y, x) on isotropic upright axes; ``origin`` (3,) is voxel 0's centre in LPS
    mm.
    """

    values: np.ndarray
    origin: np.ndarray
    spacing: float

    def to_mm(self, index: np.ndarray) -> np.ndarray:
        """Indices (..., 3 as z, y, x) to LPS mm (..., 3 as x, y, z)."""
        return np.asarray(index, dtype=float)[..., ::-1] * self.spacing + self.origin

    def to_index(self, points: np.ndarray) -> np.ndarray:
        """LPS mm (..., 3 as x, y, z) to indices (..., 3 as z, y, x)."""
        return ((np.asarray(points, dtype=float) - self.origin) / self.spacing)[..., ::-1]

    def sample(self, points: np.ndarray) -> np.ndarray:
        """HU at points (..., 3) in LPS mm, linearly interpolated; air outside the scan."""
        index = np.moveaxis(self.to_index(points), -1, 0)
        return ndimage.map_coordinates(self.values, index, order=1, mode="constant", cval=AIR_HU)


def upright(ct: sitk.Image, spacing_mm: float) -> Grid:
    """The CT (HU, any orientation and spacing) on upright isotropic axes.

    Finer voxels are averaged first, so that noise goes down instead of being picked at random.
    """
    image = sitk.DICOMOrient(ct, "LPS")
    shrink = [
        max(1, min(int(spacing_mm / step + 0.3), size))
        for step, size in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    if max(shrink) > 1:
        image = sitk.BinShrink(image, shrink)
    size = np.array(image.GetSize())
    corners = np.array(np.meshgrid(*[[-0.5, n - 0.5] for n in size])).reshape(3, -1).T
    corners = np.array([image.TransformContinuousIndexToPhysicalPoint(c.tolist()) for c in corners])
    low, high = corners.min(0) + spacing_mm / 2, corners.max(0) - spacing_mm / 2
    count = np.maximum(np.floor((high - low) / spacing_mm + 1e-6).astype(int) + 1, 1)
    out = sitk.Resample(
        image,
        count.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        low.tolist(),
        [float(spacing_mm)] * 3,
        np.eye(3).ravel().tolist(),
        AIR_HU,
        sitk.sitkFloat32,
        False,
    )
    # Some scanners write -2000 or below outside the round field.
    return Grid(np.maximum(sitk.GetArrayFromImage(out), AIR_HU), low, float(spacing_mm))


def coarser(grid: Grid, factor: int) -> Grid:
    """The grid with blocks of ``factor``³ voxels averaged."""
    shape = [n // factor for n in grid.values.shape]
    cut = grid.values[tuple(slice(0, n * factor) for n in shape)]
    blocks = cut.reshape(shape[0], factor, shape[1], factor, shape[2], factor)
    values = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
    shift = (factor - 1) / 2 * grid.spacing
    return Grid(values, grid.origin + shift, grid.spacing * factor)
