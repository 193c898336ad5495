"""Discs, sac and edges against the phantom's truth, variants of the anatomy, and a real CT."""

import inspect
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import locate as benchmark
import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from mrsynth import geometry, job, volume
from mrsynth.errors import Refusal, StudyError
from mrsynth.locate import Disc, Landmarks, figure, from_labels, locate
from mrsynth.phantom import simulate
from mrsynth.phantom.shapes import CSF
from mrsynth.phantom.signals import HU
from spinemake import POINTS, cylinders, markups

ROOT = Path(__file__).parents[2]
SHARED = Path(__file__).parents[3] / "shared"
COARSE = {"ct_pixel_mm": 1.2, "ct_slice_mm": 2.0}
LUMBAR = ["T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1"]


@pytest.fixture(scope="module")
def person():
    return simulate(1, series=["ct"], **COARSE)


@pytest.fixture(scope="module")
def ct(person):
    return person.images["ct"][0]


@pytest.fixture(scope="module")
def truth(person):
    return {disc["level"]: disc["ct"] for disc in person.truth["discs"]}


@pytest.fixture(scope="module")
def found(ct):
    return locate(ct)


def check(found, truth, matrix=None, named=True, near_mm=2.0, near_deg=3.0):
    """Every lumbar disc as near to the truth as that, and named as it is."""
    matrix = np.eye(4) if matrix is None else matrix
    for level in LUMBAR:
        centre = geometry.apply(matrix, truth[level]["centre_mm"])
        normal = geometry.apply_direction(matrix, truth[level]["normal"])
        disc = min(found.discs, key=lambda disc: np.linalg.norm(disc.centre_mm - centre))
        assert disc.level == (level if named else None)
        assert np.linalg.norm(disc.centre_mm - centre) < near_mm
        assert geometry.angle_deg(disc.normal, normal, oriented=True) < near_deg


def test_phantom_discs_are_found_and_named(found, truth):
    check(found, truth)
    assert [disc.level for disc in found.discs][-6:] == LUMBAR
    assert found.flags == []
    assert all(0 <= disc.confidence <= 1 for disc in found.discs)


def test_sac_and_edges_lie_where_the_phantom_has_them(found, person):
    canal = np.array(person.truth["canal_ct_mm"])
    widths = {disc["level"]: disc for disc in person.truth["discs"]}
    for level in LUMBAR:
        disc = found.disc(level)
        sac = geometry.cross_polyline(canal, disc.centre_mm, disc.normal)
        assert np.linalg.norm(disc.sac_mm - sac) < 3.0
        depth = np.linalg.norm(disc.ventral_mm - disc.centre_mm)
        assert abs(depth - widths[level]["half_depth_mm"]) < 3.0
        right, left = disc.lateral_mm
        assert left[0] > right[0]
        assert abs(np.linalg.norm(left - right) / 2 - widths[level]["half_width_mm"]) < 3.0
        for point in (disc.sac_mm, disc.ventral_mm, right, left):
            assert abs((point - disc.centre_mm) @ disc.normal) < 1e-6
        ahead = disc.ventral_mm - disc.sac_mm
        assert ahead[1] < -20


@pytest.mark.parametrize(("axis", "degrees"), [([1, 0, 0], 18), ([0, 1, 0], -18), ([0, 0, 1], 20)])
def test_a_turned_patient_makes_no_difference(ct, truth, axis, degrees):
    middle = np.array(truth["L3-L4"]["centre_mm"])
    matrix = geometry.rigid_from_axis(axis, degrees, middle, shift=[40, -25, 700])
    turned = volume.from_array(volume.to_array(ct), matrix @ volume.affine(ct))
    check(locate(turned), truth, matrix)


def test_storage_order_makes_no_difference(ct, found):
    stored = locate(sitk.DICOMOrient(ct, "ASR"))
    assert len(stored.discs) == len(found.discs)
    for one, other in zip(found.discs, stored.discs, strict=True):
        assert one.level == other.level
        assert np.linalg.norm(one.centre_mm - other.centre_mm) < 0.05


def test_without_the_sacrum_discs_are_unnamed_and_flagged(ct, truth):
    bottom = ct.TransformPhysicalPointToIndex(truth["L4-L5"]["centre_mm"])[2]
    cut = ct[:, :, bottom - round(15 / ct.GetSpacing()[2]) :]
    found = locate(cut)
    assert found.flags == ["NO_SACRUM"]
    assert {disc.level for disc in found.discs} == {None}
    for level in LUMBAR[:4]:
        nearest = min(
            np.linalg.norm(disc.centre_mm - truth[level]["centre_mm"]) for disc in found.discs
        )
        assert nearest < 2.0


def test_air_is_no_spine():
    empty = sitk.Image(60, 60, 60, sitk.sitkFloat32) - 1000.0
    empty.SetSpacing([3, 3, 3])
    with pytest.raises(Refusal, match="NO_SPINE"):
        locate(empty)


