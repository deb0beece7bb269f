"""Training visits that a source draws, mixed with visits of listed samples.

All views of these batches are aligned by the thread that fills them: drawn ones are shaded in the crop's frame, and
photos of samples are warped into it. So a batch may contain both.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuropbr_core.contracts import Crop, DrawnVisit, VisitDrawer
from neuropbr_core.data.batches.batch import Batch, Buffer, carve
from neuropbr_core.data.batches.crops import Placement, crop_matrix
from neuropbr_core.data.batches.dataset import OVERVIEW, VIEWS, Draft, MaterialDataset, Photos, Visit
from neuropbr_core.data.batches.prepare import align
from neuropbr_core.data.batches.teacher_logits import TeacherLogits
from neuropbr_core.data.seeding import LIVE, numpy_generator
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.live.shading import single_thread

_VISIBLE = "visible"
"""Name of a batch's buffer beside those of `MaterialDataset`."""


class DrawnDataset(MaterialDataset):
    """Training visits of a `VisitDrawer`; the share that is not drawn shows the samples of another dataset in turn.

    What a visit shows depends on (seed, epoch, visit) alone.

    Attributes:
        drawer: Draws visits.
    """

    def __init__(self, samples: MaterialDataset, drawer: VisitDrawer) -> None:
        """Wrap the training visits of samples.

        Args:
            samples: Visits of samples, drawn for training.
            drawer: Draws the others.

        Raises:
            DataError: Views are not to be aligned, or samples are to be shown and there are none.
        """
        super().__init__(
            samples.samples,
            samples.data,
            samples.images,
            train=True,
            seed=samples.seed,
            buffers=samples.buffers,
            overviews=samples.overviews is not None,
        )
        self.drawer = drawer
        if self.data.alignment == "none":
            raise DataError("data.alignment is none, but drawn visits have aligned views; set it to recorded")
        if drawer.share < 1 and not self.samples:
            raise DataError("there are no training samples to show beside drawn visits; draw all of them (share 1)")

    @property
    def instant(self) -> bool:
        """Drawing takes time, so threads are worth it."""
        return False

    def __len__(self) -> int:
        """Visits in an epoch."""
        return self.drawer.visits

    def with_teacher(self, teacher: TeacherLogits) -> MaterialDataset:  # noqa: ARG002 - the signature is the base's
        """Refuse: nobody has predicted what has not been drawn yet.

        Raises:
            DataError: Always.
        """
        raise DataError("drawn visits have no stored predictions of a teacher; let it run beside the student instead")

    def draft(self, visits: Sequence[Visit], *, pinned: bool = False, whole_photos: bool = False) -> Draft:  # noqa: ARG002
        """Prepare a batch: take memory for it, and return the calls that draw or read each visit.

        Args:
            visits: One or more visits.
            pinned: Whether its pixels are to be in page-locked memory.
            whole_photos: Has no effect; all views are aligned.

        Raises:
            IndexError: No such visit.
        """
        count = len(visits)
        ids = []
        placements = []
        gains = []
        for visit in visits:
            placements.append(self.placement(visit))
            # A drawn visit is named by what it was drawn from: no file bears its name.
            if self.is_drawn(visit):
                ids.append(f"drawn/{visit.epoch}-{visit.number}")
            else:
                ids.append(self._sample(visit).id)
            jitter = self.jitter(visit)
            if jitter.gains is not None:
                gains.append(jitter.gains)
        side = placements[0].side
        # As without cameras, views are as large as the crop.
        wanted = self._buffers(count, side, Photos((side, side), [None] * count))
        wanted[_VISIBLE] = Buffer((count, self.data.views, 1, side, side))
        tensors = carve(self.buffers, wanted, pinned=pinned)
        matrices = np.stack([crop_matrix(placement, self.data.image_size) for placement in placements])
        stacked_gains = None
        if gains:
            stacked_gains = torch.from_numpy(np.stack(gains))
        batch = Batch(
            ids=ids,
            materials=[""] * count,  # known once a visit is drawn
            views=tensors[VIEWS],
            targets={name: tensors[name] for name in MAPS},
            crop_to_texture=torch.from_numpy(matrices),
            # Filled with each visit, like the pixels; too small to be worth a place in the lent memory.
            positions=torch.zeros(count, self.data.views, 3),
            gains=stacked_gains,
            overview_pixels=tensors.get(OVERVIEW),
            visible_pixels=tensors[_VISIBLE],
        )
        jobs = []
        for index, visit in enumerate(visits):
            jobs.append(partial(self._fill_visit, batch, index, visit))
        return Draft(batch, jobs)

    def placement(self, visit: Visit) -> Placement:
        """The window of a visit; drawn materials are turned before they are photographed, so their crops are not."""
        placement = super().placement(visit)
        if self.is_drawn(visit):
            return placement._replace(turns=0, mirror=False)
        return placement

    def is_drawn(self, visit: Visit) -> bool:
        """Whether a visit is drawn; otherwise it shows a sample."""
        # The first number of the visit's generator decides; `_fill_visit` passes it by.
        return bool(self._generator(visit).random() < self.drawer.share)

    def _generator(self, visit: Visit) -> np.random.Generator:
        return numpy_generator(self.seed, LIVE, visit.epoch, visit.number)

    def _fill_visit(self, batch: Batch, index: int, visit: Visit) -> None:
        """Draw or read a visit into its place in a batch."""
        if self.is_drawn(visit):
            # The generator continues where `is_drawn` left it.
            rng = self._generator(visit)
            rng.random()
            placement = self.placement(visit)
            crop = Crop(
                x=placement.x,
                y=placement.y,
                side=placement.side,
                frame=self.data.image_size,
                scale=self.data.scale,
                photo=self.data.photo_size,
                views=self.data.views,
            )
            drawn = self.drawer.draw(rng, crop)
        else:
            drawn = self._align(visit)
        batch.materials[index] = drawn.material
        place = batch[index]
        _copy(drawn.views, place.views)
        _copy(drawn.visible, place.visible_pixels)
        _copy(drawn.positions, place.positions)
        _copy(drawn.overview, place.overview_pixels)
        for name in MAPS:
            _copy(drawn.maps[name], place.targets[name])

    @torch.no_grad()
    def _align(self, visit: Visit) -> DrawnVisit:
        """Read a visit of a sample and warp its photos into the crop, as `prepare` does for other batches."""
        batch, jobs = super().draft([visit])
        for fill in jobs:
            fill()
        # Loader threads run beside training: torch must not start threads of its own in each of them.
        with single_thread():
            _, inputs = align(batch, self.data.crop_side, "cpu")
        item = batch[0]
        if item.positions is None:
            raise DataError(f"{item.id}: has no cameras, so its photos cannot be aligned")
        overview = np.zeros(0, np.uint8)
        if item.overview_pixels is not None:
            overview = item.overview_pixels.numpy()
        maps = {}
        for name, target in item.targets.items():
            maps[name] = target.numpy()
        # Back to bytes, in which the batch has its views; rounded, since a cast alone would darken them.
        return DrawnVisit(
            material=item.material,
            views=(inputs.views[0] * 255).round().to(torch.uint8).numpy(),
            visible=(inputs.visible[0] * 255).to(torch.uint8).numpy(),
            overview=overview,
            positions=item.positions.numpy(),
            maps=maps,
        )


def _copy(values: "np.ndarray[Any, Any]", place: Tensor | None) -> None:
    """Copy into a batch, where the batch has such a part; a drawer that breaks its contract fails here."""
    if place is None:
        return
    if values.shape != tuple(place.shape):
        raise DataError(f"a drawn visit has an array of shape {values.shape} where {tuple(place.shape)} is wanted")
    place.numpy()[:] = values
