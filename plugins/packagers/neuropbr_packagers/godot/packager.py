"""Writes textures and an ORMMaterial3D for Godot 4.

Source: Godot's documentation of ORMMaterial3D and of the text format of resources (`.tres`).
"""

from collections.abc import Sequence
from pathlib import Path

from neuropbr_core.contracts import Package, Packager, PackageSettings, Texture
from neuropbr_packagers.channels import OCCLUSION_ROUGHNESS_METALLIC

_PROPERTIES = {
    "base_color": "albedo_texture",
    "occlusion_roughness_metallic": "orm_texture",
    "normal": "normal_texture",
}

_SWITCHES = {"occlusion_roughness_metallic": "ao_enabled = true", "normal": "normal_enabled = true"}


class GodotPackager(Packager):
    """Normals are OpenGL, as Godot has no others."""

    depths = (8,)
    conventions = ("opengl",)

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """Albedo, the packed map and normals."""
        name = settings.name
        return [
            Texture.of(f"{name}_albedo", "base_color", "albedo", 3),
            Texture(f"{name}_orm", "occlusion_roughness_metallic", OCCLUSION_ROUGHNESS_METALLIC),
            Texture.of(f"{name}_normal", "normal", "normal", 3),
        ]

    def write_documents(self, folder: Path, package: Package) -> None:
        """Write `NAME.tres`; paths in it are relative, so the folder may be anywhere in a project."""
        lines = [f'[gd_resource type="ORMMaterial3D" load_steps={len(_PROPERTIES) + 1} format=3]', ""]
        for role in _PROPERTIES:
            lines.append(f'[ext_resource type="Texture2D" path="{package.file(role)}" id="{role}"]')
        lines += ["", "[resource]", f'resource_name = "{package.settings.name}"']
        for role, key in _PROPERTIES.items():
            # Without these switches Godot ignores the normal map, and the occlusion in the packed one.
            if role in _SWITCHES:
                lines.append(_SWITCHES[role])
            lines.append(f'{key} = ExtResource("{role}")')
        tiling = f"{package.settings.tiling:.6g}"
        lines.append(f"uv1_scale = Vector3({tiling}, {tiling}, {tiling})")
        (folder / f"{package.settings.name}.tres").write_text("\n".join(lines) + "\n", encoding="utf-8")