def test_a_block_of_bone_has_no_canal():
    values = np.full((60, 60, 60), -1000.0, np.float32)
    values[:, 20:40, 20:40] = 700.0
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([3, 3, 3])
    with pytest.raises(Refusal, match="NO_CANAL"):
        locate(image)


def test_a_higher_demand_leaves_all_discs_out_and_refuses(ct):
    with pytest.raises(Refusal, match="NO_DISC"):
        locate(ct, least_confidence=1.1)


def test_record_keeps_everything(found):
    again = Landmarks.from_dict(json.loads(json.dumps(found.to_dict())) | {"stage": "locate"})
    assert again.flags == found.flags
    np.testing.assert_array_equal(again.canal, found.canal)
    for one, other in zip(found.discs, again.discs, strict=True):
        assert one.level == other.level
        for name in ("centre_mm", "normal", "sac_mm", "ventral_mm", "lateral_mm"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    with pytest.raises(StudyError, match="discs"):
        Landmarks.from_dict({})


def test_points_left_out_survive_the_record():
    bare = Landmarks([Disc(None, [1, 2, 3], [0, 0, 1])])
    disc = Landmarks.from_dict(bare.to_dict()).discs[0]
    assert disc.sac_mm is None
    assert disc.lateral_mm is None


def test_figure_shows_every_source(ct, found, tmp_path):
    figure(ct, found, tmp_path / "auto.png")
    bare = Landmarks([Disc("L4-L5", found.disc("L4-L5").centre_mm, [0, 0, 1])], flags=["NO_CANAL"])
    figure(ct, bare, tmp_path / "bare.png")
    for name in ("auto.png", "bare.png"):
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name)))
        assert image.shape[0] > 400
        assert image.std() > 20


class Named(dict):
    """As Snakemake's: a list of paths with names."""

    __getattr__ = dict.__getitem__

    def __iter__(self):
        return iter(self.values())


def run_adapter(tmp_path, cfg, convert_record, **inputs):
    job.write_json(convert_record, tmp_path / "convert.json")
    outputs = {"record": str(tmp_path / "out.json"), "figure": str(tmp_path / "out.png")}
    fake = SimpleNamespace(
        input=Named(inputs, record_in=str(tmp_path / "convert.json")),
        output=Named(outputs),
        params=SimpleNamespace(cfg=cfg),
        log=[str(tmp_path / "log.txt")],
        rule="locate",
        wildcards=Named(subject="abcd2345"),
        threads=1,
        resources=None,
    )
    script = ROOT / "workflow" / "scripts" / "locate.py"
    runpy.run_path(str(script), init_globals={"snakemake": fake})
    return job.read_json(outputs["record"]), Path(outputs["figure"])


def schema():
    path = ROOT / "workflow" / "schemas" / "locate.schema.yaml"
    properties = yaml.safe_load(path.read_text())["properties"]
    return {key: entry for key, entry in properties.items() if key != "image"}


def settings(**changes):
    """The block as the rule hands it over: it has made image and file inputs."""
    return {k: entry["default"] for k, entry in schema().items() if k != "file"} | changes


def test_adapter_writes_record_and_figure(ct, truth, tmp_path):
    volume.write_volume(ct, tmp_path / "ct.nii.gz")
    path = str(tmp_path / "ct.nii.gz")
    record, page = run_adapter(tmp_path, settings(), {"status": "made"}, ct=path, file=[])
    assert record["status"] == "made"
    assert record["subject"] == "abcd2345"
    assert page.stat().st_size > 10_000
    check(Landmarks.from_dict(record), truth)


@pytest.mark.parametrize("source", ["labels", "landmarks"])
def test_adapter_takes_the_users_file(ct, tmp_path, source):
    volume.write_volume(ct, tmp_path / "ct.nii.gz")
    volume.write_volume(cylinders([0.0])[0], tmp_path / "labels.nii.gz")
    markups(tmp_path / "landmarks.mrk.json", "LPS", POINTS)
    (file,) = tmp_path.glob(f"{source}.*")
    inputs = {"ct": str(tmp_path / "ct.nii.gz"), "file": str(file)}
    record, _ = run_adapter(tmp_path, settings(source=source), {"status": "made"}, **inputs)
    assert (record["status"], record["source"]) == ("made", source)
    assert record["discs"][-1]["level"] == "L5-S1"


@pytest.mark.parametrize("code", ["NO_LANDMARK_FILE", "BAD_LANDMARK_FILE"])
def test_adapter_refuses_one_subject_without_a_usable_file(ct, tmp_path, code):
    volume.write_volume(ct, tmp_path / "ct.nii.gz")
    (tmp_path / "a.tsv").write_text("level\trole\tx\ty\tz\nL4-L6\t\t0\t0\t0\n")
    file = [] if "NO" in code else str(tmp_path / "a.tsv")
    inputs = {"ct": str(tmp_path / "ct.nii.gz"), "file": file}
    record, _ = run_adapter(tmp_path, settings(source="landmarks"), {"status": "made"}, **inputs)
    assert (record["status"], record["code"]) == ("refused", code)
    assert "NO" not in code or "`locate.file` says, such as" in record["remedy"]


