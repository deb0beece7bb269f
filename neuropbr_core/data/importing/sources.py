"""Finds image files of materials in folders and zip archives, and groups them into one set for each material."""

import re
import shutil
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from neuropbr_core.data.decoding import IMAGE_SUFFIXES, suffix_of
from neuropbr_core.data.importing.names import ImageName, Role, read_name
from neuropbr_core.errors import DataError

_LARGEST = 1 << 30  # bytes of one file of an archive, so that a small archive cannot fill the disk
_GENERIC = re.compile(
    r"textures?|maps|images|regular|\d{1,2}k([-_](png|jpe?g|tiff?|exr))?|png|jpe?g|tiff?", re.IGNORECASE
)
"""Folder names that do not tell the material. Libraries also keep each resolution of a material in a folder."""
_THOUSANDS = re.compile(r"(\d{1,2})k(?![a-z])", re.IGNORECASE)
_FORBIDDEN = re.compile(r"[^\w.+-]+")
# `RuntimeError` is what zipfile raises for an encrypted file.
_ARCHIVE_FAULTS = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError)


@dataclass(frozen=True)
class SourceFile:
    """A file in a folder or in an archive.

    Attributes:
        container: The folder, or the zip file.
        member: Path below it, with `/`.
        archived: Whether `container` is a zip file.
    """

    container: Path
    member: str
    archived: bool

    def __str__(self) -> str:
        """The whole path, through the archive."""
        return f"{self.container}/{self.member}"

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.member).name

    @property
    def folder(self) -> str:
        """Name of the nearest folder or archive that contains the file; folders such as `textures` do not count."""
        for part in reversed(PurePosixPath(self.member).parent.parts):
            if not _GENERIC.fullmatch(part):
                return part
        if self.archived:
            return self.container.stem
        return self.container.resolve().name  # resolved, because `.` has no name

    @property
    def home(self) -> str:
        """Path of that folder or archive: files with the same home may belong to one material."""
        parts = list(PurePosixPath(self.member).parent.parts)
        while parts and _GENERIC.fullmatch(parts[-1]):
            parts.pop()
        return str(PurePosixPath(str(self.container), *parts))

    @property
    def resolution(self) -> int:
        """Side in pixels that a folder such as `2K` states; 0 for none."""
        for part in reversed(PurePosixPath(self.member).parent.parts):
            if match := _THOUSANDS.match(part):
                return int(match[1]) * 1024
        return 0

    @property
    def content(self) -> tuple[str, str]:
        """What tells contents apart: size and checksum."""
        if self.archived:
            with zipfile.ZipFile(self.container) as archive:
                info = archive.getinfo(self.member)
                return str(info.file_size), str(info.CRC)
        data = (self.container / self.member).read_bytes()
        return str(len(data)), str(zlib.crc32(data))

    def fetch(self, scratch: Path) -> Path:
        """Return a path to the file's content, after unpacking an archived file into `scratch`.

        Raises:
            DataError: The archive is damaged, locked, or the file in it is too large.
        """
        if not self.archived:
            return self.container / self.member
        # The number keeps files of the same name in different folders of the archive apart.
        target = scratch / f"{len(list(scratch.iterdir()))}_{self.name}"
        try:
            with zipfile.ZipFile(self.container) as archive:
                size = archive.getinfo(self.member).file_size
                if size > _LARGEST:
                    raise DataError(f"{self}: has {size >> 20} MiB; at most {_LARGEST >> 20} are unpacked")
                with archive.open(self.member) as packed, target.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
        except _ARCHIVE_FAULTS as error:
            raise DataError(f"{self}: cannot be unpacked ({error}); fetch the archive again") from error
        return target


NamedFile = tuple[SourceFile, ImageName]


