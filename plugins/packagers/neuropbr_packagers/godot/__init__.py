"""Godot 4: textures and an ORMMaterial3D."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuropbr_core.plugin import hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Packager

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """The packager has no options of its own."""


@hookimpl
def packager_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_packager(options: Options) -> "Packager":  # noqa: ARG001 - it has none
    """Build the packager."""
    # Imported on use, so that listing and checking plugins load no torch.
    from neuropbr_packagers.godot.packager import GodotPackager

    return GodotPackager()
