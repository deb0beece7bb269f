"""A picture of the whole way: photos, maps, and the material on a ball."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from neuropbr_core.evaluation.pictures import Picture
from neuropbr_core.files import replacing
from neuropbr_core.report.contents import Showcase
from neuropbr_core.report.pictures import colour_picture, map_pictures
from neuropbr_core.viewer.studio import render_ball

SUFFIXES = (".png", ".jpg", ".jpeg")
"""Formats of the picture."""

_HEIGHT = 464
_GAP = 8
_ARROW = 64
_MARGIN = 12
_PHOTOS = 3
"""Photos that are shown; three are as high as two rows of maps."""
# The background of comparison grids, and a grey that shows on it.
_BACKGROUND = (22, 22, 26)
_FAINT = (150, 150, 160)


def draw_strip(showcase: Showcase) -> Picture:
    """Draw photos, the maps of the first version, and the material on a ball, from left to right.

    Args:
        showcase: A material; without photos, the picture begins with the maps.

    Returns:
        The picture, sRGB `(H, W, 3)`.
    """
    maps = showcase.versions[0].maps
    columns: list[Image.Image] = []
    if showcase.views:
        photos = []
        for view in showcase.views[:_PHOTOS]:
            photos.append(Image.fromarray(colour_picture(view)))
        side = (_HEIGHT - (_PHOTOS - 1) * _GAP) // _PHOTOS
        columns.append(_stack(photos, side, across=1))
    side = (_HEIGHT - _GAP) // 2
    tiles = []
    # Grey maps get three channels, since all tiles are pasted into one colour picture.
    for tile in map_pictures(maps, 2048).values():
        tiles.append(Image.fromarray(np.broadcast_to(tile, (*tile.shape[:2], 3))))
    columns.append(_stack(tiles, side, across=2))
    columns.append(Image.fromarray(colour_picture(render_ball(maps, _HEIGHT))))
    width = sum(column.width for column in columns) + (len(columns) - 1) * _ARROW + 2 * _MARGIN
    canvas = Image.new("RGB", (width, _HEIGHT + 2 * _MARGIN), _BACKGROUND)
    left = _MARGIN
    for index, column in enumerate(columns):
        if index:
            # A chevron in the middle of the room between two columns.
            x = left - _ARROW // 2
            y = canvas.height // 2
            chevron = ((x - 8, y - 18), (x + 8, y), (x - 8, y + 18))
            ImageDraw.Draw(canvas).line(chevron, fill=_FAINT, width=5, joint="curve")
        canvas.paste(column, (left, _MARGIN + (_HEIGHT - column.height) // 2))
        left += column.width + _ARROW
    return np.asarray(canvas)


def write_strip(path: Path, showcase: Showcase) -> None:
    """Write the picture, whole or not at all; the suffix says in which format.

    Raises:
        OSError: It could not be written; `path` is as it was.
    """
    image = Image.fromarray(draw_strip(showcase))
    # Named, because the file that is written aside has another suffix.
    kind = "JPEG"
    if path.suffix.lower() == ".png":
        kind = "PNG"
    with replacing(path) as aside:
        image.save(aside, format=kind, quality=88)


def _stack(tiles: list[Image.Image], side: int, across: int) -> Image.Image:
    """Put square tiles into rows of `across`."""
    down = -(-len(tiles) // across)
    size = (across * side + (across - 1) * _GAP, down * side + (down - 1) * _GAP)
    canvas = Image.new("RGB", size, _BACKGROUND)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, across)
        resized = tile.resize((side, side), Image.Resampling.LANCZOS)
        canvas.paste(resized, (column * (side + _GAP), row * (side + _GAP)))
    return canvas
