"""Image files of packages: channels of maps, packed and stored with the depth that the package asks for."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from neuropbr_core.contracts import Channel, Convention, Package
from neuropbr_core.errors import PackageError
from neuropbr_core.maps import ALBEDO, NORMAL
from neuropbr_core.materials.color import srgb_to_linear

if TYPE_CHECKING:
    from neuropbr_core.outputs.material import Material

_LEVELS = {8: 255, 16: 65535}
_GREEN = 1
_EXR_CHANNELS = {1: "Y", 3: "RGB", 4: "RGBA"}


def write_texture(folder: Path, role: str, material: "Material", package: Package) -> None:
    """Write one texture of a package.

    Args:
        folder: The package's folder.
        role: Which texture.
        material: The maps, of the package's size.
        package: Channels, depth and convention of normals.

    Raises:
        PackageError: OpenEXR is needed and not installed.
        OSError: The file could not be written.
    """
    channels = package.textures[role].channels
    normals = package.normals(role)
    values = torch.stack([channel_values(channel, material, normals) for channel in channels], dim=-1)
    path = folder / package.file(role)
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = package.depth(role)
    if depth == "exr":
        if channels[0].map == ALBEDO.name:
            # An EXR file holds light; an sRGB-encoded one would be read as too bright.
            values[..., :3] = srgb_to_linear(values[..., :3])
        _write_exr(path, values.half().numpy())
        return
    # Rounded to the nearest level, so that a texture that is read back and written again stays the same.
    levels = _LEVELS[depth]
    pixels = (values * levels).round().clamp(0, levels).numpy()
    if levels == 255:
        _write_png(path, pixels.astype(np.uint8))
    else:
        _write_png(path, pixels.astype(np.uint16))


def channel_values(channel: Channel, material: "Material", normals: Convention) -> Tensor:
    """The values of one channel as they are stored, `(N, N)` in [0, 1]."""
    if not channel.map:  # a constant
        side = material.size
        return torch.full((side, side), channel.constant)
    values = material.layer(channel.map)[channel.index]
    if channel.map == NORMAL.name:
        values = (values + 1) / 2
        if channel.index == _GREEN and normals == "directx":
            values = 1 - values
    if channel.inverted:
        values = 1 - values
    return values


def _write_png(path: Path, pixels: np.ndarray) -> None:
    import cv2  # Pillow writes no 16-bit colour

    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]  # OpenCV's order is blue, green, red, alpha
    success, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels[..., order]))
    if not success:
        raise PackageError(f"{path}: OpenCV could not encode {pixels.dtype} pixels of shape {pixels.shape} as PNG")
    path.write_bytes(encoded.tobytes())


def exr_is_missing() -> str:
    """Why EXR files cannot be written on this machine, and what to install; empty when they can."""
    from importlib.util import find_spec

    if find_spec("OpenEXR") is None:
        return "depth exr needs OpenEXR, which is not installed: pip install 'neuropbr[exr]'"
    return ""


def _write_exr(path: Path, pixels: np.ndarray) -> None:
    import OpenEXR

    name = _EXR_CHANNELS[pixels.shape[2]]
    # The library takes grey images without a dimension for channels.
    if name == "Y":
        pixels = pixels[..., 0]
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {name: np.ascontiguousarray(pixels)}) as file:
        file.write(str(path))
