"""The last steps of inference: maps are resampled where asked for, and written with their views as image files."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.data.images.write import write_map, write_png
from neuropbr_core.maps import MAPS, MapSpec
from neuropbr_core.materials.encoding import encode_map


def resample_maps(maps: Maps, size: int) -> Maps:
    """Resample maps by Lanczos with a support of three pixels.

    Values are resampled as they are stored (albedo sRGB-encoded) and clamped to their range, which the filter
    overshoots at edges. Normals become unit vectors again.

    Args:
        maps: Maps `(1, channels, H, W)` in the ranges of `neuropbr_core.maps`.
        size: Side of the result in pixels, at least 1.

    Returns:
        Maps `(1, channels, size, size)`; a map that has this size already is returned unchanged.

    Source: Duchon 1979, "Lanczos Filtering in One and Two Dimensions"; the filter is Pillow's.
    """
    return {name: _resample(MAPS[name], value, size) for name, value in maps.items()}


def _resample(spec: MapSpec, value: Float[Tensor, "1 C H W"], size: int) -> Float[Tensor, "1 C size size"]:
    if value.shape[-2:] == (size, size):
        return value
    # Channel by channel: Pillow resamples floats without rounding only in images of one channel.
    resized = []
    for channel in value[0].float():
        image = Image.fromarray(channel.numpy()).resize((size, size), Image.Resampling.LANCZOS)
        resized.append(np.asarray(image))
    resampled = torch.from_numpy(np.stack(resized))[None]
    if spec.activation == "slopes":
        return F.normalize(resampled, dim=1)
    return resampled.clamp(*spec.value_range)


def write_maps(maps: Maps, folder: str | Path) -> list[Path]:
    """Write one material's maps as 8-bit PNG.

    Args:
        maps: Maps `(1, channels, H, W)` in the ranges of `neuropbr_core.maps`.
        folder: Created when missing; files of the same names are replaced.

    Returns:
        The files: albedo sRGB-encoded, roughness and metallic grey and linear, normals OpenGL (+Y).

    Raises:
        OSError: A file could not be written.
    """
    paths = []
    for name, value in maps.items():
        paths.append(write_map(Path(folder), MAPS[name], encode_map(MAPS[name], value[0]).numpy()))
    return paths


def write_views(views: Float[Tensor, "V 3 h w"], folder: str | Path) -> list[Path]:
    """Write the views that the network received, resized or aligned but not normalised, as 8-bit PNG.

    Args:
        views: sRGB-encoded in [0, 1].
        folder: Created when missing; `0.png`, `1.png`, … are replaced.

    Returns:
        The files.

    Raises:
        OSError: A file could not be written.
    """
    pixels = (views.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    paths = []
    for index, view in enumerate(pixels):
        path = Path(folder) / f"{index}.png"
        write_png(path, view)
        paths.append(path)
    return paths
