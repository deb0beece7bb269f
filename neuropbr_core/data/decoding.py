"""Image files into pixels: which formats are read, and every depth and layout of channels brought to one scale.

Whole numbers are scaled by the largest value of their type, so that white is white whatever the depth. Floating-point
files are linear by custom; where a picture shows colours, they are encoded as sRGB. A damaged file is an error that
names it; no part of a truncated image is ever used.
"""

import io
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, UnidentifiedImageError, features

from neuropbr_core.errors import DataError
from neuropbr_core.memory import total_memory
from neuropbr_core.reading import open_bytes

Pixels = npt.NDArray[Any]
"""uint8 or uint16, `(H, W, C)`."""

HEIF_SUFFIXES = (".heic", ".heif")
EXR_SUFFIX = ".exr"
AVIF_SUFFIX = ".avif"
_TIFF_SUFFIXES = (".tif", ".tiff")
_JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")

READ_SUFFIXES = (
    ".png",
    *_TIFF_SUFFIXES,
    EXR_SUFFIX,
    ".tga",
    ".bmp",
    ".webp",
    AVIF_SUFFIX,
    *HEIF_SUFFIXES,
    *_JPEG_SUFFIXES,
)
"""Suffixes of images that are read. Of several files with one content, the suffix that comes first loses least."""

_CAMERA_RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw")
_OTHER_IMAGES = (
    *(".gif", ".psd", ".psb", ".xcf", ".kra", ".jxl", ".jp2", ".j2k", ".jxr", ".hdr", ".dds", ".ktx", ".ktx2"),
    *(".sbsar", ".svg", ".pcx", ".ppm", ".pgm", ".pnm", ".ico", ".qoi", ".tx"),
)
IMAGE_SUFFIXES = (*READ_SUFFIXES, *_CAMERA_RAW, *_OTHER_IMAGES)
"""Suffixes by which a file is recognised as an image, whether it is read or not."""

_ORIENTATION = 0x0112  # EXIF tag
_EXIF = 0x8769  # tag of the block that has the camera's settings
_FLASH = 0x9209  # EXIF tag; its lowest bit says whether the flash fired
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_BITS_PER_SAMPLE = 258  # TIFF tags
_SAMPLE_FORMAT = 339
_SIGNED = 2  # sample formats of TIFF
_GREY_MODES = ("1", "L", "LA", "La", "F")
_PLAIN = {"1": "L", "P": "RGB", "RGBX": "RGB", "HSV": "RGB", "YCbCr": "RGB"}
_PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""The colour space of a profile that fits a mode of Pillow."""
_LARGEST_16_BIT = 65535
_MOST_OF_MEMORY = 0.5
"""Share of the memory that one image may take while it is decoded: the rest holds what is made of it."""
_COPIES = 3  # of an image at the same time: the decoder's, the turned or converted one, and the array
_STRIP = 256  # rows that are averaged at a time
_ROUNDING = 0.002  # by which floating-point values of a map may leave its range; half a level of 8 bits
_OPENING = threading.Lock()


class Undecodable(DataError):
    """An image file is missing, damaged, or no image."""


@dataclass(frozen=True)
class ImageFacts:
    """The contents of a file's header.

    Attributes:
        width: Pixels, as the image is shown.
        height: Pixels, as the image is shown.
        channels: 1 for grey, 3 for colour; alpha does not count.
        bits: Of a channel: 8, 16 or 32.
        alpha: Whether it has transparency.
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


@dataclass(frozen=True)
class Decoded:
    """The pixels of a file.

    Attributes:
        pixels: uint8 or uint16, `(H, W, 1)` or `(H, W, 3)`, upright.
        alpha: The same type, `(H, W, 1)`: the largest value where the image is opaque; None without transparency.
        note: What could not be respected, such as a colour profile that is damaged; empty otherwise.
        flash: Whether the camera's flash fired; None when the file does not tell.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    note: str = ""
    flash: bool | None = None


def suffix_of(name: str) -> str:
    """Suffix of a file's name, in small letters, with its dot."""
    return PurePath(name).suffix.lower()


