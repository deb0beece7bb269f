"""Things that stand in the light: who holds the phone, the phone itself, and clutter.

They are capsules (all points within a radius of a segment) around the plane. What they take from the environment is
seen twice: as a soft shadow in the diffuse light, whose penumbra follows from the size of lamps and windows, and as a
dark silhouette in reflections. The flash sits at the lens and casts no shadow that the lens could see.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.cameras import Camera
from neuropbr_core.materials.color import luminance
from neuropbr_core.materials.environments import Environment
from neuropbr_core.materials.sampling import uniform
from neuropbr_core.materials.sphere import directions, shrink, solid_angles

_EXTENT = 1.0
"""The shadow is known for x and y from -1 to 1, twice the tile."""
_GRID = 24
_RAYS = 256
_SKY_HEIGHT = 64
_SOFTNESS = 0.06
"""Half the width of a silhouette's edge as a shadow ray sees it, in radians: about the distance between two rays."""
_UNITS_PER_METRE = (2.0, 4.0)
"""Tiles in a metre: the photo shows 25 to 50 cm of material."""
_THROWN_BACK = 0.1
"""Light that comes from a thing in place of what it hides, as a share of that."""
_HOLDING = math.radians(40)
"""Largest angle from the photo's lower edge at which its taker stands."""


class Occlusion(NamedTuple):
    """What hides the environment in one photo.

    Attributes:
        capsules: `(N, 7)`: start, end, radius, in world units.
        lens: The camera `(3,)`.
        remaining: Share of the diffuse light that is left, by colour, on a grid of points `(3, G, G)` of the plane.
    """

    capsules: Tensor
    lens: Tensor
    remaining: Tensor


def occlude(environment: Environment, camera: Camera, capsules: Float[Tensor, "N 7"]) -> Occlusion:
    """Find the shadow that capsules cast on the plane.

    The diffuse light of a flat patch is sampled along 256 directions that carry equal shares of it; each is hidden or
    not. Bumps are taken to lose what the flat patch loses.

    Args:
        environment: The light, on the CPU.
        camera: The camera.
        capsules: What stands in the light, on the CPU.
    """
    rays, weights = _light_rays(environment)
    steps = (torch.arange(_GRID) + 0.5) / _GRID * (2 * _EXTENT) - _EXTENT
    x, y = torch.meshgrid(steps, -steps, indexing="xy")
    points = torch.stack((x, y, torch.zeros_like(x))).reshape(3, -1, 1)
    seen = light_left(capsules, points, rays[:, None], torch.tensor(_SOFTNESS))
    remaining = torch.einsum("pk,ck->cp", seen[0], weights)
    return Occlusion(capsules, camera.position, remaining.view(3, _GRID, _GRID))


