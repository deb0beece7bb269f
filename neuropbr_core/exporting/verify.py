"""Compares the maps of an exported file with those of the model that it was exported from."""

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.maps import MAPS


class PassMark(NamedTuple):
    """Limits that every map of an export must keep.

    Attributes:
        psnr: Smallest PSNR in dB over the width of the map's range.
        difference: Largest difference of any pixel, in the map's own range.
    """

    psnr: float
    difference: float = math.inf


PASS_MARKS = {
    "fp32": PassMark(90.0, 1 / 255),
    "fp16": PassMark(55.0, 1 / 255),
    "palettised": PassMark(45.0),
    "image": PassMark(50.0, 2.5 / 255),
}
"""Pass marks by the precision that an exporter promises, for trained weights: untrained weights amplify rounding.

Maps that are 8-bit images (`image`) lose up to half a step by rounding, in addition to what half precision loses. Half
a step is 1/255 for a normal, whose range is 2 wide."""

# Identical maps have an infinite PSNR, which JSON cannot hold.
IDENTICAL_DB = 200.0


@dataclass(frozen=True)
class Comparison:
    """How far one exported map is from the model's.

    Attributes:
        max_difference: Largest absolute difference.
        mean_difference: Mean absolute difference.
        psnr: In dB over the width of the map's range; 200 when identical.
        note: The place of the largest difference, or why the maps cannot be compared.
    """

    max_difference: float
    mean_difference: float
    psnr: float
    note: str = ""


@dataclass(frozen=True)
class Verification:
    """The outcome of comparing a file with its model.

    Attributes:
        precision: The precision whose pass mark applies.
        comparisons: One comparison for each map.
        reference: The model that the file was compared with, in words.
        views: The views that both predicted from, in words.
    """

    precision: str
    comparisons: dict[str, Comparison]
    reference: str
    views: str

    @property
    def passed(self) -> bool:
        """Whether every map reaches the pass mark."""
        return not self.reasons()

    @property
    def worst(self) -> float:
        """The smallest PSNR of all maps, in dB."""
        return min(comparison.psnr for comparison in self.comparisons.values())

    def reasons(self) -> list[str]:
        """Why the file did not pass: one text for each map that misses the mark."""
        mark = PASS_MARKS[self.precision]
        reasons = []
        for name, comparison in self.comparisons.items():
            # Written so that NaN, which compares false with everything, misses the mark.
            if comparison.psnr >= mark.psnr and comparison.max_difference <= mark.difference:
                continue
            reasons.append(f"the exported {name} {_reason(comparison, mark, self.precision)}")
        return reasons

    def plain(self) -> dict[str, Any]:
        """The outcome as data for JSON; numbers that are not finite become null."""
        maps = {}
        for name, comparison in self.comparisons.items():
            row = asdict(comparison)
            for key, value in row.items():
                if isinstance(value, float) and not math.isfinite(value):
                    row[key] = None  # JSON has no infinity
            maps[name] = row
        facts = {"reference": self.reference, "views": self.views, "reasons": self.reasons(), "maps": maps}
        return {"precision": self.precision, "passed": self.passed, **facts}


def compare(predicted: Maps, expected: Maps) -> dict[str, Comparison]:
    """Compare maps by name.

    A map that is missing, has another shape or is not finite counts as infinitely far away.

    Args:
        predicted: Maps of the exported file.
        expected: Maps of the model.
    """
    return {name: _compare(predicted.get(name), truth, name) for name, truth in expected.items()}


def _compare(predicted: Tensor | None, expected: Tensor, name: str) -> Comparison:
    if predicted is None:
        return _incomparable("is missing")
    # Broadcasting would otherwise compare maps of different shapes without an error.
    if predicted.shape != expected.shape:
        return _incomparable(f"has the shape {_shape(predicted)} instead of {_shape(expected)}")
    if not bool(predicted.isfinite().all()):
        broken = (~predicted.isfinite()).float().mean().item()
        return _incomparable(f"is not finite in {broken:.2%} of its values: a number overflowed or was divided by zero")
    # In double precision, so that the measure adds no rounding of its own to what it measures.
    difference = (predicted.double() - expected.double()).abs()
    low, high = MAPS[name].value_range  # PSNR is relative to the width of the range: 1, and 2 for normals
    mse = difference.square().mean().item()
    psnr = IDENTICAL_DB
    note = ""
    if mse > 0:
        psnr = 10 * math.log10((high - low) ** 2 / mse)
        # One broken pixel hardly lowers the PSNR of a large map, so its place helps to find the operator at fault.
        place = torch.unravel_index(difference.argmax(), difference.shape)
        x = int(place[-1])
        y = int(place[-2])
        note = f"most at x {x}, y {y}: {float(predicted[place]):.4g} instead of {float(expected[place]):.4g}"
    return Comparison(difference.max().item(), difference.mean().item(), min(psnr, IDENTICAL_DB), note)


def _incomparable(note: str) -> Comparison:
    return Comparison(math.inf, math.inf, -math.inf, note)


def _reason(comparison: Comparison, mark: PassMark, precision: str) -> str:
    """Why one map misses the mark, as the end of a sentence about it."""
    if not math.isfinite(comparison.psnr):
        return comparison.note
    limit = ""
    if math.isfinite(mark.difference):
        limit = f" (at most {mark.difference:.2g})"
    return (
        f"differs from the model's: {comparison.psnr:.1f} dB (at least {mark.psnr:.0f} is needed for {precision}), "
        f"largest difference {comparison.max_difference:.2g}{limit}, {comparison.note}"
    )


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape))
