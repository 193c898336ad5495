"""Right and wrong lumbar pairs of known truth: what is accepted, what is not.

    python benchmarks/confusion.py run --split test --cache cache --out test.jsonl
    python benchmarks/confusion.py table test.jsonl

Each case is a CT and the axial T2 blocks of a phantom, spoiled in one known way (:data:`KINDS`),
and registered as the workflow does, with the CT's true discs and canal as landmarks. Phantoms of
the two splits are drawn from different seeds: thresholds may be looked for on ``calibration``,
never on ``test``. One line of JSON per case; a run goes on where the last one stopped.

A stack's result is *right* when the error over the truth's points (within 35 mm of the block's
disc) is below 2 mm in the median and below 5 mm at the 95th percentile. Where the pair has no right
answer (another patient, a mirrored image, another part of the body), every result is wrong.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import SimpleITK as sitk
from otherparts import chest, skull
from scipy import stats
from scipy.spatial.transform import Rotation

from mrsynth import job, phantom
from mrsynth.geometry import apply
from mrsynth.register import register_stacks
from mrsynth.register.settings import Settings
from mrsynth.register.verdict import judge
from mrsynth.volume import affine, from_array, read_stacks, to_array, write_stacks

SEEDS = {"calibration": 41_000, "test": 97_000}
"""Seeds of the cohorts; 20200 is the demo's, on which the method grew up."""

RIGHT_MEDIAN_MM, RIGHT_P95_MM = 2.0, 5.0

PHANTOM = {
    "series": ["ct", "t2ax"],
    "ct_pixel_mm": 2.0,
    "ct_slice_mm": 2.5,
    "mr_pixel_mm": 1.6,
    "blocks_min": 3,
    "blocks_max": 3,
    "block_slices_min": 3,
    "block_slices_max": 4,
}
"""Coarse enough for few seconds a case, finer than the registration's first two levels."""

SETTINGS = {
    "levels_mm": [5.0, 2.5],
    "samples": [4000, 8000],
    "candidates": 12,
    "block_samples": 8000,
}
"""Less than the defaults, for the same reason; all thresholds are the defaults."""

BENT_DEG = (4.0, 7.0)
"""Change of angle per disc in the lordosis cases (the demo's is 2°); phantoms bend up to 4° a
disc, up to 16° over the blocks."""

SUBJECTS = 48
"""Phantoms of a split; a case takes one, or two."""

VERDICTS = ("accepted", "review", "failed")


@dataclass(frozen=True)
class Pair:
    """A case.

    Attributes:
        stacks: MR blocks, fixed.
        ct: Moving.
        landmarks: Disc centres and canal points [n, 3] in the CT.
        aim: Where the blocks are expected [3] in the CT.
        points: Per block, points [n, 3] in the MR's frame, LPS mm.
        truth: Their places in the CT; None where there is no right answer.
        levels: The blocks' levels.
        note: What was done, in numbers.
    """

    stacks: list[sitk.Image]
    ct: sitk.Image
    landmarks: np.ndarray
    aim: np.ndarray
    points: list[np.ndarray]
    truth: list[np.ndarray] | None
    levels: list[str] = field(default_factory=list)
    note: dict = field(default_factory=dict)


def read_pair(cache: Path, seed: int, number: int, **changes) -> Pair:
    """A phantom's right pair, simulated once and kept."""
    extra = "".join(f"_{value:g}" for value in changes.values())
    folder = cache / f"{seed}-{number}{extra}"
    if not (folder / "truth.json").exists():
        subject = phantom.simulate(number, seed=seed, **PHANTOM, **changes)
        for name, stacks in subject.images.items():
            write_stacks([sitk.Cast(one, sitk.sitkFloat32) for one in stacks], folder, name)
        np.savez(folder / "points.npz", **subject.points)
        job.write_json(subject.truth, folder / "truth.json")
    truth, table = job.read_json(folder / "truth.json"), np.load(folder / "points.npz")
    discs = np.array([disc["ct"]["centre_mm"] for disc in truth["discs"]])
    mr, ct = (
        np.stack([table[f"{side}_{axis}"] for axis in "xyz"], axis=1) for side in ("mr", "ct")
    )
    rows = [table["stack"] == number for number in range(1, len(truth["blocks"]) + 1)]
    return Pair(
        read_stacks(folder, "t2ax"),
        read_stacks(folder, "ct")[0],
        np.concatenate([discs, truth["canal_ct_mm"]]),
        discs.mean(axis=0),
        [mr[row] for row in rows],
        [ct[row] for row in rows],
        truth["blocks"],
    )


