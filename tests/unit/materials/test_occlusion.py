import math

import pytest
import torch

from neuropbr_core.materials.cameras import look_at, sample_cameras
from neuropbr_core.materials.environments import build_environment, sample_environment
from neuropbr_core.materials.occlusion import (
    diffuse_share,
    draw_clutter,
    draw_occlusions,
    draw_photographer,
    light_left,
    occlude,
    specular_share,
)
from neuropbr_core.materials.sphere import directions

CAMERA = look_at(torch.tensor([0.0, 0.0, 1.5]), torch.zeros(2), 1.5)
HIDDEN = 0.1


def ball(x, y, z, radius):
    return torch.tensor([[x, y, z, x, y, z, radius]])


def vector(*components):
    return torch.tensor(components, dtype=torch.float32).view(3, 1, 1)


def test_rays_hit_capsules_or_pass():
    capsule = torch.tensor([[-1.0, 0, 1, 1, 0, 1, 0.2]])
    up = vector(0, 0, 1)
    hard = torch.tensor(1e-4)
    for origin, expected in (
        (vector(0, 0, 0), HIDDEN),  # below the middle
        (vector(1.1, 0, 0), HIDDEN),  # below the round end
        (vector(1.25, 0, 0), 1.0),  # beside the end
        (vector(0, 0.25, 0), 1.0),  # beside the segment
        (vector(0, 0, 1.5), 1.0),  # above it
    ):
        assert float(light_left(capsule, origin, up, hard)) == pytest.approx(expected), origin.flatten()


def test_an_edge_is_soft_by_the_angle_asked_for():
    softness = torch.tensor(0.1)
    tilt = math.asin(0.2)  # grazes a ball of radius 0.2 at distance 1
    for lean, expected in ((0.0, 0.5), (0.05, 0.75), (-0.05, 0.25), (0.12, 1.0)):
        ray = vector(math.sin(tilt + lean), 0, math.cos(tilt + lean))
        left = float(light_left(ball(0, 0, 1.0, 0.2), vector(0, 0, 0), ray, softness))
        assert left == pytest.approx(HIDDEN + (1 - HIDDEN) * expected, abs=0.03)


@pytest.mark.parametrize(("height", "radius"), [(1.0, 0.5), (2.0, 0.6), (0.7, 0.3)])
def test_a_ball_over_a_point_hides_the_share_of_its_form_factor(height, radius):
    environment = build_environment(torch.ones(3, 32, 64))
    occlusion = occlude(environment.radiance, CAMERA, ball(0, 0, height, radius))
    # Under even light a ball overhead takes (radius / height)² of the irradiance.
    expected = 1 - (1 - HIDDEN) * (radius / height) ** 2
    left = diffuse_share(occlusion, vector(0, 0, 0))
    torch.testing.assert_close(left, torch.full((3, 1, 1), expected), atol=0.03, rtol=0)


def lamp(azimuth_degrees, elevation_degrees, radius_degrees=6, colour=(1.0, 1.0, 1.0)):
    """A round lamp in darkness."""
    azimuth, elevation = math.radians(azimuth_degrees), math.radians(elevation_degrees)
    centre = vector(
        math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)
    )
    shape = (directions(64, 128) * centre).sum(0) > math.cos(math.radians(radius_degrees))
    return shape * torch.tensor(colour).view(3, 1, 1)


def test_a_lamp_s_shadow_falls_on_the_far_side_and_has_a_penumbra():
    environment = build_environment(lamp(90, 45) + 1e-4)
    occlusion = occlude(environment.radiance, CAMERA, ball(0, 0.5, 0.5, 0.15))
    along = torch.linspace(-0.6, 0.9, 61)
    left = diffuse_share(occlusion, torch.stack((torch.zeros(61), along, torch.zeros(61)))[:, None])[0, 0]
    assert abs(float(along[left.argmin()])) < 0.08  # the lamp's ray through the ball meets the plane at the origin
    assert float(left.min()) < 0.2
    assert left[along > 0.5].min() > 0.95
    width = ((left > 0.3) & (left < 0.9)).sum() * 0.025 / 2
    assert 0.05 < float(width) < 0.35


def test_a_shadow_takes_the_colour_of_what_is_left():
    environment = build_environment(lamp(90, 45, colour=(1.0, 0.0, 0.0)) + lamp(-90, 45, colour=(0.0, 0.0, 1.0)) + 1e-3)
    occlusion = occlude(environment.radiance, CAMERA, ball(0, 0.5, 0.5, 0.15))
    red, _, blue = diffuse_share(occlusion, vector(0, 0, 0)).flatten()
    assert float(red) < 0.3
    assert float(blue) > 0.95


def test_reflections_show_silhouettes_that_roughness_blurs():
    occlusion = occlude(torch.ones(3, 16, 32), CAMERA, ball(0, 0, 1.0, 0.2))
    origin, edge = vector(0, 0, 0), math.asin(0.2) + 0.1
    beside = vector(math.sin(edge), 0, math.cos(edge))
    for roughness, expected in ((0.07, 1.0), (0.5, 0.62)):
        share = specular_share(occlusion, origin, beside, torch.full((1, 1, 1), roughness))
        assert float(share) == pytest.approx(expected, abs=0.06)
    assert float(specular_share(occlusion, origin, vector(0, 0, 1), torch.full((1, 1, 1), 0.07))) < 0.15


@pytest.mark.parametrize("seed", range(4))
def test_what_is_drawn_stays_clear_of_the_plane_and_of_the_lens(seed):
    generator = torch.Generator().manual_seed(seed)
    environment = sample_environment(generator)
    clutter = draw_clutter(generator, environment.radiance, 2)
    assert (torch.minimum(clutter[:, 2], clutter[:, 5]) >= 2 * clutter[:, 6] - 1e-5).all()
    for camera in sample_cameras(generator, 3):
        person = draw_photographer(generator, camera, -math.pi / 2, 3.0)
        phone = person[0]
        assert float((phone[:3] - camera.position).norm()) >= float(phone[6]) * 0.99
        assert (torch.minimum(person[:, 2], person[:, 5]) > 0).all()


def test_no_clutter_is_no_capsule():
    environment = sample_environment(torch.Generator())
    assert draw_clutter(torch.Generator(), environment.radiance, 0).shape == (0, 7)
    (occlusion,) = draw_occlusions(torch.Generator(), environment.radiance, [CAMERA], photographer=False, clutter=0)
    torch.testing.assert_close(occlusion.remaining, torch.ones(3, 24, 24))


def test_the_photographer_moves_and_the_clutter_stays():
    generator = torch.Generator().manual_seed(1)
    cameras = sample_cameras(generator, 2)
    first, second = draw_occlusions(
        generator, sample_environment(generator).radiance, cameras, photographer=True, clutter=2
    )
    torch.testing.assert_close(first.capsules[:2], second.capsules[:2])
    assert not torch.equal(first.capsules[2:], second.capsules[2:])
    assert float((first.remaining - second.remaining).abs().max()) > 0.02
