import math

import pytest
import torch

from neuropbr_core.materials.sphere import (
    convolve,
    directions,
    grid_coordinates,
    lobe_spectrum,
    shrink,
    soften_poles,
    solid_angles,
    turn,
    wrap_columns,
)


def light(height=16, seed=0):
    return torch.rand(3, height, 2 * height, generator=torch.Generator().manual_seed(seed))


def test_directions_are_unit_vectors_from_up_to_down():
    vectors = directions(64, 128)
    torch.testing.assert_close(vectors.norm(dim=0), torch.ones(64, 128))
    assert bool((vectors[2].diff(dim=0) < 0).all())
    # The first column is just past azimuth 0, and azimuth grows from +x towards +y.
    assert float(vectors[0, 32, 0]) > 0.99
    assert float(vectors[1, 32, 32]) > 0.99


def test_solid_angles_are_integrals_of_the_sine():
    polar = (torch.arange(128000, dtype=torch.float64) + 0.5) * (math.pi / 128000)
    bands = polar.sin().view(64, 2000).sum(1) * (math.pi / 128000) * (2 * math.pi / 128)
    torch.testing.assert_close(solid_angles(64, 128)[:, 0].double(), bands, rtol=1e-5, atol=0)


def test_shrinking_keeps_the_light():
    image = light(64)
    small = shrink(image, 16)
    before = (image * solid_angles(64, 128)).sum(dim=(1, 2))
    torch.testing.assert_close((small * solid_angles(16, 32)).sum(dim=(1, 2)), before, rtol=1e-5, atol=0)
    assert shrink(image, 64) is image


def test_softened_poles_keep_row_means_and_the_horizon():
    image = light(32) + 1
    soft = soften_poles(image)
    torch.testing.assert_close(soft.mean(dim=-1), image.mean(dim=-1))
    deviation = soft.std(dim=-1) / image.std(dim=-1)
    assert float(deviation[:, 0].max()) < 0.2
    assert float(deviation[:, 15].min()) > 0.99


def test_a_convolution_is_the_sum_over_all_texels():
    image = light(8).double()
    lobe = lobe_spectrum(8, 16, lambda cosine: cosine.clamp_min(0) ** 3)
    vectors = directions(8, 16).double().flatten(1)
    weight = (vectors.T @ vectors).clamp_min(0) ** 3 * solid_angles(8, 16).double().expand(8, 16).flatten()
    expected = (image.flatten(1) @ weight.T).view(3, 8, 16)
    torch.testing.assert_close(convolve(torch.fft.rfft(image), lobe, 16), expected, rtol=1e-5, atol=1e-6)


def test_coordinates_of_texel_centres_fetch_the_texels():
    image = light(8)
    column, row = grid_coordinates(directions(8, 16), 16)
    grid = torch.stack((column, row), dim=-1)[None]
    fetched = torch.nn.functional.grid_sample(wrap_columns(image)[None], grid, align_corners=False)[0]
    torch.testing.assert_close(fetched, image, atol=1e-4, rtol=0)


@pytest.mark.parametrize("columns", [0, 1, 5])
def test_turning_moves_columns_and_repeats_the_ends(columns):
    image = light(8)
    turned = turn(wrap_columns(image), columns / 16)
    assert torch.equal(turned[..., 1:-1], image.roll(columns, -1))
    assert torch.equal(turned[..., 0], turned[..., -2])
