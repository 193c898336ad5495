"""Registration of digital heads, on which the thresholds for whole volumes were looked for.

    python benchmarks/heads.py --count 36 --out heads.jsonl

A head is nested ellipsoids of scalp, muscle, skull with marrow, CSF and a folded brain with
ventricles, orbits, sinuses and a lesion, none of them mirror-symmetric; the CT and MR of one head
lie on grids of their own, turned by up to 45° and shifted by up to 60 mm, of every third case a
quarter of the moving field cut away, every sixth a half turn more. Of the kinds ``patient`` (CT of
one head, MR of another) and ``mirrored`` (the MR left-right reversed) every result is wrong. One
JSON line per case.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import disturbed
import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mrsynth.geometry import apply
from mrsynth.register import register
from mrsynth.volume import affine, from_array, to_array

KINDS = ("plain", "plain", "plain", "patient", "mirrored", "noise")

#           air  scalp muscle bone marrow csf grey white lesion fluid
HU = np.array([-1000, -60, 55, 1100, 350, 10, 38, 28, 50, 5], float)
T1 = np.array([6, 420, 190, 12, 260, 70, 170, 240, 110, 60], float)
T2 = np.array([6, 250, 120, 12, 180, 420, 230, 180, 330, 430], float)
AIR, SCALP, MUSCLE, BONE, MARROW, CSF, GREY, WHITE, LESION, FLUID = range(10)


class Head:
    """Tissue at points of the head's frame (LPS mm, origin amid the brain)."""

    def __init__(self, seed: int):
        g = np.random.default_rng(seed)
        self.seed = seed
        self.half = np.array([72.0, 90.0, 78.0]) * g.uniform(0.94, 1.06, 3)
        self.scalp_mm, self.bone_mm = g.uniform(4, 7), g.uniform(5, 8)
        self.shape = g.uniform(0.85, 1.15, 8)
        self.side = g.uniform(-1, 1, (8, 3))
        noise = ndimage.gaussian_filter(g.standard_normal((70, 80, 66)), 1.7)
        self.folds = noise / noise.std()
        bulge = ndimage.gaussian_filter(g.standard_normal((70, 80, 66)), 9)
        self.bulge = bulge / bulge.std()

    def _field(self, noise, world):
        place = (world / 3.0 + np.array(noise.shape[::-1]) / 2)[..., ::-1]
        place = np.moveaxis(place, -1, 0)
        return ndimage.map_coordinates(noise, place, order=1, mode="nearest", output=np.float32)

    def tissue(self, world: np.ndarray) -> np.ndarray:
        """Tissue numbers at points [..., 3]."""

        def ball(centre, half):
            return (((world - centre) / half) ** 2).sum(-1)

        grown = 3.0 * self._field(self.bulge, world)
        radius = np.sqrt((world**2).sum(-1)) + 1e-6
        # Depth under the outer surface of the skull, in mm along the radius.
        depth = radius / np.sqrt(ball(0, self.half)) - radius + grown
        s, d = self.shape, self.side
        tissue = np.full(world.shape[:-1], AIR, np.uint8)
        jaw = ball(np.array([0, -25 + 6 * d[0, 1], -80]), np.array([58, 62, 60]) * s[0]) < 1
        neck = ball(np.array([3 * d[0, 0], 30, -110]), np.array([52, 52, 90])) < 1
        nose = ball(np.array([4 * d[1, 0], -100, -45]), np.array([14, 26, 24]) * s[1]) < 1
        tissue[jaw | neck | nose] = MUSCLE
        tissue[depth > -self.scalp_mm] = SCALP
        tissue[depth > 0] = BONE
        tissue[(depth > 2) & (depth < self.bone_mm - 2)] = MARROW
        brain = depth > self.bone_mm
        tissue[brain] = CSF
        fold = self._field(self.folds, world)
        cortex = brain & (depth - 1.5 * np.abs(fold) > self.bone_mm + 2)
        tissue[cortex] = GREY
        tissue[cortex & (depth + 4 * fold > self.bone_mm + 11)] = WHITE
        for number, x in enumerate((-13, 14)):
            way = np.array([x + 3 * d[2 + number, 0], 2 + 5 * d[2 + number, 1], 8])
            tissue[brain & (ball(way, np.array([7, 30, 13]) * s[2 + number]) < 1)] = FLUID
            eye = np.array([30 * np.sign(x) + 2 * d[4, 0], -82, -35 + 2 * d[4, number]])
            tissue[ball(eye, np.array([13, 13, 13])) < 1] = FLUID
        sinus = np.array([5 * d[5, 0], -78 + 3 * d[5, 1], -50])
        tissue[ball(sinus, np.array([20, 18, 16]) * s[5]) < 1] = AIR
        mastoid = np.array([62.0 * np.sign(d[6, 0]), 22, -48])
        tissue[ball(mastoid, np.array([10, 12, 12]) * s[6]) < 1] = AIR
        spine = ball(np.array([0, 38, -120]), np.array([18, 16, 60])) < 1
        tissue[spine] = BONE
        lesion = np.array([35, 30, 30]) * d[7]
        tissue[brain & (ball(lesion, np.array([9, 12, 8]) * s[7]) < 1)] = LESION
        return tissue

    def image(self, values, size, spacing, pose, noise, seed, mirrored=False) -> sitk.Image:
        """The head on a grid whose centre is the head's, its points sent into the head by
        ``pose``; each voxel the mean of four points across its slice."""
        g = np.random.default_rng(seed)
        matrix = np.diag([*spacing, 1.0])
        matrix[:3, 3] = -(np.array(size) - 1) / 2 * spacing + np.array([0, 0, -6.0])
        index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), -1)
        array = np.zeros(size, np.float32)
        for part in (-0.375, -0.125, 0.125, 0.375):
            world = apply(pose @ matrix, index + np.array([0, 0, part]))
            if mirrored:
                world = world * np.array([-1.0, 1, 1])
            array += values[self.tissue(world)].astype(np.float32) / 4
        array = array.transpose(2, 1, 0)
        if values is not HU:
            coil = ndimage.gaussian_filter(g.standard_normal(array.shape), (8, 25, 25))
            array = array * (1 + 0.15 * coil / np.abs(coil).max())
            other = noise * g.standard_normal(array.shape)
            array = np.hypot(array + noise * g.standard_normal(array.shape), other)
        else:
            array = array + noise * g.standard_normal(array.shape)
        return from_array(array.astype(np.float32), matrix)


