"""A folder of photos or renders of one material, with their cameras when there are any."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from neuropbr_core.data.images.read import read_view
from neuropbr_core.data.layout.cameras_file import CameraRecord, read_cameras
from neuropbr_core.data.layout.paths import CAMERAS_NAME, list_photos
from neuropbr_core.errors import DataError
from neuropbr_core.exporting import PhotoSet
from neuropbr_core.reporting import reporter


@dataclass(frozen=True)
class ViewSet:
    """The views of one material.

    Attributes:
        paths: The image files, in order.
        images: sRGB-encoded in [0, 1], each `(3, h, w)` at its own size.
        homographies: `(V, 3, 3)`, texture -> view in [0, 1]² coordinates, or None without cameras.
        positions: Camera positions `(V, 3)` in tile sides, or None.
        confidence: For cameras that were estimated, how far each photo agrees with the first, in [0, 1]; else None.
    """

    paths: tuple[Path, ...]
    images: tuple[Tensor, ...]
    homographies: Tensor | None = None
    positions: Tensor | None = None
    confidence: tuple[float, ...] | None = None

    @property
    def folder(self) -> Path:
        """Folder of the images."""
        return self.paths[0].parent

    @property
    def photos(self) -> PhotoSet:
        """The images with their cameras, to prepare a model's inputs from."""
        return PhotoSet(self.images, self.homographies, self.positions)


def read_views(folder: str | Path, cameras: str | Path | None = None) -> ViewSet:
    """Read all images of a folder, sorted by name (10.png comes after 9.png), and their cameras.

    Cameras are looked for in `cameras`, else in `FOLDER/cameras.json`, else, for a folder of a dataset
    (`input/clean/sample_0000`), in the dataset's `input/cameras.json`. The file names each set by its folder.

    Args:
        folder: Folder with at least one PNG, JPEG or (with `pillow-heif`) HEIC.
        cameras: The cameras file, in the format of `neuropbr_core.data.layout.cameras_file`.

    Raises:
        DataError: The folder is missing or empty, an image is damaged, or the cameras do not fit the images.
    """
    folder = Path(folder)
    cameras = Path(cameras) if cameras is not None else None
    paths = list_photos(folder)
    images = tuple(torch.from_numpy(read_view(path)).float() / 255 for path in paths)
    records = _find_cameras(folder, cameras)
    if records is None:
        return ViewSet(paths, images)
    if len(records) != len(paths):
        raise DataError(f"{folder}: has {len(paths)} images, but its cameras file has {len(records)} cameras for it")
    return _with_cameras(ViewSet(paths, images), records)


def read_capture(folder: str | Path, cameras: str | Path | None = None, *, register: bool) -> ViewSet:
    """Read a folder's views and, when nothing says where they were taken from, find it out from the photos.

    Args:
        folder: See `read_views`.
        cameras: See `read_views`.
        register: Whether cameras are needed.

    Raises:
        DataError: The views cannot be read or registered.
    """
    views = read_views(folder, cameras)
    if not register or views.homographies is not None:
        return views
    reporter().line(f"no cameras found: registering the photos to {views.paths[0].name}")
    views = register_views(views)
    for path, share in zip(views.paths, views.confidence or (), strict=True):
        reporter().line(f"  {path.name}: confidence {share:.2f}")
    return views


def register_views(views: ViewSet) -> ViewSet:
    """Find out from the photos alone where each was taken from.

    The first photo is taken from straight above; its centred square becomes the texture. Cameras that the set has are
    replaced.

    Args:
        views: Photos of one material.

    Returns:
        The same photos with cameras, and a confidence for each.

    Raises:
        DataError: Photos cannot be registered; one line for each, with what to do.
    """
    from neuropbr_core.data.registration.register import register_photos

    photos = []
    for image in views.images:
        photos.append((image * 255).round().to(torch.uint8).numpy())
    found = register_photos(photos, [str(path) for path in views.paths])
    return replace(_with_cameras(views, found.cameras), confidence=found.confidence)


def _with_cameras(views: ViewSet, records: tuple[CameraRecord, ...]) -> ViewSet:
    homographies = torch.tensor([record.homography for record in records])
    return replace(views, homographies=homographies, positions=torch.tensor([record.position for record in records]))


def _find_cameras(folder: Path, given: Path | None) -> tuple[CameraRecord, ...] | None:
    folder = folder.resolve()
    if given:
        candidates = [given]
    else:
        candidates = [folder / CAMERAS_NAME, folder.parent.parent / CAMERAS_NAME]
    file = next((path for path in candidates if path.is_file()), None)
    if given and file is None:
        raise DataError(f"{given}: no such file")
    if file is None:
        return None
    sets = read_cameras(file)
    if folder.name not in sets:
        if given or file.parent == folder:
            raise DataError(f"{file}: has no entry {folder.name!r}; it names {', '.join(sorted(sets)[:5])}")
        return None
    return sets[folder.name]
