"""Writes a glTF 2.0 asset: a square with the material, as `.gltf` with its files and as one `.glb`.

Source: the glTF 2.0 specification (ISO/IEC 12113:2022), sections 3.9 (materials) and 4.4 (binary files).
"""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuropbr_core.contracts import Package, Packager, PackageSettings, Texture
from neuropbr_packagers.channels import OCCLUSION_ROUGHNESS_METALLIC

_FLOAT, _SHORT = 5126, 5123
_VERTICES, _INDICES = 34962, 34963
_REPEAT, _LINEAR, _TRILINEAR = 10497, 9729, 9987
_ROLES = ("base_color", "occlusion_roughness_metallic", "normal")


class GltfPackager(Packager):
    """Normals are OpenGL and images PNG: the format allows no others."""

    depths = (8, 16)
    conventions = ("opengl",)

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """Base colour, the packed map and normals."""
        name = settings.name
        return [
            Texture.of(f"{name}_basecolor", "base_color", "albedo", 3),
            Texture(f"{name}_orm", "occlusion_roughness_metallic", OCCLUSION_ROUGHNESS_METALLIC),
            Texture.of(f"{name}_normal", "normal", "normal", 3),
        ]

    def write_documents(self, folder: Path, package: Package) -> None:
        """Write `NAME.gltf`, `NAME.bin` and `NAME.glb`."""
        name = package.settings.name
        mesh, views, accessors = _square(package.settings.metres or 1.0)
        document = _document(name, accessors)
        images: list[dict[str, Any]] = []
        for role in _ROLES:
            images.append({"uri": package.file(role)})
        separate = {
            **document,
            "images": images,
            "bufferViews": views,
            "buffers": [{"uri": f"{name}.bin", "byteLength": len(mesh)}],
        }
        (folder / f"{name}.bin").write_bytes(mesh)
        (folder / f"{name}.gltf").write_text(json.dumps(separate, indent=2) + "\n", encoding="utf-8")

        content = mesh
        inside = list(views)
        images = []
        for role in _ROLES:
            data = (folder / package.file(role)).read_bytes()
            images.append({"bufferView": len(inside), "mimeType": "image/png", "name": Path(package.file(role)).stem})
            inside.append({"buffer": 0, "byteOffset": len(content), "byteLength": len(data)})
            content += _padded(data, b"\0")
        whole = {**document, "images": images, "bufferViews": inside, "buffers": [{"byteLength": len(content)}]}
        # A `.glb` file is a header, a chunk of JSON and a binary chunk.
        text = _padded(json.dumps(whole, separators=(",", ":")).encode(), b" ")
        length = 12 + 8 + len(text) + 8 + len(content)
        header = struct.pack("<4sII", b"glTF", 2, length)
        start = struct.pack("<I4s", len(text), b"JSON")
        start_of_content = struct.pack("<I4s", len(content), b"BIN\0")
        (folder / f"{name}.glb").write_bytes(b"".join((header, start, text, start_of_content, content)))


def _document(name: str, accessors: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything that the two forms of the asset share."""
    textures = []
    for source in range(len(_ROLES)):
        textures.append({"sampler": 0, "source": source})
    material = {
        "name": name,
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": 0},
            "metallicRoughnessTexture": {"index": 1},
            "metallicFactor": 1.0,
            "roughnessFactor": 1.0,
        },
        # The same image: a reader takes red of it for occlusion, green for roughness and blue for metal.
        "occlusionTexture": {"index": 1},
        "normalTexture": {"index": 2},
    }
    attributes = {"POSITION": 0, "NORMAL": 1, "TANGENT": 2, "TEXCOORD_0": 3}
    return {
        "asset": {"version": "2.0", "generator": "NeuroPBR"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0}],
        "meshes": [{"name": name, "primitives": [{"attributes": attributes, "indices": 4, "material": 0}]}],
        "materials": [material],
        "textures": textures,
        "samplers": [{"wrapS": _REPEAT, "wrapT": _REPEAT, "magFilter": _LINEAR, "minFilter": _TRILINEAR}],
        "accessors": accessors,
    }


def _square(side: float) -> tuple[bytes, list[dict[str, Any]], list[dict[str, Any]]]:
    """A square in the plane z = 0 that faces +z: its bytes, buffer views and accessors."""
    half = side / 2
    positions = [(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)]
    # Images of glTF begin at the top, so v grows downwards. Tangents are given, as a reader's own may differ.
    coordinates = [(0, 1), (1, 1), (1, 0), (0, 0)]
    attributes: list[tuple[str, list[tuple[float, ...]]]] = [
        ("VEC3", [tuple(map(float, position)) for position in positions]),
        ("VEC3", [(0.0, 0.0, 1.0)] * 4),
        ("VEC4", [(1.0, 0.0, 0.0, 1.0)] * 4),
        ("VEC2", [tuple(map(float, pair)) for pair in coordinates]),
    ]
    content = b""
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    for index, (shape, rows) in enumerate(attributes):
        packed = b""
        for row in rows:
            packed += struct.pack(f"<{len(row)}f", *row)
        views.append({"buffer": 0, "byteOffset": len(content), "byteLength": len(packed), "target": _VERTICES})
        accessors.append({"bufferView": index, "componentType": _FLOAT, "count": 4, "type": shape})
        content += packed
    # Positions alone must state their bounds, in the precision of the stored numbers.
    rounded = struct.unpack("<f", struct.pack("<f", half))[0]
    accessors[0].update(min=[-rounded, -rounded, 0.0], max=[rounded, rounded, 0.0])
    indices = struct.pack("<6H", 0, 1, 2, 0, 2, 3)
    views.append({"buffer": 0, "byteOffset": len(content), "byteLength": len(indices), "target": _INDICES})
    accessors.append({"bufferView": len(attributes), "componentType": _SHORT, "count": 6, "type": "SCALAR"})
    return _padded(content + indices, b"\0"), views, accessors


def _padded(content: bytes, filler: bytes) -> bytes:
    """Chunks and images begin at multiples of four bytes."""
    return content + filler * (-len(content) % 4)
