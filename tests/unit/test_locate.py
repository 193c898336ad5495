"""Discs, sac and edges against the phantom's truth, made label maps and points, and a real CT."""

import inspect
import json
import runpy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from mrsynth import geometry, job, volume
from mrsynth.errors import Refusal, StudyError
from mrsynth.locate import Disc, Landmarks, figure, from_labels, from_landmarks, locate
from mrsynth.locate import chain as chains
from mrsynth.locate.canal import best_path, longest_run
from mrsynth.locate.levels import names, sacral_disc
from mrsynth.phantom import simulate

ROOT = Path(__file__).parents[2]
SHARED = Path(__file__).parents[3] / "shared"
LUMBAR = ["T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1"]


@pytest.fixture(scope="module")
def person():
    return simulate(1, series=["ct"], ct_pixel_mm=1.2, ct_slice_mm=2.0)


@pytest.fixture(scope="module")
def ct(person):
    return person.images["ct"][0]


@pytest.fixture(scope="module")
def truth(person):
    return {disc["level"]: disc["ct"] for disc in person.truth["discs"]}


@pytest.fixture(scope="module")
def found(ct):
    return locate(ct)


def check(found, truth, matrix=None, named=True):
    """Every lumbar disc within 2 mm and 3° of the truth, and named as it is."""
    matrix = np.eye(4) if matrix is None else matrix
    for level in LUMBAR:
        centre = geometry.apply(matrix, truth[level]["centre_mm"])
        normal = geometry.apply_direction(matrix, truth[level]["normal"])
        disc = min(found.discs, key=lambda disc: np.linalg.norm(disc.centre_mm - centre))
        assert disc.level == (level if named else None)
        assert np.linalg.norm(disc.centre_mm - centre) < 2.0
        assert geometry.angle_deg(disc.normal, normal, oriented=True) < 3.0


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


def cylinders(tilts_deg, gap_mm=10.0, height_mm=26.0):
    """Label map of a straight column of tilted discs, TotalSegmentator's numbers; the true gaps."""
    spacing = 1.5
    step = gap_mm + height_mm
    count = len(tilts_deg) + 1
    z, y, x = np.meshgrid(
        *[np.arange(-n, n + spacing, spacing) for n in (count * step / 2 + 10, 30, 36)],
        indexing="ij",
    )
    inside = (x / 24) ** 2 + (y / 17) ** 2 < 1
    middles = (np.arange(count - 1) - (count - 2) / 2) * step
    labels = np.zeros(z.shape, np.int16)
    planes = []
    for middle, tilt in zip(middles, tilts_deg, strict=True):
        normal = np.array([0, np.sin(np.radians(tilt)), np.cos(np.radians(tilt))])
        planes.append((y * normal[1] + (z - middle) * normal[2], np.array([0, 0, middle]), normal))
    for number in range(count):
        body = inside.copy()
        if number:
            body &= planes[number - 1][0] > gap_mm / 2
        else:
            body &= z > middles[0] - step
        if number < count - 1:
            body &= planes[number][0] < -gap_mm / 2
        else:
            body &= z < middles[-1] + step
        labels[body] = 26 + number
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing([spacing] * 3)
    image.SetOrigin([float(x.min()), float(y.min()), float(z.min())])
    return image, [(centre, normal) for _, centre, normal in planes]


def test_label_map_gives_the_gaps_between_vertebrae():
    image, planes = cylinders([12.0, -4.0, 8.0])
    found = from_labels(image)
    assert [disc.level for disc in found.discs] == ["L3-L4", "L4-L5", "L5-S1"]
    assert found.flags == ["NO_CANAL"]
    for disc, (centre, normal) in zip(found.discs[::-1], planes, strict=True):
        assert np.linalg.norm(disc.centre_mm - centre) < 1.0
        assert geometry.angle_deg(disc.normal, normal, oriented=True) < 1.0
        assert disc.ventral_mm[1] == pytest.approx(-17, abs=2)
        assert disc.lateral_mm[:, 0] == pytest.approx([-24, 24], abs=2)


def test_label_map_with_other_numbers():
    image, _ = cylinders([0.0])
    shifted = sitk.Cast(image, sitk.sitkInt16) - 1
    table = {"L5": 26, "S1": 25}
    assert from_labels(shifted, numbering=table).discs[0].level == "L5-S1"
    with pytest.raises(Refusal, match="NO_DISC"):
        from_labels(shifted + 60, numbering="verse")
    with pytest.raises(StudyError, match="numbering"):
        from_labels(shifted, numbering="guess")
    with pytest.raises(StudyError, match="L9"):
        from_labels(shifted, numbering={"L9": 3})


