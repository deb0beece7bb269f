"""A generator's predictions of samples that it was not trained on: scored beside the baselines, or drawn."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from neuropbr_core.contracts import Maps, Prediction
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.frames import predict_frames
from neuropbr_core.data.batches.loader import val_loader
from neuropbr_core.data.batches.prepare import Prepared, prepare
from neuropbr_core.evaluation.baselines import Baselines, TargetMean
from neuropbr_core.evaluation.evaluator import Evaluator
from neuropbr_core.evaluation.grid import comparison_grid
from neuropbr_core.evaluation.summary import EvaluationRecord


@torch.no_grad()
def evaluate_samples(
    generator: nn.Module,
    samples: MaterialDataset,
    mean: dict[str, tuple[float, ...]],
    device: torch.device,
    batch_size: int = 1,
) -> EvaluationRecord:
    """Score whole frames of any samples.

    Args:
        generator: On `device`, in eval mode.
        samples: The samples to score.
        mean: Mean of each map over the training targets (`training_mean`); empty when it is not known.
        device: Where to compute.
        batch_size: Samples at a time.

    Returns:
        The model's and the baselines' metrics.
    """
    evaluator = Evaluator(Baselines(mean, aligned=samples.data.aligned))
    for prepared, prediction in predict_frames(generator, samples, device, batch_size=batch_size):
        evaluator.add(
            prepared.ids,
            prepared.materials,
            prediction.maps,
            prepared.targets,
            valid=prepared.valid,
            views=prepared.views,
            visible=prepared.visible,
        )
    return evaluator.record()


def training_mean(train: MaterialDataset, device: torch.device, batch_size: int = 1) -> dict[str, tuple[float, ...]]:
    """Mean of each map over whole frames of the training samples, a value per channel."""
    mean = TargetMean()
    # Whole frames, as in the evaluation: the mean of crops would depend on the epoch.
    for batch in val_loader(train.whole(), batch_size, num_workers=train.data.num_workers):
        prepared = prepare(batch, train.data, device)
        mean.add(prepared.targets, prepared.valid)
    return mean.values()


@torch.no_grad()
def draw_samples(
    generator: nn.Module, samples: MaterialDataset, names: Sequence[str], device: torch.device
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Predict samples again and draw each as a comparison grid.

    Args:
        generator: On `device`, in eval mode.
        samples: Where the samples are.
        names: Ids of the samples to draw, in the order of the result.
        device: Where to compute.

    Yields:
        Id, material and picture.
    """
    # One sample a batch, because grids are drawn one by one and the caller may stop early.
    by_name = {sample.id: sample for sample in samples.samples}
    # In the order of `names`, in which the samples are predicted and drawn.
    chosen = samples.frames_of(by_name[name] for name in names)
    for prepared, prediction in predict_frames(generator, chosen, device):
        name = prepared.ids[0]
        material = prepared.materials[0]
        yield name, material, draw_sample(prepared, prediction, 0, f"{name} · {material}")


def draw_sample(prepared: Prepared, prediction: Prediction, index: int, title: str) -> np.ndarray:
    """Draw one sample of a batch.

    Args:
        prepared: The batch that was predicted.
        prediction: The prediction of the whole batch.
        index: Position of the sample in the batch.
        title: A line above the views.

    Returns:
        The comparison grid.
    """
    return comparison_grid(
        prepared.views[index],
        _of_sample(prediction.maps, index),
        _of_sample(prepared.targets, index),
        prepared.valid[index],
        visible=prepared.visible[index],
        title=title,
    )


def _of_sample(maps: Maps, index: int) -> Maps:
    return {name: value[index] for name, value in maps.items()}
