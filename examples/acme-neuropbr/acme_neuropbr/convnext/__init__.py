"""ConvNeXt feature pyramid (Liu et al. 2022)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from acme_neuropbr.convnext.pyramid import ConvNeXtPyramid

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Options of the encoder."""

    variant: Annotated[Literal["atto", "femto", "tiny"], Meta(description="Size of the network.")] = "tiny"
    drop_path: Annotated[float, Meta(ge=0, lt=1, description="Stochastic depth rate.")] = 0.0


@hookimpl
def encoder_options() -> type[Options]:
    """Return the options that recipes may set."""
    return Options


@hookimpl
def create_encoder(options: Options, in_channels: int) -> "ConvNeXtPyramid":
    """Build the encoder; torch and timm are imported here and not before."""
    from acme_neuropbr.convnext.pyramid import ConvNeXtPyramid

    return ConvNeXtPyramid(options, in_channels)
