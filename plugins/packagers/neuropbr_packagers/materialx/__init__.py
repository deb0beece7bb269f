"""MaterialX 1.39: OpenPBR and Standard Surface materials in one document."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Packager

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """What the document contains."""

    displacement: Annotated[
        bool, Meta(description="Displace the surface by the height map, which is derived from the normals.")
    ] = False


@hookimpl
def packager_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_packager(options: Options) -> "Packager":
    """Build the packager."""
    # Imported on use, so that listing and checking plugins load no torch.
    from neuropbr_packagers.materialx.packager import MaterialXPackager

    return MaterialXPackager(options)
