"""Which materials are held back for validation.

A split is by material, never by sample: views of one material on both sides would measure memory. Each name is hashed
with the seed and compared with a threshold, so a material stays on its side when others are added or removed.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from neuropbr_core.data.layout import nearest
from neuropbr_core.errors import DataError


@dataclass(frozen=True)
class Split:
    """A split of materials; `asdict` of it is what a run records.

    Attributes:
        train: Materials to train on, sorted.
        val: Materials held back, sorted; empty when there is no validation.
        seed: Seed of the hash.
        val_ratio: Share asked for; None for an explicit list.
        notes: What a person should know about how the split came about.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    seed: int
    val_ratio: float | None
    notes: tuple[str, ...] = field(default=())


def split_materials(
    materials: Iterable[str], *, val_ratio: float, seed: int, val_materials: Sequence[str] = ()
) -> Split:
    """Split materials into training and validation.

    Args:
        materials: Names; repeats count once.
        val_ratio: Share of the materials to hold back, in [0, 1); 0 holds back none.
        seed: Seed of the hash.
        val_materials: Hold back exactly these instead.

    Returns:
        The split. With two materials or more and a ratio above 0, neither side is empty.

    Raises:
        DataError: `val_materials` names an unknown material, or leaves none to train on.
    """
    names = sorted(set(materials))
    if val_materials:
        return _explicit_split(names, sorted(set(val_materials)), seed)
    notes: tuple[str, ...] = ()
    held = {name for name in names if _position(name, seed) < val_ratio}
    if val_ratio > 0 and len(names) < 2:
        held, notes = set(), ("no validation: there is only one material",)
    elif val_ratio > 0 and not held:
        held = {min(names, key=lambda name: _position(name, seed))}
        notes = (f"no material fell under data.val_ratio {val_ratio:g}; the nearest, {min(held)!r}, is held back",)
    elif names and len(held) == len(names):
        held.remove(kept := max(names, key=lambda name: _position(name, seed)))
        notes = (f"all materials fell under data.val_ratio {val_ratio:g}; the farthest, {kept!r}, is trained on",)
    return Split(tuple(name for name in names if name not in held), tuple(sorted(held)), seed, val_ratio, notes)


def _explicit_split(names: Sequence[str], held: Sequence[str], seed: int) -> Split:
    unknown = [name for name in held if name not in names]
    if unknown:
        lines = [
            f"data.val_materials: {name!r} is no material of this dataset.{nearest(name, names)}" for name in unknown
        ]
        raise DataError("\n".join([*lines, f"Materials: {', '.join(names)}"]))
    train = tuple(name for name in names if name not in held)
    if not train:
        raise DataError("data.val_materials holds back every material; leave at least one to train on")
    return Split(train, tuple(held), seed, None)


def _position(name: str, seed: int) -> float:
    """Place of a name in [0, 1), uniform over names and fixed for a seed."""
    digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
