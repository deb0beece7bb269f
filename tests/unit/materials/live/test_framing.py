"""Cameras that frame the tile."""

import numpy as np
import pytest
import torch

from neuropbr_core.materials import cameras
from neuropbr_core.materials.live.framing import draw_viewpoints, frame_tile, project
from neuropbr_core.materials.live.options import Cameras

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def test_it_is_the_camera_of_the_renderer() -> None:
    """Aimed where the homography says, `look_at` gives the same homography."""
    tilt, azimuth, roll = np.radians([5.0, 35.0]), np.array([0.3, 2.0]), np.array([0.05, -0.02])
    towards = np.stack((np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt)), axis=1)
    views = frame_tile(towards, 1.4, np.array([0.95, 1.0]), roll)
    for homography, position, turn in zip(views.homographies, views.positions, roll, strict=True):
        centre = np.linalg.solve(homography, np.array([0.5, 0.5, 1.0]))
        u, v = centre[:2] / centre[2]
        lens = torch.tensor(position)
        camera = cameras.look_at(lens, torch.tensor([u - 0.5, 0.5 - v], dtype=torch.float64), 1.4, float(turn))
        np.testing.assert_allclose(homography, camera.homography.numpy(), atol=1e-6)


def test_the_tile_fills_the_photo_as_asked() -> None:
    tilt = np.radians([0.0, 20.0, 50.0])
    towards = np.stack((np.sin(tilt), np.zeros(3), np.cos(tilt)), axis=1)
    fill = np.array([0.9, 1.0, 1.1])
    views = frame_tile(towards, 1.5, fill, np.zeros(3))
    at, depth = project(views.homographies, CORNERS)
    assert (depth > 0).all()
    np.testing.assert_allclose((at.max(2) - at.min(2)).max(1), fill, rtol=2e-3)
    np.testing.assert_allclose((at.max(2) + at.min(2)) / 2, 0.5, atol=5e-3)


def test_cameras_are_drawn_within_their_ranges() -> None:
    options = Cameras(distance=(0.9, 3.0), first_tilt=(0.0, 8.0), tilt=(15.0, 50.0))
    rng = np.random.default_rng(0)
    first, tilts, distances = [], [], []
    for _ in range(300):
        views = draw_viewpoints(rng, 3, options)
        angles = np.degrees(np.arccos(views.positions[:, 2] / np.linalg.norm(views.positions, axis=1)))
        first.append(angles[0])
        tilts += list(angles[1:])
        distances.append(np.linalg.norm(views.positions[0]))
    assert min(first) >= 0
    assert max(first) < 8.1
    assert 14.9 < min(tilts) < 18
    assert 47 < max(tilts) < 50.1
    assert 0.88 < min(distances) < 1
    assert 2.7 < max(distances) < 3.3  # a tilted tile needs a little more room


def test_one_camera_is_enough() -> None:
    assert draw_viewpoints(np.random.default_rng(0), 1, Cameras()).positions.shape == (1, 3)


@pytest.mark.parametrize("tilt", [(15.0, 50.0), (60.0, 80.0)])
def test_near_cameras_frame_the_tile_too(tilt: tuple[float, float]) -> None:
    """As near as options allow; all corners are in front of each camera."""
    options = Cameras(distance=(0.7, 1.0), tilt=tilt)
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(200):
        at, depth = project(draw_viewpoints(rng, 3, options).homographies, CORNERS)
        assert (depth > 0).all()
        sizes += list((at.max(2) - at.min(2)).max(1))
    # The tile was asked to fill .85 to 1.1 of the photo.
    assert np.quantile(sizes, 0.02) > 0.8
    assert np.quantile(sizes, 0.98) < 1.15
