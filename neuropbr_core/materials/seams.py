"""Seams of textures that repeat: how visible they are, and maps without them.

A texture tiles when its right border continues at its left one and its lower border at its upper one. All maps of a
material are cut along the same lines, so that they still belong to each other.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.maps import ALBEDO, MAPS, NORMAL
from neuropbr_core.materials.relief import (
    integrate_slopes,
    normals_from_slopes,
    slopes_from_heights,
    slopes_from_normals,
)

TILES_BELOW = 1.5
"""Seam score up to which a material counts as tiling.

Chosen with 38 scanned materials that tile, of which 28 are below it, and as many crops of them, which do not tile and
of which 36 are above it. Those that tile and are above repeat at a joint that is one texel wide.
"""

OVERLAP = 1 / 6
"""Share of a side that is cut away to make a texture tile: the strip in which the seam looks for its path."""

_INVISIBLE = 1 / 255
"""A step that 8 bits hardly store, so that flat maps do not divide nothing by nothing."""

_UNRELATED = (0.3, 0.4)
"""Distances between lines that have nothing to do with each other, in sides of the map; two, since bricks repeat."""
_ALIKE = 0.6
"""Step across the border, as a share of the step between unrelated lines, up to which the borders are alike.

Of 35 scanned materials at 256², 22 have less and a seam score of `TILES_BELOW` at most; no crop of them has.
"""

_FEATHER = 3
"""Texels on each side of a seam over which the two sides are mixed."""


class Seams(NamedTuple):
    """How visible the borders of a material are when it repeats.

    Attributes:
        scores: Seam score of each map, about 1 for a map that tiles.
        worst: The largest of them.
    """

    scores: dict[str, float]
    worst: float

    @property
    def tiles(self) -> bool:
        """Whether the material tiles, as far as its borders show."""
        return self.worst <= TILES_BELOW


def seam_score(values: Float[Tensor, "C H W"]) -> float:
    """Compare the step across a map's border with the steps inside.

    For each axis, the mean absolute difference of the two opposite borders is divided by that of neighbouring lines
    inside the map; of the two axes the worse counts. A material may repeat at a feature, such as a joint between
    bricks, whose flanks are wider than one texel. Therefore the two steps on either side of the border count as steps
    inside when they are the larger measure.

    Args:
        values: The map, in its range.

    Returns:
        About 1 or less when the border is a line like any other; larger the more the border shows. 0 along sides of
        fewer than three texels, which have nothing to compare with.
    """
    worst = 0.0
    for axis in (1, 2):
        if values.shape[axis] < 3:
            continue  # no line is inside
        lines = (values.roll(-1, axis) - values).abs().mean(dim=(0, 3 - axis))
        # The last difference is the one from the last line to the first.
        border = float(lines[-1])
        typical = max(float(lines[:-1].mean()), float(lines[-3:-1].max()), float(lines[:2].max()))
        worst = max(worst, (border + _INVISIBLE) / (typical + _INVISIBLE))
    return worst


def measure_seams(maps: Mapping[str, Tensor]) -> Seams:
    """Score all maps of a material.

    Args:
        maps: Maps by name, each `(1, C, H, W)` in its range.
    """
    scores = {name: seam_score(value[0]) for name, value in maps.items()}
    return Seams(scores, max(scores.values()))


def close_borders(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Let opposite borders meet where a material tiles, as those of its true maps do; other maps stay as they are.

    Photos show the two borders in different light, and a network knows nothing of one when it predicts the other, so
    that they differ by more than neighbouring texels. Whether the material tiles is seen in the albedo, which photos
    tell best and which stays as it is. From each other map whose border shows, the smoothest image with the same
    differences between opposite borders is subtracted; from normals, in their slopes.

    Args:
        maps: Maps by name, each `(1, C, N, N)` in its range, an albedo among them.

    Source: Moisan 2011, "Periodic Plus Smooth Image Decomposition", Journal of Mathematical Imaging and Vision 39.
    """
    albedo = maps[ALBEDO.name][0].float()
    if seam_score(albedo) > TILES_BELOW or not _would_show_seams(albedo):
        return dict(maps)
    closed = {}
    for name, value in maps.items():
        if name == ALBEDO.name or seam_score(value[0]) <= TILES_BELOW:
            closed[name] = value
        elif name == NORMAL.name:
            slopes = slopes_from_normals(value[0].float())
            closed[name] = normals_from_slopes(slopes - _border_part(slopes))[None]
        else:
            closed[name] = (value - _border_part(value.float())).clamp(*MAPS[name].value_range)
    return closed


