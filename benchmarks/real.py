"""Registration error of the example study's RIRE head against the project's fiducial truth.

    python benchmarks/real.py studies/real --shared ../shared

Reads ``results/register/real`` of a finished ``config/examples/real.yaml``. The RIRE subject is
known by its grid (256×256×26 voxels of 1.25×1.25×4 mm); 500 random points of the head are sent
from MR to CT by the registration, and by the inverse of the truth, which maps CT to MR points.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from mrsynth.geometry import apply
from mrsynth.volume import affine, read_volume, to_array
from mrsynth.warp import body, linear_matrix

SIZE = (256, 256, 26)
TRUTH = "data/rire_001/training_001_ct_to_mr_T1_ground_truth.tfm"


def main() -> None:
    """Print verdicts of all subjects and the error of RIRE's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    options = parser.parse_args()
    truth = linear_matrix(sitk.ReadTransform(str(options.shared / TRUTH)))
    for path in sorted((options.study / "results/register/real").glob("*.json")):
        record = json.loads(path.read_text())
        measures = {k: v for k, v in record["measures"].items() if isinstance(v, float)}
        print(path.stem, record["verdict"], {k: round(v, 2) for k, v in measures.items()})
        mr = read_volume(options.study / f"results/convert/{path.stem}_mr.nii.gz")
        if mr.GetSize() == SIZE:
            error = head_error(mr, np.array(record["matrix"]), np.linalg.inv(truth))
            print(
                f"  RIRE 001: median {np.median(error):.2f} mm, maximum {error.max():.2f} mm over "
                f"{len(error)} points of the head"
            )


def head_error(mr: sitk.Image, matrix: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance [500] in mm between where two transforms send points of the head, MR to CT."""
    index = np.argwhere(to_array(body(mr)) > 0)[:, ::-1]
    index = index[np.random.default_rng(0).choice(len(index), 500, replace=False)]
    points = apply(affine(mr), index)
    return np.linalg.norm(apply(matrix, points) - apply(truth, points), axis=1)


if __name__ == "__main__":
    main()
