"""Slices for discs: known planes, known angles, in the right frame, each out with its reason."""

import numpy as np
import pytest

from mrsynth import pick as module
from mrsynth.errors import Refusal, StudyError
from mrsynth.locate.landmarks import Disc, Landmarks
from mrsynth.pick import pick
from mrsynth.volume import from_array


def rotation(degrees, axis=0):
    """A 4×4 rotation about x (0), y (1) or z (2)."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[second, first], matrix[first, second] = sine, -sine
    return matrix


def stack(middle, degrees=0.0, slices=4, spacing=5.0, size=41, pixel=4.0):
    """An axial stack tilted about x, centred at a height (mm)."""
    scale = np.diag([pixel, pixel, spacing, 1.0])
    centre = np.eye(4)
    centre[:3, 3] = -np.array([(size - 1) / 2, (size - 1) / 2, (slices - 1) / 2])
    shift = np.eye(4)
    shift[2, 3] = middle
    return from_array(
        np.zeros((slices, size, size), np.uint8), shift @ rotation(degrees) @ scale @ centre
    )


def disc(level, height, degrees=0.0, **points):
    normal = rotation(degrees)[:3, :3] @ [0, 0, 1]
    sac = np.array([0, 35, height])
    return Disc(level, np.array([0, 0, height]), normal, sac_mm=sac, **points)


def landmarks(*discs):
    return Landmarks(list(discs))


def test_nearest_slice_of_the_right_stack():
    # Slices of 4 × 5 mm lie at −7.5, −2.5, 2.5, 7.5 mm of the middle.
    table = pick([stack(0), stack(40)], landmarks(disc("L3-L4", 41.5), disc("L4-L5", -3)))
    assert table["name"].tolist() == ["L3-L4", "L4-L5"]
    assert table["stack"].tolist() == [2, 1]
    assert table["slice"].tolist() == [2, 1]
    np.testing.assert_allclose(table["offset_mm"], [1.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(table["angle_deg"], 0, atol=1e-6)
    assert (table["status"] == "picked").all()
    assert list(table.columns) == module.COLUMNS


def test_offset_is_measured_along_the_discs_normal():
    tilted = stack(0, degrees=30, slices=1)
    table = pick([tilted], landmarks(disc("L4-L5", -2)), rule="reformat", max_offset_mm=10)
    # The slice's plane crosses the line x = y = 0 at z = 0 whatever its tilt.
    assert table.loc[0, "offset_mm"] == pytest.approx(2)
    assert table.loc[0, "angle_deg"] == pytest.approx(30)


def test_paper_rule_leaves_tilted_pairs_out_and_reformat_keeps_them():
    case = [stack(0, degrees=14, slices=1)], landmarks(disc("L4-L5", 0))
    out = pick(*case).loc[0]
    assert (out["status"], out["code"], out["slice"]) == ("out", "ANGLE", 0)
    assert out["angle_deg"] == pytest.approx(14)
    assert pick(*case, max_angle_deg=15).loc[0, "status"] == "picked"
    assert pick(*case, rule="reformat").loc[0, "status"] == "picked"


def test_angle_decides_between_stacks_at_like_offset():
    stacks = [stack(0.0, degrees=9, slices=1), stack(0.5, degrees=1, slices=1)]
    assert pick(stacks, landmarks(disc("L4-L5", 0))).loc[0, "stack"] == 2
    assert pick(stacks[::-1], landmarks(disc("L4-L5", 0))).loc[0, "stack"] == 1


def test_reasons():
    wide = landmarks(disc("L1-L2", 20), disc("L2-L3", 0), Disc("L5-S1", [500, 0, 0], [0, 0, 1]))
    table = pick([stack(0)], wide).set_index("name")
    assert table["code"].to_dict() == {"L1-L2": "OFFSET", "L2-L3": "", "L5-S1": "NO_SLICE"}
    assert table.loc["L1-L2", "offset_mm"] == pytest.approx(7.5 - 20)
    assert np.isnan(table.loc["L5-S1", "offset_mm"])
    # Farther off than half a vertebra, a slice isn't this disc's at all.
    assert pick([stack(0)], landmarks(disc("T12-L1", 60))).loc[0, "code"] == "NO_SLICE"
    only = pick([stack(0)], wide, levels=["L1-L2"]).set_index("name")
    assert only["code"].to_dict() == {"L1-L2": "OFFSET", "L2-L3": "LEVEL", "L5-S1": "LEVEL"}


def test_unnamed_discs_are_numbered_and_a_slice_belongs_to_one_disc():
    table = pick([stack(0, slices=1)], landmarks(disc(None, 2), disc(None, -1)))
    assert table["name"].tolist() == ["disc-1", "disc-2"]
    assert table["code"].tolist() == ["TAKEN", ""]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_landmarks_of_the_moving_image_go_back_through_the_matrix(axis):
    to_moving = rotation(20, axis)
    to_moving[:3, 3] = [12, -30, 55]
    fixed = disc("L4-L5", 2.5, ventral_mm=[0, -20, 2.5], lateral_mm=[[-25, 0, 2.5], [25, 0, 2.5]])

    def move(points):
        return np.asarray(points) @ to_moving[:3, :3].T + to_moving[:3, 3]

    moving = Disc(
        "L4-L5",
        move(fixed.centre_mm),
        to_moving[:3, :3] @ fixed.normal,
        sac_mm=move(fixed.sac_mm),
        ventral_mm=move(fixed.ventral_mm),
        lateral_mm=move(fixed.lateral_mm),
    )
    row = pick([stack(0)], landmarks(moving), [to_moving]).loc[0]
    assert (row["status"], row["slice"]) == ("picked", 2)
    assert row["offset_mm"] == pytest.approx(0, abs=1e-9)
    for name, point in (("sac", [0, 35, 2.5]), ("ventral", [0, -20, 2.5]), ("left", [25, 0, 2.5])):
        np.testing.assert_allclose([row[f"{name}_{a}"] for a in "xyz"], point, atol=1e-9)
    same = pick([stack(0)], landmarks(fixed), [to_moving], landmarks_frame="fixed").loc[0]
    np.testing.assert_allclose(
        same[module.NUMBERS[2:]].astype(float), row[module.NUMBERS[2:]].astype(float), atol=1e-6
    )


def test_each_stack_uses_its_own_matrix():
    apart = [np.eye(4), np.eye(4)]
    apart[1][2, 3] = 10.0
    found = pick([stack(0), stack(100)], landmarks(disc("L2-L3", 107.5)), apart).loc[0]
    assert (found["stack"], found["slice"]) == (2, 1)
    assert found["centre_z"] == pytest.approx(97.5)


def test_all_takes_every_slice_without_landmarks():
    table = pick([stack(0, slices=2), stack(40, slices=3)], slices="all")
    assert len(table) == 5
    assert table["name"].iloc[-1] == "stack-2_slice-002"
    assert table["sac_x"].isna().all()


def sagittal(slices=5, spacing=4.0):
    matrix = np.zeros((4, 4))
    matrix[1, 0], matrix[2, 1], matrix[0, 2], matrix[3, 3] = 4, -4, spacing, 1
    matrix[:3, 3] = [-spacing * (slices - 1) / 2, -80, 80]
    return from_array(np.zeros((slices, 41, 41), np.uint8), matrix)


def test_midsagittal_follows_the_canal():
    canal = np.array([[3.0, 30, z] for z in range(-50, 60, 10)])
    found = Landmarks([], canal)
    table = pick([stack(0), sagittal()], found, slices="midsagittal", neighbours=1)
    assert table["stack"].tolist() == [2, 2, 2]
    assert table["slice"].tolist() == [2, 3, 4]
    assert table["name"].tolist() == ["midsagittal-1", "midsagittal", "midsagittal+1"]
    np.testing.assert_allclose(table["offset_mm"], [-3, 1, 5])
    far = Landmarks([], canal + np.array([40, 0, 0]))
    assert pick([sagittal()], far, slices="midsagittal").loc[0, "code"] == "OFFSET"
    assert pick([stack(0)], found, slices="midsagittal").loc[0, "code"] == "NO_SLICE"
    with pytest.raises(Refusal, match="NO_CANAL"):
        pick([sagittal()], Landmarks([]), slices="midsagittal")


@pytest.mark.parametrize("degrees", [0, 12])
def test_midsagittal_is_found_through_the_registration(degrees):
    """A patient who lies 9 mm off the scanner's middle, turned, and registered to his CT."""
    to_moving = rotation(degrees, 2)
    to_moving[:3, 3] = [200, -40, 700]
    canal = np.array([[9.0, 30, z] for z in range(-50, 60, 10)])
    native = Landmarks([], canal @ to_moving[:3, :3].T + to_moving[:3, 3])
    table = pick([sagittal(slices=9)], native, [to_moving], slices="midsagittal", neighbours=1)
    assert table["slice"].tolist() == [5, 6, 7]
    assert table["name"].tolist() == ["midsagittal-1", "midsagittal", "midsagittal+1"]
    assert table.loc[1, "offset_mm"] == pytest.approx(-1)


