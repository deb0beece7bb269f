"""Two materials through a random mask.

Source: Deschaintre et al. 2018, "Single-Image SVBRDF Capture with a Rendering-Aware Deep Network", section 4 (convex
combinations of random materials). Here masks follow smooth random fields, and are hard where metal meets dielectric,
because half a metal does not exist.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuropbr_core.materials.live.textures import LUMA, SurfaceValues, Values

_WAVES = 7
# Waves along the frame's side.
_LONGEST = 0.5
_SHORTEST = 9.0
_HARD = 30.0  # slope of a hard edge, per deviation of the field


class Mask(NamedTuple):
    """A random field over the frame, and where it turns from one material to the other.

    Attributes:
        waves: Wave vectors `(W, 2)` in waves along the frame's side.
        phases: Their phases `(W,)` in radians.
        strengths: Their strengths `(W,)`; the squares sum to 2, so that the field's deviation is 1.
        by_luma: Field for each unit of the first material's luma: its pattern shows in the mask.
        threshold: Value at which both materials have equal shares.
        slope: Steepness of the change.
    """

    waves: npt.NDArray[np.float64]
    phases: npt.NDArray[np.float64]
    strengths: npt.NDArray[np.float64]
    by_luma: float
    threshold: float
    slope: float

    def share(self, points: npt.NDArray[np.float64], albedo: Values) -> Values:
        """Share of the second material at points `(N, 2)` where the first one has this albedo `(3, N)`."""
        angles = points @ self.waves.T * (2 * math.pi) + self.phases
        field = np.cos(angles.astype(np.float32)) @ self.strengths.astype(np.float32)
        if self.by_luma:
            # The offset is a fixed grey instead of the crop's mean: crop and frame must agree about the mask.
            field = field + np.float32(self.by_luma) * (LUMA @ albedo - 0.4)
        steepness = (field - np.float32(self.threshold)) * np.float32(-self.slope)
        # For type checkers: depending on NumPy's version, they take the quotient for float64.
        share: Values = (1 / (1 + np.exp(steepness.clip(-30, 30)))).astype(np.float32, copy=False)
        return share


def draw_mask(rng: np.random.Generator, *, hard: bool) -> Mask:
    """Draw a mask.

    Args:
        rng: Source of the draw.
        hard: Whether its edge is sharp; otherwise some masks fade.
    """
    counts = _LONGEST * (_SHORTEST / _LONGEST) ** rng.random(_WAVES)
    headings = rng.uniform(0, 2 * math.pi, _WAVES)
    # Long waves are the strongest, as in everything that grows or is spilt.
    strengths = counts**-0.7
    fades = rng.random() < 0.6 and not hard
    slope = rng.uniform(1.0, 4.0)
    by_luma = rng.uniform(-8.0, 8.0)
    if not fades:
        slope = _HARD
    # The first material's own pattern decides in half of the masks, as moss follows joints.
    if rng.random() < 0.5:
        by_luma = 0.0
    return Mask(
        waves=counts[:, None] * np.stack((np.cos(headings), np.sin(headings)), axis=1),
        phases=rng.uniform(0, 2 * math.pi, _WAVES),
        strengths=strengths * math.sqrt(2 / (strengths * strengths).sum()),
        by_luma=by_luma,
        threshold=rng.uniform(-1.0, 1.0),
        slope=slope,
    )


def mix(first: SurfaceValues, second: SurfaceValues, share: Values) -> SurfaceValues:
    """Blend two materials; `share` is that of the second one."""
    blended = [low + (high - low) * share for low, high in zip(first, second, strict=True)]
    return SurfaceValues(*blended)
