"""Pixels into image files, and what JPEG files keep of them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from neuropbr_core.data.images.fit import Pixels, Stored, channels_first
from neuropbr_core.files import write_bytes
from neuropbr_core.maps import MapSpec


def write_png(path: Path, pixels: Pixels) -> None:
    """Write pixels as PNG; a reader never sees a half-written file.

    Args:
        path: The file; folders are created.
        pixels: uint8 `(H, W)`, `(H, W, 1)` or `(H, W, 3)`; uint16 for one channel.

    Raises:
        ValueError: Pixels of another shape or type.
    """
    flat = pixels
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        flat = pixels[..., 0]
    grey = flat.ndim == 2 and flat.dtype in (np.uint8, np.uint16)
    colour = flat.ndim == 3 and flat.shape[2] == 3 and flat.dtype == np.uint8  # Pillow writes no 16-bit colour
    if not (grey or colour):
        raise ValueError(f"cannot write {flat.dtype} pixels of shape {pixels.shape} as PNG")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(flat)).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def write_map(folder: Path, spec: MapSpec, stored: Pixels) -> Path:
    """Write one map into a material folder.

    Args:
        folder: The material's folder; created when missing.
        spec: Which map it is; it names the file.
        stored: Stored values `(C, H, W)`, uint8, or uint16 for one channel.

    Returns:
        The file.

    Raises:
        ValueError: The number of channels is not that of `spec`.
    """
    if stored.ndim != 3 or stored.shape[0] != spec.channels:
        raise ValueError(f"{spec.name} has {spec.channels} channels first, got shape {stored.shape}")
    path = folder / spec.file_name
    write_png(path, np.moveaxis(stored, 0, -1))
    return path


def compress_jpeg(view: Stored, quality: int) -> Stored:
    """Return what is left of a photo after JPEG compression, with chroma at half the resolution as phones do it.

    Args:
        view: sRGB-encoded uint8 `(3, H, W)`.
        quality: The encoder's quality, 1 to 95.

    Returns:
        The decoded photo, of the same shape.
    """
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(view, 0, -1)))
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(buffer) as decoded:
        return channels_first(np.asarray(decoded.convert("RGB")))
