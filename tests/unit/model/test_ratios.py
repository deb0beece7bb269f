"""Ratio images: albedo and falloff cancel, relief stays, what is not seen does not count."""

import torch

from neuropbr_core.materials.alignment import identity_frame, view_directions
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.model.ratios import ratio_channels, ratio_images

POSITIONS = torch.tensor([[[0.0, 0.0, 1.4], [0.9, 0.1, 1.2], [-0.4, 0.8, 1.1]]])


def photograph(albedo: torch.Tensor, slopes: tuple[float, float], size: int = 8) -> torch.Tensor:
    """A matte plane whose right half is tilted by `slopes`, under a flash at each lens: radiance 1.2 a (n·l) / d²."""
    directions = view_directions(POSITIONS, identity_frame(1), size)
    normal = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).repeat(1, size, size)
    tilted = torch.nn.functional.normalize(torch.tensor([*slopes, 1.0]), dim=0)
    normal[:, :, size // 2 :] = tilted.view(3, 1, 1)
    distance = POSITIONS[0, :, 2].view(1, 3, 1, 1, 1) / directions[:, :, 2:]
    cosine = (directions * normal).sum(dim=2, keepdim=True)
    return linear_to_srgb((1.2 * albedo.view(3, 1, 1) * cosine / distance**2).clamp(0, 1))


def seen(views: int = 3, size: int = 8) -> torch.Tensor:
    return torch.ones(1, views, 1, size, size)


def test_a_flat_plane_has_no_ratio_whatever_its_albedo_and_the_falloff() -> None:
    directions = view_directions(POSITIONS, identity_frame(1), 8)
    for albedo in (torch.tensor([0.8, 0.7, 0.6]), torch.tensor([0.4, 0.5, 0.6])):
        found = ratio_images(photograph(albedo, (0.0, 0.0)), seen(), directions)
        assert found.abs().max() < 0.05  # what is left is the logarithm's floor for dark pixels
        assert ratio_images(photograph(albedo, (0.0, 0.0)), seen()).abs().max() > 0.1  # the falloff without directions


def test_products_solve_for_the_slopes() -> None:
    """Least squares over views gives back a small tilt of half the frame."""
    directions = view_directions(POSITIONS, identity_frame(1), 8)
    grey = torch.tensor([0.6, 0.6, 0.6])
    tilted, flat = (ratio_images(photograph(grey, tilt), seen(), directions) for tilt in ((0.1, -0.06), (0.0, 0.0)))
    found = tilted - flat
    light = directions[:, :, :2] / directions[:, :, 2:]
    light = light - light.mean(dim=1, keepdim=True)
    normal = torch.einsum("bvihw,bvjhw->bhwij", light, light)
    ratio = found[:, :, :3].mean(dim=2)
    solved = torch.linalg.solve(normal, torch.einsum("bvihw,bvhw->bhwi", light, ratio))[0].mean(dim=0)
    step = solved[4:].mean(dim=0) - solved[:4].mean(dim=0)
    torch.testing.assert_close(step, torch.tensor([0.1, -0.06]), atol=0.02, rtol=0)
    slopes = directions[:, :, :2] / directions[:, :, 2:]
    torch.testing.assert_close(found[:, :, 3:], ratio.unsqueeze(2) * slopes)


def test_channels_are_as_declared() -> None:
    views, directions = torch.rand(1, 3, 3, 8, 8), view_directions(POSITIONS, identity_frame(1), 8)
    assert ratio_images(views, seen()).shape[2] == ratio_channels(directed=False)
    assert ratio_images(views, seen(), directions).shape[2] == ratio_channels(directed=True)


def test_one_view_alone_has_no_ratio() -> None:
    assert ratio_images(torch.rand(2, 1, 3, 4, 4), torch.ones(2, 1, 1, 4, 4)).abs().max() == 0
    views, visible = torch.rand(1, 2, 3, 4, 4), torch.ones(1, 2, 1, 4, 4)
    visible[:, 1, :, :2] = 0
    assert ratio_images(views, visible)[..., :2, :].abs().max() == 0


def test_a_view_that_does_not_see_the_pixel_does_not_count() -> None:
    views, visible = torch.rand(1, 3, 3, 4, 4), torch.ones(1, 3, 1, 4, 4)
    visible[:, 2] = 0
    found = ratio_images(views, visible)
    torch.testing.assert_close(found[:, :2], ratio_images(views[:, :2], visible[:, :2]))
    assert found[:, 2].abs().max() == 0


def test_exposure_of_a_view_does_not_matter() -> None:
    linear = 0.2 + 0.2 * torch.rand(1, 3, 3, 8, 8)
    brighter = linear * torch.tensor([1.0, 1.5, 2.0]).view(1, 3, 1, 1, 1)
    first, second = (ratio_images(linear_to_srgb(views), seen()) for views in (linear, brighter))
    torch.testing.assert_close(first, second, atol=0.02, rtol=0)


def test_black_is_finite() -> None:
    assert ratio_images(torch.zeros(1, 2, 3, 4, 4), torch.ones(1, 2, 1, 4, 4)).isfinite().all()
