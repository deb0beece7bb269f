"""Writes images under names that Blender's Node Wrangler recognises, and a script that builds the material.

Source: the name tags of the Node Wrangler add-on (`base color`, `roughness`, `metallic`, `normal`, `displacement`,
`ambient occlusion`).
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from neuropbr_core.contracts import Package, Packager, PackageSettings, Texture

_SPACES = {"srgb": "sRGB", "linear": "Linear Rec.709", "data": "Non-Color"}


class BlenderPackager(Packager):
    """Normals are OpenGL, as Blender expects; the script turns DirectX normals round."""

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """One image for each input of the Principled BSDF, height and occlusion."""
        name = settings.name
        return [
            Texture.of(f"{name}_basecolor", "base_color", "albedo", 3),
            Texture.of(f"{name}_roughness", "roughness", "roughness"),
            Texture.of(f"{name}_metallic", "metallic", "metallic"),
            Texture.of(f"{name}_normal", "normal", "normal", 3),
            Texture.of(f"{name}_ao", "occlusion", "ao"),
            Texture.height(f"{name}_height", settings),
        ]

    def write_documents(self, folder: Path, package: Package) -> None:
        """Write `import_NAME.py`."""
        settings = package.settings
        images = {}
        for role in ("base_color", "roughness", "metallic", "normal"):
            images[role] = (package.file(role), _SPACES[package.color_space(role)])
        facts = [
            f"NAME = {settings.name!r}",
            f"IMAGES = {images!r}",
            f"DIRECTX_NORMALS = {settings.normals == 'directx'}",
            f"REPEATS = {settings.tiling!r}  # along one unit of texture coordinates",
        ]
        template = files("neuropbr_packagers.blender").joinpath("import_material.py.txt").read_text(encoding="utf-8")
        script = template.replace("# FACTS", "\n".join(facts))
        (folder / f"import_{settings.name}.py").write_text(script, encoding="utf-8")
