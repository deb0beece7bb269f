"""A material as mipmaps of packed texels, and its values at any points.

A texel is eight bytes, so that one 64-bit load fetches all maps: red, green, blue (sRGB), roughness, metallic, x and y
of the normal, and the deviation of slopes that averaging has hidden.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]
Texels = npt.NDArray[np.uint64]

SMALLEST = 32
"""Side of the coarsest level: that of an overview."""
STEEPEST = 4.0
"""Slopes beyond it (76°) are cut off: in 8 bits they are noise."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of sRGB-encoded red, green and blue in luma (ITU-R BT.601)."""
_WIDEST = 1.0
"""Deviation of slopes that the largest byte stands for."""


class SurfaceValues(NamedTuple):
    """A material at N points.

    Attributes:
        albedo: sRGB-encoded, `(3, N)` in [0, 1].
        roughness: Perceptual roughness `(N,)` in [0, 1].
        metallic: `(N,)` in [0, 1].
        slopes: Normals divided by their z, x to the right and y up, `(2, N)`.
        spread: Deviation of slopes within a point's footprint, `(N,)`; 0 where nothing was averaged.
    """

    albedo: Values
    roughness: Values
    metallic: Values
    slopes: Values
    spread: Values


class Traits(NamedTuple):
    """Means of a whole material.

    Attributes:
        albedo: Mean albedo, sRGB-encoded `(3,)`.
        roughness: Mean roughness.
        roughness_deviation: Its deviation.
        metallic: Mean of metallic.
        slope: Mean length of the slopes: the tangent of the angle between normal and vertical.
    """

    albedo: Values
    roughness: float
    roughness_deviation: float
    metallic: float
    slope: float

    @property
    def luma(self) -> float:
        """Luma of the mean albedo, in [0, 1]."""
        return float(self.albedo @ LUMA)


class Pose(NamedTuple):
    """Where a material lies in the frame.

    Attributes:
        turn: Orthogonal 2×2 matrix from the frame's image axes (right, down) to the material's.
        zoom: Tiles of the material along the frame's side.
        offset: Material coordinates (u, v) of the frame's centre.
    """

    turn: npt.NDArray[np.float64]
    zoom: float
    offset: npt.NDArray[np.float64]


STRAIGHT = Pose(np.eye(2), 1.0, np.array([0.5, 0.5]))
"""The material as it is: its tile fills the frame."""


@dataclass(frozen=True)
class Texture:
    """A material that repeats without end.

    Attributes:
        name: Its name.
        levels: Packed texels `(S, S)`, each level half as wide as the one before.
        traits: Means of the material.
    """

    name: str
    levels: tuple[Texels, ...]
    traits: Traits

    def look_up(self, points: npt.NDArray[np.float64], pose: Pose, spacing: float) -> SurfaceValues:
        """Interpolate the material bilinearly, in the level whose texels are about as far apart as the points.

        Args:
            points: Frame coordinates (u, v), `(N, 2)`.
            pose: Where the material lies.
            spacing: Distance of neighbouring points, in sides of the frame.

        Returns:
            Its values; slopes are turned with the material.
        """
        footprint = spacing * pose.zoom * self.levels[0].shape[0]
        # Rounding keeps texels 0.7 to 1.4 spacings apart: hardly aliased, and not needlessly blurred.
        level = min(max(0, round(math.log2(footprint))), len(self.levels) - 1)
        at = (points - 0.5) @ (pose.turn.T * pose.zoom) + pose.offset
        channels = _interpolate(self.levels[level], at)
        values = _unpack(channels)
        # Image axes have y down, slopes have y up.
        x = values.slopes[0]
        y = -values.slopes[1]
        turn = pose.turn.astype(np.float32)
        right = x * turn[0, 0] + y * turn[1, 0]
        down = x * turn[0, 1] + y * turn[1, 1]
        return values._replace(slopes=np.stack((right, -down)))


