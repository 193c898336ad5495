"""`phantom`: the truth agrees with the images, and the images with physics."""

import inspect
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from mrsynth import phantom, volume
from mrsynth.errors import StudyError
from mrsynth.phantom import acquire, pose, shapes, signals
from mrsynth.phantom.shapes import TISSUES

COARSE = {
    "ct_pixel_mm": 4.0,
    "ct_slice_mm": 6.0,
    "mr_pixel_mm": 2.0,
    "sagittal_pixel_mm": 4.0,
    "blocks_max": 3,
    "block_slices_max": 3,
}


def array(image):
    return sitk.GetArrayFromImage(image)


@pytest.fixture(scope="module")
def subject():
    return phantom.simulate(
        7, series=["ct", "t2ax"], ct_pixel_mm=1.5, ct_slice_mm=1.5, mr_pixel_mm=1.0, field_t=1.5
    )


@pytest.fixture(scope="module")
def sagittal():
    return phantom.simulate(7, series=["t2sag", "t1sag", "stir", "tirm"], sagittal_pixel_mm=2.0)


def median(subject, name, tissue):
    values = [array(image).ravel() for image in subject.images[name]]
    labels = [array(image).ravel() for image in subject.tissues[name]]
    return np.median(np.concatenate(values)[np.concatenate(labels) == TISSUES.index(tissue)])


def test_same_number_same_subject_other_number_other_subject():
    one, again, other = (phantom.simulate(n, series=["ct"], **COARSE) for n in (3, 3, 4))
    assert np.array_equal(array(one.images["ct"][0]), array(again.images["ct"][0]))
    assert one.truth == again.truth
    assert one.truth["discs"] != other.truth["discs"]


def test_a_series_is_the_same_whatever_else_is_acquired():
    alone = phantom.simulate(3, series=["t2ax"], **COARSE)
    beside = phantom.simulate(3, series=["t2ax", "t1sag"], **COARSE)
    for one, two in zip(alone.images["t2ax"], beside.images["t2ax"], strict=True):
        assert np.array_equal(array(one), array(two))


def test_truth_points_are_the_same_tissue_in_both_images(subject):
    labels = subject.tissues["ct"][0]
    grid = array(labels)
    points = np.column_stack([subject.points[f"ct_{axis}"] for axis in "xyz"])
    index = np.rint(
        (np.c_[points, np.ones(len(points))] @ np.linalg.inv(volume.affine(labels)).T)[:, :3]
    ).astype(int)
    found = grid[index[:, 2], index[:, 1], index[:, 0]]
    # Agreement is 0.9 rather than 1 because of the nearest voxel; a shift of 6 mm must destroy it.
    least = {"disc": 0.85, "bone": 0.8, "canal": 0.7, "muscle": 0.7}
    kinds = phantom.subject.KINDS
    moved = grid[index[:, 2], np.clip(index[:, 1] + 4, 0, grid.shape[1] - 1), index[:, 0]]
    for kind, share in least.items():
        chosen = subject.points["kind"] == kind
        assert chosen.sum() > 50
        good = np.isin(found[chosen], kinds[kind]).mean()
        assert good > share, (kind, good)
        assert np.isin(moved[chosen], kinds[kind]).mean() < good - 0.1


def test_mr_to_ct_equals_the_exact_tissue(subject):
    mr = np.column_stack([subject.points[f"mr_{axis}"] for axis in "xyz"])
    ct = np.column_stack([subject.points[f"ct_{axis}"] for axis in "xyz"])
    sides = (
        pose.mr_to_material(subject.pose, mr),
        pose.transform(np.linalg.inv(subject.pose.ct), ct),
    )
    tissue = [shapes.label(subject.anatomy, *side.T.astype(np.float32))[0] for side in sides]
    assert (tissue[0] == tissue[1]).mean() > 0.995


def test_a_vertebra_moves_rigidly(subject):
    rng = np.random.default_rng(0)
    for segment, bone in enumerate(subject.anatomy.bones, start=1):
        inner = bone.centre + rng.uniform(-1, 1, (50, 3)) * 7
        mr = pose.material_to_mr(subject.pose, inner)
        rigid = pose.transform(pose.vertebra_matrix(subject.pose, segment), mr)
        assert np.abs(rigid - pose.mr_to_ct(subject.pose, mr)).max() < 1e-3
        matrix = np.array(subject.truth["mr_to_ct"][bone.name])
        assert matrix == pytest.approx(pose.vertebra_matrix(subject.pose, segment))


def test_material_to_mr_inverts(subject):
    points = np.random.default_rng(1).uniform((-80, -60, -120), (80, 80, 120), (300, 3))
    there = pose.material_to_mr(subject.pose, points)
    assert np.abs(pose.mr_to_material(subject.pose, there) - points).max() < 1e-3


