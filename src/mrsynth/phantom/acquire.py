"""The scanners: grids, sampling of the anatomy over them, noise, bias and the lateral x-ray."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter1d, zoom

from mrsynth import volume
from mrsynth.phantom import pose as poses
from mrsynth.phantom import signals
from mrsynth.phantom.anatomy import Anatomy
from mrsynth.phantom.shapes import TISSUES, label

CHUNK = 400_000  # points sampled at once: small enough for the cache, large enough for numpy
AIR_HU, MAX_HU = -1024, 3071  # what 12 bits and a rescale intercept of -1024 can hold
MAX_MR = 4095
CSF_GREY = 2200  # grey value of cerebrospinal fluid on T2 before bias: leaves room below 12 bits
SAMPLES = 4  # sub-slices over the thickness, for partial volume
COUCH_GAP_MM = 4.0
MAGNIFICATION = 1.15  # of a lateral x-ray: 1.15 m source to detector, spine 15 cm in front of it


@dataclass(frozen=True)
class Grid:
    """Geometry of a stack: 4×4 of indices (x, y, z) to LPS mm, size (x, y, z), thickness in mm."""

    matrix: np.ndarray
    size: tuple[int, int, int]
    thickness: float


def grid(centre, axes, spacing, size, thickness=None) -> Grid:
    """A grid around a centre; axes: 3×3, columns are the directions of x, y, z."""
    axes = np.round(np.asarray(axes, float), 6)  # scanners write six decimals
    matrix = np.eye(4)
    matrix[:3, :3] = axes * np.asarray(spacing, float)
    matrix[:3, 3] = np.round(centre - matrix[:3, :3] @ ((np.array(size) - 1) / 2), 4)
    return Grid(matrix, tuple(int(n) for n in size), float(thickness or spacing[2]))


def points(geometry: Grid, first: int, last: int, shift: float = 0.0) -> np.ndarray:
    """World points of slices ``first`` to ``last``, moved by ``shift`` steps; float32 [n, 3]."""
    nx, ny, _ = geometry.size
    matrix = geometry.matrix.astype(np.float32)
    z = np.arange(first, last, dtype=np.float32) + np.float32(shift)
    result = np.empty((last - first, ny, nx, 3), np.float32)
    for axis in range(3):
        row = matrix[axis, 0] * np.arange(nx, dtype=np.float32) + matrix[axis, 3]
        column = matrix[axis, 1] * np.arange(ny, dtype=np.float32)
        result[..., axis] = row + column[:, None] + (matrix[axis, 2] * z)[:, None, None]
    return result.reshape(-1, 3)


def image(array, geometry: Grid) -> sitk.Image:
    """An image of an array (z, y, x) on a grid."""
    return volume.from_array(array, geometry.matrix)


def ct_grid(
    anatomy: Anatomy, pose, pixel_mm: float, slice_mm: float, width_mm: float, depth_mm: float
) -> Grid:
    """Axial CT from the third sacral segment to the eleventh thoracic vertebra."""
    low = anatomy.sacrum[2].centre[2] - 12
    high = anatomy.bones[-1].centre[2] + 14
    centre = (0.0, anatomy.soft["centre_y"] + 6, (low + high) / 2)
    centre = poses.transform(pose.ct, np.array([centre]))[0]
    size = (width_mm / pixel_mm, depth_mm / pixel_mm, (high - low) / slice_mm)
    return grid(centre, np.eye(3), (pixel_mm, pixel_mm, slice_mm), np.round(size).astype(int))


def acquire_ct(
    anatomy: Anatomy, pose, geometry: Grid, rng, noise_hu: float, psf_mm: float, couch: bool
):
    """Hounsfield units (int16) and labels (uint8), arrays (z, y, x)."""
    nx, ny, nz = geometry.size
    inverse = np.linalg.inv(pose.ct).astype(np.float32)
    values, labels = np.empty((nz, ny, nx), np.float32), np.empty((nz, ny, nx), np.uint8)
    step = max(1, CHUNK // (nx * ny))
    for first in range(0, nz, step):
        last = min(nz, first + step)
        where = poses.transform(inverse, points(geometry, first, last))
        tissue, texture = label(anatomy, where[:, 0], where[:, 1], where[:, 2])
        values[first:last] = signals.hounsfield(anatomy, tissue, texture).reshape(-1, ny, nx)
        labels[first:last] = tissue.reshape(-1, ny, nx)
    if couch:
        _add_couch(values, labels, geometry)
    pixel = np.linalg.norm(geometry.matrix[:3, 0])
    values += noise_hu * 1.7 * rng.standard_normal(values.shape, dtype=np.float32)
    for axis in (1, 2):
        gaussian_filter1d(values, psf_mm / pixel, axis=axis, output=values, truncate=3)
    return np.clip(np.rint(values), AIR_HU, MAX_HU).astype(np.int16), labels


def _add_couch(values, labels, geometry) -> None:
    """A curved couch (shell and foam) below the patient: only CT shows it."""
    rows = np.flatnonzero((labels > 0).any(axis=(0, 2)))
    if not rows.size:
        return
    pixel = np.linalg.norm(geometry.matrix[:3, 0])
    ny, nx = values.shape[1:]
    x = (np.arange(nx) - (nx - 1) / 2) * pixel
    top = (rows[-1] + 1) * pixel + COUCH_GAP_MM - x**2 / 2400
    depth = np.arange(ny)[:, None] * pixel - top
    free = labels == 0
    inside = (depth > 0) & (np.abs(x) < 165)
    shell = inside & (depth < 2)
    for mask, hu in ((inside, -930), (shell, -250)):
        values[free & mask] = hu


def sample_mr(anatomy: Anatomy, pose, geometry: Grid, sequences: list[str], field_t: float):
    """Signals without noise, and tissue.

    Returns:
        Signal by sequence (float32, water's proton density = 1), averaged over the thickness, and
        the labels of the slices' mid planes (uint8); arrays (z, y, x).
    """
    nx, ny, nz = geometry.size
    totals = {name: np.zeros((nz, ny, nx), np.float32) for name in sequences}
    middle = np.empty((nz, ny, nx), np.uint8)
    ratio = geometry.thickness / np.linalg.norm(geometry.matrix[:3, 2])
    shifts = ratio * ((np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5)
    for index in range(nz):
        for shift in (*shifts, 0.0):
            where = poses.mr_to_material(pose, points(geometry, index, index + 1, shift))
            tissue, texture = label(anatomy, where[:, 0], where[:, 1], where[:, 2])
            if shift == 0.0:
                middle[index] = tissue.reshape(ny, nx)
                continue
            lesion = _lesion_share(anatomy, tissue, where)
            for name, total in totals.items():
                sequence = signals.SEQUENCES[name]
                values = signals.magnetisation(sequence, field_t, tissue, texture)
                for kind, share in lesion.items():
                    inside = signals.signal(*signals.LESIONS[kind], sequence, field_t)
                    values += share * (np.float32(inside) - values)
                total[index] += values.reshape(ny, nx) / np.float32(SAMPLES)
    return totals, middle


def _lesion_share(anatomy, tissue, where) -> dict:
    """Share of each point that is lesion (soft rim, only in its host tissue), by kind."""
    shares = {}
    for lesion in anatomy.lesions:
        away = np.linalg.norm(where - lesion.centre.astype(np.float32), axis=1)
        share = np.clip((lesion.radius - away) / 2 + 0.5, 0, 1)
        share *= tissue == TISSUES.index(lesion.tissue)
        shares[lesion.kind] = np.maximum(shares.get(lesion.kind, 0), share)
    return shares


def coil(geometry: Grid, strength: float, rng) -> np.ndarray:
    """Bias field (z, y, x): a spine coil under the back, and a smooth random part; mean about 1."""
    nx, ny, nz = geometry.size
    where = points(geometry, 0, nz)
    where = (where - where.mean(0)) / 100
    weights = rng.normal(0, 0.5, 6)
    x, y, z = where.T
    field = weights @ np.array([x, 0.5 * y, z, x * y, y * z, x * z]) + 0.9 * y
    return np.exp(strength * field).reshape(nz, ny, nx).astype(np.float32)


def receive(values, bias, gain: float, noise: float, rng, psf_px: float = 0.5) -> np.ndarray:
    """From signal to grey values: bias, in-plane PSF, Rician noise; uint16 (z, y, x), 12 bits."""
    blurred = values * bias
    for axis in (1, 2):
        blurred = gaussian_filter1d(blurred, psf_px, axis=axis, truncate=3)
    real, imaginary = noise * rng.standard_normal((2, *values.shape), dtype=np.float32)
    grey = np.hypot(blurred + real, imaginary) * gain
    return np.clip(np.rint(grey), 0, MAX_MR).astype(np.uint16)


def block_axes(normal, row_hint=(1.0, 0.0, 0.0)) -> np.ndarray:
    """Axes of an axial stack with a given normal (up): x to the patient's left, y to the back."""
    normal = np.asarray(normal) / np.linalg.norm(normal)
    x = np.asarray(row_hint) - normal * (normal @ np.asarray(row_hint))
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(normal, x), normal])


def radiograph(hu: np.ndarray, geometry: Grid, pixel_mm: float) -> tuple[np.ndarray, float]:
    """Lateral x-ray by ray sums along x.

    Args:
        hu: CT, int16 (z, y, x).
        geometry: Its grid (axial).
        pixel_mm: Pixel of the result at the patient.

    Returns:
        Grey values (uint16 [row, column], rows run down, columns to the back; bone is bright) and
        the pixel's size at the detector in mm (the patient's times the magnification).
    """
    spacing = np.linalg.norm(geometry.matrix[:3, :3], axis=0)
    # Linear attenuation of water at about 70 keV is 0.0193/mm.
    path = (0.0193 * spacing[0]) * (1 + np.clip(hu, -1000, None) / np.float32(1000)).sum(axis=2)
    path = zoom(path[::-1], (spacing[2] / pixel_mm, spacing[1] / pixel_mm), order=1)
    grey = np.clip(path / max(float(np.percentile(path, 99.8)), 1e-6), 0, 1) ** 1.5 * 3800
    return np.rint(grey).astype(np.uint16), pixel_mm * MAGNIFICATION
