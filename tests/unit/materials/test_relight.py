"""Maps under one lamp, checked against closed forms and against the shading of captures."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.ggx import DIELECTRIC_F0, MIN_ROUGHNESS
from neuropbr_core.materials.relight import Relighting, heldout_relightings, relight


def maps(
    albedo_linear: float = 0.5, roughness: float = 1.0, metallic: float = 0.0, size: int = 33
) -> dict[str, Tensor]:
    """A flat, even tile; an odd size has a texel at its very centre."""
    plane = torch.ones(1, 1, size, size)
    return {
        "albedo": linear_to_srgb(torch.full((1, 3, size, size), albedo_linear)),
        "roughness": plane * roughness,
        "metallic": plane * metallic,
        "normal": torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, size, size),
    }


def test_a_diffuse_card_at_the_centre_shows_its_albedo() -> None:
    """With lamp and eye above, the coupled diffuse term is 1.05 · 0.96 · albedo, and the lobe at roughness 1 F0 / 4."""
    shown = relight(maps(0.18), Relighting((0.0, 0.0, 2.0), (0.0, 0.0, 2.0)))[0, :, 16, 16]
    expected = 0.18 * 1.05 * (1 - DIELECTRIC_F0) + DIELECTRIC_F0 / 4
    torch.testing.assert_close(shown, torch.full((3,), expected), rtol=1e-4, atol=0)


def test_light_falls_off_with_the_cube_of_the_cosine_ratio() -> None:
    """A point lamp over a plane: irradiance h / d³ (inverse square times cosine), seen from straight above the lamp."""
    lamp = (0.0, 0.0, 0.7)
    shown = relight(maps(0.5), Relighting(lamp, (0.0, 0.0, 50.0)))[0, 0, 16]
    x = (torch.arange(33) + 0.5) / 33 - 0.5
    cosine = 0.7 / torch.sqrt(x**2 + 0.7**2)
    irradiance = cosine**3
    diffuse = 0.5 * 1.05 * (1 - DIELECTRIC_F0) * (1 - (1 - cosine) ** 5)
    specular = shown / irradiance - diffuse
    assert torch.all(specular >= 0)
    assert torch.all(specular < 0.03)


def test_a_mirror_shows_the_lamp_where_the_angles_are_equal() -> None:
    """Lamp and eye at equal heights, left and right: a smooth metal's highlight is at the centre, and nowhere else."""
    shown = relight(maps(1.0, MIN_ROUGHNESS, 1.0), Relighting((-1.0, 0.0, 1.5), (1.0, 0.0, 1.5)))[0, 0]
    assert (shown == shown.max()).nonzero().tolist() == [[16, 16]]
    assert shown[16, 16] > 100
    assert shown[0, 0] < 1e-2


def test_the_lamp_is_where_its_coordinates_say() -> None:
    """+x is right and +y is up: normals that lean right and up are brightest under a lamp from there."""
    tilted = maps()
    tilted["normal"] = F.normalize(torch.tensor([0.4, 0.2, 1.0]), dim=0).view(1, 3, 1, 1).expand(1, 3, 33, 33)
    eye = (0.0, 0.0, 2.0)
    means = {
        side: relight(tilted, Relighting((*side, 2.0), eye)).mean().item()
        for side in ((1.0, 0.5), (-1.0, 0.5), (1.0, -0.5), (-1.0, -0.5))
    }
    assert max(means, key=lambda side: means[side]) == (1.0, 0.5)
    assert min(means, key=lambda side: means[side]) == (-1.0, -0.5)


def test_a_lamp_near_one_corner_lights_that_corner() -> None:
    shown = relight(maps(), Relighting((0.45, 0.45, 0.2), (0.0, 0.0, 3.0)))[0, 0]
    row, column = divmod(int(shown.argmax()), 33)
    assert row < 8
    assert column > 24


def test_heldout_lamps_are_apart_from_the_eye_and_all_around() -> None:
    relightings = heldout_relightings()
    assert relightings == heldout_relightings()
    assert len(set(relightings)) == 8
    azimuths = sorted(math.degrees(math.atan2(lamp[1], lamp[0])) % 360 for lamp, _ in relightings)
    gaps = [b - a for a, b in zip(azimuths, [*azimuths[1:], azimuths[0] + 360], strict=True)]
    assert max(gaps) < 90
    for lamp, eye in relightings:
        cosine = sum(a * b for a, b in zip(lamp, eye, strict=True)) / 4
        assert math.degrees(math.acos(cosine)) > 24.9
        assert math.hypot(*lamp) == pytest.approx(2)
        assert math.hypot(*eye) == pytest.approx(2)


def test_gradients_reach_every_map_and_are_finite() -> None:
    leaves = {name: value.clone().requires_grad_() for name, value in maps(0.5, 0.3, 0.5, size=8).items()}
    for relighting in heldout_relightings():
        relight(leaves, relighting).sum().backward()
    for leaf in leaves.values():
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().sum() > 0
