"""Pixels from image files and back; 8-bit stays 8-bit.

What a file may be: grey, RGB or palette, with or without alpha, 8 or 16 bits. Alpha is dropped, not blended: in
textures it is unrelated data. A damaged file is an error that names it; no part of a truncated image is ever used.
"""

import io
import os
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from neuropbr_core.data.images.heif import open_image
from neuropbr_core.errors import DataError
from neuropbr_core.files import write_bytes
from neuropbr_core.maps import NORMAL, MapSpec

Stored = npt.NDArray[np.uint8]
"""uint8 `(C, H, W)`: a view or a map as files and memory hold it."""

Pixels = npt.NDArray[Any]
"""uint8 or uint16, `(H, W, C)`."""

_DECODING = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_CHANNELS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3}
_CONVERTED = {"1": "L", "P": "RGB", "PA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "RGBX": "RGB"}
_GREY_SPREAD = 16  # 8-bit levels by which the channels of a lossy grey image stored as RGB may differ
_OTHER_BYTE = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_TAIL = 4096  # bytes after the end of a PNG that other programs may have appended
_TURNED = 5  # EXIF orientations from here on exchange width and height
_ORIENTATION = 0x0112


class Undecodable(DataError):
    """An image file is missing, damaged, or no image."""


@dataclass(frozen=True)
class ImageFacts:
    """What a file's header says.

    Attributes:
        width: Pixels, as the image is shown.
        height: Pixels, as the image is shown.
        channels: 1 for grey, 3 for colour; alpha does not count.
        bits: Of a channel: 8 or 16.
        alpha: Whether it has transparency, which is never used.
    """

    width: int
    height: int
    channels: int
    bits: int
    alpha: bool

    @property
    def size(self) -> str:
        """`WIDTH×HEIGHT`."""
        return f"{self.width}×{self.height}"


def describe_image(path: Path) -> ImageFacts:
    """Read a file's header.

    Raises:
        Undecodable: The file is missing or no image.
    """
    try:
        with open_image(path) as image:
            asked = image.format != "PNG" or "exif" in image.info  # else Pillow decodes a PNG to look for it at the end
            turned = asked and image.getexif().get(_ORIENTATION, 1) >= _TURNED
            width, height = reversed(image.size) if turned else image.size
            grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
            alpha = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
            deep = image.mode.startswith("I") or _second_byte(image) is not None
            return ImageFacts(width, height, 1 if grey else 3, 16 if deep else 8, alpha)
    except _DECODING as error:
        raise _undecodable(path, error) from error


def is_cut_off(path: Path) -> bool:
    """Whether a file is empty, or a PNG without its end; nothing is decoded.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(_PNG_START)) != _PNG_START:
            return file.tell() == 0
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        return _PNG_END not in file.read()


def read_image(path: Path, mode: Literal["RGB", "L"] = "RGB") -> Pixels:
    """Decode an image file.

    Args:
        path: The file; a camera's EXIF orientation is applied.
        mode: `RGB` for three channels (grey is repeated), `L` for one (a colour file must be grey in fact).

    Returns:
        Pixels `(H, W, 3)` or `(H, W, 1)`: uint16 for a 16-bit file, else uint8.

    Raises:
        Undecodable: The file is missing or damaged.
        DataError: It is of an unsupported kind, or coloured where grey is needed.
    """
    pixels = _decode(path)
    if mode == "RGB":
        return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return pixels if pixels.shape[2] == 1 else _as_grey(pixels, path)


def verify_image(path: Path) -> None:
    """Check a file's checksums where its format has them, which decoding alone does not.

    Raises:
        Undecodable: The file is missing or damaged.
    """
    try:
        with open_image(path) as image:
            image.verify()
    except _DECODING as error:
        raise _undecodable(path, error) from error


def read_view(path: Path, size: int | None = None) -> npt.NDArray[np.uint8]:
    """Read a photo or render.

    Args:
        path: Image file.
        size: Side to which it is resized, whatever its shape; None keeps its size.

    Returns:
        sRGB-encoded uint8 `(3, size, size)`, or `(3, H, W)` for `size` None.

    Raises:
        Undecodable: The file is missing or damaged.
    """
    pixels = _to_uint8(read_image(path, "RGB"))
    if size is not None and pixels.shape[:2] != (size, size):
        pixels = _resize_uint8(pixels, size)
    return _channels_first(pixels)


def read_map(path: Path, spec: MapSpec, size: int | None = None) -> npt.NDArray[np.uint8]:
    """Read a PBR map in its stored form.

    Shrinking averages areas. Normals are averaged as vectors and made unit again; 16-bit values are averaged before
    they are rounded to 8 bits.

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
    pixels = read_image(path, spec.image_mode)
    height, width = pixels.shape[:2]
    if height != width:
        raise DataError(f"{path}: is {width}×{height} pixels; a map is square. Crop or resize it.")
    if spec is NORMAL and describe_image(path).channels == 1:
        raise DataError(f"{path}: is grey; a normal map has three channels. Is it a height map?")
    return store_map(pixels, spec, size)


def store_map(pixels: Pixels, spec: MapSpec, size: int | None = None) -> Stored:
    """Bring a map's pixels to the stored form that `read_map` describes.

    Args:
        pixels: Square, `(S, S, C)`, uint8 or uint16.
        spec: Which map it is.
        size: Side to which it is resized; None keeps its size.

    Returns:
        Stored values, uint8 `(C, size, size)`.
    """
    if size is None or size == pixels.shape[0]:
        return _channels_first(_to_uint8(pixels))
    if pixels.dtype == np.uint8 and spec is not NORMAL:
        return _channels_first(_resize_uint8(pixels, size))
    values = _resize_float(pixels, size) / np.float32(np.iinfo(pixels.dtype).max)
    if spec is NORMAL:
        values = _unit_normals(values)
    return _channels_first(np.rint(values * 255.0).clip(0, 255).astype(np.uint8))


def write_png(path: Path, pixels: Pixels) -> None:
    """Write pixels as PNG; a reader never sees a half-written file.

    Args:
        path: The file; folders are created.
        pixels: uint8 `(H, W)`, `(H, W, 1)` or `(H, W, 3)`; uint16 for one channel.

    Raises:
        ValueError: Pixels of another shape or type.
    """
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    grey, colour = flat.ndim == 2, flat.ndim == 3 and flat.shape[2] == 3
    if not ((grey and flat.dtype in (np.uint8, np.uint16)) or (colour and flat.dtype == np.uint8)):
        raise ValueError(f"cannot write {flat.dtype} pixels of shape {pixels.shape} as PNG")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(flat)).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def compress_jpeg(view: Stored, quality: int) -> Stored:
    """Return what is left of a photo after JPEG compression, with chroma at half the resolution as phones do it.

    Args:
        view: sRGB-encoded uint8 `(3, H, W)`.
        quality: The encoder's quality, 1 to 95.

    Returns:
        The decoded photo, alike.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.moveaxis(view, 0, -1))).save(
        buffer, "JPEG", quality=quality, subsampling="4:2:0"
    )
    with Image.open(buffer) as image:
        return _channels_first(np.asarray(image.convert("RGB")))


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


def _decode(path: Path) -> Pixels:
    """Pixels of a file `(H, W, 1 or 3)`, upright, without alpha."""
    try:
        with open_image(path) as image:
            second = _second_byte(image)
            pixels = _upright(image, path)
        if second is None:
            return pixels
        with open_image(path) as image:
            opened: Any = image  # Pillow's types hide `tile`
            opened.tile = second
            low = _upright(image, path)
    except _DECODING as error:
        raise _undecodable(path, error) from error
    deep: Pixels = pixels.astype(np.uint16) << 8 | low
    return deep


def _upright(image: Image.Image, path: Path) -> Pixels:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return _channels(image, path)


def _second_byte(image: Image.Image) -> list[Any] | None:
    """Decoding instructions for the low bytes of a 16-bit colour file; None for any other file.

    Pillow reads such files with 8 bits: it keeps the high byte of each value. Told that the other byte order is meant,
    it keeps the low one.
    """
    tiles = getattr(image, "tile", [])
    if image.mode not in ("RGB", "RGBA") or not tiles:
        return None
    swapped = [tile._replace(args=_other_order(tile.args)) for tile in tiles]
    return swapped if swapped[0].args != tiles[0].args else None


def _other_order(arguments: Any) -> Any:
    """The raw mode is a decoder's argument, or the first of several."""
    if isinstance(arguments, tuple):
        return (_other_order(arguments[0]), *arguments[1:])
    name = str(arguments)
    return name[:-4] + _OTHER_BYTE.get(name[-4:], name[-4:])


