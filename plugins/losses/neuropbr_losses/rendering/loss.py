"""Re-rendering error under random lights and cameras over a crop of material."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup, Maps
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import ALBEDO, MAP_NAMES, METALLIC, NORMAL, ROUGHNESS
from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.materials.ggx import brdf, dot, reflectance
from neuropbr_losses.masking import conceal, masked_mean
from neuropbr_losses.rendering import Options

_LARGEST = 0.95
"""Largest squared sine of the tilt that is drawn, which is a tilt of 77°. Beyond it a flat surface shows next to
nothing."""

_LOG_DISTANCE_MEAN = 0.5
_LOG_DISTANCE_DEVIATION = 0.75
"""Mean and deviation of the logarithm of the distance of nearby lights and cameras; the crop's longer side is 2."""


class Scene(NamedTuple):
    """One light and one camera for each sample of a batch.

    Attributes:
        light: Unit vectors to the light in the texture's tangent space, `(B, 3, H, W)`; `(B, 3, 1, 1)` for a distant
            light, whose direction is the same at every pixel.
        view: Unit vectors to the camera; same shapes.
    """

    light: Tensor
    view: Tensor


def sample_scenes(random: int, mirrored: int, batch: int, size: tuple[int, int], device: torch.device) -> list[Scene]:
    """Draw lights and cameras from torch's global CPU generator, so that every device draws the same ones.

    Args:
        random: Scenes with light and camera far away, in independent directions.
        mirrored: Scenes with both close to the surface, in mirror directions about a random point of it.
        batch: Number of samples; each has a light and a camera of its own.
        size: Height and width of the crop in pixels; its longer side measures 2.
        device: Device of the result.

    Returns:
        The scenes, distant ones first.

    Source: Deschaintre et al. 2018, section 4.2 (directions are cosine-weighted; the logarithm of each nearby distance
    is normal with mean 0.5 and deviation 0.75).
    """
    # Points of the crop: x to the right, y up, both 0 at its centre.
    height, width = size
    longer = max(size)
    x = (2 * torch.arange(width) + 1 - width) / longer
    y = (height - 1 - 2 * torch.arange(height)) / longer
    plane = torch.stack((x.expand(height, width), y[:, None].expand(height, width), torch.zeros(height, width)))
    plane = plane.to(device)

    # The order of the draws is part of a run's result: all distant scenes first, in each the light before the camera.
    scenes: list[Scene] = []
    for _ in range(random):
        light = _directions(batch).to(device)
        view = _directions(batch).to(device)
        scenes.append(Scene(light, view))
    extent = torch.tensor([width, height, 0]) / longer
    for _ in range(mirrored):
        towards_view = _directions(batch)
        # A mirror in the plane turns the direction by half a circle about the plane's normal.
        towards_light = towards_view * towards_view.new_tensor([-1.0, -1.0, 1.0]).view(3, 1, 1)
        point = (extent * (2 * torch.rand(batch, 3) - 1))[..., None, None]
        light = point + towards_light * _distances(batch)
        view = point + towards_view * _distances(batch)
        # Drawn on the CPU, and moved before they meet the plane: only a few numbers cross to the device.
        light = F.normalize(light.to(device) - plane, dim=1)
        view = F.normalize(view.to(device) - plane, dim=1)
        scenes.append(Scene(light, view))
    return scenes


def _directions(batch: int) -> Float[Tensor, "B 3 1 1"]:
    """Draw cosine-weighted directions of the upper hemisphere."""
    # Malley's method: points that are uniform in a disc, lifted onto the hemisphere. The squared radius is uniform.
    squared_sine = _LARGEST * torch.rand(batch)
    azimuth = 2 * math.pi * torch.rand(batch)
    sine = squared_sine.sqrt()
    components = (sine * azimuth.cos(), sine * azimuth.sin(), (1 - squared_sine).sqrt())
    return torch.stack(components, dim=1)[..., None, None]


def _distances(batch: int) -> Float[Tensor, "B 1 1 1"]:
    return (_LOG_DISTANCE_MEAN + _LOG_DISTANCE_DEVIATION * torch.randn(batch, 1, 1, 1)).exp()