def diffuse_share(occlusion: Occlusion, position: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """Share of the diffuse light that is left at points of the plane, by colour."""
    grid = torch.stack((position[0], -position[1]), dim=-1) / _EXTENT
    return F.grid_sample(occlusion.remaining[None], grid[None], padding_mode="border", align_corners=False)[0]


def specular_share(
    occlusion: Occlusion,
    position: Float[Tensor, "3 H W"],
    reflected: Float[Tensor, "3 H W"],
    roughness: Float[Tensor, "1 H W"],
) -> Float[Tensor, "1 H W"]:
    """Share of the reflected light that is left, with silhouettes as soft as the roughness blurs reflections.

    Args:
        occlusion: What hides the environment.
        position: Points of the plane.
        reflected: Unit vectors, the view mirrored at the normal.
        roughness: Perceptual roughness in [0, 1]; facets lean by about atan(roughness²), reflections by twice that.
    """
    softness = _SOFTNESS / 2 + 2 * torch.atan(roughness * roughness)
    return light_left(occlusion.capsules, position, reflected, softness)


def light_left(capsules: Float[Tensor, "N 7"], origins: Tensor, rays: Tensor, softness: Tensor) -> Tensor:
    """How much light is left along soft-edged rays past all capsules.

    Args:
        capsules: Start, end and radius of each.
        origins: Where rays start, `(3, …)`.
        rays: Their unit directions, `(3, …)`; broadcast with the origins.
        softness: Half the width of an edge in radians, `(1, …)` or one number.

    Returns:
        1 for free rays, 0.1 for hidden ones, which fetch what the capsule throws back, `(1, …)`.
    """
    passed = rays.new_ones(())
    for capsule in capsules:
        passed = passed * _pass_by(capsule, origins, rays, softness)
    left = _THROWN_BACK + (1 - _THROWN_BACK) * passed
    return left * torch.ones_like(origins[:1] * rays[:1])


def draw_photographer(generator: torch.Generator, camera: Camera, stand: float, scale: float) -> Float[Tensor, "4 7"]:
    """Draw who takes a photo: phone, forearm, head and torso.

    Args:
        generator: Source of all randomness, on the CPU.
        camera: Where the phone is.
        stand: Direction in which the person stands, in radians from +x towards +y.
        scale: World units in a metre.
    """
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


def draw_clutter(generator: torch.Generator, environment: Environment, count: int) -> Float[Tensor, "N 7"]:
    """Draw thin things between the tile and where light comes from: lamp arms, window bars, stems, cables.

    Args:
        generator: Source of all randomness, on the CPU.
        environment: The light; bright directions are hidden more often.
        count: How many.

    Returns:
        Capsules 0.5 to 2 tiles away, 1 to 3 long, 0.02 to 0.1 in radius.
    """
    rays, _ = _light_rays(environment)
    found = []
    for _ in range(count):
        towards = rays[:, int(uniform(generator, 0, _RAYS))].double()
        centre = towards * uniform(generator, 0.5, 2.0)
        centre[:2] += torch.tensor([uniform(generator, -0.4, 0.4), uniform(generator, -0.4, 0.4)])
        turned, rise = uniform(generator, 0, math.pi), uniform(generator, -0.5, 0.5)
        along = centre.new_tensor([math.cos(turned), math.sin(turned), rise]) * (uniform(generator, 1.0, 3.0) / 2)
        radius = uniform(generator, 0.02, 0.1)
        start, end = centre - along, centre + along
        lifted = (2 * radius - torch.minimum(start[2], end[2])).clamp_min(0) * centre.new_tensor([0.0, 0.0, 1.0])
        found.append(_capsule(start + lifted, end + lifted, radius))
    return torch.stack(found) if found else torch.zeros(0, 7)


def draw_occlusions(
    generator: torch.Generator, environment: Environment, cameras: list[Camera], *, photographer: bool, clutter: int
) -> list[Occlusion]:
    """Draw what hides the environment in each photo of a capture: clutter stays, the photographer goes along.

    Args:
        generator: Source of all randomness, on the CPU.
        environment: The light, on the CPU.
        cameras: The cameras.
        photographer: Whether who holds the phone is seen in the light.
        clutter: How many other things there are.
    """
    scale = uniform(generator, *_UNITS_PER_METRE)
    stand = -math.pi / 2 + uniform(generator, -_HOLDING, _HOLDING)
    still = draw_clutter(generator, environment, clutter)
    found = []
    for camera in cameras:
        person = draw_photographer(generator, camera, stand, scale)
        found.append(occlude(environment, camera, torch.cat((still, person)) if photographer else still))
    return found


def _light_rays(environment: Environment) -> tuple[Float[Tensor, "3 K"], Float[Tensor, "3 K"]]:
    """Directions from above that carry equal shares of a flat patch's light, and each colour's share of them."""
    sky = shrink(environment.radiance, _SKY_HEIGHT)
    height, width = sky.shape[1:]
    vectors = directions(height, width).flatten(1)
    cosine = (vectors[2].view(height, width).clamp_min(0) * solid_angles(height, width)).flatten()
    received = sky.flatten(1) * cosine
    carried = luminance(received[..., None])[0, :, 0].double()
    shares = carried.cumsum(0) / carried.sum()
    chosen = torch.searchsorted(shares, (torch.arange(_RAYS, dtype=torch.float64) + 0.5) / _RAYS)
    chosen = chosen.clamp_max(len(shares) - 1)
    colours = received[:, chosen] / carried[chosen].float()
    return vectors[:, chosen], colours / colours.sum(dim=1, keepdim=True)


def _capsule(start: Tensor, end: Tensor, radius: float) -> Float[Tensor, "7"]:
    return torch.cat((start, end, start.new_tensor([radius]))).float()


def _pass_by(capsule: Float[Tensor, "7"], origins: Tensor, rays: Tensor, softness: Tensor) -> Tensor:
    """How much of soft-edged rays passes one capsule.

    Source: Ericson 2005, "Real-Time Collision Detection", section 5.1.9 (closest points of two segments).
    """
    shape = (3, *[1] * (max(origins.ndim, rays.ndim) - 1))
    start, along, radius = capsule[:3].view(shape), (capsule[3:6] - capsule[:3]).view(shape), capsule[6]
    offset = origins - start
    squared = (along * along).sum().clamp_min(1e-9)
    lean = (rays * along).sum(0, keepdim=True)
    ahead, beside = (rays * offset).sum(0, keepdim=True), (along * offset).sum(0, keepdim=True)
    distance = ((lean * beside - ahead * squared) / (squared - lean * lean).clamp_min(1e-9)).clamp_min(0)
    place = ((lean * distance + beside) / squared).clamp(0, 1)
    distance = (lean * place - ahead).clamp_min(0)
    gap = torch.linalg.vector_norm(offset + rays * distance - along * place, dim=0, keepdim=True) - radius
    passed: Tensor = 0.5 + gap / (2 * softness * distance.clamp_min(1e-6))
    return passed.clamp(0, 1)
