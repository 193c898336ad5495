"""Errors of `locate` against labels of a real CT and against phantoms; its time and memory.

    python benchmarks/locate.py real --shared ../shared
    python benchmarks/locate.py cuts --shared ../shared
    python benchmarks/locate.py phantoms --numbers 101 102 103
    python benchmarks/locate.py variants
    python benchmarks/locate.py large

`real` disturbs ``totalseg_spine`` (flips, rotations, other voxels, noise, combinations); `cuts`
takes three of its vertebrae without the sacrum. The reference of a disc is the gap between the
facing surfaces of the two labelled vertebral bodies, with a plane fitted to each surface: a model's
labels at 3 mm, with an error of their own. `phantoms` are drawn with a seed that the demo doesn't
use. `large` measures a 512×512×400 CT in a process of its own. Prints one TSV row per case, the
worst numbers of its discs, and a summary.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import numpy as np
import SimpleITK as sitk

from mrsynth import geometry, volume
from mrsynth.errors import Refusal
from mrsynth.locate import locate
from mrsynth.phantom import simulate
from mrsynth.phantom.variants import VARIANTS

LEVELS = ("T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")
# A seed of its own, so that no phantom of the demo (seed 20200) is among these.
SEED = 4711
NEAR_MM = 4.0
AIR_HU = -1000.0


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["real", "cuts", "phantoms", "variants", "large", "one"])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--numbers", type=int, nargs="+", default=list(range(101, 113)))
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--file", type=Path, help="the CT of part `one`")
    options = parser.parse_args()
    if options.part == "real":
        summary(table(real(options.shared), options.only))
    elif options.part == "cuts":
        cuts(options.shared)
    elif options.part == "phantoms":
        phantoms(options.numbers)
    elif options.part == "variants":
        variants(options.numbers[:2])
    elif options.part == "large":
        large()
    else:
        one(options.file)


# Reference ------------------------------------------------------------------------------------


def reference(shared: Path) -> tuple[sitk.Image, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The real CT, and centre and normal of each disc from the labels of its vertebral bodies."""
    folder = shared / "data" / "totalseg_spine"
    labels = volume.read_volume(folder / "vertebrae_labels.nii.gz")
    body = volume.read_volume(folder / "totalseg_vertebrae_body.nii.gz")
    gaps = body_gaps(labels, body)
    ct = volume.read_volume(folder / "example_ct.nii.gz")
    return ct, dict(zip(LEVELS[::-1], gaps, strict=True))


def body_gaps(labels: sitk.Image, body: sitk.Image) -> list[tuple[np.ndarray, np.ndarray]]:
    """Centres and normals of the gaps between labelled bodies, from L5-S1 (27, 26) to T12-L1."""
    matrix = volume.affine(labels)
    values = volume.to_array(labels)
    bodies = [
        geometry.apply(matrix, np.argwhere((values == k) & (volume.to_array(body) == 1))[:, ::-1])
        for k in range(26, 33)
    ]
    gaps = []
    for lower, upper in pairwise(bodies):
        middle = (lower.mean(0) + upper.mean(0)) / 2
        normal = geometry.unit(upper.mean(0) - lower.mean(0))
        for _ in range(4):
            axes = geometry.frame(normal, [0, -1, 0])
            facing = [facing_plane(upper, middle, axes, -1), facing_plane(lower, middle, axes, 1)]
            normal = geometry.unit(facing[0][1] + facing[1][1])
        gaps.append(((facing[0][0] + facing[1][0]) / 2, normal))
    return gaps


def facing_plane(points, middle, axes, side, voxel=3.0):
    """Centre and normal of the surface of a cloud of voxels that looks to one side."""
    column = np.round((points - middle) @ axes[:2].T / voxel).astype(int)
    height = side * ((points - middle) @ axes[2])
    order = np.argsort(-height)
    _, first = np.unique(column[order], axis=0, return_index=True)
    surface = points[order[first]]
    inner = (surface - surface.mean(0)) @ axes[:2].T / [14, 19]
    centre, normal, _ = geometry.fit_plane(
        surface[np.linalg.norm(inner, axis=1) < 1], towards=axes[2], least_sigma_mm=voxel / 2
    )
    surface = surface[np.abs((surface - centre) @ normal) < voxel]
    middle = surface.mean(0) + side * voxel / 2 * normal
    return middle - ((middle - centre) @ normal - side * voxel / 2) * normal, normal


# Disturbances ---------------------------------------------------------------------------------


