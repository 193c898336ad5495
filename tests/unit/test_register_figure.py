"""The QC figure of `register`: planes as radiologists look at them, contours in place, numbers with
their limits, and nothing in the file that isn't the picture."""

import struct
import time

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mrsynth.register import Registration, figure, planes
from mrsynth.volume import from_array

GATES = [
    {"measure": "rival", "value": 0.81, "limit": 0.75, "side": "most", "passed": False},
    {"measure": "overlap", "value": 0.97, "limit": 0.6, "side": "least", "passed": True},
    {"measure": "odd_mm", "value": None, "limit": 2.0, "side": "most", "passed": False},
]


def grid(size, spacing, origin, turn=None) -> np.ndarray:
    """4×4 of indices to LPS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if turn is None else turn) * np.array(spacing)
    matrix[:3, 3] = origin
    return matrix


def where(size, matrix) -> np.ndarray:
    """LPS mm [z, y, x, 3] of a grid's voxels."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size[::-1]], indexing="ij")[::-1], -1)
    return index @ matrix[:3, :3].T + matrix[:3, 3]


def seen(size, matrix, ct: bool, seed=0) -> sitk.Image:
    """A trunk with a bony tube of radius 20 mm, by CT or MR."""
    world = where(size, matrix)
    trunk = np.hypot(world[..., 0] / 90, world[..., 1] / 70) < 1
    tube = np.hypot(world[..., 0], world[..., 1]) < 20
    levels = (-1000.0, 40.0, 600.0) if ct else (3.0, 300.0, 40.0)
    noise = np.random.default_rng(seed).normal(0, 3, trunk.shape)
    array = np.choose(trunk.astype(int) + (trunk & tube), levels) + noise
    return from_array(array.astype(np.float32), matrix)


@pytest.fixture(scope="module")
def ct():
    size = (110, 90, 60)
    return seen(size, grid(size, (2, 2, 4), (-109, -89, -120)), True)


@pytest.fixture(scope="module")
def stacks():
    size = (64, 52, 4)
    found = []
    for number, height in enumerate((-50, 0, 50)):
        turn = Rotation.from_euler("x", 8 * (number - 1), degrees=True).as_matrix()
        found.append(seen(size, grid(size, (3, 3, 5), (-96, -78, height), turn), False, number))
    return found


def result(verdict="accepted", pose=None, posed=True, **measures) -> Registration:
    return Registration(np.eye(4) if pose is None else pose, verdict, measures, posed)


def marked(size, matrix, corner) -> sitk.Image:
    """An image that is bright only within 15 mm of a point."""
    near = np.linalg.norm(where(size, matrix) - corner, axis=-1) < 15
    return from_array(np.where(near, 900, 100).astype(np.float32), matrix)


def brightest(picture) -> np.ndarray:
    """Centre of what is bright, as shares of the picture's height and width."""
    place = np.argwhere(np.nan_to_num(picture) > 500).mean(axis=0)
    return place / picture.shape


def test_planes_show_right_on_the_left_and_the_head_on_top():
    size, matrix = (60, 50, 40), grid(None, (3, 3, 5), (-90, -75, -100))
    # To the patient's right, in front, at the head.
    low, high = planes.box(marked(size, matrix, (0, 0, 0)))
    corner = np.array([low[0] + 30, low[1] + 30, high[2] - 40])
    image = marked(size, matrix, corner)
    for axis, (name, letters) in {
        2: ("axial", ("R", "L", "A", "P")),
        1: ("coronal", ("R", "L", "H", "F")),
        0: ("sagittal", ("A", "P", "H", "F")),
    }.items():
        shown = {plane.name: plane for plane in planes.orthogonal(image, 2.0)}[name]
        assert shown.letters == letters
        through = shown.world.copy()
        through[..., axis] = corner[axis]
        down, across = brightest(planes.read(image, through))
        assert down < 0.4
        assert across < 0.4


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_a_stack_is_turned_as_radiologists_look_at_it(plane, transposed, signs):
    normal = {"axial": 2, "sagittal": 0, "coronal": 1}[plane]
    (column, right), (row, down) = planes.SHOWN[normal]
    vectors = [signs[0] * np.eye(3)[column], signs[1] * np.eye(3)[row]]
    vectors = vectors[::-1] if transposed else vectors
    turn = np.column_stack([*vectors, np.cross(*vectors)])
    turn = turn @ Rotation.from_euler("xyz", [5, -4, 6], degrees=True).as_matrix()
    size = (40, 44, 3)
    matrix = grid(size, (4, 4, 5), (0, 0, 0), turn)
    middle = matrix @ [19.5, 21.5, 1, 1]
    # A mark towards the left and upper edge as they shall be shown.
    corner = middle[:3] - 50 * right * np.eye(3)[column] - 50 * down * np.eye(3)[row]
    image = marked(size, matrix, corner)
    shown = planes.centre_slice(image, "slice", 2.0)
    expected = {"axial": "RLAP", "sagittal": "APHF", "coronal": "RLHF"}[plane]
    assert "".join(shown.letters) == expected
    down, across = brightest(planes.read(image, shown.world))
    assert down < 0.4
    assert across < 0.4


