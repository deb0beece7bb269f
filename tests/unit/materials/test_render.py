import math

import pytest
import torch

from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.cameras import look_at
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.environments import build_environment
from neuropbr_core.materials.ggx import COUPLING, DIELECTRIC_F0
from neuropbr_core.materials.render import Lighting, rasterize, render_view
from neuropbr_core.materials.surface import build_surface, look_up

DARK = build_environment(torch.zeros(3, 8, 16))
ABOVE = look_at(torch.tensor([0.0, 0.0, 1.5]), torch.zeros(2), focal=1.5)


def flat_maps(base=0.5, roughness=0.5, metallic=0.0, size=8, normal=(0.0, 0.0, 1.0)):
    return {
        "albedo": linear_to_srgb(torch.full((1, 3, size, size), base)),
        "roughness": torch.full((1, 1, size, size), roughness),
        "metallic": torch.full((1, 1, size, size), metallic),
        "normal": torch.nn.functional.normalize(torch.tensor(normal), dim=0).view(1, 3, 1, 1).repeat(1, 1, size, size),
    }


def with_albedo(base_linear):
    size = base_linear.shape[-1]
    return flat_maps(size=size) | {"albedo": linear_to_srgb(base_linear)}


def base_colour(point, to_lens):
    return point.reflectance.base_linear


def test_straight_from_above_every_texel_is_one_pixel():
    base = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    photo = rasterize(build_surface(with_albedo(base), 16), ABOVE, 16, base_colour, supersampling=1)
    torch.testing.assert_close(photo[None], base, atol=1e-5, rtol=0)


def test_pixels_average_their_samples():
    base = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    photo = rasterize(build_surface(with_albedo(base), 16), ABOVE, 8, base_colour, supersampling=2)
    torch.testing.assert_close(photo[None], torch.nn.functional.avg_pool2d(base, 2), atol=1e-5, rtol=0)


def test_bands_join_without_a_trace(monkeypatch):
    base = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    surface = build_surface(with_albedo(base), 32)
    whole = rasterize(surface, ABOVE, 15, base_colour)
    monkeypatch.setattr("neuropbr_core.materials.render._BAND_SAMPLES", 130)
    torch.testing.assert_close(rasterize(surface, ABOVE, 15, base_colour), whole, atol=0, rtol=0)


def test_the_tile_repeats():
    base = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    surface = build_surface(with_albedo(base), 8)
    u, v = torch.meshgrid(torch.linspace(0, 1, 21), torch.linspace(0, 1, 21), indexing="xy")
    here = look_up(surface, u, v).reflectance.base_linear
    there = look_up(surface, u + 2, v - 1).reflectance.base_linear
    torch.testing.assert_close(here, there, atol=1e-5, rtol=0)
    torch.testing.assert_close(here[:, :, 0], here[:, :, -1])


def test_fine_maps_are_averaged_in_linear_light():
    checker = torch.zeros(1, 3, 8, 8)
    checker[..., ::2, ::2] = checker[..., 1::2, 1::2] = 1
    surface = build_surface(with_albedo(checker), samples=4)
    assert surface.texels.shape == (1, 8, 6, 6)
    torch.testing.assert_close(surface.texels[:, :3], torch.full((1, 3, 6, 6), 0.5), atol=1e-5, rtol=0)


def test_averaging_keeps_odd_sizes_in_place():
    ramp = torch.linspace(0, 1, 33).expand(1, 3, 33, 33).contiguous()
    texels = build_surface(with_albedo(ramp), samples=16).texels[0, 0, 1:-1, 1:-1]
    assert texels.shape == (16, 16)
    torch.testing.assert_close(texels[0] + texels[0].flip(0), torch.ones(16), atol=1e-5, rtol=0)


