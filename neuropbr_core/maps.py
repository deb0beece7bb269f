"""The PBR maps: the one place that says what each map is. Imports nothing heavy.

A map in memory is a float tensor `(B, channels, H, W)` in `value_range`; predictions and targets alike. A network's
head emits `logit_channels` unbounded channels that `activation` turns into the map:

- `sigmoid`: value = 1 / (1 + exp(-logit)).
- `slopes`: two channels (p, q) become the unit normal normalize((p, q, 1)), so a normal always faces the viewer.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MapSpec:
    """What one PBR map is.

    Attributes:
        name: Its key in every dictionary of maps.
        channels: Channels of the map in memory.
        logit_channels: Channels that a decoder head emits for it.
        activation: How logits become the map (see the module).
        value_range: Smallest and largest value in memory.
        color_space: `srgb` when stored values are sRGB-encoded colour, `linear` when they are data.
        file_name: Its file in a material folder.
        image_mode: Pillow mode of that file.
        description: One line for people.
    """

    name: str
    channels: int
    logit_channels: int
    activation: Literal["sigmoid", "slopes"]
    value_range: tuple[float, float]
    color_space: Literal["srgb", "linear"]
    file_name: str
    image_mode: Literal["RGB", "L"]
    description: str


ALBEDO = MapSpec("albedo", 3, 3, "sigmoid", (0.0, 1.0), "srgb", "albedo.png", "RGB", "base colour, sRGB-encoded")
ROUGHNESS = MapSpec(
    "roughness", 1, 1, "sigmoid", (0.0, 1.0), "linear", "roughness.png", "L", "perceptual roughness; alpha = roughness²"
)
METALLIC = MapSpec("metallic", 1, 1, "sigmoid", (0.0, 1.0), "linear", "metallic.png", "L", "0 dielectric, 1 metal")
NORMAL = MapSpec(
    "normal", 3, 2, "slopes", (-1.0, 1.0), "linear", "normal.png", "RGB", "unit tangent-space normal, OpenGL (+Y up)"
)

MAPS: dict[str, MapSpec] = {spec.name: spec for spec in (ALBEDO, ROUGHNESS, METALLIC, NORMAL)}
MAP_NAMES: tuple[str, ...] = tuple(MAPS)
