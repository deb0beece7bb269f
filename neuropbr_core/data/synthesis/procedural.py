"""Procedural materials, written as material folders or rendered into captures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuropbr_core.data.images import Stored, write_map
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
