"""Writes a MaterialX document with the same maps in two shading models.

Sources: MaterialX specification 1.39 (standard nodes, colour spaces); OpenPBR 1.1; Autodesk Standard Surface 1.0.1.
"""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from neuropbr_core.contracts import Package, Packager, PackageSettings, Texture
from neuropbr_packagers.materialx import Options

_SPACES = {"srgb": "srgb_texture", "linear": "lin_rec709"}
_MODELS = {
    "open_pbr_surface": {
        "base_color": "base_color",
        "base_metalness": "metallic",
        "specular_roughness": "roughness",
        "geometry_normal": "normal",
    },
    # Unreal without Substrate and older renderers read this one.
    "standard_surface": {
        "base_color": "base_color",
        "metalness": "metallic",
        "specular_roughness": "roughness",
        "normal": "normal",
    },
}
_TYPES = {"base_color": "color3", "normal": "vector3", "roughness": "float", "metallic": "float", "height": "float"}


class MaterialXPackager(Packager):
    """Normals are OpenGL, which the node `normalmap` expects.

    Args:
        options: What the document contains.
    """

    conventions = ("opengl",)

    def __init__(self, options: Options) -> None:
        self.options = options

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """One texture for each input; occlusion and height for programs that use them."""
        name = settings.name
        return [
            Texture.of(f"textures/{name}_basecolor", "base_color", "albedo", 3),
            Texture.of(f"textures/{name}_roughness", "roughness", "roughness"),
            Texture.of(f"textures/{name}_metallic", "metallic", "metallic"),
            Texture.of(f"textures/{name}_normal", "normal", "normal", 3),
            Texture.of(f"textures/{name}_ao", "occlusion", "ao"),
            Texture.height(f"textures/{name}_height", settings),
        ]

    def write_documents(self, folder: Path, package: Package) -> None:
        """Write `NAME.mtlx`."""
        settings = package.settings
        # A colour space on the document would apply to data too; only the colour has one.
        document = ET.Element("materialx", version="1.39")
        graph = ET.SubElement(document, "nodegraph", name=f"NG_{settings.name}")
        roles = ["base_color", "metallic", "roughness", "normal"]
        if self.options.displacement:
            roles.append("height")
        for role in roles:
            _add_image(graph, role, package)
        _add(graph, "normalmap", "normal_world", "vector3", {"in": ("vector3", "nodename", "normal")})
        for role in roles:
            source = role
            if role == "normal":
                source = "normal_world"
            ET.SubElement(graph, "output", name=f"{role}_out", type=_TYPES[role], nodename=source)
        displacement = None
        if self.options.displacement:
            displacement = f"D_{settings.name}"
            shader = ET.SubElement(document, "displacement", name=displacement, type="displacementshader")
            _connect(shader, "displacement", "float", f"NG_{settings.name}", "height_out")
            # In units of the scene, which are metres where the texture's side is known.
            scale = settings.relief * (settings.metres or 1.0)
            ET.SubElement(shader, "input", name="scale", type="float", value=f"{scale:.6g}")
        for model, inputs in _MODELS.items():
            surface = f"{model}_{settings.name}"
            shader = ET.SubElement(document, model, name=surface, type="surfaceshader")
            for name, role in inputs.items():
                _connect(shader, name, _TYPES[role], f"NG_{settings.name}", f"{role}_out")
            material = ET.SubElement(document, "surfacematerial", name=f"M_{surface}", type="material")
            ET.SubElement(material, "input", name="surfaceshader", type="surfaceshader", nodename=surface)
            if displacement:
                ET.SubElement(
                    material, "input", name="displacementshader", type="displacementshader", nodename=displacement
                )
        ET.indent(document)
        text = ET.tostring(document, encoding="unicode")
        path = folder / f"{settings.name}.mtlx"
        path.write_text(f'<?xml version="1.0"?>\n{text}\n', encoding="utf-8")


def _add_image(graph: ET.Element, role: str, package: Package) -> None:
    """Add the node that reads a texture; it repeats."""
    kind = _TYPES[role]
    node = _add(graph, "tiledimage", role, kind, {})
    file = ET.SubElement(node, "input", name="file", type="filename", value=package.file(role))
    space = package.color_space(role)
    if space != "data":
        file.set("colorspace", _SPACES[space])
    tiling = f"{package.settings.tiling:.6g}"
    ET.SubElement(node, "input", name="uvtiling", type="vector2", value=f"{tiling}, {tiling}")


def _add(parent: ET.Element, node: str, name: str, kind: str, inputs: dict[str, tuple[str, str, str]]) -> ET.Element:
    """Add a node; each input is its type, an attribute and the attribute's value."""
    element = ET.SubElement(parent, node, name=name, type=kind)
    for key, (input_type, attribute, value) in inputs.items():
        ET.SubElement(element, "input", {"name": key, "type": input_type, attribute: value})
    return element


def _connect(shader: ET.Element, name: str, kind: str, graph: str, output: str) -> None:
    ET.SubElement(shader, "input", name=name, type=kind, nodegraph=graph, output=output)