def case(number: int, seed: int):
    """Fixed MR, moving CT, true pose (None: there is none), points of the fixed frame, kind."""
    g = np.random.default_rng(seed + number)
    kind = KINDS[number % len(KINDS)]
    head = Head(seed + 10 * number)
    other = Head(seed + 10 * number + 5) if kind == "patient" else head
    small = np.eye(4)
    small[:3, :3] = Rotation.from_rotvec(np.radians(g.uniform(-8, 8, 3))).as_matrix()
    small[:3, 3] = g.uniform(-12, 12, 3)
    thick = g.uniform(2.0, 4.5)
    slices = int(g.uniform(90, 160) / thick)
    noise = 60.0 if kind == "noise" else 12.0
    values = T1 if g.random() < 0.5 else T2
    mr = head.image(
        values, (112, 128, slices), (1.8, 1.8, thick), np.eye(4), noise, 1, kind == "mirrored"
    )
    thin = g.uniform(2.0, 4.5)
    count = int(g.uniform(90, 170) / thin)
    ct = other.image(HU, (112, 136, count), (1.8, 1.8, thin), np.linalg.inv(small), 15.0, 2)
    moving, motion = disturbed.copy(mr, ct, number + seed)
    truth = None if kind in ("patient", "mirrored") else motion @ small
    index = np.argwhere(to_array(mr) > 60)[:, ::-1]
    points = apply(affine(mr), index[g.choice(len(index), 500, replace=False)])
    return mr, moving, truth, points, kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=36)
    parser.add_argument("--seed", type=int, default=50_000)
    parser.add_argument("--out", type=Path, default=Path("heads.jsonl"))
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON, as in the config")
    options = parser.parse_args()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    rows = []
    if options.out.exists():
        rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    with options.out.open("a") as handle:
        for number in range(len(rows), options.count):
            mr, ct, truth, points, kind = case(number, options.seed)
            cpu = time.process_time()
            result = register(mr, ct, **options.settings)
            row = {"case": number, "kind": kind, "cpu_s": time.process_time() - cpu}
            if truth is not None:
                off = result.matrix - truth
                errors = np.linalg.norm(points @ off[:3, :3].T + off[:3, 3], axis=1)
                row["median_mm"] = float(np.median(errors))
            row |= {"verdict": result.verdict, "measures": result.measures}
            rows.append(row)
            handle.write(json.dumps(row) + "\n")
            handle.flush()
    for kind in sorted(set(KINDS)):
        some = [row for row in rows if row["kind"] == kind]
        right = [row for row in some if row.get("median_mm", np.inf) < disturbed.RIGHT_MM]
        taken = [row for row in some if row["verdict"] == "accepted"]
        wrong = sum(row not in right for row in taken)
        print(
            f"{kind}: {len(some)} cases, {len(right)} right, of these accepted "
            f"{len(taken) - wrong}; wrong and accepted {wrong}"
        )


if __name__ == "__main__":
    main()
