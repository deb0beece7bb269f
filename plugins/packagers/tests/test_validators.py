"""Packages pass the validators of their formats, and what those overlook is checked here.

gltf-validator misses swapped maps; UsdValidation misses a wrong colour space; MaterialX's `validate` misses unknown
nodes, wrong colour spaces and missing files.
"""

import io
import json
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neuropbr_core.kinds import PackagerEntryOptions
from neuropbr_core.outputs import choose_targets, write_packages
from neuropbr_core.registry import default_registry
from neuropbr_core.testing import example_material

GLTF_VALIDATOR = "gltf-validator@2.0.0-dev.3.10"


def write(folder: Path, use: str, options: dict[str, Any] | None = None, **overrides: Any) -> Path:
    chosen = default_registry().choose("packager", use, options, entry=PackagerEntryOptions(**overrides))
    (path,) = write_packages(example_material(), choose_targets({use: chosen}), folder)
    return path


@pytest.fixture(scope="module")
def gltf_validator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which node finds gltf-validator."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("gltf-validator needs npm, which is not installed")
    folder = tmp_path_factory.mktemp("validator")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", GLTF_VALIDATOR]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        pytest.skip(f"npm could not install {GLTF_VALIDATOR}: {done.stderr.strip()[-200:]}")
    return folder


