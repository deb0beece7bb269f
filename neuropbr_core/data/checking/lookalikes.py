"""Finds materials that are the same or look the same. On both sides of a split, they would measure memory.

A difference hash compares neighbouring means of a coarse grid. It survives scaling, compression and changes of
brightness; it does not survive turning, flipping or shifting.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

from neuropbr_core.data.images import Stored

_CELLS = 16  # along a side: the hash has 2 × 16² = 512 bits
_NEAR = 0.15  # of the bits; of 30 scans, the two most alike differ in 0.42
_VISIBLE = 0.2  # deviation of the coarse grid, in 8-bit levels, below which the hash would be of noise


class Look(NamedTuple):
    """Appearance of a material's albedo.

    Attributes:
        digest: Equal for equal pixels.
        signature: Nearly equal for nearly equal pictures; None for a picture without features.
    """

    digest: str
    signature: bytes | None


class LookAlikes(NamedTuple):
    """Materials that belong together.

    Attributes:
        equal: Groups of materials with the same albedo.
        near: Pairs with nearly the same albedo, and the share of signature bits in which they differ.
    """

    equal: list[list[str]]
    near: list[tuple[str, str, float]]


def look_of(albedo: Stored) -> Look:
    """Describe an albedo map, stored `(3, H, W)`.

    Source:
        Krawetz: Kind of Like That (2013), the difference hash; here along rows and columns, 16 × 16 cells each.
    """
    digest = hashlib.blake2b(albedo.tobytes(), digest_size=16)
    digest.update(repr(albedo.shape).encode())  # maps of one colour but different sizes are not equal
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(albedo, 0, 2))).convert("L").convert("F")
    # One cell more than bits along a side: each bit compares two neighbours.
    coarse = image.resize((_CELLS + 1, _CELLS + 1), Image.Resampling.BOX)
    grid = np.asarray(coarse, dtype=np.float32)
    if grid.std() < _VISIBLE:
        return Look(digest.hexdigest(), None)
    across = grid[:-1, 1:] > grid[:-1, :-1]
    down = grid[1:, :-1] > grid[:-1, :-1]
    return Look(digest.hexdigest(), np.packbits(np.stack((across, down))).tobytes())


def find_lookalikes(looks: Mapping[str, Look]) -> LookAlikes:
    """Compare all materials with each other.

    Args:
        looks: A look for each material.

    Returns:
        Names of equal and of nearly equal materials.
    """
    by_digest = defaultdict(list)
    for name in sorted(looks):
        by_digest[looks[name].digest].append(name)
    equal = []
    for group in by_digest.values():
        if len(group) > 1:
            equal.append(group)

    names = []
    signatures = []
    for name, look in sorted(looks.items()):
        if look.signature is not None:
            names.append(name)
            signatures.append(look.signature)
    # 64 bits at a time, so that comparing one hash with all others is a few instructions each.
    bits = np.frombuffer(b"".join(signatures), dtype=np.uint64).reshape(len(names), 2 * _CELLS**2 // 64)
    near = []
    for first, row in enumerate(bits):
        shares = np.bitwise_count(bits[first + 1 :] ^ row).sum(axis=1) / (2 * _CELLS**2)
        for offset in np.flatnonzero(shares <= _NEAR):
            second = first + 1 + int(offset)
            # Materials with the same albedo are in `equal` already.
            if looks[names[first]].digest != looks[names[second]].digest:
                near.append((names[first], names[second], float(shares[offset])))
    return LookAlikes(equal, near)
