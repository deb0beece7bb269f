"""A sample as pictures: its views, and for every map the prediction, the truth and the error.

`comparison_grid` puts them into one picture; `sample_pictures` gives them one by one, for viewers that arrange pictures
themselves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.evaluation.metrics import encode_unit, normal_angle
from neuropbr_core.maps import MAPS, NORMAL

Picture = npt.NDArray[np.uint8]
"""sRGB picture `(H, W, 3)`."""

ERROR_LIMITS: dict[str, float] = {"albedo": 0.25, "roughness": 0.5, "metallic": 1.0, "normal": 30.0}
"""Error at the hot end of the ramp: absolute, in [0, 1], or degrees for normals. Fixed, so that pictures compare."""

_RAMP = np.array(
    [(6, 6, 20), (50, 20, 95), (128, 32, 112), (200, 60, 78), (242, 130, 44), (250, 200, 88), (254, 250, 214)],
    dtype=np.float64,
)
"""sRGB colours at equal distances from no error to the limit; lightness always grows, so it also reads in grey."""

_HATCH_LIGHT = 66
_HATCH_DARK = 44
_HATCH_WIDTH = 5
"""Grey levels and width in pixels of the diagonal stripes over pixels that do not count."""

_NON_FINITE = (255, 0, 255)
"""Magenta, which neither the ramp nor a material has."""


def to_cpu(tensor: Tensor) -> Tensor:
    """Return the tensor as float32 on the CPU, without its graph."""
    return tensor.detach().float().cpu()


def boolean_mask(mask: Float[Tensor, "1 h w"]) -> npt.NDArray[np.bool_]:
    """Return a mask in [0, 1] as `(h, w)` truth values: true above one half."""
    inside: npt.NDArray[np.bool_] = (to_cpu(mask)[0] > 0.5).numpy()
    return inside


def error_map(name: str, prediction: Float[Tensor, "C H W"], target: Float[Tensor, "C H W"]) -> Float[Tensor, "H W"]:
    """Compute the error of each pixel: the mean absolute difference over channels, or the angle of normals.

    Args:
        name: Which map it is.
        prediction: The predicted map, in its range of `neuropbr_core.maps`.
        target: The true map.

    Returns:
        Errors in [0, 1], or in degrees for normals.
    """
    if name == NORMAL.name:
        return normal_angle(prediction[None], target[None])[0, 0]
    spec = MAPS[name]
    return (encode_unit(spec, prediction) - encode_unit(spec, target)).abs().mean(dim=0)


def heat_colors(share: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Colour values on the ramp.

    Args:
        share: Error over its limit, any shape; clipped to [0, 1].

    Returns:
        sRGB colours, uint8, with a last axis of 3.
    """
    position = np.clip(share, 0.0, 1.0) * (len(_RAMP) - 1)
    colors = np.empty((*position.shape, 3))
    for channel in range(3):
        colors[..., channel] = np.interp(position, np.arange(len(_RAMP)), _RAMP[:, channel])
    return colors.round().astype(np.uint8)


def unit_tile(image: Float[Tensor, "C H W"]) -> Picture:
    """Convert an image in [0, 1] with one or three channels to bytes; values that are not finite become magenta."""
    values = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    # NaN has no byte: NumPy would warn and give a value that depends on the processor.
    picture = (np.nan_to_num(values).clip(0, 1) * 255).round().astype(np.uint8)
    return _mark_non_finite(picture, values)


def error_tile(name: str, error: npt.NDArray[np.float32]) -> Picture:
    """Colour the errors of a map (`error_map`) on that map's fixed scale; those not finite become magenta."""
    limit = ERROR_LIMITS[name]
    # By default infinity becomes the largest float, which overflows when it is divided by a limit below 1.
    share = np.nan_to_num(error, posinf=limit) / limit
    return _mark_non_finite(heat_colors(share), error[..., None])


def tile(picture: Picture, inside: npt.NDArray[np.bool_], size: tuple[int, int]) -> Image.Image:
    """Scale a picture and hatch the pixels that do not count.

    Args:
        picture: The picture.
        inside: Which of its pixels count.
        size: Width and height of the result.
    """
    resampling = Image.Resampling.LANCZOS
    # Enlarged pixels keep hard edges, because readers want to count them.
    if size[0] >= picture.shape[1]:
        resampling = Image.Resampling.NEAREST
    scaled = np.asarray(Image.fromarray(picture).resize(size, resampling))
    mask = np.asarray(Image.fromarray(inside).resize(size, Image.Resampling.NEAREST))
    # Drawn at the final size, so that stripes are equally wide in every tile.
    across = np.arange(size[0])[None, :]
    down = np.arange(size[1])[:, None]
    is_dark = (across + down) // _HATCH_WIDTH % 2 == 0
    stripes = np.where(is_dark, _HATCH_DARK, _HATCH_LIGHT).astype(np.uint8)
    return Image.fromarray(np.where(mask[..., None], scaled, stripes[..., None]))


