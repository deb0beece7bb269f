"""Brings pixels to the size and form that memory, packs and networks hold: 8 bits, channels first."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuropbr_core.maps import NORMAL, MapSpec

Stored = npt.NDArray[np.uint8]
"""uint8 `(C, H, W)`: a view or a map as files and memory hold it."""

Pixels = npt.NDArray[Any]
"""uint8 or uint16, `(H, W, C)`."""

_SHORTEST = 1e-3
"""Averaged normals shorter than this cancel each other; what direction is left is rounding."""


def fit_photo(photo: Stored, size: int) -> Stored:
    """Resize a photo to a square, as datasets, inference and exports all do.

    Args:
        photo: sRGB-encoded, `(3, h, w)`.
        size: Side of the result; the photo is stretched to it, whatever its shape.

    Returns:
        sRGB-encoded, `(3, size, size)`; the photo itself where it has that size.
    """
    if photo.shape[1:] == (size, size):
        return photo
    return channels_first(fit_pixels(np.ascontiguousarray(np.moveaxis(photo, 0, -1)), size))


def fit_pixels(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Resize a photo as `fit_photo` does, channels last.

    Args:
        pixels: sRGB-encoded, `(h, w, 3)`.
        size: Side of the result.

    Returns:
        sRGB-encoded, `(size, size, 3)`.
    """
    import cv2  # on use: listing a dataset imports this module, and cv2 takes longer than the rest of it

    height, width = pixels.shape[:2]
    smaller = (min(width, size), min(height, size))
    if smaller != (width, height):
        # The mean over exactly the area that a pixel of the result covers, with fractions of pixels at its edges. A
        # sensor with larger pixels would record the same, every pixel of the photo counts alike, nothing rings beside
        # a highlight, and views stay as sharp as the maps, which are averaged over areas too. Photos shrink by ten and
        # more: a filter of a fixed number of pixels would pick some and skip the rest, a triangle of twice the width
        # would blur once more, and Pillow's box counts a pixel wholly or not at all, which shifts edges by half a
        # pixel where the ratio is no whole number.
        pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if smaller != (size, size):
        enlarged = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
        pixels = np.asarray(enlarged)
    return pixels


def store_map(pixels: Pixels, spec: MapSpec, size: int | None = None) -> Stored:
    """Bring a map's pixels to stored form.

    Shrinking averages areas. Normals are averaged as vectors and made unit again; 16-bit values are averaged before
    they are rounded to 8 bits.

    Args:
        pixels: Square, `(S, S, C)`, uint8 or uint16.
        spec: Which map it is.
        size: Side to which it is resized; None keeps its size.

    Returns:
        Stored values, uint8 `(C, size, size)`.
    """
    if size is None or size == pixels.shape[0]:
        return channels_first(to_uint8(pixels))
    # A box averages areas; where pixels are added, a box would only repeat them.
    resample = Image.Resampling.BICUBIC
    if size <= min(pixels.shape[:2]):
        resample = Image.Resampling.BOX
    channels = pixels.shape[2]
    if pixels.dtype == np.uint8 and spec is not NORMAL:
        whole = pixels
        # Pillow has no images with an axis of one channel.
        if channels == 1:
            whole = pixels[..., 0]
        image = Image.fromarray(np.ascontiguousarray(whole))
        resized = np.asarray(image.resize((size, size), resample))
        return channels_first(resized.reshape(size, size, channels))
    # Float from here on: rounding before averaging would lose the low byte of 16-bit values, and the sign of slight
    # tilts of normals.
    planes: list[npt.NDArray[np.float32]] = []
    for plane in np.moveaxis(pixels, 2, 0):
        image = Image.fromarray(plane.astype(np.float32))
        planes.append(np.asarray(image.resize((size, size), resample)))
    values = np.stack(planes, axis=2) / np.float32(np.iinfo(pixels.dtype).max)
    if spec is NORMAL:
        values = _unit_normals(values)
    return channels_first(np.rint(values * 255.0).clip(0, 255).astype(np.uint8))


def to_uint8(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Round 16-bit values to the nearest of 8 bits; 8-bit values stay."""
    if pixels.dtype == np.uint8:
        return pixels
    # 65535 is 255 · 257, so both ends of the range are kept; half of 257 makes the division round to the nearest.
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def channels_first(pixels: npt.NDArray[np.uint8]) -> Stored:
    """Copy `(H, W, C)` to `(C, H, W)`."""
    return np.array(np.moveaxis(pixels, 2, 0), order="C")  # a copy: Pillow's memory is read-only


def _unit_normals(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Make averaged normals, encoded in [0, 1], unit again; those that cancel face the viewer."""
    vectors = values * 2.0 - 1.0
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    facing = np.array([0.0, 0.0, 1.0], dtype=np.float32)
    unit = np.where(length > _SHORTEST, vectors / np.maximum(length, _SHORTEST), facing)
    return ((unit + 1.0) / 2.0).astype(np.float32)
