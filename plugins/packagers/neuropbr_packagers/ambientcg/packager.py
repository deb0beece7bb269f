"""Writes maps under the file names of ambientCG: `Bricks_2K-PNG_Color.png`.

Source: the downloads of ambientcg.com, whose maps are named Color, NormalGL, NormalDX, Roughness, Metalness,
AmbientOcclusion and Displacement.
"""

from collections.abc import Sequence
from dataclasses import replace

from neuropbr_core.contracts import Packager, PackageSettings, Texture


class AmbientCGPackager(Packager):
    """Both normal maps are written, so the package's convention is that of neither."""

    depths = (8, 16)

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """The seven maps of a download."""
        resolution = f"{settings.size}px"
        if settings.size % 1024 == 0:
            resolution = f"{settings.size // 1024}K"
        stem = f"{settings.name}_{resolution}-PNG"
        normal = Texture.of(f"{stem}_NormalGL", "normal_gl", "normal", 3)
        return [
            Texture.of(f"{stem}_Color", "base_color", "albedo", 3),
            replace(normal, normals="opengl"),
            replace(normal, stem=f"{stem}_NormalDX", role="normal_dx", normals="directx"),
            Texture.of(f"{stem}_Roughness", "roughness", "roughness"),
            Texture.of(f"{stem}_Metalness", "metallic", "metallic"),
            Texture.of(f"{stem}_AmbientOcclusion", "occlusion", "ao"),
            Texture.height(f"{stem}_Displacement", settings),
        ]
