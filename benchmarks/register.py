"""Registration error against known truth: digital phantoms, and RIRE patient 001 where it is there.

    python benchmarks/register.py --phantoms 1 2 3 4 --shared ../shared --engine sampled

Prints a TSV: one row per stack (or volume) with the error's median, 95th percentile and maximum in
mm, the CPU seconds it took and the verdict. Points of a phantom lie within 35 mm of the disc's
centre; those of RIRE are 500 random points of the head.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import SimpleITK as sitk

from mrsynth import phantom
from mrsynth.register import register, register_stacks
from mrsynth.volume import affine, read_volume, to_array
from mrsynth.warp import body, linear_matrix

HEADER = ("case", "stack", "median_mm", "p95_mm", "max_mm", "best_rigid_mm", "cpu_s", "verdict")


def error(matrix: np.ndarray, points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance [n] between where a pose sends points and where they belong, mm."""
    return np.linalg.norm(points @ matrix[:3, :3].T + matrix[:3, 3] - truth, axis=1)


def best_rigid(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The rigid pose with the least squared error: what no rigid registration can beat."""
    one, other = points.mean(0), truth.mean(0)
    left, _, right = np.linalg.svd((points - one).T @ (truth - other))
    flip = np.diag([1, 1, np.linalg.det(left @ right)])
    pose = np.eye(4)
    pose[:3, :3] = (left @ flip @ right).T
    pose[:3, 3] = other - pose[:3, :3] @ one
    return pose


def row(case, stack, errors, floor, seconds, verdict) -> str:
    numbers = (np.median(errors), np.percentile(errors, 95), errors.max(), floor, seconds)
    return "\t".join([case, str(stack), *(f"{n:.2f}" for n in numbers), verdict])


def phantoms(number: int, settings: dict, regional: bool):
    """Rows and point errors of one phantom's stacks."""
    subject = phantom.simulate(number, series=["ct", "t2ax"], ct_pixel_mm=1.2, ct_slice_mm=1.5)
    roi = None
    if regional:
        roi = [disc["ct"]["centre_mm"] for disc in subject.truth["discs"]]
        roi += subject.truth["canal_ct_mm"]
    start = time.process_time()
    stacks = [sitk.Cast(stack, sitk.sitkFloat32) for stack in subject.images["t2ax"]]
    ct = sitk.Cast(subject.images["ct"][0], sitk.sitkFloat32)
    _, single = register_stacks(stacks, ct, roi=roi, **settings)
    seconds = time.process_time() - start
    table = subject.points
    for stack, result in enumerate(single, start=1):
        here = table["stack"] == stack
        mr, truth = (
            np.stack([table[f"{side}_{axis}"][here] for axis in "xyz"], axis=1)
            for side in ("mr", "ct")
        )
        errors = error(result.matrix, mr, truth)
        floor = np.median(error(best_rigid(mr, truth), mr, truth))
        yield row(f"phantom-{number}", stack, errors, floor, seconds, result.verdict), errors


def rire(folder: Path, settings: dict):
    """Rows of RIRE 001, CT and T1, either of them fixed."""
    ct, mr = (read_volume(folder / f"{name}_example.nii.gz") for name in ("ct", "mri_t1"))
    name = "training_001_ct_to_mr_T1_ground_truth.tfm"
    truth = linear_matrix(sitk.ReadTransform(str(folder / name)))
    index = np.argwhere(to_array(body(ct)) > 0)[:, ::-1]
    index = index[np.random.default_rng(0).choice(len(index), 500, replace=False)]
    points = index @ affine(ct)[:3, :3].T + affine(ct)[:3, 3]
    there = points @ truth[:3, :3].T + truth[:3, 3]
    for case, fixed, moving in (("rire-mr-fixed", mr, ct), ("rire-ct-fixed", ct, mr)):
        start = time.process_time()
        result = register(fixed, moving, **settings)
        seconds = time.process_time() - start
        matrix = np.linalg.inv(result.matrix) if fixed is mr else result.matrix
        yield row(case, 1, error(matrix, points, there), 0, seconds, result.verdict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantoms", type=int, nargs="*", default=[1, 2, 3, 4])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--engine", default="sampled")
    parser.add_argument("--region", action="store_true", help="keep to the spine (true landmarks)")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON, as in the config")
    options = parser.parse_args()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    settings = {"engine": options.engine, **options.settings}
    print("\t".join(HEADER))
    everything = []
    for number in options.phantoms:
        for line, errors in phantoms(number, settings, options.region):
            print(line, flush=True)
            everything.append(errors)
    if everything:
        medians = [np.median(errors) for errors in everything]
        print(
            f"# phantoms: median of the stacks' medians {np.median(medians):.2f} mm, "
            f"95th percentile of all points {np.percentile(np.concatenate(everything), 95):.2f} mm"
        )
    if (options.shared / "data/rire_001").exists():
        for line in rire(options.shared / "data/rire_001", settings):
            print(line, flush=True)


if __name__ == "__main__":
    main()