def _would_show_seams(values: Float[Tensor, "C H W"]) -> bool:
    """Whether opposite borders are clearly more alike than lines that have nothing to do with each other.

    Those of a plain or finely grained map are not: it has no seam to show, whether it tiles or not.
    """
    for axis in (1, 2):
        side = values.shape[axis]
        border = (values.select(axis, 0) - values.select(axis, side - 1)).abs().mean()
        unrelated = torch.zeros(())
        for share in _UNRELATED:
            unrelated = torch.maximum(unrelated, (values.roll(round(share * side), axis) - values).abs().mean().cpu())
        if border + _INVISIBLE > _ALIKE * unrelated:
            return False
    return True


def _border_part(values: Float[Tensor, "*C H W"]) -> Tensor:
    """The smoothest image of mean 0 that jumps from border to border as `values` do.

    Its Laplacian, on a torus, is that of the jumps alone.
    """
    height, width = values.shape[-2:]
    jumps = torch.zeros_like(values)
    across = values[..., -1, :] - values[..., 0, :]
    jumps[..., 0, :] += across
    jumps[..., -1, :] -= across
    along = values[..., -1] - values[..., 0]
    jumps[..., 0] += along
    jumps[..., -1] -= along
    rows = 2 * torch.pi * torch.arange(height, device=values.device) / height
    columns = 2 * torch.pi * torch.arange(width // 2 + 1, device=values.device) / width
    laplacian = 2 * rows.cos()[:, None] + 2 * columns.cos()[None] - 4
    laplacian[0, 0] = 1  # the mean, which the jumps have none of
    part: Tensor = torch.fft.irfft2(torch.fft.rfft2(jumps) / laplacian, s=(height, width))
    return part


def make_tileable(maps: Mapping[str, Tensor], overlap: float = OVERLAP) -> dict[str, Tensor]:
    """Cut a material so that it tiles.

    A strip at the right is laid over the left border, and the two are joined along the path on which all maps together
    differ least; then the same downwards. What is left is resampled to the former size. Slopes lose their mean, which a
    tile cannot have, and normals near a seam are replaced by those of a height map that fits both sides.

    Args:
        maps: Maps by name, each `(1, C, N, N)` in its range, all of one size.
        overlap: Width of the strip, as a share of the side.

    Returns:
        Maps of the same size, which show `1 - overlap` of each side.

    Source: Efros and Freeman 2001, "Image Quilting for Texture Synthesis and Transfer", section 2.1 (minimum error
    boundary cut).
    """
    side = next(iter(maps.values())).shape[-1]
    strip = max(2, round(side * overlap))
    names = list(maps)
    layers = []
    for name in names:
        if name == NORMAL.name:
            # Slopes may be mixed, normals may not: the mean of two unit vectors is shorter.
            layers.append(slopes_from_normals(maps[name][0]))
        else:
            layers.append(maps[name][0])
    counts = [layer.shape[0] for layer in layers]
    stack = torch.cat(layers)
    # How far each texel is from a seam, where normals have to be integrated again: 1 on it.
    near = torch.zeros_like(stack[:1])
    stack, near = _join(stack, near, strip)
    # The second cut works on the transposed image, so that one function serves both axes.
    stack, near = _join(stack.transpose(1, 2), near.transpose(1, 2), strip, closed=True)
    stack = _resampled(stack.transpose(1, 2), side)
    near = _resampled(near.transpose(1, 2), side).clamp(0, 1)
    result = {}
    for name, layer in zip(names, torch.split(stack, counts), strict=True):
        if name == NORMAL.name:
            # Near seams the slopes become those of one height map; the mean is 0 in either case.
            level = layer - layer.mean(dim=(1, 2), keepdim=True)
            integrated = slopes_from_heights(integrate_slopes(level, periodic=True))
            result[name] = normals_from_slopes(torch.lerp(level, integrated, near))[None]
        else:
            result[name] = layer.clamp(*MAPS[name].value_range)[None]
    return result


def _join(
    stack: Float[Tensor, "C H W"], near: Float[Tensor, "1 H W"], strip: int, *, closed: bool = False
) -> tuple[Float[Tensor, "C H V"], Float[Tensor, "1 H V"]]:
    """Lay the right strip over the left one, and cut along the path of least difference.

    `closed` is for an image whose last row continues at its first: the path does, too.
    """
    width = stack.shape[2] - strip
    first = stack[:, :, :strip]
    last = stack[:, :, width:]
    # Each channel counts by its own contrast, or albedo would decide alone for a rough metal.
    contrast = stack.std(dim=(1, 2), keepdim=True).clamp_min(_INVISIBLE)
    cost = ((first - last) / contrast).square().sum(dim=0)
    path = _cheapest_path(cost)
    if closed:
        path = _closed_path(cost, path)
    columns = torch.arange(strip)
    distance = columns[None] - path[:, None]
    # Left of the path the right border goes on, right of it the left border begins.
    share = ((distance + _FEATHER) / (2 * _FEATHER)).clamp(0, 1)
    # At the strip's own ends there must be one side alone, wherever the path runs.
    share[:, 0] = 0
    share[:, -1] = 1
    joined = torch.cat((torch.lerp(last, first, share), stack[:, :, strip:width]), dim=2)
    seam = (1 - distance.abs() / (4 * _FEATHER)).clamp_min(0)
    marked = torch.maximum(torch.maximum(near[:, :, :strip], near[:, :, width:]), seam[None])
    return joined, torch.cat((marked, near[:, :, strip:width]), dim=2)


def _cheapest_path(cost: Float[Tensor, "H S"]) -> Tensor:
    """Column of the cheapest path from the first row to the last; it moves by one column a row at most."""
    height, width = cost.shape
    # The feather needs its room on both sides of the path.
    margin = min(_FEATHER + 1, (width - 1) // 2)
    cost = cost.clone()
    cost[:, :margin] = float("inf")
    cost[:, width - margin :] = float("inf")
    best = cost[0]
    steps = []
    for row in cost[1:]:
        neighbours = F.pad(best, (1, 1), value=float("inf"))
        choices = torch.stack((neighbours[:-2], neighbours[1:-1], neighbours[2:]))
        least, step = choices.min(dim=0)
        steps.append(step)
        best = row + least
    path = torch.empty(height, dtype=torch.long)
    path[-1] = best.argmin()
    for row in range(height - 2, -1, -1):
        path[row] = path[row + 1] + steps[row][path[row + 1]] - 1
    return path


def _closed_path(cost: Float[Tensor, "H S"], path: Tensor) -> Tensor:
    """The cheapest path that begins where `path` does in its middle row, and ends a column beside at most.

    The search starts and ends in the middle row and crosses the border on its way. In the middle the free path is where
    it is cheap; at the border it may be wherever its first and last row left it.
    """
    middle = len(path) // 2
    around = cost.roll(-middle, 0).clone()
    column = int(path[middle])
    distance = (torch.arange(cost.shape[1]) - column).abs()
    around[0, distance > 0] = float("inf")
    around[-1, distance > 1] = float("inf")
    return _cheapest_path(around).roll(middle, 0)


def _resampled(stack: Float[Tensor, "C h w"], side: int) -> Float[Tensor, "C N N"]:
    """Enlarge a texture that tiles to `side`, by cubic interpolation across its borders."""
    height, width = stack.shape[1:]
    rows = (torch.arange(side) + 0.5) * (height / side) - 0.5
    columns = (torch.arange(side) + 0.5) * (width / side) - 0.5
    enlarged = _cubic(stack, rows, axis=1)
    return _cubic(enlarged, columns, axis=2)


def _cubic(stack: Tensor, places: Tensor, axis: int) -> Tensor:
    """Catmull-Rom interpolation along one axis, which wraps around."""
    count = stack.shape[axis]
    shape = [1, 1, 1]
    shape[axis] = -1
    start = places.floor()
    t = (places - start).view(shape)
    weights = (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )
    total = torch.zeros(())
    for offset, weight in enumerate(weights):
        index = torch.remainder(start.long() + offset - 1, count)
        total = total + weight * stack.index_select(axis, index)
    return total
