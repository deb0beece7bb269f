"""What each step is fed: batches of this process, on the device, with the views of that step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from neuropbr_core.data.batches.batch import Batch
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.loader import Loader, train_loader
from neuropbr_core.data.batches.prepare import Prepared, prepare
from neuropbr_core.data.seeding import VIEWS, numpy_generator
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.training.lightning import Fabric
from neuropbr_core.training.teachers import OnlineTeacher

_ALL_VIEWS = 0.5
"""Share of the steps that see all views without a draw of their number."""


def draw_views(seed: int, epoch: int, step: int, views: int) -> tuple[int, ...]:
    """Choose views for a step: all of them in half of the steps, else a number from 1 to `views`, each as likely.

    The first view is always among them.

    Args:
        seed: Seed of the run.
        epoch: The epoch, from 0.
        step: The step of the epoch, from 0.
        views: Views of each sample.

    Returns:
        Indices in ascending order; they depend on the arguments alone.
    """
    rng = numpy_generator(seed, VIEWS, epoch, step)
    # Users are asked for `views` photos, so most steps show that many; fewer must work, but need less practice.
    if rng.random() < _ALL_VIEWS:
        return tuple(range(views))
    # The first view is the one that the others are registered to, so no step goes without it.
    others = rng.permutation(views - 1)[: rng.integers(views)] + 1
    # In order, because the views' order is no information, and all of them then leave the batch as it is.
    return (0, *sorted(map(int, others)))


class Group(NamedTuple):
    """The batches of one step.

    Attributes:
        batches: The batches, prepared when they are asked for.
        weights: Each one's share of the group's samples.
        ids: Their samples; fills up as batches are asked for.
    """

    batches: Iterator[Prepared]
    weights: list[float]
    ids: list[str]


@dataclass(frozen=True)
class Feed:
    """The training data of one process.

    Attributes:
        recipe: The recipe.
        dataset: The training samples.
        fabric: Knows device and processes.
        teacher: Predicts every batch too, when it runs beside the generator.
    """

    recipe: Recipe
    dataset: MaterialDataset
    fabric: Fabric
    teacher: OnlineTeacher | None = None

    @property
    def steps(self) -> int:
        """Steps in an epoch: updates of the generator."""
        # Rounded up: what is left of the batches at the end of an epoch makes a step, too.
        return -(-len(self._loader(0, 0)) // self.recipe.training.accumulate)

    @property
    def resume_counts(self) -> dict[str, int]:
        """What the order of samples within an epoch depends on; a run that resumes with others starts it over."""
        training = self.recipe.training
        return {
            "visits": len(self.dataset),
            "batch_size": training.samples,
            "accumulate": training.accumulate,
            "processes": self.fabric.world_size,
            "seed": training.seed,
        }

    def groups(self, epoch: int, start: int) -> Iterator[Group]:
        """The batches of each step of an epoch, from step `start` on."""
        data = self.recipe.data
        training = self.recipe.training
        accumulate = training.accumulate
        # A resumed epoch skips the batches of the steps that are done, without reading them.
        loader = self._loader(epoch, start * accumulate)
        sizes = [len(visits) for visits in loader.batches]
        batches = iter(loader)
        for first in range(0, len(sizes), accumulate):
            group = sizes[first : first + accumulate]  # the last group of an epoch may be smaller
            weights = [size / sum(group) for size in group]
            views: Sequence[int] = range(data.views)
            if data.random_views:
                # All batches of a step have the same views, as if they were one batch.
                views = draw_views(training.seed, epoch, start + first // accumulate, data.views)
            ids: list[str] = []
            # Not a list: only one batch of a step at a time is prepared and takes memory on the device.
            yield Group(self._prepared(islice(batches, len(group)), views, ids), weights, ids)

    def _prepared(self, batches: Iterator[Batch], views: Sequence[int], ids: list[str]) -> Iterator[Prepared]:
        """Prepare batches on the device, one at a time, so that one at a time takes memory there."""
        for batch in batches:
            ids.extend(batch.ids)
            prepared = prepare(batch.with_views(views), self.recipe.data, self.fabric.device)
            if self.teacher is not None:
                # The teacher sees all views, whatever the student sees, as it does where predictions are stored.
                full = prepared
                if prepared.views.shape[1] < batch.views.shape[1]:
                    full = prepare(batch, self.recipe.data, self.fabric.device)
                prepared = replace(prepared, teacher=self.teacher(full).teacher)
                del full
            del batch  # the loader may have its memory back
            yield prepared
            del prepared  # before the next batch is prepared

    def _loader(self, epoch: int, skip: int) -> Loader:
        training = self.recipe.training
        return train_loader(
            self.dataset,
            training.samples,
            seed=training.seed,
            epoch=epoch,
            num_workers=self.recipe.data.num_workers,
            skip_steps=skip,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )
