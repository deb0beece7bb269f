"""The honest baselines: predictions without a network, which a reader needs to judge a model's numbers.

`Baselines` predicts maps, which are measured like a model's. `BestConstant` computes the scores of a constant that only
the scored set itself reveals.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import RunError
from neuropbr_core.evaluation.metrics import encode_unit, psnr_from_mse
from neuropbr_core.maps import ALBEDO, MAPS, METALLIC, NORMAL, ROUGHNESS
from neuropbr_core.model.merge import visible_median

TRAINING_MEAN = "per-map training mean"
ALWAYS_DIELECTRIC = "metallic always 0"
MEDIAN_ALIGNED = "median of the aligned views"
MEDIAN_UNALIGNED = "median of the views"
FLAT_NORMAL = "flat normal"
BEST_CONSTANT = "best constant"
NAIVE = "median, mean roughness, no metal, flat"
"""All four maps without a network (`Baselines.naive`): the baseline of re-renderings."""

CONSTANT_MAPS = (ALBEDO.name, ROUGHNESS.name, METALLIC.name)
"""Maps of which a mean is a sensible constant; a normal's constant is the flat one."""

_LEVELS = 4 * 255 + 1
"""Histogram levels in [0, 1]: those of 8-bit maps are exact, others are rounded by at most 1/2040."""


class TargetMean:
    """Mean of every map but the normal over the valid pixels of the training targets, batch by batch."""

    def __init__(self) -> None:
        self._sums: dict[str, Float[Tensor, " C"]] = {}
        self._pixels = 0.0

    def add(self, target: Maps, valid: Float[Tensor, "B 1 H W"]) -> None:
        """Add a batch.

        Args:
            target: True maps, in the ranges of `neuropbr_core.maps`.
            valid: 1 where a pixel counts.
        """
        mask = valid > 0.5
        self._pixels += float(mask.sum())
        for name in CONSTANT_MAPS:
            if name in target:
                per_image = torch.where(mask, target[name].float(), 0.0).sum(dim=(2, 3))
                # The sum over all images needs more than the 24 bits of float32.
                self._sums[name] = self._sums.get(name, 0.0) + per_image.cpu().double().sum(dim=0)

    def values(self) -> dict[str, tuple[float, ...]]:
        """Return the mean of each map, a value per channel.

        Raises:
            RunError: No valid pixel was added.
        """
        if not self._pixels:
            raise RunError(
                "training mean: no valid pixel in the training targets; check data.root and its cameras.json"
            )
        means: dict[str, tuple[float, ...]] = {}
        for name, total in self._sums.items():
            means[name] = tuple((total / self._pixels).tolist())
        return means


class Baselines:
    """Predictions that need no network.

    Args:
        training_mean: Mean of each map over the training targets, a value per channel (`TargetMean.values`). It is
            empty when it is not known: then there is no such baseline, and the naive roughness is 0.5.
        aligned: Whether the views are aligned with the texture; names the median accordingly.

    Attributes:
        training_mean: As given.
    """

    def __init__(self, training_mean: dict[str, tuple[float, ...]], *, aligned: bool = True) -> None:
        self.training_mean = training_mean
        self._median_name = MEDIAN_UNALIGNED
        if aligned:
            self._median_name = MEDIAN_ALIGNED

    def predictions(
        self, views: Float[Tensor, "B V 3 h w"], visible: Float[Tensor, "B V 1 h w"], target: Maps
    ) -> dict[str, Maps]:
        """Predict the maps of each baseline.

        Args:
            views: Aligned views, sRGB-encoded in [0, 1].
            visible: Where each view sees the texture, in [0, 1].
            target: The true maps; only their names, shapes and device are used.

        Returns:
            The maps of each baseline by its name; a baseline without a map in `target` is left out.
        """
        named: dict[str, Maps] = {}
        mean: dict[str, Tensor] = {}
        for name, value in self.training_mean.items():
            if name in target:
                mean[name] = _constant(value, target[name])
        if mean:
            named[TRAINING_MEAN] = mean
        if METALLIC.name in target:
            named[ALWAYS_DIELECTRIC] = {METALLIC.name: torch.zeros_like(target[METALLIC.name])}
        if ALBEDO.name in target:
            median = visible_median(views.float(), visible)
            size = target[ALBEDO.name].shape[-2:]
            # Views may be smaller or larger than maps, so the resampling must not alias when it shrinks.
            if median.shape[-2:] != size:
                median = F.interpolate(median, size=size, mode="bilinear", align_corners=False, antialias=True)
            named[self._median_name] = {ALBEDO.name: median}
        if NORMAL.name in target:
            named[FLAT_NORMAL] = {NORMAL.name: _constant((0.0, 0.0, 1.0), target[NORMAL.name])}
        return named

    def naive(self, predictions: Mapping[str, Maps], like: Float[Tensor, "B 1 H W"]) -> Maps:
        """Combine baselines to a whole material: median albedo, mean roughness, no metal, flat.

        Args:
            predictions: What `predictions` returned for a target of all four maps.
            like: Any roughness; only its shape and device are used.
        """
        # Half-way when the training mean is not known: a re-rendering needs some roughness.
        roughness = torch.full_like(like, 0.5)
        roughness = predictions.get(TRAINING_MEAN, {}).get(ROUGHNESS.name, roughness)
        return {
            ROUGHNESS.name: roughness,
            **predictions[self._median_name],
            **predictions[ALWAYS_DIELECTRIC],
            **predictions[FLAT_NORMAL],
        }


