"""Validation: whole frames of the held-back materials, metrics averaged over images."""

from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.contracts import LossInput, Prediction
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.loader import predict_frames
from neuropbr_core.data.batches.prepare import Prepared
from neuropbr_core.evaluation.heldout import draw_sample
from neuropbr_core.evaluation.metrics import RunningMeans, measure, with_overall
from neuropbr_core.evaluation.pictures import Picture, sample_pictures
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.training.loop.objective import Objective
from neuropbr_core.training.loop.step import Stepper, change_tensors, loss_input

GRIDS = 4
"""Samples of which a comparison grid is drawn, each of another material where there are enough."""


@dataclass(frozen=True)
class ValidationResult:
    """The result of a validation.

    Attributes:
        metrics: `loss`, `<map>/<metric>` and `overall/<metric>`: means over images.
        images: Comparison grids by material.
        details: The single pictures of the same samples, by `<material>/<part>`.
    """

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
    fabric = stepper.fabric
    was_training = generator.training
    generator.eval()
    # Rows of this process, one table a batch: they stay on the device until all batches are predicted.
    tables: list[Tensor] = []
    names: list[str] = []
    images: dict[str, np.ndarray] = {}
    details: dict[str, np.ndarray] = {}
    frames = predict_frames(
        generator,
        dataset,
        fabric.device,
        batch_size=recipe.training.samples,
        autocast=fabric.autocast,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    for prepared, prediction in frames:
        # Image by image, so that the score does not depend on which images share a batch.
        losses = image_losses(stepper.objective, loss_input(prediction, prepared, epoch))
        rows = {"loss": losses, **measure(prediction.maps, prepared.targets, prepared.valid)}
        names = list(rows)
        # An image without a valid pixel has no errors; the last column says so.
        counted = (prepared.valid > 0.5).flatten(1).any(dim=1)
        tables.append(torch.stack([*rows.values(), counted], dim=1))
        for index, (name, material) in enumerate(zip(prepared.ids, prepared.materials, strict=True)):
            if with_images and material not in images and len(images) < GRIDS:
                images[material] = draw_sample(prepared, prediction.maps, index, f"{name} · {material}")
                for part, picture in draw_parts(prepared, prediction, index).items():
                    details[f"{material}/{part}"] = picture
    generator.train(was_training)  # an average stays in eval mode, in which it was found

    # Process r has samples r, r + P, r + 2 P, …, and then repeats the last one, so that all have equally many.
    table = torch.cat(tables)
    gathered = torch.as_tensor(fabric.all_gather(table)).view(fabric.world_size, *table.shape)
    in_order = gathered.transpose(0, 1).flatten(0, 1)[: len(dataset)].cpu()
    ids = []
    materials = []
    for sample in dataset.samples:
        ids.append(sample.id)
        materials.append(sample.material)
    means = RunningMeans()
    means.add(
        ids,
        materials,
        dict(zip(names, in_order.T, strict=False)),  # not strict: the last column has no name
        in_order[:, -1].view(-1, 1, 1, 1),
    )
    return ValidationResult(with_overall(means.means()), images, details)


def image_losses(objective: Objective, x: LossInput) -> Float[Tensor, " B"]:
    """The reconstruction total of each image by itself, whatever batch it came in."""
    totals = []
    for index in range(len(x.valid)):
        image = slice(index, index + 1)
        prediction = change_tensors(x.prediction, itemgetter(image))
        target = {name: value[image] for name, value in x.target.items()}
        alone = replace(
            x,
            prediction=prediction,
            target=target,
            views=x.views[image],
            visible=x.visible[image],
            valid=x.valid[image],
            teacher=None,  # reconstruction losses compare with the truth
        )
        totals.append(objective.reconstruction(alone))
    return torch.stack(totals)


def draw_parts(prepared: Prepared, prediction: Prediction, index: int) -> dict[str, Picture]:
    """The single pictures of one sample of a batch."""
    predicted = {name: value[index] for name, value in prediction.maps.items()}
    target = {name: value[index] for name, value in prepared.targets.items()}
    return sample_pictures(prepared.views[index], predicted, target, prepared.valid[index], prepared.visible[index])
