"""The sRGB transfer curve and luminance.

Sources: IEC 61966-2-1:1999, equations of the non-linear encoding; ITU-R BT.709, item 3.2 (luminance).
"""

from jaxtyping import Float
from torch import Tensor, where

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of linear red, green and blue in luminance."""
# The standard's rounded ends of the curve's straight part, on the linear and on the encoded side.
_LINEAR_KNEE = 0.0031308
_ENCODED_KNEE = 0.04045


def srgb_to_linear(encoded_srgb: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Decode sRGB values to linear light.

    Args:
        encoded_srgb: sRGB-encoded values, nominally in [0, 1]. Values outside follow the same curve.

    Returns:
        Linear light, 0 to 1 for 0 to 1.

    Source: IEC 61966-2-1:1999.
    """
    # `where` differentiates both branches; clamped, the power has a finite slope where it is not used.
    power = ((encoded_srgb.clamp_min(_ENCODED_KNEE) + 0.055) / 1.055) ** 2.4
    return where(encoded_srgb <= _ENCODED_KNEE, encoded_srgb / 12.92, power)


def linear_to_srgb(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Encode linear light as sRGB.

    Args:
        linear: Linear light, nominally in [0, 1]. Values outside follow the same curve; nothing is clipped.

    Returns:
        sRGB-encoded values, 0 to 1 for 0 to 1.

    Source: IEC 61966-2-1:1999.
    """
    # Clamped for the same reason: a negative base would give NaN, in the gradient too.
    power = 1.055 * linear.clamp_min(_LINEAR_KNEE) ** (1 / 2.4) - 0.055
    return where(linear <= _LINEAR_KNEE, linear * 12.92, power)


def luminance(linear: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 1 H W"]:
    """Compute the luminance of linear light.

    Args:
        linear: Linear red, green and blue with the primaries of sRGB, at least 0.

    Returns:
        Luminance, 1 for white.

    Source: ITU-R BT.709, item 3.2.
    """
    return (linear * linear.new_tensor(LUMINANCE).view(3, 1, 1)).sum(dim=-3, keepdim=True)
