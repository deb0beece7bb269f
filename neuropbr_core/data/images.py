"""Photos and maps from image files, at the size and in the form that memory holds, and back into files.

`decoding` decodes the files. Memory, packs and networks hold 8 bits, channels first, at the size that `fit_photo` and
`store_map` make. Alpha is dropped, not blended: in textures it is unrelated data, and a photo keeps it as a mask.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuropbr_core.data.decoding import Decoded, Pixels, decode_image, describe_image
from neuropbr_core.errors import DataError
from neuropbr_core.files import write_bytes
from neuropbr_core.maps import ALBEDO, NORMAL, MapSpec

Stored = npt.NDArray[np.uint8]
"""uint8 `(C, H, W)`: a view or a map as files and memory hold it."""

_SHORTEST = 1e-3
"""Averaged normals shorter than this cancel each other; what direction is left is rounding."""
_GREY_SPREAD = 16
"""8-bit levels by which the channels of a grey image stored as RGB may differ after lossy compression."""
_STRIP = 1 << 22  # pixels that are handled at a time, where a whole image would need several times its memory
_LEAST_PHOTO_SIDE = 1024
"""Side of photos below which nothing is averaged away: registration compares them at this side."""
_LARGE_MAP = 8192 * 8192  # pixels; resizing in floating point takes ten times the memory of a map
_OPAQUE = 0.5  # of the largest alpha; a pixel below shows more of something else than of the surface


@dataclass(frozen=True)
class Photo:
    """A photo as it is read.

    Attributes:
        pixels: sRGB-encoded uint8 `(3, H, W)`.
        mask: `(H, W)`, True where the photo is opaque; None when it is opaque everywhere.
        note: What could not be respected, such as a damaged colour profile; empty otherwise.
        flash: Whether the camera's flash fired; None when the file does not tell.
    """

    pixels: Stored
    mask: npt.NDArray[np.bool_] | None = None
    note: str = ""
    flash: bool | None = None


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
        # Averaged vectors are too short; those that cancel have no direction, and face the viewer.
        vectors = values * 2.0 - 1.0
        length = np.linalg.norm(vectors, axis=2, keepdims=True)
        facing = np.array([0.0, 0.0, 1.0], dtype=np.float32)
        unit = np.where(length > _SHORTEST, vectors / np.maximum(length, _SHORTEST), facing)
        values = ((unit + 1.0) / 2.0).astype(np.float32)
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


def read_image(
    path: Path, mode: Literal["RGB", "L"] = "RGB", *, colours: bool = False, least: int | None = None
) -> Pixels:
    """Decode an image file.

    Args:
        path: The file; a camera's EXIF orientation is applied.
        mode: `RGB` for three channels (grey is repeated), `L` for one (a colour file must be grey in fact).
        colours: Whether the values are colours, which are converted to sRGB.
        least: Side that the shorter side of the result keeps; averages have 16 bits. See `decoding.decode_image`.

    Returns:
        Pixels `(H, W, 3)` or `(H, W, 1)`: uint16 for a file of more than 8 bits, else uint8.

    Raises:
        Undecodable: The file is missing or damaged.
        DataError: It is of an unsupported kind, too large, or coloured where grey is needed.
    """
    return _in_mode(path, decode_image(path, colours=colours, least=least, deep=True), mode)


def read_alpha(path: Path, *, least: int | None = None) -> Pixels | None:
    """Decode the alpha channel of an image file.

    Args:
        path: The file.
        least: As for `read_image`.

    Returns:
        uint8 or uint16 `(H, W, 1)`; None when it has none.

    Raises:
        Undecodable: The file is missing or damaged.
    """
    return decode_image(path, colours=False, least=least, deep=True).alpha


def _in_mode(path: Path, decoded: Decoded, mode: Literal["RGB", "L"]) -> Pixels:
    """Repeat grey, or make one channel of three equal ones."""
    pixels = decoded.pixels
    grey = pixels.shape[2] == 1
    if mode == "RGB" and grey:
        return np.repeat(pixels, 3, axis=2)
    if mode == "RGB" or grey:
        return pixels
    # Many programs save grey maps as RGB, with small differences after lossy compression.
    means = np.empty((*pixels.shape[:2], 1), dtype=pixels.dtype)
    levels = np.iinfo(pixels.dtype).max // 255  # 1, or 257 for 16 bits: the spread is compared in levels of 8 bits
    rows = max(1, _STRIP // pixels.shape[1])
    for top in range(0, pixels.shape[0], rows):
        strip = pixels[top : top + rows]
        spread = int((strip.max(axis=2) - strip.min(axis=2)).max()) / levels
        if spread > _GREY_SPREAD:
            raise DataError(
                f"{path}: is coloured (its channels differ by up to {spread:.0f} of 255), a grey map is needed; "
                "save the right channel alone"
            )
        means[top : top + rows] = np.rint(strip.mean(axis=2, keepdims=True))
    return means


def read_photo(path: Path, size: int | None = None) -> Photo:
    """Read a photo, at the size that is worth keeping of it, with its mask.

    Large photos are averaged over blocks of whole pixels while they are read, so that phones' photos of 48 and more
    megapixels do not fill the memory. What is left has at least twice the side that is needed.

    Args:
        path: Image file.
        size: Side in pixels to which the photo will be fitted; None when that is not known.
    """
    # Datasets and inference keep the same side, so that both see a photo alike.
    least = max(_LEAST_PHOTO_SIDE, 2 * (size or _LEAST_PHOTO_SIDE))
    decoded = decode_image(path, colours=True, least=least)
    mask = None
    if decoded.alpha is not None:
        mask = decoded.alpha[..., 0] >= np.iinfo(decoded.alpha.dtype).max * _OPAQUE
        if mask.all():
            mask = None
    pixels = to_uint8(_in_mode(path, decoded, "RGB"))
    if mask is not None and mask.any():
        # Colours under transparent pixels are arbitrary; the mean neither bleeds into neighbours nor draws an edge.
        pixels = pixels.copy()
        pixels[~mask] = np.rint(pixels[mask].mean(axis=0)).astype(np.uint8)
    return Photo(channels_first(pixels), mask, decoded.note, decoded.flash)


def read_view(path: Path, size: int | None = None) -> Stored:
    """Read a view of a dataset, a photo or a render.

    Args:
        path: Image file.
        size: Side to which it is fitted (`fit_photo`), whatever its shape; None keeps its size.

    Returns:
        sRGB-encoded uint8 `(3, size, size)`, or `(3, H, W)` for `size` None.

    Raises:
        Undecodable: The file is missing or damaged.
    """
    if size is None:
        return channels_first(to_uint8(read_image(path, "RGB", colours=True)))
    return fit_photo(read_photo(path, size).pixels, size)


def map_side(path: Path, size: int | None) -> int | None:
    """Choose the least side to which a map may be shrunk while it is read.

    Args:
        path: Image file.
        size: Side to which the map will be resized afterwards; None when it will not be.

    Returns:
        Twice `size` for a map of more than 8192² pixels, which would fill the memory; None, which reads every pixel,
        for any other map.
    """
    if size is None:
        return None
    facts = describe_image(path)
    if facts.width * facts.height <= _LARGE_MAP:
        return None
    return 2 * size


def read_map(path: Path, spec: MapSpec, size: int | None = None) -> Stored:
    """Read a PBR map in its stored form (`store_map`).

    Args:
        path: Image file, square.
        spec: Which map it is.
        size: Side to which it is resized; None keeps its size.

    Returns:
        Stored values, uint8 `(C, size, size)`; `materials.encoding.decode_map` turns them into the map.

    Raises:
        Undecodable: The file is missing or damaged.
        DataError: It is not square, coloured where grey is needed, or grey where normals are.
    """
    pixels = read_image(path, spec.image_mode, colours=spec is ALBEDO, least=map_side(path, size))
    height, width = pixels.shape[:2]
    if height != width:
        raise DataError(f"{path}: is {width}×{height} pixels; a map is square. Crop or resize it.")
    if spec is NORMAL and describe_image(path).channels == 1:
        raise DataError(f"{path}: is grey; a normal map has three channels. Is it a height map?")
    return store_map(pixels, spec, size)


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
