import math

import pytest
import torch

from neuropbr_core.materials.ggx import brdf, reflectance
from neuropbr_core.materials.sphere import solid_angles
from neuropbr_core.materials.split_sum import (
    LEVEL_ROUGHNESS,
    brdf_table,
    prefilter,
    specular_scale_bias,
)


def integrated_specular(base, roughness, cosine, rings=400):
    """Light that a metal of reflectance `base` returns from a white surround, by quadrature of the BRDF."""
    height = ((torch.arange(rings, dtype=torch.float64) + 0.5) / rings)[:, None]
    azimuth = ((torch.arange(2 * rings, dtype=torch.float64) + 0.5) * (math.pi / rings))[None]
    sine = torch.sqrt(1 - height**2)
    light = torch.stack((sine * azimuth.cos(), sine * azimuth.sin(), height.expand(rings, 2 * rings)))
    as_map = lambda value, channels: torch.full((channels, 1, 1), value, dtype=torch.float64)  # noqa: E731
    metal = reflectance(as_map(base, 3), as_map(roughness, 1), as_map(1.0, 1))
    view = torch.tensor([math.sqrt(1 - cosine**2), 0, cosine], dtype=torch.float64).view(3, 1, 1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).view(3, 1, 1)
    return float((brdf(metal, up, view, light)[0] * height).mean() * 2 * math.pi)


@pytest.mark.parametrize("cosine", [0.15, 0.4, 0.7, 0.97])
@pytest.mark.parametrize("roughness", [0.3, 0.5, 0.75, 0.95])
def test_table_equals_brute_force(roughness, cosine):
    scale, bias = specular_scale_bias(torch.full((1, 1, 1), cosine), torch.full((1, 1, 1), roughness)).flatten()
    expected_bias = integrated_specular(0.0, roughness, cosine)
    expected_scale = integrated_specular(1.0, roughness, cosine) - expected_bias
    assert scale.item() == pytest.approx(expected_scale, abs=0.01)
    assert bias.item() == pytest.approx(expected_bias, abs=0.006)


def test_table_returns_no_more_than_it_receives():
    table = brdf_table()
    assert table.min() >= 0
    assert table.sum(dim=0).max() <= 1.0001


def test_table_of_a_mirror_is_fresnel():
    cosine = torch.tensor([[[0.3, 0.6, 0.9]]])
    scale, bias = specular_scale_bias(cosine, torch.zeros_like(cosine))
    torch.testing.assert_close(bias, (1 - cosine[0]) ** 5, atol=2e-3, rtol=0)
    torch.testing.assert_close(scale + bias, torch.ones_like(scale), atol=2e-3, rtol=0)


def test_solid_angles_make_a_sphere():
    assert (solid_angles(10, 24).sum() * 24).item() == pytest.approx(4 * math.pi, rel=1e-6)


def test_prefilter_keeps_constant_light():
    levels = prefilter(torch.full((3, 16, 32), 2.5))
    torch.testing.assert_close(levels, torch.full((3, len(LEVEL_ROUGHNESS), 16, 32), 2.5), atol=1e-4, rtol=0)


def test_prefilter_equals_direct_summation():
    height, width, level = 16, 32, 3
    radiance = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    polar = (torch.arange(height, dtype=torch.float64) + 0.5) * (math.pi / height)
    azimuth = (torch.arange(width, dtype=torch.float64) + 0.5) * (2 * math.pi / width)
    vectors = torch.stack(
        (
            torch.outer(polar.sin(), azimuth.cos()),
            torch.outer(polar.sin(), azimuth.sin()),
            polar.cos()[:, None].expand(height, width),
        )
    ).flatten(1)
    cosine = vectors.T @ vectors
    half = ((1 + cosine) / 2).clamp_min(0).sqrt()
    alpha = LEVEL_ROUGHNESS[level] ** 2
    above = cosine.clamp_min(0)
    masked = above + torch.sqrt(alpha**2 + (1 - alpha**2) * above**2)
    lobe = above / masked / (half**2 * (alpha**2 - 1) + 1) ** 2
    lobe = lobe * polar.sin().repeat_interleave(width)
    expected = (lobe / lobe.sum(1, keepdim=True)) @ radiance.double().flatten(1).T
    filtered = prefilter(radiance)[:, level].flatten(1).T
    torch.testing.assert_close(filtered.double(), expected, atol=1e-5, rtol=0)
