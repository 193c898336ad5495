"""Registration error against known truth, ours beside ANTs, elastix and plain SimpleITK.

    python benchmarks/register.py --shared ../shared --seeds 20 --methods ours ants-rigid
    python benchmarks/register.py --shared ../shared --seeds 0 --heads 0 --phantoms 1 2 3 4

The first part runs every method on RIRE patient 001 (both images fixed in turn) and on digital
heads, each in a process of its own, and prints per case and method the error over the seeds: the
median of the medians, the worst median, the worst maximum (500 points of the head), and per run the
wall clock, CPU seconds and the process's peak memory. The second part runs ours on spines:
one row per stack with the error within 35 mm of the disc.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import disturbed
import heads
import numpy as np
import rivals
import SimpleITK as sitk

from mrsynth import phantom
from mrsynth.geometry import apply
from mrsynth.register import register_stacks

CASES = ("case", "method", "runs", "median_mm", "worst_median_mm", "worst_max_mm")
COSTS = ("wall_s", "cpu_s", "peak_mb")
STACKS = ("case", "stack", "median_mm", "p95_mm", "max_mm", "best_rigid_mm", "cpu_s", "verdict")

HEAD_SEED = 80_000
"""Digital heads of another seed than those on which limits were looked for."""


def error(matrix: np.ndarray, points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance [n] between where a pose sends points and where they belong, mm."""
    return np.linalg.norm(apply(matrix, points) - truth, axis=1)


def best_rigid(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The rigid pose with the least squared error: what no rigid registration can beat."""
    one, other = points.mean(0), truth.mean(0)
    left, _, right = np.linalg.svd((points - one).T @ (truth - other))
    flip = np.diag([1, 1, np.linalg.det(left @ right)])
    pose = np.eye(4)
    pose[:3, :3] = (left @ flip @ right).T
    pose[:3, 3] = other - pose[:3, :3] @ one
    return pose


def volumes(case: str, shared: Path):
    """Fixed and moving image, points of the fixed frame [n, 3] and their true places."""
    if case.startswith("rire"):
        ct, mr, truth, points = disturbed.head(shared / "data/rire_001")
        there = apply(truth, points)
        if case == "rire-mr-fixed":
            return mr, ct, there, points
        return ct, mr, points, there
    number = int(case.removeprefix("head-"))
    generator = np.random.default_rng(HEAD_SEED + number)
    head = heads.Head(HEAD_SEED + number)
    pose = np.eye(4)
    pose[:3, :3] = heads.Rotation.from_rotvec(generator.uniform(-0.15, 0.15, 3)).as_matrix()
    pose[:3, 3] = generator.uniform(-20, 20, 3)
    mr = head.image(heads.T1, (128, 144, 36), (1.6, 1.6, 4.0), np.eye(4), 12.0, 1)
    ct = head.image(heads.HU, (128, 144, 40), (1.6, 1.6, 4.0), np.linalg.inv(pose), 15.0, 2)
    index = np.argwhere(heads.to_array(mr) > 60)[:, ::-1]
    points = apply(heads.affine(mr), index[generator.choice(len(index), 500, replace=False)])
    return mr, ct, points, apply(pose, points)


def child(case: str, method: str, seeds: int, threads: int, shared: Path) -> None:
    """Run one method over the seeds in this process; print one JSON object per run."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    fixed, moving, points, truth = volumes(case, shared)
    # Imports are no part of a registration.
    rivals.METHODS[method](fixed[::8, ::8, :], moving[::8, ::8, :], 0)
    for seed in range(1, seeds + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        matrix = rivals.METHODS[method](fixed, moving, seed)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        off = error(matrix, points, truth)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        run = (float(np.median(off)), float(off.max()), wall, cpu, peak)
        print("RUN " + json.dumps(run), flush=True)


def compare(case: str, method: str, options) -> str:
    """A row of the table."""
    command = [sys.executable, __file__, "--shared", str(options.shared)]
    command += ["--threads", str(options.threads), "--seeds", str(options.seeds)]
    environment = os.environ | {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(options.threads)}
    done = subprocess.run(
        [*command, "--child", case, method], capture_output=True, text=True, env=environment
    )
    runs = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("RUN ")]
    if not runs:
        return f"{case}\t{method}\t0\t{(done.stderr.strip().splitlines() or ['failed'])[-1]}"
    median, top, wall, cpu, peak = np.array(runs).T
    numbers = (np.median(median), median.max(), top.max(), np.mean(wall), np.mean(cpu))
    cells = [*(f"{number:.2f}" for number in numbers), f"{peak.max():.0f}"]
    return "\t".join([case, method, str(len(runs)), *cells])


def spines(number: int, settings: dict, regional: bool):
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
        off = error(result.matrix, mr, truth)
        floor = np.median(error(best_rigid(mr, truth), mr, truth))
        numbers = (np.median(off), np.percentile(off, 95), off.max(), floor, seconds)
        cells = [f"phantom-{number}", str(stack), *(f"{n:.2f}" for n in numbers), result.verdict]
        yield "\t".join(cells), off


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--methods", nargs="*", default=list(rivals.METHODS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--heads", type=int, default=2, help="digital heads besides RIRE")
    parser.add_argument("--threads", type=int, default=2, help="of the other programs")
    parser.add_argument("--phantoms", type=int, nargs="*", default=[])
    parser.add_argument("--region", action="store_true", help="keep to the spine (true landmarks)")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON, as in the config")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child, options.seeds, options.threads, options.shared)
        return
    if options.seeds:
        print("\t".join((*CASES, *COSTS)), flush=True)
        cases = [f"head-{number}" for number in range(1, options.heads + 1)]
        if (options.shared / "data/rire_001").exists():
            cases = ["rire-mr-fixed", "rire-ct-fixed", *cases]
        for case in cases:
            for method in options.methods:
                print(compare(case, method, options), flush=True)
    if options.phantoms:
        print("\t".join(STACKS), flush=True)
    everything = []
    for number in options.phantoms:
        for line, off in spines(number, options.settings, options.region):
            print(line, flush=True)
            everything.append(off)
    if everything:
        medians = [np.median(off) for off in everything]
        print(
            f"# phantoms: median of the stacks' medians {np.median(medians):.2f} mm, "
            f"95th percentile of all points {np.percentile(np.concatenate(everything), 95):.2f} mm"
        )


if __name__ == "__main__":
    main()
