"""Makes small raw DICOM with known geometry and pixels, for tests and benchmarks.

The pixels sample one smooth function of world coordinates, so that any volume made of them can be
judged at any place, resampled or not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian

ROOT_UID = "1.2.826.0.1.3680043.10.1338."
CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CT_INTERCEPT = -1024
MR_OFFSET = 600
"""Added to the field for MR, whose stored values are not negative."""


class DicomWriter:
    """Writes slices into one folder; every series, study and instance gets a UID of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.count = 0

    def uid(self) -> str:
        """A new UID."""
        self.count += 1
        return f"{ROOT_UID}{self.count}"

    def dataset(self, pixels=None, *, modality="MR", drop=(), **elements) -> pydicom.Dataset:
        """One slice as a dataset; ``elements`` overwrite, ``drop`` removes."""
        pixels = np.arange(20, dtype=np.int16).reshape(4, 5) if pixels is None else pixels
        dataset = pydicom.Dataset()
        values = {
            "SOPClassUID": CLASSES[modality],
            "SOPInstanceUID": self.uid(),
            "SeriesInstanceUID": f"{ROOT_UID}0.1",
            "StudyInstanceUID": f"{ROOT_UID}0.2",
            "FrameOfReferenceUID": f"{ROOT_UID}0.3",
            "PatientID": "patient-1",
            "PatientName": "Canary^Name",
            "PatientSex": "F",
            "PatientAge": "061Y",
            "StudyDate": "20240105",
            "Modality": modality,
            "ImageType": ["ORIGINAL", "PRIMARY", "M"],
            "SeriesDescription": "series",
            "Manufacturer": "SIEMENS",
            "ManufacturerModelName": "Avanto",
            "ImagePositionPatient": [0.0, 0.0, 0.0],
            "ImageOrientationPatient": list(AXIAL),
            "PixelSpacing": [2.0, 1.5],
            "SliceThickness": 4.0,
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
        }
        if modality == "CT":
            values |= {"RescaleSlope": 1, "RescaleIntercept": 0, "KVP": 120}
        else:
            values |= {"RepetitionTime": 4000, "EchoTime": 100, "ScanningSequence": "SE"}
        for name, value in (values | elements).items():
            if name not in drop:
                setattr(dataset, name, value)
        dataset.PixelData = np.ascontiguousarray(pixels).astype("<i2").tobytes()
        return dataset

    def save(self, dataset: pydicom.Dataset, name: str | None = None) -> Path:
        """Write a dataset as a file with preamble."""
        path = self.folder / (name or f"{self.count:05d}.dcm")
        path.parent.mkdir(parents=True, exist_ok=True)
        close(dataset)
        dataset.save_as(path, enforce_file_format=True)
        return path

    def write(self, pixels=None, *, name=None, **elements) -> Path:
        """Make and write one slice."""
        return self.save(self.dataset(pixels, **elements), name)

    def stack(self, heights, *, orientation=AXIAL, origin=(0, 0, 0), pixels=None, **elements):
        """One slice per height (mm along the normal above the origin); returns the paths."""
        axes = np.array(orientation).reshape(2, 3)
        normal = np.cross(*axes)
        paths = []
        for number, height in enumerate(heights):
            elements["ImagePositionPatient"] = decimals(np.array(origin) + height * normal)
            elements["ImageOrientationPatient"] = decimals(orientation, 9)
            plane = None if pixels is None else pixels[number]
            paths.append(self.write(plane, **elements))
        return paths


def close(dataset: pydicom.Dataset, syntax: str = ExplicitVRLittleEndian) -> None:
    """Give a dataset its file meta group, where it has none."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax


def decimals(values, digits: int = 6) -> list[float]:
    """Numbers rounded so that they fit into a decimal string's 16 bytes."""
    return [float(f"{value:.{digits}f}") for value in values]


def field(points: np.ndarray) -> np.ndarray:
    """The known function of world coordinates.

    Its slope reaches 14 per mm, so that a misplacement of a tenth of a millimetre shows; its
    curvature is so small that linear interpolation over 3 mm errs by less than 2.

    Args:
        points: [..., 3], LPS mm.

    Returns:
        [...], between about −500 and 700.
    """
    x, y, z = np.moveaxis(np.asarray(points, dtype=float), -1, 0)
    waves = 50 * np.sin(x / 9 + y / 13) + 50 * np.sin(y / 8 - z / 14 + 1) + 40 * np.sin(z / 8 - 2)
    return 60 + 1.1 * x - 1.7 * y + 2.3 * z + waves


