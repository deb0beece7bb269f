"""What a pass over the maps computes: one number for each `Measure`."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from neuropbr_core.maps import MAPS

C1 = 0.01**2
"""(K1 · data range)² of SSIM, which keeps the luminance term finite on black."""

C2 = 0.03**2
"""(K2 · data range)² of SSIM, which keeps the contrast term finite on constant areas."""

Taps = tuple[float, ...]
"""Weights of a window along one axis."""


def gaussian_taps(window: int, sigma: float) -> Taps:
    """Compute a one-dimensional Gaussian window.

    Args:
        window: Number of weights.
        sigma: Standard deviation in pixels.

    Returns:
        The weights, which add up to 1.
    """
    center = (window - 1) / 2
    weights = [math.exp(-((i - center) ** 2) / (2 * sigma**2)) for i in range(window)]
    return tuple(weight / sum(weights) for weight in weights)


class Measure(NamedTuple):
    """A mean over the valid pixels of each image, and then over the images that have a valid pixel.

    Attributes:
        kind: `l1`: |prediction - target| over channels and pixels, in the map's own range. `ssim`: 1 - SSIM, of the map
            scaled to [0, 1]. `cosine` and `angle`: 1 - cos of the angle between vectors, and the angle in radians.
        map: Name of the map; one with three channels for `cosine` and `angle`.
        taps: `ssim`: one axis of the separable window, odd in number.
    """

    kind: Literal["l1", "ssim", "cosine", "angle"]
    map: str
    taps: Taps = ()


class Job(NamedTuple):
    """What one pass computes.

    Attributes:
        maps: Names of the maps that are read, each once.
        measures: The measures; their values come in this order.
        learned: How many of them, from the first one on, have a gradient; the others are for the logs.
    """

    maps: tuple[str, ...]
    measures: tuple[Measure, ...]
    learned: int

    @classmethod
    def of(cls, learned: Sequence[Measure], logged: Sequence[Measure] = ()) -> "Job":
        """A pass over measures that losses and logs need; each measure is computed once."""
        unique = tuple(dict.fromkeys(learned))
        measures = tuple(dict.fromkeys((*unique, *logged)))
        maps = tuple(dict.fromkeys(measure.map for measure in measures))
        return cls(maps, measures, len(unique))

    def of_map(self, name: str) -> list[tuple[int, Measure]]:
        """The measures of a map, with their places among all measures."""
        return [(index, measure) for index, measure in enumerate(self.measures) if measure.map == name]


def to_unit(name: str) -> tuple[float, float]:
    """Factor and offset that take a map from its own range to [0, 1]."""
    low, high = MAPS[name].value_range
    factor = 1 / (high - low)
    return factor, -low * factor


def image_shares(valid: Float[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
    """Share of a valid pixel of each image in a measure, for one channel.

    Args:
        valid: 1 where a pixel counts, 0 where it does not.

    Returns:
        1 / (valid pixels of the image · images with a valid pixel), finite also for an image without one.
    """
    pixels = (valid != 0).sum(dim=(1, 2, 3))
    # The clamps avoid 0 / 0 without a branch, for which the host would have to wait for the device.
    images = (pixels > 0).sum().clamp(min=1)
    return 1 / (pixels.clamp(min=1) * images)
