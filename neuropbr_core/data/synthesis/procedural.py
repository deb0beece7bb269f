"""Procedural materials as material folders, and as sources of captures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuropbr_core.data.images.fit import Stored
from neuropbr_core.data.images.write import write_map
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.encoding import encode_map
from neuropbr_core.materials.procedural.catalog import KINDS, REVISION, generate
from neuropbr_core.materials.procedural.naming import material_name
from neuropbr_core.reporting import track


@dataclass(frozen=True)
class ProceduralMaterial:
    """One procedural material.

    Attributes:
        kind: One of `materials.procedural.catalog.KINDS`.
        seed: What decides the rest.
    """

    kind: str
    seed: int

    @property
    def name(self) -> str:
        """Its name in a dataset."""
        return material_name(self.kind, self.seed)

    @property
    def fingerprint(self) -> str:
        """What stands for its content in a record; changes when the generators do."""
        return f"procedural-{REVISION}"

    def stored(self, size: int) -> dict[str, Stored]:
        """Make its maps, uint8 `(C, size, size)`, as files hold them."""
        maps = generate(self.kind, self.seed, size)
        return {name: encode_map(MAPS[name], values[0]).numpy() for name, values in maps.items()}


def procedural_materials(count: int, seed: int, kinds: Sequence[str] = KINDS) -> list[ProceduralMaterial]:
    """List procedural materials: every kind with seed `seed`, then every kind with the next seed, and so on.

    A larger count continues the same list.

    Args:
        count: How many.
        seed: The first seed, at least 0.
        kinds: Which kinds to take in turn.

    Raises:
        DataError: A kind is unknown or named twice, or there is none.
    """
    unknown = []
    for kind in kinds:
        if kind not in KINDS:
            unknown.append(kind)
    if unknown or not kinds or len(set(kinds)) < len(kinds):
        found = ", ".join(kinds) or "none"
        raise DataError(f"kinds of procedural materials: found {found}; name each once, of: {', '.join(KINDS)}")
    return [ProceduralMaterial(kinds[index % len(kinds)], seed + index // len(kinds)) for index in range(count)]


def write_materials(materials: Sequence[ProceduralMaterial], out: Path, size: int) -> list[Path]:
    """Write materials as folders of four PNG maps; a folder of the same name is written over.

    Args:
        materials: What to write.
        out: Folder that gets a folder for each.
        size: Side of the maps in pixels.

    Returns:
        The folders.
    """
    for material in track(materials, len(materials), "making materials"):
        for name, values in material.stored(size).items():
            write_map(out / material.name, MAPS[name], values)
    return [out / material.name for material in materials]