def test_values_are_read_through_the_pose():
    size, matrix = (30, 30, 30), grid(None, (2, 3, 4), (-30, -45, -60))
    world = where(size, matrix)
    ramp = from_array((world @ [1.0, 2.0, 3.0]).astype(np.float32), matrix)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", 20, degrees=True).as_matrix()
    pose[:3, 3] = (4, -3, 5)
    points = np.random.default_rng(0).uniform(-15, 15, (6, 7, 3))
    there = points @ pose[:3, :3].T + pose[:3, 3]
    assert np.allclose(planes.read(ramp, points, pose), there @ [1.0, 2.0, 3.0], atol=1e-3)
    spread = np.array([[0, 0, -4.0], [0, 0, 0], [0, 0, 10.0]])
    assert np.allclose(
        planes.read(ramp, points, pose, spread), there @ [1.0, 2.0, 3.0] + 6, atol=1e-3
    )
    assert np.isnan(planes.read(ramp, points + 500)).all()


def test_overview_has_each_block_where_its_own_pose_puts_it(stacks, ct):
    shift = np.eye(4)
    shift[2, 3] = 30
    results = [result(pose=pose) for pose in (np.eye(4), shift, np.eye(4))]
    centres = [
        stack.TransformContinuousIndexToPhysicalPoint((31.5, 25.5, 1.5))[2] for stack in stacks
    ]
    expected = [centres[0], centres[1] + 30, centres[2]]
    spine = np.array([[0, y, z] for z in range(-100, 101, 20) for y in (0, 20)], float)
    for along in (None, spine):
        shown = figure.overview_rows(stacks, ct, results, along)
        assert [row.plane.letters for row, _ in shown] == [
            ("A", "P", "H", "F"),
            ("R", "L", "H", "F"),
        ]
        for row, masks in shown:
            heights = [row.plane.world[..., 2][mask].mean() for mask in masks]
            assert heights == pytest.approx(expected, abs=4)
            assert np.isfinite(row.fixed[masks[0]]).all()
    curved = shown[0][0].plane.world
    assert np.ptp(curved[..., 2]) > 150


def test_bone_contour_lies_on_the_bone(ct):
    plane = {plane.name: plane for plane in planes.orthogonal(ct, 0.8)}["axial"]
    (line,) = figure.bone(planes.read(ct, plane.world), plane.step_mm)
    rows, columns = line[:, 1] - 0.5, line[:, 0] - 0.5
    x, y = (
        ndimage.map_coordinates(plane.world[..., axis], [rows, columns], order=1) for axis in (0, 1)
    )
    assert np.hypot(x, y) == pytest.approx(20, abs=1.5)


def test_edges_and_checkerboard():
    board = figure.checkerboard(np.zeros((50, 50)), np.ones((50, 50)), (1.0, 1.0))
    assert (board[0, 0], board[0, 30], board[30, 30]) == (0, 1, 0)
    step = np.repeat([[0.0] * 20 + [1.0] * 20], 40, axis=0)
    assert set(np.argwhere(figure.edges(step, (1, 1)))[:, 1]) <= {19, 20}


