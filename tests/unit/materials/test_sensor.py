import math

import pytest
import torch

from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.sensor import (
    GREY,
    SENSOR_SIDE,
    Noise,
    add_noise,
    balance,
    encode_photos,
    expose,
    meter,
    sample_noise,
    tone_curve,
)


def flat(value, size=64, views=2):
    return torch.full((views, 3, size, size), value)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_stop_doubles():
    torch.testing.assert_close(expose(flat(0.1), [1.0, -1.0]).mean(dim=(1, 2, 3)), torch.tensor([0.2, 0.05]))


def test_metering_ignores_how_far_highlights_exceed_white():
    photos = flat(0.05)
    photos[:, :, :8] = 3.0
    brighter = photos.clone()
    brighter[:, :, :8] = 300.0
    torch.testing.assert_close(meter(photos)[:, :, 8:], meter(brighter)[:, :, 8:])
    assert float(meter(flat(0.6)).mean()) == pytest.approx(GREY)


def test_white_balance_keeps_luminance_and_shifts_ratios():
    warm = balance(flat(0.3), [0.4, 0.0], [0.0, 0.2])
    red, green, blue = warm[0, :, 0, 0]
    assert math.log2(red / blue) == pytest.approx(0.4, abs=1e-5)
    weights = torch.tensor([0.2126, 0.7152, 0.0722])
    torch.testing.assert_close((warm[:, :, 0, 0] @ weights), torch.full((2,), 0.3))
    red, green, blue = warm[1, :, 0, 0]
    assert math.log2(green / red) == pytest.approx(0.2, abs=1e-5)
    assert float(red) == pytest.approx(float(blue))


@pytest.mark.parametrize("value", [0.0, 0.04, 0.5])
def test_noise_is_poisson_gaussian(value):
    noise = Noise(shot=4e-3, read=0.01)
    photos = add_noise(flat(value, 256), noise, generator())
    share = (256 / SENSOR_SIDE) ** 2
    assert float(photos.var()) == pytest.approx((4e-3 * value + 1e-4) * share, rel=0.02)
    assert float(photos.mean()) == pytest.approx(value, abs=1e-4)


def test_noise_of_a_shrunk_photo_is_that_of_its_averaged_pixels():
    noise = Noise(shot=4e-3, read=0.01)
    large = add_noise(flat(0.5, 256), noise, generator())
    small = add_noise(flat(0.5, 64), noise, generator(1))
    averaged = torch.nn.functional.avg_pool2d(large, 4)
    assert float(averaged.std()) == pytest.approx(float(small.std()), rel=0.03)


def test_a_photo_as_large_as_the_sensor_has_its_noise(monkeypatch):
    monkeypatch.setattr("neuropbr_core.materials.sensor.SENSOR_SIDE", 32)
    photos = add_noise(flat(0.5), Noise(shot=4e-3, read=0.01), generator())
    assert float(photos.var()) == pytest.approx(2.1e-3, rel=0.05)


def test_saturated_pixels_carry_no_more_noise_than_white():
    noise = Noise(shot=4e-3, read=0.0)
    white, glare = (add_noise(flat(value), noise, generator()).std() for value in (1.0, 50.0))
    assert float(white) == pytest.approx(float(glare), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_careless_photos_are_noisier(seed):
    clean, dirty = (sample_noise(generator(seed), clean=clean) for clean in (True, False))
    assert dirty.shot > clean.shot
    assert 1e-4 < clean.shot < 6.1e-4
    assert dirty.shot < 1e-2


def test_tone_curve_is_smooth_monotone_and_leaves_midtones():
    light = torch.linspace(-0.5, 10, 4001, dtype=torch.float64)
    bent = tone_curve(light)
    torch.testing.assert_close(bent[(light >= 0) & (light <= 0.8)], light[(light >= 0) & (light <= 0.8)])
    assert (bent.diff() >= 0).all()
    assert bent.min() == 0
    assert 0.999 < bent.max() <= 1
    assert float(tone_curve(torch.tensor(1.0))) == pytest.approx(0.8 + 0.2 * (1 - math.exp(-1)))
    slope = (tone_curve(torch.tensor([0.8 + 1e-4])) - 0.8) / 1e-4
    assert float(slope) == pytest.approx(1, abs=2e-3)


def test_photos_are_srgb():
    expected = round(float(linear_to_srgb(torch.tensor(0.18))) * 255)
    assert encode_photos(flat(0.18)).unique().tolist() == [expected]
    assert encode_photos(flat(-0.1)).unique().tolist() == [0]
    assert encode_photos(flat(9.0)).unique().tolist() == [255]