def test_interpolated_normals_are_unit():
    normals = torch.nn.functional.normalize(torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    surface = build_surface(flat_maps() | {"normal": normals}, 8)
    points = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(look_up(surface, *points).normal.norm(dim=0), torch.ones(5, 5))


@pytest.mark.parametrize(("base", "roughness", "metallic"), [(0.8, 1.0, 0.0), (0.3, 0.5, 0.0), (0.9, 0.7, 1.0)])
def test_flash_at_the_foot_of_the_lens_in_closed_form(base, roughness, metallic):
    distance, flash = 2.0, 3.0
    camera = look_at(torch.tensor([0.0, 0.0, distance]), torch.zeros(2), focal=200.0)
    surface = build_surface(flat_maps(base, roughness, metallic), 8)
    f0 = DIELECTRIC_F0 * (1 - metallic) + base * metallic
    diffuse = (1 - metallic) * base * COUPLING * (1 - DIELECTRIC_F0) / math.pi
    expected = (diffuse + f0 / (4 * math.pi * roughness**4)) * flash / distance**2
    photo = render_view(surface, camera, Lighting(flash, DARK), 4)
    torch.testing.assert_close(photo, torch.full_like(photo, expected), atol=0, rtol=1e-3)


def test_flash_falls_with_the_square_of_distance():
    surface = build_surface(flat_maps(), 8)
    near, far = (
        render_view(surface, look_at(torch.tensor([0.0, 0.0, d]), torch.zeros(2), 100 * d), Lighting(1.0, DARK), 4)
        for d in (1.0, 2.0)
    )
    torch.testing.assert_close(near, 4 * far, atol=0, rtol=1e-3)


@pytest.mark.parametrize("axis", [0, 1])
def test_slopes_that_face_the_camera_are_brighter(axis):
    position, towards, away = torch.tensor([0.0, 0.0, 1.5]), [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]
    position[axis], towards[axis], away[axis] = 0.8, 0.4, -0.4
    camera = look_at(position, torch.zeros(2), 1.5)
    facing, turned = (
        render_view(build_surface(flat_maps(normal=normal), 8), camera, Lighting(1.0, DARK), 8).mean()
        for normal in (towards, away)
    )
    assert facing > 1.3 * turned


@pytest.mark.parametrize("roughness", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("metallic", [0.0, 0.5, 1.0])
def test_white_furnace_gains_nothing(metallic, roughness):
    surface = build_surface(flat_maps(1.0, roughness, metallic), 8)
    oblique = look_at(torch.tensor([1.5, 0.0, 0.4]), torch.zeros(2), 1.5)
    light = Lighting(0.0, build_environment(torch.ones(3, 32, 64)))
    for camera in (ABOVE, oblique):
        assert render_view(surface, camera, light, 8).max() <= 1.005


@pytest.mark.parametrize("metallic", [0.0, 1.0])
def test_smooth_white_vanishes_in_a_white_furnace(metallic):
    surface = build_surface(flat_maps(1.0, 0.1, metallic), 8)
    light = Lighting(0.0, build_environment(torch.ones(3, 32, 64)))
    photo = render_view(surface, look_at(torch.tensor([0.8, 0.0, 1.0]), torch.zeros(2), 1.5), light, 8)
    torch.testing.assert_close(photo, torch.ones_like(photo), atol=0.005, rtol=0)


def test_missing_and_misshapen_maps_are_refused():
    maps = flat_maps()
    with pytest.raises(DataError, match=r"rendering needs the maps albedo, .*; missing: metallic, normal"):
        build_surface({name: maps[name] for name in ("albedo", "roughness")}, 8)
    with pytest.raises(DataError, match=r"roughness: found shape \(1, 1, 4, 4\); .* has \(1, 1, 8, 8\)"):
        build_surface(maps | {"roughness": torch.ones(1, 1, 4, 4)}, 8)
    with pytest.raises(DataError, match=r"albedo: found shape \(2, 3, 8, 8\); one material"):
        build_surface({name: maps[name].repeat(2, 1, 1, 1) for name in MAPS}, 8)
