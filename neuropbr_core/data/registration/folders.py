"""Photos in folders, registered: one folder of photos, or every sample of a dataset."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from neuropbr_core.data.images.read import read_map, read_view
from neuropbr_core.data.layout.cameras_file import CameraRecord
from neuropbr_core.data.layout.metadata import read_metadata
from neuropbr_core.data.layout.paths import METADATA_NAME, list_photos, sample_folders
from neuropbr_core.data.registration.register import Registration, register_photos
from neuropbr_core.errors import DataError
from neuropbr_core.machine import cores
from neuropbr_core.maps import ALBEDO
from neuropbr_core.reporting import track


@dataclass(frozen=True)
class Aligned:
    """What became of some sets of photos.

    Attributes:
        registrations: By folder name.
        problems: One line for each photo that was refused, or cannot be read.
    """

    registrations: dict[str, Registration]
    problems: list[str]

    @property
    def cameras(self) -> dict[str, tuple[CameraRecord, ...]]:
        """Cameras by folder name, as `cameras_file.write_cameras` takes them."""
        return {name: registration.cameras for name, registration in self.registrations.items()}


class PhotoSet(NamedTuple):
    """Photos of one material, and its true albedo where there is one.

    Attributes:
        photos: The files, the first one taken from straight above.
        albedo: The albedo map's file.
    """

    photos: tuple[Path, ...]
    albedo: Path | None = None


def register_files(found: PhotoSet) -> Registration:
    """Register photos in files.

    Raises:
        DataError: Files are missing or damaged, or photos cannot be registered.
    """
    if found.albedo is None:
        texture = None
    else:
        texture = read_map(found.albedo, ALBEDO)
    return register_photos([read_view(path) for path in found.photos], [str(path) for path in found.photos], texture)


def register_sets(sets: Sequence[PhotoSet]) -> Iterator[Registration | str]:
    """Register several sets of photos side by side.

    Yields:
        For each set, in order, its registration, or what is wrong with it, a line for each photo.
    """
    pool = ThreadPoolExecutor(cores())  # OpenCV and Pillow work without the interpreter's lock
    try:
        yield from track(pool.map(_try_to_register, sets), len(sets), "registering photos")
    finally:
        pool.shutdown(cancel_futures=True)


def _try_to_register(found: PhotoSet) -> Registration | str:
    try:
        return register_files(found)
    except DataError as error:
        return str(error)


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a dataset's root, not a folder of photos."""
    return (folder / "input").is_dir()


def align_folder(folder: Path) -> Aligned:
    """Register the photos of one folder, in the order of their names.

    Raises:
        DataError: The folder is missing or holds no photos.
    """
    return _align({folder.resolve().name: PhotoSet(list_photos(folder))})


def align_dataset(root: Path) -> Aligned:
    """Register the photos of every sample below `ROOT/input` to the material's true albedo, where it is known.

    The clean photos of a sample stand for its dirty ones, which are the same with artefacts.

    Args:
        root: The dataset.

    Raises:
        DataError: There are no samples, or a folder holds no photos.
    """
    folders = {
        folder.name: folder for source in ("dirty", "clean") for folder in sample_folders(root / "input" / source)
    }
    if not folders:
        raise DataError(f"{root}: holds no input/clean/sample_* folders; name a dataset, or a folder of photos")
    metadata, _ = read_metadata(root / "input" / METADATA_NAME)
    albedos = {
        name: root / "output" / material / ALBEDO.file_name
        for name, material in (metadata or {}).items()
        if (root / "output" / material / ALBEDO.file_name).is_file()
    }
    return _align({name: PhotoSet(list_photos(folder), albedos.get(name)) for name, folder in sorted(folders.items())})


def _align(sets: Mapping[str, PhotoSet]) -> Aligned:
    named = dict(zip(sets, register_sets(list(sets.values())), strict=True))
    registrations = {name: result for name, result in named.items() if isinstance(result, Registration)}
    problems = [line for result in named.values() if isinstance(result, str) for line in result.splitlines()]
    return Aligned(registrations, problems)
