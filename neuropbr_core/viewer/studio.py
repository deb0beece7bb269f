"""The light and the camera of the preview, and the material on a ball in that light.

The preview's world has x to the right, y up and z towards the viewer. The tile is the unit square around the origin in
the plane z = 0, as for captures. The page's program shades with the formulas of `materials.ggx` and
`materials.split_sum`; it receives the prefiltered light and the integrated BRDF as tables, and the constants as text
(`shader_constants`), so that neither is computed in two places.
"""

import base64
import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.environments import Environment, build_environment
from neuropbr_core.materials.ggx import COUPLING, DIELECTRIC_F0, MIN_ROUGHNESS
from neuropbr_core.materials.render import Lighting, shade
from neuropbr_core.materials.sphere import directions
from neuropbr_core.materials.split_sum import LEVEL_ROUGHNESS, brdf_table
from neuropbr_core.materials.surface import Surface, build_surface, look_up
from neuropbr_core.materials.vectors import unit

_ROWS = 32
"""Rows of the surroundings. A texel of 5.6° is about as wide as a surface of roughness 0.2 blurs."""

FIELD_OF_VIEW = math.radians(30)
DISTANCE = 2.4
"""Distance of the eye from the middle of the scene, in sides of the tile: the ball then fills three quarters."""
LAMP = (-1.1, 1.3, 1.9)
"""Position of the lamp: above the eye's left shoulder, where it throws relief into sight."""
FLASH = 9.0
"""The lamp's irradiance at distance 1: with the surroundings, a white card facing the viewer has a radiance about 1."""
RADIUS = 0.5
BALL_TILES = 2
"""Tiles around half of the ball: a tile is then about as large as on the plane."""
BACKDROP = (0.055, 0.07)
"""Linear grey of the backdrop, at the bottom and at the top."""

# Neutral values, in the range of each map, in place of a map that a model does not predict.
_NEUTRAL = {"albedo": (0.5, 0.5, 0.5), "roughness": (0.5,), "metallic": (0.0,), "normal": (0.0, 0.0, 1.0)}


class Softbox(NamedTuple):
    """A lamp with a soft edge, far away.

    Attributes:
        towards: Direction of its centre, of any length.
        radius: Its radius in degrees.
        radiance: Linear red, green and blue.
    """

    towards: tuple[float, float, float]
    radius: float
    radiance: tuple[float, float, float]


_SOFTBOXES = (
    Softbox((-0.9, 0.9, 1.0), 24.0, (3.6, 3.45, 3.2)),  # the key light, warm
    Softbox((1.0, 0.35, 0.5), 16.0, (1.5, 1.7, 2.0)),  # a cool light from the right, which draws edges
    Softbox((0.2, -1.0, 0.6), 20.0, (0.5, 0.48, 0.45)),  # what the table returns
    Softbox((0.3, 0.8, -0.8), 26.0, (1.6, 1.7, 1.9)),  # from behind, for grazing reflections
)


@cache
def surroundings() -> Environment:
    """The studio's light: a dim room that brightens towards its ceiling, with four softboxes."""
    vectors = directions(_ROWS, 2 * _ROWS)
    height = (vectors[1] + 1) / 2
    radiance = (0.1 + 0.35 * height**2).expand(3, -1, -1).clone()
    for box in _SOFTBOXES:
        centre = unit(torch.tensor(box.towards), dim=0)
        angle = torch.rad2deg(torch.acos((vectors * centre.view(3, 1, 1)).sum(dim=0).clamp(-1, 1)))
        # The edge is as wide as a texel; a sharper one would alias.
        shape = torch.sigmoid((box.radius - angle) / (180 / _ROWS / 2))
        radiance += shape * torch.tensor(box.radiance).view(3, 1, 1)
    return build_environment(radiance)


def lighting(eye: Float[Tensor, "3"]) -> Lighting:
    """The light of the preview in its first position, for an eye."""
    return Lighting(FLASH, surroundings(), flash_offset=torch.tensor(LAMP) - eye)


