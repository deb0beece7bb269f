"""OpenUSD: a UsdPreviewSurface material on a square, as .usda and .usdz."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Packager

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """How the package for viewers is written."""

    crate: Annotated[
        bool,
        Meta(
            description="Store the scene in the .usdz in binary form, as Apple's AR Quick Look demands; needs usd-core."
        ),
    ] = False


@hookimpl
def packager_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_packager(options: Options) -> "Packager":
    """Build the packager."""
    # Imported on use, so that listing and checking plugins load no torch.
    from neuropbr_packagers.usd.packager import UsdPackager

    return UsdPackager(options)
