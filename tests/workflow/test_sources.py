"""Input that is no tree of DICOM: volumes of a public data set, some of them in an archive."""

import tarfile

import numpy as np
import SimpleITK as sitk
import yaml

from mrsynth import pseudonym

STUDY = {
    "dicom": [],
    "volumes": ["bids"],
    "key_hex": "8d02b14f61eca9b69a6588ecbfbb41d3",
    "images": {
        "t1": {"modality": "MR", "weighting": "T1"},
        "t2": {"modality": "MR", "weighting": "T2"},
    },
    "tasks": {"mr": {"source": "t1", "target": "t2", "alignment": "none", "models": {"gan": {}}}},
    "pick": {"slices": "all"},
    "pack": {"crop": "none"},
}


def write(folder, name: str, seed: int) -> None:
    """A volume of a bright block in noise."""
    path = folder / "bids" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 60, (6, 40, 40)).astype(np.int16)
    values[:, 8:32, 8:32] += 400
    image = sitk.GetImageFromArray(values)
    image.SetOrigin((-20, -20, 5))
    image.SetSpacing((1, 1, 4))
    sitk.WriteImage(image, str(path), useCompression=False)


def test_volumes_run_from_their_tree_to_the_slices(make_checkout, tmp_path):
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(STUDY))
    folder = tmp_path / "study"
    folder.mkdir()
    study = make_checkout(folder, config)
    for number in (1, 2, 3):
        for weighting in ("T1w", "T2w"):
            write(folder, f"sub-{number}/anat/sub-{number}_{weighting}.nii", number)
    with tarfile.open(folder / "bids/three.tar.gz", "w:gz") as archive:
        archive.add(folder / "bids/sub-3", "sub-3")
    for path in sorted((folder / "bids/sub-3").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    lines = ["path\tsubject\tframe"]
    for number in (1, 2):
        names = [f"sub-{number}/anat/sub-{number}_{end}.nii" for end in ("T1w", "T2w")]
        lines += [f"{name}\t{number}\tscanner" for name in names]
    (folder / "config/volumes.tsv").write_text("\n".join(lines) + "\n")

    study.snakemake("cohort")
    table = (folder / "results/cohort/cohort.tsv").read_text().splitlines()[1:]
    pairs = [line.split("\t")[1] for line in table if "\tincluded\t" in line]
    assert len(pairs) == 2, "the sheet gives two of three pairs a frame"
    assert sum("\tFRAME\t" in line for line in table) == 1, "the third has none"
    first = pseudonym.subject(bytes.fromhex(STUDY["key_hex"]), "1")
    (second,) = set(pairs) - {first}
    targets = [f"results/convert/sub-{second}_{image}.json" for image in ("t1", "t2")]
    targets.append(f"results/crop/mr/sub-{first}.npz")
    ran = study.executed(*targets)
    assert sorted(ran["convert"]) == sorted(f"sub-{s}_{i}" for s in pairs for i in ("t1", "t2"))
    crops = np.load(folder / f"results/crop/mr/sub-{first}.npz")
    assert len(crops["source"]) == 6

    path = folder / "bids/sub-1/anat/sub-1_T1w.nii"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    study.snakemake("cohort")
    ran = study.executed(*targets[:2], f"results/convert/sub-{first}_t1.json")
    assert ran == {"convert": [f"sub-{first}_t1"]}, "one image was rewritten"
    private = [oct(p.stat().st_mode & 0o777) for p in (folder / "private").rglob("*.t*")]
    assert set(private) == {"0o600"}
