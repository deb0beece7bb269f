"""The views of one material to predict from: a folder of photos or renders."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from neuropbr_core.data.images import read_photo
from neuropbr_core.data.layout.paths import CAMERAS_NAME, CameraRecord, list_photos, read_cameras
from neuropbr_core.errors import DataError
from neuropbr_core.exporting.inputs import PhotoSet
from neuropbr_core.reporting import reporter


@dataclass(frozen=True)
class ViewSet:
    """The views of one material.

    Attributes:
        paths: The image files, in order.
        images: sRGB-encoded uint8, each `(3, h, w)` at its own size.
        homographies: `(V, 3, 3)`, texture -> view in [0, 1]² coordinates, or None without cameras.
        positions: Camera positions `(V, 3)` in tile sides, or None.
        confidence: For estimated cameras, the agreement of each photo with the first, in [0, 1]; otherwise None.
        masks: For each image, bool `(h, w)`, True where it is opaque; None where it is opaque everywhere.
        left_out: Why photos were left out, one line each, by their file.
        flashes: For each image, whether the camera's flash fired; None where its file does not tell.
        exposure_known: Whether the first image records a white card at the texture's centre as 1 (`white.calibrate`).
    """

    paths: tuple[Path, ...]
    images: tuple[Tensor, ...]
    homographies: Tensor | None = None
    positions: Tensor | None = None
    confidence: tuple[float, ...] | None = None
    masks: tuple[Tensor | None, ...] = ()
    left_out: Mapping[Path, str] = field(default_factory=dict)
    flashes: tuple[bool | None, ...] = ()
    exposure_known: bool = False

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why photos were left out, one line each."""
        return tuple(self.left_out.values())

    @property
    def folder(self) -> Path:
        """Folder of the images."""
        return self.paths[0].parent

    @property
    def flash_fired(self) -> bool | None:
        """Whether a flash fired for any of the photos, as their files tell; None when no file tells."""
        told = [flash for flash in self.flashes if flash is not None]
        if not told:
            return None
        return any(told)

    @property
    def photos(self) -> PhotoSet:
        """The images with their cameras, to prepare a model's inputs from."""
        return PhotoSet(self.images, self.homographies, self.positions, self.masks)


def read_views(folder: str | Path, cameras: str | Path | None = None, size: int | None = None) -> ViewSet:
    """Read all images of a folder, sorted by name (10.png comes after 9.png), and their cameras.

    Cameras are read from `cameras` when it is given. Otherwise they are read from `FOLDER/cameras.json` or, for a
    folder of a dataset (`input/clean/sample_0000`), from the dataset's `input/cameras.json`, if one of them exists. The
    file has an entry for each folder, by its name.

    Args:
        folder: Folder with at least one image (`decoding.READ_SUFFIXES`). Images that are not read are reported.
        cameras: The cameras file, in the format of `neuropbr_core.data.layout.paths`.
        size: Side to which the model fits photos (`Signature.photo_size`). Much larger photos are shrunk while they are
            read; without `size`, they keep what a model of 1024 pixels needs.

    Raises:
        DataError: The folder is missing or empty, an image is damaged, or the cameras do not fit the images.
    """
    folder = Path(folder)
    paths = list_photos(folder)
    images = []
    masks: list[Tensor | None] = []
    flashes = []
    for path in paths:
        photo = read_photo(path, size)
        if photo.note:
            reporter().line(f"{path.name}: {photo.note}")
        mask = None
        if photo.mask is not None:
            mask = torch.from_numpy(photo.mask)
            reporter().line(f"{path.name}: {1 - mask.float().mean():.0%} of it is transparent and not used")
        images.append(torch.from_numpy(photo.pixels))  # each at its own size, so not one tensor
        masks.append(mask)
        flashes.append(photo.flash)
    views = ViewSet(paths, tuple(images), masks=tuple(masks), flashes=tuple(flashes))
    # Photos without cameras are no error yet: whether they are needed depends on the model.
    records = _find_cameras(folder, cameras)
    if records is None:
        return views
    if len(records) != len(paths):
        raise DataError(f"{folder}: has {len(paths)} images, but its cameras file has {len(records)} cameras for it")
    return _with_cameras(views, records)