def why_unread(name: str) -> str | None:
    """Explain why an image is not read, with what to do; None when it is read.

    Args:
        name: A file's name; its suffix decides.
    """
    suffix = suffix_of(name)
    if suffix in _CAMERA_RAW:
        return f"{suffix} is a camera's raw format; develop the photo to TIFF, PNG or JPEG"
    if suffix not in READ_SUFFIXES:
        return f"{suffix} files are not read; convert it to PNG, TIFF or JPEG"
    if suffix == EXR_SUFFIX and find_spec("OpenEXR") is None:
        return ".exr files are read by OpenEXR; `pip install 'neuropbr[exr]'`, or convert it to a 16-bit PNG"
    if suffix in HEIF_SUFFIXES and find_spec("pillow_heif") is None:
        return "reading HEIC needs pillow-heif; install it with `pip install 'neuropbr[heif]'`, or convert it to JPEG"
    if suffix == AVIF_SUFFIX and not features.check("avif"):
        return "this Pillow reads no AVIF; install Pillow 11.3 or newer, or convert it to PNG or JPEG"
    return None


def describe_image(path: Path) -> ImageFacts:
    """Read a file's header.

    Raises:
        Undecodable: The file is missing or no image.
        DataError: Its format needs a library that is not installed.
    """
    if suffix_of(path.name) == EXR_SUFFIX:
        width, height, names = _exr_header(path)
        channels = 1
        if "R" in names:
            channels = 3
        return ImageFacts(width, height, channels, 32, "A" in names)
    with _errors_of(path):
        image = _open(path)
        if image is None:
            values = _read_with_opencv(path)
            channels = 1
            if values.ndim == 3:
                channels = 3
            alpha = values.ndim == 3 and values.shape[2] in (2, 4)
            return ImageFacts(values.shape[1], values.shape[0], channels, 8 * min(4, values.dtype.itemsize), alpha)
        with image:
            width, height = image.size
            # Without this condition Pillow decodes a whole PNG to look for an orientation at its end.
            if (image.format != "PNG" or "exif" in image.info) and image.getexif().get(_ORIENTATION, 1) in _TURNED:
                height, width = image.size
            grey = image.mode in _GREY_MODES or image.mode.startswith("I") or _raw_mode(image).startswith("LA")
            # `RGBa` and `La` are multiplied by their alpha.
            alpha = image.mode in ("LA", "RGBA", "PA", "RGBa", "La") or "transparency" in image.info
            bits = 8
            if image.mode in ("I", "F"):
                bits = max(16, _tiff_tag(image, _BITS_PER_SAMPLE, 16))
            elif image.mode.startswith("I") or _is_deep_colour(_raw_mode(image)):
                bits = 16
    channels = 3
    if grey:
        channels = 1
    return ImageFacts(width, height, channels, bits, alpha)


def header_tells_size(path: Path) -> bool:
    """Whether `describe_image` reads a file's header alone; files of rare kinds of TIFF are decoded for it.

    Raises:
        Undecodable: The file is missing or no image.
        DataError: Its format needs a library that is not installed, or it does not fit into memory.
    """
    if suffix_of(path.name) == EXR_SUFFIX:
        return True
    with _errors_of(path):
        image = _open(path)
        if image is not None:
            image.close()
    return image is not None


def decode_image(path: Path, *, colours: bool, least: int | None = None, deep: bool = False) -> Decoded:
    """Decode an image file.

    Args:
        path: The file; a camera's EXIF orientation is applied.
        colours: Whether its values are colours: its colour profile, or the linear scale of a floating-point file, is
            then converted to sRGB. The profiles of roughness, metallic and normal maps mean nothing.
        least: Side in pixels below which the shorter side must not fall. A larger image may be averaged over blocks of
            whole pixels while it is read, which takes a fraction of the memory. None keeps every pixel.
        deep: Whether averages of 8-bit pixels have 16 bits, as for maps that are averaged further.

    Returns:
        The pixels, and the transparency where there is any.

    Raises:
        Undecodable: The file is missing or damaged.
        DataError: It is of an unsupported kind, or does not fit into memory.
    """
    if suffix_of(path.name) == EXR_SUFFIX:
        decoded = _decode_exr(path, colours=colours)
    else:
        with _errors_of(path):
            decoded = _decode(path, colours, least, deep=deep)
    if least is None:
        return decoded
    # Most formats were averaged while they were read; these are the ones that come as a whole.
    factor = _block(decoded.pixels.shape[:2], least)
    if factor < 2:
        return decoded
    alpha = None
    if decoded.alpha is not None:
        alpha = average_blocks(decoded.alpha, factor, deep=deep)
    return Decoded(average_blocks(decoded.pixels, factor, deep=deep), alpha, decoded.note, decoded.flash)