def turned(ct: sitk.Image, matrix: np.ndarray) -> sitk.Image:
    """The patient moved by a rigid matrix, the voxels with him: an oblique scan."""
    return volume.from_array(volume.to_array(ct), matrix @ volume.affine(ct))


def resampled(ct: sitk.Image, spacing_mm: tuple[float, float, float]) -> sitk.Image:
    """On upright axes with the given spacing, averaged before it is made coarser."""
    ct = sitk.DICOMOrient(ct, "LPS")
    old = np.array(ct.GetSpacing())
    sigma = np.sqrt(np.maximum(np.array(spacing_mm) ** 2 - old**2, 0)) / 2.355
    if sigma.max() > 0:
        ct = sitk.SmoothingRecursiveGaussian(ct + 1000.0, np.maximum(sigma, 1e-3).tolist()) - 1000.0
    size = np.array(ct.GetSize())
    corners = np.array(np.meshgrid(*[[-0.5, n - 0.5] for n in size])).reshape(3, -1).T
    corners = np.array([ct.TransformContinuousIndexToPhysicalPoint(c.tolist()) for c in corners])
    low, high = corners.min(0), corners.max(0)
    count = np.maximum(np.round((high - low) / spacing_mm), 1).astype(int)
    origin = low + np.array(spacing_mm) / 2
    return sitk.Resample(
        ct,
        count.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        origin.tolist(),
        [float(step) for step in spacing_mm],
        np.eye(3).ravel().tolist(),
        AIR_HU,
    )


def noisy(ct: sitk.Image, hu: float, seed: int) -> sitk.Image:
    """White Gaussian noise added to every voxel."""
    values = volume.to_array(ct)
    values = values + np.random.default_rng(seed).normal(0, hu, values.shape).astype(np.float32)
    return volume.from_array(values, volume.affine(ct))


def real(shared: Path) -> Iterator[tuple[str, sitk.Image, dict]]:
    """Name, CT and the true discs of every case."""
    ct, truth = reference(shared)
    middle = truth["L3-L4"][0]

    def moved(matrix):
        return {
            level: (geometry.apply(matrix, centre), geometry.apply_direction(matrix, normal))
            for level, (centre, normal) in truth.items()
        }

    def rotation(axis, degrees):
        return geometry.rigid_from_axis(np.eye(3)["xyz".index(axis)], degrees, middle)

    yield "as it is", ct, truth
    for code in ("RAS", "LAS", "LPI", "RPI", "ASR", "PIR", "SAL", "IPR"):
        yield f"stored {code}", sitk.DICOMOrient(ct, code), truth
    for axis in "xyz":
        for degrees in (-20, -10, 10, 20):
            matrix = rotation(axis, degrees)
            oblique = turned(ct, matrix)
            yield f"turned {axis}{degrees:+d}, oblique voxels", oblique, moved(matrix)
            upright = resampled(oblique, (1.5, 1.5, 1.5))
            yield f"turned {axis}{degrees:+d}, upright voxels", upright, moved(matrix)
    for steps in ((1.0, 1.0, 1.0), (5.0, 5.0, 5.0), (1.0, 1.0, 5.0), (0.8, 0.8, 3.0)):
        yield f"voxels {'×'.join(f'{s:g}' for s in steps)}", resampled(ct, steps), truth
    for seed in range(3):
        yield f"noise 30 HU, {seed}", noisy(ct, 30, seed), truth
    rng = np.random.default_rng(SEED)
    for number in range(24):
        # Up to 20° about each of the three axes at once, any voxel, any storage order, noise.
        matrix = np.eye(4)
        angles = rng.uniform(-20, 20, 3) if number % 2 else rng.choice([-20, 20], 3) / np.sqrt(3)
        for axis, degrees in zip("xyz", angles, strict=True):
            matrix = rotation(axis, degrees) @ matrix
        steps = [(1.0, 1.0, 1.0), (1.0, 1.0, 5.0), (5.0, 5.0, 5.0), (2.0, 2.0, 2.0)][number % 4]
        image = noisy(resampled(turned(ct, matrix), steps), 30, number)
        code = rng.choice(["LPS", "RAS", "ASR", "PIR", "SAL", "LAI"])
        text = " ".join(f"{a:+.0f}" for a in angles)
        name = f"combined {number}: {text}°, {'×'.join(f'{s:g}' for s in steps)} mm, {code}, noise"
        yield name, sitk.DICOMOrient(image, str(code)), moved(matrix)