def pack_texels(maps: Mapping[str, npt.NDArray[np.uint8]]) -> list[Texels]:
    """Pack stored maps, and average them down level by level.

    Args:
        maps: Albedo, roughness, metallic and normal in stored form, uint8 `(C, S, S)`; S is a power of two.

    Returns:
        The levels, finest first, down to `SMALLEST`. Colour is averaged in sRGB, slopes as slopes.
    """
    normal = maps["normal"].astype(np.float32) / 127.5 - 1
    # 0.15 bounds what a damaged or grazing texel can divide by.
    slopes = (normal[:2] / np.maximum(normal[2:], 0.15)).clip(-STEEPEST, STEEPEST)
    flat = np.concatenate([maps[name].astype(np.float32) for name in ("albedo", "roughness", "metallic")])
    squares = (slopes * slopes).sum(0, keepdims=True)
    levels = [_pack(flat, slopes, np.zeros_like(squares))]
    while levels[-1].shape[0] > SMALLEST:
        flat = _halve(flat)
        slopes = _halve(slopes)
        squares = _halve(squares)
        # Mean of the squares minus square of the mean: what the texels below had beside their average.
        variance = (squares - (slopes * slopes).sum(0, keepdims=True)).clip(0) / 2
        levels.append(_pack(flat, slopes, np.sqrt(variance)))
    return levels


def measure(levels: "tuple[Texels, ...] | list[Texels]") -> Traits:
    """Average a material over its tile."""
    finest = levels[0]
    values = _unpack(finest.reshape(-1, 1).view(np.uint8).T.astype(np.float32))
    return Traits(
        albedo=values.albedo.mean(1),
        roughness=float(values.roughness.mean()),
        roughness_deviation=float(values.roughness.std()),
        metallic=float(values.metallic.mean()),
        slope=float(np.hypot(*values.slopes).mean()),
    )


def slopes_to_normals(slopes: Values) -> Values:
    """Unit normals `(3, N)` of slopes `(2, N)`."""
    up = 1 / np.sqrt(1 + slopes[0] * slopes[0] + slopes[1] * slopes[1])
    return np.stack((slopes[0] * up, slopes[1] * up, up))


def _halve(channels: Values) -> Values:
    count, side, _ = channels.shape
    halved: Values = channels.reshape(count, side // 2, 2, side // 2, 2).mean((2, 4))
    return halved


def _pack(flat: Values, slopes: Values, spread: Values) -> Texels:
    # The eight channels of a texel become eight neighbouring bytes, which are read as one number.
    side = slopes.shape[-1]
    up = 1 / np.sqrt(1 + (slopes * slopes).sum(0))
    directions = (slopes * up + 1) * 127.5
    channels = np.concatenate((flat, directions, spread * (255 / _WIDEST)))
    stored = np.rint(channels).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(stored.reshape(8, -1).T).view(np.uint64).reshape(side, side)


def _interpolate(texels: Texels, at: npt.NDArray[np.float64]) -> Values:
    """Channels `(8, N)`, still 0 to 255, at coordinates (u, v) that wrap."""
    side = texels.shape[0]
    position = at * side - 0.5
    # The small number keeps a centre that rounding moved a hair to the left in its own texel.
    corner = np.floor(position + 1e-6)
    share = position - corner
    low = corner.astype(np.int64) % side
    flat = texels.reshape(-1)
    # Points on texel centres, as shifted and quarter-turned materials have them, need one load instead of four.
    if np.abs(share).max() < 1e-4:
        return _bytes(flat.take(low[:, 1] * side + low[:, 0]))
    high = (low + 1) % side
    right, down = share.T.astype(np.float32)
    columns = ((low[:, 0], 1 - right), (high[:, 0], right))
    rows = ((low[:, 1] * side, 1 - down), (high[:, 1] * side, down))
    total: Any = 0.0
    for row, row_share in rows:
        for column, column_share in columns:
            total = total + _bytes(flat.take(row + column)) * (row_share * column_share)
    return np.asarray(total, np.float32)


def _bytes(texels: Texels) -> Values:
    return texels.view(np.uint8).reshape(-1, 8).T.astype(np.float32, order="C")


def _unpack(channels: npt.NDArray[np.float32]) -> SurfaceValues:
    scaled = channels[:5] * np.float32(1 / 255)
    x = channels[5] * np.float32(1 / 127.5) - 1
    y = channels[6] * np.float32(1 / 127.5) - 1
    # Middle grey is no byte: 127 and 128 both stand for a normal that does not lean.
    x[np.abs(x) < 0.005] = 0
    y[np.abs(y) < 0.005] = 0
    up = np.sqrt((1 - x * x - y * y).clip(1 / (1 + STEEPEST * STEEPEST)))
    return SurfaceValues(
        albedo=scaled[:3],
        roughness=scaled[3],
        metallic=scaled[4],
        slopes=np.stack((x / up, y / up)),
        spread=channels[7] * np.float32(_WIDEST / 255),
    )