class RenderingLoss(Loss):
    """Mean |log(predicted radiance + floor) - log(true radiance + floor)| under random lights and cameras.

    Maps are `(B, channels, H, W)` in the ranges of `neuropbr_core.maps`, albedo sRGB-encoded. The mean runs over colour
    channels and valid pixels of each image, then over images and renderings. The value is at least 0, and 0 at the
    truth.

    Maps that look alike under every light cost nothing, and an error costs as much as it changes the picture. The
    logarithm keeps highlights, which are a thousand times brighter than the rest, from dominating the mean.
    Reflectance is that of `neuropbr_core.materials.ggx`.

    The draws come from torch's global generator, whose state checkpoints save: a resumed run draws the same lights as
    an uninterrupted one.

    The terms `random` and `mirrored` are the means over their renderings; without such renderings there is no term.

    Args:
        options: Numbers of renderings, and the floor of the logarithm.
        setup: Names the predicted maps.

    Raises:
        ModelError: A map that shading needs is not predicted, or both numbers of renderings are 0.

    Source: V. Deschaintre et al., "Single-Image SVBRDF Capture with a Rendering-Aware Deep Network", ACM Transactions
    on Graphics 37(4), 2018, section 4.2; V. Deschaintre et al., "Flexible SVBRDF Capture with a Multi-Image Deep
    Network", Computer Graphics Forum 38(4), 2019, which keeps the loss.

    Example:
        >>> from neuropbr_core.contracts import LossSetup
        >>> from neuropbr_core.maps import MAP_NAMES
        >>> from neuropbr_core.testing import example_loss_input
        >>> from neuropbr_losses.rendering import Options
        >>> loss = RenderingLoss(Options(random=2, mirrored=1), LossSetup(maps=MAP_NAMES, output_size=32))
        >>> loss(example_loss_input(truth=True)).total.item()
        0.0
        >>> result = loss(example_loss_input())
        >>> result.total.item() > 0
        True
        >>> sorted(result.terms)
        ['mirrored', 'random']
    """

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        missing = [name for name in MAP_NAMES if name not in setup.maps]
        if missing:
            raise ModelError(
                f"loss rendering: shading needs {', '.join(MAP_NAMES)}, but the generator does not predict "
                f"{', '.join(missing)}; remove the loss"
            )
        if not options.random + options.mirrored:
            raise ModelError("loss rendering: random and mirrored are both 0; set one above 0, or remove the loss")
        self.options = options

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Compare renderings of the maps of `x`.

        Args:
            x: The prediction and its target.
            critic: Ignored; this loss has none.

        Returns:
            The mean over renderings, and the means over the two kinds of renderings.
        """
        options = self.options
        batch, _, height, width = x.valid.shape
        scenes = sample_scenes(options.random, options.mirrored, batch, (height, width), x.valid.device)
        prediction = _shadeable(x.prediction.maps, x.valid)
        target = _shadeable(x.target, x.valid)
        by_scene: list[Tensor] = []
        for scene in scenes:
            rendered = (radiance(prediction, scene) + options.floor).log()
            expected = (radiance(target, scene) + options.floor).log()
            by_scene.append(masked_mean((rendered - expected).abs(), x.valid))
        errors = torch.stack(by_scene)
        # `sample_scenes` lists the distant scenes first.
        terms: dict[str, Tensor] = {}
        if options.random:
            terms["random"] = errors[: options.random].detach().mean()
        if options.mirrored:
            terms["mirrored"] = errors[options.random :].detach().mean()
        return LossResult(errors.mean(), terms)


def radiance(maps: Maps, scene: Scene) -> Float[Tensor, "B 3 H W"]:
    """Shade maps as the camera of a scene sees them.

    Args:
        maps: All four maps, in the ranges of `neuropbr_core.maps`; normals of length 1.
        scene: Light and camera.

    Returns:
        Linear radiance, at least 0; a white matte surface under perpendicular light has 1.
    """
    # Light gives a perpendicular surface an irradiance of π at any distance, so that a white matte surface, whose BRDF
    # is 1 / π, has a radiance of 1.
    material = reflectance(srgb_to_linear(maps[ALBEDO.name]), maps[ROUGHNESS.name], maps[METALLIC.name])
    received = math.pi * dot(maps[NORMAL.name], scene.light).clamp_min(0)
    return brdf(material, maps[NORMAL.name], scene.view, scene.light) * received


def _shadeable(maps: Maps, valid: Float[Tensor, "B 1 H W"]) -> Maps:
    """Return float32 maps with values at invalid pixels that shade without NaN, and with normals of length 1."""
    # One half is inside every range, and as a normal it has a direction.
    shadeable = {name: conceal(maps[name], valid, fill=0.5) for name in MAP_NAMES}
    shadeable[NORMAL.name] = F.normalize(shadeable[NORMAL.name], dim=1)
    return shadeable
