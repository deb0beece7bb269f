"""Writes maps as image files."""

from pathlib import Path

from neuropbr_core.contracts import Maps
from neuropbr_core.data.images import write_map
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
