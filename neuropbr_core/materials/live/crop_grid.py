"""Where the points of a crop and of its frame lie."""

from typing import NamedTuple

import numpy as np

from neuropbr_core.materials.live.framing import Array

MARGIN = 4
"""Input pixels that are shaded around a crop, for what blur and misalignment bring in."""


class CropGrid(NamedTuple):
    """A crop of the frame, in input pixels.

    Attributes:
        x: Left edge.
        y: Upper edge.
        side: Side of the crop.
        frame: Side of the frame.
        scale: Map pixels for each input pixel.
        photo: Side of the photos in pixels, which decides at which edge pixels they end.
    """

    x: int
    y: int
    side: int
    frame: int
    scale: int = 1
    photo: int = 256

    def shaded(self) -> Array:
        """The points that are shaded: map pixels of the crop and of a margin around it, `(n · n, 2)`, row by row."""
        steps = (np.arange((self.side + 2 * MARGIN) * self.scale) + 0.5) / self.scale - MARGIN
        return grid_points((steps + self.x) / self.frame, (steps + self.y) / self.frame)

    def pixels(self) -> Array:
        """Centres of the crop's input pixels, `(side · side, 2)`."""
        steps = np.arange(self.side) + 0.5
        return grid_points((steps + self.x) / self.frame, (steps + self.y) / self.frame)

    def inner(self, values: np.ndarray) -> np.ndarray:
        """Cut the margin off shaded values: `(C, n · n)` to `(C, side · scale, side · scale)`."""
        side = (self.side + 2 * MARGIN) * self.scale
        margin = MARGIN * self.scale
        square: np.ndarray = values.reshape(-1, side, side)
        return square[:, margin : side - margin, margin : side - margin]


def grid_points(u: Array, v: Array) -> Array:
    """Points of a grid `(len(v) · len(u), 2)`, row by row."""
    across, down = np.meshgrid(u, v)
    return np.stack((across.ravel(), down.ravel()), axis=1)


def frame_points(side: int) -> Array:
    """Pixel centres of the whole frame in `side` pixels, `(side², 2)`."""
    steps = (np.arange(side) + 0.5) / side
    return grid_points(steps, steps)
