"""Packages: written whole or not at all, with a manifest; overrides that a target cannot have are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuropbr_core import __version__
from neuropbr_core.contracts import Availability, Channel, Package, Packager, PackageSettings, Texture
from neuropbr_core.data.images import read_image
from neuropbr_core.errors import PackageError
from neuropbr_core.kinds import PackagerEntryOptions
from neuropbr_core.outputs import Target, choose_targets, write_packages
from neuropbr_core.registry import default_registry
from neuropbr_core.testing import example_material


def targets(use: str, options: dict[str, Any] | None = None, **overrides: Any) -> list[Target]:
    entry = PackagerEntryOptions(**overrides)
    return choose_targets({use: default_registry().choose("packager", use, options, entry=entry)})


class OneTexture(Packager):
    """Writes one texture, and then does what a test wants."""

    def __init__(self, texture: Texture) -> None:
        self.texture = texture

    def textures(self, settings: PackageSettings) -> list[Texture]:
        return [self.texture]


def custom(packager: Packager) -> list[Target]:
    chosen = default_registry().choose("packager", "plain")
    return [Target("custom", chosen, packager, packager.depths[0], packager.conventions[0], None, None)]


def test_the_manifest_says_what_each_file_is(tmp_path: Path) -> None:
    (package,) = write_packages(example_material(), targets("unreal", metres=0.5), tmp_path)
    manifest = json.loads((package / "manifest.json").read_text())
    assert manifest["target"] == "neuropbr:unreal"
    assert manifest["made_by"] == {
        "neuropbr": __version__,
        "packager": f"neuropbr {__version__}",
        "maps": "example_material",
    }
    assert manifest["options"] == {"metres": 0.5, "content": "/Game/NeuroPBR"}
    assert manifest["tiling"]["metres"] == 0.5
    assert set(manifest["tiling"]["seam_scores"]) == {"albedo", "roughness", "metallic", "normal"}
    records = {record["role"]: record for record in manifest["files"]}
    assert records["base_color"]["color_space"] == "srgb"
    assert records["normal"]["convention"] == "directx"
    assert records["normal"]["color_space"] == "data"
    packed = records["occlusion_roughness_metallic"]
    assert packed["channels"] == ["ao.0", "roughness.0", "metallic.0"]
    assert packed["derived"] == ["ao"]
    assert records["height"]["derived"] == ["height"]
    assert records["height"]["depth"] == 16
    assert records["document"]["file"] == "import_conformance.py"


def test_directx_normals_have_green_the_other_way(tmp_path: Path) -> None:
    (directx,) = write_packages(example_material(), targets("plain", normals="directx"), tmp_path)
    stored = read_image(directx / "normal.png")
    normal = example_material().maps["normal"][0].permute(1, 2, 0).numpy()
    expected = np.stack((normal[..., 0], -normal[..., 1], normal[..., 2]), axis=-1)
    assert np.abs(stored / 255 * 2 - 1 - expected).max() < 2 / 255


def test_targets_of_another_size_are_resampled(tmp_path: Path) -> None:
    (package,) = write_packages(example_material(), targets("plain", size=8), tmp_path)
    assert read_image(package / "albedo.png").shape == (8, 8, 3)
    manifest = json.loads((package / "manifest.json").read_text())
    assert {record["size"] for record in manifest["files"]} == {8}


def test_an_earlier_package_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    (package,) = write_packages(example_material(), targets("plain"), tmp_path)
    before = (package / "manifest.json").read_text()
    write_packages(example_material(), targets("plain", depth=16), tmp_path)
    assert (package / "manifest.json").read_text() != before
    # A checkpoint has a file of that name too.
    (package / "manifest.json").write_text('{"files": []}')
    with pytest.raises(PackageError, match=r"exists and has no manifest\.json of a package"):
        write_packages(example_material(), targets("plain"), tmp_path)
    assert (package / "albedo.png").is_file()


def test_what_was_added_to_a_package_or_edited_in_it_is_kept(tmp_path: Path) -> None:
    (package,) = write_packages(example_material(), targets("blender"), tmp_path)
    (package / "scenes").mkdir()
    (package / "scenes" / "mine.blend").write_bytes(b"work of a day")
    with pytest.raises(PackageError, match=r"scenes/mine\.blend: was added to the package or edited in it"):
        write_packages(example_material(), targets("blender"), tmp_path)
    assert (package / "scenes" / "mine.blend").read_bytes() == b"work of a day"
    write_packages(example_material(), targets("blender"), tmp_path, overwrite=True)
    assert not (package / "scenes").exists()
    (script,) = package.glob("import_*.py")
    script.write_text("# mine now")
    with pytest.raises(PackageError, match="was added to the package or edited in it"):
        write_packages(example_material(), targets("blender"), tmp_path)
    assert script.read_text() == "# mine now"


def test_all_places_are_looked_at_before_any_package_is_written(tmp_path: Path) -> None:
    (tmp_path / "unity").mkdir()
    (tmp_path / "unity" / "mine.txt").touch()
    with pytest.raises(PackageError, match="unity: exists"):
        write_packages(example_material(), [*targets("plain"), *targets("unity")], tmp_path)
    assert not (tmp_path / "plain").exists()


def test_what_a_target_cannot_have_is_refused_at_once() -> None:
    registry = default_registry()
    entries = {
        "gltf": registry.choose("packager", "gltf", entry=PackagerEntryOptions(depth="exr", normals="directx")),
        "godot": registry.choose("packager", "godot", entry=PackagerEntryOptions(depth=16)),
    }
    with pytest.raises(PackageError) as caught:
        choose_targets(entries)
    assert str(caught.value).splitlines() == [
        "target gltf: found depth exr, allowed 8, 16; leave it out or choose another",
        "target gltf: found normals directx, allowed opengl, as its programs read no other",
        "target godot: found depth 16, allowed 8; leave it out or choose another",
    ]


def test_a_machine_that_lacks_something_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(self: Packager) -> Availability:
        return Availability(ok=False, reason="needs acme, which is not installed: pip install acme")

    monkeypatch.setattr("neuropbr_packagers.plain.packager.PlainPackager.requirements", unavailable)
    with pytest.raises(PackageError, match="target plain: needs acme"):
        targets("plain")


def test_a_packager_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Failing(OneTexture):
        def write_documents(self, folder: Path, package: Package) -> None:
            (folder / "half.txt").touch()
            raise ZeroDivisionError("division by zero")

    with pytest.raises(PackageError, match=r"packager/plain of neuropbr .* failed: ZeroDivisionError: division"):
        write_packages(example_material(), custom(Failing(Texture.of("a", "a", "ao"))), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("texture", "problem"),
    [
        (Texture.of("../a", "a", "ao"), "outside the package"),
        (Texture.of("/a", "a", "ao"), "outside the package"),
        (Texture("a", "a", (Channel("ao"), Channel("ao"))), "has 2 channels; allowed are 1, 3 and 4"),
        (Texture.of("a", "a", "gloss"), "needs a map 'gloss'"),
    ],
)
def test_textures_that_cannot_be_written_are_the_packagers_fault(
    tmp_path: Path, texture: Texture, problem: str
) -> None:
    with pytest.raises(PackageError, match=problem):
        write_packages(example_material(), custom(OneTexture(texture)), tmp_path)
    assert list(tmp_path.iterdir()) == []
