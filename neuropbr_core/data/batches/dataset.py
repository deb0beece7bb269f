"""Samples as tensors: a map-style dataset whose items depend on seed, epoch and visit alone."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from neuropbr_core.data.batches.batch import Batch, Item, carve
from neuropbr_core.data.batches.boxes import Corners, Matrices, boxes, into_boxes
from neuropbr_core.data.batches.buffers import BufferPool
from neuropbr_core.data.batches.jitter import Drawn, draw_jitter
from neuropbr_core.data.batches.overviews import Overviews
from neuropbr_core.data.batches.placement import (
    Logits,
    Placement,
    Stored,
    frame_matrix,
    place_image,
    place_logits,
    place_map,
    random_placement,
    whole,
)
from neuropbr_core.data.batches.teacher_logits import TeacherShards
from neuropbr_core.data.pack.store import Images
from neuropbr_core.data.seeding import JITTER, PLACEMENT, numpy_generator
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data
from neuropbr_core.samples import Sample

_TAUGHT = "teacher "
"""Before the name of a map whose teacher's logits are meant."""


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
        self.samples = list(samples)
        self.data = data
        self.images = images
        self.train = train
        self.seed = seed
        self.buffers = BufferPool() if buffers is None else buffers
        self.teacher: TeacherShards | None = None
        self.scale = output_scale(data)
        self.overviews = Overviews(images, data.views) if overviews else None

    def whole(self) -> "MaterialDataset":
        """Return the same samples, each once, whole and unturned."""
        once = list({sample.id: sample for sample in self.samples}.values())
        return MaterialDataset(once, self.data, self.images, buffers=self.buffers)

    def taught(self, teacher: TeacherShards) -> "MaterialDataset":
        """Return the same visits, each with its window of a teacher's predictions.

        Args:
            teacher: Predictions of every sample, as maps of `data.output_size`.
        """
        visits = copy(self)
        visits.teacher = teacher
        return visits

    def __len__(self) -> int:
        """Visits in an epoch."""
        return len(self.samples) * (self.data.repeats if self.train else 1)

    def __getitem__(self, key: int | Visit) -> Item:
        """Return a visit; an integer is a visit of epoch 0. With recorded alignment the photos are whole.

        Raises:
            IndexError: No such visit.
            DataError: One of its images cannot be used.
        """
        visit = key if isinstance(key, Visit) else Visit(0, key)
        sample, placement = self._sample(visit), self.placement(visit)
        jitter, recorded = self.jitter(visit), sample.cameras is not None
        shapes = self._shapes(placement, self.data.photo_size if recorded else placement.side)
        pixels = {name: np.empty(shape, np.uint8) for name, shape in shapes.items()}
        logits = {name: np.empty(shape, np.float16) for name, shape in self._teacher_shapes(placement).items()}
        corners = np.zeros((self.data.views, 2), np.int64) if recorded else None
        self._fill(sample, placement, corners, pixels, logits)
        overview = pixels.pop("overview", None)
        return Item(
            id=sample.id,
            material=sample.material,
            views=torch.from_numpy(pixels.pop("views")),
            targets={name: torch.from_numpy(target) for name, target in pixels.items()},
            homographies=torch.from_numpy(_homographies(sample, jitter)).float() if recorded else None,
            positions=torch.from_numpy(_positions(sample)) if recorded else None,
            frame=torch.from_numpy(frame_matrix(placement, self.data.image_size)),
            gains=None if jitter.gains is None else torch.from_numpy(jitter.gains),
            overview=None if overview is None else torch.from_numpy(overview),
            teacher={name: torch.from_numpy(values) for name, values in logits.items()} or None,
        )

    def draft(self, visits: Sequence[Visit], *, pinned: bool = False) -> Draft:
        """Prepare a batch: decide everything, take memory for it, and say what is to be read.

        Args:
            visits: One or more visits.
            pinned: Whether its pixels are to lie in page-locked memory.

        Raises:
            IndexError: No such visit.
        """
        chosen = [self._sample(visit) for visit in visits]
        placements = [self.placement(visit) for visit in visits]
        jitters = [self.jitter(visit) for visit in visits]
        photos = _photos(chosen, placements, jitters, self.data)
        shapes = {name: (len(visits), *shape) for name, shape in self._shapes(placements[0], *photos.sides).items()}
        halves = {name: (len(visits), *shape) for name, shape in self._teacher_shapes(placements[0]).items()}
        spans = {_TAUGHT + name: (*shape[:-1], 2 * shape[-1]) for name, shape in halves.items()}
        tensors = carve(self.buffers, shapes | spans, pinned=pinned)
        teacher = {name: tensors.pop(_TAUGHT + name).view(torch.float16) for name in halves}
        jobs: list[Callable[[], None]] = []
        for index, (sample, placement) in enumerate(zip(chosen, placements, strict=True)):
            corners = None if photos.corners is None else photos.corners[index]
            pixels = {name: tensor[index].numpy() for name, tensor in tensors.items()}
            logits = {name: tensor[index].numpy() for name, tensor in teacher.items()}
            jobs.append(partial(self._fill, sample, placement, corners, pixels, logits))
        frames = np.stack([frame_matrix(placement, self.data.image_size) for placement in placements])
        gains = [jitter.gains for jitter in jitters if jitter.gains is not None]
        overview = tensors.pop("overview", None)
        batch = Batch(
            ids=[sample.id for sample in chosen],
            materials=[sample.material for sample in chosen],
            views=tensors.pop("views"),
            targets=tensors,
            homographies=photos.homographies,
            positions=photos.positions,
            frame=torch.from_numpy(frames),
            gains=torch.from_numpy(np.stack(gains)) if gains else None,
            overview=overview,
            teacher=teacher or None,
        )
        return Draft(batch, jobs)

    def placement(self, visit: Visit) -> Placement:
        """The window, flip and turn of a visit."""
        if not self.train:
            return whole(self.data.image_size)
        rng = numpy_generator(self.seed, PLACEMENT, visit.epoch, visit.number)
        return random_placement(rng, self.data.image_size, self.data.crop_size, turn=self.data.augment)

    def jitter(self, visit: Visit) -> Drawn:
        """The errors of exposure, colour and alignment of a visit."""
        if not self.train:
            return Drawn(None, None)
        rng = numpy_generator(self.seed, JITTER, visit.epoch, visit.number)
        return draw_jitter(rng, self.data.jitter, self.data.views, self.data.image_size)

    def _sample(self, visit: Visit) -> Sample[Any]:
        if not 0 <= visit.number < len(self):
            raise IndexError(f"visit {visit.number} of a dataset that has {len(self)}")
        return self.samples[visit.number % len(self.samples)]

    def _shapes(self, placement: Placement, width: int, height: int | None = None) -> dict[str, tuple[int, ...]]:
        """Shapes of the pixels of a visit whose views are `width` wide."""
        side = placement.side * self.scale
        views = {"views": (self.data.views, 3, width if height is None else height, width)}
        if self.overviews is not None:
            views["overview"] = self.overviews.shape
        return views | {name: (spec.channels, side, side) for name, spec in MAPS.items()}

    def _teacher_shapes(self, placement: Placement) -> dict[str, tuple[int, ...]]:
        """Shapes of the teacher's logits of a visit; none without a teacher."""
        side = placement.side * self.scale
        return {} if self.teacher is None else {name: (spec.logit_channels, side, side) for name, spec in MAPS.items()}

    def _fill(
        self,
        sample: Sample[Any],
        placement: Placement,
        corners: Corners | None,
        pixels: Mapping[str, Stored],
        logits: Mapping[str, Logits],
    ) -> None:
        """Read the pixels of a visit: parts of the photos from `corners` on, or photos placed like the maps."""
        for index, view in enumerate(pixels["views"]):
            image = self.images.view(sample.views[index])
            if corners is None:
                place_image(image, placement, out=view)
            else:
                (x, y), (height, width) = corners[index], view.shape[1:]
                view[:] = image[:, y : y + height, x : x + width]
        for name, spec in MAPS.items():
            place_map(self.images.map(name, sample.maps[name]), spec, placement, self.scale, pixels[name])
        if self.overviews is not None:
            pixels["overview"][:] = self.overviews.get(sample)
        if self.teacher is not None:
            x, y, side = (value * self.scale for value in placement[:3])
            for name, out in logits.items():
                place_logits(self.teacher.window(sample, name, x, y, side), MAPS[name], placement, out)


