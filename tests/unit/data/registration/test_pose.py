import math

import numpy as np
import pytest
import torch

from neuropbr_core.data.registration.register import FOCAL_RANGE, camera_pose, centring, focal_length, plane_homography
from neuropbr_core.materials.cameras import look_at, sample_cameras

STRAIGHT = (0.0, 0.0, 1.6)
POSITIONS = (STRAIGHT, (0.9, 0.3, 1.3), (-0.4, 0.8, 1.2))


def camera(position, focal, aim=(0.05, -0.02), roll=0.1):
    return look_at(torch.tensor(position, dtype=torch.float64), torch.tensor(aim, dtype=torch.float64), focal, roll)


def planes(cameras):
    return [plane_homography(taken.homography.double().numpy(), 512, 512) for taken in cameras]


def shaken(homography, rng, pixels):
    """The homography of the tile's corners as seen with an error."""
    corners = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1.0]])
    image = corners @ homography.T
    image = image[:, :2] / image[:, 2:] + rng.normal(scale=pixels, size=(4, 2))
    rows = []
    for (u, v, _), (x, y) in zip(corners, image, strict=True):
        rows += [[u, v, 1, 0, 0, 0, -x * u, -x * v, -x], [0, 0, 0, u, v, 1, -y * u, -y * v, -y]]
    return np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)


@pytest.mark.parametrize("focal", [0.8, 1.3, 2.5])
def test_exact_cameras_are_recovered(focal):
    homographies = planes([camera(position, focal) for position in POSITIONS])
    assert focal_length(homographies) == pytest.approx(focal, rel=1e-9)
    for plane, position in zip(homographies, POSITIONS, strict=True):
        pose = camera_pose(plane, focal)
        np.testing.assert_allclose(pose.position, position, atol=1e-9)
        np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(pose.rotation) == pytest.approx(1)


def test_the_pose_projects_as_the_camera_does():
    plane = planes([camera(POSITIONS[1], 1.3)])[0]
    pose = camera_pose(plane, 1.3)
    point = np.array([0.3, -0.2, 0.0])
    x, y, depth = pose.rotation @ (point - pose.position)
    expected = plane @ [0.3, -0.2, 1.0]
    np.testing.assert_allclose([1.3 * x / depth, 1.3 * y / depth], expected[:2] / expected[2], atol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_drawn_captures_are_recovered_in_float32(seed):
    cameras = sample_cameras(torch.Generator().manual_seed(seed), 3)
    homographies = planes(cameras)
    focal = focal_length(homographies)
    for plane, taken in zip(homographies, cameras, strict=True):
        np.testing.assert_allclose(camera_pose(plane, focal).position, taken.position, atol=2e-3)


def test_the_sign_and_scale_of_a_homography_mean_nothing():
    homography = camera(POSITIONS[2], 1.1).homography.numpy()
    np.testing.assert_allclose(plane_homography(homography * -3.0, 512, 512), plane_homography(homography, 512, 512))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1920, 1080)])
def test_the_shape_of_a_photo_does_not_matter(width, height):
    """A photo of another shape with the same lens shows more at two sides."""
    plane = planes([camera(POSITIONS[1], 1.3)])[0]
    texture_to_world = np.array([[1.0, 0.0, -0.5], [0.0, -1.0, 0.5], [0.0, 0.0, 1.0]])
    homography = np.linalg.inv(centring(width, height)) @ plane @ texture_to_world
    np.testing.assert_allclose(plane_homography(homography, width, height), plane, atol=1e-12)
    x, y, _ = centring(width, height) @ [1.0, 1.0, 1.0]
    assert (x / y, min(x, y)) == pytest.approx((width / height, 0.5))


@pytest.mark.parametrize("seed", range(5))
def test_a_pixel_of_noise_does_little(seed):
    rng = np.random.default_rng(seed)
    cameras = [camera(position, 1.4) for position in POSITIONS]
    homographies = [plane_homography(shaken(taken.homography.numpy(), rng, 1 / 1024), 512, 512) for taken in cameras]
    focal = focal_length(homographies)
    assert focal == pytest.approx(1.4, rel=0.03)
    for plane, position in zip(homographies, POSITIONS, strict=True):
        recovered = camera_pose(plane, focal).position
        cosine = recovered @ position / np.linalg.norm(recovered) / np.linalg.norm(position)
        assert math.degrees(math.acos(min(cosine, 1))) < 2
        assert np.linalg.norm(recovered) == pytest.approx(np.linalg.norm(position), rel=0.05)


def test_views_from_above_do_not_tell_the_focal_length():
    above = [camera((0.0, 0.0, height), 1.4, aim=(0.0, 0.0)) for height in (1.0, 1.5)]
    assert focal_length(planes(above)) is None
    slightly = camera((0.15, 0.0, 1.5), 1.4)
    assert focal_length(planes([*above, slightly])) is None


def test_impossible_focal_lengths_are_not_believed():
    for focal in (FOCAL_RANGE[0] * 0.9, FOCAL_RANGE[1] * 1.1):
        assert focal_length(planes([camera(position, focal) for position in POSITIONS])) is None
    sheared = np.array([[1.0, 0.8, 0.0], [0.0, 1.0, 0.0], [0.3, 0.3, 1.0]])  # not the picture of a square
    assert focal_length([sheared]) is None


def test_the_tilt_is_that_of_the_optical_axis():
    for degrees in (0, 25, 50):
        tilt = math.radians(degrees)
        taken = camera((1.5 * math.sin(tilt), 0.0, 1.5 * math.cos(tilt)), 1.4, aim=(0.0, 0.0), roll=0.3)
        assert math.degrees(camera_pose(planes([taken])[0], 1.4).tilt) == pytest.approx(degrees, abs=1e-4)


def test_a_mirrored_plane_is_seen_from_behind():
    homography = camera(POSITIONS[1], 1.4).homography.numpy() @ np.diag([-1.0, 1.0, 1.0]) @ np.eye(3)
    mirrored = homography @ np.array([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert camera_pose(plane_homography(mirrored, 512, 512), 1.4).position[2] < 0
