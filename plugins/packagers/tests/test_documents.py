"""Channels and texts for programs that no test can run here: Unreal, Unity and Godot; and names that programs match."""

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import yaml
from PIL import Image

from neuropbr_core.data.importing.sources import read_name
from neuropbr_core.kinds import PackagerEntryOptions
from neuropbr_core.outputs import choose_targets, write_packages
from neuropbr_core.registry import default_registry
from neuropbr_core.testing import example_material

MAPS = example_material().maps


def write(folder: Path, use: str, options: dict[str, Any] | None = None, **overrides: Any) -> Path:
    chosen = default_registry().choose("packager", use, options, entry=PackagerEntryOptions(**overrides))
    (path,) = write_packages(example_material(), choose_targets({use: chosen}), folder)
    return path


def channel(path: Path, index: int) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)[..., index] / 255


def stored(name: str, index: int = 0) -> np.ndarray:
    return MAPS[name][0, index].numpy()


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=0.6 / 255)


@pytest.mark.parametrize(("use", "file"), [("unreal", "T_conformance_ORM.png"), ("godot", "conformance_orm.png")])
def test_orm_is_occlusion_roughness_metal(tmp_path: Path, use: str, file: str) -> None:
    path = write(tmp_path, use) / file
    assert_equal(channel(path, 1), stored("roughness"))
    assert_equal(channel(path, 2), stored("metallic"))
    assert_equal(channel(path, 0), example_material().layer("ao")[0].numpy())


def test_unitys_mask_has_smoothness_in_alpha(tmp_path: Path) -> None:
    path = write(tmp_path, "unity") / "conformance_MaskMap.png"
    assert_equal(channel(path, 0), stored("metallic"))
    assert_equal(channel(path, 1), example_material().layer("ao")[0].numpy())
    assert_equal(channel(path, 2), np.zeros((16, 16)))
    assert_equal(channel(path, 3), 1 - stored("roughness"))


def test_unity_imports_data_without_srgb_and_normals_as_normals(tmp_path: Path) -> None:
    package = write(tmp_path, "unity")
    settings = {}
    for path in package.glob("*.png.meta"):
        meta = yaml.safe_load(path.read_text())
        importer = meta["TextureImporter"]
        settings[path.name.split("_")[1].split(".")[0]] = (importer["mipmaps"]["sRGBTexture"], importer["textureType"])
        assert importer["textureSettings"]["wrapU"] == 0
        assert re.fullmatch("[0-9a-f]{32}", meta["guid"])
    assert settings == {"BaseMap": (1, 0), "MaskMap": (0, 0), "Normal": (0, 1)}


@pytest.mark.parametrize(
    ("pipeline", "slots"),
    [
        ("HDRP", {"_BaseColorMap": "BaseMap", "_MaskMap": "MaskMap", "_NormalMap": "Normal"}),
        (
            "URP",
            {"_BaseMap": "BaseMap", "_BumpMap": "Normal", "_MetallicGlossMap": "MaskMap", "_OcclusionMap": "MaskMap"},
        ),
    ],
)
def test_unitys_materials_refer_to_the_textures(tmp_path: Path, pipeline: str, slots: dict[str, str]) -> None:
    package = write(tmp_path, "unity", metres=0.5)
    text = (package / f"conformance_{pipeline}.mat").read_text()
    material = yaml.safe_load(text.split("--- !u!21 &2100000\n")[1])["Material"]
    guids = {}
    for path in package.glob("*.png.meta"):
        guids[yaml.safe_load(path.read_text())["guid"]] = path.name.removesuffix(".png.meta")
    found = {}
    for entry in material["m_SavedProperties"]["m_TexEnvs"]:
        ((name, slot),) = entry.items()
        found[name] = guids[slot["m_Texture"]["guid"]].removeprefix("conformance_")
        assert slot["m_Scale"] == {"x": 2, "y": 2}
    assert found == slots
    assert "_NORMALMAP" in material["m_ValidKeywords"]


def test_unity_keeps_references_when_a_package_is_written_again(tmp_path: Path) -> None:
    first = (write(tmp_path, "unity") / "conformance_HDRP.mat.meta").read_text()
    assert (write(tmp_path, "unity") / "conformance_HDRP.mat.meta").read_text() == first
    assert not (write(tmp_path, "unity", {"pipeline": "urp"}) / "conformance_HDRP.mat").exists()


def test_godots_material_enables_normals_and_occlusion(tmp_path: Path) -> None:
    package = write(tmp_path, "godot", metres=0.25)
    text = (package / "conformance.tres").read_text()
    assert text.startswith('[gd_resource type="ORMMaterial3D" load_steps=4 format=3]\n')
    paths = dict(re.findall(r'\[ext_resource type="Texture2D" path="(\S+)" id="(\S+)"\]', text))
    assert all((package / path).is_file() for path in paths)
    resource = text.split("[resource]\n")[1]
    assert 'albedo_texture = ExtResource("base_color")' in resource
    assert 'ao_enabled = true\norm_texture = ExtResource("occlusion_roughness_metallic")' in resource
    assert 'normal_enabled = true\nnormal_texture = ExtResource("normal")' in resource
    assert "uv1_scale = Vector3(4, 4, 4)" in resource
    assert paths["conformance_orm.png"] == "occlusion_roughness_metallic"