def table(cases, only: str = "") -> list[dict]:
    """One printed row per case."""
    rows = []
    print("case\tfound\twithin\tmisnamed\tunnamed\tcentre_mm\tangle_deg\tflags\tcpu_s")
    for name, ct, truth in cases:
        if only not in name:
            continue
        row = judge(ct, truth)
        rows.append(row)
        print(
            f"{name}\t{row['found']}/{row['discs']}\t{row['within']}\t{row['misnamed']}\t"
            f"{row['unnamed']}\t{row['centre_mm']:.2f}\t{row['angle_deg']:.2f}\t"
            f"{','.join(row['flags'])}\t{row['cpu_s']:.1f}",
            flush=True,
        )
    return rows


def judge(ct: sitk.Image, truth: dict) -> dict:
    """How the discs of one CT were found: counts, worst centre (mm) and plane (°) of those near."""
    start = time.process_time()
    try:
        result = locate(ct)
        discs, flags = result.discs, result.flags
    except Refusal as refusal:
        discs, flags = [], [f"refused {refusal.code}"]
    row = {"discs": len(truth), "found": 0, "within": 0, "misnamed": 0, "unnamed": 0}
    row |= {"centre_mm": 0.0, "angle_deg": 0.0, "flags": flags}
    row["cpu_s"] = time.process_time() - start
    for level, (centre, normal) in truth.items():
        wrong = [d for d in discs if d.level == level and np.linalg.norm(d.centre_mm - centre) > 15]
        row["misnamed"] += len(wrong)
        if not discs:
            continue
        disc = min(discs, key=lambda disc: np.linalg.norm(disc.centre_mm - centre))
        distance = float(np.linalg.norm(disc.centre_mm - centre))
        if distance > 15:
            continue
        row["found"] += 1
        row["within"] += distance <= NEAR_MM
        row["misnamed"] += disc.level is not None and disc.level != level
        row["unnamed"] += disc.level is None
        row["centre_mm"] = max(row["centre_mm"], distance)
        angle = float(geometry.angle_deg(disc.normal, normal, oriented=True))
        row["angle_deg"] = max(row["angle_deg"], angle)
    return row


def summary(rows: list[dict]) -> None:
    """Shares over all cases."""
    total = {key: sum(row[key] for row in rows) for key in ("discs", "within", "misnamed", "found")}
    print(
        f"# {len(rows)} cases, {total['discs']} discs: found {total['found']}, within "
        f"{NEAR_MM:g} mm {total['within']} ({100 * total['within'] / total['discs']:.1f} %), "
        f"misnamed {total['misnamed']}, unnamed {sum(row['unnamed'] for row in rows)}, worst "
        f"centre {max(row['centre_mm'] for row in rows):.2f} mm, worst plane "
        f"{max(row['angle_deg'] for row in rows):.2f}°"
    )


def cuts(shared: Path) -> None:
    """Three whole vertebrae (and half a disc more at both ends), no sacrum."""
    ct, truth = reference(shared)
    print("vertebrae\tvoxels\tfound\tnamed\tcentre_mm\tangle_deg\tflags")
    heights = {level: centre[2] for level, (centre, _) in truth.items()}
    heights["T11-T12"] = heights["T12-L1"] + 26.0
    names = ["T11-T12", *LEVELS]
    for steps in ((3.0, 3.0, 3.0), (1.0, 1.0, 5.0)):
        image = resampled(ct, steps)
        for first in range(len(names) - 3):
            top, bottom = heights[names[first]], heights[names[first + 3]]
            index = [
                image.TransformPhysicalPointToContinuousIndex([*image.GetOrigin()[:2], float(z)])[2]
                for z in (bottom, top)
            ]
            low, high = max(round(index[0]), 0), min(round(index[1]) + 1, image.GetDepth())
            inner = {level: truth[level] for level in names[first + 1 : first + 3]}
            row = judge(image[:, :, low:high], inner)
            vertebrae = f"{names[first].split('-')[1]} to {names[first + 3].split('-')[0]}"
            print(
                f"{vertebrae}\t{'×'.join(f'{s:g}' for s in steps)}\t{row['found']}/2\t"
                f"{row['found'] - row['unnamed']}\t{row['centre_mm']:.2f}\t"
                f"{row['angle_deg']:.2f}\t{','.join(row['flags'])}",
                flush=True,
            )


# Phantoms -------------------------------------------------------------------------------------