def test_refusals_and_settings():
    with pytest.raises(Refusal, match="NO_LANDMARKS"):
        pick([stack(0)])
    with pytest.raises(Refusal, match="NO_SLICES"):
        pick([], slices="all")
    for key in ("slices", "rule", "landmarks_frame"):
        with pytest.raises(StudyError, match=key):
            pick([stack(0)], landmarks(), **{key: "nonsense"})


def test_matrices_of_a_registration():
    shifted = np.eye(4)
    shifted[0, 3] = 5
    record = {"matrix": np.eye(4).tolist(), "stacks": [{"stack": 2, "matrix": shifted.tolist()}]}
    first, second = module.matrices_of(record, 2)
    assert (first[0, 3], second[0, 3]) == (0, 5)
    with pytest.raises(Refusal, match="NO_TRANSFORM"):
        module.matrices_of({"matrix": None}, 1)


def test_refusals_tell_of_a_registration_that_is_not_accepted():
    with pytest.raises(Refusal, match=r"verdict is 'failed'.*registration's figure"):
        pick([], slices="all", verdict="failed")
    with pytest.raises(Refusal) as plain:
        pick([], slices="all")
    assert "registration" not in str(plain.value)
    with pytest.raises(Refusal, match="verdict is 'failed'"):
        module.matrices_of({"matrix": None, "verdict": "failed"}, 1)


