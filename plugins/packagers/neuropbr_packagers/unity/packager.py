"""Writes textures with import settings, and materials, for Unity's render pipelines.

Sources: Unity's manual on HDRP mask maps (red metallic, green occlusion, blue detail mask, alpha smoothness) and on the
Lit shader of URP (red of the metallic map, its alpha as smoothness, green of the occlusion map).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from neuropbr_core.contracts import Package, Packager, PackageSettings, Texture
from neuropbr_packagers.channels import MASK
from neuropbr_packagers.unity import Options

_LARGEST = 16384


class _Pipeline(NamedTuple):
    """A render pipeline's Lit shader.

    Attributes:
        shader: GUID of the shader in Unity's package.
        maps: Properties with the role of their texture.
        keywords: Shader variants that these textures need.
        values: Other properties.
    """

    shader: str
    maps: Mapping[str, str]
    keywords: Sequence[str]
    values: Mapping[str, float]


_PIPELINES = {
    "hdrp": _Pipeline(
        "6e4ae4064600d784cac1e41a9e6f2e59",
        {"_BaseColorMap": "base_color", "_MaskMap": "mask", "_NormalMap": "normal"},
        ("_MASKMAP", "_NORMALMAP", "_NORMALMAP_TANGENT_SPACE"),
        {
            "_AORemapMax": 1,
            "_AORemapMin": 0,
            "_MetallicRemapMax": 1,
            "_MetallicRemapMin": 0,
            "_NormalScale": 1,
            "_SmoothnessRemapMax": 1,
            "_SmoothnessRemapMin": 0,
        },
    ),
    # One mask map serves both pipelines: URP reads the same channels of it.
    "urp": _Pipeline(
        "933532a4fcc9baf4fa0491de14d08ed7",
        {"_BaseMap": "base_color", "_BumpMap": "normal", "_MetallicGlossMap": "mask", "_OcclusionMap": "mask"},
        ("_METALLICSPECGLOSSMAP", "_NORMALMAP", "_OCCLUSIONMAP"),
        {"_BumpScale": 1, "_Metallic": 1, "_OcclusionStrength": 1, "_Smoothness": 1, "_WorkflowMode": 1},
    ),
}


class UnityPackager(Packager):
    """Normals are OpenGL, as Unity's importer expects.

    Args:
        options: Which materials are written.
    """

    depths = (8, 16)
    conventions = ("opengl",)

    def __init__(self, options: Options) -> None:
        self.options = options

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """Base colour, mask and normals."""
        name = settings.name
        return [
            Texture.of(f"{name}_BaseMap", "base_color", "albedo", 3),
            Texture(f"{name}_MaskMap", "mask", MASK),
            Texture.of(f"{name}_Normal", "normal", "normal", 3),
        ]

    def write_documents(self, folder: Path, package: Package) -> None:
        """Write a `.meta` file beside each texture, and the materials."""
        for role in package.textures:
            file = package.file(role)
            (folder / f"{file}.meta").write_text(_texture_meta(package, role), encoding="utf-8")
        for name, pipeline in _PIPELINES.items():
            if self.options.pipeline not in (name, "both"):
                continue
            file = f"{package.settings.name}_{name.upper()}.mat"
            (folder / file).write_text(_material(package, name, pipeline), encoding="utf-8")
            (folder / f"{file}.meta").write_text(
                f"fileFormatVersion: 2\nguid: {_guid(package, file)}\nNativeFormatImporter:\n"
                f"  externalObjects: {{}}\n  mainObjectFileID: 2100000\n",
                encoding="utf-8",
            )


def _guid(package: Package, file: str) -> str:
    """The asset's GUID, from its name: a package that is written again keeps the references to it."""
    return hashlib.md5(f"neuropbr/{package.settings.name}/{file}".encode(), usedforsecurity=False).hexdigest()


def _texture_meta(package: Package, role: str) -> str:
    """Import settings of a texture; without them Unity takes masks for colour and normals for an image."""
    srgb = int(package.color_space(role) == "srgb")
    texture_type = int(role == "normal")  # 0 is a plain texture, 1 a normal map
    size = 32
    while size < min(package.settings.size, _LARGEST):
        size *= 2
    return f"""fileFormatVersion: 2
guid: {_guid(package, package.file(role))}
TextureImporter:
  serializedVersion: 13
  mipmaps:
    mipMapMode: 0
    enableMipMap: 1
    sRGBTexture: {srgb}
  maxTextureSize: {size}
  textureSettings:
    serializedVersion: 2
    filterMode: 2
    aniso: 4
    mipBias: 0
    wrapU: 0
    wrapV: 0
    wrapW: 0
  nPOTScale: 0
  alphaUsage: 1
  alphaIsTransparency: 0
  textureType: {texture_type}
  textureShape: 1
"""


def _material(package: Package, name: str, pipeline: _Pipeline) -> str:
    tiling = f"{package.settings.tiling:.6g}"
    lines = [
        "%YAML 1.1",
        "%TAG !u! tag:unity3d.com,2011:",
        "--- !u!21 &2100000",
        "Material:",
        "  serializedVersion: 8",
        "  m_ObjectHideFlags: 0",
        f"  m_Name: {package.settings.name}_{name.upper()}",
        f"  m_Shader: {{fileID: 4800000, guid: {pipeline.shader}, type: 3}}",
        "  m_ValidKeywords:",
    ]
    for keyword in pipeline.keywords:
        lines.append(f"  - {keyword}")
    lines += ["  m_SavedProperties:", "    serializedVersion: 3", "    m_TexEnvs:"]
    for key, role in pipeline.maps.items():
        lines += [
            f"    - {key}:",
            f"        m_Texture: {{fileID: 2800000, guid: {_guid(package, package.file(role))}, type: 3}}",
            f"        m_Scale: {{x: {tiling}, y: {tiling}}}",
            "        m_Offset: {x: 0, y: 0}",
        ]
    lines.append("    m_Floats:")
    for key, value in pipeline.values.items():
        lines.append(f"    - {key}: {value:g}")
    lines += ["    m_Colors:", "    - _BaseColor: {r: 1, g: 1, b: 1, a: 1}", ""]
    return "\n".join(lines)
