"""Writes textures under Unreal's names, and a script that imports them in the editor.

Source: Epic's naming conventions (`T_` textures, `M_` materials) and documentation of texture compression: normal maps
are DirectX, masks are imported without sRGB.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from neuropbr_core.contracts import Package, Packager, PackageSettings, Texture
from neuropbr_packagers.channels import OCCLUSION_ROUGHNESS_METALLIC
from neuropbr_packagers.unreal import Options


class UnrealPackager(Packager):
    """Normals are DirectX, as Unreal expects; the import script marks others, whose green Unreal then flips.

    Args:
        options: Where the editor puts the assets.
    """

    depths = (8, 16)
    conventions = ("directx", "opengl")

    def __init__(self, options: Options) -> None:
        self.options = options

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """Base colour, normals, the packed map and height."""
        name = settings.name
        return [
            Texture.of(f"T_{name}_BC", "base_color", "albedo", 3),
            Texture.of(f"T_{name}_N", "normal", "normal", 3),
            Texture(f"T_{name}_ORM", "occlusion_roughness_metallic", OCCLUSION_ROUGHNESS_METALLIC),
            Texture.height(f"T_{name}_H", settings),
        ]

    def write_documents(self, folder: Path, package: Package) -> None:
        """Write `import_NAME.py`."""
        settings = package.settings
        facts = [
            f"NAME = {settings.name!r}",
            f"CONTENT = {self.options.content!r}",
            f"OPENGL_NORMALS = {settings.normals == 'opengl'}",
            f"REPEATS = {settings.tiling!r}  # along one unit of texture coordinates",
        ]
        template = files("neuropbr_packagers.unreal").joinpath("import_material.py.txt").read_text(encoding="utf-8")
        script = template.replace("# FACTS", "\n".join(facts))
        (folder / f"import_{settings.name}.py").write_text(script, encoding="utf-8")
