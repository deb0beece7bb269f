"""One view of a surface: each pixel's rays meet the plane, the material there is shaded, the results are averaged."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.cameras import Camera
from neuropbr_core.materials.environments import Environment, diffuse_light, specular_light
from neuropbr_core.materials.ggx import DIELECTRIC_F0, brdf, diffuse_transmission, dot
from neuropbr_core.materials.occlusion import Occlusion, diffuse_share, specular_share
from neuropbr_core.materials.split_sum import specular_scale_bias
from neuropbr_core.materials.surface import Point, Surface, look_up

SUPERSAMPLING = 2
"""Rays along each side of a pixel."""
_BAND_SAMPLES = 1 << 16
"""Rays shaded together: enough to fill vector units, few enough to stay in cache."""


class Lighting(NamedTuple):
    """The light of one photo.

    Attributes:
        flash: Irradiance that the flash, a point at the lens, gives a perpendicular surface at distance 1.
        environment: Light from all around.
        occlusion: What hides the environment; None when nothing does.
    """

    flash: float
    environment: Environment
    occlusion: Occlusion | None = None

    def to(self, device: torch.device) -> "Lighting":
        """Return the light on a device."""
        hidden = None if self.occlusion is None else Occlusion(*(part.to(device) for part in self.occlusion))
        return Lighting(self.flash, Environment(*(part.to(device) for part in self.environment)), hidden)


Shader = Callable[[Point, Float[Tensor, "3 H W"]], Float[Tensor, "3 H W"]]
"""From what a surface is, and the vectors from it to the lens, to linear radiance."""


def render_view(surface: Surface, camera: Camera, lighting: Lighting, size: int) -> Float[Tensor, "3 S S"]:
    """Render a photo in linear light, without exposure or noise.

    Args:
        surface: The material, on the device to render on.
        camera: The camera.
        lighting: Flash and environment.
        size: Side of the photo in pixels.

    Returns:
        Linear radiance, unbounded. No point casts a shadow or a reflection on another.
    """
    return rasterize(surface, camera, size, lambda point, to_lens: shade(point, to_lens, lighting))


def rasterize(
    surface: Surface, camera: Camera, size: int, shader: Shader, supersampling: int = SUPERSAMPLING
) -> Float[Tensor, "3 S S"]:
    """Shade the surface behind every pixel and average the samples of each.

    Args:
        surface: The material.
        camera: The camera.
        size: Side of the photo in pixels.
        shader: What a sample shows.
        supersampling: Samples along each side of a pixel.
    """
    device = surface.texels.device
    to_texture = torch.linalg.inv(camera.homography.double()).float().to(device)
    position = camera.position.to(device, torch.float32)
    samples = size * supersampling
    steps = (torch.arange(samples, device=device) + 0.5) / samples
    rows = max(1, _BAND_SAMPLES // (samples * supersampling)) * supersampling
    bands = []
    for band in torch.split(steps, rows):
        u, v = _meet_plane(to_texture, steps[None, :], band[:, None])
        to_lens = position.view(3, 1, 1) - torch.stack((u - 0.5, 0.5 - v, torch.zeros_like(u)))
        bands.append(F.avg_pool2d(shader(look_up(surface, u, v), to_lens)[None], supersampling)[0])
    return torch.cat(bands, dim=1)


def shade(point: Point, to_lens: Float[Tensor, "3 H W"], lighting: Lighting) -> Float[Tensor, "3 H W"]:
    """Radiance towards the lens, from the flash beside it and from the environment.

    Args:
        point: The surface.
        to_lens: Vectors to the lens and flash, in world units.
        lighting: The light.
    """
    squared_distance = dot(to_lens, to_lens)
    view = to_lens * torch.rsqrt(squared_distance)
    n_dot_v = dot(point.normal, view)
    flash = brdf(point.reflectance, point.normal, view, view) * (lighting.flash * n_dot_v / squared_distance)
    n_dot_v = n_dot_v.clamp(0, 1)
    reflected = F.normalize(2 * n_dot_v * point.normal - view, dim=0)
    diffuse = _diffuse(point, n_dot_v, lighting.environment)
    specular = _specular(point, n_dot_v, reflected, lighting.environment)
    if lighting.occlusion is not None:
        position = lighting.occlusion.lens.view(3, 1, 1) - to_lens
        diffuse = diffuse * diffuse_share(lighting.occlusion, position)
        specular = specular * specular_share(lighting.occlusion, position, reflected, point.reflectance.roughness)
    return flash + diffuse + specular


def _diffuse(point: Point, n_dot_v: Tensor, environment: Environment) -> Float[Tensor, "3 H W"]:
    """Light of the environment that enters a dielectric and leaves it by the coupled term; none for metals."""
    leaving = diffuse_transmission(n_dot_v) * ((1 - DIELECTRIC_F0) / math.pi)
    return diffuse_light(environment, point.normal) * point.reflectance.diffuse * leaving


def _specular(point: Point, n_dot_v: Tensor, reflected: Tensor, environment: Environment) -> Float[Tensor, "3 H W"]:
    """Light of the environment that facets mirror."""
    material = point.reflectance
    scale, bias = specular_scale_bias(n_dot_v, material.roughness).unbind()
    return specular_light(environment, reflected, material.roughness) * (material.f0 * scale + bias)


def _meet_plane(to_texture: Float[Tensor, "3 3"], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Texture coordinates of view points."""
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in to_texture)
    return u / w, v / w
