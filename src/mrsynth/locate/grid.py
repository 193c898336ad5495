"""A CT on upright axes: arrays (z, y, x) with x to the left, y to the back, z up, isotropic in LPS
mm.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mrsynth.volume import affine

# Outside the scan. Air, so that nothing there is taken for tissue.
AIR_HU = -1000.0
# Below this a voxel is air or outside the scan, where resampled scans carry noise: no tissue.
SEEN_HU = -900.0
# Laminae and endplates with the bone next to them are about this thick, mm: larger voxels mix them
# with soft tissue.
WALL_MM = 3.0


@dataclass
class Grid:
    """HU values (z, y, x) on isotropic upright axes.

    Attributes:
        origin: Voxel 0's centre (3,), LPS mm.
        spacing: Voxel size, mm.
        voxel: Edges of the scan's own voxels (3, 3), columns in LPS mm; None for very small ones.
    """

    values: np.ndarray
    origin: np.ndarray
    spacing: float
    voxel: np.ndarray | None = None

    def kept(self, normal: np.ndarray | None = None) -> float:
        """Share (0..1) of a thin bone's contrast that the scan's own voxels leave: of a layer with
        this unit normal (3,), or of walls of all directions.
        """
        if self.voxel is None:
            return 1.0
        if normal is None:
            size = abs(np.linalg.det(self.voxel)) ** (1 / 3)
        else:
            size = np.linalg.norm(normal @ self.voxel)
        return min(1.0, WALL_MM / float(size))

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


def turned(ct: sitk.Image, motion: np.ndarray) -> sitk.Image:
    """The CT with its header moved by a rigid 4×4 in LPS mm; the voxels are shared, not copied."""
    matrix = motion @ affine(ct)
    spacing = np.array(ct.GetSpacing())
    image = sitk.Image(ct)
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def resized(grid: Grid, spacing_mm: float) -> Grid:
    """The same box at another voxel size, linearly interpolated after a mean over new voxels."""
    ratio = spacing_mm / grid.spacing
    values = grid.values
    if ratio > 1:
        values = ndimage.gaussian_filter(values, 0.3 * ratio)
    shape = [max(int((n - 1) / ratio) + 1, 1) for n in values.shape]
    axes = [np.arange(n) * ratio for n in shape]
    index = np.meshgrid(*axes, indexing="ij")
    out = ndimage.map_coordinates(values, index, order=1, mode="nearest")
    return Grid(out.astype(np.float32), grid.origin, float(spacing_mm), grid.voxel)


def shrunk(ct: sitk.Image, spacing_mm: float) -> sitk.Image:
    """The CT with finer voxels than ``spacing_mm`` averaged, so that noise goes down instead of
    being picked at random; nothing is copied where none are finer.
    """
    factors = [
        max(1, min(int(spacing_mm / step + 0.3), size))
        for step, size in zip(ct.GetSpacing(), ct.GetSize(), strict=True)
    ]
    if max(factors) == 1:
        return ct
    # From the same corner of the patient whatever the storage order: the same bins.
    image = sitk.DICOMOrient(ct, "LPS")
    factors = [
        max(1, min(int(spacing_mm / step + 0.3), size))
        for step, size in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    return sitk.BinShrink(image, factors)


def upright(ct: sitk.Image, spacing_mm: float, box: np.ndarray | None = None) -> Grid:
    """The CT (HU, any orientation and spacing) on upright isotropic axes.

    Args:
        ct: The scan.
        spacing_mm: Voxel size; finer voxels are averaged first (:func:`shrunk`).
        box: Lowest and highest corner (2, 3) in LPS mm of the part that is wanted; None for all.

    Raises:
        ValueError: If nothing of the scan lies in the box.
    """
    image = shrunk(ct, spacing_mm)
    size = np.array(image.GetSize())
    corners = np.array(np.meshgrid(*[[-0.5, n - 0.5] for n in size])).reshape(3, -1).T
    corners = np.array([image.TransformContinuousIndexToPhysicalPoint(c.tolist()) for c in corners])
    low, high = corners.min(0) + spacing_mm / 2, corners.max(0) - spacing_mm / 2
    if box is not None:
        low, high = np.maximum(low, box[0]), np.minimum(high, box[1])
        if (high < low).any():
            raise ValueError("the box lies outside the scan")
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
    values = np.maximum(sitk.GetArrayFromImage(out), AIR_HU)
    return Grid(values, low, float(spacing_mm), affine(image)[:3, :3])
