"""How far a finished demo is from the phantoms' truth: registration, discs, brightness.

    python benchmarks/truth.py [study folder]

Reads ``results/`` of a study made of phantoms and the truth beside its DICOM, which the pipeline
never opens. Prints one table each: registration error per axial block (mm, over the truth's points
within 35 mm of the disc), disc centre and plane error per level, mean grey level per tissue in real
and synthetic images.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from mrsynth import crop, geometry, pack, pick, sheet, volume

TISSUES = {
    "sac": ("csf",),
    "nucleus": ("nucleus",),
    "annulus": ("annulus",),
    "marrow": ("spongiosa",),
    "muscle": ("muscle",),
    "fat": ("fat",),
}
PURE = 0.95
"""Least share of a tissue in a packed pixel that counts: no partial volume."""


def main(folder: Path) -> None:
    """Print the three tables."""
    for task in sorted(path.name for path in (folder / "results/register").iterdir()):
        rows = sheet.read_cohort(folder / "results/cohort/cohort.tsv")
        numbers = {s: number_of(folder, rows, task, s) for s in sheet.paired(rows, task)}
        show(f"{task}: registration error per block, mm", registration(folder, task, numbers))
        show(f"{task}: discs, mm and degrees", discs(folder, numbers))
        for model in sorted((folder / f"results/synthesize/{task}").iterdir()):
            title = f"{task}: mean grey level per tissue, {model.name} (test subjects)"
            show(title, brightness(folder, task, model.name, numbers))


def show(title: str, table: pd.DataFrame) -> None:
    """Print a titled table."""
    print(f"\n{title}\n{table.to_string(float_format=lambda value: f'{value:.2f}')}")


def number_of(folder: Path, rows: list[dict], task: str, subject: str) -> str:
    """The phantom's number behind a pseudonym, through the private list of files."""
    series = sheet.find_row(rows, task, subject)["source_series"]
    with open(folder / f"private/index/{series}.tsv", newline="") as handle:
        path = Path(next(csv.DictReader(handle, delimiter="\t"))["path"])
    return path.parts[path.parts.index("dicom") + 1]


def registration(folder: Path, task: str, numbers: dict[str, str]) -> pd.DataFrame:
    """Error per block over the truth's points, and over all blocks in the last row."""
    rows, every = [], []
    for subject, number in numbers.items():
        record = read_json(folder / f"results/register/{task}/sub-{subject}.json")
        fixed = volume.read_stacks(folder / f"results/resample/{task}/sub-{subject}", "target")
        points = pd.read_csv(folder / f"results/phantom/truth/{number}/points.tsv", sep="\t")
        for _, block in points.groupby("stack"):
            fixed_mm = block[["mr_x", "mr_y", "mr_z"]].to_numpy()
            moving_mm = block[["ct_x", "ct_y", "ct_z"]].to_numpy()
            stack = record["stacks"][nearest(fixed, fixed_mm)]
            mapped = geometry.apply(np.array(stack["matrix"]), fixed_mm)
            error = np.linalg.norm(mapped - moving_mm, axis=1)
            every.append(error)
            rows.append((number, stack["stack"], stack["verdict"], *spread(error)))
    table = pd.DataFrame(rows, columns=["phantom", "stack", "verdict", "median", "p95", "max"])
    pooled = np.concatenate(every)
    median_of_blocks = table["median"].median()
    print(
        f"\n{task}: {len(table)} blocks, median of block medians {median_of_blocks:.2f} mm, worst "
        f"block median {table['median'].max():.2f} mm, 95th percentile of all points "
        f"{np.percentile(pooled, 95):.2f} mm; verdicts {table['verdict'].value_counts().to_dict()}"
    )
    return table.set_index(["phantom", "stack"])


def discs(folder: Path, numbers: dict[str, str]) -> pd.DataFrame:
    """Error of disc centres and planes, by level; missing and misnamed discs are counted."""
    rows = []
    for subject, number in numbers.items():
        found = read_json(folder / f"results/locate/sub-{subject}.json").get("discs", [])
        truth = read_json(folder / f"results/phantom/truth/{number}/truth.json")["discs"]
        named = {disc["level"]: disc for disc in found}
        for disc in truth:
            hit = named.get(disc["level"])
            if hit is None:
                rows.append((disc["level"], np.nan, np.nan))
                continue
            centre = np.linalg.norm(np.subtract(hit["centre_mm"], disc["ct"]["centre_mm"]))
            angle = geometry.angle_deg(np.array(hit["normal"]), np.array(disc["ct"]["normal"]))
            rows.append((disc["level"], centre, angle))
    table = pd.DataFrame(rows, columns=["level", "centre_mm", "angle_deg"])
    groups = table.groupby("level", sort=False)
    summary = groups.agg(["median", "max", "count"])
    summary["missing"] = groups["centre_mm"].apply(lambda column: int(column.isna().sum()))
    return summary


