"""Loaders whose batches depend on seed and epoch alone: not on workers, nor on where a run was interrupted."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from neuropbr_core.data.batch import Item, collate
from neuropbr_core.data.dataset import MaterialDataset, Visit
from neuropbr_core.data.seeding import ORDER, numpy_generator

_MAX_WORKERS = 4


def steps_per_epoch(dataset: MaterialDataset, batch_size: int, world_size: int = 1) -> int:
    """Return the batches that each process trains on in an epoch: full ones, or a single smaller one."""
    return max(1, len(dataset) // (batch_size * world_size)) if len(dataset) else 0


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
) -> DataLoader[Item]:
    """Return the batches of one training epoch.

    Args:
        dataset: Training samples.
        batch_size: Visits in a batch, for each process.
        seed: Seed of the order.
        epoch: Epoch, from 0; it decides order and windows.
        num_workers: Loader processes; None takes what suits data and machine.
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
    if 0 < len(order) < width:
        order = np.resize(order, -(-len(order) // world_size) * world_size)
    steps = [order[start : start + width] for start in range(0, max(len(order) - width, 0) + 1, width)]
    batches = [[Visit(epoch, int(index)) for index in step[rank::world_size]] for step in steps if len(step)]
    return _loader(dataset, batches[skip_steps:], num_workers)


def val_loader(
    dataset: MaterialDataset,
    batch_size: int,
    *,
    num_workers: int | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader[Item]:
    """Return a `Batch` at a time over every sample once, in order; a process gets every `world_size`-th sample.

    Args:
        dataset: Validation samples.
        batch_size: Samples in a batch; the last one may be smaller.
        num_workers: Loader processes; None takes what suits data and machine.
        rank: This process.
        world_size: Number of processes.
    """
    mine = [Visit(0, index) for index in range(rank, len(dataset), world_size)]
    return _loader(dataset, [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)], num_workers)


def suitable_workers(dataset: MaterialDataset) -> int:
    """Return how many loader processes suit: none when all decoded images fit in memory, else up to four."""
    if dataset.decoded_bytes <= dataset.cache.limit:
        return 0
    return min(_MAX_WORKERS, os.cpu_count() or 1)


def _loader(dataset: MaterialDataset, batches: Sequence[list[Visit]], num_workers: int | None) -> DataLoader[Item]:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=suitable_workers(dataset) if num_workers is None else num_workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_share_cache,
        generator=torch.Generator(),  # else each loader would draw from the global one, and a resumed run would differ
    )


def _share_cache(_worker: int) -> None:
    """Give each worker process its share of the cache's limit."""
    info = get_worker_info()
    if info is not None and isinstance(info.dataset, MaterialDataset):
        info.dataset.cache.shrink(info.dataset.cache.limit // info.num_workers)