def average_blocks(pixels: Pixels, factor: int, *, deep: bool = False) -> Pixels:
    """Average blocks of `factor`² pixels; rows and columns that fill no block are left out.

    Args:
        pixels: `(H, W, C)`, uint8 or uint16.
        factor: Side of a block in pixels.
        deep: Whether averages of uint8 are uint16.

    Returns:
        `(H // factor, W // factor, C)`.
    """
    height, width, channels = pixels.shape
    rows = height // factor
    columns = width // factor
    scale = 1
    kind = pixels.dtype
    if deep and kind == np.uint8:
        scale = 257  # 65535 is 255 · 257
        kind = np.dtype(np.uint16)
    means = np.empty((rows, columns, channels), dtype=kind)
    # Row by row: sums of a whole photo would take many times its memory.
    for row in range(rows):
        strip = pixels[row * factor : (row + 1) * factor, : columns * factor]
        # Rows first: they are contiguous, which makes this five times as fast as both axes at once.
        columns_of_pixels = strip.sum(axis=0, dtype=np.uint64).reshape(columns, factor, channels)
        sums = columns_of_pixels.sum(axis=1)
        means[row] = (sums * scale + factor * factor // 2) // (factor * factor)
    return means


def verify_image(path: Path) -> None:
    """Check a file's checksums where its format has them, which decoding alone does not.

    Raises:
        Undecodable: The file is missing or damaged.
    """
    if suffix_of(path.name) == EXR_SUFFIX:
        return  # decoding finds what there is to find
    with _errors_of(path):
        image = _open(path)
        if image is not None:
            with image:
                image.verify()


def is_cut_off(path: Path) -> bool:
    """Whether a file is empty, or ends before the end that its format demands; nothing is decoded.

    PNG, JPEG and WebP tell their end. For other formats the answer is no.

    Raises:
        OSError: The file cannot be read.
    """
    with open_bytes(path) as file:
        start = file.read(12)
        length = file.seek(0, os.SEEK_END)
        if start.startswith(b"\x89PNG\r\n\x1a\n"):
            # From chunk to chunk: pixels and the end must be there. What other programs appended does not matter.
            position = 8
            data = False
            while position + 12 <= length:
                file.seek(position)
                size, kind = struct.unpack(">I4s", file.read(8))
                position += 12 + size  # length, name and checksum besides the content
                data = data or kind == b"IDAT"
                if kind == b"IEND":
                    return not (data and position <= length)
            return True
        if start.startswith(b"RIFF") and start.endswith(b"WEBP"):
            return length < 8 + int.from_bytes(start[4:8], "little")
        if start.startswith(b"\xff\xd8\xff"):
            # An end of image anywhere, since phones append motion photos. A thumbnail has one too: a cut file with a
            # thumbnail passes here, and decoding finds it. In parts from the end, near which the mark usually is.
            step = 1 << 16
            end = length
            while end > 0:
                begin = max(0, end - step)
                file.seek(begin)
                # One byte more, in case the mark is across the border of two parts.
                if b"\xff\xd9" in file.read(end - begin + 1):
                    return False
                end = begin
            return True
        return length == 0


def _open(path: Path) -> Image.Image | None:
    """Open a file with Pillow; nothing is decoded yet. None for a TIFF of a kind that Pillow does not know.

    Raises:
        DataError: It is no regular file, its format needs a library that is not installed, or it is too large.
        OSError: There is no such file, or it is no image.
    """
    # A pipe or a device would be waited for.
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no regular file; give an image file")
    suffix = suffix_of(path.name)
    if suffix in HEIF_SUFFIXES:
        # The library registers itself with Pillow, and is imported only for a file that needs it: it is an extra.
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise DataError(f"{path}: {why_unread(path.name)}") from error
        register_heif_opener()
    try:
        with _any_size():
            image = Image.open(path)
    except UnidentifiedImageError:
        if suffix in _TIFF_SUFFIXES and path.stat().st_size:
            return None
        raise
    try:
        _require_memory(path, image.size, len(image.getbands()), large_values=image.mode in ("I", "F"))
    except DataError:
        image.close()
        raise
    return image


@contextmanager
def _any_size() -> Iterator[None]:
    """Context in which Pillow opens images of any size. Its limit protects servers from files that users send.

    The limit is a global of Pillow, and other code of the same program may rely on it; so it is lifted for the moment
    of opening only, in which no pixel is decoded.
    """
    with _OPENING:
        usual = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def _require_memory(path: Path, size: tuple[int, int], bands: int, *, large_values: bool = False) -> None:
    """Refuse an image that would not fit into memory, before anything is decoded."""
    width, height = size
    value = 1
    if large_values:
        value = 4
    needed = width * height * bands * value * _COPIES
    total = total_memory()
    if total is not None and needed > total * _MOST_OF_MEMORY:
        raise DataError(
            f"{path}: is {width}×{height} pixels, and decoding it takes {needed / 2**30:.1f} GiB; this machine has "
            f"{total / 2**30:.1f} GiB, of which one image may take half. Shrink it, or use a larger machine"
        )


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Context in which every failure of a decoder becomes an error that names the file."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into memory; shrink it, or use a larger machine") from error
    # Decoders raise whatever their parsers trip over in a damaged file, `IndexError` and `AttributeError` included.
    except Exception as error:
        if not path.exists():
            raise Undecodable(f"{path}: no such file") from error
        reason = str(error).replace(f" {str(path)!r}", "") or type(error).__name__
        raise Undecodable(
            f"{path}: cannot be decoded ({reason}); restore the file from its source, or remove what uses it"
        ) from error


