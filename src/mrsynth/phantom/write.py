"""Raw DICOM and truth of a phantom on disk."""

from pathlib import Path

import pandas as pd

from mrsynth import job, volume
from mrsynth.phantom import dicomwrite
from mrsynth.phantom.anatomy import stream
from mrsynth.phantom.subject import Subject, simulate


def make(
    number: int,
    folder: str | Path,
    truth: str | Path,
    *,
    subjects: int = 16,
    tissue_ct: bool = False,
    **cfg,
) -> dict:
    """Simulate a subject and write it.

    Args:
        number: Of the subject in the cohort, from 1.
        folder: Gets the raw DICOM, under meaningless file names.
        truth: Gets ``truth.json``, ``points.tsv`` and the tissue maps. The pipeline never reads it.
        subjects: Size of the cohort: only the workflow needs it. No subject depends on it.
        tissue_ct: Write the CT's tissue map as well (large).
        **cfg: Settings of :func:`mrsynth.phantom.simulate`.

    Returns:
        Counts for the record: ``files``, ``series``, ``lesions``.
    """
    subject = simulate(number, **cfg)
    seed = cfg.get("seed", simulate.__kwdefaults__["seed"])
    datasets = dicomwrite.datasets(subject, stream(seed, number, "dicom"))
    files = dicomwrite.write_datasets(datasets, folder, stream(seed, number, "names"))
    write_truth(subject, truth, tissue_ct)
    return {
        "files": files,
        "series": sorted(subject.images),
        "lesions": len(subject.truth["lesions"]),
    }


def write_truth(subject: Subject, folder: str | Path, tissue_ct: bool = False) -> None:
    """Write ``truth.json``, ``points.tsv`` (mm, LPS) and ``tissue_*.nii.gz`` (labels)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    job.write_json(subject.truth, folder / "truth.json")
    table = pd.DataFrame(subject.points)
    table.to_csv(folder / "points.tsv", sep="\t", index=False, float_format="%.4f")
    for stack, image in enumerate(subject.tissues.get("t2ax", []), start=1):
        volume.write_volume(image, folder / f"tissue_t2ax-{stack}.nii.gz")
    if tissue_ct and "ct" in subject.tissues:
        volume.write_volume(subject.tissues["ct"][0], folder / "tissue_ct.nii.gz")
