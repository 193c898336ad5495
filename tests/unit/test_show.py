"""Views of the review page: every pixel knows its place, and a subject has its share of bytes."""

import inspect
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mrsynth.geometry import apply, rigid_from_axis
from mrsynth.locate.landmarks import Disc, Landmarks
from mrsynth.pick import pick
from mrsynth.show import card, moved_landmarks, read_card, write_card
from mrsynth.show.gates import gates, strain
from mrsynth.show.pictures import fitted, png
from mrsynth.show.views import follow, on_slice
from mrsynth.volume import affine, from_array

ROOT = Path(__file__).parents[2]
GATES = [
    {"measure": "rival", "value": 0.6, "limit": 0.75, "side": "most", "passed": True},
    {"measure": "overlap", "value": 0.5, "limit": 0.6, "side": "least", "passed": False},
]
WEIGHTS = np.array([0.5, -0.7, 0.3])
"""Grey per mm along x, y, z: any place has its own grey."""


def field(points):
    return 120 + points @ WEIGHTS


def volume(size=(60, 50, 6), spacing=(2.0, 2.0, 4.0), degrees=0.0, centre=(0, 0, 0), flip=1):
    """A grid about a centre, turned about x, that holds :func:`field` of its own points."""
    matrix = np.diag([*np.array(spacing) * [flip, 1, 1], 1.0])
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(size) - 1) / 2)
    matrix = rigid_from_axis([1, 0, 0], degrees, shift=centre) @ matrix
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), -1)
    values = field(apply(matrix, index)).transpose(2, 1, 0)
    return from_array(values.astype(np.float32), matrix)


def points_of(view):
    """Places of all pixels as the page computes them."""
    c, r = np.meshgrid(np.arange(view["columns"]), np.arange(view["rows"]))
    across, down = np.array(view["across_mm"]), np.array(view["down_mm"])
    return np.array(view["origin_mm"]) + c[..., None] * across + r[..., None] * down


@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("degrees", [0.0, 25.0])
def test_a_views_pixels_are_where_its_map_says(degrees, flip):
    stack = volume(degrees=degrees, flip=flip)
    to_native = rigid_from_axis([0.2, 0.5, 1], 20, shift=[30, -12, 400])
    centre = apply(to_native, [4.0, -6.0, 9.0])
    made, view = on_slice({"ct": stack}, 3, to_native, (centre, 40.0, 0.8))
    assert made["ct"].shape == (view["rows"], view["columns"]) == (50, 50)
    places = apply(np.linalg.inv(to_native), points_of(view))
    np.testing.assert_allclose(made["ct"], field(places), atol=0.01)
    # In the slice, and centred on the disc as far as the slice goes.
    heights = apply(np.linalg.inv(affine(stack)), places)[..., 2]
    np.testing.assert_allclose(heights, 3, atol=1e-3)
    assert np.abs(places.mean(axis=(0, 1))[0] - 4) < 0.8
    # Patient's right is on the left of the page, front up.
    assert places[0, -1, 0] > places[0, 0, 0]
    assert places[-1, 0, 1] > places[0, 0, 1]


def test_a_whole_slice_keeps_its_form():
    made, view = on_slice({"ct": volume(size=(60, 30, 3))}, 1, np.eye(4))
    assert view["columns"] == 224
    assert view["rows"] == 112
    assert made["ct"].shape == (112, 224)


def spine(count=3, tilt=0.2):
    discs = []
    for n in range(count):
        z = 40.0 * ((count - 1) / 2 - n)
        centre = np.array([3.0 + 0.1 * z, -5.0, z])
        discs.append(
            Disc(
                f"L{n + 1}-L{n + 2}",
                centre,
                [0, tilt, 1],
                sac_mm=centre + np.array([0, 25, 0]),
                ventral_mm=centre - np.array([0, 18, 0]),
                lateral_mm=centre + np.array([[-22, 0, 0], [22, 0, 0]]),
            )
        )
    return Landmarks(discs)


def test_the_sagittal_view_follows_the_discs():
    native = volume(size=(60, 90, 90), spacing=(2.0, 2.5, 2.5))
    to_fixed = rigid_from_axis([1, 0, 0], 10, shift=[0, 50, 200])
    stack = volume(size=(60, 60, 3), centre=(0, 50, 200))
    landmarks = spine()
    made, view = follow(native, [stack], [to_fixed], landmarks.discs, 1.0)
    points = points_of(view)
    points[..., 0] = 3.0 + 0.1 * np.clip(points[..., 2], -40, 40)
    expected = 255 * (field(points) + 160) / 500
    np.testing.assert_allclose(made["native"], expected, atol=0.5)
    inside = made["other"] != 0
    # Three slices of 4 mm, cut at some angle.
    assert 8 < inside.sum(axis=0).max() < 16
    wrong = np.abs(made["other"][inside] - field(apply(to_fixed, points[inside])))
    assert np.median(wrong) < 0.01
    # The outermost half voxel has the grey of its centre.
    assert wrong.max() < np.abs(WEIGHTS) @ [1, 1, 2]


