"""Finds image files of materials in folders and zip archives, and groups them into one set for each material.

File names tell what an image shows. They follow the customs of the large free libraries and of exporters:
`Bricks102_2K-JPG_NormalGL.jpg`, `red_brick_nor_gl_2k.png`, `Wood_027_basecolor.jpg`, `rusty-metal_normal-ogl.png`,
`Rock_ORM.png`, `albedo.png`.
"""

import re
import shutil
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path, PurePath, PurePosixPath
from typing import Literal

from neuropbr_core.errors import DataError

Role = Literal[
    "albedo", "normal", "normal-gl", "normal-dx", "roughness", "glossiness", "metallic", "specular", "packed"
]

READABLE = (".png", ".tif", ".tiff", ".tga", ".bmp", ".webp", ".jpg", ".jpeg")
"""Suffixes of images that are read. Of several files for one map, the suffix that comes first wins."""

UNREADABLE = (".exr", ".hdr", ".dds")
"""Suffixes of images that are recognised but not read."""

_WORDS: dict[Role, str] = {
    "albedo": "albedo, alb, base color, base colour, basecolor, basecolour, color, colour, col, diffuse, diff, dif",
    "normal-gl": "normalgl, normal gl, normal ogl, normal opengl, normalogl, normalopengl, nor gl, nor opengl, norgl",
    "normal-dx": "normaldx, normal dx, normal directx, normaldirectx, normal d3d, nor dx, nor directx, nordx",
    "normal": "normal, normals, normal map, normalmap, nor, norm, nrm, nml",
    "roughness": "roughness, rough, rgh",
    "glossiness": "glossiness, gloss, smoothness",
    "metallic": "metalness, metallic, metallness, metal",
    "specular": "specular, spec, specularity, specular color, reflection, refl",
}
_PACKED_WORDS = {
    "occlusionroughnessmetallic": "arm",
    "occlusion roughness metallic": "arm",
    "metallicroughness": "arm",  # glTF: green roughness, blue metallic, red free
    "metalroughness": "arm",
    "roughnessmetallic": "arm",
}
_LONGEST = 3  # tokens

_ROLES: dict[str, Role] = {word: role for role, words in _WORDS.items() for word in words.split(", ")}
_LETTERS = {"".join(order) for occlusion in "ao" for order in permutations((occlusion, "r", "m"))}
_TOKEN = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOISE = re.compile(r"\d{1,2}k|lod\d|256|512|1024|2048|4096|8192|\d+x\d+|\d+px|\d+bits?|jpe?g|png|tiff?|exr|webp|tga")
_THOUSANDS = re.compile(r"(\d{1,2})k|(\d{3,4})(?:x\d+|px)?")


@dataclass(frozen=True)
class ImageName:
    """The parts of a file name.

    Attributes:
        stem: The rest of the name, which is the material; empty when the name is the role alone.
        role: What the image shows.
        channels: For `packed`: the letters of its red, green and blue channels (a or o occlusion, r roughness,
            m metallic).
        resolution: Side in pixels that the name states; 0 for none.
    """

    stem: str
    role: Role
    channels: str = ""
    resolution: int = 0


def read_name(file_name: str) -> ImageName | None:
    """Recognise what an image shows from its name; None when the name does not tell.

    Resolution and format may come before or after the role: `X_2K_Color`, `X_diff_2k`, `X_2K-JPG_Color`.
    """
    path = PurePath(file_name)
    if path.suffix.lower() not in READABLE + UNREADABLE:
        return None
    # CamelCase is split on the second try only, because some roles are written with capitals inside, as in NormalGL.
    return _read_stem(path.stem) or _read_stem(_HUMP.sub("_", path.stem))


def _read_stem(stem: str) -> ImageName | None:
    tokens = list(_TOKEN.finditer(stem))
    words = [token[0].lower() for token in tokens]
    end = _without_noise(words)
    # The longest phrase first: `normal gl` is more specific than `gl`, and `base color` than `color`.
    for length in range(min(_LONGEST, end), 0, -1):
        start = end - length
        role, channels = _role(" ".join(words[start:end]))
        if role is None:
            continue
        named = _without_noise(words[:start])
        name = ""
        if named:
            name = stem[: tokens[named - 1].end()]  # a slice of the file name keeps its capitals and separators
        return ImageName(name, role, channels, _resolution(words[named:]))
    return None


def _without_noise(words: list[str]) -> int:
    """Count the words before trailing resolutions and formats."""
    end = len(words)
    while end and _NOISE.fullmatch(words[end - 1]):
        end -= 1
    return end


def _role(phrase: str) -> tuple[Role | None, str]:
    if phrase in _ROLES:
        return _ROLES[phrase], ""
    letters = _PACKED_WORDS.get(phrase, phrase)
    if letters in _LETTERS:
        return "packed", letters
    return None, ""


def _resolution(words: list[str]) -> int:
    for word in words:
        if match := _THOUSANDS.fullmatch(word):
            if match[1]:
                return int(match[1]) * 1024  # `2K` means 2048
            return int(match[2])
    return 0


_LARGEST = 1 << 30  # bytes of one file of an archive, so that a small archive cannot fill the disk
_GENERIC = ("textures", "texture", "maps", "images")  # folder names that do not tell the material
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
            if part.lower() not in _GENERIC:
                return part
        if self.archived:
            return self.container.stem
        return self.container.resolve().name  # resolved, because `.` has no name

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


@dataclass
class MaterialSet:
    """The files of one material.

    Attributes:
        name: Its name in the dataset.
        files: The files for each role.
    """

    name: str
    files: dict[Role, list[tuple[SourceFile, ImageName]]] = field(default_factory=dict)


@dataclass
class Listing:
    """The materials of a folder or zip file.

    Attributes:
        sets: Materials, sorted by name.
        ignored: Images that belong to no material.
        damaged: Archives that cannot be opened, and why.
    """

    sets: list[MaterialSet]
    ignored: list[str]
    damaged: dict[str, str]


def find_sets(source: Path, template: str = "{name}") -> Listing:
    """List the materials of a folder, of all folders and zip files below it, or of one zip file.

    Files of one folder whose names differ only in role, resolution and format are one material.

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
    grouped: dict[tuple[str, str], list[tuple[SourceFile, ImageName]]] = defaultdict(list)
    ignored = []
    for file in _files(source, damaged):
        name = read_name(file.name)
        if name is None:
            ignored.append(str(file))
        else:
            # Capitals do not tell materials apart: `Rock_Color.png` and `rock_normal.png` belong together.
            grouped[str(PurePosixPath(str(file)).parent), name.stem.lower()].append((file, name))
    sets = []
    for files in grouped.values():
        # Words such as `metal` or `color` occur in names of other pictures; a material has an albedo or normals.
        if any(name.role.startswith(("albedo", "normal")) for _, name in files):
            ordered = sorted(files, key=lambda pair: str(pair[0]))
            first, name = ordered[0]
            filled = template.format(name=name.stem or first.folder, folder=first.folder)
            # The name becomes a folder's: no separators, no leading dot, never empty.
            material = MaterialSet(_FORBIDDEN.sub("_", filled).strip("._") or "material")
            for file, name in ordered:
                material.files.setdefault(name.role, []).append((file, name))
            sets.append(material)
        else:
            for file, _ in files:
                ignored.append(str(file))
    return Listing(sorted(sets, key=lambda material: material.name), sorted(ignored), damaged)


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
        if not path.is_file():
            continue
        member = path.relative_to(source).as_posix()
        if path.suffix.lower() == ".zip":
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
    return path.suffix.lower() in READABLE + UNREADABLE
