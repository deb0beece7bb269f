import math

import pytest
import torch

from neuropbr_core.materials.cameras import look_at, project, sample_cameras

CORNERS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def drawn(views=3, seed=0):
    return sample_cameras(torch.Generator().manual_seed(seed), views)


def test_a_camera_straight_above_that_just_holds_the_tile_changes_nothing():
    camera = look_at(torch.tensor([0.0, 0.0, 1.5]), torch.zeros(2), focal=1.5)
    torch.testing.assert_close(camera.homography, torch.eye(3))


def test_homography_equals_projection_by_hand():
    position, focal = torch.tensor([0.6, 0.0, 0.8]), 1.2
    camera = look_at(position, torch.zeros(2), focal)
    # The camera looks along (-0.6, 0, -0.8); right of it is (0.8, 0, -0.6) and up is +y.
    point = torch.tensor([0.3, 0.2, 0.0])
    offset = point - position
    depth = offset @ torch.tensor([-0.6, 0.0, -0.8])
    right = offset @ torch.tensor([0.8, 0.0, -0.6])
    expected = torch.stack((0.5 + focal * right / depth, 0.5 - focal * point[1] / depth))
    projected = project(camera.homography, torch.tensor([[0.3 + 0.5, 0.5 - 0.2]]))[0]
    torch.testing.assert_close(projected, expected)


def test_the_aim_is_at_the_centre_and_roll_turns_about_it():
    aim = torch.tensor([0.1, -0.2])
    for roll in (0.0, 0.5):
        camera = look_at(torch.tensor([0.2, -0.3, 1.0]), aim, 1.0, roll)
        torch.testing.assert_close(project(camera.homography, torch.tensor([[0.6, 0.7]])), torch.full((1, 2), 0.5))


def test_positive_roll_turns_the_picture_counter_clockwise():
    camera = look_at(torch.tensor([0.0, 0.0, 1.0]), torch.zeros(2), 1.0, roll=math.radians(90))
    # What lies to the right of the centre appears above it.
    torch.testing.assert_close(project(camera.homography, torch.tensor([[0.75, 0.5]])), torch.tensor([[0.5, 0.25]]))


def test_project_undoes_itself():
    homography = drawn()[2].homography
    back = project(torch.linalg.inv(homography), project(homography, CORNERS))
    torch.testing.assert_close(back, CORNERS, atol=1e-5, rtol=0)


@pytest.mark.parametrize("views", [1, 2, 3, 8])
def test_draws_the_number_asked_for_and_repeats(views):
    first, second = drawn(views), drawn(views)
    assert len(first) == views
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.homography, b.homography)
        assert torch.equal(a.position, b.position)
    assert not torch.equal(drawn(views, seed=1)[0].position, first[0].position)


@pytest.mark.parametrize("seed", range(20))
def test_first_view_is_from_above_and_shows_the_whole_tile(seed):
    camera = drawn(seed=seed)[0]
    tilt = torch.acos(camera.position[2] / camera.position.norm())
    assert tilt <= math.radians(5) + 1e-3
    projected = project(camera.homography, CORNERS)
    assert projected.min() >= 0
    assert projected.max() <= 1
    assert (projected.amax(0) - projected.amin(0)).max() >= 0.9


@pytest.mark.parametrize("seed", range(20))
def test_other_views_are_tilted_and_show_most_of_the_tile(seed):
    grid = torch.cartesian_prod(torch.linspace(0, 1, 33), torch.linspace(0, 1, 33))
    for camera in drawn(seed=seed)[1:]:
        tilt = math.degrees(torch.acos(camera.position[2] / camera.position.norm()))
        assert 20 - 1e-3 <= tilt <= 40 + 1e-3
        projected = project(camera.homography, grid)
        assert ((projected >= 0) & (projected <= 1)).all(dim=1).float().mean() > 0.9
        assert (grid @ camera.homography[2, :2] + camera.homography[2, 2]).min() > 0.2


@pytest.mark.parametrize("seed", range(20))
def test_photos_are_upright(seed):
    for camera in drawn(seed=seed):
        top, bottom = project(camera.homography, torch.tensor([[0.5, 0.4], [0.5, 0.6]]))
        lean = math.degrees(math.atan2(float(bottom[0] - top[0]), float(bottom[1] - top[1])))
        assert abs(lean) < 25


@pytest.mark.parametrize(("views", "nearest"), [(3, 60), (4, 60), (7, 30)])
def test_tilted_views_come_from_sides_of_their_own(views, nearest):
    for seed in range(10):
        tilted = drawn(views, seed)[1:]
        sides = sorted(math.degrees(torch.atan2(camera.position[1], camera.position[0])) for camera in tilted)
        gaps = [(b - a) % 360 for a, b in zip(sides, sides[1:] + sides[:1], strict=True)]
        assert min(gaps) >= nearest - 1e-3
        if views == 3:
            assert 60 <= min(gaps) <= 180 + 1e-3


def test_tile_depth_is_one_at_its_centre():
    for camera in drawn(5):
        assert (camera.homography[2] @ torch.tensor([0.5, 0.5, 1.0])).item() == pytest.approx(1, abs=1e-5)
