"""Errors as colours."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.evaluation.metrics import encode_unit, normal_angle
from neuropbr_core.maps import MAPS, NORMAL

ERROR_LIMITS: dict[str, float] = {"albedo": 0.25, "roughness": 0.5, "metallic": 1.0, "normal": 30.0}
"""Error at the hot end of the ramp: absolute, in [0, 1], or degrees for normals. Fixed, so that pictures compare."""

_RAMP = np.array(
    [(6, 6, 20), (50, 20, 95), (128, 32, 112), (200, 60, 78), (242, 130, 44), (250, 200, 88), (254, 250, 214)],
    dtype=np.float64,
)
"""Colours at equal distances from no error to the limit; lightness grows all the way, so it also reads in grey."""


def error_map(name: str, prediction: Float[Tensor, "C H W"], target: Float[Tensor, "C H W"]) -> Float[Tensor, "H W"]:
    """Error of each pixel: the mean absolute difference over channels, or the angle in degrees for normals."""
    if name == NORMAL.name:
        return normal_angle(prediction[None], target[None])[0, 0]
    spec = MAPS[name]
    return (encode_unit(spec, prediction) - encode_unit(spec, target)).abs().mean(dim=0)


def heat_colors(share: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Colour values on the ramp.

    Args:
        share: Error over its limit, any shape; clipped to [0, 1].

    Returns:
        sRGB colours, uint8, with a last axis of 3.
    """
    position = np.clip(share, 0.0, 1.0) * (len(_RAMP) - 1)
    channels = [np.interp(position, np.arange(len(_RAMP)), _RAMP[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
