"""Reads environments from Radiance files (`.hdr`, `.rgbe`, `.pic`), equirectangular with the horizon in the middle."""

import re
from pathlib import Path

import cv2
import numpy as np
import torch

from neuropbr_core.data.layout.findings import raise_problems
from neuropbr_core.errors import DataError
from neuropbr_core.materials.environments import Environment, environment_from_map
from neuropbr_core.reading import read_bytes

SUFFIXES = (".hdr", ".rgbe", ".pic")
_LARGEST_FILE = 2**30
_LARGEST_SIDE = 32768
_LONGEST_HEADER = 16384
_SIZE = re.compile(rb"\n\n-Y (?P<height>\d{1,9}) \+X (?P<width>\d{1,9})\n")
"""The line behind the header: rows from top to bottom, columns from left to right.

Source: Ward 1991, "Real Pixels", Graphics Gems II; Radiance's `picture` file format."""

_SIGNATURES = (b"#?RADIANCE", b"#?RGBE")


def find_environments(folder: Path) -> dict[str, Path]:
    """List the radiance maps of a folder, by file name.

    Raises:
        DataError: There is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder of equirectangular .hdr files")
    files = {}
    for path in sorted(folder.iterdir()):  # sorted: captures draw an environment by its place in the list
        if path.suffix.lower() in SUFFIXES:
            files[path.name] = path
    if not files:
        raise DataError(f"{folder}: holds no radiance map; allowed: {', '.join(SUFFIXES)}, equirectangular")
    return files


def read_environments(files: dict[str, Path]) -> dict[str, Environment]:
    """Read radiance maps and prepare them to light a plane.

    Raises:
        DataError: Some cannot be read or used. The message lists all of them.
    """
    environments = {}
    problems = []
    for name, path in files.items():
        try:
            environments[name] = read_environment(path)
        except DataError as error:
            problems.append(str(error))
    raise_problems(problems)
    return environments


def read_environment(path: Path) -> Environment:
    """Read one radiance map.

    Args:
        path: A Radiance file: run-length encoded or flat RGBE, rows from top to bottom, twice as wide as high. Its
            exposure is ignored.

    Raises:
        DataError: The file is missing, damaged, or of another format or shape, or the environment is dark.
    """
    pixels = _decode(path)
    height, width = pixels.shape[:2]
    if width != 2 * height:
        raise DataError(f"{path}: is {width}×{height} pixels; an equirectangular map is twice as wide as high")
    # A picture of the sphere shows it from within, so the azimuth grows to the left: the columns are reversed. The
    # channels are reversed too, from OpenCV's BGR to RGB.
    radiance = torch.from_numpy(np.ascontiguousarray(pixels[:, ::-1, ::-1].transpose(2, 0, 1)))
    try:
        return environment_from_map(radiance)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _decode(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Decode linear radiance, `(H, W, 3)` in the order blue, green, red."""
    try:
        content = read_bytes(path, largest=_LARGEST_FILE)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not content.startswith(_SIGNATURES):
        raise DataError(f"{path}: is no Radiance file (these begin with #?RADIANCE); convert it to .hdr")
    # Before OpenCV allocates what the header claims; a header of a hundred bytes may claim any size.
    size = _SIZE.search(content[:_LONGEST_HEADER])
    if size is None or max(int(size["height"]), int(size["width"])) > _LARGEST_SIDE:
        raise DataError(
            f"{path}: states no size like `-Y 512 +X 1024`, or one above {_LARGEST_SIDE} pixels; convert it anew, with "
            f"rows from top to bottom"
        )
    # OpenCV prints about damaged files; the error below tells the user the same.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(f"{path}: cannot be decoded ({error.err}); it is damaged") from error
    finally:
        cv2.utils.logging.setLogLevel(level)
    # OpenCV reports a file that it cannot decode by returning nothing, not by raising.
    if pixels is None or pixels.dtype != np.float32 or pixels.ndim != 3:
        raise DataError(f"{path}: cannot be decoded; it is damaged or cut off, or stored as XYZE or turned")
    return pixels.astype(np.float32, copy=False)
