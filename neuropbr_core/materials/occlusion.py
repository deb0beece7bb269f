"""Obstacles in the light: the person who holds the phone, the phone itself, and clutter.

Obstacles are capsules (all points within a radius of a segment) around the plane. They block the environment in two
ways: as a soft shadow in the diffuse light, whose penumbra follows from the size of lamps and windows, and as a dark
silhouette in reflections. The flash is beside the lens, so its shadows are hidden from the lens.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.cameras import Camera
from neuropbr_core.materials.color import luminance
from neuropbr_core.materials.sampling import uniform
from neuropbr_core.materials.sphere import directions, shrink, solid_angles
from neuropbr_core.materials.vectors import length

# The shadow is computed for x and y from -1 to 1, twice the tile, because tilted photos show more than the tile.
_EXTENT = 1.0
# Points along a side of the shadow's grid, which is interpolated.
_GRID = 24
_RAYS = 256
_SKY_HEIGHT = 64
# Half the width of a silhouette's edge for a shadow ray, in radians. About the angle between two rays, so that a moving
# edge changes the light steadily instead of ray by ray.
_SOFTNESS = 0.06
# Tiles in a metre: the photo shows 25 to 50 cm of material.
_UNITS_PER_METRE = (2.0, 4.0)
# Light that an obstacle reflects, as a share of the light that it hides.
_THROWN_BACK = 0.1
# Largest angle between the photographer and the direction of the photo's lower edge.
_HOLDING = math.radians(40)


class Occlusion(NamedTuple):
    """Everything that hides the environment in one photo.

    Attributes:
        capsules: `(N, 7)`: start, end, radius, in world units.
        lens: Position of the camera `(3,)`.
        remaining: Share of the diffuse light that is left, by colour, on a grid `(3, G, G)` of points of the plane.
    """

    capsules: Tensor
    lens: Tensor
    remaining: Tensor


def occlude(radiance: Float[Tensor, "3 H W"], camera: Camera, capsules: Float[Tensor, "N 7"]) -> Occlusion:
    """Compute the shadow that capsules cast on the plane.

    256 directions, which carry equal shares of a flat patch's diffuse light, sample that light. Bumps lose the same
    share as the flat patch.

    Args:
        radiance: The environment's map of light, equirectangular, z up, linear, on the CPU.
        camera: The camera.
        capsules: Obstacles, on the CPU.

    Returns:
        The obstacles and the share of light that they leave, on the CPU.
    """
    rays, weights = _light_rays(radiance)
    steps = (torch.arange(_GRID) + 0.5) / _GRID * (2 * _EXTENT) - _EXTENT
    x, y = torch.meshgrid(steps, -steps, indexing="xy")
    points = torch.stack((x, y, torch.zeros_like(x))).reshape(3, -1, 1)
    passed = light_left(capsules, points, rays[:, None], torch.tensor(_SOFTNESS))
    remaining = torch.einsum("pk,ck->cp", passed[0], weights)
    return Occlusion(capsules, camera.position, remaining.view(3, _GRID, _GRID))


def diffuse_share(occlusion: Occlusion, position: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """Look up the share of the diffuse light that is left at points of the plane.

    Args:
        occlusion: The obstacles and their shadow.
        position: Points of the plane, in world units. Points outside the grid get the value of its border.

    Returns:
        Share of each colour, about 0.1 to 1.
    """
    # Rows of the grid run downwards, against y.
    grid = torch.stack((position[0], -position[1]), dim=-1) / _EXTENT
    return F.grid_sample(occlusion.remaining[None], grid[None], padding_mode="border", align_corners=False)[0]


def specular_share(
    occlusion: Occlusion,
    position: Float[Tensor, "3 H W"],
    reflected: Float[Tensor, "3 H W"],
    roughness: Float[Tensor, "1 H W"],
) -> Float[Tensor, "1 H W"]:
    """Compute the share of the reflected light that is left, with silhouettes as soft as the roughness makes them.

    Args:
        occlusion: The obstacles.
        position: Points of the plane, in world units.
        reflected: Unit vectors, the view mirrored at the normal.
        roughness: Perceptual roughness in [0, 1].

    Returns:
        Share of the light, 0.1 to 1.

    Source: the width of the GGX lobe, whose facets lean by about atan(alpha); Walter et al. 2007, equation 35 at 1/2.
    """
    # Reflections turn by twice the angle of their facets. The constant keeps a mirror's silhouettes from aliasing.
    softness = _SOFTNESS / 2 + 2 * torch.atan(roughness * roughness)
    return light_left(occlusion.capsules, position, reflected, softness)


def light_left(capsules: Float[Tensor, "N 7"], origins: Tensor, rays: Tensor, softness: Tensor) -> Tensor:
    """Compute how much light is left along soft-edged rays past all capsules.

    Args:
        capsules: Start, end and radius of each, in world units.
        origins: Points where rays start, `(3, …)`.
        rays: Unit directions, `(3, …)`; broadcast with the origins.
        softness: Half the width of an edge in radians, `(1, …)` or one number.

    Returns:
        1 for free rays and 0.1 for hidden ones, which receive the capsule's own reflection, `(1, …)`.
    """
    passed = rays.new_ones(())
    for capsule in capsules:
        # The product treats the edges of several capsules as independent, which is exact outside the edges.
        passed = passed * _pass_by(capsule, origins, rays, softness)
    left = _THROWN_BACK + (1 - _THROWN_BACK) * passed
    return left * torch.ones_like(origins[:1] * rays[:1])


def draw_photographer(generator: torch.Generator, camera: Camera, stand: float, scale: float) -> Float[Tensor, "4 7"]:
    """Draw the person who takes a photo: phone, forearm, head and torso.

    Args:
        generator: Source of all randomness, on the CPU.
        camera: The camera, at the phone's position.
        stand: Direction of the person from the tile, in radians from +x towards +y.
        scale: World units in a metre.

    Returns:
        Four capsules, float32 on the CPU: phone, arm, head and torso.
    """
    # Numbers below are lengths of a grown person's body in metres.
    lens = camera.position.double()
    back = lens / lens.norm()
    aside = lens.new_tensor([math.cos(stand), math.sin(stand), 0.0])
    upward = lens.new_tensor([0.0, 0.0, 1.0])
    reach = uniform(generator, 0.30, 0.45)
    head = lens + scale * (reach * 0.6 * back + reach * aside + uniform(generator, 0.05, 0.25) * upward)
    shoulder = head + scale * (0.15 * aside - 0.25 * upward)
    grip = lens + scale * (0.02 * back + 0.10 * aside)
    return torch.stack(
        [
            _capsule(lens + scale * 0.04 * back, grip + scale * 0.04 * back, 0.04 * scale),
            _capsule(grip, shoulder, 0.045 * scale),
            _capsule(head, head + 0.08 * scale * upward, 0.10 * scale),
            _capsule(shoulder, shoulder + scale * (0.10 * aside - 0.35 * upward), 0.18 * scale),
        ]
    )


def draw_clutter(generator: torch.Generator, radiance: Float[Tensor, "3 H W"], count: int) -> Float[Tensor, "N 7"]:
    """Draw thin things between the tile and where light comes from: lamp arms, window bars, stems, cables.

    Args:
        generator: Source of all randomness, on the CPU.
        radiance: The environment's map of light; bright directions are hidden more often.
        count: How many.

    Returns:
        Capsules 0.5 to 2 tiles away, 1 to 3 long, 0.02 to 0.1 in radius.
    """
    rays, _ = _light_rays(radiance)
    # An empty start, because `cat` of nothing is an error.
    capsules = [torch.zeros(0, 7)]
    for _ in range(count):
        # Rays carry equal shares of the light, so an even choice hides bright directions more often.
        towards = rays[:, int(uniform(generator, 0, _RAYS))].double()
        centre = towards * uniform(generator, 0.5, 2.0)
        centre[:2] += torch.tensor([uniform(generator, -0.4, 0.4), uniform(generator, -0.4, 0.4)])
        turned = uniform(generator, 0, math.pi)
        rise = uniform(generator, -0.5, 0.5)
        along = centre.new_tensor([math.cos(turned), math.sin(turned), rise]) * (uniform(generator, 1.0, 3.0) / 2)
        radius = uniform(generator, 0.02, 0.1)
        start = centre - along
        end = centre + along
        # Lifted, if needed, until the lowest point is a radius above the material.
        lifted = (2 * radius - torch.minimum(start[2], end[2])).clamp_min(0) * centre.new_tensor([0.0, 0.0, 1.0])
        capsules.append(_capsule(start + lifted, end + lifted, radius)[None])
    return torch.cat(capsules)


def draw_occlusions(
    generator: torch.Generator,
    radiance: Float[Tensor, "3 H W"],
    cameras: list[Camera],
    *,
    photographer: bool,
    clutter: int,
) -> list[Occlusion]:
    """Draw the obstacles in each photo of a capture: clutter stays in place, the photographer moves with the camera.

    Args:
        generator: Source of all randomness, on the CPU.
        radiance: The environment's map of light, equirectangular, z up, linear, on the CPU.
        cameras: The cameras.
        photographer: Whether the person who holds the phone blocks light.
        clutter: Number of other things that block light.

    Returns:
        Obstacles and shadows, one for each camera.
    """
    scale = uniform(generator, *_UNITS_PER_METRE)
    # Photos are upright, so the photographer stands about at their lower edge, towards -y.
    stand = -math.pi / 2 + uniform(generator, -_HOLDING, _HOLDING)
    still = draw_clutter(generator, radiance, clutter)
    occlusions = []
    for camera in cameras:
        # Drawn even when absent, so that the generator's state does not depend on the switch.
        person = draw_photographer(generator, camera, stand, scale)
        capsules = still
        if photographer:
            capsules = torch.cat((still, person))
        occlusions.append(occlude(radiance, camera, capsules))
    return occlusions


def _light_rays(radiance: Float[Tensor, "3 H W"]) -> tuple[Float[Tensor, "3 K"], Float[Tensor, "3 K"]]:
    """Return directions that carry equal shares of a flat patch's light, and each colour's share of each direction."""
    sky = shrink(radiance, _SKY_HEIGHT)
    height, width = sky.shape[1:]
    vectors = directions(height, width).flatten(1)
    cosine = (vectors[2].view(height, width).clamp_min(0) * solid_angles(height, width)).flatten()
    received = sky.flatten(1) * cosine
    carried = luminance(received[..., None])[0, :, 0].double()
    # Inverting the cumulative sum at even steps samples texels in proportion to their light, without randomness.
    shares = carried.cumsum(0) / carried.sum()
    chosen = torch.searchsorted(shares, (torch.arange(_RAYS, dtype=torch.float64) + 0.5) / _RAYS)
    chosen = chosen.clamp_max(len(shares) - 1)
    colours = received[:, chosen] / carried[chosen].float()
    return vectors[:, chosen], colours / colours.sum(dim=1, keepdim=True)


def _capsule(start: Tensor, end: Tensor, radius: float) -> Float[Tensor, "7"]:
    return torch.cat((start, end, start.new_tensor([radius]))).float()


def _pass_by(capsule: Float[Tensor, "7"], origins: Tensor, rays: Tensor, softness: Tensor) -> Tensor:
    """Compute how much light of soft-edged rays passes one capsule, 0 to 1.

    Source: Ericson 2005, "Real-Time Collision Detection", section 5.1.9 (closest points of two segments).
    """
    shape = (3, *[1] * (max(origins.ndim, rays.ndim) - 1))
    start = capsule[:3].view(shape)
    along = (capsule[3:6] - capsule[:3]).view(shape)
    radius = capsule[6]
    offset = origins - start
    squared = (along * along).sum().clamp_min(1e-9)
    lean = (rays * along).sum(0, keepdim=True)
    ahead = (rays * offset).sum(0, keepdim=True)
    beside = (along * offset).sum(0, keepdim=True)
    # First the closest points of the two infinite lines; then each is clamped to its ray or segment, the ray again
    # after the segment because clamping the segment's point moves the ray's.
    distance = ((lean * beside - ahead * squared) / (squared - lean * lean).clamp_min(1e-9)).clamp_min(0)
    place = ((lean * distance + beside) / squared).clamp(0, 1)
    distance = (lean * place - ahead).clamp_min(0)
    gap = length(offset + rays * distance - along * place, dim=0) - radius
    # The edge's width is an angle, so it grows with the distance along the ray.
    passed: Tensor = 0.5 + gap / (2 * softness * distance.clamp_min(1e-6))
    return passed.clamp(0, 1)