def test_fusion_shows_bone_in_colour_on_the_grey_mr():
    mr, ct = np.full((2, 2), 0.4), np.array([[0.2, 0.4], [0.9, 1.0]])
    for mixed in (figure.fusion(mr, ct, False, True), figure.fusion(ct, mr, True, False)):
        assert np.allclose(mixed[0], 0.4)
        assert np.all(mixed[1, :, 0] > mixed[1, :, 2] + 0.3)
    same = figure.fusion(mr, ct, False, False)
    assert np.allclose(same[..., 1], mr)


def words(drawing) -> dict[str, str]:
    """Every text of a figure with its colour."""
    return {text.get_text(): text.get_color() for text in drawing.axes[0].texts}


def test_numbers_stand_with_their_limits(stacks, ct):
    whole = result("review", gates=GATES, mi=0.62, reasons=["another start is nearly as good"])
    texts = words(figure.draw(stacks, ct, whole, [whole] * 3, "sub-ABCDEFGH"))
    lines = {text.split(":")[0]: (text, colour) for text, colour in texts.items()}
    failed, passed = lines["next best start, of the rise"], lines["samples inside the other field"]
    assert "81% (at most 75%)" in failed[0]
    assert "97% (at least 60%)" in passed[0]
    assert failed[1] != passed[1]
    assert "not measured (at most 2.00)" in lines["odd mm"][0]
    assert "0.62 nats" in lines["mutual information over chance"][0]
    assert "another start is nearly as good" in lines["REVIEW"][0]
    assert [text for text in texts if text.startswith("block 3: REVIEW")]


def test_a_pose_that_was_not_found_is_said(ct):
    texts = words(figure.draw([ct], ct, result("failed", posed=False, reasons=["flat"]), []))
    assert any("no pose was found" in text and "flat" in text for text in texts)


def chunks(path) -> list[str]:
    """Types of a PNG's chunks."""
    data, at, found = path.read_bytes(), 8, []
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        found.append(kind.decode())
        at += 12 + length
    return found


@pytest.mark.parametrize("case", ["blocks", "volume", "one block"])
def test_file_is_the_same_each_time_and_holds_no_text(case, tmp_path, stacks, ct):
    images = {"blocks": stacks, "volume": [ct], "one block": stacks[:1]}[case]
    single = [result(mi=0.5)] * 3 if case == "blocks" else []
    for name in ("one.png", "two.png"):
        figure.write_figure(tmp_path / name, images, ct, result(mi=0.5), single, stack_note="sub-X")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.png").stat().st_size > 20_000
    assert set(chunks(tmp_path / "one.png")) <= {"IHDR", "pHYs", "IDAT", "IEND"}


@pytest.mark.parametrize("case", ["nan", "far", "flat", "two of a kind"])
def test_hopeless_pairs_have_their_picture_too(case, tmp_path, stacks, ct):
    images, moving, pose = list(stacks), ct, np.eye(4)
    if case == "nan":
        images[0] = images[0] * float("nan")
    elif case == "far":
        pose = np.eye(4) + 900 * np.eye(4, k=3)
    elif case == "flat":
        moving = ct * 0
    else:
        moving = stacks[1]
    whole = result("failed", pose, case != "nan", reasons=["far"])
    figure.write_figure(tmp_path / "blocks.png", images, moving, whole, [whole] * 3)
    figure.write_figure(tmp_path / "volume.png", [moving], images[0], whole, [])
    assert all(path.stat().st_size > 5_000 for path in tmp_path.iterdir())


def test_a_figure_costs_under_three_seconds(tmp_path):
    size = (256, 256, 120)
    ct = seen(size, grid(size, (1, 1, 2), (-128, -128, -120)), True)
    block = (320, 320, 4)
    images = [
        seen(block, grid(block, (0.6, 0.6, 4), (-96, -96, z)), False)
        for z in (-70, -30, 10, 50, 90)
    ]
    start = time.process_time()
    figure.write_figure(tmp_path / "big.png", images, ct, result(), [result()] * 5)
    assert time.process_time() - start < 3