def markups(path, system, points):
    sign = -1 if system == "RAS" else 1
    content = [
        {"label": label, "position": [sign * x, sign * y, z], "positionStatus": "defined"}
        for label, (x, y, z) in points
    ]
    content.append({"label": "", "position": [0, 0, 0], "positionStatus": "undefined"})
    text = {"markups": [{"type": "Fiducial", "coordinateSystem": system, "controlPoints": content}]}
    path.write_text(json.dumps(text))
    return path


POINTS = [
    ("L4-L5", (1, -20, 100)),
    ("L4-L5 sac", (1, 6, 105)),
    ("L4-L5 ventral", (1, -38, 95)),
    ("L4-L5 right", (-24, -20, 100)),
    ("L4-L5 left", (26, -20, 100)),
    ("L5-S1", (1, -14, 66)),
]


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_slicer_points_in_either_system(tmp_path, system):
    found = from_landmarks(markups(tmp_path / "a.mrk.json", system, POINTS))
    assert [disc.level for disc in found.discs] == ["L4-L5", "L5-S1"]
    upper, lower = found.discs
    np.testing.assert_allclose(upper.centre_mm, [1, -20, 100])
    normal = geometry.unit([0, -5 / 18, 1])
    assert geometry.angle_deg(upper.normal, normal, oriented=True) < 1e-6
    assert upper.lateral_mm[0, 0] == pytest.approx(-24)
    assert abs((upper.sac_mm - upper.centre_mm) @ upper.normal) < 1e-9
    assert geometry.angle_deg(lower.normal, [0, -6, 34], oriented=True) < 1e-6
    assert found.flags == ["NORMAL_FROM_CENTRES"]


def test_table_of_points(tmp_path):
    rows = ["level\trole\tx\ty\tz"]
    for name, place in POINTS[:5]:
        level, _, role = name.partition(" ")
        rows.append("\t".join([level, role, *map(str, place)]))
    path = tmp_path / "points.tsv"
    path.write_text("\n".join(rows))
    disc = from_landmarks(path).disc("L4-L5")
    np.testing.assert_allclose(disc.ventral_mm, [1, -38, 95], atol=1e-9)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([("L4-L6", (0, 0, 0))], "isn't understood"),
        ([("L4-L5 nose", (0, 0, 0))], "isn't understood"),
        ([("L4-L5", (0, 0, 0)), ("L4-L5 sac", (0, 20, 0))], "three or more"),
        ([(f"L4-L5 {r}", (0, n, 0)) for n, r in enumerate(["right", "left", "ventral"])], "line"),
        ([], "no points"),
    ],
)
def test_points_that_say_too_little_are_named(tmp_path, points, message):
    with pytest.raises(Refusal, match=f"BAD_LANDMARK_FILE.*{message}"):
        from_landmarks(markups(tmp_path / "a.mrk.json", "LPS", points))


def test_unknown_source_and_missing_file(ct):
    with pytest.raises(StudyError, match=r"locate\.source"):
        locate(ct, source="oracle")
    with pytest.raises(Refusal, match=r"NO_LANDMARK_FILE.*locate\.file"):
        locate(ct, source="labels")


@pytest.mark.parametrize(
    ("source", "name", "content"),
    [
        ("labels", "jane.nii.gz", b"no volume"),
        ("landmarks", "jane.mrk.json", b"\xff{"),
        ("landmarks", "jane.mrk.json", b'{"markups": [{"controlPoints": [{"position": [1, 2]}]}]}'),
        ("landmarks", "jane.tsv", b"level,role,x,y,z\n"),
        ("landmarks", "jane.tsv", b"level\trole\tx\ty\tz\nL4-L5\t\t1\t2\n"),
    ],
)
def test_a_bad_file_is_refused_without_its_name(ct, tmp_path, source, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refusal, match=r"BAD_LANDMARK_FILE.*Remedy") as error:
        locate(ct, source=source, file=tmp_path / name)
    assert "jane" not in str(error.value)


def test_source_labels_reads_the_file(ct, tmp_path):
    image, _ = cylinders([0.0])
    volume.write_volume(image, tmp_path / "labels.nii.gz")
    found = locate(ct, source="labels", file=tmp_path / "labels.nii.gz")
    assert found.source == "labels"
    assert found.discs[0].level == "L5-S1"