def phantoms(numbers: list[int]) -> None:
    """Discs, sac and borders of phantoms with the demo's CT (1 mm)."""
    print("phantom\tlevel\tcentre_mm\tangle_deg\tsac_mm\tventral_mm\twidth_mm\tconfidence")
    rows = []
    for number in numbers:
        person = simulate(number, seed=SEED, series=["ct"])
        rows += of_phantom(number, person)
    errors = np.array([row[2:7] for row in rows], float)
    for name, column in zip(
        ("centre_mm", "angle_deg", "sac_mm", "ventral_mm", "width_mm"), errors.T, strict=True
    ):
        print(
            f"# {name}: median {np.nanmedian(np.abs(column)):.2f}, mean {np.nanmean(column):+.2f}, "
            f"worst {np.nanmax(np.abs(column)):.2f}, missing {int(np.isnan(column).sum())}"
        )


def of_phantom(number: int, person) -> list[tuple]:
    """Printed rows of one phantom's lumbar discs."""
    result = locate(person.images["ct"][0])
    canal = np.array(person.truth["canal_ct_mm"])
    rows = []
    for disc in person.truth["discs"]:
        if disc["level"] not in LEVELS:
            continue
        hit = result.disc(disc["level"])
        row = (number, disc["level"], *[float("nan")] * 6)
        if hit is not None:
            centre, normal = np.array(disc["ct"]["centre_mm"]), np.array(disc["ct"]["normal"])
            sac = geometry.cross_polyline(canal, hit.centre_mm, hit.normal)
            ahead = geometry.unit(centre - sac)
            row = (
                number,
                disc["level"],
                float(np.linalg.norm(hit.centre_mm - centre)),
                float(geometry.angle_deg(hit.normal, normal, oriented=True)),
                float(np.linalg.norm(hit.sac_mm - sac)),
                float((hit.ventral_mm - centre) @ ahead - disc["half_depth_mm"]),
                float(np.linalg.norm(np.diff(hit.lateral_mm, axis=0)) / 2 - disc["half_width_mm"]),
                hit.confidence,
            )
        rows.append(row)
        print("\t".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row), flush=True)
    if result.flags:
        print(f"# phantom {number}: {','.join(result.flags)}")
    return rows


def variants(numbers: list[int]) -> None:
    """Phantoms that are counted wrongly from the sacrum: nothing may get a name."""
    print("variant\tphantom\tfound\tnamed\tcentre_mm\tangle_deg\tflags")
    for variant in VARIANTS:
        for number in numbers:
            person = simulate(
                number, seed=SEED, series=["ct"], variant=variant, ct_pixel_mm=1.2, ct_slice_mm=1.5
            )
            truth = {
                disc["level"]: (np.array(disc["ct"]["centre_mm"]), np.array(disc["ct"]["normal"]))
                for disc in person.truth["discs"][1:]
            }
            row = judge(person.images["ct"][0], truth)
            print(
                f"{variant or 'usual'}\t{number}\t{row['found']}/{row['discs']}\t"
                f"{row['found'] - row['unnamed']}\t{row['centre_mm']:.2f}\t"
                f"{row['angle_deg']:.2f}\t{','.join(row['flags'])}",
                flush=True,
            )


# Time and memory ------------------------------------------------------------------------------


def large() -> None:
    """CPU seconds and peak memory of reading and locating in a 512×512×400 CT."""
    person = simulate(101, seed=SEED, series=["ct"])
    ct = person.images["ct"][0]
    step = [
        n * s / m for n, s, m in zip(ct.GetSize(), ct.GetSpacing(), (512, 512, 400), strict=True)
    ]
    big = sitk.Resample(
        ct,
        (512, 512, 400),
        sitk.Transform(),
        sitk.sitkLinear,
        ct.GetOrigin(),
        step,
        ct.GetDirection(),
        AIR_HU,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ct.nii.gz"
        volume.write_volume(big, path)
        command = [sys.executable, __file__, "one", "--file", str(path)]
        print(subprocess.run(command, capture_output=True, text=True, check=True).stdout, end="")


def one(path: Path) -> None:
    """Read a CT and locate; print seconds of CPU and the process's peak memory."""
    imported = peak_mb()
    start = time.process_time()
    ct = volume.read_volume(path)
    read, read_mb = time.process_time() - start, peak_mb()
    start = time.process_time()
    result = locate(ct)
    print(
        json.dumps(
            {
                "size": ct.GetSize(),
                "spacing_mm": [round(s, 3) for s in ct.GetSpacing()],
                "read_cpu_s": round(read, 1),
                "locate_cpu_s": round(time.process_time() - start, 1),
                "peak_mb": {"imports": imported, "read": read_mb, "locate": peak_mb()},
                "discs": [disc.level for disc in result.discs],
            }
        )
    )


def peak_mb() -> int:
    """Largest resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