def brightness(folder: Path, task: str, model: str, numbers: dict[str, str]) -> pd.DataFrame:
    """Mean grey level per tissue, real and synthetic, over the test slices' pure pixels."""
    rows = []
    for path in sorted((folder / f"results/synthesize/{task}/{model}").glob("fold-*.npz")):
        test = np.load(folder / f"results/pack/{task}/{path.stem}/test.npz")
        record = read_json(folder / f"results/pack/{task}/{path.stem}/test.json")
        synthetic = np.load(path)["synthetic"]
        for subject in sorted(set(test["subject"])):
            extent, size = pack.Range(**record["range"]), test["target"].shape[1:]
            masks = tissue_masks(folder, task, subject, numbers[subject], extent, size)
            for index in np.flatnonzero(test["subject"] == subject):
                for name, by_key in masks.items():
                    mask = by_key[str(test["key"][index])] > PURE
                    if mask.any():
                        real = test["target"][index][mask].mean()
                        rows.append((name, real, synthetic[index][mask].mean()))
    table = pd.DataFrame(rows, columns=["tissue", "real", "synthetic"])
    means = table.groupby("tissue").mean().sort_values("real", ascending=False)
    means["rank_kept"] = means["synthetic"].rank() == means["real"].rank()
    return means


def tissue_masks(
    folder: Path, task: str, subject: str, number: str, extent: pack.Range, size: tuple[int, int]
) -> dict[str, dict[str, np.ndarray]]:
    """Share of each tissue per packed pixel: labels sent the way of the images, crop and pack."""
    truth = read_json(folder / f"results/phantom/truth/{number}/truth.json")
    stacks = volume.read_stacks(folder / f"results/window/{task}/sub-{subject}", "target")
    files = sorted((folder / f"results/phantom/truth/{number}").glob("tissue_t2ax-*.nii.gz"))
    labels = [sitk.ReadImage(str(file)) for file in files]
    labels = [labels[nearest_grid(labels, stack)] for stack in stacks]
    picks = pick.read_table(folder / f"results/pick/{task}/sub-{subject}.tsv")
    masks = {}
    for name, words in TISSUES.items():
        wanted = [
            value
            for tissue, value in truth["tissues"].items()
            if any(tissue.lower().startswith(word) for word in words)
        ]
        share = [on_grid(label, stack, wanted) for label, stack in zip(labels, stacks, strict=True)]
        ones = [sitk.Cast(stack * 0 + 1, sitk.sitkUInt8) for stack in stacks]
        crops = crop.crop(source=share, target=share, valid=ones, body=ones, picks=picks)
        packed = pack.pack([crops], extent, subjects=[subject], size=size)
        keys = [str(key) for key in packed["key"]]
        masks[name] = dict(zip(keys, packed["source"] / 255.0, strict=True))
    return masks


def on_grid(label: sitk.Image, stack: sitk.Image, wanted: list[int]) -> sitk.Image:
    """255 where a label is one of the wanted, on the stack's own grid."""
    array = np.isin(sitk.GetArrayFromImage(label), wanted).astype(np.float32) * 255
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(label)
    return sitk.Resample(image, stack, sitk.Transform(), sitk.sitkLinear, 0.0)


def nearest(stacks: list[sitk.Image], points: np.ndarray) -> int:
    """Index of the stack whose centre is nearest to the points'."""
    return int(np.argmin([np.linalg.norm(centre(s) - points.mean(axis=0)) for s in stacks]))


def nearest_grid(labels: list[sitk.Image], stack: sitk.Image) -> int:
    """Index of the label volume on a stack's grid."""
    return int(np.argmin([np.linalg.norm(centre(label) - centre(stack)) for label in labels]))


def centre(image: sitk.Image) -> np.ndarray:
    """Centre of an image, LPS mm."""
    middle = [(size - 1) / 2 for size in image.GetSize()]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(middle))


def spread(error: np.ndarray) -> tuple[float, float, float]:
    """Median, 95th percentile and maximum."""
    return float(np.median(error)), float(np.percentile(error, 95)), float(error.max())


def read_json(path: Path) -> dict:
    """Read a JSON object."""
    return json.loads(path.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