def render_ball(maps: Maps, size: int, *, backdrop: bool = True) -> Float[Tensor, "C S S"]:
    """Render a material on a ball, as the preview shows it at first.

    Args:
        maps: Maps `(1, channels, H, W)` in their ranges; neutral values take the place of missing ones.
        size: Side of the picture in pixels.
        backdrop: Whether a grey backdrop is behind the ball; otherwise a fourth channel has its coverage.

    Returns:
        sRGB-encoded values in [0, 1] of three channels, or four.

    Source: the rays of a pinhole camera and their nearest intersection with a sphere; the shading is
        `materials.render.shade`.
    """
    supersampling = 2
    samples = size * supersampling
    # Half of the circumference, which the eye sees, is as long as this many of the picture's pixels.
    surface = build_surface(_complete(maps), samples)
    steps = ((torch.arange(samples) + 0.5) / samples - 0.5) * (2 * math.tan(FIELD_OF_VIEW / 2))
    rows, columns = torch.meshgrid(-steps, steps, indexing="ij")
    rays = unit(torch.stack((columns, rows, -torch.ones_like(rows))))
    eye = torch.tensor((0.0, 0.0, DISTANCE))
    # The eye is outside of the ball and looks at it, so the nearer intersection is the visible one.
    along = (rays * eye.view(3, 1, 1)).sum(dim=0)
    discriminant = along**2 - DISTANCE**2 + RADIUS**2
    inside = discriminant > 0
    # Rays that miss are shaded too, at their nearest point, and left out at the end: simpler than gathering hits.
    points = eye.view(3, 1, 1) + rays * (-along - discriminant.clamp_min(0).sqrt())
    radiance = _shade_ball(surface, points, eye)
    colours = torch.where(inside, radiance, 0.0)
    # Averaged in linear light, as a sensor does; rays that miss count as black, which the coverage makes good.
    averaged = F.avg_pool2d(torch.cat((colours, inside[None].float()))[None], supersampling)[0]
    light = averaged[:3]
    coverage = averaged[3:]
    if backdrop:
        low, high = BACKDROP
        wall = torch.linspace(high, low, size).view(1, size, 1)
        return linear_to_srgb(light + (1 - coverage) * wall).clamp(0, 1)
    # Not multiplied by the coverage, as PNG files hold it.
    return torch.cat((linear_to_srgb(light / coverage.clamp_min(1e-6)).clamp(0, 1), coverage))


def _shade_ball(surface: Surface, points: Float[Tensor, "3 H W"], eye: Float[Tensor, "3"]) -> Float[Tensor, "3 H W"]:
    outward = unit(points)
    # Longitude from behind the left side, so that the middle of the picture is at a quarter, and latitude from the top:
    # the texture coordinates of three.js's sphere.
    longitude = torch.remainder(torch.atan2(outward[2], -outward[0]), 2 * math.pi)
    colatitude = torch.acos(outward[1].clamp(-1, 1))
    # Moved by half a tile, so that the middle of a tile faces the eye: borders of most materials show.
    u = longitude / (2 * math.pi) * (2 * BALL_TILES) + 0.5
    v = colatitude / math.pi * BALL_TILES + 0.5
    point = look_up(surface, u, v)
    # The tangent runs along the circle of latitude, to the right in the picture.
    tangent = torch.stack((longitude.sin(), torch.zeros_like(u), longitude.cos()))
    bitangent = torch.linalg.cross(outward, tangent, dim=0)
    local = point.normal
    normal = unit(local[:1] * tangent + local[1:2] * bitangent + local[2:] * outward)
    return shade(point._replace(normal=normal), eye.view(3, 1, 1) - points, lighting(eye))


def _complete(maps: Maps) -> Maps:
    """The four maps, with neutral ones in place of those that are missing."""
    some = next(iter(maps.values()))
    complete: Maps = {}
    for name in MAPS:
        if name in maps:
            complete[name] = maps[name].float()
        else:
            complete[name] = torch.tensor(_NEUTRAL[name]).view(1, -1, 1, 1).expand(1, -1, *some.shape[-2:])
    return complete


def shader_constants() -> str:
    """The beginning of the shader: the precision of its numbers, and the renderer's constants."""
    constants = {
        "DIELECTRIC_F0": DIELECTRIC_F0,
        "MIN_ROUGHNESS": MIN_ROUGHNESS,
        "COUPLING": COUPLING,
        "LEVELS": float(len(LEVEL_ROUGHNESS)),
        "COLUMNS": float(2 * _ROWS),
        "PI": math.pi,
    }
    lines = ["precision highp float;"]
    for name, value in constants.items():
        lines.append(f"const float {name} = {value!r};")
    return "\n".join(lines) + "\n"


def preview_settings() -> dict[str, Any]:
    """Light, camera and tables of the preview as plain data for the page."""
    environment = surroundings()
    return {
        "fieldOfView": math.degrees(FIELD_OF_VIEW),
        "distance": DISTANCE,
        "lamp": LAMP,
        "flash": FLASH,
        "radius": RADIUS,
        "ballTiles": BALL_TILES,
        "levels": _table(environment.levels),
        "entering": _table(environment.entering),
        "brdf": _table(brdf_table()),
    }


def _table(values: Tensor) -> dict[str, Any]:
    """Values as half floats with four channels, which every WebGL 2 filters, and their size, slowest axis first."""
    channels = values.shape[0]
    padded = torch.cat((values, values.new_zeros(4 - channels, *values.shape[1:])))
    halves = np.ascontiguousarray(padded.movedim(0, -1).numpy().astype("<f2"))
    return {"size": list(values.shape[1:]), "halves": base64.b64encode(halves.tobytes()).decode("ascii")}