def _mark_non_finite(picture: Picture, values: npt.NDArray[np.float32]) -> Picture:
    return np.where(np.isfinite(values).all(axis=-1, keepdims=True), picture, np.array(_NON_FINITE, np.uint8))


MAX_SIDE = 512
"""Larger images are shrunk to this many pixels a side: a run logs these pictures at every validation."""

_ROW_GAP = 4


def sample_pictures(
    views: Float[Tensor, "V 3 h w"],
    prediction: Maps,
    target: Maps,
    valid: Float[Tensor, "1 H W"],
    visible: Float[Tensor, "V 1 h w"],
) -> dict[str, Picture]:
    """Draw a sample's views, and the prediction, truth and error of each map.

    Args:
        views: Aligned views, sRGB-encoded in [0, 1].
        prediction: Predicted maps `(C, H, W)` in the ranges of `neuropbr_core.maps`; any subset of the maps.
        target: The true maps, same sizes.
        valid: 1 where a pixel counts; the rest is hatched.
        visible: Where each view sees the texture, in [0, 1]; the rest is hatched.

    Returns:
        `views` side by side; for each map `<map>`, prediction beside truth, and `<map>_error`, its error as heat on the
        scale of `ERROR_LIMITS`.
    """
    view_pictures: list[Picture] = []
    for view, visible_part in zip(to_cpu(views), visible, strict=True):
        view_pictures.append(_shrunk(unit_tile(view), boolean_mask(visible_part)))
    pictures = {"views": _row(view_pictures)}
    inside = boolean_mask(valid)
    # In the order of MAPS, which is the order in which viewers list the pictures.
    for name, spec in MAPS.items():
        if name not in prediction:
            continue
        predicted = to_cpu(prediction[name])
        true = to_cpu(target[name])
        pictures[name] = _row(
            [
                _shrunk(unit_tile(encode_unit(spec, predicted)), inside),
                _shrunk(unit_tile(encode_unit(spec, true)), inside),
            ]
        )
        error = error_map(name, predicted, true).numpy()
        # Errors become colours before they are shrunk: a mean of errors would hide that a pixel is not finite.
        pictures[f"{name}_error"] = _shrunk(error_tile(name, error), inside)
    return pictures


def _shrunk(picture: Picture, inside: npt.NDArray[np.bool_]) -> Picture:
    """Shrink a picture to `MAX_SIDE` if it is larger, and hatch the pixels that do not count."""
    height, width = picture.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(tile(picture, inside, size))


def _row(pictures: Sequence[Picture]) -> Picture:
    """Put pictures of one height side by side, with a black gap between them."""
    gap = np.zeros((pictures[0].shape[0], _ROW_GAP, 3), np.uint8)
    parts: list[Picture] = []
    for picture in pictures:
        parts += [gap, picture]
    # No gap before the first picture.
    return np.concatenate(parts[1:], axis=1)


