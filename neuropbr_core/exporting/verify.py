"""Does an exported file give the maps of the model it came from?"""

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.maps import MAPS


class PassMark(NamedTuple):
    """What every map of an export must reach.

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
"""Pass marks by the precision that an exporter promises, for trained weights: untrained ones amplify rounding.

Maps that are 8-bit images (`image`) are rounded by up to half a step, which is 1/255 of a normal, beside what half
precision loses."""

IDENTICAL_DB = 200.0


@dataclass(frozen=True)
class Comparison:
    """How far one exported map is from the model's.

    Attributes:
        max_difference: Largest absolute difference.
        mean_difference: Mean absolute difference.
        psnr: In dB over the width of the map's range; 200 when identical.
        note: Where they differ most, or why they cannot be compared.
    """

    max_difference: float
    mean_difference: float
    psnr: float
    note: str = ""


@dataclass(frozen=True)
class Verification:
    """The outcome of comparing a file with its model.

    Attributes:
        precision: Whose pass mark applies.
        comparisons: By map.
        reference: What it was compared with, in words.
        views: What views it was compared on, in words.
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
        """Why it did not pass: one text for each map that misses the mark."""
        mark = PASS_MARKS[self.precision]
        missed = {
            name: found
            for name, found in self.comparisons.items()
            if not (found.psnr >= mark.psnr and found.max_difference <= mark.difference)
        }
        return [f"the exported {name} {_reason(found, mark, self.precision)}" for name, found in missed.items()]

    def plain(self) -> dict[str, Any]:
        """As data for JSON; numbers that are not finite become null."""
        maps = {}
        for name, comparison in self.comparisons.items():
            row = asdict(comparison)
            for key, value in row.items():
                if isinstance(value, float) and not math.isfinite(value):
                    row[key] = None  # JSON has no infinity
            maps[name] = row
        facts = {"reference": self.reference, "views": self.views, "reasons": self.reasons(), "maps": maps}
        return {"precision": self.precision, "passed": self.passed, **facts}


def compare(found: Maps, expected: Maps) -> dict[str, Comparison]:
    """Compare maps by name; one that is missing, has another shape or is not finite counts as infinitely far."""
    return {name: _compare(found.get(name), truth, name) for name, truth in expected.items()}


def _compare(found: Tensor | None, expected: Tensor, name: str) -> Comparison:
    if found is None:
        return _incomparable("is missing")
    if found.shape != expected.shape:
        return _incomparable(f"has the shape {_shape(found)} instead of {_shape(expected)}")
    if not bool(found.isfinite().all()):
        broken = (~found.isfinite()).float().mean().item()
        return _incomparable(f"is not finite in {broken:.2%} of its values: a number overflowed or was divided by zero")
    difference = (found.double() - expected.double()).abs()
    low, high = MAPS[name].value_range
    mse = difference.square().mean().item()
    psnr = IDENTICAL_DB
    note = ""
    if mse > 0:
        psnr = 10 * math.log10((high - low) ** 2 / mse)
        note = _worst_place(difference, found, expected)
    return Comparison(difference.max().item(), difference.mean().item(), min(psnr, IDENTICAL_DB), note)


def _incomparable(note: str) -> Comparison:
    return Comparison(math.inf, math.inf, -math.inf, note)


def _worst_place(difference: Tensor, found: Tensor, expected: Tensor) -> str:
    place = torch.unravel_index(difference.argmax(), difference.shape)
    x = int(place[-1])
    y = int(place[-2])
    return f"most at x {x}, y {y}: {float(found[place]):.4g} instead of {float(expected[place]):.4g}"


def _reason(found: Comparison, mark: PassMark, precision: str) -> str:
    if not math.isfinite(found.psnr):
        return found.note
    limit = ""
    if math.isfinite(mark.difference):
        limit = f" (at most {mark.difference:.2g})"
    return (
        f"differs from the model's: {found.psnr:.1f} dB (at least {mark.psnr:.0f} is needed for {precision}), largest "
        f"difference {found.max_difference:.2g}{limit}, {found.note}"
    )


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape))