@dataclass
class MaterialSet:
    """The files of one material.

    Attributes:
        name: Its name in the dataset.
        files: The files for each role.
        notes: What was decided by names alone, one line each.
    """

    name: str
    files: dict[Role, list[NamedFile]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Listing:
    """The materials of a folder or zip file.

    Attributes:
        sets: Materials, sorted by name.
        ignored: Images that belong to no material, sorted by path.
        damaged: Archives that cannot be opened and images that are no regular files, and why.
    """

    sets: list[MaterialSet]
    ignored: list[SourceFile]
    damaged: dict[str, str]


def find_sets(source: Path, template: str = "{name}") -> Listing:
    """List the materials of a folder, of all folders and zip files below it, or of one zip file.

    Files of one folder whose names differ only in role, resolution and format are one material. Colour variants and
    UDIM tiles of a material are materials of their own, which share the files that have no variant or tile.

    Args:
        source: Folder or zip file.
        template: Name of a material: `{name}` is the common part of its files' names (the folder's name when the
            files are called by their roles alone), `{folder}` is the folder or archive.

    Returns:
        The sets that have an albedo or a normal map, and all other images.

    Raises:
        DataError: There is no such source, or the template is wrong.
    """
    _check_template(template)  # first: it costs nothing, while a large folder takes a while to list
    if not source.exists():
        raise DataError(f"{source}: no such folder or zip file")
    damaged: dict[str, str] = {}
    grouped: dict[tuple[str, str], list[NamedFile]] = defaultdict(list)
    ignored = []
    for file in _files(source, damaged):
        name = read_name(file.name)
        if name is None:
            ignored.append(file)
        else:
            if not name.resolution:
                name = replace(name, resolution=file.resolution)
            # Capitals do not tell materials apart: `Rock_Color.png` and `rock_normal.png` belong together.
            grouped[file.home, name.stem.lower()].append((file, name))
    sets = []
    for group in grouped.values():
        certain = group
        if not (_has(group, "albedo") and _has(group, "normal")):
            # `Rock_M.png` may be a mask, and `metal_02.png` a material: such names count only in company.
            certain = [pair for pair in group if not pair[1].tentative]
        # Words such as `metal` or `rough` occur in names of other pictures; a material has an albedo or normals.
        if not (_has(certain, "albedo") or _has(certain, "normal")):
            certain = []
        for pair in group:
            if pair not in certain:
                ignored.append(pair[0])
        if certain:
            sets += _materials(sorted(certain, key=lambda pair: str(pair[0])), template)
    ignored.sort(key=str)
    return Listing(sorted(sets, key=lambda material: material.name), ignored, damaged)


def _has(files: list[NamedFile], role: str) -> bool:
    return any(name.role.startswith(role) for _, name in files)


def _materials(files: list[NamedFile], template: str) -> list[MaterialSet]:
    """Make the sets of one group: usually one, several for colour variants, tiles and second downloads."""
    sets = []
    for copy, of_copy in enumerate(_copies(files)):
        tiles = sorted({name.tile for _, name in of_copy if name.tile})
        if len(tiles) < 2:
            tiles = [""]  # one tile is the whole material
        for tile in tiles:
            of_tile = of_copy
            if tile:
                of_tile = [pair for pair in of_copy if pair[1].tile in (tile, "")]
            variants = sorted({name.variant for _, name in of_tile if name.role == "albedo"})
            for variant in variants or [""]:
                suffix = ""
                if copy:
                    suffix += f"_{copy + 1}"
                if tile:
                    suffix += f"_{tile}"
                if variant and len(variants) > 1:
                    suffix += f"_var{variant}"
                material = _make_set(_of_variant(of_tile, variant), suffix, template)
                if len(variants) > 1:
                    material.notes.append(
                        f"albedo: one of {len(variants)} colour variants of a surface, which share the other maps; "
                        "name all of them in one entry of data.groups, so that a split does not part them"
                    )
                if tile:
                    material.notes.append(f"UDIM tile {tile} of {len(tiles)}; it may not repeat without seams")
                sets.append(material)
    return sets


def _copies(files: list[NamedFile]) -> list[list[NamedFile]]:
    """Tell a second material under the same names (`albedo (1).png`, `normal (1).png`) from a file downloaded twice."""
    complete = []
    spare = []
    for number in sorted({name.copy for _, name in files}):
        numbered = [pair for pair in files if pair[1].copy == number]
        if _has(numbered, "albedo") and _has(numbered, "normal"):
            complete.append(numbered)
        else:
            spare += numbered
    # Most sets are there once, and comparing contents reads every file.
    if len(complete) < 2:
        return [files]
    copies: list[list[NamedFile]] = []
    contents = []
    for numbered in complete:
        content = {file.content for file, _ in numbered}
        # A set that was fetched twice is one material.
        if content not in contents:
            copies.append(numbered)
            contents.append(content)
    # What is left over, such as a roughness map that was fetched later, completes the first set.
    copies[0] += spare
    return copies


def _of_variant(files: list[NamedFile], variant: str) -> list[NamedFile]:
    """Files of one variant; for a role that does not have it, the files without a variant, or all."""
    chosen = []
    for role in dict.fromkeys(name.role for _, name in files):
        of_role = [pair for pair in files if pair[1].role == role]
        exact = [pair for pair in of_role if pair[1].variant == variant]
        plain = [pair for pair in of_role if not pair[1].variant]
        chosen += exact or plain or of_role
    return chosen


def _make_set(files: list[NamedFile], suffix: str, template: str) -> MaterialSet:
    first, name = files[0]
    filled = template.format(name=(name.stem or first.folder) + suffix, folder=first.folder)
    # The name becomes a folder's: no separators, no leading dot, never empty.
    material = MaterialSet(_FORBIDDEN.sub("_", filled).strip("._") or "material")
    for file, name in files:
        material.files.setdefault(name.role, []).append((file, name))
    return material


def _check_template(template: str) -> None:
    # A template is good when it gives another name for another `{name}` or another `{folder}`.
    filled = set()
    try:
        for name, folder in (("wood", "a"), ("stone", "a"), ("wood", "b")):
            filled.add(template.format(name=name, folder=folder))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise DataError(f"--name-template {template!r}: {error}; it may hold {{name}} and {{folder}}") from error
    if len(filled) == 1:
        raise DataError(f"--name-template {template!r}: gives every material one name; use {{name}} or {{folder}}")


def _files(source: Path, damaged: dict[str, str]) -> Iterator[SourceFile]:
    """List the images of a folder or a zip file, and of the zip files below a folder."""
    if source.is_file():
        yield from _archived(source, damaged)
        return
    for path in sorted(source.rglob("*")):  # sorted, so that the same folder gives the same sets everywhere
        if path.is_dir():
            continue
        member = path.relative_to(source).as_posix()
        is_archive = path.suffix.lower() == ".zip"
        if not path.is_file():
            if is_archive or _is_image(member):
                damaged[str(path)] = "is no regular file, or a link to nothing; remove it, or put the file there"
        elif is_archive:
            yield from _archived(path, damaged)
        elif _is_image(member):
            yield SourceFile(source, member, archived=False)


def _archived(path: Path, damaged: dict[str, str]) -> Iterator[SourceFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.namelist())
    except _ARCHIVE_FAULTS as error:
        damaged[str(path)] = f"cannot be opened as a zip file ({error}); fetch it again"
        return
    for member in members:
        is_folder = member.endswith("/")  # the zip format's own mark of a folder
        if not is_folder and _is_image(member):
            yield SourceFile(path, member, archived=True)


def _is_image(member: str) -> bool:
    path = PurePosixPath(member)
    for part in path.parts:
        # `__MACOSX` and files such as `._0.png` hold what macOS adds to an archive, no images.
        if part.startswith(".") or part == "__MACOSX":
            return False
    return suffix_of(path.name) in IMAGE_SUFFIXES
