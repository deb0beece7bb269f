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

    Maps that look alike under every light cost nothing, and an error costs what it changes in the picture. The
    logarithm keeps highlights, a thousand times brighter than the rest, from deciding everything. Light gives a
    perpendicular surface an irradiance of π, at any distance, so that a white matte surface shows 1. Reflectance is
    that of `neuropbr_core.materials.ggx`.

    The draws come from torch's global generator: a resumed run goes on with those it would have had.

    Terms: `random` and `mirrored`, each the mean over its renderings; one that has none is left out.

    Args:
        options: Numbers of renderings, encoding.
        setup: Names the predicted maps.

    Raises:
        ModelError: A map that shading needs is not predicted, or there is nothing to render.

    Source: V. Deschaintre et al., "Single-Image SVBRDF Capture with a Rendering-Aware Deep Network", ACM Transactions
    on Graphics 37(4), 2018, section 4.2; V. Deschaintre et al., "Flexible SVBRDF Capture with a Multi-Image Deep
    Network", Computer Graphics Forum 38(4), 2019, which keeps the loss.
    """

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        if missing := [name for name in MAP_NAMES if name not in setup.maps]:
            raise ModelError(
                f"loss rendering: shading needs {', '.join(MAP_NAMES)}, but the generator does not predict "
                f"{', '.join(missing)}; remove the loss"
            )
        if not options.random + options.mirrored:
            raise ModelError("loss rendering: random and mirrored are both 0; set one above 0, or remove the loss")
        self.options = options

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Compare renderings of the maps of `x`."""
        batch, _, height, width = x.valid.shape
        random, mirrored = self.options.random, self.options.mirrored
        scenes = sample_scenes(random, mirrored, batch, (height, width), x.valid.device)
        prediction, target = (_ready(maps, x.valid) for maps in (x.prediction.maps, x.target))
        errors = torch.stack([masked_mean(self._error(prediction, target, scene), x.valid) for scene in scenes])
        parts = {"random": errors[:random], "mirrored": errors[random:]}
        terms = {name: part.detach().mean() for name, part in parts.items() if len(part)}
        return LossResult(errors.mean(), terms)

    def _error(self, prediction: Maps, target: Maps, scene: Scene) -> Float[Tensor, "B 3 H W"]:
        rendered, wanted = ((radiance(maps, scene) + self.options.floor).log() for maps in (prediction, target))
        return (rendered - wanted).abs()


def radiance(maps: Maps, scene: Scene) -> Float[Tensor, "B 3 H W"]:
    """What the camera sees, linear, a white matte surface under perpendicular light being 1.

    Args:
        maps: All four, in their ranges.
        scene: Light and camera.
    """
    material = reflectance(srgb_to_linear(maps[ALBEDO.name]), maps[ROUGHNESS.name], maps[METALLIC.name])
    received = math.pi * dot(maps[NORMAL.name], scene.light).clamp_min(0)
    return brdf(material, maps[NORMAL.name], scene.view, scene.light) * received


def _ready(maps: Maps, valid: Float[Tensor, "B 1 H W"]) -> Maps:
    """Float32 maps with harmless values at invalid pixels, and normals of length 1."""
    known = {name: conceal(maps[name], valid, fill=0.5) for name in MAP_NAMES}
    return {**known, NORMAL.name: F.normalize(known[NORMAL.name], dim=1)}
