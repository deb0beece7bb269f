"""The four maps of a material made from the files that somebody else packed.

Conversions: DirectX normals to OpenGL, glossiness to roughness, packed channels apart, 16 bits to 8, one size for all.
Every one of them leaves a note, and so does every assumption.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NoReturn

import numpy as np

from neuropbr_core.data.checking.examine import as_values
from neuropbr_core.data.images.fit import Pixels, Stored, store_map
from neuropbr_core.data.images.read import describe_image, read_image
from neuropbr_core.data.importing.names import READABLE, ImageName, Role
from neuropbr_core.data.importing.sources import MaterialSet, SourceFile
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.lint import lint_maps, normal_convention

Named = tuple[SourceFile, ImageName]


@dataclass
class Conversion:
    """One material on its way into a dataset.

    Attributes:
        material: Its files.
        scratch: Folder for what is unpacked.
        size: Side of the maps; None takes the albedo's.
        crop: Cut a centred square out of images that are none, instead of refusing them.
        notes: What was done and assumed.
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

        Raises:
            DataError: Files are missing, unusable, or of a workflow that cannot be converted.
        """
        self._refuse_specular()
        pixels = {
            "albedo": self._albedo(),
            "roughness": self._roughness(),
            "metallic": self._metallic(),
            "normal": self._normal(),
        }
        size = self.size or pixels["albedo"].shape[0]
        self._note_storage(pixels, size)
        stored = {name: store_map(image, MAPS[name], size) for name, image in pixels.items()}
        values = {name: as_values(MAPS[name], image) for name, image in stored.items()}
        self.notes += [f"{one.map_name}: {one.message}" for one in lint_maps(values) if one.level != "info"]
        return stored

    def _refuse_specular(self) -> None:
        if "specular" in self.material.files and not self.material.files.keys() & {"metallic", "packed"}:
            raise DataError(
                f"{self.material.files['specular'][0][0]}: a specular workflow (a specular map and no metalness map): "
                "which parts are metal cannot be told without guessing. Export it as metal/roughness; or remove the "
                "specular map, if no part is metal"
            )

    def _albedo(self) -> Pixels:
        _, file = self._chosen("albedo") or self._refuse("albedo map")
        return self._read("albedo", file)

    def _roughness(self) -> Pixels:
        role, file = self._chosen("roughness", "packed", "glossiness") or self._refuse(
            "roughness map, nor glossiness, nor a packed ORM or ARM map; it cannot be guessed"
        )
        if role == "packed":
            return self._channel("roughness", file, "r")
        pixels = self._read("roughness", file)
        if role == "roughness":
            return pixels
        self.used["roughness"] += " (inverted)"
        self.notes.append("roughness: 1 - glossiness")
        inverted: Pixels = np.iinfo(pixels.dtype).max - pixels
        return inverted

    def _metallic(self) -> Pixels:
        found = self._chosen("metallic", "packed")
        if found is None:
            self.notes.append("metallic: there is no metalness map, so it is 0 everywhere; right if no part is metal")
            self.used["metallic"] = "constant 0"
            return np.zeros((1, 1, 1), dtype=np.uint8)
        role, file = found
        if role == "packed":
            return self._channel("metallic", file, "m")
        return self._read("metallic", file)

    def _normal(self) -> Pixels:
        role, file = self._chosen("normal-gl", "normal-dx", "normal") or self._refuse("normal map")
        pixels = self._read("normal", file)
        if role == "normal-gl":
            return pixels
        if role == "normal-dx":
            self.notes.append("normal: DirectX by its name; converted to OpenGL")
            return _green_inverted(pixels)
        found = normal_convention(np.moveaxis(pixels, 2, 0) * np.float32(2 / np.iinfo(pixels.dtype).max) - 1)
        if found.name == "directx":
            evidence = f"its slopes belong to no surface as OpenGL, by {-found.significance:.0f} standard deviations"
            self.notes.append(f"normal: its name does not say; {evidence}, so it is DirectX; converted to OpenGL")
            return _green_inverted(pixels)
        if found.name is None:
            self.notes.append("normal: neither its name nor its slopes tell OpenGL from DirectX; taken as OpenGL")
        return pixels

    def _channel(self, name: str, packed: Named, letter: str) -> Pixels:
        channel = packed[1].channels.index(letter)
        pixels = self._read(name, packed, "RGB")
        self.used[name] += f" ({('red', 'green', 'blue')[channel]})"
        return pixels[..., channel : channel + 1]

    def _refuse(self, what: str) -> NoReturn:
        first = next(iter(self.material.files.values()))[0][0]
        raise DataError(f"{PurePosixPath(str(first)).parent}: has no {what}")

    def _chosen(self, *roles: Role) -> tuple[Role, Named] | None:
        """The first of some roles that has a file which can be read, and the file; None when there are no files.

        Raises:
            DataError: There are files, and none can be read.
        """
        unread: list[SourceFile] = []
        for role in roles:
            if file := self._best(role):
                self.notes += [f"{role}: took {file[0].name}, as {other.name} is not read" for other in unread]
                return role, file
            unread += [other for other, _ in self.material.files.get(role, [])]
        if unread:
            raise DataError(f"{unread[0]}: {_suffix(unread[0])} files are not read; convert it to a 16-bit PNG")
        return None

    def _best(self, role: Role) -> Named | None:
        """The file for a role that can be read: of the highest resolution, then of the least lossy format."""
        readable = [pair for pair in self.material.files.get(role, []) if _suffix(pair[0]) in READABLE]
        if not readable:
            return None
        best = max(readable, key=lambda pair: (pair[1].resolution, -READABLE.index(_suffix(pair[0]))))
        note = f"{role}: took {best[0].name} of {len(readable)} files"
        if len(readable) > 1 and note not in self.notes:
            self.notes.append(note)
        return best

    def _read(self, name: str, file: Named, mode: Literal["RGB", "L"] | None = None) -> Pixels:
        """Pixels of a file, square."""
        source = file[0]
        self.used[name] = str(source)
        path = self._fetched(source)
        if name == "normal" and describe_image(path).channels == 1:
            raise DataError(f"{source}: is grey; a normal map has three channels. Is it a height map?")
        try:
            pixels = read_image(path, mode or MAPS[name].image_mode)
        except DataError as error:
            raise DataError(str(error).replace(str(path), str(source))) from error
        height, width = pixels.shape[:2]
        if height == width:
            return pixels
        return self._squared(name, source, pixels)

    def _squared(self, name: str, source: SourceFile, pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
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

    def _fetched(self, source: SourceFile) -> Path:
        if source not in self._paths:
            self._paths[source] = source.fetch(self.scratch)
        return self._paths[source]

    def _note_storage(self, pixels: Mapping[str, Pixels], size: int) -> None:
        """Say which maps lose depth or change size; one note for all of which the same is true."""
        changes = defaultdict(list)
        for name, image in pixels.items():
            side = image.shape[0]
            if image.dtype == np.uint16:
                changes["16 bits rounded to 8"].append(name)
            if side != size and side > 1:
                changes[f"{'shrunk' if side > size else 'enlarged'} from {side} pixels"].append(name)
        self.notes += [f"{', '.join(names)}: {change}" for change, names in changes.items()]


def _green_inverted(pixels: Pixels) -> Pixels:
    flipped = pixels.copy()
    flipped[..., 1] = np.iinfo(pixels.dtype).max - pixels[..., 1]
    return flipped


def _suffix(file: SourceFile) -> str:
    return PurePosixPath(file.name).suffix.lower()