class _Photos(NamedTuple):
    """What is read of a batch's photos: parts of these sides, from `corners` on; without cameras, the maps' window."""

    sides: tuple[int, int]
    corners: Corners | None = None
    homographies: torch.Tensor | None = None
    positions: torch.Tensor | None = None


def _photos(
    samples: Sequence[Sample[Any]], placements: Sequence[Placement], jitters: Sequence[Drawn], data: Data
) -> _Photos:
    if samples[0].cameras is None:
        return _Photos((placements[0].side, placements[0].side))
    homographies = np.stack([_homographies(*pair) for pair in zip(samples, jitters, strict=True)])
    frames = np.stack([frame_matrix(placement, data.image_size) for placement in placements])
    corners, sides = boxes(homographies, frames, data.photo_size)
    adjusted = torch.from_numpy(into_boxes(homographies, corners, sides, data.photo_size)).float()
    positions = torch.from_numpy(np.stack([_positions(sample) for sample in samples]))
    return _Photos(sides, corners, adjusted, positions)


def output_scale(data: Data) -> int:
    """Return how many target pixels one input pixel spans.

    Raises:
        DataError: `output_size` is no multiple of `image_size`, or `crop_size` exceeds `image_size`.
    """
    if data.output_size % data.image_size:
        raise DataError(
            f"data.output_size is {data.output_size}, data.image_size {data.image_size}; "
            "the output's side must be a whole multiple of the input's"
        )
    if data.crop_size is not None and data.crop_size > data.image_size:
        raise DataError(
            f"data.crop_size is {data.crop_size}, which exceeds data.image_size {data.image_size}; "
            "lower it, or leave it out for whole frames"
        )
    return data.output_size // data.image_size


def _homographies(sample: Sample[Any], jitter: Drawn) -> Matrices:
    recorded = np.array([camera.homography for camera in sample.cameras or ()], np.float64)
    return recorded if jitter.shakes is None else jitter.shakes @ recorded


def _positions(sample: Sample[Any]) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return np.array([camera.position for camera in sample.cameras or ()], np.float32)
