"""Warping the part of a photo that a crop can show equals warping the photo."""

import numpy as np
import pytest
import torch

from neuropbr_core.data.batches.boxes import boxes, into_boxes
from neuropbr_core.data.batches.placement import crop_matrix, random_placement, whole
from neuropbr_core.materials.alignment import warp_views
from neuropbr_core.materials.cameras import sample_cameras

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