def _undecodable(path: Path, error: BaseException) -> Undecodable:
    if not path.exists():
        return Undecodable(f"{path}: no such file")
    reason = str(error).replace(f" {str(path)!r}", "") or type(error).__name__
    return Undecodable(
        f"{path}: cannot be decoded ({reason}); restore the file from its source, or remove what uses it"
    )


def _channels(image: Image.Image, path: Path) -> Pixels:
    if image.mode.startswith("I"):
        values: Pixels = np.asarray(image).clip(0, 65535)
        return values.astype(np.uint16)[..., None]
    plain = image
    if image.mode in _CONVERTED:
        plain = image.convert("RGBA" if "transparency" in image.info else _CONVERTED[image.mode])
    if plain.mode not in _CHANNELS:
        raise DataError(f"{path}: images of mode {image.mode!r} are not supported; save it as 8-bit RGB or as grey")
    pixels = np.asarray(plain, dtype=np.uint8)
    return np.atleast_3d(pixels)[..., : _CHANNELS[plain.mode]]


def _as_grey(pixels: Pixels, path: Path) -> Pixels:
    spread = int((pixels.max(axis=2) - pixels.min(axis=2)).max())
    if spread > _GREY_SPREAD:
        raise DataError(
            f"{path}: is coloured (its channels differ by up to {spread} of 255), a grey map is needed; "
            "save the right channel alone"
        )
    mean: npt.NDArray[np.float64] = pixels.mean(axis=2, keepdims=True)
    return np.rint(mean).astype(np.uint8)


def _to_uint8(pixels: Pixels) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _filter(pixels: Pixels, size: int) -> Image.Resampling:
    return Image.Resampling.BOX if size <= min(pixels.shape[:2]) else Image.Resampling.BICUBIC


def _resize_uint8(pixels: Pixels, size: int) -> npt.NDArray[np.uint8]:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    resized = np.asarray(image.resize((size, size), _filter(pixels, size)))
    return resized.reshape(size, size, pixels.shape[2])


def _resize_float(pixels: Pixels, size: int) -> npt.NDArray[np.float32]:
    resample = _filter(pixels, size)
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(pixels, 2, 0)]
    return np.stack([np.asarray(plane.resize((size, size), resample)) for plane in planes], axis=2)


def _unit_normals(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Make averaged normals, encoded in [0, 1], unit again; those that cancel face the viewer."""
    vectors = values * 2.0 - 1.0
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    facing = np.array([0.0, 0.0, 1.0], dtype=np.float32)
    unit = np.where(length > 1e-3, vectors / np.maximum(length, 1e-3), facing)
    return ((unit + 1.0) / 2.0).astype(np.float32)


def _channels_first(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.array(np.moveaxis(pixels, 2, 0), order="C")  # a copy: Pillow's memory is read-only
