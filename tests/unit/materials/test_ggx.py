import math

import pytest
import torch

from neuropbr_core.materials.ggx import (
    COUPLING,
    DIELECTRIC_F0,
    MIN_ROUGHNESS,
    brdf,
    diffuse_transmission,
    distribution,
    reflectance,
    schlick,
    visibility,
)

UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).view(3, 1, 1)


def material(base, roughness, metallic):
    as_map = lambda value, channels: torch.full((channels, 1, 1), value, dtype=torch.float64)  # noqa: E731
    return reflectance(as_map(base, 3), as_map(roughness, 1), as_map(metallic, 1))


def direction(cosine, azimuth=0.0):
    sine = math.sqrt(1 - cosine**2)
    vector = [sine * math.cos(azimuth), sine * math.sin(azimuth), cosine]
    return torch.tensor(vector, dtype=torch.float64).view(3, 1, 1)


def hemisphere(rings=300):
    """Directions spread evenly in cosine and azimuth: the mean over them times 2π integrates over solid angle."""
    cosine = ((torch.arange(rings, dtype=torch.float64) + 0.5) / rings)[:, None]
    azimuth = ((torch.arange(2 * rings, dtype=torch.float64) + 0.5) * (math.pi / rings))[None]
    sine = torch.sqrt(1 - cosine**2)
    return torch.stack((sine * azimuth.cos(), sine * azimuth.sin(), cosine.expand(rings, 2 * rings)))


def reflected_share(surface, cosine):
    """Share of the light from `cosine` that leaves, by brute-force integration."""
    lights = hemisphere()
    values = brdf(surface, UP, direction(cosine), lights)[0] * lights[2]
    return float(values.mean() * 2 * math.pi)


@pytest.mark.parametrize("alpha", [0.1, 0.36, 1.0])
def test_facets_cover_the_surface_exactly(alpha):
    cosine = hemisphere(2000)[2, :, :1]
    covered = (distribution(cosine, torch.tensor(alpha, dtype=torch.float64)) * cosine).mean() * 2 * math.pi
    assert covered.item() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("alpha", [0.04, 0.5, 1.0])
def test_visibility_is_smith_height_correlated(alpha):
    light, view = 0.35, 0.8
    shadow = [(math.sqrt(1 + alpha**2 * (1 / c**2 - 1)) - 1) / 2 for c in (light, view)]
    expected = 1 / (1 + sum(shadow)) / (4 * light * view)
    arguments = (torch.tensor(value, dtype=torch.float64) for value in (light, view, alpha))
    assert visibility(*arguments).item() == pytest.approx(expected, rel=1e-12)


def test_schlick_meets_its_ends():
    assert schlick(torch.tensor([0.0, 0.5, 1.0])).tolist() == [1.0, 0.5**5, 0.0]
    assert diffuse_transmission(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0.0, 1 - 0.5**5, 1.0]


@pytest.mark.parametrize(("degrees", "alpha"), [(0, 0.3), (25, 0.1), (60, 0.8)])
def test_distribution_is_equation_33_of_walter(degrees, alpha):
    theta = math.radians(degrees)
    expected = alpha**2 / (math.pi * math.cos(theta) ** 4 * (alpha**2 + math.tan(theta) ** 2) ** 2)
    cosine = torch.tensor(math.cos(theta), dtype=torch.float64)
    density = distribution(cosine, torch.tensor(alpha, dtype=torch.float64))
    assert float(density) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metallic", [0.0, 0.3, 1.0])
def test_value_at_normal_incidence_in_closed_form(metallic):
    base, roughness = 0.6, 0.5
    f0 = DIELECTRIC_F0 * (1 - metallic) + base * metallic
    specular = f0 / (4 * math.pi * roughness**4)
    diffuse = (1 - metallic) * base / math.pi * COUPLING * (1 - DIELECTRIC_F0)
    value = brdf(material(base, roughness, metallic), UP, UP, UP)
    assert value[0].item() == pytest.approx(specular + diffuse, rel=1e-9)


def test_diffuse_reads_as_base_colour_at_normal_incidence():
    surface = material(0.5, 1.0, 0.0)
    black = brdf(material(0.0, 1.0, 0.0), UP, UP, UP)
    assert ((brdf(surface, UP, UP, UP) - black) * math.pi / 0.5)[0].item() == pytest.approx(1.008, abs=1e-6)


@pytest.mark.parametrize("metallic", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("roughness", [0.1, 0.5, 1.0])
def test_reciprocal(roughness, metallic):
    surface, view, light = material(0.7, roughness, metallic), direction(0.9, 0.3), direction(0.2, 2.0)
    torch.testing.assert_close(brdf(surface, UP, view, light), brdf(surface, UP, light, view), rtol=1e-10, atol=0)


@pytest.mark.parametrize("cosine", [0.1, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("roughness", [0.2, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("metallic", [0.0, 1.0])
def test_white_never_returns_more_than_it_receives(metallic, roughness, cosine):
    assert reflected_share(material(1.0, roughness, metallic), cosine) <= 1.001


def test_white_dielectric_returns_nearly_everything_from_above():
    assert reflected_share(material(1.0, 0.3, 0.0), 0.9) == pytest.approx(1, abs=0.01)


def test_energy_of_the_roughest_metal_in_closed_form():
    # alpha = 1: D = 1/π and V = 1 / (2 (n·l + n·v)), so the share is ∫ c / (1 + c) dc = 1 - ln 2.
    assert reflected_share(material(1.0, 1.0, 1.0), 1.0) == pytest.approx(1 - math.log(2), rel=1e-4)


def test_coupling_returns_all_that_enters():
    cosine = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    entering = (cosine * (1 - schlick(cosine))).mean()
    assert COUPLING * 2 * entering.item() == pytest.approx(1, rel=1e-6)


def test_dark_below_the_surface():
    surface = material(1.0, 0.5, 0.5)
    below = direction(0.5) * torch.tensor([1.0, 1.0, -1.0]).view(3, 1, 1)
    assert brdf(surface, UP, below, UP).abs().max() == 0
    assert brdf(surface, UP, UP, below).abs().max() == 0


def test_metal_has_no_diffuse_part_and_a_coloured_specular():
    surface = material(0.5, 0.5, 1.0)
    assert surface.diffuse.abs().max() == 0
    assert surface.f0.flatten().tolist() == [0.5] * 3


def test_roughness_has_a_floor():
    assert material(0.5, 0.0, 0.0).roughness.item() == MIN_ROUGHNESS


def test_values_and_gradients_are_finite_at_the_extremes():
    base, roughness, metallic = (
        torch.tensor([0.0, 1.0]).view(1, 1, 2).expand(channels, 2, 2).clone().requires_grad_() for channels in (3, 1, 1)
    )
    surface = reflectance(base, roughness, metallic)
    for view, light in ((UP, UP), (direction(0.0), UP), (direction(1e-9), direction(1e-9, math.pi))):
        value = brdf(surface, UP.float(), view.float(), light.float())
        assert value.isfinite().all()
        value.sum().backward(retain_graph=True)
    for leaf in (base, roughness, metallic):
        assert leaf.grad.isfinite().all()
