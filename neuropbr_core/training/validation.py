"""Validation: whole frames of the held-back materials, metrics averaged over images."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from neuropbr_core.contracts import Prediction
from neuropbr_core.data.dataset import MaterialDataset
from neuropbr_core.data.loading import val_loader
from neuropbr_core.data.prepare import Prepared, prepare
from neuropbr_core.evaluation.heldout import draw_sample
from neuropbr_core.evaluation.means import RunningMeans
from neuropbr_core.evaluation.metrics import measure
from neuropbr_core.evaluation.pictures import sample_pictures
from neuropbr_core.evaluation.tiles import Picture
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.training.measuring import with_overall
from neuropbr_core.training.step import Stepper, loss_input

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
    means = RunningMeans()
    images: dict[str, np.ndarray] = {}
    details: dict[str, np.ndarray] = {}
    for batch in val_loader(dataset, recipe.training.batch_size, num_workers=recipe.data.num_workers):
        prepared = prepare(batch, recipe.data, stepper.fabric.device)
        prediction = predict(generator, stepper, prepared)
        rows = measure(prediction.maps, prepared.targets, prepared.valid)
        loss = stepper.objective.reconstruction(loss_input(prediction, prepared, epoch))
        means.add(batch.ids, batch.materials, {"loss": loss.expand(len(batch)), **rows}, prepared.valid)
        for index, (name, material) in enumerate(zip(batch.ids, batch.materials, strict=True)):
            if with_images and material not in images and len(images) < GRIDS:
                images[material] = draw_sample(prepared, prediction, index, f"{name} · {material}")
                parts = draw_parts(prepared, prediction, index)
                details |= {f"{material}/{part}": picture for part, picture in parts.items()}
    generator.train(was_training)
    return ValidationResult(with_overall(means.means()), images, details)


def predict(generator: nn.Module, stepper: Stepper, prepared: Prepared) -> Prediction:
    """Predict a batch at the run's precision; the result is float32."""
    with stepper.fabric.autocast():
        prediction: Prediction = generator(prepared.views, prepared.visible, prepared.directions)
    return Prediction(*({name: value.float() for name, value in part.items()} for part in prediction))


def draw_parts(prepared: Prepared, prediction: Prediction, index: int) -> dict[str, Picture]:
    """The single pictures of one sample of a batch."""
    predicted, target = (
        {name: value[index] for name, value in maps.items()} for maps in (prediction.maps, prepared.targets)
    )
    return sample_pictures(prepared.views[index], predicted, target, prepared.valid[index], prepared.visible[index])
