"""Registration of disturbed copies of RIRE patient 001, whose truth is known, ours beside ANTs.

    python benchmarks/disturbed.py --shared ../shared --count 60 --out results.jsonl

The moving image's header is turned by up to 45° about a random axis (every sixth copy by a half
turn about x, y or z as well) and shifted by up to 60 mm; of every third copy a quarter of the
field is cut away. One JSON line per copy and method goes to ``--out``, and what is there is not
run again; the summary is printed at the end. A copy is right where the median error over 500
points of the head is below 2 mm.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from mrsynth.register import register
from mrsynth.register.settings import Settings
from mrsynth.register.verdict import judge
from mrsynth.volume import affine, from_array, read_volume, to_array
from mrsynth.warp import body, linear_matrix

RIGHT_MM = 2.0
TURN_DEG, SHIFT_MM = 45.0, 60.0


def head(folder: Path):
    """CT, T1, the true pose (CT to MR points) and 500 random points of the head in the CT."""
    ct, mr = (read_volume(folder / f"{name}_example.nii.gz") for name in ("ct", "mri_t1"))
    name = "training_001_ct_to_mr_T1_ground_truth.tfm"
    truth = linear_matrix(sitk.ReadTransform(str(folder / name)))
    index = np.argwhere(to_array(body(ct)) > 0)[:, ::-1]
    index = index[np.random.default_rng(0).choice(len(index), 500, replace=False)]
    return ct, mr, truth, index @ affine(ct)[:3, :3].T + affine(ct)[:3, 3]


def disturbance(number: int, centre: np.ndarray) -> np.ndarray:
    """The rigid motion (4×4, LPS mm) of copy ``number`` about a centre."""
    generator = np.random.default_rng(1000 + number)
    axis = generator.standard_normal(3)
    angle = np.radians(generator.uniform(0, TURN_DEG))
    turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    if number % 6 == 0:
        flip = -np.eye(3)
        flip[number // 6 % 3, number // 6 % 3] = 1
        turn = turn @ flip
    way = generator.standard_normal(3)
    shift = generator.uniform(0, SHIFT_MM) * way / np.linalg.norm(way)
    motion = np.eye(4)
    motion[:3, :3] = turn
    motion[:3, 3] = centre - turn @ centre + shift
    return motion


def cut(image: sitk.Image, number: int) -> sitk.Image:
    """Every third copy without a quarter of its field, at one end of one axis."""
    if number % 3 != 1:
        return image
    generator = np.random.default_rng(2000 + number)
    axis, end = int(generator.integers(3)), int(generator.integers(2))
    size, start = list(image.GetSize()), [0, 0, 0]
    gone = size[axis] // 4
    size[axis] -= gone
    start[axis] = gone if end else 0
    return sitk.RegionOfInterest(image, size, start)


def copy(fixed, moving, number: int) -> tuple[sitk.Image, np.ndarray]:
    """The disturbed moving image and the motion from the undisturbed moving frame to its own."""
    part = cut(moving, number)
    middle = np.array(
        moving.TransformContinuousIndexToPhysicalPoint(
            ((np.array(moving.GetSize()) - 1) / 2).tolist()
        )
    )
    motion = disturbance(number, middle)
    return from_array(to_array(part), motion @ affine(part)), motion


def by_ants(fixed, moving) -> np.ndarray:
    """ANTs Rigid with its own defaults (which start at the centres of mass)."""
    import ants

    def to_ants(image):
        return ants.from_numpy(
            to_array(image).transpose(2, 1, 0).copy(),
            origin=list(image.GetOrigin()),
            spacing=list(image.GetSpacing()),
            direction=np.array(image.GetDirection()).reshape(3, 3),
        )

    found = ants.registration(to_ants(fixed), to_ants(moving), "Rigid", random_seed=1)
    return linear_matrix(sitk.ReadTransform(found["fwdtransforms"][0]))


def one(fixed, moving, truth, points, number: int, method: str, settings: dict) -> dict:
    """The outcome of one copy; ``points`` [n, 3] lie in the fixed frame, ``truth`` sends them."""
    other, motion = copy(fixed, moving, number)
    wall, cpu = time.perf_counter(), time.process_time()
    result = None
    if method == "ants":
        matrix = by_ants(fixed, other)
    else:
        result = register(fixed, other, **settings)
        matrix = result.matrix
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    off = matrix - motion @ truth
    error = np.linalg.norm(points @ off[:3, :3].T + off[:3, 3], axis=1)
    return {
        "copy": number,
        "method": method,
        "median_mm": float(np.median(error)),
        "max_mm": float(error.max()),
        "verdict": result.verdict if result else "",
        "measures": result.measures if result else {},
        "wall_s": wall,
        "cpu_s": cpu,
    }


def summary(rows: list[dict], method: str, settings: dict) -> str:
    """What came of a method; verdicts are made anew of the recorded measures, so that limits set
    elsewhere can be applied to a finished run."""
    rows = [row for row in rows if row["method"] == method]
    if not rows:
        return f"{method}: none"
    right = [row for row in rows if row["median_mm"] < RIGHT_MM]
    text = f"{method}: {len(right)} of {len(rows)} right ({len(right) / len(rows):.1%})"
    if method == "ours":
        for row in rows:
            if row["verdict"] != "failed":
                row["verdict"] = judge(row["measures"], Settings.read(settings))[0]
        accepted = sum(row["verdict"] == "accepted" for row in right)
        wrong = sum(row["verdict"] == "accepted" for row in rows) - accepted
        text += f"; accepted: {accepted} right, {wrong} wrong"
    middle = np.median([row["median_mm"] for row in right]) if right else np.nan
    cpu = [row["cpu_s"] for row in rows]
    return f"{text}; right ones' median {middle:.2f} mm; CPU {np.mean(cpu):.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--methods", nargs="*", default=["ours", "ants"])
    parser.add_argument("--fixed", choices=["mr", "ct"], default="mr")
    parser.add_argument("--out", type=Path, default=Path("disturbed.jsonl"))
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON, as in the config")
    options = parser.parse_args()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    ct, mr, truth, points = head(options.shared / "data/rire_001")
    fixed, moving = ct, mr
    if options.fixed == "mr":
        points = points @ truth[:3, :3].T + truth[:3, 3]
        fixed, moving, truth = mr, ct, np.linalg.inv(truth)
    rows = []
    if options.out.exists():
        rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    done = {(row["copy"], row["method"]) for row in rows}
    with options.out.open("a") as handle:
        for method in options.methods:
            for number in range(options.first, options.first + options.count):
                if (number, method) in done:
                    continue
                row = one(fixed, moving, truth, points, number, method, options.settings)
                rows.append(row)
                handle.write(json.dumps(row) + "\n")
                handle.flush()
    for method in options.methods:
        print(summary(rows, method, options.settings))


if __name__ == "__main__":
    main()
