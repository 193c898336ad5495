"""Augmentation: one draw for a pair, exact flips and shifts, rotation about the middle, masks."""

import pytest
import torch

from mrsynth import augment

NOTHING = {"flip": 0.0, "pad_ratio": 1.0, "rotation_deg": 0.0}


def _batch(count=3, height=32, width=48):
    torch.manual_seed(0)
    image = torch.rand(count, 1, height, width) * 2 - 1
    return {"source": image, "target": -image, "mask": torch.ones_like(image)}


def test_no_augmentation_changes_nothing():
    batch = _batch()
    made = augment.augment(batch, **NOTHING)
    for name, tensor in batch.items():
        assert torch.allclose(made[name], tensor, atol=1e-5)


def test_a_certain_flip_mirrors_left_and_right():
    batch = _batch()
    made = augment.augment(batch, **{**NOTHING, "flip": 1.0})
    assert torch.allclose(made["source"], batch["source"].flip(-1), atol=1e-5)


def test_flips_come_half_of_the_time():
    torch.manual_seed(0)
    matrices = augment.draw(1000, (8, 8))
    assert 430 < int((matrices[:, 0, 0] < 0).sum()) < 570


def test_pairs_share_a_draw():
    made = augment.augment(_batch())
    inside = made["source"] > -0.999
    opposite = (made["source"] + made["target"]).abs() < 1e-4
    # outside and at its interpolated rim both are background and don't cancel
    assert float(opposite[inside].float().mean()) > 0.9


def test_unpaired_images_draw_their_own():
    batch = _batch()
    made = augment.augment_apart({name: batch[name] for name in ("source", "target")})
    assert float(((made["source"] + made["target"]).abs() < 1e-2).float().mean()) < 0.2


def test_shifts_are_whole_pixels_within_the_padding():
    torch.manual_seed(2)
    image = torch.rand(1, 1, 32, 64) + 0.5
    seen = set()
    for _ in range(40):
        matrix = augment.draw(1, (32, 64), **{**NOTHING, "pad_ratio": 1.25})
        moved = augment.apply(image, matrix, border="background")
        dy, dx = round(float(matrix[0, 1, 2]) * 16), round(float(matrix[0, 0, 2]) * 32)
        seen.add((dy, dx))
        padded = torch.nn.functional.pad(image, (8, 8, 4, 4), value=-1.0)
        assert torch.allclose(moved, padded[..., 4 + dy : 36 + dy, 8 + dx : 72 + dx], atol=1e-4)
    rows, columns = zip(*seen, strict=True)
    assert min(rows) >= -4
    assert max(rows) <= 4
    assert min(columns) < -4
    assert max(columns) > 4


def test_rotation_keeps_a_disc_round_in_an_oblong_image():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    disc = (((y - 19.5) ** 2 + (x - 39.5) ** 2) < 144).float()[None, None] * 2 - 1
    torch.manual_seed(1)
    matrix = augment.draw(1, (40, 80), flip=0.0, pad_ratio=1.0, rotation_deg=45.0)
    assert abs(float(matrix[0, 1, 0])) > 0.1
    moved = augment.apply(disc, matrix)
    assert float((moved - disc).abs().mean()) < 0.02


def test_rotations_stay_within_the_limit():
    torch.manual_seed(3)
    matrices = augment.draw(500, (16, 16), flip=0.0, pad_ratio=1.0, rotation_deg=5.0)
    degrees = torch.rad2deg(torch.asin(matrices[:, 1, 0]))
    assert 4.5 < float(degrees.abs().max()) <= 5.001


def test_mask_counts_new_background_and_drops_what_touches_the_invalid():
    mask = torch.ones(1, 1, 16, 16)
    mask[..., :8] = 0
    shift = torch.tensor([[[1.0, 0, 0.5], [0, 1.0, 0]]])
    moved = augment.apply_mask(mask, shift)
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(moved[0, 0, 0], torch.tensor([0.0] * 4 + [1.0] * 12))


def test_draws_follow_torchs_seed():
    torch.manual_seed(5)
    first = augment.draw(4, (8, 8))
    torch.manual_seed(5)
    assert torch.equal(first, augment.draw(4, (8, 8)))


@pytest.mark.parametrize("size", [(32, 32), (20, 44)])
def test_background_fills_what_lies_outside(size):
    image = torch.ones(1, 1, *size)
    matrix = torch.tensor([[[1.0, 0, 1.0], [0, 1.0, 0]]])
    moved = augment.apply(image, matrix, border="background")
    assert torch.allclose(moved[..., size[1] // 2 :], torch.tensor(-1.0))


def test_reflection_mirrors_the_image_at_its_border():
    image = torch.arange(8.0).reshape(1, 1, 1, 8).expand(1, 1, 4, 8)
    matrix = torch.tensor([[[1.0, 0, 0.5], [0, 1.0, 0]]])  # two pixels to the left
    moved = augment.apply(image, matrix, border="reflect")
    assert moved[0, 0, 0].tolist() == [2, 3, 4, 5, 6, 7, 7, 6]
