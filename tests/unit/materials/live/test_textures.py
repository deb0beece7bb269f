"""Packed textures: exact where nothing is interpolated, turned as pictures are, averaged with their slopes' spread."""

import math

import numpy as np
import pytest

from neuropbr_core.data.batches.crops import Placement, place_map
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.live.crop_grid import frame_points
from neuropbr_core.materials.live.textures import STRAIGHT, Pose, Texture, measure, pack_texels, slopes_to_normals

SIDE = 64


def stored(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    maps = {name: rng.integers(0, 256, (spec.channels, SIDE, SIDE)).astype(np.uint8) for name, spec in MAPS.items()}
    slopes = rng.normal(0, 0.4, (2, SIDE * SIDE)).astype(np.float32)
    normals = (slopes_to_normals(slopes) + 1) * 127.5
    maps["normal"] = np.rint(normals).astype(np.uint8).reshape(3, SIDE, SIDE)
    return maps


def texture(maps: dict[str, np.ndarray]) -> Texture:
    levels = pack_texels(maps)
    return Texture("any", tuple(levels), measure(levels))


def test_texels_come_back_as_they_were() -> None:
    maps = stored()
    values = texture(maps).look_up(frame_points(SIDE), STRAIGHT, 1 / SIDE)
    np.testing.assert_array_equal(np.rint(values.albedo * 255).reshape(3, SIDE, SIDE), maps["albedo"])
    np.testing.assert_array_equal(np.rint(values.roughness * 255).reshape(SIDE, SIDE), maps["roughness"][0])
    np.testing.assert_array_equal(np.rint(values.metallic * 255).reshape(SIDE, SIDE), maps["metallic"][0])
    normals = slopes_to_normals(values.slopes).reshape(3, SIDE, SIDE)
    np.testing.assert_allclose(normals, maps["normal"] / 127.5 - 1, atol=0.012)
    assert not values.spread.any()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_turned_material_is_its_turned_picture(turns: int, mirror: bool) -> None:
    """The same turn by indexing, of which the project's placements are the reference, vectors included."""
    maps = stored()
    placement = Placement(0, 0, SIDE, turns, mirror)
    frame = np.eye(2)
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    for _ in range(turns):
        frame = frame @ quarter
    if mirror:
        frame = frame @ np.diag([-1.0, 1.0])
    values = texture(maps).look_up(frame_points(SIDE), Pose(frame, 1.0, np.array([0.5, 0.5])), 1 / SIDE)
    albedo = place_map(maps["albedo"], MAPS["albedo"], placement)
    np.testing.assert_array_equal(np.rint(values.albedo * 255).reshape(3, SIDE, SIDE), albedo)
    normal = place_map(maps["normal"], MAPS["normal"], placement) / 127.5 - 1
    np.testing.assert_allclose(slopes_to_normals(values.slopes).reshape(3, SIDE, SIDE), normal, atol=0.012)


def test_it_repeats() -> None:
    points = frame_points(SIDE)
    there = texture(stored())
    shifted = Pose(np.eye(2), 1.0, np.array([0.5 + 3, 0.5 - 2]))
    first, second = there.look_up(points, STRAIGHT, 1 / SIDE), there.look_up(points, shifted, 1 / SIDE)
    np.testing.assert_array_equal(first.albedo, second.albedo)


def test_coarse_levels_keep_means_and_remember_the_spread_of_slopes() -> None:
    there = texture(stored())
    fine = there.look_up(frame_points(SIDE), STRAIGHT, 1 / SIDE)
    coarse = there.look_up(frame_points(SIDE // 2), STRAIGHT, 2 / SIDE)
    np.testing.assert_allclose(coarse.albedo.mean(1), fine.albedo.mean(1), atol=2e-3)
    np.testing.assert_allclose(coarse.slopes.mean(1), fine.slopes.mean(1), atol=0.01)
    # Of four independent slopes the mean has a quarter of the variance; the rest is the spread.
    hidden = float(np.square(coarse.spread).mean())
    assert hidden == pytest.approx(0.75 * float(fine.slopes.var()), rel=0.1)
    assert there.traits.slope == pytest.approx(float(np.hypot(*fine.slopes).mean()), rel=0.02)


def test_zoom_shows_more_of_the_material() -> None:
    """A wave of 4 periods a tile has 8 in a frame of two tiles."""
    maps = stored()
    wave = 127.5 + 127.5 * np.sin(2 * math.pi * 4 * (np.arange(SIDE) + 0.5) / SIDE)
    maps["roughness"] = np.broadcast_to(np.rint(wave).astype(np.uint8), (1, SIDE, SIDE)).copy()
    values = texture(maps).look_up(frame_points(SIDE), Pose(np.eye(2), 2.0, np.array([0.5, 0.5])), 1 / SIDE)
    spectrum = np.abs(np.fft.rfft(values.roughness.reshape(SIDE, SIDE)[0] - values.roughness.mean()))
    assert int(spectrum.argmax()) == 8
