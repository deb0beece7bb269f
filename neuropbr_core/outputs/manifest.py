"""The record of a package: `manifest.json` describes each file of a folder."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from neuropbr_core import __version__
from neuropbr_core.contracts import Convention, Depth, Package
from neuropbr_core.files import json_text
from neuropbr_core.maps import NORMAL
from neuropbr_core.outputs.material import DERIVED, Material
from neuropbr_core.reading import DocumentError, open_bytes, parse_plain, read_bytes
from neuropbr_core.shown import printable

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class FileRecord:
    """One file of a package.

    Attributes:
        file: Its path in the package, with `/` between folders.
        role: What it is; `document` for everything that is no texture.
        sha256: Hash of its bytes.
        bytes: Its size.
        channels: Content of each channel of a texture, such as `roughness.0` or `constant 1`.
        color_space: `srgb`, `linear` (light) or `data`; None for documents.
        convention: `opengl` or `directx` for normal maps, else None.
        size: Side of a texture in pixels; None for documents.
        depth: 8 or 16 bits, or `exr` (half floats); None for documents.
        derived: The maps in it that were not measured but computed from the normals.
    """

    file: str
    role: str
    sha256: str
    bytes: int
    channels: tuple[str, ...] = ()
    color_space: Literal["srgb", "linear", "data"] | None = None
    convention: Convention | None = None
    size: int | None = None
    depth: Depth | None = None
    derived: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tiling:
    """How the material repeats.

    Attributes:
        tiles: Whether its borders show no more than lines inside it.
        maps: `given` for maps as they were, `cut` when they were changed to tile.
        seam_score: The worst map's seam score, about 1 for a texture that tiles.
        seam_scores: Seam score of each map.
        metres: Side of the texture in metres, if known.
    """

    tiles: bool
    maps: str
    seam_score: float
    seam_scores: dict[str, float]
    metres: float | None


@dataclass(frozen=True)
class Manifest:
    """What a package contains and what made it.

    Attributes:
        target: The packager, as `distribution:name`.
        material: Name of the material.
        made_by: Version of neuropbr, version of the packager's distribution, and the origin of the maps.
        tiling: How the material repeats.
        relief: Height of white above black in height maps, in sides of the texture.
        options: The packager's options and the overrides of the target.
        files: All files but the manifest, by path.
    """

    target: str
    material: str
    made_by: dict[str, str]
    tiling: Tiling
    relief: float
    options: dict[str, object] = field(default_factory=dict)
    files: tuple[FileRecord, ...] = ()

    def text(self) -> str:
        """The manifest as JSON."""
        return json_text(self)


def is_package(folder: Path) -> bool:
    """Whether a folder is a package: it has a manifest with a target."""
    # Other folders have a file of that name too, such as checkpoints.
    try:
        plain = parse_plain(read_bytes(folder / MANIFEST))
    except (OSError, DocumentError):
        return False
    if not isinstance(plain, dict) or not {"target", "material", "files"} <= set(plain):
        return False
    return isinstance(plain["files"], list)


def foreign_file(folder: Path) -> str | None:
    """The first file of a package that its manifest does not know, or that was edited since; None without any.

    Args:
        folder: A package (`is_package`).
    """
    known = {}
    for record in parse_plain(read_bytes(folder / MANIFEST))["files"]:
        if isinstance(record, dict) and isinstance(record.get("file"), str):
            known[record["file"]] = record.get("sha256")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name != MANIFEST and known.get(name) != _digest(path):
            return name
    return None


def _digest(path: Path) -> str:
    # A pipe or a device is nothing that a package has; opening one would wait for a writer.
    if not path.is_file():
        return ""
    with open_bytes(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_package(
    folder: Path, package: Package, material: Material, provenance: dict[str, str], options: dict[str, object]
) -> Manifest:
    """Describe the files of a finished package.

    Args:
        folder: The package's folder, without a manifest.
        package: Its settings and textures.
        material: Its maps.
        provenance: The packager's (`registry.Chosen.provenance`).
        options: The packager's options and the overrides of the target.
    """
    settings = package.settings
    roles = {package.file(role): role for role in package.textures}
    records = []
    # What is in the folder, and not what was planned: documents are the packager's, and none may be left out.
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        digest = _digest(path)
        role = roles.get(name)
        if role is None:
            records.append(FileRecord(name, "document", digest, path.stat().st_size))
            continue
        used = [channel.map for channel in package.textures[role].channels]
        convention = None
        # Only normals have one; on other files it would look like a fact about them.
        if NORMAL.name in used:
            convention = package.normals(role)
        record = FileRecord(
            file=name,
            role=role,
            sha256=digest,
            bytes=path.stat().st_size,
            channels=tuple(map(str, package.textures[role].channels)),
            color_space=package.color_space(role),
            convention=convention,
            size=settings.size,
            depth=package.depth(role),
            derived=tuple(name for name in DERIVED if name in used),
        )
        records.append(record)
    seams = material.seams
    tiling = Tiling(
        tiles=seams.tiles,
        maps=material.tiling,
        # Three digits: more would differ between machines.
        seam_score=round(seams.worst, 3),
        seam_scores={name: round(score, 3) for name, score in seams.scores.items()},
        metres=settings.metres,
    )
    # Versions of both: a packager of another distribution changes on its own.
    made_by = {
        "neuropbr": __version__,
        "packager": f"{provenance['distribution']} {provenance['version']}",
    }
    for key, value in material.made_by.items():
        made_by[key] = printable(value)  # a path that is no UTF-8 cannot be in a JSON file
    return Manifest(
        target=f"{provenance['distribution']}:{provenance['name']}",
        material=settings.name,
        made_by=made_by,
        tiling=tiling,
        relief=settings.relief,
        options=options,
        files=tuple(records),
    )
