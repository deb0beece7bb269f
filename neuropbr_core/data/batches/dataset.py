"""Samples as tensors: a map-style dataset whose items depend on seed, epoch and visit alone."""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from neuropbr_core.contracts import OVERVIEW_SIDE
from neuropbr_core.data.batches.batch import Batch, Buffer, BufferPool, Item, carve
from neuropbr_core.data.batches.crops import (
    Corners,
    Jittered,
    Placement,
    boxes,
    crop_matrix,
    draw_jitter,
    into_boxes,
    place_image,
    place_logits,
    place_map,
    random_placement,
    stacked_gains,
    whole,
)
from neuropbr_core.data.batches.teacher_logits import TeacherLogits
from neuropbr_core.data.images import Stored
from neuropbr_core.data.pack.store import Images
from neuropbr_core.data.seeding import JITTER, PLACEMENT, numpy_generator
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.alignment import identity_frame, warp_views
from neuropbr_core.recipe.sections import Data
from neuropbr_core.samples import Sample

_ALIGNED_SIDE = 256
"""Photos are averaged down to this side before they are warped, and the result once more: warping does not filter."""


class Overviews:
    """Overviews of samples with cameras, made when first asked for: `4 · 32²` bytes a view.

    Args:
        images: Where photos come from.
        views: Views of each sample.
    """

    def __init__(self, images: Images, views: int) -> None:
        self._images = images
        self._views = views
        self._kept: dict[str, Stored] = {}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of an overview."""
        return (self._views, 4, OVERVIEW_SIDE, OVERVIEW_SIDE)

    @torch.no_grad()
    def get(self, sample: Sample[Any]) -> UInt8[np.ndarray, "V 4 o o"]:
        """A sample's aligned views, sRGB-encoded, and behind them the share of each pixel that the view sees.

        Raises:
            DataError: A photo cannot be read.
        """
        # Two threads may compute the same one at once; both compute the same pixels.
        if sample.id not in self._kept:
            small = []
            for key in sample.views[: self._views]:
                photo = self._images.view(key)
                # Averaging first keeps the photo's detail from aliasing, and makes warping cheap.
                if photo.shape[-1] > _ALIGNED_SIDE:
                    side = (_ALIGNED_SIDE, _ALIGNED_SIDE)
                    # Plane by plane, because OpenCV wants channels last and photos have them first.
                    planes = [cv2.resize(plane, side, interpolation=cv2.INTER_AREA) for plane in photo]
                    photo = np.stack(planes).astype(np.uint8)
                small.append(photo)
            photos = torch.from_numpy(np.stack(small)).float()
            cameras = (sample.cameras or ())[: self._views]
            homographies = torch.from_numpy(np.array([camera.homography for camera in cameras])).float()
            aligned, visible = warp_views(photos[None], homographies[None], identity_frame(1), _ALIGNED_SIDE)
            colors = _averaged(aligned[0])
            shares = _averaged(visible[0])
            # Aligned views are 0 outside the photo; divided by the visible share, the mean is over visible pixels.
            stacked = torch.cat((colors / shares.clamp_min(1e-6), 255 * shares), dim=1)
            self._kept[sample.id] = stacked.round().clamp(0, 255).byte().numpy()
        return self._kept[sample.id]


def _averaged(aligned: Tensor) -> Tensor:
    return F.avg_pool2d(aligned, _ALIGNED_SIDE // OVERVIEW_SIDE)


# Names of a batch's buffers beside the maps', which have the maps' names.
VIEWS = "views"
OVERVIEW = "overview"
_LOGITS = "logits of "


class Visit(NamedTuple):
    """One look at a sample: which epoch, and which of the epoch's visits."""

    epoch: int
    number: int


class Draft(NamedTuple):
    """A batch whose pixels are still missing.

    Attributes:
        batch: The batch.
        jobs: Calls that fill it, one for each visit; in any order, and by any thread.
    """

    batch: Batch
    jobs: Sequence[Callable[[], None]]


class Photos(NamedTuple):
    """What is read of a batch's photos.

    Attributes:
        sides: Width and height of the part of each photo; without cameras, of the crop.
        corners: Where each visit's parts begin; None without cameras.
        homographies: Texture to part, float32.
        positions: Camera centres, float32.
    """

    sides: tuple[int, int]
    corners: Sequence[Corners | None]
    homographies: Tensor | None = None
    positions: Tensor | None = None


