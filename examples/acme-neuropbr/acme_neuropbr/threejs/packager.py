"""Source: three.js's documentation of MeshStandardMaterial, which reads the channels that glTF reads."""

from collections.abc import Sequence
from pathlib import Path

from acme_neuropbr.threejs import Options
from neuropbr_core.contracts import Channel, Package, Packager, PackageSettings, Texture

MODULE = """import * as THREE from "three";

const loader = new THREE.TextureLoader();
function load(file, colorSpace) {{
  const texture = loader.load(new URL(file, import.meta.url).href);
  texture.wrapS = texture.wrapT = THREE.RepeatWrapping;
  texture.repeat.set({tiling}, {tiling});
  texture.anisotropy = {anisotropy};
  texture.colorSpace = colorSpace;
  return texture;
}}

const packed = load("{packed}", THREE.NoColorSpace);
export const {name} = new THREE.MeshStandardMaterial({{
  map: load("{color}", THREE.SRGBColorSpace),
  normalMap: load("{normal}", THREE.NoColorSpace),
  aoMap: packed,
  roughnessMap: packed,
  metalnessMap: packed,
  roughness: 1,
  metalness: 1,
}});
"""


class ThreePackager(Packager):
    """Browsers decode 8 bits, and three.js reads OpenGL normals."""

    depths = (8,)
    conventions = ("opengl",)

    def __init__(self, options: Options) -> None:
        self.options = options

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """Colour, normals, and red occlusion, green roughness, blue metal in one image."""
        packed = (Channel("ao"), Channel("roughness"), Channel("metallic"))
        return [
            Texture.of(f"{settings.name}_color", "base_color", "albedo", 3),
            Texture.of(f"{settings.name}_normal", "normal", "normal", 3),
            Texture(f"{settings.name}_packed", "occlusion_roughness_metallic", packed),
        ]

    def write_documents(self, folder: Path, package: Package) -> None:
        """Write `material.js`."""
        text = MODULE.format(
            name=package.settings.name,
            color=package.file("base_color"),
            normal=package.file("normal"),
            packed=package.file("occlusion_roughness_metallic"),
            tiling=package.settings.tiling,
            anisotropy=self.options.anisotropy,
        )
        (folder / "material.js").write_text(text, encoding="utf-8")