@dataclass(frozen=True)
class Grid:
    """Where a stack of slices lies.

    Attributes:
        shape: Slices, rows, columns.
        spacing: Step between slices, between rows, between columns in mm.
        angles: Rotation about x, y, z in degrees; None for ``axes``.
        origin: Centre of the first voxel, LPS mm.
        shear: Added to the step of the slices, in mm along the columns' direction (gantry tilt).
        axes: Direction of a row, direction of a column.
    """

    shape: tuple[int, int, int] = (10, 24, 20)
    spacing: tuple[float, float, float] = (3.0, 2.0, 1.5)
    angles: tuple[float, float, float] = (6.0, -4.0, 9.0)
    origin: tuple[float, float, float] = (-14.0, -21.0, -12.0)
    shear: float = 0.0
    axes: tuple[float, ...] | None = None

    @property
    def orientation(self) -> np.ndarray:
        """[2, 3]: direction of increasing column, direction of increasing row."""
        if self.axes is not None:
            return np.array(self.axes, dtype=float).reshape(2, 3)
        a, b, c = np.radians(self.angles)
        about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
        about_y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
        about_z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
        return (np.array(about_z) @ np.array(about_y) @ np.array(about_x))[:, :2].T

    @property
    def matrix(self) -> np.ndarray:
        """4×4 from indices (x, y, z) to LPS mm."""
        row, column = self.orientation
        step, down, across = self.spacing
        result = np.eye(4)
        result[:3, 0] = row * across
        result[:3, 1] = column * down
        result[:3, 2] = np.cross(row, column) * step + column * self.shear
        result[:3, 3] = self.origin
        return result

    def points(self) -> np.ndarray:
        """World coordinates of all voxels, [z, y, x, 3]."""
        z, y, x = np.indices(self.shape)
        return np.stack([x, y, z], axis=-1) @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def part(self, start: int, stop: int) -> "Grid":
        """Some of the slices as a grid of their own."""
        origin = self.matrix[:3, 3] + start * self.matrix[:3, 2]
        shape = (stop - start, *self.shape[1:])
        return Grid(shape, self.spacing, self.angles, tuple(origin), self.shear, self.axes)


@dataclass(frozen=True)
class True3D:
    """A volume as it really is.

    Attributes:
        array: (z, y, x), HU or signal; NaN where there are no data, so that only air may be there.
        matrix: 4×4 from indices (x, y, z) to LPS mm; may be sheared.
        function: The value at any world coordinate; None where only the grid itself is known.
        required: Whether a reader that leaves it out has lost something.
        air: Highest value that stands for "nothing there".
    """

    array: np.ndarray
    matrix: np.ndarray
    function: Callable[[np.ndarray], np.ndarray] | None = None
    required: bool = True
    air: float = -1000.0


def true_volume(
    grid: Grid, modality: str = "CT", *, scale: float = 1.0, required: bool = True
) -> True3D:
    """The true volume of a grid: the field for CT, with an offset and a factor for MR."""
    offset, air = (0.0, -1000.0) if modality == "CT" else (MR_OFFSET, 0.0)

    def function(points):
        return (field(points) + offset) * scale

    return True3D(
        np.round(function(grid.points())), grid.matrix, function, required=required, air=air
    )


class Maker(DicomWriter):
    """Writes series of the field's samples under names that tell nothing."""

    def __init__(self, folder: Path, seed: int = 1):
        super().__init__(Path(folder))
        self.rng = np.random.default_rng(seed)

    def series(self, grid: Grid, modality: str = "CT", *, scale: float = 1.0, **elements):
        """Datasets of a grid's slices, 12 bits unsigned; ``elements`` overwrite."""
        truth = true_volume(grid, modality, scale=scale)
        intercept = CT_INTERCEPT if modality == "CT" else 0
        stored = truth.array - intercept
        assert stored.min() >= 0
        assert stored.max() < 4096
        first = {
            "SeriesInstanceUID": self.uid(),
            "BitsStored": 12,
            "HighBit": 11,
            "PixelRepresentation": 0,
            "PatientPosition": "HFS",
            "SliceThickness": grid.spacing[0],
            "SpacingBetweenSlices": grid.spacing[0],
        }
        if modality == "CT":
            first |= {"RescaleIntercept": intercept, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}
        datasets = []
        for number, plane in enumerate(stored):
            position = grid.matrix[:3, 3] + number * grid.matrix[:3, 2]
            own = {
                "ImagePositionPatient": decimals(position),
                "ImageOrientationPatient": decimals(grid.orientation.ravel(), 9),
                "PixelSpacing": list(grid.spacing[1:]),
                "InstanceNumber": number + 1,
            }
            values = first | own | elements
            datasets.append(self.dataset(plane.astype("<u2"), modality=modality, **values))
        return datasets

    def write_all(self, datasets, folder: str = "", names: list[str] | None = None) -> list[Path]:
        """Write datasets under shuffled numbers, or the names given."""
        order = self.rng.permutation(len(datasets))
        names = names or [f"{'ABCDEFGHIJ'[number % 10]}{number:04d}" for number in order]
        taken = self.folder / folder
        prefix = f"{folder}/" if folder else ""
        clash = taken.is_dir() and any((taken / name).exists() for name in names)
        names = [f"{prefix}{'x' if clash else ''}{name}" for name in names]
        return [self.save(d, name) for d, name in zip(datasets, names, strict=True)]
