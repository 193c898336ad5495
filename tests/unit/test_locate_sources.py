"""Landmarks from what a user has: label maps in several numberings, points placed by hand."""

import numpy as np
import pytest
import SimpleITK as sitk

from mrsynth import geometry, volume
from mrsynth.errors import Refusal, StudyError
from mrsynth.locate import from_labels, from_landmarks, locate
from mrsynth.locate.numbering import NUMBERINGS, table_of
from spinemake import POINTS, cylinders, markups


@pytest.fixture
def ct():
    """A CT without a spine: these sources don't need one."""
    empty = sitk.Image(30, 30, 30, sitk.sitkFloat32) - 1000.0
    empty.SetSpacing([3, 3, 3])
    return empty


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


def renumbered(image, table):
    """The made spine (S1 26, L5 27, ...) with another tool's numbers."""
    values = volume.to_array(image)
    out = np.zeros_like(values)
    for name, value in NUMBERINGS["totalsegmentator"].items():
        if name in table:
            out[values == value] = table[name]
    return volume.from_array(out, volume.affine(image))


@pytest.mark.parametrize("numbering", NUMBERINGS)
def test_each_tools_numbers_give_the_same_levels(numbering):
    image, _ = cylinders([4.0, 0.0])
    found = from_labels(renumbered(image, NUMBERINGS[numbering]), numbering)
    assert [disc.level for disc in found.discs] == ["L4-L5", "L5-S1"]


@pytest.mark.parametrize(
    ("made_by", "read_as"),
    [("verse", "totalsegmentator_v1"), ("totalsegmentator_v1", "verse")],
)
def test_numbers_that_run_the_wrong_way_are_refused(made_by, read_as):
    image, _ = cylinders([0.0, 0.0, 0.0])
    image = renumbered(image, NUMBERINGS[made_by])
    with pytest.raises(Refusal, match=r"BAD_NUMBERING.*locate\.numbering"):
        table_of(read_as, image)


def test_version_one_is_not_read_as_version_two():
    names = ("T8", "T9", "T10", "T11")
    image, _ = cylinders([0.0, 0.0, 0.0])
    spine = dict(zip(("S1", "L5", "L4", "L3"), names[::-1], strict=True))
    # T11 to T8 of version 1 are 24 to 27, the last two of which are S1 and L5 of version 2.
    table = {low: NUMBERINGS["totalsegmentator_v1"][name] for low, name in spine.items()}
    with pytest.raises(Refusal, match=r"BAD_NUMBERING.*totalsegmentator_v1"):
        table_of("totalsegmentator", renumbered(image, table))


def test_auto_takes_the_only_numbering_that_fits():
    image, _ = cylinders([0.0, 0.0, 0.0])
    made = renumbered(image, NUMBERINGS["totalspineseg"])
    assert table_of("auto", made) == NUMBERINGS["totalspineseg"]
    with pytest.raises(Refusal, match=r"BAD_NUMBERING.*totalsegmentator and totalsegmentator_v1"):
        table_of("auto", image)
    with pytest.raises(Refusal, match=r"BAD_NUMBERING.*fits none"):
        table_of("auto", renumbered(image, {"S1": 70, "L5": 71}))


def test_a_sixth_lumbar_vertebra_keeps_its_name_and_is_flagged():
    image, _ = cylinders([0.0, 0.0, 0.0])
    table = {"S1": 25, "L5": 26, "L4": 27, "L3": 28}
    found = from_labels(renumbered(image, table), "totalsegmentator_v3")
    assert [disc.level for disc in found.discs] == ["L4-L5", "L5-L6", "L6-S1"]
    assert "TRANSITIONAL" in found.flags


def test_totalsegmentators_own_labels_need_no_numbering(ct, tmp_path):
    image, _ = cylinders([0.0])
    volume.write_volume(image, tmp_path / "labels.nii.gz")
    found = locate(ct, "totalsegmentator", tmp_path / "labels.nii.gz", numbering="verse")
    assert (found.source, found.discs[0].level) == ("totalsegmentator", "L5-S1")
