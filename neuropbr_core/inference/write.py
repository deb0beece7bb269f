"""Writes maps, and the views that they came from, as image files."""

from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.data.images.write import write_map, write_png
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.encoding import encode_map


def write_maps(maps: Maps, folder: str | Path) -> list[Path]:
    """Write one material's maps as 8-bit PNG.

    Args:
        maps: Maps `(1, channels, H, W)` in the ranges of `neuropbr_core.maps`.
        folder: Made when missing; files of the same names are replaced.

    Returns:
        The files: albedo sRGB-encoded, roughness and metallic grey and linear, normals OpenGL (+Y).

    Raises:
        OSError: A file could not be written.
    """
    return [
        write_map(Path(folder), MAPS[name], encode_map(MAPS[name], value[0]).numpy()) for name, value in maps.items()
    ]


def write_views(views: Float[Tensor, "V 3 h w"], folder: str | Path) -> list[Path]:
    """Write views as the network sees them, resized or aligned but not normalised, as 8-bit PNG.

    Args:
        views: sRGB-encoded in [0, 1].
        folder: Made when missing; `0.png`, `1.png`, … are replaced.

    Returns:
        The files.

    Raises:
        OSError: A file could not be written.
    """
    pixels = (views.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    paths = []
    for index in range(len(pixels)):
        paths.append(Path(folder) / f"{index}.png")
    for path, view in zip(paths, pixels, strict=True):
        write_png(path, view)
    return paths
