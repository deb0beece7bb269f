"""One picture of a sample: its views, and for every map the prediction, the truth and the error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.evaluation.heat import ERROR_LIMITS, error_map, heat_colors
from neuropbr_core.evaluation.metrics import encode_unit
from neuropbr_core.evaluation.tiles import Picture, error_tile, plain, seen_mask, tile, unit_tile
from neuropbr_core.maps import MAPS, NORMAL

_MAX_TILE = 296
_GAP = 8
_MARGIN = 12
_LABEL = 92
_LEGEND = 62
_RAMP_WIDTH = 12
_HEADER = 22
_FONT_SIZE = 14
_COLUMNS = ("prediction", "target", "error")
_VIEWS_PER_LINE = 6
_BACKGROUND = (22, 22, 26)
_TEXT = (232, 232, 236)
_FAINT = (150, 150, 160)


@dataclass(frozen=True)
class _Layout:
    """Pixel sizes that all rows of a picture share."""

    tile_width: int
    tile_height: int

    @property
    def tiles_width(self) -> int:
        return len(_COLUMNS) * self.tile_width + (len(_COLUMNS) - 1) * _GAP

    @property
    def width(self) -> int:
        return 2 * _MARGIN + _LABEL + self.tiles_width + _LEGEND

    def column(self, index: int) -> int:
        return _MARGIN + _LABEL + index * (self.tile_width + _GAP)


def comparison_grid(
    views: Float[Tensor, "V 3 h w"],
    prediction: Maps,
    target: Maps,
    valid: Float[Tensor, "1 H W"],
    *,
    visible: Float[Tensor, "V 1 h w"] | None = None,
    title: str = "",
) -> Picture:
    """Draw a sample: its views on top, then one line a map with prediction, target and error.

    The scale of the error is fixed for each map (`heat.ERROR_LIMITS`) and stands beside it. Pixels that do not count
    are hatched; values that are not finite are magenta.

    Args:
        views: Aligned views, sRGB-encoded in [0, 1].
        prediction: Predicted maps `(C, H, W)` in the ranges of `neuropbr_core.maps`; any subset of the maps.
        target: The true maps, same sizes.
        valid: 1 where a pixel counts.
        visible: What each view sees, in [0, 1]; the rest is hatched. Default: everything.
        title: A line above the views, such as sample and material.

    Returns:
        The picture, at most 1100 pixels wide; a sample of 256 pixels is shown pixel for pixel.
    """
    layout = _Layout(*_tile_size(*valid.shape[-2:]))
    rows = [_views_row(layout, views, visible, title)]
    inside = seen_mask(valid)
    rows += [
        _map_row(layout, name, plain(prediction[name]), plain(target[name]), inside)
        for name in MAPS
        if name in prediction
    ]
    bottom = np.full((_MARGIN, layout.width, 3), _BACKGROUND, np.uint8)
    return np.concatenate([*map(np.asarray, rows), bottom])


def stack_grids(grids: Sequence[Picture]) -> Picture:
    """Join pictures of several samples, one under the other; narrower ones are filled up on the right.

    Raises:
        ValueError: There is no picture.
    """
    if not grids:
        raise ValueError("stack_grids: no pictures; give at least one")
    width = max(grid.shape[1] for grid in grids)
    canvas = np.full((sum(grid.shape[0] for grid in grids), width, 3), _BACKGROUND, np.uint8)
    top = 0
    for grid in grids:
        canvas[top : top + grid.shape[0], : grid.shape[1]] = grid
        if top:
            canvas[top : top + 2, _MARGIN : width - _MARGIN] = _FAINT
        top += grid.shape[0]
    return canvas


def _tile_size(height: int, width: int) -> tuple[int, int]:
    """Width and height of a tile: the largest whole multiple that fits, or the sample shrunk to fit."""
    side = max(height, width)
    scale = max(1, _MAX_TILE // side) if side <= _MAX_TILE else _MAX_TILE / side
    return max(1, round(width * scale)), max(1, round(height * scale))


def _views_row(
    layout: _Layout, views: Float[Tensor, "V 3 h w"], visible: Float[Tensor, "V 1 h w"] | None, title: str
) -> Image.Image:
    count, _, height, width = views.shape
    columns = min(max(count, len(_COLUMNS)), _VIEWS_PER_LINE)
    tile_width = (layout.tiles_width - (columns - 1) * _GAP) // columns
    tile_height = max(1, round(tile_width * height / width))
    offset = _HEADER if title else 0
    row = _blank(layout, offset + math.ceil(count / columns) * (tile_height + _HEADER + _GAP))
    if title:
        _write(row, (_MARGIN, _GAP), title)
    for index, view in enumerate(plain(views)):
        line, column = divmod(index, columns)
        left = _MARGIN + _LABEL + column * (tile_width + _GAP)
        top = offset + line * (tile_height + _HEADER + _GAP) + _HEADER + _GAP
        seen = np.ones((height, width), bool) if visible is None else seen_mask(visible[index])
        _write(row, (left, top - _HEADER + 3), f"view {index + 1}", _FAINT)
        row.paste(tile(unit_tile(view), seen, (tile_width, tile_height)), (left, top))
    _write(row, (_MARGIN, offset + _HEADER + _GAP), "views")
    return row


def _map_row(
    layout: _Layout,
    name: str,
    prediction: Float[Tensor, "C H W"],
    target: Float[Tensor, "C H W"],
    inside: npt.NDArray[np.bool_],
) -> Image.Image:
    error: npt.NDArray[np.float32] = error_map(name, prediction, target).numpy()
    size = (layout.tile_width, layout.tile_height)
    top = _HEADER + _GAP
    row = _blank(layout, top + layout.tile_height)
    spec = MAPS[name]
    pictures = (unit_tile(encode_unit(spec, prediction)), unit_tile(encode_unit(spec, target)), error_tile(name, error))
    for index, (label, picture) in enumerate(zip(_COLUMNS, pictures, strict=True)):
        _write(row, (layout.column(index), top - _HEADER + 3), label, _FAINT)
        row.paste(tile(picture, inside, size), (layout.column(index), top))
    _write(row, (_MARGIN, top), name)
    _write(row, (_MARGIN, top + _HEADER), "mean error", _FAINT)
    _write(row, (_MARGIN, top + _HEADER + 18), _mean_error(name, error[inside]), _FAINT)
    _draw_legend(row, layout, name, top)
    return row


def _draw_legend(row: Image.Image, layout: _Layout, name: str, top: int) -> None:
    """The error's colours from 0 at the bottom to its limit at the top."""
    left = layout.column(len(_COLUMNS) - 1) + layout.tile_width + _GAP
    ramp = np.linspace(1, 0, layout.tile_height)[:, None].repeat(_RAMP_WIDTH, axis=1)
    row.paste(Image.fromarray(heat_colors(ramp)), (left, top))
    text = left + _RAMP_WIDTH + 4
    limit = ERROR_LIMITS[name]
    more = "+" if limit != 1.0 else ""
    _write(row, (text, top - 2), f"{_amount(name, limit)}{more}", _FAINT)
    _write(row, (text, top + layout.tile_height - _FONT_SIZE - 3), _amount(name, 0.0), _FAINT)


def _mean_error(name: str, errors: npt.NDArray[np.float32]) -> str:
    if not errors.size:
        return "nothing valid"
    mean = errors.mean(dtype=np.float64)
    if not np.isfinite(mean):
        return "not finite"
    return f"{mean:.1f}°" if name == NORMAL.name else f"{mean:.3f}"


def _amount(name: str, value: float) -> str:
    return f"{value:g}°" if name == NORMAL.name else f"{value:g}"


def _blank(layout: _Layout, height: int) -> Image.Image:
    return Image.new("RGB", (layout.width, height), _BACKGROUND)


def _write(image: Image.Image, position: tuple[int, int], text: str, color: tuple[int, int, int] = _TEXT) -> None:
    ImageDraw.Draw(image).text(position, text, fill=color, font=ImageFont.load_default(_FONT_SIZE))
