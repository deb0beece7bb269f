"""Image files of materials in folders and zip archives, gathered into sets of one material each."""

import re
import shutil
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from neuropbr_core.data.importing.names import READABLE, UNREADABLE, ImageName, Role, read_name
from neuropbr_core.errors import DataError

_LARGEST = 1 << 30  # bytes of one file out of an archive
_GENERIC = ("textures", "texture", "maps", "images")  # folders that say nothing about what they hold
_FORBIDDEN = re.compile(r"[^\w.+-]+")
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
        """Name of the folder or archive that it lies in; folders such as `textures` do not count."""
        if self.archived:
            base = self.container.stem
        else:
            base = self.container.resolve().name
        parts = [base, *PurePosixPath(self.member).parent.parts]
        return next((part for part in reversed(parts) if part.lower() not in _GENERIC), base)

    def fetch(self, scratch: Path) -> Path:
        """Return a path to the file's content, unpacked into `scratch` when it is archived.

        Raises:
            DataError: The archive is damaged, locked, or the file in it is too large.
        """
        if not self.archived:
            return self.container / self.member
        target = scratch / f"{len(list(scratch.iterdir()))}_{self.name}"
        try:
            with zipfile.ZipFile(self.container) as archive:
                if (size := archive.getinfo(self.member).file_size) > _LARGEST:
                    raise DataError(f"{self}: has {size >> 20} MiB; at most {_LARGEST >> 20} are unpacked")
                with archive.open(self.member) as packed, target.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
        except _ARCHIVE_FAULTS as error:
            raise DataError(f"{self}: cannot be unpacked ({error}); fetch the archive again") from error
        return target


@dataclass
class MaterialSet:
    """The files of one material.

    Attributes:
        name: Its name in the dataset.
        files: What there is for each role.
    """

    name: str
    files: dict[Role, list[tuple[SourceFile, ImageName]]] = field(default_factory=dict)


@dataclass
class Found:
    """What a source holds.

    Attributes:
        sets: Materials, by name.
        ignored: Images that belong to none.
        damaged: Archives that cannot be opened, and why.
    """

    sets: list[MaterialSet]
    ignored: list[str]
    damaged: dict[str, str]


def find_sets(source: Path, template: str = "{name}") -> Found:
    """Gather the materials of a folder, of all folders and zip files below it, or of one zip file.

    Files of one folder whose names agree up to role, resolution and format are one material.

    Args:
        source: Folder or zip file.
        template: Name of a material: `{name}` is what its files have in common (the folder's name when they are
            called by their roles alone), `{folder}` the folder or archive.

    Returns:
        Sets that have an albedo or a normal map at least, and what was left.

    Raises:
        DataError: There is no such source, or the template is wrong.
    """
    _check_template(template)
    if not source.exists():
        raise DataError(f"{source}: no such folder or zip file")
    damaged: dict[str, str] = {}
    grouped: dict[tuple[str, str], list[tuple[SourceFile, ImageName]]] = defaultdict(list)
    ignored = []
    for file in _files(source, damaged):
        name = read_name(file.name)
        if name is None:
            ignored.append(str(file))
        else:
            grouped[str(PurePosixPath(str(file)).parent), name.stem.lower()].append((file, name))
    sets = []
    for files in grouped.values():
        if any(name.role.startswith(("albedo", "normal")) for _, name in files):
            sets.append(_as_set(files, template))
        else:
            ignored += [str(file) for file, _ in files]
    return Found(sorted(sets, key=lambda one: one.name), sorted(ignored), damaged)


def _as_set(files: Iterable[tuple[SourceFile, ImageName]], template: str) -> MaterialSet:
    ordered = sorted(files, key=lambda pair: str(pair[0]))
    first, name = ordered[0]
    filled = template.format(name=name.stem or first.folder, folder=first.folder)
    material = MaterialSet(_FORBIDDEN.sub("_", filled).strip("._") or "material")
    for file, name in ordered:
        material.files.setdefault(name.role, []).append((file, name))
    return material


def _check_template(template: str) -> None:
    try:
        filled = set()
        for name in ("one", "two"):
            filled.add(template.format(name=name, folder="folder"))
        filled |= {template.format(name="one", folder="other")}
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise DataError(f"--name-template {template!r}: {error}; it may hold {{name}} and {{folder}}") from error
    if len(filled) == 1:
        raise DataError(f"--name-template {template!r}: gives every material one name; use {{name}} or {{folder}}")


def _files(source: Path, damaged: dict[str, str]) -> Iterator[SourceFile]:
    """Images of a folder or a zip file, and of the zip files below a folder."""
    if source.is_file():
        yield from _archived(source, damaged)
        return
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        member = path.relative_to(source).as_posix()
        if path.suffix.lower() == ".zip":
            yield from _archived(path, damaged)
        elif _is_image(member):
            yield SourceFile(source, member, archived=False)


def _archived(path: Path, damaged: dict[str, str]) -> Iterator[SourceFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except _ARCHIVE_FAULTS as error:
        damaged[str(path)] = f"cannot be opened as a zip file ({error}); fetch it again"
        return
    yield from (SourceFile(path, member, archived=True) for member in members if _is_image(member))


def _is_image(member: str) -> bool:
    path = PurePosixPath(member)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in READABLE + UNREADABLE and not hidden
