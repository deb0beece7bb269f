"""Whole frames of samples, one batch after the other, with what a generator predicts of them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import nn

from neuropbr_core.contracts import Prediction
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.loader import val_loader
from neuropbr_core.data.batches.prepare import Prepared, prepare


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
