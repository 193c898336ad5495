"""Conversion of real series against independent readings, voxel by voxel in world coordinates.

    python benchmarks/equal.py ../shared/data

Prints a table for docs/results.md: each DICOM folder of dicom2nifti, mridir, rire_001 and
totalseg_spine as mrsynth converts it, compared with dcm2niix (benchmarks/requirements.txt) and with
the reference volume beside the folder. A slice stack of a tilted gantry is compared with the pixels
of its files, read by pydicom alone and interpolated in each slice's own plane. Exit code 1 if a
volume differs from all readings.
"""

import sys
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import readers
from readers import KEY

from mrsynth import index, volume
from mrsynth.convert import convert
from mrsynth.errors import Refusal

TREES = ("dicom2nifti", "mridir", "rire_001/dicom", "totalseg_spine/example_ct_dicom")
RIRE = {"ct": "ct_example.nii.gz", "mr_t1": "mri_t1_example.nii.gz"}
OFF_GRID = 0.01
"""Voxels whose centres differ by less than this part of a voxel are the same voxel: NIfTI keeps
places in 32 bits."""
ROUNDING = 1e-6
"""Largest difference of equal values, as a share of the largest value: both are 32-bit numbers."""
INTERPOLATION = 1e-3
"""The same for interpolated values: two implementations of the linear interpolation."""


def main(data: Path) -> int:
    """Print the table; returns the exit code."""
    folders = sorted({p.parent for tree in TREES for p in (data / tree).rglob("*") if is_slice(p)})
    print("| folder | files | mrsynth | dcm2niix | reference volume |\n|---|---|---|---|---|")
    wrong = 0
    for folder in folders:
        for row, agrees in rows(folder):
            print(f"| `{folder.relative_to(data)}` | {row}")
            wrong += not agrees
    print(f"\n{len(folders)} folders, {wrong} volumes that differ from every reading")
    return int(bool(wrong))


def is_slice(path: Path) -> bool:
    """Whether a file may be DICOM: not a volume, text or picture."""
    return path.is_file() and path.name != "LICENSE" and ".nii" not in path.name


def rows(folder: Path):
    """Table rows of a folder, each with whether its volume equals some reading."""
    found = index.scan([folder], key=KEY, subject_from="folder")
    count = len(found.files)
    for row in found.series.to_dict("records"):
        if row["status"] != "used":
            said = f"{row['status']} `{row['code']}`: {row['message']}"
            yield f"{count} | {said} | {counted(folder)} | – |", True
            continue
        table = found.private[row["series"]]
        for stack in sorted(set(table["stack"])):
            yield compared(folder, table[table["stack"] == stack], count)
    if found.series.empty:
        codes = ", ".join(f"`{code}`" for code in sorted(set(found.files["code"])))
        yield f"{count} | no series: {codes} | {counted(folder)} | – |", True


def compared(folder: Path, table, count: int) -> tuple[str, bool]:
    """Row and agreement of one stack."""
    try:
        image, record = convert(table)
    except Refusal as refusal:
        said = f"refused `{refusal.code}`: {refusal.message}"
        return f"{count} | {said} | {counted(folder)} | – |", True
    ours = volume.to_array(image), volume.affine(image)
    # Below air there is nothing: mrsynth writes padding and what CT has below −1024 HU as −1024.
    floor = -1024 if record["modality"] == "CT" else -np.inf
    other = nearest(ours, dcm2niix(folder), floor)
    path = reference(folder)
    reading = nearest(ours, [read(path)], floor) if path else None
    if record["tilt_deg"]:
        own = by_plane(ours, [Path(path) for path in table["path"]])
        texts, good = [f"{own:.2g}, its slices' own pixels", "–"], own < INTERPOLATION
    else:
        texts = [told(other), told(reading) if path else "–"]
        good = any(result and result[0] <= ROUNDING for result in (other, reading))
    size = "×".join(map(str, image.GetSize()))
    spacing = "×".join(f"{step:.4g}" for step in image.GetSpacing())
    codes = "".join(f", `{code}`" for code in record["warnings"])
    return f"{count} | {size} at {spacing} mm{codes} | {texts[0]} | {texts[1]} |", good