class Recorder:
    """Stands for the module `unreal`: keeps properties and connections, knows nothing of Unreal itself."""

    def __init__(self) -> None:
        self.module: Any = MagicMock()
        self.assets: dict[str, Any] = {}
        self.module.load_asset = self.load
        library = self.module.MaterialEditingLibrary
        library.create_material_expression.side_effect = lambda *_: self.keeper()
        self.module.AssetImportTask.side_effect = self.keeper

    def keeper(self) -> Any:
        keeper = MagicMock()
        keeper.properties = {}
        keeper.set_editor_property.side_effect = keeper.properties.__setitem__
        return keeper

    def load(self, path: str) -> Any:
        return self.assets.setdefault(path, self.keeper())


@pytest.mark.parametrize(("normals", "flipped"), [("directx", False), ("opengl", True)])
def test_unreals_script_imports_every_texture_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, normals: str, flipped: bool
) -> None:
    package = write(tmp_path, "unreal", {"content": "/Game/Scans"}, normals=normals, metres=0.5)
    script = package / "import_conformance.py"
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "unreal", recorder.module)
    runpy.run_path(str(script), run_name="__main__")
    unreal = recorder.module
    (tasks,) = unreal.AssetToolsHelpers.get_asset_tools().import_asset_tasks.call_args.args
    for task in tasks:
        assert Path(task.properties["filename"]).is_file()
        assert task.properties["destination_path"] == "/Game/Scans/conformance"
    settings = {}
    for path, texture in recorder.assets.items():
        settings[path.rsplit("_", 1)[1]] = texture.properties
    compression = unreal.TextureCompressionSettings
    assert settings["BC"] == {"srgb": True, "compression_settings": compression.TC_DEFAULT}
    assert settings["ORM"] == {"srgb": False, "compression_settings": compression.TC_MASKS}
    assert settings["H"] == {"srgb": False, "compression_settings": compression.TC_GRAYSCALE}
    expected = {"srgb": False, "compression_settings": compression.TC_NORMALMAP, "flip_green_channel": flipped}
    assert settings["N"] == expected
    library = unreal.MaterialEditingLibrary
    connections = {}
    for call in library.connect_material_property.call_args_list:
        node, output, material_input = call.args
        name = next(path for path, texture in recorder.assets.items() if texture is node.properties["texture"])
        connections[name.rsplit("_", 1)[1], output] = material_input
    inputs = unreal.MaterialProperty
    assert connections == {
        ("BC", "RGB"): inputs.MP_BASE_COLOR,
        ("N", "RGB"): inputs.MP_NORMAL,
        ("ORM", "R"): inputs.MP_AMBIENT_OCCLUSION,
        ("ORM", "G"): inputs.MP_ROUGHNESS,
        ("ORM", "B"): inputs.MP_METALLIC,
    }


def test_unreals_normals_are_directx_unless_asked(tmp_path: Path) -> None:
    assert_equal(channel(write(tmp_path, "unreal") / "T_conformance_N.png", 1), (1 - stored("normal", 1)) / 2)
    opengl = write(tmp_path, "unreal", normals="opengl")
    assert_equal(channel(opengl / "T_conformance_N.png", 1), (1 + stored("normal", 1)) / 2)


def test_ambientcg_has_both_normals(tmp_path: Path) -> None:
    package = write(tmp_path, "ambientcg", normals="directx")
    assert_equal(channel(package / "conformance_16px-PNG_NormalGL.png", 1), (1 + stored("normal", 1)) / 2)
    assert_equal(channel(package / "conformance_16px-PNG_NormalDX.png", 1), (1 - stored("normal", 1)) / 2)
    records = json.loads((package / "manifest.json").read_text())["files"]
    conventions = {record["role"]: record["convention"] for record in records if record["convention"]}
    assert conventions == {"normal_gl": "opengl", "normal_dx": "directx"}


def test_a_size_of_thousands_is_named_as_ambientcg_does(tmp_path: Path) -> None:
    package = write(tmp_path, "ambientcg", size=1024)
    assert (package / "conformance_1K-PNG_Color.png").is_file()


@pytest.mark.parametrize("use", ["plain", "blender", "ambientcg", "substance", "unreal"])
def test_our_own_importer_recognises_the_names(tmp_path: Path, use: str) -> None:
    roles = set()
    for path in write(tmp_path, use).glob("*.png"):
        image = read_name(path.name)
        if image is not None:
            roles.add(image.role.partition("-")[0])
    if use == "unreal":
        assert {"packed"} <= roles
    else:
        assert {"albedo", "normal", "roughness", "metallic"} <= roles


def test_blenders_names_are_those_of_node_wrangler(tmp_path: Path) -> None:
    """The add-on splits names at `_` and looks for its tags."""
    tags = {"basecolor", "roughness", "metallic", "normal", "ao", "height"}
    found = {path.stem.rpartition("_")[2] for path in write(tmp_path, "blender").glob("*.png")}
    assert found == tags
