"""Unity: base, normal and mask maps with import settings, and materials for HDRP and URP."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Packager

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Which materials are written."""

    pipeline: Annotated[Literal["hdrp", "urp", "both"], Meta(description="Render pipelines that get a material.")] = (
        "both"
    )


@hookimpl
def packager_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_packager(options: Options) -> "Packager":
    """Build the packager."""
    # Imported on use, so that listing and checking plugins load no torch.
    from neuropbr_packagers.unity.packager import UnityPackager

    return UnityPackager(options)
