"""Conformance suite of packagers.

A test of an author's package subclasses it:

    from neuropbr_core.testing.packager import PackagerSuite

    class TestGodot(PackagerSuite):
        use = "godot"
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from neuropbr_core.contracts import Maps, Package, Packager, PackageSettings
from neuropbr_core.data.images import read_alpha, read_image
from neuropbr_core.kinds import PackagerEntryOptions
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.outputs.manifest import MANIFEST
from neuropbr_core.outputs.material import DERIVED, Material
from neuropbr_core.outputs.package import choose_targets, write_packages
from neuropbr_core.outputs.textures import channel_values, exr_is_missing
from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.testing.component import ComponentSuite

_SIZE = 16
_ALPHA = 3  # the channel after red, green and blue


def example_material(size: int = _SIZE, seed: int = 0) -> Material:
    """Make a material whose maps all differ, and whose normals lean up and down by different amounts.

    Args:
        size: Side of the maps in pixels.
        seed: Seed of the maps.
    """
    random = torch.Generator().manual_seed(seed)
    lean = torch.randn((1, 2, size, size), generator=random) * 0.3 + torch.tensor([0.1, 0.25]).view(1, 2, 1, 1)
    maps: Maps = {
        "albedo": torch.rand((1, 3, size, size), generator=random),
        "roughness": torch.rand((1, 1, size, size), generator=random) * 0.5 + 0.3,
        "metallic": (torch.rand((1, 1, size, size), generator=random) > 0.7).float(),
        "normal": F.normalize(torch.cat((lean, torch.ones(1, 1, size, size)), dim=1), dim=1),
    }
    return Material("conformance", maps, {"maps": "example_material"})


class PackagerSuite(ComponentSuite):
    """Tests of everything that the core relies on in a packager (`neuropbr_core.contracts.Packager`).

    Every combination of depth and convention that the packager allows is written. Tests that write files are skipped on
    machines that do not meet the packager's requirements.
    """

    kind = "packager"

    @pytest.fixture
    def packager(self, options: Any) -> Packager:
        """The packager under test, on a machine that has what it needs."""
        packager: Packager = self.create(options)
        assert isinstance(packager, Packager), (
            f"create_packager must return a neuropbr_core.contracts.Packager, but returned a {type(packager).__name__}"
        )
        available = packager.requirements()
        if not available.ok:
            pytest.skip(available.reason)
        return packager

    def write(self, options: Any, folder: Path, **overrides: Any) -> Path:
        """Write a package of `example_material` as `neuropbr package` does.

        Args:
            options: The packager's options dataclass.
            folder: Where the package's folder goes.
            **overrides: Keys of `kinds.PackagerEntryOptions`.

        Returns:
            The package's folder.
        """
        chosen = default_registry().choose("packager", self.use, options, entry=PackagerEntryOptions(**overrides))
        (path,) = write_packages(example_material(), choose_targets({"package": chosen}), folder)
        return path

    def each_override(self, packager: Packager) -> list[dict[str, Any]]:
        """All combinations of depth and convention that the packager allows and this machine can write."""
        combinations: list[dict[str, Any]] = []
        for depth in packager.depths:
            if depth == "exr" and exr_is_missing():
                continue
            for convention in packager.conventions:
                combinations.append({"depth": depth, "normals": convention})
        return combinations

    def test_it_allows_something(self, packager: Packager) -> None:
        """There is at least one depth and one convention, the first of which are the target's own."""
        assert packager.depths, "`depths` must name at least one depth, but is empty"
        assert packager.conventions, "`conventions` must name at least one convention of normals, but is empty"

    def test_textures_follow_from_settings_alone(self, packager: Packager) -> None:
        """Asked twice, a packager lists the same textures, each with a role and a path of its own."""
        settings = PackageSettings(
            name="conformance",
            maps=(*MAP_NAMES, *DERIVED),
            size=_SIZE,
            depth=packager.depths[0],
            normals=packager.conventions[0],
            metres=None,
            relief=0.1,
        )
        textures = list(packager.textures(settings))
        assert textures == list(packager.textures(settings)), "`textures` must list the same textures when asked twice"
        for attribute in ("role", "stem"):
            values = [getattr(texture, attribute) for texture in textures]
            assert len(set(values)) == len(values), (
                f"each texture must have a {attribute} of its own, but they are {values}"
            )

    def test_every_allowed_package_is_written(self, packager: Packager, options: Any, tmp_path: Path) -> None:
        """Each depth and convention that the packager allows gives a package whose manifest describes every file."""
        for overrides in self.each_override(packager):
            package = self.write(options, tmp_path, **overrides)
            manifest = json.loads((package / MANIFEST).read_text(encoding="utf-8"))
            described = {record["file"]: record["sha256"] for record in manifest["files"]}
            present = {}
            for path in package.rglob("*"):
                if path.is_file() and path.name != MANIFEST:
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                    present[path.relative_to(package).as_posix()] = digest
            assert described == present, (
                f"the manifest must describe every file with its hash; with {overrides} it has {sorted(described)}, "
                f"and the folder has {sorted(present)}"
            )

    def test_channels_are_stored_as_declared(self, packager: Packager, options: Any, tmp_path: Path) -> None:
        """PNG files hold what the textures declare: the core writes them, and documents must leave them as they are."""
        material = example_material()
        for overrides in self.each_override(packager):
            folder = self.write(options, tmp_path, **overrides)
            package = self.package(packager, material, overrides)
            for role, texture in package.textures.items():
                if package.depth(role) == "exr":
                    continue
                file = folder / package.file(role)
                pixels = read_image(file)
                levels = np.iinfo(pixels.dtype).max
                for index, channel in enumerate(texture.channels):
                    if index == _ALPHA:
                        stored = read_alpha(file)  # which `read_image` leaves out
                        assert stored is not None, f"{package.file(role)}: must hold {channel} as alpha, but has none"
                        values = stored[..., 0]
                    else:
                        values = pixels[..., index]
                    expected = channel_values(channel, material, package.normals(role)).numpy()
                    error = np.abs(values / levels - expected).max()
                    assert error <= 1 / levels, (
                        f"{package.file(role)}: channel {index} must hold {channel}, but differs by {error:.3f}"
                    )

    @pytest.mark.usefixtures("packager")
    def test_the_same_material_gives_the_same_bytes(self, options: Any, tmp_path: Path) -> None:
        """Packages hold no time, no random name and no path of this machine, so that hashes can be compared."""
        first = self.write(options, tmp_path / "first")
        second = self.write(options, tmp_path / "second")
        for path in sorted(first.rglob("*")):
            if path.is_file():
                other = second / path.relative_to(first)
                assert path.read_bytes() == other.read_bytes(), (
                    f"{path.relative_to(first)}: two packages of one material must have the same bytes, but differ"
                )

    def test_a_known_size_changes_documents_alone(self, packager: Packager, options: Any, tmp_path: Path) -> None:
        """With `metres`, textures are the same; what else changes is for the packager to decide."""
        plain = self.write(options, tmp_path / "plain")
        sized = self.write(options, tmp_path / "sized", metres=0.25)
        package = self.package(packager, example_material(), {})
        for role in package.textures:
            file = package.file(role)
            assert (plain / file).read_bytes() == (sized / file).read_bytes(), (
                f"{file}: a texture must not depend on its size in metres, but it changed"
            )

    def package(self, packager: Packager, material: Material, overrides: dict[str, Any]) -> Package:
        """What the core asks the packager for, with overrides."""
        settings = PackageSettings(
            name=material.name,
            maps=(*MAP_NAMES, *DERIVED),
            size=material.size,
            depth=overrides.get("depth", packager.depths[0]),
            normals=overrides.get("normals", packager.conventions[0]),
            metres=None,
            relief=material.relief,
        )
        return Package(settings, {texture.role: texture for texture in packager.textures(settings)})

    @pytest.mark.usefixtures("packager")
    def test_it_is_not_confused_by_a_flat_material(self, options: Any, tmp_path: Path) -> None:
        """A material without relief has a package too."""
        flat = example_material()
        flat.maps["normal"][:] = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
        chosen = default_registry().choose("packager", self.use, options)
        (path,) = write_packages(flat, choose_targets({"package": chosen}), tmp_path)
        assert (path / MANIFEST).is_file()
