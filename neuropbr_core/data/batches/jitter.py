"""Small random errors of exposure, white balance and alignment, such as real captures have.

What a visit draws is a few numbers; pixels are changed on the device (`apply_gains`), and alignment is changed in the
homographies that the device warps with.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear
from neuropbr_core.recipe.sections import Jitter

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


class Jittered(NamedTuple):
    """The errors of one visit.

    Attributes:
        gains: Factor of each view's linear red, green and blue, float32 `(V, 3)`; None when colours stay.
        shakes: View to shaken view, both in [0, 1]², float64 `(V, 3, 3)`, to be multiplied with homographies from the
            left; None when alignment stays.
    """

    gains: npt.NDArray[np.float32] | None
    shakes: npt.NDArray[np.float64] | None


def draw_jitter(rng: np.random.Generator, jitter: Jitter, views: int, image_size: int) -> Jittered:
    """Draw the errors of one visit.

    A view's exposure changes by up to `jitter.exposure` stops, then each of its channels by up to the share
    `jitter.color`, both evenly in stops. The corners of each view but the first move by up to `jitter.alignment`
    pixels along each axis; the first view is the one that others are registered to.

    Args:
        rng: Source of the draw; what is off changes nothing in the draw of what is on.
        jitter: How much.
        views: Number of views.
        image_size: Side of the frame in the pixels that `jitter.alignment` counts.

    Returns:
        The errors.
    """
    # All are drawn, in this order, also when some are off: switching one on changes nothing in the others' draws.
    exposure = rng.uniform(-1, 1, (views, 1))
    channels = rng.uniform(-1, 1, (views, 3))
    corners = rng.uniform(-1, 1, (views, 4, 2))
    gains = None
    if jitter.exposure or jitter.color:
        stops = exposure * jitter.exposure + channels * np.log2(1 + jitter.color)
        gains = np.exp2(stops).astype(np.float32)
    shakes = None
    if jitter.alignment:
        corners[0] = 0
        moved = _CORNERS + corners * (jitter.alignment / image_size)
        matrices = []
        for targets in moved:
            # Four pairs of points give eight equations for eight unknowns; the ninth element is set to 1.
            # Source: Hartley and Zisserman, Multiple View Geometry (2nd ed.), 4.1, the inhomogeneous solution.
            rows: list[list[float]] = []
            values: list[float] = []
            for (x, y), (u, v) in zip(_CORNERS, targets, strict=True):
                rows.append([x, y, 1, 0, 0, 0, -x * u, -y * u])
                rows.append([0, 0, 0, x, y, 1, -x * v, -y * v])
                values += [u, v]
            matrices.append(np.append(np.linalg.solve(rows, values), 1.0).reshape(3, 3))
        shakes = np.stack(matrices)
    return Jittered(gains, shakes)


def stacked_gains(jitters: Sequence[Jittered]) -> Tensor | None:
    """The gains of several visits of one recipe, float32 `(B, V, 3)`; None when colours stay."""
    gains = []
    for jitter in jitters:
        if jitter.gains is None:
            return None
        gains.append(jitter.gains)
    return torch.from_numpy(np.stack(gains))


def apply_gains(views: Float[Tensor, "B V 3 H W"], gains: Float[Tensor, "B V 3"]) -> Float[Tensor, "B V 3 H W"]:
    """Change the exposure and white balance of sRGB-encoded views in linear light.

    Args:
        views: In [0, 1].
        gains: Factors of linear light, > 0.

    Returns:
        Views in [0, 1]. What exceeds white is clipped as a camera clips it; what was clipped before stays flat.
    """
    return linear_to_srgb((srgb_to_linear(views) * gains[..., None, None]).clamp(max=1))
