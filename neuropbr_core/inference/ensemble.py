"""Predictions of one material from several sides: their mean is better than each, and their spread tells doubts.

Each pass shows the network the same photos turned by a quarter-turn, or all but one of them. A network that was sure
would predict the same maps each time.

Source: deep ensembles (Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles"), with transformed inputs in place of several networks (Ayhan & Berens 2018, "Test-time Data Augmentation for
Estimation of Heteroscedastic Aleatoric Uncertainty in Deep Neural Networks").
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAPS
from neuropbr_core.reporting import reporter

CLIPPED = 253 / 255
"""Value from which a channel counts as clipped: JPEG moves white by up to two steps of 8 bits."""
# Spread at which the confidence is one half. On held-back materials half of the texels spread less.
_USUAL_SPREAD = 0.05
Inputs = dict[str, Tensor]


class Ensemble(NamedTuple):
    """What several passes agree and disagree on.

    Attributes:
        maps: Mean over the quarter-turns, in the ranges of `neuropbr_core.maps`; normals are unit vectors.
        confidence: `(1, 1, H, W)` in [0, 1]: 1 / (1 + spread / 0.05), the spread being the root of the mean squared
            deviation of all passes, averaged over the maps in their stored range of [0, 1]; 0 where no photo shows the
            material, and halved where all photos that show it are clipped.
    """

    maps: Maps
    confidence: Float[Tensor, "1 1 H W"]


def predict_ensemble(apply: Callable[[Inputs], Maps], inputs: Inputs, *, fewer: bool = True) -> Ensemble:
    """Predict from four quarter-turns, and from all photos but one for each of them.

    Args:
        apply: Predicts maps `(1, C, H, W)` from prepared inputs, such as `LoadedGenerator.apply`.
        inputs: `views` `(1, V, 3, h, w)` and what else the model takes: `visible` and `directions`, of the same h and
            w, square. Without directions, photos are not turned: the light's direction would be lost with the frame's.
        fewer: Whether the model takes fewer photos, too. An exported file takes a fixed number.

    Returns:
        The mean maps, and the confidence.

    Raises:
        ModelError: There is one prediction only, which nothing can be compared with.
    """
    turns = range(4)
    if "directions" not in inputs:
        turns = range(1)
    count = inputs["views"].shape[1]
    left_out = range(0)
    # A photo alone has nothing to be compared with, and of two the other alone says too little.
    if fewer and count >= 3:
        left_out = range(count)
    if len(turns) + len(left_out) < 2:
        raise ModelError(
            "an ensemble needs predictions that can differ, and this model gives one from these photos: it is told no "
            "directions, so that photos are not turned, and none can be left out; predict without the ensemble"
        )
    passes: list[Maps] = []
    bar = reporter().bar(len(turns) + len(left_out), "predicting")
    try:
        for quarters in turns:
            passes.append(turned_maps(apply(turned_inputs(inputs, quarters)), -quarters))
            bar.advance()
        maps = _mean(passes)
        for view in left_out:
            others = [index for index in range(count) if index != view]
            passes.append(apply({name: value[:, others] for name, value in inputs.items()}))
            bar.advance()
    finally:
        bar.close()
    return Ensemble(maps, _confidence(passes, inputs, maps))


def predict_turned(apply: Callable[[Inputs], Maps], inputs: Inputs) -> Maps:
    """Predict from four quarter-turns of the photos, and return the mean.

    In captures of the development list, normals of the mean are 3 % less wrong, and the other maps about the same
    (`benchmarks/refinement.py`).

    Args:
        apply: See `predict_ensemble`.
        inputs: See `predict_ensemble`. Without directions, the photos are predicted from as they are.
    """
    if "directions" not in inputs:
        return apply(inputs)
    return mean_of_turns(lambda quarters: apply(turned_inputs(inputs, quarters)))


def mean_of_turns(predict: Callable[[int], Maps]) -> Maps:
    """Mean of the maps that are predicted from a material's quarter-turns.

    Args:
        predict: Predicts maps `(B, C, H, W)` of the material after so many quarter-turns, as `turned_inputs` turns it.
    """
    return _mean([turned_maps(predict(quarters), -quarters) for quarters in range(4)])


def turned_inputs(inputs: Inputs, quarters: int) -> Inputs:
    """Turn a material in front of its cameras by quarter-turns, counter-clockwise as the pictures show it.

    Args:
        inputs: Prepared inputs of a model.
        quarters: How many quarter-turns.

    Returns:
        The same photos, turned; the vectors of `directions` turn with their pictures.
    """
    turned: Inputs = {}
    for name, value in inputs.items():
        turned[name] = torch.rot90(value, quarters, (-2, -1))
    if "directions" in turned:
        turned["directions"] = turned_vectors(turned["directions"], quarters, dim=2)
    return turned


def turned_maps(maps: Maps, quarters: int) -> Maps:
    """Turn maps by quarter-turns, counter-clockwise as the pictures show them; normals turn with their picture.

    Args:
        maps: Maps `(B, C, H, W)`.
        quarters: How many quarter-turns; negative ones turn clockwise.
    """
    turned: Maps = {}
    for name, value in maps.items():
        turned[name] = torch.rot90(value, quarters, (-2, -1))
        if MAPS[name].activation == "slopes":
            turned[name] = turned_vectors(turned[name], quarters, dim=1)
    return turned


def turned_vectors(vectors: Tensor, quarters: int, dim: int) -> Tensor:
    """Turn vectors counter-clockwise about the axis that points out of the material.

    Args:
        vectors: x to the right, y up and z out of the material, along `dim`.
        quarters: How many quarter-turns; negative ones turn clockwise.
        dim: The dimension of the three coordinates.
    """
    x, y, z = vectors.unbind(dim)
    for _ in range(quarters % 4):
        turned_x = -y
        y = x
        x = turned_x
    return torch.stack((x, y, z), dim=dim)


def missing_side(directions: Float[Tensor, "1 V 3 h w"]) -> str:
    """From where another photo would tell most about the relief: `right`, `left`, `top` or `bottom` of the first photo.

    A bump shows when the light along its slope changes. The light's slopes over the photos have a direction in which
    they differ least; the answer is the end of that axis that is farther from their mean.

    Args:
        directions: Unit vectors from the texture to each camera, x to the right and y up.
    """
    centre = directions[0, :, :, directions.shape[3] // 2, directions.shape[4] // 2]
    slopes = centre[:, :2] / centre[:, 2:].clamp_min(0.1)
    middle = slopes.mean(dim=0)
    _, axes = torch.linalg.eigh((slopes - middle).T @ (slopes - middle))  # smallest eigenvalue first
    axis = axes[:, 0]
    # The light was on one side of the texture more than on the other, so the other side tells more.
    if float(axis @ middle) > 0:
        axis = -axis
    x, y = axis.tolist()
    if abs(x) > abs(y):
        return "right" if x > 0 else "left"
    return "top" if y > 0 else "bottom"


def _mean(passes: list[Maps]) -> Maps:
    maps: Maps = {}
    for name in passes[0]:
        mean = torch.stack([each[name] for each in passes]).mean(dim=0)
        if MAPS[name].activation == "slopes":
            mean = F.normalize(mean, dim=1)
        maps[name] = mean
    return maps


def _confidence(passes: list[Maps], inputs: Inputs, maps: Maps) -> Tensor:
    spreads = []
    for name, spec in MAPS.items():
        if name not in maps:
            continue
        values = torch.stack([each[name] for each in passes])
        low, high = spec.value_range
        # In units of the stored range, so that maps of other ranges count alike.
        deviation = (values - values.mean(dim=0)) / (high - low)
        spreads.append(deviation.square().mean(dim=(0, 2), keepdim=True)[0].sqrt())
    confidence = 1 / (1 + torch.stack(spreads).mean(dim=0) / _USUAL_SPREAD)
    views = inputs["views"]
    visible = inputs.get("visible", torch.ones_like(views[:, :, :1]))
    size = confidence.shape[-2:]
    shown = visible.sum(dim=1)
    clipped = (views.amax(dim=2, keepdim=True) >= CLIPPED).float()
    unclipped = (visible * (1 - clipped)).sum(dim=1)
    factor = torch.ones_like(shown)
    factor[unclipped < 0.5] = 0.5
    factor[shown < 0.5] = 0.0
    return confidence * F.interpolate(factor.cpu(), size=size, mode="nearest")
