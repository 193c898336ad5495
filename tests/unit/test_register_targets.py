"""`register` on tall images: the scan reaches all of the spine, and a like place elsewhere is
told."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mrsynth.register import _elsewhere, prepare, register, register_stacks, search
from mrsynth.register.settings import Settings
from mrsynth.register.targets import heights, targets
from mrsynth.volume import from_array, to_array

QUICK = {
    "levels_mm": [5.0, 2.5],
    "samples": [3000, 6000],
    "candidates": 9,
    "turn_deg": 0.0,
    "search_mm": [20, 20, 40],
    "search_step_mm": 10.0,
    "flips": False,
}
HU = np.array([-1000, -90, 50, 350], np.float32)
SIGNAL = np.array([5, 220, 90, 30], np.float32)
HALF = np.array([70.0, 55.0, 180.0])


def rigid(rotvec_deg, shift) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(np.radians(rotvec_deg)).as_matrix()
    pose[:3, 3] = shift
    return pose


def seen(values, size, spacing, origin, pose) -> sitk.Image:
    """A body of 360 mm of random tissues on a grid; ``pose`` maps the grid's points to it."""
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = origin
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), -1)
    to_body = pose @ matrix
    world = index @ to_body[:3, :3].T + to_body[:3, 3]
    generator = np.random.default_rng(5)
    noise = ndimage.gaussian_filter(generator.standard_normal((190, 64, 78)), 3.2)
    place = ((world + np.array([78, 64, 190])) / 2)[..., ::-1]
    blob = ndimage.map_coordinates(noise / noise.std(), np.moveaxis(place, -1, 0), order=1)
    inside = (np.abs(world / HALF) ** 4).sum(-1) < 1
    tissue = np.where(inside, 1 + (blob > -0.3) + (blob > 0.9), 0).transpose(2, 1, 0)
    return from_array(values[tissue] + 5 * generator.standard_normal(tissue.shape), matrix)


@pytest.fixture(scope="module")
def tall():
    """A tall CT, a slab of MR 130 mm below its middle with a strange header, and its pose."""
    ct = seen(HU, (80, 66, 92), (2, 2, 4), (-79, -65, -182), np.eye(4))
    truth = rigid([3, -4, 5], [9, -7, -430])
    return ct, seen(SIGNAL, (72, 56, 10), (2, 2, 4), (-80, -55, 282), truth), truth


@pytest.mark.parametrize("landmarks", [False, True])
def test_slab_is_found_far_from_the_middle_of_a_tall_image(tall, landmarks):
    ct, mr, truth = tall
    spine = np.array([[0, 20, z] for z in range(-175, 176, 10)], float)
    where = {"roi": spine, "aim": np.array([0, 0, 100.0])} if landmarks else {}
    found = register(mr, ct, **where, **QUICK)
    corners = np.array([[x, y, z, 1] for x in (-50, 40) for y in (-40, 40) for z in (284, 316)])
    assert np.linalg.norm((found.matrix - truth) @ corners.T, axis=0).max() < 3, found.measures
    assert found.verdict == "accepted", found.measures


def test_one_scan_is_enough_for_what_it_reaches():
    settings = Settings(search_step_mm=10.0)
    assert heights(0, -140, 140, 30, settings) == []
    assert heights(0, -360, 360, 30, settings) == [-250.0, 250.0]
    # The last scan stays in the image.
    assert heights(-200, -360, 360, 30, settings) == [-330.0, 50.0, 300.0]
    # A fixed image taller than the moving one: its centre stays near.
    assert heights(0, -100, 100, 150, settings) == []
    assert heights(0, -360, 360, 30, replace(settings, search_mm=(40, 70, 0))) == []
    reached = np.concatenate([np.arange(-12, 13) * 10 + z for z in (-330, -200, 50, 300)])
    assert np.diff(np.sort(reached)).max() <= 10


def test_places_follow_the_spine_and_the_header(tall):
    settings = Settings(search_mm=(40, 70, 40), search_step_mm=10.0)
    mask = prepare.Picture(tall[0], settings).body
    spine = np.array([[0, z / 5, z] for z in range(-180, 181, 10)], float)
    far = np.array([[0, 0, 900.0], [4, 0, 940.0]])
    places = targets(far, mask, settings, spine, np.array([1, 2, -130.0]))
    assert places[0].tolist() == [1, 2, -130]
    assert [place[2] for place in places[1:]] == [-40, 50, 140]
    assert np.allclose([place[1] for place in places[1:]], [-8, 10, 28], atol=1)
    # The header's own place counts where it lies inside the image and nothing else reaches it.
    known = len(targets(far, mask, settings, spine))
    beside = far - [60, 0, 920]
    assert targets(beside, mask, settings, spine)[known:] == [pytest.approx(beside.mean(axis=0))]
    assert len(targets(far - [0, 0, 920], mask, settings, spine)) == known


def test_best_of_another_part_stays_a_rival():
    settings = Settings(search_mm=(40, 70, 40), search_step_mm=10.0)
    found = [
        search.Candidate(rigid([0, 0, 0], [0, 0, z]), 1 - rank / 10)
        for rank, z in enumerate((0, 20, 38, 200, 300))
    ]
    more = _elsewhere(found, found[:3], np.zeros(3), settings)
    assert [candidate.pose[2, 3] for candidate in more] == [200]
    assert _elsewhere(found, found[1:4], np.zeros(3), settings) == []


def test_twins_far_apart_ask_for_review(tall):
    """The same anatomy twice, farther apart than one scan reaches."""
    ct, mr, _ = tall
    lower = to_array(ct)[5:46]
    twice = sitk.GetImageFromArray(np.concatenate([lower, lower]))
    twice.SetSpacing(ct.GetSpacing())
    twice.SetOrigin((-79, -65, -162))
    whole, (single,) = register_stacks([mr], twice, **QUICK)
    for found in (whole, single):
        assert found.measures["rival"] > 0.75
        assert found.verdict == "review"
