"""A folder of photos or renders of one material, with their cameras when there are any."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neuropbr_core.data.cameras_file import CameraRecord, read_cameras
from neuropbr_core.data.images import read_view
from neuropbr_core.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class ViewSet:
    """The views of one material.

    Attributes:
        paths: The image files, in order.
        images: sRGB-encoded in [0, 1], each `(3, h, w)` at its own size.
        homographies: `(V, 3, 3)`, texture -> view in [0, 1]² coordinates, or None without cameras.
        positions: Camera positions `(V, 3)` in tile sides, or None.
    """

    paths: tuple[Path, ...]
    images: tuple[Tensor, ...]
    homographies: Tensor | None = None
    positions: Tensor | None = None


def read_views(folder: Path, cameras: Path | None = None) -> ViewSet:
    """Read all images of a folder, sorted by name, and their cameras.

    Cameras are looked for in `cameras`, else in `FOLDER/cameras.json`, else, for a folder of a dataset
    (`input/clean/sample_0000`), in the dataset's `input/cameras.json`. The file names each set by its folder.

    Args:
        folder: Folder with at least one PNG or JPEG.
        cameras: The cameras file, in the format of `neuropbr_core.data.cameras_file`.

    Raises:
        DataError: The folder is missing or empty, an image is damaged, or the cameras do not fit the images.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder with the photos or renders of one material")
    paths = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES))
    if not paths:
        raise DataError(f"{folder}: holds no image; allowed: {', '.join(SUFFIXES)}")
    images = tuple(torch.from_numpy(read_view(path)).float() / 255 for path in paths)
    records = _find_cameras(folder, cameras)
    if records is None:
        return ViewSet(paths, images)
    if len(records) != len(paths):
        raise DataError(f"{folder}: has {len(paths)} images, but its cameras file has {len(records)} cameras for it")
    homographies = torch.tensor([record.homography for record in records])
    return ViewSet(paths, images, homographies, torch.tensor([record.position for record in records]))


def _find_cameras(folder: Path, given: Path | None) -> tuple[CameraRecord, ...] | None:
    folder = folder.resolve()
    candidates = [given] if given else [folder / "cameras.json", folder.parent.parent / "cameras.json"]
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