def a_card(tmp_path, landmarks=None, moved=(), **settings):
    landmarks = landmarks or spine()
    stacks = [volume(centre=disc.centre_mm) for disc in landmarks.discs]
    native = volume(size=(60, 90, 120), spacing=(2.0, 2.5, 2.5))
    noise = np.random.default_rng(0).integers(0, 255, (400, 640, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "figure.png")
    figures = {"register": tmp_path / "figure.png", "locate": tmp_path / "figure.png"}
    registration = {
        "verdict": "review",
        "posed": True,
        "measures": {"gates": GATES, "reasons": ["small overlap"]},
        "stacks": [{"stack": 2, "verdict": "failed", "posed": False, "measures": None}],
    }
    matrices = [np.eye(4)] * len(stacks)
    return card(
        stacks,
        stacks,
        pick(stacks, landmarks, matrices, rule="reformat"),
        landmarks,
        native,
        matrices,
        registration,
        figures,
        moved=list(moved),
        **settings,
    )


def test_a_card_holds_what_the_page_needs(tmp_path):
    made = a_card(tmp_path)
    assert [view["name"] for view in made.content["views"]] == ["L1-L2", "L2-L3", "L3-L4"]
    assert [disc["name"] for disc in made.content["discs"]] == ["L1-L2", "L2-L3", "L3-L4"]
    judged = made.content["registration"]
    assert [part["verdict"] for part in judged["stacks"]] == ["review", "failed", "review"]
    assert [part["posed"] for part in judged["stacks"]] == [True, False, True]
    assert {gate["measure"]: gate["passed"] for gate in judged["gates"]} == {
        "rival": True,
        "overlap": False,
    }
    assert judged["strain"] == pytest.approx(0.5 / 0.4)
    for view in made.content["views"]:
        assert all(name in made.pictures for name in view["pictures"].values())
    write_card(made, tmp_path / "card.jsonl")
    content, pictures = read_card(tmp_path / "card.jsonl")
    assert content == made.content
    assert pictures.keys() == made.pictures.keys()
    (tmp_path / "refused.jsonl").touch()
    assert read_card(tmp_path / "refused.jsonl") is None


@pytest.mark.parametrize("discs", [3, 18])
def test_a_subject_has_its_share_of_bytes(tmp_path, discs):
    made = a_card(tmp_path, spine(discs), subject_kb=600)
    write_card(made, tmp_path / "card.jsonl")
    assert (tmp_path / "card.jsonl").stat().st_size < 630_000
    assert len(made.content["views"]) == discs


def test_the_stamp_is_about_the_registration_alone(tmp_path):
    moved = [{"disc": "L1-L2", "point": "sac", "after_mm": [1.0, 2.0, 40.0], "readers": 1}]
    other = moved_landmarks(spine(), moved)
    np.testing.assert_allclose(other.discs[0].sac_mm, [1, 2, 40])
    assert a_card(tmp_path).content["stamp"] == a_card(tmp_path, other, moved).content["stamp"]


def test_slices_that_stand_for_no_disc(tmp_path):
    stack = volume(size=(40, 40, 60), spacing=(3.0, 3.0, 4.0))
    made = card(
        [stack], [stack], pick([stack], slices="all"), None, None, None, {}, {}, slices="all"
    )
    assert len(made.content["views"]) == 24
    assert made.content["stacks"] == 1
    nothing = pick([stack], slices="all").assign(status="out")
    unseen = card([stack], [stack], nothing, None, None, None, {}, {}, slices="all")
    assert unseen.content["views"] == []
    assert made.content["registration"] is None
    assert "sagittal" not in made.content
    empty = pd.DataFrame([{"name": "L4-L5", "status": "out", "code": "NO_SLICE"}]).reindex(
        columns=pick([stack], slices="all").columns
    )
    none = card([stack], [stack], empty, spine(), None, None, {}, {})
    assert none.content["views"] == []
    assert none.content["unseen"][0]["name"] == "L4-L5"


def test_a_sac_that_was_not_found_waits_behind_the_disc(tmp_path):
    landmarks = spine()
    landmarks.discs[1].sac_mm = None
    found, guessed, _ = a_card(tmp_path, landmarks).content["discs"]
    assert (found["guessed"], guessed["guessed"]) == (False, True)
    disc = landmarks.discs[1]
    offset = np.array(guessed["sac_mm"]) - disc.centre_mm
    assert np.linalg.norm(offset) == pytest.approx(25, abs=1e-3)
    assert abs(offset @ disc.normal) < 1e-3
    assert offset[1] > 20


def test_strain_is_one_at_the_threshold():
    own = {"measure": "bone_mm", "value": 2.5, "limit": 2.0, "side": "most", "passed": False}
    assert gates({"gates": [own | {"more": 1}], "rival": 0.1}) == [own]
    assert gates({"rival": 0.1}) == []
    assert strain(own) == pytest.approx(1.25)
    assert strain(own | {"value": None}) == 0
    assert strain({"measure": "mi", "value": 0.1, "limit": 0.03, "side": "least"}) < 1
    assert strain({"measure": "mi", "value": 0.01, "limit": 0.03, "side": "least"}) > 1
    assert strain({"measure": "peak", "value": 1.0, "limit": 0.95, "side": "least"}) == 0


def test_schema_and_function_have_the_same_defaults():
    schema = yaml.safe_load((ROOT / "workflow/schemas/show.schema.yaml").read_text())
    injected = {"moved", "labels", "side", "landmarks_frame", "slices"}
    parameters = inspect.signature(card).parameters
    keywords = {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert keywords.keys() - injected == schema["properties"].keys()
    for name, block in schema["properties"].items():
        assert keywords[name] == block["default"]


def test_pictures_are_small_pngs(tmp_path):
    grey = np.linspace(-20, 300, 64 * 64).reshape(64, 64)
    picture = np.array(Image.open(io.BytesIO(png(grey))), float)
    assert np.abs(picture - np.clip(grey, 0, 255)).max() <= 255 / 63 / 2 + 1
    noise = np.random.default_rng(0).integers(0, 255, (350, 700, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "figure.png")
    assert len(fitted(tmp_path / "figure.png", 120_000)) <= 120_000
    whole = Image.open(io.BytesIO(fitted(tmp_path / "figure.png", 10_000_000)))
    assert whole.size == (700, 350)
    least = Image.open(io.BytesIO(fitted(tmp_path / "figure.png", 1000)))
    assert least.width >= 480
