"""Rendering of one view: each pixel's rays meet the plane, the material there is shaded, and the rays are averaged."""

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
from neuropbr_core.materials.vectors import unit

SUPERSAMPLING = 2
"""Rays along each side of a pixel."""
# Rays shaded together: enough to fill vector units, few enough to stay in the processor's cache.
_BAND_SAMPLES = 1 << 16


class Lighting(NamedTuple):
    """The light of one photo.

    Attributes:
        flash: Irradiance that the flash, a point, gives a perpendicular surface at distance 1.
        environment: Light from all around.
        occlusion: What hides the environment; None when nothing does.
        flash_offset: `(3,)`, from the lens to the flash in world units; None with the flash at the lens.
    """

    flash: float
    environment: Environment
    occlusion: Occlusion | None = None
    flash_offset: Tensor | None = None

    def to(self, device: torch.device) -> "Lighting":
        """Copy the light to a device.

        Args:
            device: Device to render on.

        Returns:
            The same light; its tensors are on the device.
        """
        environment = Environment(*(part.to(device) for part in self.environment))
        occlusion = self.occlusion
        if occlusion is not None:
            occlusion = Occlusion(*(part.to(device) for part in occlusion))
        flash_offset = self.flash_offset
        if flash_offset is not None:
            flash_offset = flash_offset.to(device)
        return Lighting(self.flash, environment, occlusion, flash_offset)


Shader = Callable[[Point, Float[Tensor, "3 H W"]], Float[Tensor, "3 H W"]]
"""A function from points of a surface, and the vectors from them to the lens, to linear radiance."""


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
        shader: Function that computes the radiance of samples.
        supersampling: Samples along each side of a pixel.

    Returns:
        The shader's linear values, averaged over each pixel.

    Source: Hartley and Zisserman, Multiple View Geometry (2nd ed.), 2.3 (transfer of points by a homography).
    """
    device = surface.texels.device
    # Inverted in float64: a tilted view's homography loses digits in float32.
    to_texture = torch.linalg.inv(camera.homography.double()).float().to(device)
    position = camera.position.to(device, torch.float32)
    samples = size * supersampling
    steps = (torch.arange(samples, device=device) + 0.5) / samples
    # Whole rows of pixels, so that no pixel's samples are divided between two bands.
    rows = max(1, _BAND_SAMPLES // (samples * supersampling)) * supersampling
    bands = []
    for band in torch.split(steps, rows):
        u, v, w = (row[0] * steps[None, :] + row[1] * band[:, None] + row[2] for row in to_texture)
        u = u / w
        v = v / w
        to_lens = position.view(3, 1, 1) - torch.stack((u - 0.5, 0.5 - v, torch.zeros_like(u)))
        bands.append(F.avg_pool2d(shader(look_up(surface, u, v), to_lens)[None], supersampling)[0])
    return torch.cat(bands, dim=1)


def shade(point: Point, to_lens: Float[Tensor, "3 H W"], lighting: Lighting) -> Float[Tensor, "3 H W"]:
    """Compute the radiance towards the lens, from the flash and from the environment.

    Args:
        point: Reflectance and normals of the samples.
        to_lens: Vectors to the lens, in world units.
        lighting: The light.

    Returns:
        Linear radiance.

    Source: the BRDF of `ggx`; the split sum of `split_sum` for the environment (Karis 2013).
    """
    squared_distance = dot(to_lens, to_lens)
    view = to_lens * torch.rsqrt(squared_distance)
    material = point.reflectance
    environment = lighting.environment
    n_dot_v = dot(point.normal, view)
    if lighting.flash_offset is None:
        # The flash is at the lens, so the light's direction is the view's.
        flash = brdf(material, point.normal, view, view) * (lighting.flash * n_dot_v / squared_distance)
    else:
        to_flash = to_lens + lighting.flash_offset.view(3, 1, 1)
        squared_to_flash = dot(to_flash, to_flash)
        towards = to_flash * torch.rsqrt(squared_to_flash)
        n_dot_l = dot(point.normal, towards)
        flash = brdf(material, point.normal, view, towards) * (lighting.flash * n_dot_l / squared_to_flash)
    n_dot_v = n_dot_v.clamp(0, 1)
    # Clamping bends the mirrored vector of normals that face away, hence the normalization.
    reflected = unit(2 * n_dot_v * point.normal - view)
    # Light that enters the dielectric and leaves it by the coupled term; `material.diffuse` is 0 for metals.
    leaving = diffuse_transmission(n_dot_v) * ((1 - DIELECTRIC_F0) / math.pi)
    diffuse = diffuse_light(environment, point.normal) * material.diffuse * leaving
    scale, bias = specular_scale_bias(n_dot_v, material.roughness).unbind()
    specular = specular_light(environment, reflected, material.roughness) * (material.f0 * scale + bias)
    if lighting.occlusion is not None:
        position = lighting.occlusion.lens.view(3, 1, 1) - to_lens
        diffuse = diffuse * diffuse_share(lighting.occlusion, position)
        specular = specular * specular_share(lighting.occlusion, position, reflected, material.roughness)
    return flash + diffuse + specular