def test_adapter_passes_a_refusal_on(tmp_path):
    refused = {"status": "refused", "code": "MISSING_SLICES", "message": "m", "remedy": "r"}
    record, page = run_adapter(tmp_path, {}, refused, ct=str(tmp_path / "none.nii.gz"))
    assert (record["status"], record["code"]) == ("refused", "MISSING_SLICES")
    assert page.stat().st_size == 0


def test_schema_and_function_agree():
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(locate).parameters.items()
        if name != "ct"
    }
    assert {key: entry["default"] for key, entry in schema().items()} == defaults
    assert all(entry["description"] for entry in schema().values())


@pytest.mark.parametrize(
    "variant",
    [
        "four_lumbar",
        "sacralised",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("six_lumbar", "lumbar_rib")),
    ],
)
def test_other_counts_of_vertebrae_are_found_unnamed_and_flagged(variant):
    person = simulate(3, series=["ct"], variant=variant, **COARSE)
    found = locate(person.images["ct"][0])
    assert "TRANSITIONAL" in found.flags
    for disc in person.truth["discs"][1:]:
        near = min(found.discs, key=lambda d: np.linalg.norm(d.centre_mm - disc["ct"]["centre_mm"]))
        assert near.level is None
        assert np.linalg.norm(near.centre_mm - disc["ct"]["centre_mm"]) < 2.0


def test_contrast_medium_in_the_sac_changes_nothing_but_a_flag(person, ct, truth):
    values = volume.to_array(ct).astype(np.float32)
    values[volume.to_array(person.tissues["ct"][0]) == CSF] += 250.0 - HU["csf"][0]
    found = locate(volume.from_array(values, volume.affine(ct)))
    assert found.flags == ["MYELO"]
    check(found, truth)


def test_screws_do_no_harm(ct, truth):
    values = volume.to_array(ct).astype(np.float32)
    points = geometry.apply(volume.affine(ct), np.argwhere(values > 20)[:, ::-1])
    metal = np.zeros(len(points), bool)
    for level in ("L3-L4", "L4-L5"):
        centre, normal = (np.array(truth[level][key]) for key in ("centre_mm", "normal"))
        axes = geometry.frame(normal, [0, -1, 0])
        local = (points - centre - 14 * normal) @ axes.T
        for side in (-16, 16):
            rod = (np.hypot(local[:, 1] - side, local[:, 2]) < 3.2) & (
                np.abs(local[:, 0] + 15) < 25
            )
            metal[rod] = True
    values[tuple(np.argwhere(values > 20)[metal].T)] = 3000.0
    found = locate(volume.from_array(values, volume.affine(ct)))
    check(found, truth)


def test_thick_slices_are_enough(ct, truth):
    found = locate(benchmark.resampled(ct, (1.0, 1.0, 5.0)))
    check(found, truth, near_deg=6.0)


def test_large_voxels_and_a_twisted_patient(ct, truth):
    matrix = geometry.rigid_from_axis([1, 1, -1], 24, truth["L3-L4"]["centre_mm"])
    found = locate(benchmark.resampled(benchmark.turned(ct, matrix), (4.0, 4.0, 4.0)))
    check(found, truth, matrix, near_deg=6.0)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_real_ct_agrees_with_its_labels():
    ct, truth = benchmark.reference(SHARED)
    found = locate(ct)
    labels = volume.read_volume(SHARED / "data/totalseg_spine/vertebrae_labels.nii.gz")
    from_map = from_labels(labels)
    for level, (centre, normal) in truth.items():
        for source, disc in (("auto", found.disc(level)), ("labels", from_map.disc(level))):
            distance = np.linalg.norm(disc.centre_mm - centre)
            angle = geometry.angle_deg(disc.normal, normal, oriented=True)
            print(f"{level} {source}: {distance:.1f} mm, {angle:.1f}°, {disc.confidence:.2f}")
            assert distance < 3.0
            assert angle < 6.0


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
@pytest.mark.parametrize("steps", [(5.0, 5.0, 5.0), (1.0, 1.0, 5.0)])
def test_real_ct_of_large_voxels_and_oblique(steps):
    ct, truth = benchmark.reference(SHARED)
    matrix = geometry.rigid_from_axis([1, -1, 1], 20, truth["L3-L4"][0])
    found = locate(benchmark.noisy(benchmark.resampled(benchmark.turned(ct, matrix), steps), 30, 0))
    for level in LUMBAR[1:]:
        centre = geometry.apply(matrix, truth[level][0])
        assert np.linalg.norm(found.disc(level).centre_mm - centre) < 4.0