def moved(pair: Pair, matrix: np.ndarray) -> Pair:
    """The blocks' headers moved by a rigid 4×4."""
    stacks = [from_array(to_array(stack), matrix @ affine(stack)) for stack in pair.stacks]
    return replace(pair, stacks=stacks, points=[apply(matrix, points) for points in pair.points])


def fitted(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The rigid pose with the least squared error (Kabsch 1976)."""
    one, other = points.mean(0), truth.mean(0)
    turn, _ = Rotation.align_vectors(truth - other, points - one)
    return rigid(turn.as_matrix(), other - turn.as_matrix() @ one)


def rigid(turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """4×4 of a rotation and a shift."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, shift
    return matrix


def aligned(pair: Pair) -> Pair:
    """The MR in the CT's frame, as a header that is right would have it."""
    return moved(pair, fitted(np.concatenate(pair.points), np.concatenate(pair.truth)))


def direction(rng) -> np.ndarray:
    """A random unit vector."""
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def turned(pair: Pair, angle_deg: float, axis, shift) -> Pair:
    """The MR turned about its blocks' centre, and shifted."""
    centre = np.concatenate(pair.points).mean(axis=0)
    turn = Rotation.from_rotvec(np.radians(angle_deg) * np.asarray(axis)).as_matrix()
    return moved(pair, rigid(turn, centre - turn @ centre + shift))


def neighbour(pair: Pair, level: str, sign: int) -> np.ndarray:
    """The way from a disc to the next one up (1) or down (−1) the spine, mm in the CT."""
    names = ["T11-T12", "T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1"]
    at = names.index(level)
    other = at - sign if 0 <= at - sign < len(names) else at + sign
    way = pair.landmarks[other] - pair.landmarks[at]
    return way if other == at - sign else -way


def kept_ct(pair: Pair, low, high) -> Pair:
    """The CT cut to a box (shares of its size), with the landmarks that are left."""
    size = np.array(pair.ct.GetSize())
    first, last = (np.round(np.array(ends) * size).astype(int) for ends in (low, high))
    ct = sitk.RegionOfInterest(pair.ct, (last - first).tolist(), first.tolist())
    index = apply(np.linalg.inv(affine(ct)), pair.landmarks)
    inside = np.all((index >= 0) & (index <= np.array(ct.GetSize()) - 1), axis=1)
    # A CT without a landmark still has a body, which is then searched.
    landmarks = pair.landmarks[inside]
    aim = landmarks.mean(axis=0) if len(landmarks) else None
    return replace(pair, ct=ct, landmarks=landmarks, aim=aim)


def plain(rng, pair, _):
    """As simulated: two unrelated frames."""
    return pair


def offset(rng, pair, _):
    """Header wrong by 5 to 30° and 10 to 40 mm (C44)."""
    angle, length = rng.uniform(5, 30), rng.uniform(10, 40)
    changed = turned(aligned(pair), angle, direction(rng), length * direction(rng))
    return replace(changed, note={"angle_deg": angle, "shift_mm": length})


def level(rng, pair, _):
    """Header and expected place wrong by one vertebra along the spine."""
    sign = int(rng.choice([-1, 1]))
    way = neighbour(pair, pair.levels[len(pair.levels) // 2], sign)
    changed = turned(aligned(pair), rng.uniform(0, 5), direction(rng), way)
    place = np.concatenate(changed.points).mean(axis=0)
    return replace(changed, aim=place, note={"vertebrae": sign})


def single(rng, pair, _):
    """One block alone, expected one vertebra off."""
    at = int(rng.integers(len(pair.stacks)))
    sign = int(rng.choice([-1, 1]))
    place = pair.truth[at].mean(axis=0) + neighbour(pair, pair.levels[at], sign)
    return replace(
        pair,
        stacks=[pair.stacks[at]],
        points=[pair.points[at]],
        truth=[pair.truth[at]],
        levels=[pair.levels[at]],
        aim=place,
        note={"vertebrae": sign},
    )


def quarter(rng, pair, _):
    """Header wrong by 90 or 180° about an axis of the body (C45)."""
    angle, axis = float(rng.choice([90, 180])), int(rng.integers(3))
    changed = turned(aligned(pair), angle, np.eye(3)[axis], rng.uniform(-20, 20, 3))
    return replace(changed, note={"angle_deg": angle, "axis": "xyz"[axis]})


def noise(rng, pair, _):
    """Noise of 60 to 90 HU, and of 6 to 10 % of the brightest tissue in MR."""
    hu, share = rng.uniform(60, 90), rng.uniform(0.06, 0.1)

    def grainy(stack):
        array = to_array(stack)
        sigma = share * np.percentile(array, 99)
        real, imaginary = sigma * rng.standard_normal((2, *array.shape))
        return from_array(np.hypot(array + real, imaginary).astype(np.float32), affine(stack))

    array = to_array(pair.ct)
    ct = from_array(
        (array + hu * rng.standard_normal(array.shape)).astype(np.float32), affine(pair.ct)
    )
    note = {"noise_hu": hu, "noise_share": share}
    return replace(pair, ct=ct, stacks=[grainy(stack) for stack in pair.stacks], note=note)


def cut(rng, pair, _):
    """A part of the CT's or the MR's field is missing (C45); the lowest blocks may be outside."""
    side = str(rng.choice(["ct low", "ct high", "ct left", "ct front", "mr left"]))
    share = rng.uniform(0.15, 0.35)
    low, high = np.zeros(3), np.ones(3)
    if side == "mr left":
        stacks = []
        for stack in pair.stacks:
            size = stack.GetSize()
            width = int(size[0] * (1 - share))
            stacks.append(sitk.RegionOfInterest(stack, [width, *size[1:]], [0, 0, 0]))
        return replace(pair, stacks=stacks, note={"side": side, "share": share})
    axis = {"low": 2, "high": 2, "left": 0, "front": 1}[side.split()[1]]
    # Indices run to the left, to the back and up.
    if side in ("ct low", "ct front"):
        low[axis] = share
    else:
        high[axis] = 1 - share
    return replace(kept_ct(pair, low, high), note={"side": side, "share": share})


def patient(rng, pair, other):
    """The CT of one, the MR of another."""
    return replace(
        pair,
        stacks=other.stacks,
        points=other.points,
        truth=None,
        levels=other.levels,
    )


def mirrored(rng, pair, _):
    """The MR with left and right exchanged."""
    mirror = np.diag([-1.0, 1, 1, 1])
    stacks = []
    for stack in pair.stacks:
        matrix = mirror @ affine(stack)
        # Counted from the other end, the rows give a right-handed grid of the same image.
        matrix[:3, 3] += matrix[:3, 0] * (stack.GetSize()[0] - 1)
        matrix[:3, 0] *= -1
        stacks.append(from_array(to_array(stack)[:, :, ::-1], matrix))
    points = [apply(mirror, points) for points in pair.points]
    return replace(pair, stacks=stacks, points=points, truth=None)


def disjoint(rng, pair, _):
    """The CT ends above the blocks: vertebrae, but not those of the MR."""
    top = max(points[:, 2].max() for points in pair.truth)
    share = apply(np.linalg.inv(affine(pair.ct)), np.array([[0, 0, top]]))[0, 2]
    share = share / pair.ct.GetSize()[2]
    return replace(kept_ct(pair, (0, 0, min(share, 0.8)), (1, 1, 1)), truth=None)


def thorax(rng, pair, _):
    """The CT of a chest: vertebrae of another size, lungs, ribs."""
    ct, landmarks = chest(rng)
    return replace(pair, ct=ct, landmarks=landmarks, aim=landmarks.mean(axis=0), truth=None)


def head(rng, pair, _):
    """The CT of a head, without landmarks."""
    return replace(pair, ct=skull(rng), landmarks=np.zeros((0, 3)), aim=None, truth=None)


KINDS = {
    "plain": (plain, 16),
    "offset": (offset, 30),
    "level": (level, 24),
    "single": (single, 16),
    "lordosis": (plain, 24),
    "quarter": (quarter, 16),
    "noise": (noise, 16),
    "cut": (cut, 20),
    "patient": (patient, 30),
    "mirrored": (mirrored, 30),
    "disjoint": (disjoint, 16),
    "thorax": (thorax, 10),
    "head": (head, 8),
}
"""What is spoiled, and in how many cases."""

WRONG = (patient, mirrored, disjoint, thorax, head)
"""Those without a right answer."""


def cases(kinds) -> list[tuple[str, int, int]]:
    """Kind, its number within the kind and the phantom's number, kinds in turn: a run that is cut
    off has some of each."""
    found = []
    for turn in range(max(count for _, count in KINDS.values())):
        for order, (kind, (_, count)) in enumerate(KINDS.items()):
            if turn < count and kind in kinds:
                found.append((kind, turn, 1 + (7 * order + turn) % SUBJECTS))
    return found


def make(kind: str, number: int, subject: int, seed: int, cache: Path) -> Pair:
    """A case's pair; the same arguments give the same pair."""
    rng = np.random.default_rng([seed, number, *kind.encode()])
    changes = {"level_change_deg": float(rng.uniform(*BENT_DEG))} if kind == "lordosis" else {}
    pair = read_pair(cache, seed, subject, **changes)
    other = read_pair(cache, seed, 1 + subject % SUBJECTS) if kind == "patient" else None
    return KINDS[kind][0](rng, pair, other)


def judged(pair: Pair, settings: dict) -> dict:
    """Register a pair and hold the result against the truth."""
    start = time.process_time()
    landmarks = pair.landmarks if len(pair.landmarks) else None
    whole, single = register_stacks(pair.stacks, pair.ct, roi=landmarks, aim=pair.aim, **settings)
    seconds = time.process_time() - start
    entries = []
    for order, result in enumerate(single):
        entry = {
            "level": pair.levels[order],
            "verdict": result.verdict,
            "right": False,
            "measures": result.measures,
        }
        if pair.truth is not None:
            apart = apply(result.matrix, pair.points[order]) - pair.truth[order]
            error = np.linalg.norm(apart, axis=1)
            entry |= {"median_mm": np.median(error), "p95_mm": np.percentile(error, 95)}
            entry["right"] = bool(
                entry["median_mm"] < RIGHT_MEDIAN_MM and entry["p95_mm"] < RIGHT_P95_MM
            )
        entries.append(entry)
    return {
        "note": pair.note,
        "verdict": whole.verdict,
        "measures": whole.measures,
        "stacks": entries,
        "cpu_s": seconds,
    }


def run(options) -> None:
    """Register the cases that the output doesn't hold yet."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    done = {(line["kind"], line["number"]) for line in read_lines(options.out)}
    seed = SEEDS[options.split]
    for kind, number, subject in cases(options.kinds):
        if (kind, number) in done or number >= options.most:
            continue
        pair = make(kind, number, subject, seed, options.cache)
        line = {"kind": kind, "number": number, "subject": subject, "split": options.split}
        line |= judged(pair, SETTINGS | options.settings)
        with open(options.out, "a") as handle:
            handle.write(json.dumps(line, default=lambda value: value.tolist()) + "\n")


def read_lines(path: Path) -> list[dict]:
    """The cases of a run; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def read_runs(paths: list[Path]) -> list[dict]:
    """The cases of several runs, each case once."""
    lines = [line for path in paths for line in read_lines(path)]
    return list({(line["kind"], line["number"]): line for line in lines}.values())


def upper_bound(count: int, total: int, level: float = 0.95) -> float:
    """One-sided upper bound of a share (Clopper & Pearson 1934)."""
    return 1.0 if count >= total else float(stats.beta.ppf(level, count + 1, total - count))


def table(options) -> None:
    """Print the confusion table of stacks, and the cases with a stack wrong and accepted."""
    lines = read_runs(options.runs)
    if options.again:
        for stack in stacks(lines, True) + stacks(lines, False):
            stack["verdict"] = judge(stack["measures"], Settings())[0]
    names = [f"{side} {verdict}" for side in ("right", "wrong") for verdict in VERDICTS]
    print(f"| pair | cases | {' | '.join(names)} | cases with a stack wrong and accepted |")
    print("|---|" + "---:|" * (len(names) + 2))
    for kind in [*KINDS, None]:
        chosen = [line for line in lines if kind in (None, line["kind"])]
        if not chosen:
            continue
        counts = []
        for right in (True, False):
            for verdict in VERDICTS:
                counts.append(len(stacks(chosen, right, verdict)))
        false = sum(bool(stacks([line], False, "accepted")) for line in chosen)
        print(f"| {kind or 'all'} | {len(chosen)} | {' | '.join(map(str, counts))} | {false} |")
    false = sum(bool(stacks([line], False, "accepted")) for line in lines)
    at_risk = sum(bool(stacks([line], False)) for line in lines)
    right, kept = len(stacks(lines, True)), len(stacks(lines, True, "accepted"))
    print(
        f"\nFalse accepts: {false} of {len(lines)} cases (95 % upper bound "
        f"{upper_bound(false, len(lines)):.1%}), of {at_risk} cases with a wrong stack "
        f"{upper_bound(false, at_risk):.1%}. Right stacks accepted: {kept} of {right} "
        f"({kept / max(right, 1):.0%}). CPU seconds a case: median "
        f"{np.median([line['cpu_s'] for line in lines]):.1f}."
    )


def ranges(options) -> None:
    """Print how every gate's measure spreads over right and wrong stacks, for calibration."""
    values: dict[tuple[str, str], dict[bool, list[float]]] = {}
    for line in read_runs(options.runs):
        kind = line["kind"] if KINDS[line["kind"]][0] in WRONG else "right pairs"
        for stack in line["stacks"]:
            for gate in stack["measures"].get("gates") or []:
                entry = values.setdefault((gate["measure"], kind), {True: [], False: []})
                entry[stack["right"]].append(gate["value"])
    print("| measure | pair | result | stacks | least | 5 % | median | 95 % | most |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for (measure, kind), entry in sorted(values.items()):
        for right, found in entry.items():
            if found:
                spread = np.percentile(found, [0, 5, 50, 95, 100])
                cells = " | ".join(f"{value:.3g}" for value in spread)
                side = "right" if right else "wrong"
                print(f"| {measure} | {kind} | {side} | {len(found)} | {cells} |")


def stacks(lines: list[dict], right: bool, verdict: str | None = None) -> list[dict]:
    """The stacks of cases that are right or wrong, with a verdict or any."""
    found = [stack for line in lines for stack in line["stacks"] if stack["right"] is right]
    return [stack for stack in found if verdict in (None, stack["verdict"])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run", help="register the cases")
    running.add_argument("--split", choices=SEEDS, default="test")
    running.add_argument("--cache", type=Path, required=True, help="folder for the phantoms")
    running.add_argument("--out", type=Path, required=True, help="JSON lines, one per case")
    running.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    running.add_argument("--most", type=int, default=1000, help="cases per kind")
    running.add_argument(
        "--settings", type=json.loads, default={}, help="JSON, over those of the top"
    )
    running.set_defaults(work=run)
    showing = commands.add_parser("table", help="print the confusion table of a run")
    showing.add_argument("runs", type=Path, nargs="+")
    showing.add_argument("--again", action="store_true", help="judge by the thresholds of now")
    showing.set_defaults(work=table)
    spreading = commands.add_parser("ranges", help="print the spread of every gate's measure")
    spreading.add_argument("runs", type=Path, nargs="+")
    spreading.set_defaults(work=ranges)
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
