import math

import pytest
import torch

from neuropbr_core.errors import DataError
from neuropbr_core.materials.alignment import identity_frame, warp_views
from neuropbr_core.materials.capture import PROCEDURAL, draw_scene, light, render_capture, surface_for, take_clean
from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear
from neuropbr_core.materials.environments import build_environment, irradiance

LARGEST_ERROR = 0.15


def plain(base=0.18, roughness=1.0, metallic=0.0, size=16):
    return {
        "albedo": linear_to_srgb(torch.full((1, 3, size, size), base)),
        "roughness": torch.full((1, 1, size, size), roughness),
        "metallic": torch.full((1, 1, size, size), metallic),
        "normal": torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).repeat(1, 1, size, size),
    }


def take(maps, views=3, size=32, seed=0, exposure="grey_card"):
    return render_capture(maps, views, size, torch.Generator().manual_seed(seed), exposure)


def linear(capture):
    return srgb_to_linear(capture.views.float() / 255)


def test_gives_uint8_photos_and_their_cameras():
    capture = take(plain(), views=4, size=24)
    assert capture.views.shape == (4, 3, 24, 24)
    assert capture.views.dtype == torch.uint8
    assert len(capture.cameras) == 4


def test_follows_its_generator():
    assert torch.equal(take(plain(), seed=5).views, take(plain(), seed=5).views)
    assert not torch.equal(take(plain(), seed=5).views, take(plain(), seed=6).views)


@pytest.mark.parametrize("base", [0.18, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_grey_card_exposure_records_reflectance(base, seed):
    centre = linear(take(plain(base), seed=seed))[0, :, 12:20, 12:20].mean().item()
    # A rough dielectric adds up to 0.02 of specular light to its base colour.
    assert base * 2**-LARGEST_ERROR * 0.96 < centre < (base + 0.025) * 2**LARGEST_ERROR * 1.04


@pytest.mark.parametrize("base", [0.05, 0.5])
def test_auto_exposure_sets_every_photo_to_middle_grey(base):
    means = linear(take(plain(base), exposure="auto")).mean(dim=(1, 2, 3))
    assert means.min() > 0.18 * 2**-LARGEST_ERROR * 0.97
    assert means.max() < 0.18 * 2**LARGEST_ERROR * 1.03


def test_auto_exposure_survives_black():
    assert take(plain(0.0, metallic=1.0), exposure="auto").views.float().isfinite().all()


def shares(scene):
    """Irradiance of flash and environment at the tile's centre in the first photo."""
    lighting, position = light(scene), scene.cameras[0].position
    flash = lighting.flash * float(position[2]) / float(position.norm()) ** 3
    return flash, float(irradiance(lighting.environment.radiance) @ torch.tensor([0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("seed", range(8))
def test_light_is_mostly_flash_and_adds_up_to_a_white_card(seed):
    flash, ambient = shares(draw_scene(torch.Generator().manual_seed(seed), 1))
    assert 0.13 <= ambient / (flash + ambient) <= 0.23
    assert ambient + flash == pytest.approx(math.pi, rel=1e-4)


def test_without_flash_the_environment_gives_all_light():
    flash, ambient = shares(draw_scene(torch.Generator().manual_seed(0), 1, kind="no_flash"))
    assert (flash, ambient) == (0.0, pytest.approx(math.pi, rel=1e-4))


def test_a_flash_beside_the_lens_leaves_the_rest_of_the_scene():
    scenes = {kind: draw_scene(torch.Generator().manual_seed(7), 3, kind=kind) for kind in ("flash", "auto", "offset")}
    assert scenes["flash"].flash_offset is None
    assert 0.03 <= float(scenes["offset"].flash_offset.norm()) <= 0.12
    assert scenes["offset"].flash_offset[2] == 0
    for kind in ("auto", "offset"):
        assert scenes[kind].ambient == scenes["flash"].ambient
        for own, other in zip(scenes[kind].cameras, scenes["flash"].cameras, strict=True):
            assert torch.equal(own.homography, other.homography)


def test_a_flash_beside_the_lens_moves_the_highlight_half_way():
    generator = torch.Generator().manual_seed(0)
    scene = draw_scene(generator, 1)._replace(flash_offset=torch.tensor([0.12, 0.0, 0.0]))
    photos = []
    for each in (scene._replace(flash_offset=None), scene):
        photos.append(take_clean(surface_for(plain(0.9, 0.3, 1.0), 96), each, 96, torch.Generator())[0].float().mean(0))
    columns = torch.arange(96.0)
    centres = [float((photo.sum(0) * columns).sum() / photo.sum()) for photo in photos]
    # On a mirror, the highlight would be half-way between lens and flash: 0.06 of a side, about 5.5 of 96 pixels.
    assert 1 < centres[1] - centres[0] < 6


@pytest.mark.parametrize("seed", range(6))
def test_far_cameras_are_further_away_and_show_the_tile(seed):
    near, far = (draw_scene(torch.Generator().manual_seed(seed), 5, kind=kind).cameras for kind in ("flash", "far"))
    distances = torch.stack([camera.position.norm() for camera in far])
    assert 1.75 <= float(distances[0]) <= 3.05
    assert 1.5 < float(distances.min()) <= float(distances.max()) < 3.3
    assert float(near[0].position.norm()) < 2
    tilts = torch.stack([torch.acos(camera.position[2] / camera.position.norm()) for camera in far])
    assert float(tilts[0]) <= math.radians(10.01)
    assert float(tilts[1:].max()) <= math.radians(50.01)


def test_given_environments_are_drawn_and_turned():
    maps = {name: build_environment(torch.rand(3, 16, 32)) for name in ("a", "b")}
    scenes = [draw_scene(torch.Generator().manual_seed(seed), 1, environments=maps) for seed in range(12)]
    assert {scene.surroundings for scene in scenes} == {"a", "b"}
    assert len({scene.step for scene in scenes}) > 4
    assert draw_scene(torch.Generator(), 1).surroundings == PROCEDURAL
    again = draw_scene(torch.Generator().manual_seed(3), 1, environments=maps)
    assert torch.equal(again.environment.radiance, scenes[3].environment.radiance)


def test_a_smooth_metal_shows_the_flash_and_little_else():
    first = linear(take(plain(0.9, roughness=0.15, metallic=1.0), size=64))[0].mean(dim=0)
    assert first.max() > 0.99
    assert first.median() < 0.4


def test_photos_may_be_larger_than_maps():
    generator = torch.Generator().manual_seed(0)
    scene = draw_scene(generator, 2)
    assert take_clean(surface_for(plain(), 48), scene, 48, generator).shape == (2, 3, 48, 48)


def test_light_and_dark_halves_come_back_where_they_were():
    maps = plain(0.1, size=64)
    maps["albedo"][..., :32] = linear_to_srgb(torch.tensor(0.6))
    capture = take(maps, size=64, seed=2)
    homographies = torch.stack([camera.homography for camera in capture.cameras])[None]
    aligned, visible = warp_views(capture.views[None].float() / 255, homographies, identity_frame(1), 64)
    bright = srgb_to_linear(aligned[0]).mean(dim=1) > 0.2
    expected = torch.zeros(64, 64, dtype=torch.bool)
    expected[:, :32] = True
    agrees = (bright == expected) | (visible[0, :, 0] == 0)
    agrees[..., 30:34] = agrees[..., :2] = agrees[..., -2:] = True
    assert agrees.float().mean() > 0.97


def test_missing_maps_are_refused():
    with pytest.raises(DataError, match="missing: normal"):
        render_capture({k: v for k, v in plain().items() if k != "normal"}, 1, 16, torch.Generator())
