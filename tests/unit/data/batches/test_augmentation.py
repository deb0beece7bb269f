import itertools

import numpy as np
import pytest

from neuropbr_core.data.batches.crops import (
    Placement,
    crop_matrix,
    place_image,
    place_map,
    random_placement,
    whole,
)
from neuropbr_core.maps import ALBEDO, NORMAL

SYMMETRIES = list(itertools.product(range(4), (False, True)))
RNG = np.random.default_rng(0)
SIZE = 12


def placed(turns, mirror):
    return Placement(2, 5, 6, turns, mirror)


def test_the_whole_frame_changes_nothing():
    stored = RNG.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
    np.testing.assert_array_equal(place_map(stored, NORMAL, whole(SIZE)), stored)
    np.testing.assert_array_equal(crop_matrix(whole(SIZE), SIZE), np.eye(3))


@pytest.mark.parametrize(("turns", "mirror"), SYMMETRIES)
@pytest.mark.parametrize("scale", [1, 2])
def test_the_frame_says_where_each_pixel_came_from(turns, mirror, scale):
    placement = placed(turns, mirror)
    side = SIZE * scale
    rows, columns = np.mgrid[0:side, 0:side].astype(np.uint8)
    source = place_image(np.stack([columns, rows]), placement, scale)
    crop = placement.side * scale
    v, u = (np.mgrid[0:crop, 0:crop] + 0.5) / crop
    texture = np.einsum("ij,jyx->iyx", crop_matrix(placement, SIZE), np.stack([u, v, np.ones_like(u)]))
    np.testing.assert_allclose(texture[:2] * side - 0.5, source, atol=1e-4)
    np.testing.assert_array_equal(texture[2], 1)


@pytest.mark.parametrize(("turns", "mirror"), SYMMETRIES)
def test_normals_stay_the_slope_of_the_same_heights(turns, mirror):
    """Turning heights and taking their normals equals taking normals and turning them."""

    def normals(heights):
        down, right = np.gradient(heights)
        vectors = np.stack([-right, down, np.ones_like(right)])  # y is up, rows go down
        return vectors / np.linalg.norm(vectors, axis=0)

    def stored(vectors):
        return np.rint((vectors + 1) * 127.5).astype(np.uint8)

    heights = np.random.default_rng(3).normal(size=(SIZE, SIZE)).cumsum(0).cumsum(1) * 0.1
    placement = Placement(0, 0, SIZE, turns, mirror)
    turned = np.rot90(heights, turns)[:, ::-1] if mirror else np.rot90(heights, turns)
    difference = place_map(stored(normals(heights)), NORMAL, placement).astype(int) - stored(normals(turned))
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(("turns", "mirror"), SYMMETRIES)
def test_turning_is_exact_and_can_be_undone(turns, mirror):
    stored = RNG.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
    there = place_map(stored, NORMAL, Placement(0, 0, SIZE, turns, mirror))
    if mirror:  # a mirrored turn is its own inverse
        back = place_map(there, NORMAL, Placement(0, 0, SIZE, turns, True))
    else:
        back = place_map(there, NORMAL, Placement(0, 0, SIZE, -turns % 4))
    np.testing.assert_array_equal(back, stored)


def test_colours_are_not_vectors():
    stored = RNG.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
    np.testing.assert_array_equal(place_map(stored, ALBEDO, Placement(0, 0, SIZE, 1)), np.rot90(stored, 1, axes=(1, 2)))


def test_results_do_not_share_memory():
    stored = np.zeros((3, SIZE, SIZE), np.uint8)
    for turns, mirror in SYMMETRIES:
        assert not np.shares_memory(place_image(stored, placed(turns, mirror)), stored)


def test_random_placements_cover_every_window_and_symmetry():
    rng = np.random.default_rng(1)
    drawn = [random_placement(rng, 6, 4, turn=True) for _ in range(600)]
    assert {(p.x, p.y) for p in drawn} == set(itertools.product(range(3), repeat=2))
    assert {(p.turns, p.mirror) for p in drawn} == set(SYMMETRIES)
    assert {p.side for p in drawn} == {4}


def test_without_crop_or_turn_the_frame_is_whole():
    assert random_placement(np.random.default_rng(0), 6) == whole(6)
