"""Samples as tensors: a map-style dataset whose items depend on seed, epoch and visit alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from neuropbr_core.data.augmentation import (
    Placement,
    Stored,
    frame_matrix,
    place_image,
    place_map,
    random_placement,
    whole,
)
from neuropbr_core.data.batch import Item
from neuropbr_core.data.cache import DecodedCache
from neuropbr_core.data.images import read_map, read_view
from neuropbr_core.data.layout import Sample
from neuropbr_core.data.seeding import PLACEMENT, numpy_generator
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data


class Visit(NamedTuple):
    """One look at a sample: which epoch, and which of the epoch's visits."""

    epoch: int
    number: int


class MaterialDataset(Dataset[Item]):
    """Views of materials with their true maps.

    For training, visit number k shows sample k mod n in a window, flip and turn of its own, drawn from (seed,
    epoch, k); there are `data.repeats` visits for each sample. Otherwise there is one visit a sample, of the whole
    frame. `dataset[index]` is a visit of epoch 0.

    Attributes:
        samples: The samples.
        data: Section `data` of the recipe.
        train: Whether windows are drawn.
        cache: Decoded images.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        data: Data,
        *,
        train: bool = False,
        seed: int = 0,
        cache: DecodedCache | None = None,
    ) -> None:
        """Wrap samples; nothing is read yet.

        Args:
            samples: Samples, from `layout.find_samples`.
            data: Section `data` of the recipe.
            train: Whether to draw windows, flips and turns.
            seed: Seed of these draws.
            cache: Decoded images to share with other datasets; a new one of 1 GiB when left out.

        Raises:
            DataError: The sizes in `data` contradict each other.
        """
        self.samples = list(samples)
        self.data = data
        self.train = train
        self.seed = seed
        self.cache = DecodedCache() if cache is None else cache
        self.scale = output_scale(data)

    def __len__(self) -> int:
        """Visits in an epoch."""
        return len(self.samples) * (self.data.repeats if self.train else 1)

    def __getitem__(self, key: int | Visit) -> Item:
        """Return a visit; an integer is a visit of epoch 0.

        Raises:
            IndexError: No such visit.
            DataError: One of its files cannot be used.
        """
        visit = key if isinstance(key, Visit) else Visit(0, key)
        if not 0 <= visit.number < len(self):
            raise IndexError(f"visit {visit.number} of a dataset that has {len(self)}")
        sample = self.samples[visit.number % len(self.samples)]
        placement = self.placement(visit)
        cameras = sample.cameras
        return Item(
            id=sample.id,
            material=sample.material,
            views=torch.from_numpy(self._views(sample, placement)),
            targets=self._targets(sample, placement),
            homographies=None if cameras is None else torch.tensor([camera.homography for camera in cameras]),
            positions=None if cameras is None else torch.tensor([camera.position for camera in cameras]),
            frame=torch.from_numpy(frame_matrix(placement, self.data.image_size)),
        )

    def placement(self, visit: Visit) -> Placement:
        """The window, flip and turn of a visit."""
        if not self.train:
            return whole(self.data.image_size)
        rng = numpy_generator(self.seed, PLACEMENT, visit.epoch, visit.number)
        return random_placement(rng, self.data.image_size, self.data.crop_size, turn=self.data.augment)

    @property
    def decoded_bytes(self) -> int:
        """Memory that all samples take when decoded."""
        views = sum(len(sample.views) for sample in self.samples) * 3 * self.data.image_size**2
        materials = len({sample.material for sample in self.samples})
        return views + materials * sum(spec.channels for spec in MAPS.values()) * self.data.output_size**2

    def _views(self, sample: Sample, placement: Placement) -> Stored:
        views = np.stack([self._view(path) for path in sample.views])
        return views if sample.cameras is not None else place_image(views, placement)

    def _targets(self, sample: Sample, placement: Placement) -> dict[str, torch.Tensor]:
        return {
            name: torch.from_numpy(place_map(self._map(name, path), MAPS[name], placement, self.scale))
            for name, path in sample.maps.items()
        }

    def _view(self, path: Path) -> Stored:
        return self.cache.get((path, self.data.image_size), lambda: read_view(path, self.data.image_size))

    def _map(self, name: str, path: Path) -> Stored:
        return self.cache.get((path, self.data.output_size), lambda: read_map(path, MAPS[name], self.data.output_size))


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