def test_the_map_never_folds(subject):
    points = np.random.default_rng(2).uniform((-150, -120, -150), (150, 90, 120), (4000, 3))
    points = pose.transform(subject.pose.mr, points)
    step = 0.5
    columns = [
        (
            pose.mr_to_material(subject.pose, points + move)
            - pose.mr_to_material(subject.pose, points)
        )
        / step
        for move in np.eye(3) * step
    ]
    assert np.linalg.det(np.stack(columns, axis=-1)).min() > 0.3


def test_patient_lies_differently():
    matrices = []
    for number in (1, 2, 3, 4, 5):
        truth = phantom.simulate(number, series=["t2ax"], **COARSE).truth
        matrices.append([np.array(truth["mr_to_ct"][name]) for name in ("S1", "L3", "T12")])
    turns = [np.degrees(np.arccos((np.trace(m[0][:3, :3]) - 1) / 2)) for m in matrices]
    bends = [
        np.degrees(np.arccos(np.clip((np.trace(m[0][:3, :3].T @ m[2][:3, :3]) - 1) / 2, -1, 1)))
        for m in matrices
    ]
    assert 1 < np.median(turns) < 12
    assert 1 < np.median(bends) < 25


def test_blocks_lie_in_their_discs(subject):
    discs = {disc["level"]: disc["mr"] for disc in subject.truth["discs"]}
    levels = subject.truth["blocks"]
    assert 3 <= len(levels) == len(subject.images["t2ax"]) <= 5
    for level, image in zip(levels, subject.images["t2ax"], strict=True):
        assert 3 <= image.GetDepth() <= 5
        normal = np.array(image.GetDirection()).reshape(3, 3)[:, 2]
        assert np.degrees(np.arccos(normal @ discs[level]["normal"])) < 5
        index = image.TransformPhysicalPointToContinuousIndex(discs[level]["centre_mm"])
        assert abs(index[2] - (image.GetDepth() - 1) / 2) < 0.3
        labels = array(subject.tissues["t2ax"][levels.index(level)])
        middle = labels[labels.shape[0] // 2]
        assert np.isin(middle, phantom.subject.KINDS["disc"]).sum() > 600


def test_oblique_blocks_leave_their_discs():
    awkward = phantom.simulate(2, series=["t2ax"], awkward={"oblique": [2]}, **COARSE)
    discs = {disc["level"]: disc["mr"] for disc in awkward.truth["discs"]}
    for level, image in zip(awkward.truth["blocks"], awkward.images["t2ax"], strict=True):
        normal = np.array(image.GetDirection()).reshape(3, 3)[:, 2]
        assert 9 < np.degrees(np.arccos(normal @ discs[level]["normal"])) < 19


@pytest.mark.parametrize(
    ("tissue", "low", "high"),
    [
        ("air", -1024, -900),
        ("fat", -130, -70),
        ("muscle", 30, 75),
        ("spongiosa", 80, 320),
        ("cortical", 350, 1100),
        ("annulus", 70, 140),
        ("csf", -5, 45),
        ("kidney", 20, 50),
    ],
)
def test_hounsfield_units(subject, tissue, low, high):
    assert low < median(subject, "ct", tissue) < high


def test_t2_order_of_brightness(subject):
    names = ("csf", "fat", "spongiosa", "muscle", "cortical")
    levels = [median(subject, "t2ax", name) for name in names]
    assert levels == sorted(levels, reverse=True)


def relaxed(tissue, name, tesla=1.5):
    index = np.array([TISSUES.index(tissue)])
    return signals.magnetisation(signals.SEQUENCES[name], tesla, index, np.zeros(1, np.float32))[0]


def test_signal_order_of_the_equations():
    t2 = [relaxed(tissue, "t2ax") for tissue in ("csf", "nucleus-1", "fat", "nucleus-3", "muscle")]
    assert t2 == sorted(t2, reverse=True)
    grades = [relaxed(f"nucleus-{grade}", "t2ax") for grade in range(1, 6)]
    assert grades == sorted(grades, reverse=True)
    assert relaxed("fat", "t1sag") > relaxed("muscle", "t1sag") > relaxed("csf", "t1sag")
    for name in ("stir", "tirm"):
        for tesla in (1.5, 3.0):
            assert relaxed("fat", name, tesla) < 0.15 * relaxed("csf", name, tesla)


def test_signal_equations_at_their_limits():
    long = signals.Sequence(1e7, 1e-6, 0, 1, "")
    assert signals.signal(0.7, 900, 80, long) == pytest.approx(0.7)
    decay = signals.Sequence(1e7, 80, 0, 1, "")
    assert signals.signal(1.0, 900, 80, decay) == pytest.approx(np.exp(-1), rel=1e-6)
    null = signals.Sequence(1e7, 1e-6, 200, 1, "")
    assert signals.signal(1.0, 200 / np.log(2), 80, null) == pytest.approx(0, abs=1e-6)


def test_sagittal_series_show_their_weighting(sagittal):
    assert median(sagittal, "t2sag", "csf") > median(sagittal, "t2sag", "fat")
    assert median(sagittal, "t1sag", "fat") > 2 * median(sagittal, "t1sag", "csf")
    assert median(sagittal, "stir", "csf") > 3 * median(sagittal, "stir", "fat")
    assert median(sagittal, "tirm", "csf") > 3 * median(sagittal, "tirm", "fat")


def test_lesions_show_on_mr_alone():
    with_, without = (
        phantom.simulate(6, series=["ct", "t2sag"], lesion_share=share, **COARSE)
        for share in (1, 0)
    )
    assert with_.truth["lesions"]
    assert not without.truth["lesions"]
    assert np.array_equal(array(with_.images["ct"][0]), array(without.images["ct"][0]))
    fine = {"series": ["t2sag"], "sagittal_pixel_mm": 1.5}
    with_, without = (phantom.simulate(6, lesion_share=share, **fine) for share in (1, 0))
    change = array(with_.images["t2sag"][0]).astype(int) - array(without.images["t2sag"][0])
    image = with_.images["t2sag"][0]
    near = np.zeros(change.shape, bool)
    where = acquire.points(
        acquire.Grid(volume.affine(image), image.GetSize(), 4.0), 0, image.GetDepth()
    )
    for lesion in with_.truth["lesions"]:
        away = np.linalg.norm(where - np.array(lesion["centre_mr_mm"]), axis=1)
        near |= (away < lesion["radius_mm"] + 8).reshape(change.shape)
    assert np.abs(change[~near]).max() <= 1
    assert change[near].max() > 100


def test_degeneration_narrows_the_disc():
    discs = [
        disc
        for number in range(1, 60)
        for disc in phantom.anatomy.draw(1, number).discs
        if disc.level == "L4-L5"
    ]
    grades = np.array([disc.grade for disc in discs])
    heights = np.array([disc.height for disc in discs])
    assert set(grades) >= {1, 2, 3, 4}
    assert heights[grades <= 2].mean() > heights[grades >= 4].mean() + 1


def test_radiograph_sums_along_the_rays():
    hu = np.full((4, 5, 6), -1000, np.int16)
    hu[:, 2:] = 0
    hu[:, 4] = 1000
    grid = acquire.grid(np.zeros(3), np.eye(3), (1, 1, 1), (6, 5, 4))
    grey, pixel = acquire.radiograph(hu, grid, 1.0)
    assert grey.shape == (4, 5)
    assert pixel == pytest.approx(1.15)
    assert grey[0, 0] == 0 < grey[0, 2] < grey[0, 4]
    # The grey scale is a power of the path, so twice the attenuation is 2^1.5 times the grey.
    assert grey[0, 4] / grey[0, 2] == pytest.approx(2**1.5, rel=0.01)


@pytest.mark.parametrize(
    "settings",
    [{"series": ["pet"]}, {"awkward": {"tall": [1]}}, {"blocks_min": 4, "blocks_max": 3}],
)
def test_unknown_settings_are_named(settings):
    with pytest.raises(StudyError, match=r"pet|tall|blocks_min"):
        phantom.simulate(1, **settings)


def test_only_the_ct_has_a_couch():
    with_, without = (
        phantom.simulate(2, series=["ct"], couch=couch, **COARSE) for couch in (True, False)
    )
    body = array(with_.tissues["ct"][0]) > 0
    shown, hidden = array(with_.images["ct"][0]), array(without.images["ct"][0])
    assert np.array_equal(body, array(without.tissues["ct"][0]) > 0)
    # Beside the body the point spread reaches neither way, so look at rows well below it.
    below = np.flatnonzero(body.any(axis=(0, 2)))[-1] + 2
    assert np.median(hidden[:, below:]) < -950
    assert shown[:, below:].max() > -700


def test_schema_and_signature_agree():
    root = Path(__file__).parents[2]
    schema = yaml.safe_load((root / "workflow/schemas/phantom.schema.yaml").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    known = {}
    for function in (phantom.make, phantom.simulate):
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                default = parameter.default
                known[name] = list(default) if isinstance(default, tuple) else default
    assert {name: entry["default"] for name, entry in schema["properties"].items()} == known
    assert all(entry.get("description") for entry in schema["properties"].values())