def test_the_worst_stack_tells_the_verdict():
    stacks = [{"stack": n, "verdict": v} for n, v in enumerate(("accepted", "failed", "review"))]
    assert module.verdict_of({"verdict": "accepted", "stacks": stacks}) == "failed"
    assert module.verdict_of({"verdict": "failed", "stacks": stacks[:1]}) == "accepted"
    assert module.verdict_of({"verdict": "review"}) == "review"
    assert module.verdict_of({}) == "failed"


def row_of(disc, point, mm):
    return {"disc": disc, "point": point, "mm": mm, "readers": 1}


def test_a_moved_centre_changes_the_slice_and_a_moved_sac_the_crop():
    found = landmarks(disc("L3-L4", 41.5), disc(None, -3), disc("L5-S1", -60))
    stacks = [stack(0), stack(40)]
    before = pick(stacks, found)
    moved, log = module.move(
        found, [row_of("L3-L4", "centre", [1, 2, 37.0]), row_of("disc-2", "sac", [0, 31, -3])]
    )
    after = pick(stacks, moved)
    assert before["slice"].tolist()[:2] == [2, 1]
    assert after["slice"].tolist()[:2] == [1, 1]
    np.testing.assert_allclose(after.loc[0, ["centre_x", "centre_y"]].astype(float), [1, 2])
    assert (before.loc[1, "sac_y"], after.loc[1, "sac_y"]) == (35, 31)
    assert after.loc[0, "sac_y"] == 35, "the sac stays where the centre alone was moved"
    assert [entry["readers"] for entry in log] == [1, 1]
    np.testing.assert_allclose(log[0]["before_mm"], [0, 0, 41.5])
    np.testing.assert_allclose(log[0]["shift_mm"], np.linalg.norm([1, 2, 4.5]))
    np.testing.assert_allclose(found.discs[0].centre_mm, [0, 0, 41.5])
    same, none = module.move(found, [])
    assert (len(same.discs), none) == (3, [])


def test_a_point_that_was_not_found_can_be_placed():
    bare = landmarks(Disc("L4-L5", [0, 0, 0], [0, 0, 1]))
    moved, (log,) = module.move(bare, [row_of("L4-L5", "sac", [0, 30, 0])])
    assert (log["before_mm"], log["shift_mm"]) == (None, None)
    assert pick([stack(2.5)], moved).loc[0, "sac_y"] == 30


def test_a_move_that_can_do_nothing_is_an_error():
    found = landmarks(disc("L4-L5", 0))
    with pytest.raises(StudyError, match=r"moves sac of disc 'L3-L4'.*this subject has L4-L5"):
        module.move(found, [row_of("L3-L4", "sac", [0, 0, 0])])
    with pytest.raises(StudyError, match=r"pick\.slices is 'all'.*take the row out"):
        module.move(found, [row_of("L4-L5", "sac", [0, 0, 0])], "all")
    with pytest.raises(StudyError, match=r"moves sac of L4-L5 by 1\d\d mm, more than 100"):
        module.move(found, [row_of("L4-L5", "sac", [0, -135, 0])])
    assert module.move(None, []) == (None, [])
    with pytest.raises(StudyError, match=r"moves sac of L4-L5 .*no landmarks.*take the row out"):
        module.move(None, [row_of("L4-L5", "sac", [0, 0, 0])])


def test_table_survives_writing(tmp_path):
    table = pick([stack(0)], landmarks(disc("L4-L5", 2.4), Disc("L5-S1", [500, 0, 0], [0, 0, 1])))
    module.write_table(table, tmp_path / "picks.tsv")
    again = module.read_table(tmp_path / "picks.tsv")
    assert list(again.columns) == module.COLUMNS
    assert again["code"].tolist() == ["", "NO_SLICE"]
    assert again.loc[0, "sac_y"] == pytest.approx(35)
    assert int(again.loc[0, "slice"]) == 2
