"""The folder layout of a dataset: what its files and folders are called, and the two JSON files beside the images.

ROOT/input/clean/sample_0000/{0,1,2}.png       views, as rendered or photographed
ROOT/input/dirty/sample_0000/{0,1,2}.png       the same with artefacts; optional
ROOT/input/render_metadata.json                {"sample_0000": "wood_oak", …}
ROOT/input/cameras.json                        optional; needed for recorded alignment
ROOT/input/captures.json                       optional; the kind of each sample's capture
ROOT/input/cameras.estimated.json              written for estimated alignment; see `registration.stored`
ROOT/output/wood_oak/{albedo,roughness,metallic,normal}.png

The entries of a cameras file, one for each view:

    {"sample_0000": [{"homography": [[a, b, c], [d, e, f], [g, h, i]], "position": [x, y, z]}, …]}

`homography` maps texture coordinates (u, v, 1) to homogeneous view coordinates, both in [0, 1] with v down. `position`
is the camera in the world of `materials.cameras`: the texture is the unit square in z = 0 around the origin.
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from neuropbr_core import samples
from neuropbr_core.data.decoding import HEIF_SUFFIXES, IMAGE_SUFFIXES, READ_SUFFIXES, suffix_of, why_unread
from neuropbr_core.errors import DataError
from neuropbr_core.files import write_json
from neuropbr_core.maps import MAPS
from neuropbr_core.reading import DocumentError, is_plain_name, parse_plain, read_bytes, read_json
from neuropbr_core.recipe.sections import Data
from neuropbr_core.reporting import reporter
from neuropbr_core.shown import shortened

Condition = Literal["clean", "dirty"]
"""How a sample was captured. The folder below `input/` has the same name."""

CONDITIONS: tuple[Condition, ...] = ("clean", "dirty")

METADATA_NAME = "render_metadata.json"
CAMERAS_NAME = "cameras.json"
CAPTURES_NAME = "captures.json"

AUTO = "auto"
"""The curriculum that reads dirty samples where there are any, and clean ones otherwise."""

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
        captures: `captures.json`, which need not exist.
    """

    input: Path
    output: Path
    metadata: Path
    cameras: Path
    captures: Path


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
    return Paths(
        input=input_folder,
        output=output_folder,
        metadata=metadata,
        cameras=input_folder / CAMERAS_NAME,
        captures=input_folder / CAPTURES_NAME,
    )


def conditions(data: Data) -> tuple[Condition, ...]:
    """Return the conditions that the curriculum reads."""
    has_dirty = False
    if data.render_curriculum == AUTO:
        has_dirty = bool(sample_folders(locate(data).input / "dirty"))
    return chosen_conditions(data, has_dirty=has_dirty)


def chosen_conditions(data: Data, *, has_dirty: bool) -> tuple[Condition, ...]:
    """Return the conditions that the curriculum reads of a dataset.

    Args:
        data: Section `data`.
        has_dirty: Whether the dataset has dirty samples; only `auto` depends on it.
    """
    if data.use_dirty:  # the older key for dirty samples alone
        return ("dirty",)
    if data.render_curriculum == AUTO:
        if has_dirty:
            return ("dirty",)
        return ("clean",)
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

    Images that are not read are reported, each in a line: their format, or pipes and broken links with such a name.

    Raises:
        DataError: There is no such folder, or it holds no photo.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder with the photos or renders of one material")
    photos = []
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".")  # such as the ._0.png that macOS leaves on foreign disks
        suffix = suffix_of(path.name)
        if hidden or suffix not in IMAGE_SUFFIXES or path.is_dir():
            continue
        unread = why_unread(path.name)
        if not path.is_file():
            unread = "is no regular file, or a link to nothing"
        # HEIC files are photos, and maps predicted without them would be worse: reading them is an error with advice.
        if unread is None or (suffix in HEIF_SUFFIXES and path.is_file()):
            photos.append(path)
        else:
            reporter().line(f"{path}: not read: {unread}")
    if not photos:
        raise DataError(f"{folder}: holds no image that is read; allowed: {', '.join(READ_SUFFIXES)}")
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
        if path.stem.lower() in stems and suffix_of(path.name) in IMAGE_SUFFIXES:
            similar.append(path.name)
    return ", ".join(sorted(similar))


