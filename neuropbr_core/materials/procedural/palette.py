"""Colours: measured reflectances of metals, everyday colours of other materials, and functions that vary them.

Sources: F0 of metals, Akenine-Möller et al. 2018, "Real-Time Rendering", 4th edition, table 9.2 (linear sRGB).
The other colours were chosen by eye, within what dielectrics reflect.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.materials.procedural.canvas import Draws
from neuropbr_core.materials.procedural.shaping import mix

Rgb = tuple[int, int, int]
"""sRGB, 0 to 255."""

METAL_F0: dict[str, tuple[float, float, float]] = {
    "aluminium": (0.913, 0.922, 0.924),
    "brass": (0.910, 0.778, 0.423),
    "chromium": (0.549, 0.556, 0.554),
    "copper": (0.955, 0.638, 0.538),
    "gold": (1.000, 0.782, 0.344),
    "iron": (0.562, 0.565, 0.578),
    "nickel": (0.660, 0.609, 0.526),
    "silver": (0.972, 0.960, 0.915),
    "titanium": (0.542, 0.497, 0.449),
    "zinc": (0.664, 0.824, 0.850),
}
"""Linear reflectance at normal incidence (gold's red, 1.022, cut to 1)."""
# Stops by which a metal may be darker than its clean reflectance.
_DARKEST_METAL = 3.0
PAINTS: tuple[Rgb, ...] = (
    (196, 60, 44), (214, 132, 38), (226, 192, 60), (70, 122, 76), (48, 92, 110), (52, 84, 150), (118, 60, 96),
    (224, 220, 206), (150, 154, 156), (62, 66, 70), (44, 46, 50), (168, 196, 190), (120, 84, 62), (206, 164, 150),
)  # fmt: skip
EARTHS: tuple[Rgb, ...] = ((92, 72, 54), (118, 96, 72), (74, 62, 52), (136, 112, 84), (104, 74, 52), (84, 78, 70))
GREYS: tuple[Rgb, ...] = ((150, 148, 144), (176, 172, 164), (128, 128, 128), (110, 106, 102), (164, 156, 142))


def linear(color: Rgb) -> Float[Tensor, "3 1 1"]:
    """Decode a colour to linear light.

    Args:
        color: sRGB-encoded red, green and blue, 0 to 255.

    Returns:
        Linear light in [0, 1].
    """
    return srgb_to_linear(torch.tensor(color).view(3, 1, 1) / 255)


def swatch(draws: Draws, colors: Sequence[Rgb], spread: float = 0.12) -> Float[Tensor, "3 1 1"]:
    """Pick one of the colours and vary it.

    Args:
        draws: Source of the choice.
        colors: Colours to choose from.
        spread: Largest relative change of brightness; each channel changes by up to half of it in addition.

    Returns:
        A colour in linear light.
    """
    picked = linear(draws.choice(colors))
    channels = 1 + spread * (draws.table(3, 1, 1) - 0.5)
    return picked * channels * (1 + draws.uniform(-spread, spread))


def metal_f0(draws: Draws, names: Sequence[str], tarnish: float = 0.12) -> Float[Tensor, "3 1 1"]:
    """Pick a metal and darken it: always a little, as alloys and thin oxide do, and half of the time a lot.

    Blackened, burnished and oiled steels are darker than any clean metal, and artists paint metals darker still. A
    network trained on polished metals alone does not recognize the others.

    Args:
        draws: Source of the choice.
        names: Keys of `METAL_F0`.
        tarnish: Largest relative loss by alloys and thin oxide.

    Returns:
        Reflectance at normal incidence, linear.
    """
    f0 = torch.tensor(METAL_F0[draws.choice(names)]).view(3, 1, 1)
    clean = f0 * (1 - tarnish * draws.table(1, 1, 1)) * (1 - tarnish / 4 * draws.table(3, 1, 1))
    # Drawn even when unused, so that both cases take the same number of draws.
    stops = draws.uniform(0, _DARKEST_METAL)
    if draws.chance(0.5):
        return shade(clean, -stops)
    return clean


def ramp(position: Float[Tensor, "S S"], colors: Sequence[Float[Tensor, "3 1 1"]]) -> Float[Tensor, "3 S S"]:
    """Run through colours at even steps.

    Args:
        position: 0 for the first colour, 1 for the last; values outside give the first or the last.
        colors: Two colours or more, linear.

    Returns:
        Interpolated colours, linear.
    """
    scaled = position * (len(colors) - 1)
    result = colors[0].expand(3, 1, 1)
    for step, color in enumerate(colors[1:]):
        result = mix(result, color, (scaled - step).clamp(0, 1))
    return result


def shade(base_linear: Float[Tensor, "..."], stops: Float[Tensor, "..."] | float) -> Float[Tensor, "..."]:
    """Brighten or darken by factors of two: `base · 2^stops`.

    Args:
        base_linear: Colour, linear.
        stops: Change of brightness; positive is brighter.

    Returns:
        The changed colour, linear, unclipped.
    """
    return base_linear * torch.exp2(torch.as_tensor(stops))
