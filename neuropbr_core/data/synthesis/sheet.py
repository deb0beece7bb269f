"""Draws one picture of all kinds of procedural materials."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.maps import MAPS
from neuropbr_core.materials.capture import render_capture
from neuropbr_core.materials.encoding import encode_map
from neuropbr_core.materials.procedural.catalog import KINDS, generate
from neuropbr_core.reporting import track

_STEP = 6  # pixel values are rounded to multiples of it, which halves the file: a PNG cannot compress noise
_SIZE = 256  # side in pixels at which materials are made
_BLOCKS = 2  # columns of the sheet
_OTHERS = 2  # seeds of which the sheet shows a photo only
_GAP = 4  # pixels between blocks
_LABEL = 15  # pixels above a row, for its name
_BACKGROUND = (22, 22, 26)
_TEXT = (232, 232, 236)


def contact_sheet(kinds: Sequence[str] = KINDS, seed: int = 0, tile: int = 64) -> Image.Image:
    """Draw each kind: albedo, roughness, metallic, normal and a flash photo of one seed, and photos of the next two.

    Args:
        kinds: The kinds to draw.
        seed: Seed of the first material of each kind.
        tile: Side of a tile in pixels, at most 256.

    Returns:
        The picture, RGB.
    """
    rows = []
    for kind in track(kinds, len(kinds), "drawing materials"):
        rows.append(_row(kind, seed, tile))
    height = tile + _LABEL
    width = rows[0].shape[1]
    lines = -(-len(kinds) // _BLOCKS)  # rounded up; kinds run down the first column, then down the next
    sheet = Image.new("RGB", (_BLOCKS * (width + _GAP) + _GAP, lines * (height + _GAP) + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for index, (kind, row) in enumerate(zip(kinds, rows, strict=True)):
        x = _GAP + index // lines * (width + _GAP)
        y = _GAP + index % lines * (height + _GAP)
        draw.text((x, y - 1), kind, fill=_TEXT, font=font)
        sheet.paste(Image.fromarray(row), (x, y + _LABEL))
    return sheet


def _row(kind: str, seed: int, tile: int) -> npt.NDArray[np.uint8]:
    """Draw the tiles of one kind side by side, `(tile, width, 3)`."""
    maps = generate(kind, seed, _SIZE)
    tiles = []
    for name, values in maps.items():
        tiles.append(encode_map(MAPS[name], values[0]).expand(3, -1, -1))  # maps of one channel become grey
    tiles.append(_photo(maps))
    for step in range(1, 1 + _OTHERS):
        tiles.append(_photo(generate(kind, seed + step, _SIZE)))
    small = F.interpolate(torch.stack(tiles).float(), size=(tile, tile), mode="area")
    rounded = ((small / _STEP).round() * _STEP).clamp(0, 255).to(torch.uint8)
    return np.concatenate(list(rounded.permute(0, 2, 3, 1).numpy()), axis=1)


def _photo(maps: dict[str, Tensor]) -> Tensor:
    """Take a flash photo from above, uint8 `(3, size, size)`."""
    # A fixed seed: all photos of the sheet have the same light and camera, so only the materials differ.
    return render_capture(maps, 1, _SIZE, torch.Generator().manual_seed(1)).views[0]
