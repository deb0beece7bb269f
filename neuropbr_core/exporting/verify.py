"""Does an exported file give the maps of the model it came from?"""

import math
from dataclasses import dataclass

import torch

from neuropbr_core.contracts import Maps
from neuropbr_core.maps import MAPS

PASS_MARKS_DB = {"fp32": 90.0, "fp16": 55.0}
"""Smallest PSNR of every map, by the precision that the exporter reports; fp16 also has `MAX_DIFFERENCE`."""

MAX_DIFFERENCE = {"fp32": 1 / 255, "fp16": 1 / 255}
"""Largest difference of any pixel, in the map's own range."""

IDENTICAL_DB = 200.0


@dataclass(frozen=True)
class Comparison:
    """How far one exported map is from the model's.

    Attributes:
        max_difference: Largest absolute difference.
        mean_difference: Mean absolute difference.
        psnr: In dB over the width of the map's range; 200 when identical.
    """

    max_difference: float
    mean_difference: float
    psnr: float


def compare(found: Maps, expected: Maps) -> dict[str, Comparison]:
    """Compare maps by name; a map that is missing or has another shape counts as infinitely far."""
    return {name: _compare(found.get(name), truth, name) for name, truth in expected.items()}


def _compare(found: torch.Tensor | None, expected: torch.Tensor, name: str) -> Comparison:
    if found is None or found.shape != expected.shape:
        return Comparison(math.inf, math.inf, -math.inf)
    difference = (found.double() - expected.double()).abs()
    low, high = MAPS[name].value_range
    mse = difference.square().mean().item()
    psnr = 10 * math.log10((high - low) ** 2 / mse) if mse > 0 else IDENTICAL_DB
    return Comparison(difference.max().item(), difference.mean().item(), min(psnr, IDENTICAL_DB))


def passes(comparisons: dict[str, Comparison], precision: str) -> bool:
    """Whether every map reaches the pass mark of `precision`."""
    mark, limit = PASS_MARKS_DB[precision], MAX_DIFFERENCE[precision]
    return all(c.psnr >= mark and c.max_difference <= limit for c in comparisons.values())
