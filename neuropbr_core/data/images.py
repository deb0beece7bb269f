"""Pixels from image files and back; 8-bit files stay 8-bit.

A file may be grey, RGB or palette, with or without alpha, with 8 or 16 bits. Alpha is dropped, not blended: in
textures it is unrelated data. A damaged file is an error that names it; no part of a truncated image is ever used.
Memory, packs and networks hold 8 bits, channels first, at the size that `fit_photo` and `store_map` make.
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

from neuropbr_core.errors import DataError
from neuropbr_core.files import write_bytes
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


HEIF_SUFFIXES = (".heic", ".heif")


def open_image(path: Path) -> Image.Image:
    """Open an image file with Pillow; nothing is decoded yet.

    Raises:
        DataError: It is a HEIC file, and `pillow-heif` is not installed.
        OSError: There is no such file, or it is no image.
    """
    if path.suffix.lower() in HEIF_SUFFIXES:
        # The library registers itself with Pillow, and is imported only for a file that needs it: it is an extra.
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise DataError(
                f"{path}: reading HEIC needs pillow-heif; install it with `pip install 'neuropbr[heif]'`, or convert "
                f"the photo to PNG or JPEG"
            ) from error
        register_heif_opener()
    return Image.open(path)


# Pillow's plugins raise whatever their parsers trip over in a damaged file.
_DECODING = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_CHANNELS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3}
_CONVERTED = {"1": "L", "P": "RGB", "PA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "RGBX": "RGB"}
_GREY_SPREAD = 16  # 8-bit levels by which the channels of a lossy grey image stored as RGB may differ
_OTHER_BYTE = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_TAIL = 4096  # bytes after the end of a PNG that other programs may have appended
_TURNED = 5  # EXIF orientations from here on exchange width and height
_ORIENTATION = 0x0112  # EXIF tag


class Undecodable(DataError):
    """An image file is missing, damaged, or no image."""


@dataclass(frozen=True)
class ImageFacts:
    """The contents of a file's header.

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
            width, height = image.size
            # Without this condition Pillow decodes a whole PNG to look for an orientation at its end.
            if (image.format != "PNG" or "exif" in image.info) and image.getexif().get(_ORIENTATION, 1) >= _TURNED:
                height, width = image.size
            grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
            alpha = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
            deep = image.mode.startswith("I") or _second_byte(image) is not None
    except _DECODING as error:
        raise _undecodable(path, error) from error
    channels = 3
    if grey:
        channels = 1
    bits = 8
    if deep:
        bits = 16
    return ImageFacts(width, height, channels, bits, alpha)


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
    grey = pixels.shape[2] == 1
    if mode == "RGB" and grey:
        return np.repeat(pixels, 3, axis=2)
    if mode == "L" and not grey:
        # Many programs save grey maps as RGB, with small differences after lossy compression.
        spread = int((pixels.max(axis=2) - pixels.min(axis=2)).max())
        if spread > _GREY_SPREAD:
            raise DataError(
                f"{path}: is coloured (its channels differ by up to {spread} of 255), a grey map is needed; "
                "save the right channel alone"
            )
        mean: npt.NDArray[np.float64] = pixels.mean(axis=2, keepdims=True)
        return np.rint(mean).astype(np.uint8)
    return pixels


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


def read_view(path: Path, size: int | None = None) -> Stored:
    """Read a photo or render.

    Args:
        path: Image file.
        size: Side to which it is fitted (`fit_photo`), whatever its shape; None keeps its size.

    Returns:
        sRGB-encoded uint8 `(3, size, size)`, or `(3, H, W)` for `size` None.

    Raises:
        Undecodable: The file is missing or damaged.
    """
    photo = to_uint8(read_image(path, "RGB"))
    if size is not None:
        photo = fit_pixels(photo, size)
    return channels_first(photo)


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
    pixels = read_image(path, spec.image_mode)
    height, width = pixels.shape[:2]
    if height != width:
        raise DataError(f"{path}: is {width}×{height} pixels; a map is square. Crop or resize it.")
    if spec is NORMAL and describe_image(path).channels == 1:
        raise DataError(f"{path}: is grey; a normal map has three channels. Is it a height map?")
    return store_map(pixels, spec, size)


def _decode(path: Path) -> Pixels:
    """Pixels of a file `(H, W, 1 or 3)`, upright, without alpha."""
    try:
        with open_image(path) as image:
            second = _second_byte(image)
            pixels = _upright(image, path)
        if second is None:
            return pixels
        # Pillow decodes 16-bit colour to its high bytes alone, so such a file is decoded again for the low bytes.
        with open_image(path) as image:
            opened: Any = image  # Pillow's types hide `tile`
            opened.tile = second
            low = _upright(image, path)
    except _DECODING as error:
        raise _undecodable(path, error) from error
    deep: Pixels = pixels.astype(np.uint16) << 8 | low
    return deep


def _second_byte(image: Image.Image) -> list[Any] | None:
    """Decoding instructions for the low bytes of a 16-bit colour file; None for any other file.

    Pillow reads such files with 8 bits: it keeps the high byte of each value. If we claim the opposite byte order, it
    keeps the low byte instead.
    """
    tiles = getattr(image, "tile", [])
    if image.mode not in ("RGB", "RGBA") or not tiles:
        return None
    swapped = [tile._replace(args=_other_order(tile.args)) for tile in tiles]
    if swapped[0].args == tiles[0].args:
        return None
    return swapped


def _other_order(arguments: Any) -> Any:
    """Claim the opposite byte order; the raw mode is a decoder's argument, or the first of several."""
    if isinstance(arguments, tuple):
        return (_other_order(arguments[0]), *arguments[1:])
    name = str(arguments)
    return name[:-4] + _OTHER_BYTE.get(name[-4:], name[-4:])


def _upright(image: Image.Image, path: Path) -> Pixels:
    """Decode an opened image, apply its orientation and drop its alpha."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow gives as 32-bit integers
        values: Pixels = np.asarray(image).clip(0, 65535)
        return values.astype(np.uint16)[..., None]
    plain = image
    if "transparency" in image.info and image.mode in _CONVERTED:
        # A palette with transparency is converted with its alpha, or Pillow blends it.
        plain = image.convert("RGBA")
    elif image.mode in _CONVERTED:
        plain = image.convert(_CONVERTED[image.mode])
    if plain.mode not in _CHANNELS:
        raise DataError(f"{path}: images of mode {image.mode!r} are not supported; save it as 8-bit RGB or as grey")
    pixels = np.asarray(plain, dtype=np.uint8)
    return np.atleast_3d(pixels)[..., : _CHANNELS[plain.mode]]


def _undecodable(path: Path, error: BaseException) -> Undecodable:
    if not path.exists():
        return Undecodable(f"{path}: no such file")
    reason = str(error).replace(f" {str(path)!r}", "") or type(error).__name__
    return Undecodable(
        f"{path}: cannot be decoded ({reason}); restore the file from its source, or remove what uses it"
    )


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
