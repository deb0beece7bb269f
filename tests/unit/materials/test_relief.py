"""Heights from normals, and the maps that follow from heights."""

import math

import pytest
import torch
from torch import Tensor

from neuropbr_core.materials.relief import (
    ambient_occlusion,
    cavity_and_edge,
    heights_from_normals,
    integrate_slopes,
    normals_from_slopes,
    slopes_from_heights,
    slopes_from_normals,
)


def grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Coordinates of texels in [0, 1], x to the right and y down."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return x, y


def test_slopes_are_those_of_opengl_normals() -> None:
    """Height that grows to the right leans the normal to the left; height that grows downwards leans it up."""
    slopes = torch.tensor([0.5, 0.25]).view(2, 1, 1)
    normal = normals_from_slopes(slopes)
    assert normal[0] < 0
    assert normal[1] > 0
    torch.testing.assert_close(slopes_from_normals(normal), slopes)


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (127, 64)])
def test_a_periodic_height_map_comes_back(size: tuple[int, int]) -> None:
    x, y = grid(*size)
    heights = 0.02 * torch.sin(2 * math.pi * 3 * x) * torch.cos(2 * math.pi * 2 * y)
    dx = 0.02 * 2 * math.pi * 3 * torch.cos(2 * math.pi * 3 * x) * torch.cos(2 * math.pi * 2 * y)
    dy = -0.02 * 2 * math.pi * 2 * torch.sin(2 * math.pi * 3 * x) * torch.sin(2 * math.pi * 2 * y)
    found = integrate_slopes(torch.stack((dx, dy)), periodic=True)
    # Differences of neighbours stand for derivatives, which costs (3·2π/64)²/12 of the amplitude at most.
    torch.testing.assert_close(found, heights - heights.mean(), atol=2e-4, rtol=0)


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (127, 64)])
def test_a_height_map_with_free_borders_comes_back(size: tuple[int, int]) -> None:
    x, y = grid(*size)
    heights = 0.3 * x**2 + 0.1 * x * y
    slopes = torch.stack((0.6 * x + 0.1 * y, 0.1 * x))
    found = integrate_slopes(slopes, periodic=False)
    torch.testing.assert_close(found, heights - heights.mean(), atol=1e-6, rtol=0)


def test_a_tile_has_no_slope_of_its_own() -> None:
    slopes = torch.full((2, 32, 32), 0.4)
    assert integrate_slopes(slopes, periodic=True).abs().max() < 1e-6
    assert integrate_slopes(slopes, periodic=False).abs().max() > 0.3


def test_integration_is_the_least_squares_solution() -> None:
    """The steps of the result have the divergence of the given ones, which are no gradient: the normal equations."""
    noise = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.2
    heights = integrate_slopes(noise, periodic=True)
    steps = torch.stack((heights.roll(-1, 1) - heights, heights.roll(-1, 0) - heights)) * 64
    divergence = (steps[0] - steps[0].roll(1, 1) + steps[1] - steps[1].roll(1, 0)) / 64
    right = (noise[0] + noise[0].roll(-1, 1)) / 2
    down = (noise[1] + noise[1].roll(-1, 0)) / 2
    given = (right - right.roll(1, 1) + down - down.roll(1, 0)) / 64
    torch.testing.assert_close(divergence, given, atol=1e-6, rtol=0)


def test_heights_begin_at_zero_and_steep_normals_stay_finite() -> None:
    normals = torch.nn.functional.normalize(torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1)), dim=0)
    heights = heights_from_normals(normals, periodic=False)
    assert heights.min() == 0
    assert heights.isfinite().all()


def test_central_differences_of_a_sine() -> None:
    x, _ = grid(64, 128)
    slopes = slopes_from_heights(torch.sin(2 * math.pi * x) / 50)
    torch.testing.assert_close(slopes[0], torch.cos(2 * math.pi * x) * 2 * math.pi / 50, atol=1e-4, rtol=0)
    assert slopes[1].abs().max() < 1e-5


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(("half_width", "depth"), [(8, 0.02), (16, 0.02), (10, 0.05)])
def test_occlusion_in_a_trench(half_width: int, depth: float, periodic: bool) -> None:
    """The middle of a long trench's floor sees sin(atan(a / d)) of the sky's light (view factor of crossed strings)."""
    heights = torch.full((256, 256), depth)
    heights[:, 128 - half_width : 129 + half_width] = 0
    occlusion = ambient_occlusion(heights, periodic=periodic)
    expected = math.sin(math.atan((half_width + 0.5) / 256 / depth))
    # Steps between the distances that are looked at make the wall up to a fifth farther away.
    assert occlusion[128, 128] == pytest.approx(expected, abs=0.06)
    assert occlusion[128, 20] == pytest.approx(1, abs=1e-3)


def test_occlusion_of_a_large_map_is_that_of_a_small_one() -> None:
    x, y = grid(2048, 2048)
    large = 0.01 * torch.sin(2 * math.pi * 8 * x) * torch.sin(2 * math.pi * 8 * y)
    small = torch.nn.functional.avg_pool2d(large[None, None], 2)[0, 0]
    found = ambient_occlusion(large, periodic=True)
    assert found.shape == (2048, 2048)
    reduced = torch.nn.functional.avg_pool2d(found[None, None], 2)[0, 0]
    torch.testing.assert_close(reduced, ambient_occlusion(small, periodic=True), atol=0.01, rtol=0)


@pytest.mark.parametrize("periodic", [True, False])
def test_cavities_and_edges_are_apart(periodic: bool) -> None:
    heights = torch.zeros(256, 256)
    heights[:, 60:64] = -0.01
    heights[:, 180:184] = 0.01
    cavity, edge = cavity_and_edge(heights, periodic=periodic)
    assert cavity[128, 62] < 0.3
    assert edge[128, 62] == 0
    assert edge[128, 182] > 0.7
    assert cavity[128, 182] == 1
    assert (cavity[128, 120], edge[128, 120]) == (1, 0)


def test_a_flat_material_has_neither() -> None:
    flat = torch.zeros(32, 32)
    cavity, edge = cavity_and_edge(flat, periodic=True)
    assert (cavity == 1).all()
    assert (edge == 0).all()
    assert (ambient_occlusion(flat, periodic=True) == 1).all()
