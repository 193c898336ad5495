"""Volumes: SimpleITK images in LPS mm, read from and written to NIfTI without loss.

A multi-block acquisition is a list of images, one per stack, each with its own geometry. On disk
such a list is a folder of ``stack-<n>.nii.gz``.
"""

import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

LEVEL = 1
"""Of compression: the default takes five times as long for 7 % less (docs/decisions.md)."""

CHUNK = 2**22
"""Bytes that are packed at a time."""


def read_volume(path: str | Path) -> sitk.Image:
    """Read a volume as 32-bit float; raise ``FileNotFoundError`` or ``RuntimeError`` of ITK."""
    if not Path(path).exists():
        raise FileNotFoundError(path)
    return sitk.ReadImage(str(path), sitk.sitkFloat32)


def write_volume(image: sitk.Image, path: str | Path) -> None:
    """Write a volume with no header text besides its geometry (``.nii.gz`` or ``.mha``)."""
    bare = sitk.Image(image)
    for key in bare.GetMetaDataKeys():
        bare.EraseMetaData(key)
    path = Path(path)
    if not path.name.endswith(".nii.gz"):
        sitk.WriteImage(bare, str(path), useCompression=True, compressionLevel=1)
        return
    plain = path.with_name(path.name.removesuffix(".gz"))
    try:
        sitk.WriteImage(bare, str(plain), useCompression=False)
        _pack(plain, path)
    finally:
        plain.unlink(missing_ok=True)


def read_field(path: str | Path) -> sitk.Image | None:
    """The mask of measured voxels beside a converted volume; None if all were measured."""
    path = Path(path)
    return sitk.ReadImage(str(path), sitk.sitkUInt8) if path.stat().st_size else None


def write_field(field: sitk.Image | None, path: str | Path) -> None:
    """Write such a mask; an empty file if all voxels were measured."""
    if field is None:
        Path(path).touch()
    else:
        write_volume(field, path)


def _pack(plain: Path, packed: Path) -> None:
    """Gzip a file in one stroke, twice as fast as ITK does it; no name and no time inside."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    with open(plain, "rb") as source, open(packed, "wb") as target:
        while chunk := source.read(CHUNK):
            target.write(packer.compress(chunk))
        target.write(packer.flush())


def read_stacks(folder: str | Path, prefix: str = "stack") -> list[sitk.Image]:
    """Read ``<prefix>-1.nii.gz``, ``<prefix>-2.nii.gz``, … of a folder, in that order."""
    files = sorted(
        Path(folder).glob(f"{prefix}-*.nii.gz"),
        key=lambda file: int(file.name.removesuffix(".nii.gz").rsplit("-", 1)[1]),
    )
    return [read_volume(file) for file in files]


def write_stacks(images: list[sitk.Image], folder: str | Path, prefix: str = "stack") -> None:
    """Write a list of stacks into a folder as ``<prefix>-<n>.nii.gz``, counted from 1."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=1):
        write_volume(image, Path(folder) / f"{prefix}-{number}.nii.gz")


def affine(image: sitk.Image) -> np.ndarray:
    """The 4×4 matrix from voxel indices (x, y, z) to LPS mm."""
    matrix = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    matrix[:3, :3] = direction * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def from_array(array: np.ndarray, matrix: np.ndarray) -> sitk.Image:
    """An image from an array (z, y, x) and the 4×4 matrix of indices (x, y, z) to LPS mm.

    The matrix's columns must be orthogonal; right-handed or not is kept as it is.
    """
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def to_array(image: sitk.Image) -> np.ndarray:
    """The image's values as a new array (z, y, x)."""
    return sitk.GetArrayFromImage(image)