def read_capture(
    folder: str | Path, cameras: str | Path | None = None, *, register: bool, size: int | None = None
) -> ViewSet:
    """Read a folder's views; estimate their cameras from the photos when they are needed and no file has them.

    Photos that cannot be registered are left out and reported, if at least two photos are left.

    Args:
        folder: See `read_views`.
        cameras: See `read_views`.
        register: Whether cameras are needed.
        size: See `read_views`.

    Raises:
        DataError: The views cannot be read or registered.
    """
    views = read_views(folder, cameras, size)
    if not register or views.homographies is not None:
        return views
    reporter().line(f"no cameras found: registering the photos to {views.paths[0].name}")
    views = register_views(views, partial=True)
    for refusal in views.refusals:
        reporter().warning(f"{refusal}. It is left out")
    # Told for each photo, because a low confidence shows which photo spoils the maps.
    for path, share in zip(views.paths, views.confidence or (), strict=True):
        reporter().line(f"  {path.name}: confidence {share:.2f}")
    return views


def register_views(views: ViewSet, *, partial: bool = False) -> ViewSet:
    """Estimate the cameras from the photos alone.

    The first photo has to be taken from straight above; its centred square becomes the texture. Cameras that the set
    already has are replaced.

    Args:
        views: Photos of one material.
        partial: Whether photos that cannot be registered are left out, as long as two photos are left.

    Returns:
        The photos with cameras, and a confidence for each; `left_out` says why others are left out.

    Raises:
        DataError: Photos cannot be registered; the message has one line for each, with what to do.
    """
    # Registration imports OpenCV, which views with cameras do not need.
    from neuropbr_core.data.registration.register import register_photos

    photos = [image.numpy() for image in views.images]
    registration = register_photos(photos, [str(path) for path in views.paths], partial=partial)
    kept = [index for index in range(len(photos)) if index not in registration.refusals]
    masks: tuple[Tensor | None, ...] = ()
    if views.masks:
        masks = tuple(views.masks[index] for index in kept)
    flashes: tuple[bool | None, ...] = ()
    if views.flashes:
        flashes = tuple(views.flashes[index] for index in kept)
    left = replace(
        views,
        paths=tuple(views.paths[index] for index in kept),
        images=tuple(views.images[index] for index in kept),
        masks=masks,
        flashes=flashes,
        left_out={views.paths[index]: reason for index, reason in registration.refusals.items()},
    )
    return replace(_with_cameras(left, registration.cameras), confidence=registration.confidence)


def _with_cameras(views: ViewSet, records: tuple[CameraRecord, ...]) -> ViewSet:
    homographies = torch.tensor([record.homography for record in records])
    return replace(views, homographies=homographies, positions=torch.tensor([record.position for record in records]))


def _find_cameras(folder: Path, given: str | Path | None) -> tuple[CameraRecord, ...] | None:
    """The cameras of a folder's views, from the given file or from the places where one may be; None without any."""
    folder = folder.resolve()  # entries have the folder's name, which `.` does not tell
    beside = folder / CAMERAS_NAME
    of_dataset = folder.parent.parent / CAMERAS_NAME
    if given is not None:
        file = Path(given)
        if not file.is_file():
            raise DataError(f"{file}: no such file")
    elif beside.is_file():
        file = beside
    elif of_dataset.is_file():
        file = of_dataset
    else:
        return None
    sets = read_cameras(file)
    if folder.name in sets:
        return sets[folder.name]
    # A file two folders up may belong to something else; one that is given or beside the views is meant for them.
    if file is not of_dataset:
        raise DataError(f"{file}: has no entry {folder.name!r}; it names {', '.join(sorted(sets)[:5])}")
    return None
