"""Writes maps under the names that Substance 3D Painter, Designer and Sampler give theirs.

Source: Adobe's documentation of Painter's export presets ("PBR Metallic Roughness") and of Designer's output usages.
"""

from collections.abc import Sequence

from neuropbr_core.contracts import Packager, PackageSettings, Texture


class SubstancePackager(Packager):
    """Normals are DirectX, as in a new project of Painter and in Designer's nodes."""

    conventions = ("directx", "opengl")

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """The maps of the metallic workflow."""
        name = settings.name
        return [
            Texture.of(f"{name}_basecolor", "base_color", "albedo", 3),
            Texture.of(f"{name}_normal", "normal", "normal", 3),
            Texture.of(f"{name}_roughness", "roughness", "roughness"),
            Texture.of(f"{name}_metallic", "metallic", "metallic"),
            Texture.of(f"{name}_ambientocclusion", "occlusion", "ao"),
            Texture.height(f"{name}_height", settings),
        ]
