"""Registers photos in folders: one folder of photos, or every sample of a dataset."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from neuropbr_core.data.images import read_map, read_photo
from neuropbr_core.data.layout.paths import (
    CONDITIONS,
    METADATA_NAME,
    CameraRecord,
    list_photos,
    read_metadata,
    sample_folders,
)
from neuropbr_core.data.registration.register import Registration, register_photos
from neuropbr_core.errors import DataError
from neuropbr_core.maps import ALBEDO
from neuropbr_core.parallel import cores
from neuropbr_core.reporting import track


@dataclass(frozen=True)
class Alignment:
    """The outcome of registering several sets of photos.

    Attributes:
        registrations: Registrations by folder name.
        problems: One line for each photo that was refused, or cannot be read.
    """

    registrations: dict[str, Registration]
    problems: list[str]

    @property
    def cameras(self) -> dict[str, tuple[CameraRecord, ...]]:
        """Cameras by folder name, as `layout.paths.write_cameras` takes them."""
        cameras = {}
        for name, registration in self.registrations.items():
            cameras[name] = registration.cameras
        return cameras


class PhotosOfSample(NamedTuple):
    """Photos of one material, and its true albedo where there is one.

    Attributes:
        photos: The files, the first one taken from straight above.
        albedo: The albedo map's file.
    """

    photos: tuple[Path, ...]
    albedo: Path | None = None


def register_files(photo_set: PhotosOfSample) -> Registration:
    """Register photos in files.

    Raises:
        DataError: Files are missing or damaged, or photos cannot be registered.
    """
    texture = None
    if photo_set.albedo is not None:
        texture = read_map(photo_set.albedo, ALBEDO)
    # As inference reads them: shrunk while they are read, and with nothing to match under transparent pixels.
    photos = [read_photo(path).pixels for path in photo_set.photos]
    return register_photos(photos, list(map(str, photo_set.photos)), texture)


def register_sets(sets: Sequence[PhotosOfSample]) -> Iterator[Registration | str]:
    """Register several sets of photos side by side.

    Yields:
        For each set, in order, its registration; or a text with one line for each photo that is refused.
    """
    pool = ThreadPoolExecutor(cores())  # OpenCV and Pillow work without the interpreter's lock
    try:
        yield from track(pool.map(_try_to_register, sets), len(sets), "registering photos")
    finally:
        pool.shutdown(cancel_futures=True)


def _try_to_register(photo_set: PhotosOfSample) -> Registration | str:
    # An error becomes a result: raised in a thread, it would end the registration of all other sets.
    try:
        return register_files(photo_set)
    except DataError as error:
        return str(error)


def is_dataset(folder: Path) -> bool:
    """Whether a folder is the root of a dataset, as opposed to a folder of photos."""
    return (folder / "input").is_dir()


def align_folder(folder: Path) -> Alignment:
    """Register the photos of one folder, in the order of their names.

    Raises:
        DataError: The folder is missing or holds no photos.
    """
    # Resolved, because `.` has no name.
    return _align({folder.resolve().name: PhotosOfSample(list_photos(folder))})


def align_dataset(root: Path) -> Alignment:
    """Register the photos of every sample below `ROOT/input`, to the material's true albedo if it is known.

    Clean photos are registered if a sample has them; its dirty photos have the same cameras.

    Args:
        root: The dataset.

    Raises:
        DataError: There are no samples, or a folder holds no photos.
    """
    folders = {}
    for condition in reversed(CONDITIONS):  # clean comes last, and so replaces dirty
        for folder in sample_folders(root / "input" / condition):
            folders[folder.name] = folder
    if not folders:
        raise DataError(f"{root}: holds no input/clean/sample_* folders; name a dataset, or a folder of photos")
    # Problems of the metadata do not matter here: without it, photos are registered to the first one alone.
    metadata, _ = read_metadata(root / "input" / METADATA_NAME)
    sets = {}
    for name, folder in sorted(folders.items()):
        albedo = None
        if metadata is not None and name in metadata:
            file = root / "output" / metadata[name] / ALBEDO.file_name
            if file.is_file():
                albedo = file
        sets[name] = PhotosOfSample(list_photos(folder), albedo)
    return _align(sets)


def _align(sets: Mapping[str, PhotosOfSample]) -> Alignment:
    registrations = {}
    problems = []
    for name, result in zip(sets, register_sets(list(sets.values())), strict=True):
        if isinstance(result, Registration):
            registrations[name] = result
        else:
            problems += result.splitlines()
    return Alignment(registrations, problems)
