"""Metrics of training steps and of whole validations, from the metrics of single images."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.evaluation.metrics import measure
from neuropbr_core.maps import MAP_NAMES

STEP_METRICS = ("mae", "ssim", "angle")
OVERALL_METRICS = ("psnr", "ssim", "mae")


def step_metrics(prediction: Maps, target: Maps, valid: Float[Tensor, "B 1 H W"]) -> dict[str, Tensor]:
    """Measure the prediction that a training step made.

    Args:
        prediction: Predicted maps in the ranges of `neuropbr_core.maps`.
        target: The true maps.
        valid: 1 where a pixel counts.

    Returns:
        `<map>/mae` and `<map>/ssim` of each map and `normal/angle` (degrees), as scalars on the device: means over the
        images that have a valid pixel, NaN when none has.
    """
    metrics = {}
    with torch.no_grad():
        counted = (valid > 0.5).flatten(1).any(dim=1)
        for name, row in measure(prediction, target, valid).items():
            if name.rpartition("/")[2] in STEP_METRICS:
                # An image without a valid pixel has NaN for its error, which `where` keeps out of the sum.
                metrics[name] = torch.where(counted, row, 0.0).sum() / counted.sum()
    return metrics


def with_overall(metrics: Mapping[str, float]) -> dict[str, float]:
    """Add `overall/psnr`, `overall/ssim` and `overall/mae`: the means of that metric over the maps that have it."""
    overall = dict(metrics)
    for metric in OVERALL_METRICS:
        values = []
        for name in MAP_NAMES:
            key = f"{name}/{metric}"
            # Not every metric is measured of every map, and a model may predict fewer maps.
            if key in metrics:
                values.append(metrics[key])
        if values:
            overall[f"overall/{metric}"] = sum(values) / len(values)
    return overall
