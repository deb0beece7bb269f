"""Procedural materials, written as material folders, rendered into captures, or all drawn into one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.data.images import Stored, write_map
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.capture import render_capture
from neuropbr_core.materials.encoding import encode_map
from neuropbr_core.materials.procedural.catalog import KINDS, REVISION, generate
from neuropbr_core.materials.procedural.naming import material_name
from neuropbr_core.reporting import track


@dataclass(frozen=True)
class ProceduralMaterial:
    """One procedural material.

    Attributes:
        kind: One of `materials.procedural.catalog.KINDS`.
        seed: Seed of everything else about the material.
    """

    kind: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the material in a dataset."""
        return material_name(self.kind, self.seed)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the material's content in a record. It changes when the generators change."""
        # Kind and seed are in the name, which the record holds too.
        return f"procedural-{REVISION}"

    def stored(self, size: int) -> dict[str, Stored]:
        """Make the maps in stored form, uint8 `(C, size, size)`, by name.

        Args:
            size: Side in pixels.
        """
        stored = {}
        for name, values in generate(self.kind, self.seed, size).items():
            stored[name] = encode_map(MAPS[name], values[0]).numpy()  # one material in the batch of the generator
        return stored


def procedural_materials(count: int, seed: int, kinds: Sequence[str] = KINDS) -> list[ProceduralMaterial]:
    """List procedural materials: every kind with seed `seed`, then every kind with the next seed, and so on.

    A larger count continues the same list.

    Args:
        count: Number of materials.
        seed: The first seed, at least 0.
        kinds: The kinds, in the order in which they take turns.

    Raises:
        DataError: A kind is unknown or named twice, or there is none.
    """
    unknown = []
    for kind in kinds:
        if kind not in KINDS:
            unknown.append(kind)
    # A kind that is named twice would give two materials of the same name.
    if unknown or not kinds or len(set(kinds)) < len(kinds):
        given = ", ".join(kinds) or "none"
        raise DataError(f"kinds of procedural materials: found {given}; name each once, of: {', '.join(KINDS)}")
    materials = []
    for index in range(count):
        turn, place = divmod(index, len(kinds))
        materials.append(ProceduralMaterial(kinds[place], seed + turn))
    return materials


def write_materials(materials: Sequence[ProceduralMaterial], out: Path, size: int) -> list[Path]:
    """Write materials as folders of four PNG maps; a folder of the same name is written over.

    Args:
        materials: The materials.
        out: Folder above the materials' folders.
        size: Side of the maps in pixels.

    Returns:
        The materials' folders.
    """
    folders = []
    for material in track(materials, len(materials), "making materials"):
        folder = out / material.name
        for name, values in material.stored(size).items():
            write_map(folder, MAPS[name], values)
        folders.append(folder)
    return folders


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
