import math

import pytest
import torch

from neuropbr_core.materials.lens import defocus, haze, shake, streak, vignette

SIZE = 65


def spot(size=SIZE, value=1000.0):
    """A highlight of one pixel in the middle of darkness."""
    photos = torch.zeros(1, 3, size, size)
    photos[..., size // 2, size // 2] = value
    return photos


def spreads(photos):
    """Standard deviations of the light along x and y, in pixels, and the light in all."""
    light = photos[0, 0].double()
    steps = torch.arange(light.shape[0], dtype=torch.float64) - light.shape[0] // 2
    total = light.sum()
    along, across = light.sum(0), light.sum(1)
    return math.sqrt((along * steps**2).sum() / total), math.sqrt((across * steps**2).sum() / total), float(total)


EFFECTS = {
    "defocus": lambda photos: defocus(photos, 0.02),
    "shake": lambda photos: shake(photos, 0.05, 0.6),
    "haze": lambda photos: haze(photos, 0.3, 0.02),
    "streak": lambda photos: streak(photos, 0.2, 0.04, 0.6),
}


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS.keys())
def test_an_even_surface_stays_as_it_is(effect):
    photos = torch.full((2, 3, 32, 32), 0.4)
    torch.testing.assert_close(effect(photos), photos)


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS.keys())
def test_light_is_kept_and_stays_centred(effect):
    photos = effect(spot(129))
    assert spreads(photos)[2] == pytest.approx(1000, rel=0.02)
    torch.testing.assert_close(photos, photos.flip(-1, -2), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("radius", [2.0, 3.5, 6.0])
def test_defocus_is_a_disc(radius):
    blurred = defocus(spot(), radius / SIZE)
    # A disc's coordinate has standard deviation radius / 2.
    assert spreads(blurred)[0] == pytest.approx(radius / 2, rel=0.06)
    assert float(blurred.max()) == pytest.approx(1000 / (math.pi * radius**2), rel=0.06)


def test_blurs_scale_with_the_photo():
    small, large = (spreads(defocus(spot(size), 0.05))[0] / size for size in (65, 129))
    assert small == pytest.approx(large, rel=0.03)


@pytest.mark.parametrize("degrees", [0, 35, 90])
def test_shake_is_a_line(degrees):
    angle, length = math.radians(degrees), 16.0
    x, y, _ = spreads(shake(spot(), length / SIZE, angle))
    # A line's coordinate has standard deviation length / sqrt(12); a pixel's own width adds a little.
    assert x == pytest.approx(length / math.sqrt(12) * abs(math.cos(angle)), abs=0.5)
    assert y == pytest.approx(length / math.sqrt(12) * abs(math.sin(angle)), abs=0.5)


def test_tiny_blurs_are_none():
    photos = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(defocus(photos, 1e-5), photos)
    torch.testing.assert_close(shake(photos, 1e-6, 0.0), photos, atol=1e-6, rtol=0)


def test_haze_takes_its_share_and_falls_to_a_third():
    hazed = haze(spot(129), 0.3, 8 / 129)
    centre = 64
    assert float(hazed[0, 0, centre, centre]) > 700
    profile = hazed[0, 0, centre] / hazed[0, 0, centre, centre + 1]
    assert float(profile[centre + 8]) == pytest.approx(2**-1.5, rel=0.05)
    assert torch.equal(hazed[0, 0].argmax(), torch.tensor(centre * 129 + centre))


def test_haze_does_not_reach_around_the_photo():
    photos = torch.zeros(1, 3, 64, 64)
    photos[..., :2] = 1.0
    hazed = haze(photos, 1.0, 0.05)
    assert hazed[..., -1].max() < 0.15 * hazed[..., 8].min()


def test_streaks_are_long_along_and_narrow_across():
    along, across, _ = spreads(streak(spot(257), 1.0, 0.05, 0.0))
    assert along > 5 * across
    turned = spreads(streak(spot(257), 1.0, 0.05, math.pi / 2))
    assert turned[1] == pytest.approx(along, rel=1e-3)


def test_vignette_follows_the_law():
    photos = vignette(torch.ones(1, 3, 101, 101), 0.2)
    assert float(photos[0, 0, 50, 50]) == pytest.approx(1)
    assert float(photos[0, 0, 0, 0]) == pytest.approx(1 / 1.2**2, rel=0.01)
    assert float(photos[0, 0, 50, 0]) == pytest.approx(1 / 1.1**2, rel=0.01)
