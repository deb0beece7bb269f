"""Loaders whose batches depend on seed and epoch alone: not on threads, nor on where a run was interrupted.

`predict_frames` goes on from a loader's batches to what a generator predicts of them.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from neuropbr_core.contracts import Prediction
from neuropbr_core.data.batches.batch import Batch
from neuropbr_core.data.batches.dataset import MaterialDataset, Visit
from neuropbr_core.data.batches.prepare import Prepared, prepare
from neuropbr_core.data.seeding import ORDER, numpy_generator
from neuropbr_core.errors import DataError, NeuroPBRError
from neuropbr_core.parallel import cores

_MAX_THREADS = 8


class Loader:
    """Batches over given visits, filled from the dataset straight into memory that is used again and again.

    With `threads`, batches are loaded ahead: decoding releases Python's lock, and unlike processes threads send no
    pixels around. Without, a batch is loaded when it is asked for, which for a pack takes as long as copying it.
    """

    def __init__(
        self, dataset: MaterialDataset, batches: Sequence[Sequence[Visit]], threads: int = 0, *, pinned: bool = False
    ) -> None:
        """Load nothing yet.

        Args:
            dataset: The dataset.
            batches: The visits of each batch.
            threads: Threads that load ahead; 0 for none.
            pinned: Whether to fill page-locked memory, for fast copies to a CUDA device.
        """
        self.dataset = dataset
        self.batches = batches
        self.threads = threads
        self._pinned = pinned

    def __len__(self) -> int:
        """Batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches; each iteration starts over.

        Raises:
            DataError: An image cannot be used.
        """
        # Nothing here may keep a name for a batch that is yielded: its memory is used again once the caller lets go.
        if not self.threads:
            yield from map(self._load, self.batches)
            return
        # As many batches are under way as give every thread a visit; more would only take memory.
        depth = -(-self.threads // max(map(len, self.batches), default=1))
        under_way: deque[tuple[Batch, list[Future[None]]]] = deque()
        pool = ThreadPoolExecutor(self.threads)
        try:
            for visits in self.batches:
                under_way.append(self._submit(pool, visits))
                if len(under_way) > depth:
                    yield _finished(*under_way.popleft())
            while under_way:
                yield _finished(*under_way.popleft())
        finally:
            # A caller that stops early does not want the rest; jobs that have begun still end before this returns.
            pool.shutdown(cancel_futures=True)

    def _load(self, visits: Sequence[Visit]) -> Batch:
        batch, jobs = self.dataset.draft(visits, pinned=self._pinned)
        for name, job in zip(batch.ids, jobs, strict=True):
            with _naming(name):
                job()
        return batch

    def _submit(self, pool: ThreadPoolExecutor, visits: Sequence[Visit]) -> tuple[Batch, list["Future[None]"]]:
        batch, jobs = self.dataset.draft(visits, pinned=self._pinned)
        return batch, [pool.submit(job) for job in jobs]


def _finished(batch: Batch, futures: Sequence["Future[None]"]) -> Batch:
    for name, future in zip(batch.ids, futures, strict=True):
        with _naming(name):
            future.result()
    return batch


@contextmanager
def _naming(sample: str) -> Iterator[None]:
    """Context in which what nobody foresaw becomes an error that names the sample."""
    try:
        yield
    # The project's errors name the file already, and a lack of memory is not the sample's fault.
    except (NeuroPBRError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # a library that exits ends a thread without a word
        raise DataError(
            f"sample {sample} could not be loaded ({type(error).__name__}: {error}); look at its files, or run "
            f"`neuropbr data check`"
        ) from error


def steps_per_epoch(dataset: MaterialDataset, batch_size: int, world_size: int = 1) -> int:
    """Return the batches that each process trains on in an epoch: full ones, or a single smaller one."""
    if not len(dataset):
        return 0
    return max(1, len(dataset) // (batch_size * world_size))


def train_loader(  # noqa: PLR0913
    dataset: MaterialDataset,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    num_workers: int | None = None,
    skip_steps: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Loader:
    """Return the batches of one training epoch.

    Args:
        dataset: Training samples.
        batch_size: Visits in a batch, for each process.
        seed: Seed of the order.
        epoch: Epoch, from 0; it decides order and windows.
        num_workers: Threads that load ahead; None takes what suits data and machine.
        skip_steps: Batches to leave out at the start, when a run resumes within an epoch.
        rank: This process.
        world_size: Number of processes; each gets its own share of every step.

    Returns:
        A loader that yields `steps_per_epoch - skip_steps` times a `Batch`. Visits left over at the end are dropped
        (another epoch has another order); when there are fewer than one batch, a smaller batch holds them all, and
        with several processes visits are repeated so that every process has as many.
    """
    order = numpy_generator(seed, ORDER, epoch).permutation(len(dataset))
    width = batch_size * world_size
    # Fewer visits than a step needs would otherwise make an epoch without steps.
    if 0 < len(order) < width:
        order = np.resize(order, -(-len(order) // world_size) * world_size)
    batches: list[list[Visit]] = []
    if not len(order):
        return _loader(dataset, batches, num_workers)
    for start in range(0, max(len(order) - width, 0) + 1, width):
        step = order[start : start + width][rank::world_size]  # each process takes its share of every step
        batches.append([Visit(epoch, int(index)) for index in step])
    # Skipped steps are drawn and left out, so that a resumed epoch goes on with the batches that it would have had.
    return _loader(dataset, batches[skip_steps:], num_workers)


def val_loader(
    dataset: MaterialDataset,
    batch_size: int,
    *,
    num_workers: int | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Loader:
    """Return a `Batch` at a time over every sample once, in order; a process gets every `world_size`-th sample.

    With several processes the last sample repeats until all have as many.

    Args:
        dataset: Validation samples.
        batch_size: Samples in a batch; the last one may be smaller.
        num_workers: Threads that load ahead; None takes what suits data and machine.
        rank: This process.
        world_size: Number of processes.
    """
    batches: list[list[Visit]] = []
    for turn in range(-(-len(dataset) // world_size)):
        if turn % batch_size == 0:
            batches.append([])
        # Processes must have equally many batches: one that waits for another's gradients would wait for ever.
        batches[-1].append(Visit(0, min(rank + turn * world_size, len(dataset) - 1)))
    return _loader(dataset, batches, num_workers)


def suitable_threads(dataset: MaterialDataset) -> int:
    """Return how many threads suit: none for a pack, where reading is copying, else one a core, up to eight."""
    if dataset.instant:
        return 0
    return min(_MAX_THREADS, cores())  # beyond eight, memory bandwidth is the limit


def _loader(dataset: MaterialDataset, batches: Sequence[Sequence[Visit]], num_workers: int | None) -> Loader:
    if num_workers is None:
        num_workers = suitable_threads(dataset)
    return Loader(dataset, batches, num_workers, pinned=torch.cuda.is_available())


class PredictedFrames(NamedTuple):
    """Several samples.

    Attributes:
        prepared: The samples as the generator saw them.
        prediction: The generator's prediction, float32.
    """

    prepared: Prepared
    prediction: Prediction


def predict_frames(
    generator: nn.Module,
    dataset: MaterialDataset,
    device: torch.device,
    *,
    batch_size: int = 1,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[PredictedFrames]:
    """Predict every sample of a dataset once, in order; nothing is kept for a backward pass.

    Args:
        generator: On `device`, in eval mode.
        dataset: Samples without crops and draws, such as `OpenedDataset.val`.
        device: Where to compute.
        batch_size: Samples at a time.
        autocast: Makes the context in which the generator runs, such as `Fabric.autocast`.
        rank: This process.
        world_size: Number of processes; each predicts its share, as `loader.val_loader` deals them out.

    Yields:
        Batches of samples with their prediction.

    Raises:
        DataError: An image cannot be used.
    """
    workers = dataset.data.num_workers
    for batch in val_loader(dataset, batch_size, num_workers=workers, rank=rank, world_size=world_size):
        prepared = prepare(batch, dataset.data, device)
        del batch  # the loader may have its memory back
        with torch.no_grad(), autocast():
            prediction: Prediction = generator(*prepared.inputs)
        # Under autocast values may be half precision; metrics and stored logits need single.
        maps = {name: value.float() for name, value in prediction.maps.items()}
        logits = {name: value.float() for name, value in prediction.logits.items()}
        features = {name: value.float() for name, value in prediction.features.items()}
        yield PredictedFrames(prepared, Prediction(maps, logits, features))