def validate_gltf(validator: Path, path: Path) -> dict[str, Any]:
    program = """
        const fs = require("fs"), path = require("path"), validator = require("gltf-validator");
        const file = process.argv[1];
        const resource = uri => Promise.resolve(
            new Uint8Array(fs.readFileSync(path.join(path.dirname(file), decodeURIComponent(uri)))));
        validator.validateBytes(new Uint8Array(fs.readFileSync(file)), {uri: path.basename(file),
            externalResourceFunction: resource}).then(report => console.log(JSON.stringify(report)));
    """
    done = subprocess.run(
        ["node", "-e", program, str(path)], cwd=validator, capture_output=True, text=True, check=True, timeout=120
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("suffix", [".gltf", ".glb"])
@pytest.mark.parametrize("overrides", [{}, {"depth": 16, "metres": 0.3}])
def test_gltf_validator_has_nothing_to_say(
    gltf_validator: Path, tmp_path: Path, suffix: str, overrides: dict[str, Any]
) -> None:
    package = write(tmp_path, "gltf", **overrides)
    report = validate_gltf(gltf_validator, package / f"conformance{suffix}")
    assert report["issues"]["messages"] == []
    assert report["info"]["version"] == "2.0"
    assert len(report["info"]["resources"]) == {".gltf": 4, ".glb": 4}[suffix]


def test_gltf_validator_is_awake(gltf_validator: Path, tmp_path: Path) -> None:
    package = write(tmp_path, "gltf")
    path = package / "conformance.gltf"
    document = json.loads(path.read_text())
    document["accessors"][0]["max"] = [9, 9, 9]
    path.write_text(json.dumps(document))
    assert validate_gltf(gltf_validator, path)["issues"]["numErrors"] > 0


def test_gltf_slots_have_the_right_images(tmp_path: Path) -> None:
    package = write(tmp_path, "gltf")
    document = json.loads((package / "conformance.gltf").read_text())
    (material,) = document["materials"]
    slots = {
        "basecolor": material["pbrMetallicRoughness"]["baseColorTexture"]["index"],
        "orm": material["pbrMetallicRoughness"]["metallicRoughnessTexture"]["index"],
        "normal": material["normalTexture"]["index"],
    }
    assert material["occlusionTexture"]["index"] == slots["orm"]
    for name, index in slots.items():
        texture = document["textures"][index]
        assert document["images"][texture["source"]]["uri"] == f"conformance_{name}.png"
        sampler = document["samplers"][texture["sampler"]]
        assert (sampler["wrapS"], sampler["wrapT"]) == (10497, 10497)


def test_the_glb_holds_the_same_images(tmp_path: Path) -> None:
    package = write(tmp_path, "gltf")
    content = (package / "conformance.glb").read_bytes()
    magic, version, length = struct.unpack("<4sII", content[:12])
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack("<I4s", content[12:20])
    assert kind == b"JSON"
    document = json.loads(content[20 : 20 + size])
    start = 20 + size + 8
    for image in document["images"]:
        view = document["bufferViews"][image["bufferView"]]
        inside = content[start + view["byteOffset"] :][: view["byteLength"]]
        assert inside == (package / f"{image['name']}.png").read_bytes()


def usd_messages(path: Path) -> list[str]:
    """What OpenUSD's own validators say."""
    from pxr import Usd, UsdValidation

    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 5
    stage = Usd.Stage.Open(str(path))
    messages = []
    for error in UsdValidation.ValidationContext(validators).Validate(stage):
        messages.append(f"{error.GetName()}: {error.GetMessage()}")
    return messages


@pytest.mark.parametrize("options", [{}, {"crate": True}])
@pytest.mark.parametrize("overrides", [{}, {"metres": 0.3}, {"depth": "exr"}])
def test_usd_validation_has_nothing_to_say(tmp_path: Path, options: dict[str, Any], overrides: dict[str, Any]) -> None:
    pytest.importorskip("pxr", reason="needs usd-core")
    package = write(tmp_path, "usd", options, **overrides)
    for name in ("conformance.usda", "conformance.usdz"):
        assert usd_messages(package / name) == []


def test_usd_validation_is_awake(tmp_path: Path) -> None:
    pytest.importorskip("pxr", reason="needs usd-core")
    package = write(tmp_path, "usd")
    path = package / "conformance.usda"
    path.write_text(path.read_text().replace("float inputs:roughness", "token inputs:roughness"))
    assert usd_messages(path)
    path.write_text(path.read_text().replace("conformance_orm.png", "missing.png"))
    assert any("missing.png" in message for message in usd_messages(path))


def test_usd_reads_the_right_channels_in_the_right_space(tmp_path: Path) -> None:
    pytest.importorskip("pxr", reason="needs usd-core")
    from pxr import Usd, UsdGeom, UsdShade

    package = write(tmp_path, "usd", metres=0.3)
    for name in ("conformance.usda", "conformance.usdz"):
        stage = Usd.Stage.Open(str(package / name))
        assert stage.GetDefaultPrim().GetName() == "conformance"
        assert UsdGeom.GetStageUpAxis(stage) == "Y"
        assert UsdGeom.GetStageMetersPerUnit(stage) == 1
        square = UsdGeom.Mesh(stage.GetPrimAtPath("/conformance/Square"))
        assert np.ptp(np.array(square.GetPointsAttr().Get())[:, 0]) == pytest.approx(0.3)
        material, _ = UsdShade.MaterialBindingAPI(square.GetPrim()).ComputeBoundMaterial()
        surface, _, _ = material.ComputeSurfaceSource()
        expected = {
            "diffuseColor": ("rgb", "basecolor", "sRGB"),
            "roughness": ("g", "orm", "raw"),
            "metallic": ("b", "orm", "raw"),
            "occlusion": ("r", "orm", "raw"),
            "normal": ("rgb", "normal", "raw"),
        }
        for key, (channel, suffix, space) in expected.items():
            source, output, _ = surface.GetInput(key).GetConnectedSource()
            texture = UsdShade.Shader(source.GetPrim())
            assert output == channel
            file = texture.GetInput("file").Get()
            assert file.path == f"textures/conformance_{suffix}.png"
            assert file.resolvedPath
            assert texture.GetInput("sourceColorSpace").Get() == space
        normal = UsdShade.Shader(stage.GetPrimAtPath("/conformance/Material/Normal"))
        assert tuple(normal.GetInput("scale").Get()) == (2, 2, 2, 1)
        assert tuple(normal.GetInput("bias").Get()) == (-1, -1, -1, 0)


def test_usdz_entries_are_stored_and_aligned(tmp_path: Path) -> None:
    package = write(tmp_path, "usd")
    path = package / "conformance.usdz"
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    assert entries[0].filename == "conformance.usda"
    for entry in entries:
        assert entry.compress_type == zipfile.ZIP_STORED
        name, extra = struct.unpack("<HH", content[entry.header_offset + 26 : entry.header_offset + 30])
        assert (entry.header_offset + 30 + name + extra) % 64 == 0


@pytest.mark.parametrize("options", [{}, {"displacement": True}])
@pytest.mark.parametrize("overrides", [{}, {"depth": "exr", "metres": 0.3}])
def test_materialx_is_valid_with_nodes_and_files_resolved(
    tmp_path: Path, options: dict[str, Any], overrides: dict[str, Any]
) -> None:
    mx = pytest.importorskip("MaterialX", reason="needs materialx")
    package = write(tmp_path, "materialx", options, **overrides)
    document = mx.createDocument()
    library = mx.createDocument()
    mx.loadLibraries(mx.getDefaultDataLibraryFolders(), mx.getDefaultDataSearchPath(), library)
    document.setDataLibrary(library)
    mx.readFromXmlFile(document, str(package / "conformance.mtlx"))
    valid, message = document.validate()
    assert valid, message
    spaces = {}
    for element in document.traverseTree():
        if element.isA(mx.Node):
            definition = element.getNodeDef()
            assert definition is not None, f"{element.getName()}: no node {element.getCategory()}"
            for entry in element.getInputs():
                declared = definition.getActiveInput(entry.getName())
                assert declared is not None, f"{element.getName()}: no input {entry.getName()}"
                assert declared.getType() == entry.getType()
        if element.isA(mx.Input) and element.getType() == "filename":
            assert (package / element.getValueString()).is_file()
            spaces[element.getParent().getName()] = element.getActiveColorSpace()
    color = "lin_rec709" if overrides else "srgb_texture"
    expected = {"base_color": color, "metallic": "", "roughness": "", "normal": ""}
    if options:
        expected["height"] = ""
    assert spaces == expected
    materials = {node.getName() for node in document.getMaterialNodes()}
    assert materials == {"M_open_pbr_surface_conformance", "M_standard_surface_conformance"}


def test_exr_files_hold_linear_light(tmp_path: Path) -> None:
    exr = pytest.importorskip("OpenEXR", reason="needs OpenEXR")
    package = write(tmp_path, "plain", depth="exr")
    albedo = example_material().maps["albedo"][0].permute(1, 2, 0).numpy()
    with exr.File(str(package / "albedo.exr")) as file:
        pixels = file.channels()["RGB"].pixels.astype(np.float32)
    linear = np.where(albedo <= 0.04045, albedo / 12.92, ((albedo + 0.055) / 1.055) ** 2.4)
    assert np.abs(pixels - linear).max() < 1e-3
    with exr.File(str(package / "roughness.exr")) as file:
        grey = file.channels()["Y"].pixels.astype(np.float32)
    assert np.abs(grey - example_material().maps["roughness"][0, 0].numpy()).max() < 1e-3


def test_png_files_have_the_bits_that_were_asked_for(tmp_path: Path) -> None:
    package = write(tmp_path, "gltf", depth=16)
    content = (package / "conformance_normal.png").read_bytes()
    assert content[24] == 16  # bit depth, in the header chunk
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (16, 16)
