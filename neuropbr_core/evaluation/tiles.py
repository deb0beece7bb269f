"""Tensors and errors as pictures: the parts of comparison grids and of single pictures."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from neuropbr_core.evaluation.metrics import encode_unit, normal_angle
from neuropbr_core.maps import MAPS, NORMAL

Picture = npt.NDArray[np.uint8]
"""sRGB picture `(H, W, 3)`."""

ERROR_LIMITS: dict[str, float] = {"albedo": 0.25, "roughness": 0.5, "metallic": 1.0, "normal": 30.0}
"""Error at the hot end of the ramp: absolute, in [0, 1], or degrees for normals. Fixed, so that pictures compare."""

_RAMP = np.array(
    [(6, 6, 20), (50, 20, 95), (128, 32, 112), (200, 60, 78), (242, 130, 44), (250, 200, 88), (254, 250, 214)],
    dtype=np.float64,
)
"""sRGB colours at equal distances from no error to the limit; lightness always grows, so it also reads in grey."""

_HATCH_LIGHT = 66
_HATCH_DARK = 44
_HATCH_WIDTH = 5
"""Grey levels and width in pixels of the diagonal stripes over pixels that do not count."""

_NON_FINITE = (255, 0, 255)
"""Magenta, which neither the ramp nor a material has."""


def to_cpu(tensor: Tensor) -> Tensor:
    """Return the tensor as float32 on the CPU, without its graph."""
    return tensor.detach().float().cpu()


def boolean_mask(mask: Float[Tensor, "1 h w"]) -> npt.NDArray[np.bool_]:
    """Return a mask in [0, 1] as `(h, w)` truth values: true above one half."""
    inside: npt.NDArray[np.bool_] = (to_cpu(mask)[0] > 0.5).numpy()
    return inside


def error_map(name: str, prediction: Float[Tensor, "C H W"], target: Float[Tensor, "C H W"]) -> Float[Tensor, "H W"]:
    """Compute the error of each pixel: the mean absolute difference over channels, or the angle of normals.

    Args:
        name: Which map it is.
        prediction: The predicted map, in its range of `neuropbr_core.maps`.
        target: The true map.

    Returns:
        Errors in [0, 1], or in degrees for normals.
    """
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
    colors = np.empty((*position.shape, 3))
    for channel in range(3):
        colors[..., channel] = np.interp(position, np.arange(len(_RAMP)), _RAMP[:, channel])
    return colors.round().astype(np.uint8)


def unit_tile(image: Float[Tensor, "C H W"]) -> Picture:
    """Convert an image in [0, 1] with one or three channels to bytes; values that are not finite become magenta."""
    values = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    # NaN has no byte: NumPy would warn and give a value that depends on the processor.
    picture = (np.nan_to_num(values).clip(0, 1) * 255).round().astype(np.uint8)
    return _mark_non_finite(picture, values)


def error_tile(name: str, error: npt.NDArray[np.float32]) -> Picture:
    """Colour the errors of a map (`error_map`) on that map's fixed scale; those not finite become magenta."""
    limit = ERROR_LIMITS[name]
    # By default infinity becomes the largest float, which overflows when it is divided by a limit below 1.
    share = np.nan_to_num(error, posinf=limit) / limit
    return _mark_non_finite(heat_colors(share), error[..., None])


def tile(picture: Picture, inside: npt.NDArray[np.bool_], size: tuple[int, int]) -> Image.Image:
    """Scale a picture and hatch the pixels that do not count.

    Args:
        picture: The picture.
        inside: Which of its pixels count.
        size: Width and height of the result.
    """
    resampling = Image.Resampling.LANCZOS
    # Enlarged pixels keep hard edges, because readers want to count them.
    if size[0] >= picture.shape[1]:
        resampling = Image.Resampling.NEAREST
    scaled = np.asarray(Image.fromarray(picture).resize(size, resampling))
    mask = np.asarray(Image.fromarray(inside).resize(size, Image.Resampling.NEAREST))
    # Drawn at the final size, so that stripes are equally wide in every tile.
    across = np.arange(size[0])[None, :]
    down = np.arange(size[1])[:, None]
    is_dark = (across + down) // _HATCH_WIDTH % 2 == 0
    stripes = np.where(is_dark, _HATCH_DARK, _HATCH_LIGHT).astype(np.uint8)
    return Image.fromarray(np.where(mask[..., None], scaled, stripes[..., None]))


def _mark_non_finite(picture: Picture, values: npt.NDArray[np.float32]) -> Picture:
    return np.where(np.isfinite(values).all(axis=-1, keepdims=True), picture, np.array(_NON_FINITE, np.uint8))
