"""three.js: textures, and a module that loads a MeshStandardMaterial."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from acme_neuropbr.threejs.packager import ThreePackager

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Options of the packager, beside `depth`, `normals`, `size` and `metres`."""

    anisotropy: Annotated[int, Meta(ge=1, le=16, description="Samples along the steeper axis of a texture.")] = 8


@hookimpl
def packager_options() -> type[Options]:
    """Return the options that `--option threejs.KEY=VALUE` may set."""
    return Options


@hookimpl
def create_packager(options: Options) -> "ThreePackager":
    """Build the packager."""
    from acme_neuropbr.threejs.packager import ThreePackager

    return ThreePackager(options)