def nearest(ours, readings, floor: float) -> tuple[float, float] | None:
    """Of the readings on our grid: least largest difference (share of the largest value, value)."""
    results = [difference(*ours, np.maximum(array, floor), matrix) for array, matrix in readings]
    return min((result for result in results if result), default=None)


def difference(array, matrix, other, other_matrix) -> tuple[float, float] | None:
    """Largest difference between two volumes at equal places; None if their grids differ."""
    if array.size != other.size:
        return None
    z, y, x = np.indices(array.shape)
    ours_to_other = np.linalg.inv(other_matrix) @ matrix
    place = np.stack([x, y, z], axis=-1) @ ours_to_other[:3, :3].T + ours_to_other[:3, 3]
    index_ = np.round(place).astype(int)
    inside = (index_ >= 0).all() and (index_ < other.shape[::-1]).all()
    if not inside or np.abs(place - index_).max() > OFF_GRID:
        return None
    values = other[index_[..., 2], index_[..., 1], index_[..., 0]].astype(float)
    largest = float(np.abs(array - values).max())
    return largest / max(float(np.abs(values).max()), 1.0), largest


def by_plane(ours, paths: list[Path]) -> float:
    """Largest difference of a tilted stack from its own files, as a share of the largest value."""
    array, matrix = ours
    headers = [pydicom.dcmread(path) for path in paths]
    worst, largest = 0.0, 1.0
    for plane, number in zip(array, range(len(array)), strict=True):
        y, x = np.indices(plane.shape)
        points = np.stack([x, y, np.full_like(x, number)], axis=-1) @ matrix[:3, :3].T
        points = points + matrix[:3, 3]
        header = min(headers, key=lambda header: abs(height(header, points[0, 0])))
        assert abs(height(header, points[0, 0])) < OFF_GRID
        row, column = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        away = points - np.array(header.ImagePositionPatient, dtype=float)
        place = [away @ column / header.PixelSpacing[0], away @ row / header.PixelSpacing[1]]
        pixels = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
        pixels = np.maximum(pixels, -1024)
        expected = ndimage.map_coordinates(pixels, place, order=1, cval=np.nan)
        known = np.isfinite(expected)
        assert known.sum() >= 0.99 * pixels.size, "the slice is not all there"
        worst = max(worst, np.abs(plane - expected)[known].max())
        largest = max(largest, np.abs(expected[known]).max())
    return worst / largest


def height(header, point: np.ndarray) -> float:
    """Distance of a point from a slice's plane in mm."""
    row, column = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    return float(np.cross(row, column) @ (point - np.array(header.ImagePositionPatient, float)))


def reference(folder: Path) -> Path | None:
    """The reference volume that lies beside a folder."""
    path = folder.with_name(f"{folder.name}_ground_truth.nii.gz")
    if folder.name in RIRE and folder.parent.name == "dicom":
        path = folder.parents[1] / RIRE[folder.name]
    return path if path.is_file() else None


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Array and affine (LPS) of a volume file, by SimpleITK alone."""
    image = sitk.ReadImage(str(path))
    return sitk.GetArrayFromImage(image), volume.affine(image)


def told(result: tuple[float, float] | None) -> str:
    """A comparison in words."""
    if result is None:
        return "another grid"
    return "equal" if result[1] == 0 else f"{result[1]:.2g} (largest difference)"


def dcm2niix(folder: Path) -> list:
    """Volumes of dcm2niix, in its own rescale of Philips and then in the standard's."""
    return [*readers.dcm2niix(folder).volumes, *readers.dcm2niix(folder, "-p", "n").volumes]


def counted(folder: Path) -> str:
    """How many volumes another reader makes of what we refuse."""
    volumes = readers.dcm2niix(folder).volumes
    return f"{len(volumes)} volume{'s' * (len(volumes) != 1)}" if volumes else "no volume"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")))
