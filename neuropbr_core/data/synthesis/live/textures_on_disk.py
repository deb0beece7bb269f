"""Material folders and procedural materials as packed textures, kept in files that are mapped into memory."""

import errno
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuropbr_core.data.decoding import describe_image
from neuropbr_core.data.images import Stored, read_map
from neuropbr_core.data.layout.findings import raise_problems
from neuropbr_core.data.pack.digest import fingerprint_files
from neuropbr_core.data.synthesis.procedural import ProceduralMaterial, procedural_materials
from neuropbr_core.data.synthesis.render import find_materials
from neuropbr_core.errors import DataError
from neuropbr_core.files import file_name, replacing
from neuropbr_core.maps import ALBEDO, MAPS
from neuropbr_core.materials.live.textures import SMALLEST, Texels, Texture, measure, pack_texels
from neuropbr_core.reporting import reporter, track
from neuropbr_core.shipped import resolve

REVISION = 1
"""Grows when the same maps give other texels."""

_OTHER_FILES = 1024
"""Files that a process may need beside mapped textures."""


@dataclass(frozen=True)
class MaterialFile:
    """A material that can become a texture.

    Attributes:
        name: Its name; unique in a bank.
        content: Names what it is made of: a fingerprint of its files, or the revision of a procedural one's generator.
        origin: Its folder, or the procedural material.
    """

    name: str
    content: str
    origin: Path | ProceduralMaterial

    def read(self, size: int) -> Texture:
        """Read its maps, at most `size` pixels wide, and pack them.

        Raises:
            DataError: A map cannot be used.
        """
        maps: dict[str, Stored] = {}
        if isinstance(self.origin, ProceduralMaterial):
            maps.update(self.origin.stored(size))
        else:
            width = describe_image(self.origin / ALBEDO.file_name).width
            # Mipmaps need a power of two; a smaller material keeps as many pixels as it has.
            side = max(SMALLEST, min(size, 1 << (width.bit_length() - 1)))
            for name, spec in MAPS.items():
                maps[name] = read_map(self.origin / spec.file_name, spec, side)
        levels = pack_texels(maps)
        return Texture(self.name, tuple(levels), measure(levels))


def list_materials(folders: Sequence[str], procedural: int, seed: int) -> list[MaterialFile]:
    """List the materials of folders, and procedural ones.

    Args:
        folders: Folders of material folders, or `neuropbr:` references to shipped ones.
        procedural: How many procedural materials.
        seed: Seed of the first of them.

    Raises:
        DataError: A folder is missing or incomplete, or two materials have one name.
    """
    materials: list[MaterialFile] = []
    for folder in folders:
        for name, path in find_materials(resolve(folder)).items():
            files = [path / spec.file_name for spec in MAPS.values()]
            materials.append(MaterialFile(name, fingerprint_files(files), path))
    for drawn in procedural_materials(procedural, seed):
        materials.append(MaterialFile(drawn.name, drawn.fingerprint, drawn))
    first: dict[str, MaterialFile] = {}
    problems = []
    for material in materials:
        known = first.setdefault(material.name, material)
        # The same files in two folders are one material.
        if known.content != material.content:
            problems.append(
                f"two materials are called {material.name}: {known.origin} and {material.origin}; rename one"
            )
    raise_problems(problems)
    return list(first.values())


def open_textures(materials: Sequence[MaterialFile], size: int, cache: Path | None) -> list[Texture]:
    """Read materials as textures, from files of earlier runs where there are some.

    Args:
        materials: What to read.
        size: Side of the finest level, in pixels; a power of two.
        cache: Folder of packed textures, which is completed; None keeps them in memory.

    Raises:
        DataError: Materials cannot be read, all of them at once; or the folder cannot be written.
    """
    textures = []
    problems = []
    if cache is not None:
        _allow_open_files(len(materials))
        # Packing can take minutes, so what it is for is printed before the bar of progress appears.
        missing = 0
        for material in materials:
            if not _place(cache, material, size).is_file():
                missing += 1
        if missing:
            reporter().line(f"Packing {missing} materials into {cache}, once")
    for material in track(materials, len(materials), "packing materials"):
        try:
            if cache is None:
                textures.append(material.read(size))
            else:
                textures.append(_mapped(cache, material, size))
        except DataError as error:
            # The user repairs all damaged materials at once, and need not start again for each.
            problems.append(str(error))
    raise_problems(problems)
    return textures


def _allow_open_files(count: int) -> None:
    """Let this process have so many more files open, as far as the system allows: a mapped file stays open."""
    if sys.platform == "win32":
        return  # has no such limit
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _mapped(cache: Path, material: MaterialFile, size: int) -> Texture:
    """A texture from its file, which is written first where it is missing."""
    path = _place(cache, material, size)
    if not path.is_file():
        fresh = material.read(size)
        try:
            # Several processes may pack at once: each writes aside, and the last rename wins with the same bytes.
            with replacing(path) as aside, aside.open("wb") as file:
                np.save(file, np.concatenate([level.ravel() for level in fresh.levels]))
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); set data.pack to `off`") from error
    try:
        packed: Texels = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        # The file is sound when too many are open, and `_allow_open_files` could not help.
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        raise DataError(f"{path}: cannot be read ({error}); remove it") from error
    # Traits follow from the texels, so they are measured again and not stored beside them.
    levels = _split(packed)
    return Texture(material.name, tuple(levels), measure(levels))


def _split(packed: Texels) -> list[Texels]:
    """The levels that lie one behind the other: S², (S / 2)², … down to `SMALLEST`²."""
    # Their sum is (4 S² - SMALLEST²) / 3.
    side = round(((3 * packed.size + SMALLEST * SMALLEST) / 4) ** 0.5)
    levels = []
    start = 0
    while side >= SMALLEST:
        # As plain arrays: slices of a `memmap` are slow to create, and every look-up slices a level.
        levels.append(packed[start : start + side * side].reshape(side, side).view(np.ndarray))
        start += side * side
        side //= 2
    return levels


def _place(cache: Path, material: MaterialFile, size: int) -> Path:
    # The name has all that the texels depend on, so a file is never out of date: a change leads to another file.
    return cache / f"{file_name(material.name)}-{file_name(material.content)}-{size}-{REVISION}.npy"