# Sizes in pixels. Three tiles, the label and the legend fit into 1100 pixels, and a sample of 256 pixels into a tile.
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
# Dark and neutral, so that the colours of a material are judged as in an image editor.
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

    Each map has a fixed scale of errors (`ERROR_LIMITS`), which its line shows. Pixels that do not count are
    hatched; values that are not finite are magenta.

    Args:
        views: Aligned views, sRGB-encoded in [0, 1].
        prediction: Predicted maps `(C, H, W)` in the ranges of `neuropbr_core.maps`; any subset of the maps.
        target: The true maps, same sizes.
        valid: 1 where a pixel counts.
        visible: Where each view sees the texture, in [0, 1]; the rest is hatched. Default: everywhere.
        title: A line above the views, such as sample and material.

    Returns:
        The picture, at most 1100 pixels wide; a sample of 256 pixels is shown pixel for pixel.
    """
    height, width = valid.shape[-2:]
    scale: float = _MAX_TILE / max(height, width)
    # Whole multiples keep pixels square and equally large; a small sample can then be checked pixel by pixel.
    if scale >= 1:
        scale = _MAX_TILE // max(height, width)
    # A very long sample would shrink to nothing on its short side.
    layout = _Layout(max(1, round(width * scale)), max(1, round(height * scale)))
    rows = [np.asarray(_views_row(layout, views, visible, title))]
    inside = boolean_mask(valid)
    # In the order of MAPS, so that pictures of all models are arranged alike.
    for name in MAPS:
        if name in prediction:
            row = _map_row(layout, name, to_cpu(prediction[name]), to_cpu(target[name]), inside)
            rows.append(np.asarray(row))
    # Rows have no margin below them, so that the distance between two rows is not twice that at the border.
    rows.append(np.asarray(_blank(layout, _MARGIN)))
    return np.concatenate(rows)


def stack_grids(grids: Sequence[Picture]) -> Picture:
    """Join pictures of several samples, one below the other; narrower ones are filled up on the right.

    Args:
        grids: The pictures, from the top.

    Returns:
        One picture, with a faint line between samples.

    Raises:
        ValueError: There is no picture.
    """
    if not grids:
        raise ValueError("stack_grids: no pictures; give at least one")
    height = 0
    width = 0
    for grid in grids:
        height += grid.shape[0]
        width = max(width, grid.shape[1])
    canvas = np.full((height, width, 3), _BACKGROUND, np.uint8)
    top = 0
    for grid in grids:
        bottom = top + grid.shape[0]
        canvas[top:bottom, : grid.shape[1]] = grid
        # The line covers the upper margin of the grid, so it hides nothing and needs no room.
        if top > 0:
            canvas[top : top + 2, _MARGIN : width - _MARGIN] = _FAINT
        top = bottom
    return canvas


def _views_row(
    layout: _Layout, views: Float[Tensor, "V 3 h w"], visible: Float[Tensor, "V 1 h w"] | None, title: str
) -> Image.Image:
    count, _, height, width = views.shape
    # One or two views are no larger than a map's tile; many views are wrapped.
    columns = min(max(count, len(_COLUMNS)), _VIEWS_PER_LINE)
    tile_width = (layout.tiles_width - (columns - 1) * _GAP) // columns
    tile_height = max(1, round(tile_width * height / width))
    line_height = _HEADER + _GAP + tile_height
    offset = 0
    if title:
        offset = _HEADER
    row = _blank(layout, offset + math.ceil(count / columns) * line_height)
    if title:
        _write(row, (_MARGIN, _GAP), title)
    for index, view in enumerate(to_cpu(views)):
        line, column = divmod(index, columns)
        left = _MARGIN + _LABEL + column * (tile_width + _GAP)
        top = offset + line * line_height + _HEADER + _GAP
        inside = np.ones((height, width), bool)
        if visible is not None:
            inside = boolean_mask(visible[index])
        _write(row, (left, top - _HEADER + 3), f"view {index + 1}", _FAINT)
        row.paste(tile(unit_tile(view), inside, (tile_width, tile_height)), (left, top))
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
    # The error's colours, from 0 at the bottom to the limit at the top, with both numbers.
    left = layout.column(len(_COLUMNS) - 1) + layout.tile_width + _GAP
    ramp = np.linspace(1, 0, layout.tile_height)[:, None].repeat(_RAMP_WIDTH, axis=1)
    row.paste(Image.fromarray(heat_colors(ramp)), (left, top))
    hottest = _amount(name, ERROR_LIMITS[name])
    # Larger errors have the same colour, except where none can be larger.
    if ERROR_LIMITS[name] != 1.0:
        hottest += "+"
    left += _RAMP_WIDTH + 4
    _write(row, (left, top - 2), hottest, _FAINT)
    _write(row, (left, top + layout.tile_height - _FONT_SIZE - 3), _amount(name, 0.0), _FAINT)
    return row


def _mean_error(name: str, errors: npt.NDArray[np.float32]) -> str:
    if not errors.size:
        return "nothing valid"
    mean = errors.mean(dtype=np.float64)
    # One broken pixel makes the mean NaN, which deserves a word.
    if not np.isfinite(mean):
        return "not finite"
    if name == NORMAL.name:
        return f"{mean:.1f}°"
    return f"{mean:.3f}"


def _amount(name: str, value: float) -> str:
    if name == NORMAL.name:
        return f"{value:g}°"
    return f"{value:g}"


def _blank(layout: _Layout, height: int) -> Image.Image:
    return Image.new("RGB", (layout.width, height), _BACKGROUND)


def _write(image: Image.Image, position: tuple[int, int], text: str, color: tuple[int, int, int] = _TEXT) -> None:
    ImageDraw.Draw(image).text(position, text, fill=color, font=ImageFont.load_default(_FONT_SIZE))
