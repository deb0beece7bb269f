"""Outputs: maps of one material -> packages that other programs open.

material.py   maps from memory or from a folder, resampled, with the maps that are derived from them
textures.py   channels of maps -> image files
manifest.py   the record of a package: each file with role, colour space, convention, size and hash
package.py    targets -> folders, each written whole or not at all
"""

from neuropbr_core.outputs.manifest import MANIFEST, FileRecord, Manifest
from neuropbr_core.outputs.material import Material, material_name, read_material
from neuropbr_core.outputs.package import Target, check_places, choose_targets, write_packages

__all__ = [
    "MANIFEST",
    "FileRecord",
    "Manifest",
    "Material",
    "Target",
    "check_places",
    "choose_targets",
    "material_name",
    "read_material",
    "write_packages",
]
