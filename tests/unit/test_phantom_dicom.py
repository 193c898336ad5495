"""`phantom`: what is on disk is valid DICOM, true to memory, and awkward where it should be."""

import runpy
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk

from mrsynth import job, phantom, volume

COARSE = {
    "ct_pixel_mm": 5.0,
    "ct_slice_mm": 8.0,
    "mr_pixel_mm": 2.5,
    "sagittal_pixel_mm": 5.0,
    "blocks_max": 3,
    "block_slices_max": 3,
}


def read(folder):
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return [(path, pydicom.dcmread(path)) for path in files]


def make(folder, number=3, **settings):
    phantom.make(number, folder / "dicom", folder / "truth", **(COARSE | settings))
    return [dataset for _, dataset in read(folder / "dicom")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    make(folder, awkward={"localizer": [3]}, lesion_share=1.0, tissue_ct=True)
    return folder


def days(datasets):
    dates = {d.Modality: datetime.strptime(d.StudyDate, "%Y%m%d") for d in datasets}
    return abs((dates["MR"] - dates["CT"]).days)


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
def test_dciodvfy_finds_no_error(whole):
    seen = set()
    for path, dataset in read(whole / "dicom"):
        if dataset.SeriesInstanceUID in seen:
            continue
        seen.add(dataset.SeriesInstanceUID)
        # The exit code is 0 whatever is wrong.
        result = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        text = result.stdout + result.stderr
        assert not [line for line in text.splitlines() if line.startswith("Error")], text
        assert dataset.Modality in text or "Image" in text
    assert len(seen) == 8


@pytest.mark.skipif(not shutil.which("dcentvfy"), reason="dicom3tools is not installed")
def test_dcentvfy_finds_no_contradiction(whole):
    paths = [str(path) for path, _ in read(whole / "dicom")]
    result = subprocess.run(["dcentvfy", *paths], capture_output=True, text=True)
    text = result.stdout + result.stderr
    assert not [line for line in text.splitlines() if line.startswith("Error")], text


def test_series_studies_and_frames(whole):
    datasets = [dataset for _, dataset in read(whole / "dicom")]
    assert {d.Modality for d in datasets} == {"CT", "MR", "CR"}
    axial = [d for d in datasets if d.get("SeriesDescription") == "t2_tse_tra"]
    assert len({d.SeriesInstanceUID for d in axial}) == 1
    assert len({tuple(d.ImageOrientationPatient) for d in axial}) == 3
    assert len({d.FrameOfReferenceUID for d in datasets if d.Modality == "MR"}) == 1
    frames = {d.Modality: d.FrameOfReferenceUID for d in datasets if d.Modality != "CR"}
    assert frames["CT"] != frames["MR"]
    assert len({d.SOPInstanceUID for d in datasets}) == len(datasets)
    assert {str(d.PatientName) for d in datasets} == {"Phantom^0003"}
    assert days(datasets) <= 3
    for dataset in datasets:
        for element in (
            dataset.SOPInstanceUID,
            dataset.SeriesInstanceUID,
            dataset.StudyInstanceUID,
        ):
            assert pydicom.uid.UID(element).is_valid
    ir = [d for d in datasets if "InversionTime" in d]
    assert {d.SeriesDescription for d in ir} == {"STIR_sag", "t2_tirm_sag"}


def test_file_names_say_nothing(whole):
    files = read(whole / "dicom")
    order = [d.InstanceNumber for _, d in files if d.Modality == "CT"]
    assert order != sorted(order)
    assert not any(
        kind in path.name.lower() for path, _ in files for kind in ("ct", "mr", "phantom")
    )


def test_ct_on_disk_is_the_ct_in_memory(whole):
    image = phantom.simulate(3, series=["ct"], **COARSE).images["ct"][0]
    slices = [dataset for _, dataset in read(whole / "dicom") if dataset.Modality == "CT"]
    slices.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    hu = np.stack(
        [d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices]
    )
    assert np.array_equal(hu, sitk.GetArrayFromImage(image))
    assert [float(v) for v in slices[0].ImagePositionPatient] == pytest.approx(image.GetOrigin())
    assert [float(v) for v in slices[0].PixelSpacing] == pytest.approx([5, 5])
    assert float(slices[0].SliceThickness) == pytest.approx(8)
    step = np.diff([float(d.ImagePositionPatient[2]) for d in slices])
    assert step == pytest.approx(8, abs=1e-3)


def test_blocks_on_disk_have_their_geometry(whole):
    stacks = phantom.simulate(3, series=["t2ax"], lesion_share=1.0, **COARSE).images["t2ax"]
    files = [d for _, d in read(whole / "dicom") if d.get("SeriesDescription") == "t2_tse_tra"]
    files.sort(key=lambda d: d.InstanceNumber)
    assert len(files) == sum(stack.GetDepth() for stack in stacks)
    for stack in stacks:
        matrix = volume.affine(stack)
        for index in range(stack.GetDepth()):
            dataset = files.pop(0)
            corner = matrix @ [0, 0, index, 1]
            assert [float(v) for v in dataset.ImagePositionPatient] == pytest.approx(
                corner[:3], abs=1e-4
            )
            row = np.array(dataset.ImageOrientationPatient[:3], float)
            assert row == pytest.approx(matrix[:3, 0] / 2.5, abs=2e-6)
            assert np.array_equal(dataset.pixel_array, sitk.GetArrayFromImage(stack)[index])


def test_truth_is_complete(whole):
    truth = job.read_json(whole / "truth" / "truth.json")
    assert [disc["level"] for disc in truth["discs"]][-2:] == ["L4-L5", "L5-S1"]
    assert {"canal_ct_mm", "canal_mr_mm", "mr_to_ct", "tissues", "age_years", "sex"} <= set(truth)
    assert truth["lesions"]
    points = pd.read_csv(whole / "truth" / "points.tsv", sep="\t")
    assert list(points) == ["stack", "kind", "mr_x", "mr_y", "mr_z", "ct_x", "ct_y", "ct_z"]
    assert set(points.kind) == {"disc", "bone", "canal", "muscle"}
    centres = {disc["level"]: disc["mr"]["centre_mm"] for disc in truth["discs"]}
    for stack, rows in points.groupby("stack"):
        centre = np.array(centres[truth["blocks"][stack - 1]])
        away = np.linalg.norm(rows[["mr_x", "mr_y", "mr_z"]].to_numpy() - centre, axis=1)
        assert away.max() <= 35.001
    maps = sorted(path.name for path in (whole / "truth").glob("tissue_*"))
    assert maps == ["tissue_ct.nii.gz", *(f"tissue_t2ax-{n}.nii.gz" for n in (1, 2, 3))]


def test_awkward_interval_and_halves(tmp_path):
    series = ["ct", "t2ax"]
    long = make(tmp_path / "long", awkward={"interval": [3]}, series=series)
    assert days(long) > 3
    only = make(tmp_path / "ct", awkward={"ct_only": [3], "mr_only": [4]}, series=series)
    assert {d.Modality for d in only} == {"CT"}
    only = make(tmp_path / "mr", awkward={"mr_only": [3]}, series=series)
    assert {d.Modality for d in only} == {"MR"}


def test_awkward_missing_slice_and_localizer(tmp_path):
    datasets = make(tmp_path, awkward={"missing_slice": [3], "localizer": [3]}, series=["ct"])
    z = sorted(float(d.ImagePositionPatient[2]) for d in datasets if d.Modality == "CT")
    steps = np.diff(z)
    assert np.sum(np.isclose(steps, 16, atol=1e-3)) == 1
    assert np.sum(np.isclose(steps, 8, atol=1e-3)) == len(steps) - 1
    planes = [d for d in datasets if "LOCALIZER" in d.ImageType]
    assert len(planes) == 3
    assert len({tuple(d.ImageOrientationPatient) for d in planes}) == 3


def test_two_runs_write_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        phantom.make(
            5, tmp_path / name / "d", tmp_path / name / "t", **COARSE, series=["ct", "t2ax"]
        )
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("I*")}
        for n in ("a", "b")
    )
    assert one
    assert one == two


def test_adapter(tmp_path):
    script = Path(__file__).parents[2] / "workflow" / "scripts" / "phantom.py"

    class Named(dict):
        __getattr__ = dict.__getitem__

    snakemake = SimpleNamespace(
        log=[str(tmp_path / "logs" / "phantom.log")],
        params=SimpleNamespace(cfg={**COARSE, "series": ["ct"], "subjects": 2}),
        input=[],
        output=Named(dicom=str(tmp_path / "dicom" / "2"), truth=str(tmp_path / "truth" / "2")),
        wildcards=Named(phantom="2"),
        rule="phantom",
        threads=1,
        resources=SimpleNamespace(),
    )
    runpy.run_path(str(script), init_globals={"snakemake": snakemake})
    assert read(tmp_path / "dicom" / "2")
    assert (tmp_path / "truth" / "2" / "truth.json").exists()