def _by_number(path: Path) -> tuple[str, Path]:
    """Sort key in which numbers count as numbers."""
    # Padding makes numbers comparable as text. The path decides between names that differ in leading zeros only.
    padded = re.sub(r"\d+", lambda number: number[0].zfill(12), path.name)
    return padded, path


_FORMAT = 'it must be a JSON object from sample folders to material folders, such as {"sample_0000": "wood_oak"}'


def read_metadata(path: Path) -> tuple[dict[str, str] | None, list[str]]:
    """Read the metadata of a dataset.

    Args:
        path: The JSON file.

    Returns:
        The material folder of each sample folder, and an empty list; or None and the reasons why the file is unusable.
    """
    if not path.exists():
        return None, [f"{path}: no such file; create it: {_FORMAT.removeprefix('it must be ')}"]
    try:
        metadata = parse_plain(read_bytes(path))
    except OSError as error:
        return None, [f"{path}: cannot be read ({error.strerror}); {_FORMAT}"]
    except DocumentError as error:
        return None, [f"{path}: {error}; {_FORMAT}"]
    if not isinstance(metadata, dict):
        return None, [f"{path}: is a JSON {type(metadata).__name__}; {_FORMAT}"]
    problems = []
    for name, material in metadata.items():
        # A file from a stranger must not make us read, or the quarantine move, a folder outside the dataset.
        if not is_plain_name(material):
            shown = shortened(repr(material))
            problems.append(f"{path}: {shortened(name)}: {shown} is not the name of a material folder")
    if problems:
        return None, problems
    return metadata, []


CameraRecord = samples.CameraRecord


def read_cameras(path: Path) -> dict[str, tuple[CameraRecord, ...]]:
    """Read and check a cameras file.

    Args:
        path: The JSON file.

    Returns:
        Cameras by sample name, in the order of the views.

    Raises:
        DataError: The file is missing, malformed, or holds cameras that cannot be; all of these at once.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file; recorded alignment needs the cameras of every sample")
    # Typed reading checks that every matrix is 3×3 and every position has three numbers.
    cameras = read_json(
        path, dict[str, tuple[CameraRecord, ...]], DataError, "see the format in `neuropbr_core.data.layout.paths`"
    )
    problems = []
    # Types cannot tell whether a camera is possible; an impossible one would give infinite or mirrored directions.
    for name, records in cameras.items():
        for view, record in enumerate(records):
            if problem := _problem(record):
                problems.append(f"{path}: {shortened(name)}, view {view}: {problem}")
    if problems:
        raise DataError("\n".join(problems))
    return cameras


def write_cameras(path: Path, cameras: dict[str, tuple[CameraRecord, ...]]) -> None:
    """Write a cameras file, sorted by sample, in one step."""
    write_json(path, dict(sorted(cameras.items())))


def record_camera(homography: ArrayLike, position: ArrayLike) -> CameraRecord:
    """Return the record of a camera from its 3×3 matrix and its three coordinates."""
    # `convert` checks the numbers of rows and columns, which the constructor of a struct does not.
    return msgspec.convert(
        {"homography": np.asarray(homography, float).tolist(), "position": np.asarray(position).tolist()}, CameraRecord
    )


def _problem(record: CameraRecord) -> str | None:
    """Describe what is impossible about a camera; None for a possible camera."""
    matrix = np.array(record.homography)
    if record.position[2] <= 0:
        return f"position z is {record.position[2]:g}; the camera is in front of the texture, z > 0"
    # A homography is defined up to its scale, so its largest entry is made 1 before the determinant is judged.
    if abs(np.linalg.det(matrix / max(np.abs(matrix).max(), 1e-12))) < 1e-9:
        return "the homography cannot be inverted"
    # w is linear in (u, v): if it is positive at the corners, it is positive over the whole texture.
    depths = []
    for u, v in itertools.product((0, 1), repeat=2):
        depths.append(float(matrix[2] @ (u, v, 1.0)))
    if min(depths) <= 0:
        return "the homography puts a corner of the texture behind the camera (w <= 0); negate it if all are negative"
    return None
