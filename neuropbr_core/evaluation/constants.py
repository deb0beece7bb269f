"""The constant map that does best on the very set it is scored on: what a learnt map must beat to be worth anything."""

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.evaluation.metrics import encode_unit, psnr_from_mse
from neuropbr_core.maps import MAPS

_LEVELS = 4 * 255 + 1
"""Histogram levels in [0, 1]: those of 8-bit maps are exact, others are rounded by at most 1/2040."""


class BestConstant:
    """Scores, in one pass, the constants that no fair method can know: those of the held-back set itself.

    For one map: the mean colour (least squared error) is scored by RMSE and PSNR, the median colour (least absolute
    error) by MAE; every image counts the same. All of it follows from moments and a histogram, so no image is kept.

    Args:
        name: The map; one in [0, 1] (of normals, the flat one is the constant that means something).
    """

    def __init__(self, name: str) -> None:
        self._spec = MAPS[name]
        self._moments: list[Float[Tensor, "C 2"]] = []
        self._histogram = torch.zeros(self._spec.channels, _LEVELS, dtype=torch.float64)

    def add(self, target: Maps, valid: Float[Tensor, "B 1 H W"]) -> None:
        """Add a batch of true maps; images without a valid pixel are left out."""
        images = encode_unit(self._spec, target[self._spec.name]).cpu()
        for image, mask in zip(images, valid[:, 0].cpu() > 0.5, strict=True):
            if mask.any():
                self._add_image(image[:, mask].double())

    def scores(self) -> dict[str, float]:
        """`mae`, `rmse` and `psnr` (dB), means over the images; empty when there are none."""
        if not self._moments:
            return {}
        mse = self._squared_errors()
        return {
            "mae": self._absolute_error(),
            "rmse": mse.sqrt().mean().item(),
            "psnr": psnr_from_mse(mse).mean().item(),
        }

    def _add_image(self, pixels: Float[Tensor, "C P"]) -> None:
        self._moments.append(torch.stack([pixels.mean(dim=1), pixels.square().mean(dim=1)], dim=1))
        level = (pixels * (_LEVELS - 1)).round().long().clamp(0, _LEVELS - 1)
        counts = torch.stack([torch.bincount(channel, minlength=_LEVELS) for channel in level])
        self._histogram += counts / pixels.shape[1]

    def _squared_errors(self) -> Float[Tensor, " images"]:
        """Per image: mean over channels of E[x²] - 2 c E[x] + c², for the constant c = mean of E[x]."""
        first, second = torch.stack(self._moments).unbind(dim=2)
        constant = first.mean(dim=0)
        return (second - 2 * constant * first + constant.square()).clamp_min(0).mean(dim=1)

    def _absolute_error(self) -> float:
        share = self._histogram / len(self._moments)
        levels = torch.linspace(0, 1, _LEVELS, dtype=torch.float64)
        median = levels[(share.cumsum(dim=1) < 0.5 - 1e-9).sum(dim=1)]
        return ((levels - median[:, None]).abs() * share).sum(dim=1).mean().item()
