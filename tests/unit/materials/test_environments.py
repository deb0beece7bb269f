import math

import pytest
import torch

from neuropbr_core.errors import DataError
from neuropbr_core.materials.environments import (
    TURNS,
    build_environment,
    diffuse_light,
    environment_from_map,
    irradiance,
    sample_environment,
    scale_environment,
    specular_light,
    turn_environment,
)
from neuropbr_core.materials.ggx import COUPLING, brdf, diffuse_transmission, dot, reflectance
from neuropbr_core.materials.sphere import directions, solid_angles
from neuropbr_core.materials.split_sum import specular_scale_bias


def drawn(seed=0):
    return sample_environment(torch.Generator().manual_seed(seed))


def normals_up_to(degrees, count=40):
    generator = torch.Generator().manual_seed(1)
    cosine = 1 - (1 - math.cos(math.radians(degrees))) * torch.rand(count, generator=generator)
    azimuth = 2 * math.pi * torch.rand(count, generator=generator)
    sine = torch.sqrt(1 - cosine**2)
    return torch.stack((sine * azimuth.cos(), sine * azimuth.sin(), cosine))[:, None]


def summed(environment, normal, weight):
    """Integral of radiance times `weight(cosine)` over the hemisphere of each normal, texel by texel."""
    height, width = environment.radiance.shape[1:]
    lights = directions(height, width).flatten(1)
    areas = solid_angles(height, width).expand(height, width).flatten()
    cosine = (normal.flatten(1).T @ lights).clamp_min(0)
    return ((weight(cosine) * areas) @ environment.radiance.flatten(1).T).T[:, None]


def test_constant_light_gives_pi_times_radiance():
    environment = build_environment(torch.full((3, 32, 64), 0.5))
    entering = diffuse_light(environment, normals_up_to(90))
    torch.testing.assert_close(entering, torch.full((3, 1, 40), math.pi / 2), atol=2e-3, rtol=0)
    torch.testing.assert_close(irradiance(environment.radiance), torch.full((3,), math.pi / 2), atol=2e-3, rtol=0)


def sun(seed=0, width=128):
    """A dim sky with a lamp of one texel, thousands of times brighter, somewhere above."""
    radiance = torch.full((3, width // 2, width), 0.2)
    radiance[:, 8 + seed, 31 * seed] = 2000.0
    return build_environment(radiance)


@pytest.mark.parametrize("environment", [*map(drawn, range(3)), *map(sun, range(3))])
def test_light_that_enters_is_the_integral(environment):
    normals = normals_up_to(45)
    expected = summed(environment, normals, lambda cosine: COUPLING * cosine * diffuse_transmission(cosine))
    torch.testing.assert_close(diffuse_light(environment, normals), expected, atol=0, rtol=0.02)


def test_mirror_directions_fetch_the_light_itself():
    radiance = torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0))
    mirrored = specular_light(build_environment(radiance), directions(8, 16), torch.zeros(1, 8, 16))
    torch.testing.assert_close(mirrored, radiance, atol=1e-4, rtol=0)


def test_reflections_do_not_jump_across_azimuth_zero():
    environment = build_environment(torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0)))
    seam = torch.tensor([[1.0, 1.0], [1e-5, -1e-5], [0.0, 0.0]]).view(3, 1, 2)
    before, after = specular_light(environment, seam, torch.zeros(1, 1, 2)).unbind(dim=2)
    torch.testing.assert_close(before, after, atol=1e-3, rtol=0)


def split_sum_error(environment, roughness, cosine):
    """Relative error of a metal's mirrored light against the BRDF summed over every texel."""
    height, width = environment.radiance.shape[1:]
    up, lights = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1), directions(height, width)
    view = torch.tensor([math.sqrt(1 - cosine**2), 0.0, cosine]).view(3, 1, 1)
    metal = reflectance(torch.full((3, 1, 1), 0.9), torch.full((1, 1, 1), roughness), torch.ones(1, 1, 1))
    received = environment.radiance * lights[2].clamp_min(0) * solid_angles(height, width)
    expected = (brdf(metal, up, view, lights) * received).sum(dim=(1, 2))
    scale, bias = specular_scale_bias(view[2:], metal.roughness).unbind()
    mirrored = 2 * dot(up, view) * up - view
    approximated = specular_light(environment, mirrored, metal.roughness) * (metal.f0 * scale + bias)
    return float(((approximated.flatten() - expected) / expected).abs().mean())