def test_chain_takes_even_intervals_over_a_brighter_outlier():
    def layer(index, worth):
        return chains.Candidate(index, worth, np.zeros(3), np.array([0, 0, 1.0]), 8.0)

    discs = [layer(30 + 35 * k, 0.6) for k in range(5)]
    wrong = [layer(52, 0.7), layer(121, 0.65)]
    chain = chains.best_chain(sorted(discs + wrong, key=lambda c: c.index))
    assert [c.index for c in chain] == [c.index for c in discs]


def test_layer_contrast_peaks_in_the_dark_layer_of_its_height():
    profile = np.full(80, 150.0)
    profile[30:33] = profile[42:45] = 300.0
    profile[33:42] = 70.0
    contrast = chains.layer_contrast(profile, 10.0)
    assert abs(int(np.argmax(contrast)) - 37) <= 1
    assert contrast.max() > 150
    assert contrast[0] == -np.inf


def test_best_path_follows_a_ridge_and_not_a_brighter_spot():
    score = np.zeros((20, 15, 15), np.float32)
    for z in range(20):
        score[z, 4 + z // 4, 6] = 1.0
    score[10, 14, 14] = 3.0
    path = best_path(score)
    np.testing.assert_array_equal(path[:, 0], 4 + np.arange(20) // 4)
    np.testing.assert_array_equal(path[:, 1], 6)


def test_longest_run_bridges_gaps_up_to_a_length():
    good = np.array([1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1], bool)
    assert longest_run(good, gap=1) == (0, 5)
    assert longest_run(good, gap=3) == (0, 10)
    assert longest_run(np.zeros(4, bool), gap=1) == (0, -1)


def test_names_count_up_from_the_sacrum():
    assert names(7) == [*LUMBAR[::-1], "T11-T12"]
    assert names(18)[-1] is None
    assert sacral_disc(np.array([np.nan, 0.0, 0.1, 0.4, 0.5]), ala=0.2) == 3
    assert sacral_disc(np.array([0.0, 0.1, np.nan]), ala=0.2) is None


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


def body_gaps(labels, body):
    """Centres and normals of the gaps between labelled bodies, from their facing surfaces alone."""
    matrix = volume.affine(labels)
    values = volume.to_array(labels)
    bodies = [
        geometry.apply(matrix, np.argwhere((values == k) & (volume.to_array(body) == 1))[:, ::-1])
        for k in range(26, 33)
    ]
    gaps = []
    for lower, upper in pairwise(bodies):
        middle = (lower.mean(0) + upper.mean(0)) / 2
        normal = geometry.unit(upper.mean(0) - lower.mean(0))
        for _ in range(4):
            axes = geometry.frame(normal, [0, -1, 0])
            facing = [facing_plane(upper, middle, axes, -1), facing_plane(lower, middle, axes, 1)]
            normal = geometry.unit(facing[0][1] + facing[1][1])
        gaps.append(((facing[0][0] + facing[1][0]) / 2, normal))
    return gaps


def facing_plane(points, middle, axes, side, voxel=3.0):
    """Centre and normal of the surface of a cloud of voxels that looks to one side."""
    column = np.round((points - middle) @ axes[:2].T / voxel).astype(int)
    height = side * ((points - middle) @ axes[2])
    order = np.argsort(-height)
    _, first = np.unique(column[order], axis=0, return_index=True)
    surface = points[order[first]]
    inner = (surface - surface.mean(0)) @ axes[:2].T / [14, 19]
    centre, normal, _ = geometry.fit_plane(
        surface[np.linalg.norm(inner, axis=1) < 1], towards=axes[2], least_sigma_mm=voxel / 2
    )
    surface = surface[np.abs((surface - centre) @ normal) < voxel]
    middle = surface.mean(0) + side * voxel / 2 * normal
    return middle - ((middle - centre) @ normal - side * voxel / 2) * normal, normal


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_real_ct_agrees_with_its_labels():
    folder = SHARED / "data" / "totalseg_spine"
    ct = volume.read_volume(folder / "example_ct.nii.gz")
    labels = volume.read_volume(folder / "vertebrae_labels.nii.gz")
    body = volume.read_volume(folder / "totalseg_vertebrae_body.nii.gz")
    found = locate(ct)
    from_map = from_labels(labels)
    for level, (centre, normal) in zip(LUMBAR[::-1], body_gaps(labels, body), strict=True):
        for source, disc in (("auto", found.disc(level)), ("labels", from_map.disc(level))):
            distance = np.linalg.norm(disc.centre_mm - centre)
            angle = geometry.angle_deg(disc.normal, normal, oriented=True)
            print(f"{level} {source}: {distance:.1f} mm, {angle:.1f}°, {disc.confidence:.2f}")
            assert distance < 3.0
            assert angle < 6.0
