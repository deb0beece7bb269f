"""A generator on the held-back samples of its dataset, beside the baselines."""

import torch
from torch import nn

from neuropbr_core.data.dataset import MaterialDataset
from neuropbr_core.data.loading import val_loader
from neuropbr_core.data.prepare import prepare
from neuropbr_core.evaluation.baselines import Baselines, TargetMean
from neuropbr_core.evaluation.evaluator import Evaluator
from neuropbr_core.evaluation.summary import EvaluationRecord


@torch.no_grad()
def evaluate_heldout(
    generator: nn.Module, train: MaterialDataset, heldout: MaterialDataset, device: torch.device, batch_size: int = 1
) -> EvaluationRecord:
    """Score whole frames.

    Args:
        generator: On `device`, in eval mode.
        train: The training samples, from whose targets the mean baseline is taken.
        heldout: The samples to score.
        device: Where to compute.
        batch_size: Samples at a time.

    Returns:
        The model's and the baselines' metrics.
    """
    data = heldout.data
    evaluator = Evaluator(Baselines(training_mean(train, device, batch_size), aligned=data.alignment != "none"))
    for batch in val_loader(heldout, batch_size, num_workers=data.num_workers):
        ready = prepare(batch, data, device)
        maps = generator(ready.views, ready.visible, ready.directions).maps
        evaluator.add(
            batch.ids,
            batch.materials,
            maps,
            ready.targets,
            valid=ready.valid,
            views=ready.views,
            visible=ready.visible,
        )
    return evaluator.record()


def training_mean(train: MaterialDataset, device: torch.device, batch_size: int = 1) -> dict[str, tuple[float, ...]]:
    """Mean of each map over whole frames of the training samples, a value per channel."""
    mean = TargetMean()
    for batch in val_loader(train.whole(), batch_size, num_workers=train.data.num_workers):
        ready = prepare(batch, train.data, device)
        mean.add(ready.targets, ready.valid)
    return mean.values()