@pytest.fixture(scope="module")
def environments():
    return [drawn(seed) for seed in range(12)]


@pytest.mark.parametrize(
    ("roughness", "cosine", "bound"),
    [(0.3, 0.75, 0.04), (0.6, 0.75, 0.1), (1.0, 0.75, 0.13), (0.3, 0.95, 0.04), (0.6, 0.95, 0.02), (1.0, 0.95, 0.06)],
)
def test_split_sum_is_near_brute_force_on_average(environments, roughness, cosine, bound):
    errors = [split_sum_error(environment, roughness, cosine) for environment in environments]
    assert sum(errors) / len(errors) < bound


def test_a_draw_follows_its_generator():
    assert torch.equal(drawn(3).radiance, drawn(3).radiance)
    assert not torch.equal(drawn(3).radiance, drawn(4).radiance)


@pytest.mark.parametrize("seed", range(5))
def test_drawn_light_is_positive_and_comes_from_above(seed):
    radiance = drawn(seed).radiance
    assert radiance.min() > 0
    assert radiance[:, :32].mean() > radiance[:, 32:].mean()


def test_scaling_scales_every_part():
    once, twice = drawn(), scale_environment(drawn(), 2.0)
    for a, b in zip(once, twice, strict=True):
        torch.testing.assert_close(2 * a, b)


def photographed(seed=0, height=16):
    radiance = torch.rand(3, height, 2 * height, generator=torch.Generator().manual_seed(seed)) ** 4
    return radiance * torch.tensor([3.0, 1.0, 0.2]).view(3, 1, 1)


def test_a_radiance_map_is_balanced_and_has_the_material_below():
    environment = environment_from_map(photographed())
    torch.testing.assert_close(irradiance(environment.radiance), torch.full((3,), math.pi), atol=1e-4, rtol=0)
    torch.testing.assert_close(environment.radiance[:, 8:], torch.full((3, 8, 32), 0.18))


def test_large_maps_keep_their_light():
    environment = environment_from_map(photographed(height=256))
    assert environment.radiance.shape == (3, 128, 256)
    torch.testing.assert_close(irradiance(environment.radiance), torch.full((3,), math.pi), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda radiance: radiance * float("nan"), "holds negative or non-finite radiance"),
        (lambda radiance: -radiance, "holds negative or non-finite radiance"),
        (lambda radiance: radiance * 0, "dark above the horizon"),
        (lambda radiance: radiance * torch.tensor([1.0, 1.0, 0.0]).view(3, 1, 1), "dark above the horizon"),
        (lambda radiance: radiance * (torch.arange(16) >= 8).view(16, 1), "dark above the horizon.*upside down"),
    ],
)
def test_maps_that_are_no_light_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        environment_from_map(change(photographed()))


@pytest.mark.parametrize("step", [1, 5, 31])
def test_turning_turns_every_part(step):
    radiance = torch.rand(3, 32, 64, generator=torch.Generator().manual_seed(0))
    turned = turn_environment(build_environment(radiance), step)
    for a, b in zip(turned, build_environment(torch.roll(radiance, 64 * step // TURNS, dims=-1)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_turning_is_counter_clockwise_from_above():
    radiance = torch.zeros(3, 32, 64)
    radiance[:, :, :2] = 1.0  # towards +x
    turned = turn_environment(build_environment(radiance), TURNS // 4)
    reflected = specular_light(turned, torch.tensor([[-0.1], [1.0], [0.0]]).view(3, 1, 1), torch.zeros(1, 1, 1))
    assert reflected.min() > 0.9
