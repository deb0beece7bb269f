"""Unreal Engine 5: BC, N and ORM textures, and a script for the editor."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Packager

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Where the editor puts the assets."""

    content: Annotated[
        str, Meta(pattern=r"^(/[A-Za-z0-9_]+)+$", description="Folder of the assets in the content browser.")
    ] = "/Game/NeuroPBR"


@hookimpl
def packager_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_packager(options: Options) -> "Packager":
    """Build the packager."""
    # Imported on use, so that listing and checking plugins load no torch.
    from neuropbr_packagers.unreal.packager import UnrealPackager

    return UnrealPackager(options)
