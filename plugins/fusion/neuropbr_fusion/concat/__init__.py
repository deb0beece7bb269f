"""Statistics across views (mean, maximum, deviation), concatenated and mixed by 1×1 convolutions.

Source: Deschaintre et al. 2019, "Flexible SVBRDF Capture with a Multi-Image Deep Network" (order-free pooling).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_fusion.concat.statistics import StatisticsFusion

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Options of the statistics fusion."""

    out_channels: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Channels of the result; default: those of the latents.")
    ] = None


@hookimpl
def fusion_options() -> type:
    """The options dataclass."""
    return Options


@hookimpl
def create_fusion(options: Options, in_channels: int) -> "StatisticsFusion":
    """Build the fusion block."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_fusion.concat.statistics import StatisticsFusion

    return StatisticsFusion(options, in_channels)
