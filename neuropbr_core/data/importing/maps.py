"""Converts the files of a downloaded material into the four maps.

Conversions: DirectX normals to OpenGL, glossiness to roughness, packed channels into separate maps, linear and ACEScg
colours to sRGB, 16 bits to 8, and one size for all maps. Each conversion and each assumption adds a note.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NoReturn

import numpy as np

from neuropbr_core.data.checking.examine import as_values
from neuropbr_core.data.decoding import (
    EXR_SUFFIX,
    READ_SUFFIXES,
    ImageFacts,
    Pixels,
    describe_image,
    suffix_of,
    why_unread,
)
from neuropbr_core.data.images import Stored, map_side, read_alpha, read_image, store_map, to_uint8
from neuropbr_core.data.importing.colour_spaces import to_srgb
from neuropbr_core.data.importing.looks import explain_missing
from neuropbr_core.data.importing.names import Role
from neuropbr_core.data.importing.sources import MaterialSet, NamedFile, SourceFile
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.lint import lint_maps, normal_convention

_Option = tuple[Role, str]
"""Where a map may be: a role, and the letter of a channel, empty for the whole file."""

# The places of a map, the most reliable first. Packed maps come before glossiness, whose inverse is an approximation of
# what the author saw. Smoothness is exactly what shaders invert.
_ROUGHNESS: tuple[_Option, ...] = (
    ("roughness", ""),
    ("packed", "r"),
    ("packed", "s"),
    ("albedo", "s"),
    ("glossiness", ""),
    ("specular", "s"),
)
_METALLIC: tuple[_Option, ...] = (("metallic", ""), ("packed", "m"))

_DIELECTRIC = 79
"""sRGB of the reflectance 0.08, which is the largest of common non-metals (Unreal's and Disney's `specular` of 1)."""
_BRIGHT_DIELECTRIC = 137
"""sRGB of the reflectance 0.25. Beside a roughness map, specular maps are often an artist's strength of highlights and
not a reflectance. No non-metal reflects a quarter (diamond 0.17), and no bare metal reflects less than a third."""
_GREY = 16  # levels by which the channels of a grey image may differ after lossy compression
_FEW = 0.99  # quantile: a hundredth of the pixels may be dust, or noise of compression
_SPACES = {"linear": "linear", "acescg": "ACEScg"}


@dataclass
class Conversion:
    """The conversion of one material.

    Attributes:
        material: Its files.
        scratch: Folder for unpacked files.
        size: Side of the maps in pixels; None keeps the albedo's.
        crop: Whether to cut a centred square out of images that are not square, instead of refusing them.
        assume_nonmetal: Whether the user says that no part is metal, so that a specular map is no reason to refuse.
        neighbours: Images of the same folder that were not understood; an error names those that look like what the
            material lacks.
        notes: Conversions and assumptions, one line each.
        used: The file of each map, and which part of it.
    """

    material: MaterialSet
    scratch: Path
    size: int | None = None
    crop: bool = False
    assume_nonmetal: bool = False
    neighbours: tuple[SourceFile, ...] = ()
    notes: list[str] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)
    _paths: dict[SourceFile, Path] = field(default_factory=dict)
    _facts: dict[str, ImageFacts] = field(default_factory=dict)
    _inverted: bool = False  # whether roughness is made from glossiness or smoothness

    def maps(self) -> dict[str, Stored]:
        """Make all four maps.

        Returns:
            The maps in stored form, uint8 `(C, size, size)`, by name.

        Raises:
            DataError: Files are missing, unusable, or of a workflow that cannot be converted.
        """
        pixels, missing = self._make()
        for reason in missing.values():
            raise DataError(reason)
        size = self.size or pixels["albedo"].shape[0]
        self._note_storage(size)
        stored = {}
        values = {}
        for name, image in pixels.items():
            stored[name] = store_map(image, MAPS[name], size)
            values[name] = as_values(MAPS[name], stored[name])
        # The stored maps are judged, not the files: this is what training will read.
        for finding in lint_maps(values):
            if finding.level != "info":
                self.notes.append(f"{finding.map_name}: {finding.message}")
        return stored

    def some_maps(self, size: int) -> tuple[dict[str, Stored], dict[str, str]]:
        """Make the maps that can be made.

        Args:
            size: Side of the maps in pixels.

        Returns:
            The maps in stored form, uint8 `(C, size, size)`, by name; and why each of the others cannot be made.
        """
        pixels, missing = self._make()
        self._note_storage(size)
        return {name: store_map(image, MAPS[name], size) for name, image in pixels.items()}, missing

    def _make(self) -> tuple[dict[str, Pixels], dict[str, str]]:
        """Make the pixels of each map at its own size; or say why that cannot be done."""
        self.notes += self.material.notes
        # Roughness before metallic, because a specular map is judged by whether it has brought the roughness.
        makers = {
            "albedo": self._albedo,
            "roughness": self._roughness,
            "metallic": self._metallic,
            "normal": self._normal,
        }
        pixels = {}
        missing = {}
        for name, make in makers.items():
            try:
                pixels[name] = make()
            except DataError as error:
                # It may name the unpacked file, which a person has never seen; it must name the archive's.
                text = str(error)
                for source, path in self._paths.items():
                    text = text.replace(str(path), str(source))
                missing[name] = text
        return pixels, missing

    def _albedo(self) -> Pixels:
        choice = self._choose(("albedo", ""))
        if choice is None:
            self._refuse("albedo map", "albedo")
        source, name = choice[1]
        pixels = self._read("albedo", choice[1])
        # Reading encodes the linear values of EXR as sRGB.
        encoded = suffix_of(source.name) == EXR_SUFFIX
        if name.space == "other":
            raise DataError(
                f"{source}: its name states a colour space that cannot be converted; export the base colour as sRGB, "
                "linear sRGB or ACEScg"
            )
        if name.space == "acescg" or (name.space == "linear" and not encoded):
            self.notes.append(f"albedo: {_SPACES[name.space]} by its name; converted to sRGB")
            return to_srgb(pixels, name.space, encoded=encoded)
        if name.space == "raw" and not encoded:
            self.notes.append("albedo: its name says raw, which is no colour space; taken as sRGB")
        return pixels

    def _roughness(self) -> Pixels:
        choice = self._choose(*_ROUGHNESS)
        if choice is None:
            pixels = self._smoothness_of_unity()
            if pixels is None:
                self._refuse("roughness map, nor glossiness, nor a packed ORM or ARM map; it cannot be guessed", "grey")
            inverse_of = "smoothness"
        else:
            (role, letter), file = choice
            pixels = self._read_part("roughness", file, letter)
            if role == "roughness" or letter == "r":
                return pixels
            inverse_of = "glossiness"
            if letter == "s":
                inverse_of = "smoothness"
        self.used["roughness"] += " (inverted)"
        self._inverted = True
        self.notes.append(f"roughness: 1 - {inverse_of}")
        inverted: Pixels = np.iinfo(pixels.dtype).max - pixels
        return inverted

    def _smoothness_of_unity(self) -> Pixels | None:
        """Read the alpha channel of a metallic map, where Unity keeps smoothness; None when it has none."""
        choice = self._choose(("metallic", ""))
        if choice is None:
            return None
        source = choice[1][0]
        alpha = read_alpha(self._path(source), least=map_side(self._path(source), self.size))
        # A channel that is full everywhere was added by a program that always saves alpha.
        if alpha is None or alpha.min() == np.iinfo(alpha.dtype).max:
            return None
        self.used["roughness"] = f"{source} (alpha)"
        self.notes.append(f"roughness: taken from the alpha channel of {source.name}, where Unity keeps smoothness")
        return self._square("roughness", source, alpha)

    def _metallic(self) -> Pixels:
        choice = self._choose(*_METALLIC)
        if choice is not None:
            (_, letter), file = choice
            return self._read_part("metallic", file, letter)
        specular = self._choose(("specular", ""))
        if self.assume_nonmetal:
            self.notes.append("metallic: there is no metalness map; 0 everywhere, as --assume-nonmetal says")
        elif specular is not None:
            self._judge_specular(specular[1][0])
        else:
            self.notes.append("metallic: there is no metalness map, so it is 0 everywhere; right if no part is metal")
        self.used["metallic"] = "constant 0"
        return np.zeros((1, 1, 1), dtype=np.uint8)  # one pixel, which is enlarged to the maps' size

    def _judge_specular(self, source: SourceFile) -> None:
        """Note that a specular map tells of no metal.

        Raises:
            DataError: It tells that parts may be metal.
        """
        colours = to_uint8(self._pixels("specular", source, "RGB")).astype(np.int16)
        spread = float(np.quantile(colours.max(axis=2) - colours.min(axis=2), _FEW))
        brightest = float(np.quantile(colours.max(axis=2), _FEW))
        # Beside glossiness it is the reflectance of the specular workflow, in which whatever is bright is metal.
        limit = _DIELECTRIC
        if not self._inverted:
            limit = _BRIGHT_DIELECTRIC
        what = ""
        if spread > _GREY:
            what = f"is coloured (its channels differ by {spread:.0f} of 255)"
        elif brightest > limit:
            what = f"is as bright as {brightest:.0f} of 255, non-metals as {limit} at most"
        if what:
            raise DataError(
                f"{source}: a specular workflow (a specular map and no metalness map), and the specular map {what}: "
                "which parts are metal can only be guessed. Export it as metal/roughness, or give --assume-nonmetal if "
                "no part is metal"
            )
        note = f"metallic: 0 everywhere: {source.name} is grey and at most {brightest:.0f} of 255, as for non-metals"
        if brightest > _DIELECTRIC:
            note += f", of which most stay below {_DIELECTRIC}; make sure that no part is metal"
        self.notes.append(note)

    def _normal(self) -> Pixels:
        # OpenGL first: many libraries ship both, and OpenGL needs no conversion.
        choice = self._choose(("normal-gl", ""), ("normal-dx", ""), ("normal", ""))
        if choice is None:
            self._refuse("normal map", "normal")
        (role, _), file = choice
        pixels = self._read("normal", file)
        if role == "normal-gl":
            return pixels
        largest = np.iinfo(pixels.dtype).max
        directx = role == "normal-dx"
        if directx:
            self.notes.append("normal: DirectX by its name; converted to OpenGL")
        else:
            convention = normal_convention(np.moveaxis(pixels, 2, 0) * np.float32(2 / largest) - 1)
            directx = convention.name == "directx"
            if directx:
                deviations = f"{-convention.significance:.0f} standard deviations"
                evidence = f"its slopes belong to no surface as OpenGL, by {deviations}"
                self.notes.append(f"normal: its name does not tell; {evidence}, so it is DirectX; converted to OpenGL")
            elif convention.name is None:
                self.notes.append("normal: neither its name nor its slopes tell OpenGL from DirectX; taken as OpenGL")
        if directx:
            # The conventions differ in the direction of the green axis alone.
            pixels = pixels.copy()
            pixels[..., 1] = largest - pixels[..., 1]
        return pixels

    def _read_part(self, name: str, file: NamedFile, letter: str) -> Pixels:
        """Read a whole file, or its channel with that letter."""
        if not letter:
            return self._read(name, file)
        source, image = file
        channel = image.channels.index(letter)
        self.used[name] = f"{source} ({('red', 'green', 'blue', 'alpha')[channel]})"
        if channel < 3:
            pixels = self._pixels(name, source, "RGB")[..., channel : channel + 1]
        else:
            alpha = read_alpha(self._path(source), least=map_side(self._path(source), self.size))
            if alpha is None:
                raise DataError(f"{source}: has no alpha channel, which its name promises to hold the {name}")
            pixels = alpha
        return self._square(name, source, pixels)

    def _refuse(self, what: str, look: Literal["albedo", "grey", "normal"]) -> NoReturn:
        first = next(iter(self.material.files.values()))[0][0]
        hint = explain_missing(self.neighbours, look, self.scratch)
        raise DataError(f"{PurePosixPath(str(first)).parent}: has no {what}{hint}")

    def _choose(self, *options: _Option) -> tuple[_Option, NamedFile] | None:
        """Choose the first option that has a readable file, and its best file; None when none has files.

        The best file has the highest resolution, then the least lossy format.

        Raises:
            DataError: There are files, and none can be read.
        """
        unread: list[SourceFile] = []
        for role, letter in options:
            files = self.material.files.get(role, [])
            if letter:
                files = [pair for pair in files if letter in pair[1].channels]
            readable = [pair for pair in files if why_unread(pair[0].name) is None]
            if not readable:
                for other, _ in files:
                    unread.append(other)
                continue
            best = max(readable, key=_quality)
            note = f"{role}: took {best[0].name} of {len(readable)} files"
            # A packed map is chosen twice, for roughness and for metallic; the note is needed once.
            if len(readable) > 1 and note not in self.notes:
                self.notes.append(note)
            for other in unread:
                self.notes.append(f"{role}: took {best[0].name}, as {other.name} is not read")
            return (role, letter), best
        if unread:
            raise DataError(f"{unread[0]}: {why_unread(unread[0].name)}")
        return None

    def _read(self, name: str, file: NamedFile) -> Pixels:
        """Read the pixels of a map's own file, cut to a square if that is allowed."""
        source = file[0]
        self.used[name] = str(source)
        facts = describe_image(self._path(source))
        if name == "normal" and facts.channels == 1:
            raise DataError(f"{source}: is grey; a normal map has three channels. Is it a height map?")
        if name == "albedo" and facts.alpha:
            self.notes.append("albedo: its transparency is not used")
        return self._square(name, source, self._pixels(name, source, MAPS[name].image_mode))

    def _pixels(self, name: str, source: SourceFile, mode: Literal["RGB", "L"]) -> Pixels:
        path = self._path(source)
        return read_image(path, mode, colours=name == "albedo", least=map_side(path, self.size))

    def _path(self, source: SourceFile) -> Path:
        """Path of a file. One of an archive is unpacked once, though a packed map is read twice."""
        if source not in self._paths:
            self._paths[source] = source.fetch(self.scratch)
        return self._paths[source]

    def _square(self, name: str, source: SourceFile, pixels: Pixels) -> Pixels:
        """Cut pixels to a square, or refuse them."""
        self._facts[name] = describe_image(self._path(source))
        height, width = pixels.shape[:2]
        shown = self._facts[name].size
        if height == width:
            return pixels
        if not self.crop:
            raise DataError(
                f"{source}: is {shown} pixels; a map is square. --crop takes the square in its middle, "
                "which then no longer tiles"
            )
        side = min(height, width)
        top = (height - side) // 2
        left = (width - side) // 2
        self.notes.append(f"{name}: {shown} cut to the square in its middle; it no longer tiles")
        return pixels[top : top + side, left : left + side]

    def _note_storage(self, size: int) -> None:
        """Note which maps lose depth or change size. Maps with the same change share a note."""
        changes = defaultdict(list)
        # The header's facts, because large maps are shrunk while they are read. A constant map has no file.
        for name in MAPS:
            if name not in self._facts:
                continue
            facts = self._facts[name]
            side = min(facts.width, facts.height)
            if facts.bits > 8:
                changes[f"{facts.bits} bits rounded to 8"].append(name)
            if side > size:
                changes[f"shrunk from {side} pixels"].append(name)
            elif side < size:
                changes[f"enlarged from {side} pixels"].append(name)
        for change, names in changes.items():
            self.notes.append(f"{', '.join(names)}: {change}")


def _quality(file: NamedFile) -> tuple[bool, int, int, int]:
    """Order of the files of one role, best last."""
    source, name = file
    # Poliigon ships a base colour for each workflow under one name; that of the specular one is black on metal.
    return (
        name.workflow != "specular",
        name.resolution,
        -READ_SUFFIXES.index(suffix_of(source.name)),
        -name.copy,
    )
