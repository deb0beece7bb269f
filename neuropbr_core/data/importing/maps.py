"""Converts the files of a downloaded material into the four maps.

Conversions: DirectX normals to OpenGL, glossiness to roughness, packed channels into separate maps, 16 bits to 8, and
one size for all maps. Each conversion and each assumption adds a note.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NoReturn

import numpy as np

from neuropbr_core.data.checking.examine import as_values
from neuropbr_core.data.images import Pixels, Stored, describe_image, read_image, store_map
from neuropbr_core.data.importing.sources import READABLE, ImageName, MaterialSet, Role, SourceFile
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.lint import lint_maps, normal_convention

NamedFile = tuple[SourceFile, ImageName]


@dataclass
class Conversion:
    """The conversion of one material.

    Attributes:
        material: Its files.
        scratch: Folder for unpacked files.
        size: Side of the maps in pixels; None keeps the albedo's.
        crop: Whether to cut a centred square out of images that are not square, instead of refusing them.
        notes: Conversions and assumptions, one line each.
        used: The file of each map, and which part of it.
    """

    material: MaterialSet
    scratch: Path
    size: int | None = None
    crop: bool = False
    notes: list[str] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)
    _paths: dict[SourceFile, Path] = field(default_factory=dict)

    def maps(self) -> dict[str, Stored]:
        """Make all four maps.

        Returns:
            The maps in stored form, uint8 `(C, size, size)`, by name.

        Raises:
            DataError: Files are missing, unusable, or of a workflow that cannot be converted.
        """
        files = self.material.files
        if "specular" in files and not files.keys() & {"metallic", "packed"}:
            raise DataError(
                f"{files['specular'][0][0]}: a specular workflow (a specular map and no metalness map): which parts "
                "are metal can only be guessed. Export it as metal/roughness; or remove the specular map, if no part "
                "is metal"
            )
        _, albedo_file = self._choose("albedo") or self._refuse("albedo map")
        pixels = {
            "albedo": self._read("albedo", albedo_file),
            "roughness": self._roughness(),
            "metallic": self._metallic(),
            "normal": self._normal(),
        }
        size = self.size or pixels["albedo"].shape[0]
        self._note_storage(pixels, size)
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

    def _roughness(self) -> Pixels:
        # A packed map comes before glossiness, whose inverse is an approximation of what the author saw.
        role, file = self._choose("roughness", "packed", "glossiness") or self._refuse(
            "roughness map, nor glossiness, nor a packed ORM or ARM map; it cannot be guessed"
        )
        if role == "packed":
            return self._read_channel("roughness", file, "r")
        pixels = self._read("roughness", file)
        if role == "roughness":
            return pixels
        self.used["roughness"] += " (inverted)"
        self.notes.append("roughness: 1 - glossiness")
        inverted: Pixels = np.iinfo(pixels.dtype).max - pixels
        return inverted

    def _metallic(self) -> Pixels:
        choice = self._choose("metallic", "packed")
        if choice is None:
            self.notes.append("metallic: there is no metalness map, so it is 0 everywhere; right if no part is metal")
            self.used["metallic"] = "constant 0"
            return np.zeros((1, 1, 1), dtype=np.uint8)  # one pixel, which is enlarged to the maps' size
        role, file = choice
        if role == "packed":
            return self._read_channel("metallic", file, "m")
        return self._read("metallic", file)

    def _normal(self) -> Pixels:
        # OpenGL first: many libraries ship both, and OpenGL needs no conversion.
        role, file = self._choose("normal-gl", "normal-dx", "normal") or self._refuse("normal map")
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

    def _read_channel(self, name: str, packed: NamedFile, letter: str) -> Pixels:
        channel = packed[1].channels.index(letter)
        pixels = self._read(name, packed, "RGB")
        self.used[name] += f" ({('red', 'green', 'blue')[channel]})"
        return pixels[..., channel : channel + 1]

    def _refuse(self, what: str) -> NoReturn:
        first = next(iter(self.material.files.values()))[0][0]
        raise DataError(f"{PurePosixPath(str(first)).parent}: has no {what}")

    def _choose(self, *roles: Role) -> tuple[Role, NamedFile] | None:
        """Choose the first role that has a readable file, and its best file; None when no role has files.

        The best file has the highest resolution, then the least lossy format.

        Raises:
            DataError: There are files, and none can be read.
        """
        unread: list[SourceFile] = []
        for role in roles:
            files = self.material.files.get(role, [])
            readable = [pair for pair in files if _suffix(pair[0]) in READABLE]
            if not readable:
                for other, _ in files:
                    unread.append(other)
                continue
            best = max(readable, key=lambda pair: (pair[1].resolution, -READABLE.index(_suffix(pair[0]))))
            note = f"{role}: took {best[0].name} of {len(readable)} files"
            # A packed map is chosen twice, for roughness and for metallic; the note is needed once.
            if len(readable) > 1 and note not in self.notes:
                self.notes.append(note)
            for other in unread:
                self.notes.append(f"{role}: took {best[0].name}, as {other.name} is not read")
            return role, best
        if unread:
            raise DataError(f"{unread[0]}: {_suffix(unread[0])} files are not read; convert it to a 16-bit PNG")
        return None

    def _read(self, name: str, file: NamedFile, mode: Literal["RGB", "L"] | None = None) -> Pixels:
        """Read the pixels of a file, cut to a square if that is allowed."""
        source = file[0]
        self.used[name] = str(source)
        # A packed file is read twice, for two maps; it is unpacked from its archive once.
        if source not in self._paths:
            self._paths[source] = source.fetch(self.scratch)
        path = self._paths[source]
        if name == "normal" and describe_image(path).channels == 1:
            raise DataError(f"{source}: is grey; a normal map has three channels. Is it a height map?")
        try:
            pixels = read_image(path, mode or MAPS[name].image_mode)
        except DataError as error:
            # The error names the unpacked file, which a person has never seen; it must name the archive's.
            raise DataError(str(error).replace(str(path), str(source))) from error
        height, width = pixels.shape[:2]
        if height == width:
            return pixels
        if not self.crop:
            raise DataError(
                f"{source}: is {width}×{height} pixels; a map is square. --crop takes the square in its middle, "
                "which then no longer tiles"
            )
        side = min(height, width)
        top = (height - side) // 2
        left = (width - side) // 2
        self.notes.append(f"{name}: {width}×{height} cut to the square in its middle; it no longer tiles")
        return pixels[top : top + side, left : left + side]

    def _note_storage(self, pixels: Mapping[str, Pixels], size: int) -> None:
        """Note which maps lose depth or change size. Maps with the same change share a note."""
        changes = defaultdict(list)
        for name, image in pixels.items():
            side = image.shape[0]
            if image.dtype == np.uint16:
                changes["16 bits rounded to 8"].append(name)
            if side > size:
                changes[f"shrunk from {side} pixels"].append(name)
            elif 1 < side < size:  # a constant map has one pixel, and enlarging it loses nothing
                changes[f"enlarged from {side} pixels"].append(name)
        for change, names in changes.items():
            self.notes.append(f"{', '.join(names)}: {change}")


def _suffix(file: SourceFile) -> str:
    return PurePosixPath(file.name).suffix.lower()
