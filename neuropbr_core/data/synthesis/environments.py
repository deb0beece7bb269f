"""Environments from folders of Radiance files (`.hdr`, `.rgbe`, `.pic`), equirectangular, the horizon in the middle."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch

from neuropbr_core.data.layout.scan import raise_problems
from neuropbr_core.errors import DataError
from neuropbr_core.materials.environments import Environment, environment_from_map

SUFFIXES = (".hdr", ".rgbe", ".pic")
_SIGNATURES = (b"#?RADIANCE", b"#?RGBE")


def find_environments(folder: Path) -> dict[str, Path]:
    """List the radiance maps of a folder, by file name.

    Raises:
        DataError: There is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder of equirectangular .hdr files")
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            found[path.name] = path
    if not found:
        raise DataError(f"{folder}: holds no radiance map; allowed: {', '.join(SUFFIXES)}, equirectangular")
    return found


def read_environments(files: dict[str, Path]) -> dict[str, Environment]:
    """Read radiance maps and make them ready to light a plane.

    Raises:
        DataError: Some cannot be read or used; all of them at once.
    """
    found = {}
    problems = []
    for name, path in files.items():
        try:
            found[name] = read_environment(path)
        except DataError as error:
            problems.append(str(error))
    raise_problems(problems)
    return found


def read_environment(path: Path) -> Environment:
    """Read one radiance map.

    Args:
        path: A Radiance file: run-length encoded or flat RGBE, rows from top to bottom, twice as wide as high. Its
            exposure means nothing.

    Raises:
        DataError: It is missing, damaged, of another format or shape, or no light.
    """
    pixels = _decode(path)
    height, width = pixels.shape[:2]
    if width != 2 * height:
        raise DataError(f"{path}: is {width}×{height} pixels; an equirectangular map is twice as wide as high")
    # Pictures of the sphere are seen from within: azimuth grows to the left.
    radiance = torch.from_numpy(np.ascontiguousarray(pixels[:, ::-1, ::-1].transpose(2, 0, 1)))
    try:
        return environment_from_map(radiance)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _decode(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Blue, green, red of every pixel, linear."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not content.startswith(_SIGNATURES):
        raise DataError(f"{path}: is no Radiance file (these begin with #?RADIANCE); convert it to .hdr")
    with _silent():
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.float32 or pixels.ndim != 3:
        raise DataError(f"{path}: cannot be decoded; it is damaged or cut off, or stored as XYZE or turned")
    return pixels.astype(np.float32, copy=False)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep OpenCV from writing about damaged files; the error that follows says it."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
