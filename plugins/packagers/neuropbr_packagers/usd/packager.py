"""Writes an OpenUSD stage: a square with a UsdPreviewSurface material, as `.usda` and as a `.usdz` archive.

Sources: the UsdPreviewSurface proposal 2.6 (inputs, scale and bias of normal maps); the USDZ file format specification
(stored entries at multiples of 64 bytes).
"""

import struct
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from neuropbr_core.contracts import Availability, Package, Packager, PackageSettings, Texture
from neuropbr_packagers.channels import OCCLUSION_ROUGHNESS_METALLIC
from neuropbr_packagers.usd import Options

_ALIGNMENT = 64
_PADDING_TAG = 0x1986  # the tag of OpenUSD's own writer
_SPACES = {"srgb": "sRGB", "linear": "raw", "data": "raw"}


class UsdPackager(Packager):
    """Normals are OpenGL, which UsdPreviewSurface expects.

    Args:
        options: How the archive is written.
    """

    conventions = ("opengl",)

    def __init__(self, options: Options) -> None:
        self.options = options

    def requirements(self) -> Availability:
        """The binary form is OpenUSD's own."""
        if self.options.crate and find_spec("pxr") is None:
            return Availability(
                ok=False, reason="option crate needs usd-core, which is not installed: pip install 'neuropbr[usd]'"
            )
        return Availability(ok=True)

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """Base colour, the packed map and normals."""
        name = settings.name
        return [
            Texture.of(f"textures/{name}_basecolor", "base_color", "albedo", 3),
            Texture(f"textures/{name}_orm", "occlusion_roughness_metallic", OCCLUSION_ROUGHNESS_METALLIC),
            Texture.of(f"textures/{name}_normal", "normal", "normal", 3),
        ]

    def write_documents(self, folder: Path, package: Package) -> None:
        """Write `NAME.usda` and `NAME.usdz`."""
        name = package.settings.name
        text = _stage(package)
        (folder / f"{name}.usda").write_text(text, encoding="utf-8")
        entries = {f"{name}.usda": text.encode()}
        if self.options.crate:
            from pxr import Sdf

            layer = Sdf.Layer.CreateAnonymous(".usda")
            layer.ImportFromString(text)
            # OpenUSD writes its binary form to files alone.
            with TemporaryDirectory() as scratch:
                path = Path(scratch) / "stage.usdc"
                layer.Export(str(path))
                entries = {f"{name}.usdc": path.read_bytes()}
        for role in package.textures:
            entries[package.file(role)] = (folder / package.file(role)).read_bytes()
        _write_archive(folder / f"{name}.usdz", entries)


def _stage(package: Package) -> str:
    settings = package.settings
    name = settings.name
    half = f"{(settings.metres or 1.0) / 2:g}"
    corners = f"(-{half}, -{half}, 0), ({half}, -{half}, 0), ({half}, {half}, 0), (-{half}, {half}, 0)"
    material = f"/{name}/Material"
    base = package.file("base_color")
    packed = package.file("occlusion_roughness_metallic")
    normal = package.file("normal")
    # The stored value x of a normal map means 2x - 1. A reader that does not decode leaves the surface flat.
    return f"""#usda 1.0
(
    defaultPrim = "{name}"
    doc = "Written by NeuroPBR"
    metersPerUnit = 1
    upAxis = "Y"
)

def Xform "{name}" (
    assetInfo = {{
        string name = "{name}"
    }}
    kind = "component"
)
{{
    def Mesh "Square" (
        prepend apiSchemas = ["MaterialBindingAPI"]
    )
    {{
        float3[] extent = [(-{half}, -{half}, 0), ({half}, {half}, 0)]
        int[] faceVertexCounts = [4]
        int[] faceVertexIndices = [0, 1, 2, 3]
        rel material:binding = <{material}>
        normal3f[] normals = [(0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 1)] (
            interpolation = "vertex"
        )
        point3f[] points = [{corners}]
        texCoord2f[] primvars:st = [(0, 0), (1, 0), (1, 1), (0, 1)] (
            interpolation = "vertex"
        )
        uniform token subdivisionScheme = "none"
    }}

    def Material "Material"
    {{
        token outputs:surface.connect = <{material}/Surface.outputs:surface>

        def Shader "Surface"
        {{
            uniform token info:id = "UsdPreviewSurface"
            color3f inputs:diffuseColor.connect = <{material}/BaseColor.outputs:rgb>
            float inputs:metallic.connect = <{material}/Packed.outputs:b>
            normal3f inputs:normal.connect = <{material}/Normal.outputs:rgb>
            float inputs:occlusion.connect = <{material}/Packed.outputs:r>
            float inputs:roughness.connect = <{material}/Packed.outputs:g>
            int inputs:useSpecularWorkflow = 0
            token outputs:surface
        }}

        def Shader "Coordinates"
        {{
            uniform token info:id = "UsdPrimvarReader_float2"
            string inputs:varname = "st"
            float2 outputs:result
        }}

        def Shader "BaseColor"
        {{
            uniform token info:id = "UsdUVTexture"
            asset inputs:file = @{base}@
            token inputs:sourceColorSpace = "{_SPACES[package.color_space("base_color")]}"
            float2 inputs:st.connect = <{material}/Coordinates.outputs:result>
            token inputs:wrapS = "repeat"
            token inputs:wrapT = "repeat"
            float3 outputs:rgb
        }}

        def Shader "Packed"
        {{
            uniform token info:id = "UsdUVTexture"
            asset inputs:file = @{packed}@
            token inputs:sourceColorSpace = "raw"
            float2 inputs:st.connect = <{material}/Coordinates.outputs:result>
            token inputs:wrapS = "repeat"
            token inputs:wrapT = "repeat"
            float outputs:b
            float outputs:g
            float outputs:r
        }}

        def Shader "Normal"
        {{
            uniform token info:id = "UsdUVTexture"
            float4 inputs:bias = (-1, -1, -1, 0)
            float4 inputs:fallback = (0.5, 0.5, 1, 1)
            asset inputs:file = @{normal}@
            float4 inputs:scale = (2, 2, 2, 1)
            token inputs:sourceColorSpace = "raw"
            float2 inputs:st.connect = <{material}/Coordinates.outputs:result>
            token inputs:wrapS = "repeat"
            token inputs:wrapT = "repeat"
            float3 outputs:rgb
        }}
    }}
}}
"""


def _write_archive(path: Path, entries: dict[str, bytes]) -> None:
    """Write entries one after the other, uncompressed, each aligned; the first one is the stage."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            # A fixed date, so that equal packages have equal bytes.
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            offset = archive.start_dir + 30 + len(name.encode())
            padding = -offset % _ALIGNMENT
            # An extra field has a header of four bytes.
            if 0 < padding < 4:
                padding += _ALIGNMENT
            if padding:
                info.extra = struct.pack("<HH", _PADDING_TAG, padding - 4) + bytes(padding - 4)
            archive.writestr(info, content)
