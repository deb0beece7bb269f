"""The honest baselines: what can be had without training, and what results are read against."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import RunError
from neuropbr_core.maps import ALBEDO, MAPS, METALLIC, NORMAL, ROUGHNESS
from neuropbr_core.model.median import visible_median

TRAINING_MEAN = "per-map training mean"
ALWAYS_DIELECTRIC = "metallic always 0"
MEDIAN_ALIGNED = "median of the aligned views"
MEDIAN_UNALIGNED = "median of the views"
FLAT_NORMAL = "flat normal"
BEST_CONSTANT = "best constant"
NAIVE = "median, mean roughness, no metal, flat"
"""All four maps without a network (`Baselines.naive`): what a re-rendering is read against."""

CONSTANT_MAPS: tuple[str, ...] = tuple(name for name in MAPS if name != NORMAL.name)
"""Maps of which a mean is a sensible constant; a normal's constant is the flat one."""


class TargetMean:
    """Mean of every map but the normal over the valid pixels of the training targets, batch by batch."""

    def __init__(self) -> None:
        self._sums: dict[str, Float[Tensor, " C"]] = {}
        self._pixels = 0.0

    def add(self, target: Maps, valid: Float[Tensor, "B 1 H W"]) -> None:
        """Add a batch of true maps in the ranges of `neuropbr_core.maps`."""
        mask = valid > 0.5
        self._pixels += float(mask.sum())
        for name in CONSTANT_MAPS:
            if name in target:
                per_image = torch.where(mask, target[name].float(), 0.0).sum(dim=(2, 3))
                self._sums[name] = self._sums.get(name, 0.0) + per_image.cpu().double().sum(dim=0)

    def values(self) -> dict[str, tuple[float, ...]]:
        """Mean of each map, a value per channel.

        Raises:
            RunError: No valid pixel was added.
        """
        if not self._pixels:
            raise RunError(
                "training mean: no valid pixel in the training targets; check data.root and its cameras.json"
            )
        return {name: tuple((total / self._pixels).tolist()) for name, total in self._sums.items()}


class Baselines:
    """Predictions that need no network.

    Args:
        training_mean: Mean of each map over the training targets, a value per channel (`TargetMean.values`); empty
            where it is not known: then there is no such baseline, and the naive roughness is 0.5.
        aligned: Whether the views are aligned with the texture; names the median accordingly.

    Attributes:
        training_mean: As given.
    """

    def __init__(self, training_mean: dict[str, tuple[float, ...]], *, aligned: bool = True) -> None:
        self.training_mean = training_mean
        self._median_name = MEDIAN_ALIGNED if aligned else MEDIAN_UNALIGNED

    def predictions(
        self, views: Float[Tensor, "B V 3 h w"], visible: Float[Tensor, "B V 1 h w"], target: Maps
    ) -> dict[str, Maps]:
        """Predict what each baseline says about the maps of `target`.

        Args:
            views: Aligned views, sRGB-encoded in [0, 1].
            visible: What each view sees, in [0, 1].
            target: The true maps; only their names, shapes and device are looked at.

        Returns:
            The maps of each baseline by its name; a baseline without a map in `target` is left out.
        """
        mean = {name: _constant(value, target[name]) for name, value in self.training_mean.items() if name in target}
        named: dict[str, Maps] = {TRAINING_MEAN: mean}
        if METALLIC.name in target:
            named[ALWAYS_DIELECTRIC] = {METALLIC.name: torch.zeros_like(target[METALLIC.name])}
        if ALBEDO.name in target:
            named[self._median_name] = {ALBEDO.name: _median_albedo(views, visible, target[ALBEDO.name])}
        if NORMAL.name in target:
            named[FLAT_NORMAL] = {NORMAL.name: _constant((0.0, 0.0, 1.0), target[NORMAL.name])}
        return {name: maps for name, maps in named.items() if maps}

    def naive(self, views: Float[Tensor, "B V 3 h w"], visible: Float[Tensor, "B V 1 h w"], target: Maps) -> Maps:
        """A whole material without a network: median albedo, mean roughness, no metal, flat.

        Args:
            views: Aligned views, sRGB-encoded in [0, 1].
            visible: What each view sees, in [0, 1].
            target: The true maps, all four; only their shapes and device are looked at.
        """
        named = self.predictions(views, visible, target)
        roughness = named.get(TRAINING_MEAN, {}).get(ROUGHNESS.name, torch.full_like(target[ROUGHNESS.name], 0.5))
        parts = (named[self._median_name], named[ALWAYS_DIELECTRIC], named[FLAT_NORMAL])
        return {ROUGHNESS.name: roughness} | {name: value for part in parts for name, value in part.items()}


def _constant(value: tuple[float, ...], like: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    return torch.tensor(value, dtype=torch.float32, device=like.device).view(1, -1, 1, 1).expand(like.shape)


def _median_albedo(
    views: Float[Tensor, "B V 3 h w"], visible: Float[Tensor, "B V 1 h w"], like: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, "B 3 H W"]:
    median = visible_median(views.float(), visible)
    if median.shape[-2:] == like.shape[-2:]:
        return median
    return F.interpolate(median, size=like.shape[-2:], mode="bilinear", align_corners=False, antialias=True)
