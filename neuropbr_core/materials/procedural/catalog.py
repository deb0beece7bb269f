"""The procedural materials by name, and the function that makes one."""

import math
from collections.abc import Callable

from torch import Tensor

from neuropbr_core.errors import DataError
from neuropbr_core.materials.procedural.canvas import Canvas, Draws
from neuropbr_core.materials.procedural.coatings import painted_metal, rusty_metal
from neuropbr_core.materials.procedural.ground import asphalt, pebbles, sand, shingles, soil
from neuropbr_core.materials.procedural.layers import Layers, develop
from neuropbr_core.materials.procedural.masonry import bricks, cobblestone, tiles
from neuropbr_core.materials.procedural.plates import checker_plate, metal_panel
from neuropbr_core.materials.procedural.sheets import brushed_metal, corrugated, hammered_metal
from neuropbr_core.materials.procedural.stone import concrete, marble, plaster, terrazzo
from neuropbr_core.materials.procedural.textiles import carbon, fabric, knit, leather
from neuropbr_core.materials.procedural.wood import parquet, planks

REVISION = 2
"""Raised whenever a kind and a seed give maps that differ from before by more than rounding, so that stored renderings
are known to be old."""
MIN_SAMPLES = 512
"""Fewest samples a side on which a tile is evaluated."""

# The order is part of the interface: data sets take the first few kinds, which must mix metals with the rest.
_GENERATORS: tuple[Callable[[Canvas], Layers], ...] = (
    bricks, brushed_metal, planks, checker_plate, fabric, rusty_metal, tiles, plaster, painted_metal, leather,
    concrete, corrugated, pebbles, terrazzo, metal_panel, carbon, cobblestone, hammered_metal, marble, shingles,
    soil, parquet, asphalt, knit, sand,
)  # fmt: skip
_BY_NAME = {generator.__name__: generator for generator in _GENERATORS}

KINDS: tuple[str, ...] = tuple(_BY_NAME)
"""Names of the procedural materials. Metals are spread among the rest, so that the first few are already mixed."""


def generate(kind: str, seed: int, size: int) -> dict[str, Tensor]:
    """Make a procedural material.

    The same kind and seed give the same material at every size; finer sizes only show more of it.

    Args:
        kind: One of `KINDS`.
        seed: Determines layout, colours and wear; at least 0.
        size: Side of the maps in pixels, at least 1.

    Returns:
        Albedo, roughness, metallic and normal, each `(1, C, size, size)` float32 in the ranges of `neuropbr_core.maps`.
        Albedo is sRGB-encoded, normals are OpenGL. The maps repeat without a seam.

    Raises:
        DataError: The kind does not exist, or a number is too small.
    """
    if kind not in _BY_NAME:
        raise DataError(f"no procedural material {kind!r}; there are: {', '.join(KINDS)}")
    if seed < 0 or size < 1:
        raise DataError(f"procedural {kind}: found seed {seed}, size {size}; seeds start at 0, sizes at 1")
    # A whole multiple of the size, so that pixels average whole samples.
    factor = math.ceil(MIN_SAMPLES / size)
    return develop(_BY_NAME[kind](Canvas(size * factor, Draws(kind, seed))), factor)


def summaries() -> dict[str, str]:
    """Describe each kind in one line.

    Returns:
        The first line of each generator's docstring, by kind, in the order of `KINDS`.
    """
    return {name: (generator.__doc__ or "").splitlines()[0] for name, generator in _BY_NAME.items()}
