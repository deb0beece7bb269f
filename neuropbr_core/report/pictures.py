"""Pictures of a page: arrays and maps as images that are part of the page's text."""

import base64
import io

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.evaluation.pictures import Picture
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.encoding import encode_map
from neuropbr_core.outputs.material import resample_maps

_QUALITY = 90
"""JPEG quality of photos and errors, which are only looked at."""


def exact_picture(stored: Picture) -> str:
    """An image as a data URL that keeps every value: maps are computed with."""
    # Grey PNG files take one channel; three equal ones would be larger.
    grey = stored.shape[-1] == 1
    return _data_url(Image.fromarray(stored[..., 0] if grey else stored), "PNG")


def small_picture(stored: Picture, side: int | None = None) -> str:
    """An image as a data URL that is small.

    Args:
        stored: The image, `(h, w, 3)`.
        side: Pixels that its longer side may have; it is shrunk if it has more.
    """
    image = Image.fromarray(stored)
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _data_url(image, "JPEG", quality=_QUALITY)


def colour_picture(values: Float[Tensor, "3 h w"]) -> Picture:
    """An image from sRGB-encoded values in [0, 1]."""
    picture: Picture = (values.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return picture


def shrunk_maps(maps: Maps, side: int) -> Maps:
    """Maps resampled to a side, if they are larger."""
    if next(iter(maps.values())).shape[-1] <= side:
        return maps
    return resample_maps(maps, side)


def map_pictures(maps: Maps, side: int) -> dict[str, Picture]:
    """The maps as images as their files hold them, shrunk to a side if they are larger.

    Args:
        maps: Maps `(1, channels, H, W)` in their ranges.
        side: Largest side of an image in pixels.
    """
    maps = shrunk_maps(maps, side)
    pictures: dict[str, Picture] = {}
    for name, spec in MAPS.items():
        if name in maps:
            pictures[name] = np.ascontiguousarray(encode_map(spec, maps[name][0]).permute(1, 2, 0).numpy())
    return pictures


def _data_url(image: Image.Image, kind: str, **options: int) -> str:
    encoded = io.BytesIO()
    image.save(encoded, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"