class MaterialDataset(Dataset[Item]):
    """Views of materials with their true maps.

    For training, visit number k shows sample k mod n in a window, flip, turn and jitter of its own, drawn from (seed,
    epoch, k); there are `data.repeats` visits for each sample. Otherwise there is one visit a sample, of the whole
    frame. `dataset[index]` is a visit of epoch 0.

    Attributes:
        samples: The samples.
        data: Section `data` of the recipe.
        images: Where their images come from.
        train: Whether windows and jitter are drawn.
        teacher: A teacher's predictions of whole frames, of which each visit gets its window; or None.
    """

    def __init__(
        self,
        samples: Sequence[Sample[Any]],
        data: Data,
        images: Images,
        *,
        train: bool = False,
        seed: int = 0,
        buffers: BufferPool | None = None,
        overviews: bool = False,
    ) -> None:
        """Wrap samples; nothing is read yet.

        Args:
            samples: Samples of a `SampleSource`.
            data: Section `data` of the recipe.
            images: Where their images come from.
            train: Whether to draw windows, flips and turns.
            seed: Seed of these draws.
            buffers: Memory for batches to share with other datasets; some of its own when left out.
            overviews: Whether to give the whole frame in few pixels beside each crop; needs cameras.

        Raises:
            DataError: The sizes in `data` contradict each other.
        """
        check_sizes(data)
        self.samples = list(samples)
        self.data = data
        self.images = images
        self.train = train
        self.seed = seed
        self.buffers = buffers or BufferPool()
        self.teacher: TeacherLogits | None = None
        self.overviews = Overviews(images, data.views) if overviews else None

    @property
    def instant(self) -> bool:
        """Whether a visit costs no more than copying its pixels."""
        return self.images.instant

    def whole(self) -> "MaterialDataset":
        """Return the same samples, each once, whole and unturned."""
        return self.frames_of({sample.id: sample for sample in self.samples}.values())

    def frames_of(self, samples: Iterable[Sample[Any]]) -> "MaterialDataset":
        """Return samples that have the same source, whole and unturned."""
        return MaterialDataset(list(samples), self.data, self.images, buffers=self.buffers)

    def with_first_views(self, count: int) -> "MaterialDataset":
        """Return the same samples, whole and unturned, with the first views of each alone.

        Args:
            count: Number of views, at most `data.views`.
        """
        fewer = []
        for sample in self.samples:
            cameras = sample.cameras
            if cameras is not None:
                cameras = cameras[:count]
            fewer.append(replace(sample, views=sample.views[:count], cameras=cameras))
        return MaterialDataset(fewer, replace(self.data, views=count), self.images, buffers=self.buffers)

    def with_teacher(self, teacher: TeacherLogits) -> "MaterialDataset":
        """Return the same visits, each with its window of a teacher's predictions.

        Args:
            teacher: Predictions of every sample, as maps of `data.output_size`.
        """
        # Shallow: samples, images and buffers are shared, and only the teacher differs.
        visits = copy(self)
        visits.teacher = teacher
        return visits

    def __len__(self) -> int:
        """Visits in an epoch."""
        if self.train:
            return len(self.samples) * self.data.repeats
        return len(self.samples)

    def __getitem__(self, key: int | Visit) -> Item:
        """Return a visit: a batch of one, unstacked; an integer is a visit of epoch 0.

        With recorded alignment the photos are whole.

        Raises:
            IndexError: No such visit.
            DataError: One of its images cannot be used.
        """
        if isinstance(key, int):
            key = Visit(0, key)
        batch, jobs = self.draft([key], whole_photos=True)
        for fill in jobs:
            fill()
        return batch[0]

    def draft(self, visits: Sequence[Visit], *, pinned: bool = False, whole_photos: bool = False) -> Draft:
        """Prepare a batch: decide everything, take memory for it, and list what is to be read.

        Args:
            visits: One or more visits.
            pinned: Whether its pixels are to be in page-locked memory.
            whole_photos: Whether to read all of each photo, and not only the part that the crop can show.

        Raises:
            IndexError: No such visit.
        """
        # All that is drawn is drawn here, in one thread; jobs only copy, so their order changes nothing.
        samples = []
        ids = []
        materials = []
        placements = []
        jitters = []
        for visit in visits:
            sample = self._sample(visit)
            samples.append(sample)
            ids.append(sample.id)
            materials.append(sample.material)
            placements.append(self.placement(visit))
            jitters.append(self.jitter(visit))
        matrices = np.stack([crop_matrix(placement, self.data.image_size) for placement in placements])
        photos = self._photos(samples, jitters, matrices, placements[0].side, whole=whole_photos)
        # Sides are alike in a batch: they follow from the recipe, and only positions are drawn.
        tensors = carve(self.buffers, self._buffers(len(visits), placements[0].side, photos), pinned=pinned)
        targets = {}
        logits = {}
        for name in MAPS:
            targets[name] = tensors[name]
            if self.teacher is not None:
                logits[name] = tensors[_LOGITS + name]
        batch = Batch(
            ids=ids,
            materials=materials,
            views=tensors[VIEWS],
            targets=targets,
            crop_to_texture=torch.from_numpy(matrices),
            homographies=photos.homographies,
            positions=photos.positions,
            gains=stacked_gains(jitters),
            overview_pixels=tensors.get(OVERVIEW),
            teacher_logits=logits or None,
        )
        jobs: list[Callable[[], None]] = []
        for index, sample in enumerate(samples):
            # A job holds views into the batch, so the memory stays lent for as long as one of them may write.
            jobs.append(partial(self._fill, batch[index], sample, placements[index], photos.corners[index]))
        return Draft(batch, jobs)

    def placement(self, visit: Visit) -> Placement:
        """The window, flip and turn of a visit."""
        if not self.train:
            return whole(self.data.image_size)
        rng = numpy_generator(self.seed, PLACEMENT, visit.epoch, visit.number)
        return random_placement(rng, self.data.image_size, self.data.crop_size, turn=self.data.augment)

    def jitter(self, visit: Visit) -> Jittered:
        """The errors of exposure, colour and alignment of a visit."""
        if not self.train:
            return Jittered(None, None)
        # Jitter has a stream of its own: switching it on leaves the windows as they were.
        rng = numpy_generator(self.seed, JITTER, visit.epoch, visit.number)
        return draw_jitter(rng, self.data.jitter, self.data.views, self.data.image_size)

    def _sample(self, visit: Visit) -> Sample[Any]:
        if not 0 <= visit.number < len(self):
            raise IndexError(f"visit {visit.number} of a dataset that has {len(self)}")
        # Repeats go round the samples, so every sample appears once before any appears again.
        return self.samples[visit.number % len(self.samples)]

    def _photos(
        self,
        samples: Sequence[Sample[Any]],
        jitters: Sequence[Jittered],
        crops: npt.NDArray[np.float32],
        side: int,
        *,
        whole: bool,
    ) -> Photos:
        """Choose what to read of a batch's photos."""
        if samples[0].cameras is None:
            return Photos((side, side), [None] * len(samples))
        recorded = []
        positions = []
        for sample, jitter in zip(samples, jitters, strict=True):
            cameras = sample.cameras or ()
            # In double precision, as the files have them, until they are adjusted to boxes.
            matrices = np.array([camera.homography for camera in cameras], np.float64)
            if jitter.shakes is not None:
                matrices = jitter.shakes @ matrices
            recorded.append(matrices)
            positions.append(np.array([camera.position for camera in cameras], np.float32))
        homographies = np.stack(recorded)
        size = self.data.photo_size
        if whole:
            corners = np.zeros((*homographies.shape[:2], 2), np.int64)
            sides = (size, size)
        else:
            corners, sides = boxes(homographies, crops, size)
            homographies = into_boxes(homographies, corners, sides, size)
        # Adjusted in double precision, sent in single: warping composes them with the crop in float32.
        return Photos(
            sides, list(corners), torch.from_numpy(homographies).float(), torch.from_numpy(np.stack(positions))
        )

    def _buffers(self, visits: int, side: int, photos: Photos) -> dict[str, Buffer]:
        """The tensors that are filled for a batch of crops of this side."""
        width, height = photos.sides
        wanted = {VIEWS: Buffer((visits, self.data.views, 3, height, width))}
        if self.overviews is not None:
            wanted[OVERVIEW] = Buffer((visits, *self.overviews.shape))
        # Maps have `scale` pixels along one of the input's, and logits are as large as maps.
        scaled = side * self.data.scale
        for name, spec in MAPS.items():
            wanted[name] = Buffer((visits, spec.channels, scaled, scaled))
            if self.teacher is not None:
                wanted[_LOGITS + name] = Buffer((visits, spec.logit_channels, scaled, scaled), torch.float16)
        return wanted

    def _fill(self, item: Item, sample: Sample[Any], placement: Placement, corners: Corners | None) -> None:
        """Read the pixels of a visit: parts of the photos from `corners` on, or photos placed like the maps."""
        for index, view in enumerate(item.views.numpy()):
            image = self.images.view(sample.views[index])
            # Without cameras a photo shows the texture as the maps do, and is cut and turned like them.
            if corners is None:
                place_image(image, placement, out=view)
                continue
            x, y = corners[index]
            height, width = view.shape[1:]
            view[:] = image[:, y : y + height, x : x + width]
        for name, spec in MAPS.items():
            stored = self.images.map(name, sample.maps[name])
            place_map(stored, spec, placement, self.data.scale, item.targets[name].numpy())
        if self.overviews is not None and item.overview_pixels is not None:
            item.overview_pixels.numpy()[:] = self.overviews.get(sample)
        if self.teacher is not None and item.teacher_logits is not None:
            # Logits have the size of the maps, `scale` pixels along one of the placement's.
            x = placement.x * self.data.scale
            y = placement.y * self.data.scale
            side = placement.side * self.data.scale
            for name, logits in item.teacher_logits.items():
                place_logits(self.teacher.window(sample, name, x, y, side), MAPS[name], placement, logits.numpy())


def check_sizes(data: Data) -> None:
    """Refuse sizes that contradict each other.

    Raises:
        DataError: `output_size` is no multiple of `image_size`, or `crop_size` exceeds `image_size`.
    """
    if data.output_size % data.image_size:
        raise DataError(
            f"data.output_size is {data.output_size}, data.image_size {data.image_size}; "
            "the output's side must be a whole multiple of the input's"
        )
    if data.crop_side > data.image_size:
        raise DataError(
            f"data.crop_size is {data.crop_size}, which exceeds data.image_size {data.image_size}; "
            "lower it, or leave it out for whole frames"
        )