def _decode(path: Path, colours: bool, least: int | None, *, deep: bool) -> Decoded:
    """Decode any file but EXR."""
    image = _open(path)
    if image is None:
        return _from_values(path, _read_with_opencv(path), colours=colours)
    with image:
        if least is not None and image.format == "JPEG":
            # JPEG decodes at a half, a quarter or an eighth straight from its coefficients.
            factor = _block(image.size, least)
            image.draft(image.mode, (image.size[0] // factor, image.size[1] // factor))
        # What the header tells is read before the pixels, because decoding clears the decoder's instructions.
        raw_mode = _raw_mode(image)
        orientation = image.getexif().get(_ORIENTATION, 1)
        flash = _flash_fired(image)
        image.load()
        if image.mode == "F" or image.mode.startswith("I"):
            values = np.asarray(image)
            if image.mode != "F":
                values = _whole_numbers(path, image, raw_mode, values)
            return _from_values(path, _turned(values, orientation), colours=colours)
        layers = _layers(image, path)
        shown, note = layers[0], ""
        if colours and "icc_profile" in image.info:
            shown, note = _to_srgb(layers[0], image.info["icc_profile"])
        if shown.mode == "CMYK":
            shown = shown.convert("RGB")
        low = None
        if _is_deep_colour(raw_mode):
            low = _low_bytes(path, layers)
        if low is not None:
            least = None  # there is a low byte for every pixel
        arrays = [_array(shown, least, deep=deep)]
        if len(layers) == 2:
            arrays.append(_array(layers[1], least, deep=deep))
    if low is not None:
        for index, residual in enumerate(low):
            # A profile was applied to the high bytes alone; it hardly changes the differences that low bytes make.
            values = arrays[index].astype(np.int32) * 257 + residual
            arrays[index] = values.clip(0, _LARGEST_16_BIT).astype(np.uint16)
    if raw_mode.startswith("LA") and not colours:
        arrays[0] = arrays[0][..., :1]  # Pillow repeats the grey of a 16-bit PNG with alpha
    turned = [_turned(array, orientation) for array in arrays]
    alpha = None
    if len(turned) == 2:
        alpha = turned[1]
    return Decoded(turned[0], alpha, note, flash)


def _flash_fired(image: Image.Image) -> bool | None:
    """Whether a photo's EXIF block says that the flash fired; None when it says nothing.

    Source: CIPA DC-008 (Exif 2.32), tag Flash.
    """
    try:
        value = image.getexif().get_ifd(_EXIF).get(_FLASH)
    except Exception:
        # Pillow raises many kinds of errors for damaged blocks, and the pixels do not depend on them.
        return None
    if not isinstance(value, int):
        return None
    return bool(value & 1)


def _block(size: tuple[int, ...], least: int) -> int:
    """Side of the largest blocks that may be averaged so that the shorter side keeps `least` pixels."""
    return max(1, min(size) // least)


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror pixels as EXIF's orientation tells, 1 to 8.

    Source: CIPA DC-008 (Exif 2.32), tag Orientation.
    """
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    quarters = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    turned: Pixels = np.rot90(pixels, quarters)
    return turned


def _layers(image: Image.Image, path: Path) -> list[Image.Image]:
    """Return a decoded image as `L`, `RGB` or `CMYK`, followed by its alpha when it has transparency."""
    transparent = "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    if transparent or image.mode in ("PA", "RGBa"):
        image = image.convert("RGBA")  # keeps the colours of a palette beside its alpha, which Pillow otherwise blends
    elif image.mode == "La":
        image = image.convert("LA")
    elif image.mode in _PLAIN:
        image = image.convert(_PLAIN[image.mode])
    elif image.mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        image = ImageCms.applyTransform(image, transform) or image
    if image.mode in ("LA", "RGBA"):
        # The colour channels as they are: alpha is split off, not blended.
        bands = image.split()
        if image.mode == "LA":
            return [bands[0], bands[1]]
        return [Image.merge("RGB", bands[:3]), bands[3]]
    if image.mode not in _PROFILE_SPACES:
        raise DataError(f"{path}: images of mode {image.mode!r} are not supported; save it as 8-bit RGB or as grey")
    return [image]


def _to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """Convert an image by its embedded profile; return it with a note when the profile cannot be used."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space != _PROFILE_SPACES[image.mode]:
            return image, f"its colour profile is made for {space} and the image is {image.mode}; taken as sRGB"
        if image.mode == "RGB" and "srgb" in (source.profile.profile_description or "").lower():
            return image, ""
        target = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform = ImageCms.buildTransform(source, target, image.mode, "RGB", intent)
        converted = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return image, f"its colour profile cannot be read ({error}); taken as sRGB"
    if converted is None:
        return image, "its colour profile cannot be applied; taken as sRGB"
    if image.mode == "L":
        return converted.getchannel("G"), ""  # grey in sRGB is three equal channels
    return converted, ""


def _array(image: Image.Image, least: int | None, *, deep: bool = False) -> Pixels:
    """Return the pixels of an `L` or `RGB` image `(H, W, C)`, averaged over blocks where `least` allows it."""
    width, height = image.size
    factor = 1
    if least is not None:
        factor = _block(image.size, least)
    if factor == 1:
        return np.asarray(image).reshape(height, width, -1)
    # In strips: the array of a whole photo would take its memory a second time.
    rows = factor * max(1, _STRIP // factor)
    strips = []
    for top in range(0, height - factor + 1, rows):
        bottom = min(top + rows, height)
        strip = np.asarray(image.crop((0, top, width, bottom))).reshape(bottom - top, width, -1)
        strips.append(average_blocks(strip, factor, deep=deep))
    return np.concatenate(strips)


def _raw_mode(image: Image.Image) -> str:
    """How the decoder is told to read samples, such as `RGB;16B`; empty when it is not told."""
    tiles: list[Any] = getattr(image, "tile", [])  # Pillow's types hide it
    if not tiles:
        return ""
    arguments = tiles[0].args
    if isinstance(arguments, tuple) and arguments:
        arguments = arguments[0]
    return str(arguments)


def _is_deep_colour(raw_mode: str) -> bool:
    """Whether Pillow keeps only the high bytes of such 16-bit channels."""
    return ";16" in raw_mode and not raw_mode.startswith("I")


def _low_bytes(path: Path, layers: list[Image.Image]) -> list[npt.NDArray[np.int32]] | None:
    """What the low bytes of 16-bit channels add to the high bytes times 257; None where they cannot be had.

    OpenCV decodes such files whole, but it ignores profiles and may return part of a truncated file. So its values
    count only where Pillow has decoded the file, and only if the high bytes of both are equal.
    """
    values = _read_with_opencv(path)
    if values.dtype != np.uint16:
        return None
    parts = [np.atleast_3d(values)[..., :3]]
    if values.ndim == 3:
        parts.append(values[..., 3:])
    residuals = []
    for layer, part in zip(layers, parts, strict=False):
        high = _array(layer, None)
        if not np.array_equal(np.broadcast_to(high, part.shape), part >> 8):
            return None
        residuals.append(part.astype(np.int32) - high.astype(np.int32) * 257)
    return residuals


def _read_with_opencv(path: Path) -> Pixels:
    """Decode the values of a file as they are, `(H, W)` or `(H, W, 3 or 4)`, red first, not turned.

    Raises:
        OSError: It cannot be decoded.
    """
    import cv2  # on use: few files need it, and importing it takes long

    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it prints warnings about unknown tags
    try:
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise OSError(str(error)) from error
    finally:
        cv2.utils.logging.setLogLevel(level)
    if values is None:
        raise OSError("damaged, or of a kind that no decoder knows; a PNG of the same image would be read")
    if values.ndim == 3 and values.shape[2] >= 3:
        order = [2, 1, 0, 3][: values.shape[2]]
        values = values[..., order]
    return values


def _tiff_tag(image: Image.Image, tag: int, default: int) -> int:
    """First value of a tag; the default for other formats."""
    tags: Any = getattr(image, "tag_v2", {})
    value = tags.get(tag, default)
    if isinstance(value, tuple):
        return int(value[0])
    return int(value)


def _whole_numbers(path: Path, image: Image.Image, raw_mode: str, values: Pixels) -> npt.NDArray[np.uint16]:
    """Scale whole numbers of a grey image to 16 bits, by the largest value of their type.

    Raises:
        DataError: The numbers do not say which scale they have.
    """
    bits = _tiff_tag(image, _BITS_PER_SAMPLE, 16)
    signed = _tiff_tag(image, _SAMPLE_FORMAT, 1) == _SIGNED
    if "12" in raw_mode:
        bits = 12
    if bits == 32 and not signed:
        values = values.astype(np.int32).view(np.uint32)  # Pillow has no unsigned type of 32 bits
    largest = 2 ** (bits - int(signed)) - 1
    if largest == _LARGEST_16_BIT:
        return values.clip(0, _LARGEST_16_BIT).astype(np.uint16)
    if bits == 32 and 0 < values.max() <= _LARGEST_16_BIT:
        raise DataError(
            f"{path}: has 32 bits, but no value above {values.max()}, so it would be black; save it with 16 bits"
        )
    scaled: npt.NDArray[np.uint16] = np.rint(values.clip(0).astype(np.float64) * (_LARGEST_16_BIT / largest)).astype(
        np.uint16
    )
    return scaled


def _from_values(path: Path, values: Pixels, *, colours: bool) -> Decoded:
    """Bring values of any type, `(H, W)` or `(H, W, C)`, to 8 or 16 bits.

    Raises:
        DataError: Values are not finite, or outside the range of a map.
    """
    if np.issubdtype(values.dtype, np.floating):
        return _from_floats(path, values, colours=colours)
    if values.dtype not in (np.uint8, np.uint16):
        largest = np.iinfo(values.dtype).max
        values = np.rint(values.clip(0).astype(np.float64) * (_LARGEST_16_BIT / largest)).astype(np.uint16)
    return _with_alpha(values)


def _from_floats(path: Path, values: Pixels, *, colours: bool) -> Decoded:
    """Bring floating-point values to 16 bits; colours are linear, and encoded as sRGB."""
    decoded = _with_alpha(values.astype(np.float32))
    pixels = decoded.pixels
    if np.isnan(pixels).any():
        raise DataError(f"{path}: contains NaN; save it again from its source")
    alpha = None
    if decoded.alpha is not None:
        alpha = _to_16_bits(decoded.alpha)
    if colours:
        return Decoded(_to_16_bits(encode_srgb(pixels.clip(0, 1))), alpha)
    low = float(pixels.min())
    high = float(pixels.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise DataError(
            f"{path}: holds floating-point values from {low:.3g} to {high:.3g}, and those of a map are from 0 to 1; "
            "scale them, and save it as a 16-bit PNG"
        )
    return Decoded(_to_16_bits(pixels), alpha)


def _with_alpha(values: Pixels) -> Decoded:
    """Split `(H, W)`, or `(H, W, 1 to 4)`, into colours and alpha."""
    if values.ndim == 2:
        return Decoded(values[..., None])
    channels = values.shape[2]
    if channels in (2, 4):
        return Decoded(values[..., :-1], values[..., -1:])
    return Decoded(values[..., :3])


def _to_16_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    return np.rint(values.clip(0, 1) * np.float32(_LARGEST_16_BIT)).astype(np.uint16)


def encode_srgb(linear: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Encode linear values in [0, 1] as sRGB, any shape.

    Source: IEC 61966-2-1.
    """
    curved = np.float32(1.055) * np.maximum(linear, np.float32(1e-8)) ** np.float32(1 / 2.4) - np.float32(0.055)
    encoded: npt.NDArray[np.float32] = np.where(linear <= 0.0031308, linear * np.float32(12.92), curved)
    return encoded


def decode_srgb(encoded: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Decode sRGB values in [0, 1] to linear ones, any shape.

    Source: IEC 61966-2-1.
    """
    curved = ((encoded + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    linear: npt.NDArray[np.float32] = np.where(encoded <= 0.04045, encoded / np.float32(12.92), curved)
    return linear


def _exr_header(path: Path) -> tuple[int, int, list[str]]:
    """Width, height and channel names of an EXR file."""
    try:
        import OpenEXR  # on use: it is an extra
    except ImportError as error:
        raise DataError(f"{path}: {why_unread(path.name)}") from error
    with _errors_of(path):
        if not path.is_file():
            raise FileNotFoundError
        header = OpenEXR.File(str(path), header_only=True).parts[0].header
        (left, top), (right, bottom) = header["dataWindow"]
        names = [channel.name for channel in header["channels"]]
        return int(right - left) + 1, int(bottom - top) + 1, names


def _decode_exr(path: Path, *, colours: bool) -> Decoded:
    width, height, names = _exr_header(path)
    _require_memory(path, (width, height), len(names), large_values=True)
    import OpenEXR

    with _errors_of(path):
        stored = OpenEXR.File(str(path), separate_channels=True).parts[0].channels
        planes = {name: channel.pixels for name, channel in stored.items()}
        order = ["R", "G", "B"]
        if "R" not in planes:
            order = [name for name in planes if name != "A"]  # grey is called Y, or V by Blender
        if len(order) not in (1, 3) or not set(order) <= planes.keys():
            raise DataError(f"{path}: has the channels {', '.join(planes)}; save it as RGB or as grey")
        values = np.stack([planes[name].astype(np.float32) for name in order], axis=2)
        if "A" in planes:
            alpha = planes["A"].astype(np.float32)[..., None]
            # EXR's colours are multiplied by alpha by custom.
            values = np.where(alpha > 0, values / np.where(alpha > 0, alpha, 1), values)
            values = np.concatenate((values, alpha), axis=2)
    return _from_floats(path, values, colours=colours)