def _constant(value: tuple[float, ...], like: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    return torch.tensor(value, dtype=torch.float32, device=like.device).view(1, -1, 1, 1).expand(like.shape)


class BestConstant:
    """Scores of the constant map that is best on the very set that is scored. A learnt map must beat it to be useful.

    No fair method can know that constant. The mean colour, which has the least squared error, is scored by RMSE and
    PSNR; the median colour, which has the least absolute error, by MAE. Every image counts the same. Moments and a
    histograms suffice, so one pass is enough and no image is kept.

    Args:
        name: The map; one with values in [0, 1], which a normal is not.
    """

    def __init__(self, name: str) -> None:
        self._spec = MAPS[name]
        self._moments: list[Float[Tensor, "C 2"]] = []
        self._shares: list[Float[Tensor, "C L"]] = []

    def add(self, target: Maps, valid: Float[Tensor, "B 1 H W"]) -> None:
        """Add a batch; images without a valid pixel are left out.

        Args:
            target: True maps, in the ranges of `neuropbr_core.maps`.
            valid: 1 where a pixel counts.
        """
        images = encode_unit(self._spec, target[self._spec.name]).cpu()
        masks = valid[:, 0].cpu() > 0.5
        for image, mask in zip(images, masks, strict=True):
            if not mask.any():
                continue
            # float64, because E[x²] - E[x]² cancels in `scores`.
            pixels = image[:, mask].double()
            self._moments.append(torch.stack([pixels.mean(dim=1), pixels.square().mean(dim=1)], dim=1))
            level = (pixels * (_LEVELS - 1)).round().long().clamp(0, _LEVELS - 1)
            shares = torch.zeros(self._spec.channels, _LEVELS, dtype=torch.float64)
            for channel, channel_level in enumerate(level):
                counts = torch.bincount(channel_level, minlength=_LEVELS)
                # Shares of the image, so that an image with few valid pixels has the weight of any other.
                shares[channel] = counts / pixels.shape[1]
            self._shares.append(shares)

    def scores(self) -> dict[str, float]:
        """Return `mae`, `rmse` and `psnr` (dB), means over the images; empty when there are none."""
        means: dict[str, float] = {}
        for name, values in self.image_scores().items():
            means[name] = values.mean().item()
        return means

    def image_scores(self) -> dict[str, Float[Tensor, " N"]]:
        """Return `mae`, `rmse` and `psnr` (dB) of each image, in the order in which they were added."""
        if not self._moments:
            return {}
        # The squared error of an image against c is E[x²] - 2 c E[x] + c²; the best c is the mean of E[x] over images.
        first, second = torch.stack(self._moments).unbind(dim=2)
        mean = first.mean(dim=0)
        # Rounding may leave a tiny negative number where every image is constant.
        mse = (second - 2 * mean * first + mean.square()).clamp_min(0).mean(dim=1)
        shares = torch.stack(self._shares)
        share = shares.mean(dim=0)
        levels = torch.linspace(0, 1, _LEVELS, dtype=torch.float64)
        # The first level at which half of the pixels are reached; 1e-9 absorbs the rounding of the sum.
        median = levels[(share.cumsum(dim=1) < 0.5 - 1e-9).sum(dim=1)]
        absolute = ((levels - median[:, None]).abs() * shares).sum(dim=2)
        # Roots and logarithms of each image, as in `metrics.measure`.
        return {"mae": absolute.mean(dim=1), "rmse": mse.sqrt(), "psnr": psnr_from_mse(mse)}
