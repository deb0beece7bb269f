"""Re-rendering error."""

import math

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
from neuropbr_losses.rendering.scenes import Scene, sample_scenes


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
