"""The part of a photo that a crop can show, and the errors that a visit draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuropbr_core.data.batches.batch import Item, collate
from neuropbr_core.data.batches.crops import (
    apply_gains,
    boxes,
    crop_matrix,
    draw_jitter,
    into_boxes,
    random_placement,
    whole,
)
from neuropbr_core.data.batches.prepare import prepare
from neuropbr_core.data.seeding import JITTER, numpy_generator
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.alignment import warp_views
from neuropbr_core.materials.cameras import sample_cameras
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.recipe.sections import Data, Jitter

SIZE, VIEWS, BATCH = 192, 3, 4


def homographies(seed):
    taken = [sample_cameras(torch.Generator().manual_seed(10 * seed + index), VIEWS) for index in range(BATCH)]
    return np.array([[camera.homography.tolist() for camera in cameras] for cameras in taken])


def cut(views, corners, sides):
    width, height = sides
    return torch.stack(
        [
            torch.stack([view[:, y : y + height, x : x + width] for view, (x, y) in zip(sample, places, strict=True)])
            for sample, places in zip(views, corners.tolist(), strict=True)
        ]
    )


def both(matrices, placements, size=SIZE, finer=1):
    """The crop warped from whole views, `finer` times as large as the frame, and from boxes."""
    shape = (len(placements), matrices.shape[1], 3, finer * size, finer * size)
    views = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    frame = torch.from_numpy(np.stack([crop_matrix(placement, size) for placement in placements]))
    corners, sides = boxes(matrices, frame.numpy(), finer * size)
    adjusted = torch.from_numpy(into_boxes(matrices, corners, sides, finer * size)).float()
    side = placements[0].side
    full = warp_views(views, torch.from_numpy(matrices).float(), frame, side, finer)
    part = warp_views(cut(views, corners, sides), adjusted, frame, side, finer)
    return full, part, sides


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("crop", [16, 48, None])
def test_warping_a_box_equals_warping_the_photo(seed, crop):
    rng = np.random.default_rng(seed)
    placements = [random_placement(rng, SIZE, crop, turn=True) for _ in range(BATCH)]
    (full, seen), (part, also_seen), sides = both(homographies(seed), placements)
    assert torch.equal(seen, also_seen)
    torch.testing.assert_close(part, full, rtol=0, atol=2e-4)  # noise has steps of up to 1 a pixel
    if crop == 16:
        assert max(sides) <= SIZE / 3


@pytest.mark.parametrize("seed", range(2))
def test_photos_larger_than_the_frame_are_cut_as_exactly(seed):
    rng = np.random.default_rng(seed)
    placements = [random_placement(rng, 96, 32, turn=True) for _ in range(BATCH)]
    (full, seen), (part, also_seen), sides = both(homographies(seed), placements, 96, finer=2)
    assert torch.equal(seen, also_seen)
    torch.testing.assert_close(part, full, rtol=0, atol=2e-4)
    assert 64 <= max(sides) <= 128


def test_a_crop_at_the_border_of_a_photo_sees_as_much_as_before():
    shifted = np.array([[1.0, 0.0, -0.1], [0.0, 1.0, 0.85], [0.0, 0.0, 1.0]])[None, None]
    (full, seen), (part, also_seen), _ = both(shifted, [whole(SIZE)])
    assert 0 < seen.mean() < 0.2
    assert torch.equal(seen, also_seen)
    torch.testing.assert_close(part, full, rtol=0, atol=2e-4)


def test_a_photo_that_does_not_show_the_crop_stays_unseen():
    away = np.array([[1.0, 0.0, 5.0], [0.0, 1.0, -5.0], [0.0, 0.0, 1.0]])[None, None]
    (_, seen), (part, also_seen), sides = both(away, [whole(SIZE)])
    assert seen.max() == also_seen.max() == part.abs().max() == 0
    assert sides == (16, 16)


def test_a_crop_that_reaches_behind_the_camera_takes_the_whole_photo():
    tilted = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-3.0, 0.0, 1.0]])[None, None]
    (full, seen), (part, also_seen), sides = both(tilted, [whole(SIZE)])
    assert sides == (SIZE, SIZE)
    assert torch.equal(seen, also_seen)
    assert torch.equal(full, part)


def test_boxes_lie_inside_the_photo_and_share_their_sides():
    rng = np.random.default_rng(0)
    for seed in range(20):
        placements = [random_placement(rng, SIZE, 32) for _ in range(BATCH)]
        frames = np.stack([crop_matrix(placement, SIZE) for placement in placements])
        corners, (width, height) = boxes(homographies(seed), frames, SIZE)
        assert corners.shape == (BATCH, VIEWS, 2)
        assert corners.min() >= 0
        assert np.add(corners, (width, height)).max() <= SIZE
        assert width % 16 == height % 16 == 0


def test_the_whole_photo_leaves_the_homography_as_it_is():
    matrices = homographies(0)
    np.testing.assert_array_equal(into_boxes(matrices, np.zeros((BATCH, VIEWS, 2), int), (SIZE, SIZE), SIZE), matrices)


FRAME = 256
CORNERS = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1.0]])


def drawn(seed=0, views=4, **options):
    return draw_jitter(numpy_generator(seed, JITTER), Jitter(**options), views, FRAME)


def shifts(shake):
    """Pixels by which a shake moves the corners."""
    moved = CORNERS @ shake.T
    return (moved[:, :2] / moved[:, 2:] - CORNERS[:, :2]) * FRAME


def test_everything_is_off_by_default():
    assert drawn() == (None, None)


def test_exposure_changes_all_channels_of_a_view_alike():
    gains = np.stack([drawn(seed, exposure=0.5).gains for seed in range(200)])
    assert gains.shape == (200, 4, 3)
    np.testing.assert_array_equal(gains, np.repeat(gains[..., :1], 3, axis=2))
    stops = np.log2(gains[..., 0])
    assert np.abs(stops).max() <= 0.5
    assert np.abs(stops).max() > 0.48
    assert abs(stops.mean()) < 0.05
    assert abs(np.corrcoef(stops[:, 0], stops[:, 1])[0, 1]) < 0.25


def test_color_changes_each_channel_by_at_most_its_share():
    gains = np.stack([drawn(seed, color=0.1).gains for seed in range(200)])
    assert gains.max() <= 1.1 + 1e-6
    assert gains.min() >= 1 / 1.1 - 1e-6
    assert gains.max() > 1.09
    assert abs(np.corrcoef(gains[:, 0, 0], gains[:, 0, 2])[0, 1]) < 0.25


def test_alignment_moves_the_corners_of_all_views_but_the_first():
    shakes = np.stack([drawn(seed, alignment=2.0).shakes for seed in range(100)])
    np.testing.assert_allclose(shakes[:, 0], np.broadcast_to(np.eye(3), (100, 3, 3)), atol=1e-12)
    moved = np.stack([shifts(shake) for shake in shakes[:, 1:].reshape(-1, 3, 3)])
    assert np.abs(moved).max() <= 2 + 1e-6
    assert np.abs(moved).max() > 1.9
    assert abs(moved.mean()) < 0.1


def test_a_draw_repeats_and_what_is_off_does_not_change_it():
    alone, both = drawn(3, exposure=0.5), drawn(3, exposure=0.5, alignment=1.0)
    np.testing.assert_array_equal(alone.gains, both.gains)
    np.testing.assert_array_equal(drawn(3, alignment=1.0).shakes, both.shakes)
    assert not np.array_equal(drawn(4, exposure=0.5).gains, alone.gains)


def test_gains_act_in_linear_light_and_clip_at_white():
    linear = torch.tensor([0.0, 0.1, 0.4, 0.9]).view(1, 1, 1, 1, 4).expand(1, 2, 3, 1, 4)
    gains = torch.tensor([[[2.0, 1.0, 0.5], [1.0, 1.0, 1.0]]])
    expected = linear_to_srgb((linear * gains[..., None, None]).clamp(max=1))
    found = apply_gains(linear_to_srgb(linear), gains)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert found[0, 0, 0, 0].tolist() == pytest.approx(
        [0, float(linear_to_srgb(torch.tensor(0.2))), 0.9063, 1], abs=1e-3
    )
    torch.testing.assert_close(found[0, 1], linear_to_srgb(linear)[0, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("aligned", [False, True])
def test_prepared_views_have_their_gains_and_what_is_not_seen_stays_black(aligned):
    views = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    halves = torch.tensor([[1.0, 0.0, -0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # the views show the right half
    item = Item(
        ids=["a"],
        materials=["b"],
        views=views,
        targets={name: torch.zeros(spec.channels, 16, 16, dtype=torch.uint8) for name, spec in MAPS.items()},
        homographies=halves.expand(2, 3, 3) if aligned else None,
        positions=torch.tensor([[0.0, 0.0, 1.0]]).expand(2, 3) if aligned else None,
        crop_to_texture=torch.eye(3),
    )
    data = Data(image_size=16, output_size=16, alignment="recorded" if aligned else "none")
    gains = torch.tensor([[0.5, 1.0, 2.0], [1.0, 0.7, 1.0]])
    plain = prepare(collate([item]), data, "cpu")
    changed = prepare(collate([replace(item, gains=gains)]), data, "cpu")
    torch.testing.assert_close(changed.views, apply_gains(plain.views, gains[None]))
    assert (changed.views - plain.views).abs().max() > 0.1
    assert changed.views[plain.visible.expand_as(plain.views) == 0].sum() == 0
    torch.testing.assert_close(changed.targets["albedo"], plain.targets["albedo"])
