"""One picture of all kinds of procedural materials."""

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

_STEP = 6  # values are rounded to multiples of it, which halves the file of so much noise
_SIZE = 256
_BLOCKS = 2
_OTHERS = 2
_GAP, _LABEL = 4, 15
_BACKGROUND, _TEXT = (22, 22, 26), (232, 232, 236)


def contact_sheet(kinds: Sequence[str] = KINDS, seed: int = 0, tile: int = 64) -> Image.Image:
    """Draw each kind: albedo, roughness, metallic, normal and a flash photo of one seed, and photos of the next two.

    Args:
        kinds: What to draw.
        seed: Seed of the first material of each kind.
        tile: Side of a tile in pixels, at most 256.

    Returns:
        The picture, RGB.
    """
    rows = [_row(kind, seed, tile) for kind in track(kinds, len(kinds), "drawing materials")]
    height = tile + _LABEL
    width = rows[0].shape[1]
    lines = -(-len(kinds) // _BLOCKS)
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
    """Tiles of one kind, side by side `(tile, width, 3)`."""
    maps = generate(kind, seed, _SIZE)
    tiles = []
    for name, values in maps.items():
        tiles.append(encode_map(MAPS[name], values[0]).expand(3, -1, -1))
    tiles.append(_photo(maps))
    tiles += [_photo(generate(kind, seed + step, _SIZE)) for step in range(1, 1 + _OTHERS)]
    small = F.interpolate(torch.stack(tiles).float(), size=(tile, tile), mode="area")
    rounded = ((small / _STEP).round() * _STEP).clamp(0, 255).to(torch.uint8)
    return np.concatenate(list(rounded.permute(0, 2, 3, 1).numpy()), axis=1)


def _photo(maps: dict[str, Tensor]) -> Tensor:
    """A flash photo from above, uint8 `(3, size, size)`."""
    return render_capture(maps, 1, _SIZE, torch.Generator().manual_seed(1)).views[0]
