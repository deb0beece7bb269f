"""Tensors as pictures: what comparison grids and single pictures are made of."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from neuropbr_core.evaluation.heat import ERROR_LIMITS, heat_colors

Picture = npt.NDArray[np.uint8]
"""sRGB picture `(H, W, 3)`."""

_HATCH = (44, 66)
_NON_FINITE = (255, 0, 255)


def plain(tensor: Tensor) -> Tensor:
    """The tensor as float32 on the CPU, without its graph."""
    return tensor.detach().float().cpu()


def seen_mask(mask: Float[Tensor, "1 h w"]) -> npt.NDArray[np.bool_]:
    """A mask in [0, 1] as true and false."""
    seen: npt.NDArray[np.bool_] = (plain(mask)[0] > 0.5).numpy()
    return seen


def unit_tile(image: Float[Tensor, "C H W"]) -> Picture:
    """Bytes of an image in [0, 1] with one or three channels; values that are not finite are magenta."""
    values = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return _mark_non_finite((np.nan_to_num(values).clip(0, 1) * 255).round().astype(np.uint8), values)


def error_tile(name: str, error: npt.NDArray[np.float32]) -> Picture:
    """Colours of a map's error of each pixel (`heat.error_map`), on that map's fixed scale."""
    return _mark_non_finite(heat_colors(np.nan_to_num(error) / ERROR_LIMITS[name]), error[..., None])


def tile(picture: Picture, seen: npt.NDArray[np.bool_], size: tuple[int, int]) -> Image.Image:
    """Scale a picture to `size` (width, height) and hatch what is not seen."""
    larger = size[0] >= picture.shape[1]
    resampling = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
    scaled = np.asarray(Image.fromarray(picture).resize(size, resampling))
    mask = np.asarray(Image.fromarray(seen).resize(size, Image.Resampling.NEAREST))
    across, down = np.arange(size[0])[None, :], np.arange(size[1])[:, None]
    stripes = np.where((across + down) // 5 % 2 == 0, *_HATCH).astype(np.uint8)
    return Image.fromarray(np.where(mask[..., None], scaled, stripes[..., None]))


def _mark_non_finite(picture: Picture, values: npt.NDArray[np.float32]) -> Picture:
    return np.where(np.isfinite(values).all(axis=-1, keepdims=True), picture, np.array(_NON_FINITE, np.uint8))
