from dataclasses import replace

import pytest
import torch

from neuropbr_core.materials.capture import draw_scene, surface_for, take_clean
from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear
from neuropbr_core.materials.defects import Dirt
from neuropbr_core.materials.dirt import draw_dirt, smear, take_dirty
from neuropbr_core.materials.sensor import Noise

CLEAN = Dirt(
    ambient=0.3,
    photographer=False,
    clutter=0,
    haze=(0.0, 0.1),
    streak=(0.0, 0.1, 0.0),
    defocus=[0.0, 0.0],
    shake=[(0.0, 0.0), (0.0, 0.0)],
    vignette=0.0,
    exposure=[0.0, 0.0],
    warmth=[0.0, 0.0],
    tint=[0.0, 0.0],
    noise=Noise(0.0, 0.0),
    jpeg=[90, 90],
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def surface(size=24):
    ramp = torch.rand(1, 3, size, size, generator=generator())
    return surface_for(
        {
            "albedo": linear_to_srgb(0.2 + 0.4 * ramp),
            "roughness": torch.full((1, 1, size, size), 0.6),
            "metallic": torch.zeros(1, 1, size, size),
            "normal": torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).repeat(1, 1, size, size),
        },
        size,
    )


def taken(kind="flash", seed=3, **changes):
    scene = draw_scene(generator(seed), 2, kind=kind)
    photos = take_dirty(surface(), scene, replace(CLEAN, **changes), 24, generator(1))
    return srgb_to_linear(photos.float() / 255)


@pytest.mark.parametrize("seed", range(20))
def test_draws_keep_the_documented_ranges(seed):
    dirt = draw_dirt(generator(seed), draw_scene(generator(seed), 3))
    assert 0.25 <= dirt.ambient <= 0.5
    assert 0 <= dirt.clutter <= 2
    assert 0 <= dirt.haze[0] <= 0.25
    assert 0 <= dirt.streak[0] <= 0.12
    assert all(0 <= radius <= 0.005 for radius in dirt.defocus)
    assert all(0 <= length <= 0.01 for length, _ in dirt.shake)
    assert 0 <= dirt.vignette <= 0.15
    assert all(abs(stops) <= 0.6 for stops in dirt.exposure)
    assert all(abs(stops) <= 0.4 for stops in dirt.warmth)
    assert all(abs(stops) <= 0.12 for stops in dirt.tint)
    assert all(50 <= quality <= 95 for quality in dirt.jpeg)
    assert len(dirt.defocus) == len(dirt.shake) == len(dirt.exposure) == len(dirt.jpeg) == 3


def test_every_effect_happens_and_most_are_absent_at_times():
    drawn = [draw_dirt(generator(seed), draw_scene(generator(seed), 1)) for seed in range(30)]
    for happens in (
        lambda dirt: dirt.photographer,
        lambda dirt: dirt.clutter > 0,
        lambda dirt: dirt.haze[0] > 0,
        lambda dirt: dirt.streak[0] > 0,
        lambda dirt: dirt.defocus[0] > 0,
        lambda dirt: dirt.shake[0][0] > 0,
    ):
        assert {happens(dirt) for dirt in drawn} == {True, False}


def test_draws_follow_their_generator():
    scene = draw_scene(generator(), 2)
    assert draw_dirt(generator(4), scene) == draw_dirt(generator(4), scene)
    assert draw_dirt(generator(4), scene) != draw_dirt(generator(5), scene)


def test_without_flash_the_environment_still_gives_all_light():
    assert draw_dirt(generator(), draw_scene(generator(), 1, kind="no_flash")).ambient == 1.0


def test_the_same_generator_gives_the_same_photos():
    scene = draw_scene(generator(), 2)
    dirt = draw_dirt(generator(), scene)
    first, second = (take_dirty(surface(), scene, dirt, 24, generator(2)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, take_clean(surface(), scene, 24, generator(2)))


def test_without_dirt_a_photo_is_clean():
    scene = draw_scene(generator(), 2)
    plain = take_dirty(surface(), scene, replace(CLEAN, ambient=scene.ambient), 24, generator())
    difference = plain.float() - take_clean(surface(), scene, 24, generator()).float()
    assert difference.mean().abs() < 12  # a clean photo's exposure is off by up to 0.15 stops
    assert (difference / plain.float().clamp_min(1)).std() < 0.02


@pytest.mark.parametrize(
    ("change", "shows"),
    [
        ({"exposure": [0.5, -0.5]}, lambda a, b: b[0].mean() > 1.3 * a[0].mean() and b[1].mean() < 0.8 * a[1].mean()),
        ({"warmth": [0.4, 0.4]}, lambda a, b: (b[:, 0] / b[:, 2]).mean() > 1.2 * (a[:, 0] / a[:, 2]).mean()),
        ({"tint": [0.12, 0.12]}, lambda a, b: (b[:, 1] / b[:, 0]).mean() > 1.05 * (a[:, 1] / a[:, 0]).mean()),
        ({"vignette": 0.15}, lambda a, b: b[..., 0, 0].mean() < 0.85 * a[..., 0, 0].mean()),
        ({"haze": (0.25, 0.1)}, lambda a, b: b.std() < 0.92 * a.std() and abs(b.mean() / a.mean() - 1) < 0.02),
        ({"streak": (0.12, 0.1, 0.0)}, lambda a, b: 0.8 * a.std() < b.std() < 0.97 * a.std()),
        ({"defocus": [0.04, 0.0]}, lambda a, b: b[0].std() < 0.95 * a[0].std() and torch.equal(a[1], b[1])),
        ({"shake": [(0.0, 0.0), (0.1, 0.3)]}, lambda a, b: b[1].std() < 0.95 * a[1].std() and torch.equal(a[0], b[0])),
        ({"noise": Noise(9.0, 0.1)}, lambda a, b: 0.005 < (b - a).std() < 0.05),
        ({"photographer": True}, lambda a, b: b.mean() < 0.98 * a.mean()),
        ({"clutter": 2}, lambda a, b: b.mean() < 0.999 * a.mean()),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_effect_is_visible(change, shows):
    assert shows(taken(), taken(**change))


def test_shadows_darken_only_the_ambient_light():
    lit, shaded = taken("no_flash", ambient=1.0), taken("no_flash", ambient=1.0, photographer=True)
    flashed, flash_shaded = taken(ambient=0.25), taken(ambient=0.25, photographer=True)
    assert 1 - shaded.mean() / lit.mean() > 2 * (1 - flash_shaded.mean() / flashed.mean())


def test_the_lens_smears_all_photos_alike():
    photos = torch.rand(1, 3, 32, 32, generator=generator()).repeat(2, 1, 1, 1)
    smeared = smear(photos, replace(CLEAN, haze=(0.2, 0.1), streak=(0.1, 0.1, 0.5)))
    torch.testing.assert_close(smeared[0], smeared[1])
