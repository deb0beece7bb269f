"""The reflectance profile: what the whole frame reflects at each angle, and how it reaches the network."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from neuropbr_core.contracts import OVERVIEW_SIDE, Encoder, Fusion, Overview
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.alignment import identity_frame, view_directions
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.profile import BINS, PROFILE_CHANNELS, overview_of, reflectance_profile
from neuropbr_core.recipe.sections import Decoder, ModelSection

POSITIONS = torch.tensor([[[0.0, 0.0, 1.4], [0.9, 0.1, 1.2], [-0.4, 0.8, 1.1]]])


def matte(albedo: tuple[float, float, float], size: int = 32) -> Overview:
    """A matte plane under a flash at each lens, which gives it radiance a (l_z)³ whatever the height."""
    directions = view_directions(POSITIONS, identity_frame(1), size)
    color = torch.tensor(albedo).view(3, 1, 1)
    views = linear_to_srgb((color * directions[:, :, 2:] ** 3).clamp(0, 1))
    return Overview(views, torch.ones(1, 3, 1, size, size), directions)


class Parts(NamedTuple):
    """Means and deviations `(BINS, 3)`, shares and contrasts `(BINS,)` and the overall means `(3,)` of one profile."""

    mean: Tensor
    deviation: Tensor
    share: Tensor
    contrast: Tensor
    overall: Tensor


def parts(profile: Tensor) -> Parts:
    mean, deviation, share, contrast, overall = profile[0].split((3 * BINS, 3 * BINS, BINS, BINS, 3))
    return Parts(mean.view(BINS, 3), deviation.view(BINS, 3), share, contrast, overall)


def test_a_matte_plane_reflects_its_albedo_at_every_angle() -> None:
    profile = parts(reflectance_profile(matte((0.9, 0.8, 0.7))))
    wanted = torch.tensor([math.log(value / 0.18) for value in (0.9, 0.8, 0.7)])
    shown = profile.share > 0.05
    assert 4 <= shown.sum() <= BINS
    torch.testing.assert_close(profile.mean[shown], wanted.expand(int(shown.sum()), 3), atol=0.1, rtol=0)
    torch.testing.assert_close(profile.overall, wanted, atol=0.05, rtol=0)
    assert profile.deviation[shown].abs().max() < 0.3
    assert profile.contrast[shown].abs().max() < 0.1


def test_a_highlight_shows_at_its_angle_alone() -> None:
    frame = matte((0.2, 0.2, 0.2))
    # 8°: between the third and the fourth centre.
    within = frame.directions[:, :, 2:] > math.cos(math.radians(8))
    bright = torch.where(within, linear_to_srgb(torch.tensor(0.8)), frame.views)
    before = parts(reflectance_profile(frame)).mean
    after = parts(reflectance_profile(frame._replace(views=bright))).mean
    assert (after[:3] - before[:3]).min() > 0.5
    torch.testing.assert_close(after[4:], before[4:])


def test_the_highlight_of_a_mirror_is_a_contrast_that_no_mean_shows() -> None:
    frame = matte((0.2, 0.2, 0.2), size=64)
    glint = frame.views.clone()
    # One pixel of thousands, below the first lens.
    glint[0, 0, :, 32, 32] = 1.0
    before = parts(reflectance_profile(frame))
    after = parts(reflectance_profile(frame._replace(views=glint)))
    assert (after.contrast - before.contrast)[0] > 1
    assert (after.overall - before.overall).abs().max() < 0.01
    torch.testing.assert_close(after.contrast[3:], before.contrast[3:])


def test_angles_that_no_view_shows_are_zero() -> None:
    frame = matte((0.9, 0.8, 0.7))
    above = torch.zeros_like(frame.directions)
    above[:, :, 2] = 1
    profile = parts(reflectance_profile(frame._replace(directions=above)))
    assert profile.share[0] == pytest.approx(5.0)
    for part in (profile.mean[1:], profile.deviation[1:], profile.share[1:], profile.contrast[1:]):
        assert part.abs().max() < 0.05


def test_order_of_views_turns_and_what_is_not_seen_do_not_matter() -> None:
    frame = matte((0.9, 0.8, 0.7))
    seen = frame.visible.clone()
    seen[:, 2] = 0
    partly = frame._replace(visible=seen)
    wanted = reflectance_profile(partly)
    order = [1, 2, 0]
    shuffled = Overview(*(part[:, order] for part in partly))
    turned = Overview(*(part.rot90(1, (3, 4)) for part in partly))
    spoiled = partly._replace(views=partly.views.clone())
    spoiled.views[:, 2] = 1
    for other in (shuffled, turned, spoiled):
        torch.testing.assert_close(reflectance_profile(other), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shade", [0.0, 1.0])
@pytest.mark.parametrize("seen", [0.0, 1.0])
def test_black_white_and_unseen_frames_are_finite_with_finite_gradients(shade: float, seen: float) -> None:
    frame = matte((0.5, 0.5, 0.5), size=8)
    views = torch.full_like(frame.views, shade).requires_grad_()
    profile = reflectance_profile(frame._replace(views=views, visible=seen * frame.visible))
    assert profile.shape == (1, PROFILE_CHANNELS)
    assert profile.isfinite().all()
    profile.square().sum().backward()  # type: ignore[no-untyped-call]
    assert views.grad is not None
    assert views.grad.isfinite().all()


@pytest.mark.parametrize(("size", "side"), [(256, 32), (32, 32), (16, 16), (80, 40)])
def test_overviews_are_small_and_keep_the_profile(size: int, side: int) -> None:
    frame = matte((0.9, 0.8, 0.7), size=size)
    small = overview_of(*frame)
    assert small.views.shape[-2:] == (side, side)
    torch.testing.assert_close(reflectance_profile(small), reflectance_profile(frame), atol=0.1, rtol=0)


def test_overviews_average_what_is_seen() -> None:
    views = torch.zeros(1, 1, 3, 64, 64)
    views[..., 1::2] = 0.8
    visible = torch.zeros(1, 1, 1, 64, 64)
    visible[..., 1::2] = 1
    small = overview_of(views, visible, torch.ones(1, 1, 3, 64, 64))
    assert small.views.shape[-1] == OVERVIEW_SIDE
    torch.testing.assert_close(small.views, torch.full_like(small.views, 0.8))
    torch.testing.assert_close(small.visible, torch.full_like(small.visible, 0.5))


class OneLevel(Encoder):
    """One convolution at full resolution."""

    channels, strides = (4,), (1,)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 4, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.conv(images)]


class First(Fusion):
    """Mean over views."""

    out_channels = 4

    def forward(self, latents: Tensor, visible: Tensor | None = None) -> Tensor:
        return latents.mean(dim=1)


def make(*, trained: bool = True) -> Generator:
    torch.manual_seed(0)
    decoder = Decoder(channels=(32,), norm="none")
    section = ModelSection(decoder=decoder, view_conditioning="direction", reflectance_profile=True)
    generator = Generator(OneLevel(), First(), section).eval()
    if trained and generator.profile is not None:
        for modulation in (generator.profile.on_latent, generator.profile.on_features):
            nn.init.normal_(modulation.linear.weight, std=0.3)
    return generator


def test_the_path_starts_as_the_identity_and_then_changes_every_map() -> None:
    frame, brighter = matte((0.3, 0.3, 0.3)), matte((0.9, 0.9, 0.9))
    for trained in (False, True):
        generator = make(trained=trained)
        first, second = (generator(*frame, overview=each).maps for each in (frame, brighter))
        for name in MAPS:
            assert bool((first[name] - second[name]).abs().max() > 1e-4) == trained, name


def test_a_crop_with_its_frame_is_predicted_as_within_the_frame() -> None:
    """With a network that looks at single pixels, cropping the input and cropping the output are the same."""
    frame, generator = matte((0.9, 0.8, 0.7), size=64), make()
    generator.decoder.blocks[0] = nn.Conv2d(4, 32, 1)
    centre = torch.zeros(3, 3)
    centre[1, 1] = 1.0
    for head in generator.heads.values():
        head[0].weight.data *= centre  # type: ignore[index]
    crop = tuple(part[..., 8:24, 40:56] for part in frame)
    whole, part = generator(*frame).maps, generator(*crop, overview=overview_of(*frame)).maps
    alone = generator(*crop).maps
    for name in MAPS:
        torch.testing.assert_close(part[name], whole[name][..., 8:24, 40:56], atol=1e-5, rtol=1e-5)
    assert any((alone[name] - part[name]).abs().max() > 1e-4 for name in MAPS)


def test_it_can_be_exported() -> None:
    frame, generator = matte((0.9, 0.8, 0.7), size=64), make()
    exported = torch.export.export(generator, tuple(frame)).module()
    wanted = generator(*frame).maps
    for name, value in exported(*frame).maps.items():
        torch.testing.assert_close(value, wanted[name], atol=1e-5, rtol=1e-5)
