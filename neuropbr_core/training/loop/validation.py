"""Validation: whole frames of the held-back materials, metrics averaged over images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from neuropbr_core.contracts import LossInput, Prediction
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.frames import predict_frames
from neuropbr_core.data.batches.prepare import Prepared
from neuropbr_core.evaluation.heldout import draw_sample
from neuropbr_core.evaluation.means import RunningMeans
from neuropbr_core.evaluation.metrics import measure
from neuropbr_core.evaluation.pictures import sample_pictures
from neuropbr_core.evaluation.tiles import Picture
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.training.loop.measuring import with_overall
from neuropbr_core.training.loop.objective import Objective
from neuropbr_core.training.loop.step import Stepper, loss_input

GRIDS = 4
"""Samples of which a comparison grid is drawn, each of another material where there are enough."""


@dataclass(frozen=True)
class ValidationResult:
    """What a `contracts.ValidationSummary` has of these names."""

    metrics: dict[str, float]
    images: dict[str, np.ndarray]
    details: dict[str, np.ndarray]


@torch.no_grad()
def validate(
    generator: nn.Module, stepper: Stepper, dataset: MaterialDataset, recipe: Recipe, epoch: int, *, with_images: bool
) -> ValidationResult:
    """Predict every held-back sample and measure it; leaves the generator in the mode it was in.

    Args:
        generator: What predicts: the generator, or the average of its weights.
        stepper: Device, precision and losses.
        dataset: The held-back samples.
        recipe: The recipe.
        epoch: The epoch, from 0.
        with_images: Whether to draw comparison grids.
    """
    was_training = generator.training
    generator.eval()
    tables: list[Tensor] = []
    names: list[str] = []
    images: dict[str, np.ndarray] = {}
    details: dict[str, np.ndarray] = {}
    fabric = stepper.fabric
    frames = predict_frames(
        generator,
        dataset,
        fabric.device,
        batch_size=recipe.training.batch_size,
        autocast=fabric.autocast,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    for prepared, prediction in frames:
        losses = image_losses(stepper.objective, loss_input(prediction, prepared, epoch))
        rows = {"loss": losses, **measure(prediction.maps, prepared.targets, prepared.valid)}
        names = list(rows)
        counted = (prepared.valid > 0.5).flatten(1).any(dim=1)
        tables.append(torch.stack([*rows.values(), counted], dim=1))
        for index, (name, material) in enumerate(zip(prepared.ids, prepared.materials, strict=True)):
            if with_images and material not in images and len(images) < GRIDS:
                images[material] = draw_sample(prepared, prediction, index, f"{name} · {material}")
                parts = draw_parts(prepared, prediction, index)
                details |= {f"{material}/{part}": picture for part, picture in parts.items()}
    generator.train(was_training)
    means = _gather(fabric, torch.cat(tables), names, dataset)
    return ValidationResult(with_overall(means.means()), images, details)


def image_losses(objective: Objective, x: LossInput) -> Float[Tensor, " B"]:
    """The reconstruction total of each image by itself, whatever batch it came in."""
    return torch.stack([objective.reconstruction(_image(x, index)) for index in range(len(x.valid))])


def _image(x: LossInput, index: int) -> LossInput:
    """What the losses see of one image of a batch."""
    one = slice(index, index + 1)
    maps, logits, features = ({name: value[one] for name, value in part.items()} for part in x.prediction)
    target = {name: value[one] for name, value in x.target.items()}
    return LossInput(
        Prediction(maps, logits, features), target, x.views[one], x.visible[one], x.valid[one], epoch=x.epoch
    )


def _gather(fabric: Fabric, table: Tensor, names: Sequence[str], dataset: MaterialDataset) -> RunningMeans:
    """Join the rows of all processes: process r has samples r, r + P, …, and then repeats the last one."""
    gathered = torch.as_tensor(fabric.all_gather(table)).view(fabric.world_size, *table.shape)
    rows = gathered.transpose(0, 1).flatten(0, 1)[: len(dataset)].cpu()
    means = RunningMeans()
    means.add(
        [sample.id for sample in dataset.samples],
        [sample.material for sample in dataset.samples],
        dict(zip(names, rows.T, strict=False)),
        rows[:, -1].view(-1, 1, 1, 1),
    )
    return means


def draw_parts(prepared: Prepared, prediction: Prediction, index: int) -> dict[str, Picture]:
    """The single pictures of one sample of a batch."""
    predicted, target = (
        {name: value[index] for name, value in maps.items()} for maps in (prediction.maps, prepared.targets)
    )
    return sample_pictures(prepared.views[index], predicted, target, prepared.valid[index], prepared.visible[index])
