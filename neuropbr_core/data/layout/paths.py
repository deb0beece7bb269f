"""The folder layout of a dataset: what its files and folders are called.

ROOT/input/clean/sample_0000/{0,1,2}.png       views, as rendered or photographed
ROOT/input/dirty/sample_0000/{0,1,2}.png       the same with artefacts; optional
ROOT/input/render_metadata.json                {"sample_0000": "wood_oak", …}
ROOT/input/cameras.json                        optional; needed for recorded alignment
ROOT/input/cameras.estimated.json              written for estimated alignment; see `registration.stored`
ROOT/output/wood_oak/{albedo,roughness,metallic,normal}.png
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuropbr_core.data.images.heif import HEIF_SUFFIXES
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data

Condition = Literal["clean", "dirty"]
"""How a sample was captured. The folder below `input/` has the same name."""

CONDITIONS: tuple[Condition, ...] = ("clean", "dirty")

METADATA_NAME = "render_metadata.json"
CAMERAS_NAME = "cameras.json"
PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg", *HEIF_SUFFIXES)
IMAGE_SUFFIXES = (*PHOTO_SUFFIXES, ".webp", ".tif", ".tiff", ".tga", ".bmp", ".exr")
"""Suffixes by which a file is recognised as an image, readable here or not."""

# The numbers are the older spelling of the curricula. Clean comes first, so that samples are listed in that order.
_CURRICULA: dict[object, tuple[Condition, ...]] = {
    0: ("clean",),
    1: ("clean", "dirty"),
    2: ("dirty",),
    "clean": ("clean",),
    "mixed": ("clean", "dirty"),
    "dirty": ("dirty",),
}


@dataclass(frozen=True)
class Paths:
    """The places of a dataset's parts.

    Attributes:
        input: Folder of the conditions, which hold the samples.
        output: Folder of the materials.
        metadata: `render_metadata.json`.
        cameras: `cameras.json`, which need not exist.
    """

    input: Path
    output: Path
    metadata: Path
    cameras: Path


def locate(data: Data) -> Paths:
    """Return the places of the recipe's dataset. Nothing is read.

    Raises:
        DataError: The section names neither `root` nor both folders.
    """
    if data.root is None and (data.input_dir is None or data.output_dir is None):
        raise DataError("no dataset: set data.root, or data.input_dir and data.output_dir")
    root = Path(data.root or "")
    # A folder that is named on its own wins over its usual place below the root.
    input_folder = Path(data.input_dir or root / "input")
    output_folder = Path(data.output_dir or root / "output")
    metadata = Path(data.metadata or input_folder / METADATA_NAME)
    return Paths(input_folder, output_folder, metadata, input_folder / CAMERAS_NAME)


def conditions(data: Data) -> tuple[Condition, ...]:
    """Return the conditions that the curriculum reads."""
    if data.use_dirty:  # the older key for dirty samples alone
        return ("dirty",)
    return _CURRICULA[data.render_curriculum]


def sample_name(index: int) -> str:
    """Name of sample `index`'s folder."""
    return f"sample_{index:04d}"  # four digits at least: sorting by name keeps the order of up to 10,000 samples


def view_name(index: int) -> str:
    """Name of view `index`'s file."""
    return f"{index}.png"


def sample_folders(folder: Path) -> list[Path]:
    """List the sample folders below `input/clean` or `input/dirty`, by name."""
    return sorted(path for path in folder.glob("sample_*") if path.is_dir())


def list_photos(folder: Path) -> tuple[Path, ...]:
    """List the photos in a folder by name; numbers in names count as numbers, so that 10.png comes after 9.png.

    Raises:
        DataError: There is no such folder, or it holds no photo.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder with the photos or renders of one material")
    photos = []
    for path in folder.iterdir():
        hidden = path.name.startswith(".")  # such as the ._0.png that macOS leaves on foreign disks
        if path.suffix.lower() in PHOTO_SUFFIXES and not hidden:
            photos.append(path)
    if not photos:
        raise DataError(f"{folder}: holds no image; allowed: {', '.join(PHOTO_SUFFIXES)}")
    return tuple(sorted(photos, key=_by_number))


def map_files(folder: Path) -> dict[str, Path]:
    """Return the paths of the four maps in a material folder, by map name."""
    files = {}
    for name, spec in MAPS.items():
        files[name] = folder / spec.file_name
    return files


def missing_maps(folder: Path) -> str | None:
    """Describe which map files a material folder lacks; None when it is complete."""
    names = []
    missing = []
    for path in map_files(folder).values():
        names.append(path.name)
        if not path.is_file():
            missing.append(path.name)
    if not missing:
        return None
    text = f"{folder}: {', '.join(missing)} missing; a material folder needs {', '.join(names)}"
    # Downloaded sets often have the right maps as JPEG or with capitals, which the import can convert.
    if similar := misnamed(folder, missing):
        text += f". There is {similar}; `neuropbr data import` makes PNG files of the right names"
    return text


def misnamed(folder: Path, missing: list[str]) -> str:
    """List the images in a folder whose names differ from missing ones in capitals or suffix only."""
    stems = {Path(name).stem for name in missing}  # our own names, all in small letters
    similar = []
    for path in folder.iterdir():
        if path.stem.lower() in stems and path.suffix.lower() in IMAGE_SUFFIXES:
            similar.append(path.name)
    return ", ".join(sorted(similar))


def _by_number(path: Path) -> tuple[str, Path]:
    """Sort key in which numbers count as numbers."""
    # Padding makes numbers comparable as text. The path decides between names that differ in leading zeros only.
    padded = re.sub(r"\d+", lambda number: number[0].zfill(12), path.name)
    return padded, path
