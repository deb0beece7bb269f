"""Opens image files, those of phones (HEIC) included where the library that reads them is installed."""

from pathlib import Path

from PIL import Image

from neuropbr_core.errors import DataError

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
