"""What a thin plugin module imports. Light: no torch.

A module looks like this:

    '''ConvNeXt feature pyramid.'''                      # the first line is the summary that listings show

    from dataclasses import dataclass
    from typing import Annotated, Literal
    from neuropbr_core.plugin import Meta, hookimpl

    NEUROPBR_API = 1                                     # a literal: the API the module was written for

    @dataclass(frozen=True)
    class Options:
        variant: Annotated[Literal["tiny", "small"], Meta(description="Size of the network.")] = "tiny"
        drop: Annotated[float, Meta(ge=0, lt=1, description="Stochastic depth rate.")] = 0.0

    @hookimpl
    def encoder_options(): return Options

    @hookimpl
    def create_encoder(options, in_channels):
        from acme_convnext.encoder import ConvNeXtEncoder   # torch is imported here, when a recipe names it
        return ConvNeXtEncoder(options, in_channels)
"""

from dataclasses import dataclass

import pluggy
from msgspec import Meta

# pluggy marks hooks with this name, so hooks of other pluggy projects in the same module are ignored.
PROJECT = "neuropbr"
SUPPORTED_API = (1,)
"""API versions of plugin modules that this core can load."""

BELONGS_TO = "belongs_to"
"""Key of `Meta(extra=…)` of an option that describes one choice of another option: `{BELONGS_TO: "critic"}`.

A recipe that extends another one and chooses something else there does not inherit the option: the size of one critic
means nothing to another one.
"""

hookimpl = pluggy.HookimplMarker(PROJECT)

__all__ = ["BELONGS_TO", "PROJECT", "SUPPORTED_API", "Meta", "Needs", "hookimpl"]


@dataclass(frozen=True)
class Needs:
    """What a loss must be given beside predicted and true maps; its optional hook `loss_needs` returns it.

    Attributes:
        teacher: A teacher's prediction; a recipe without a section `teacher` is then refused. Such a loss must not
            count as reconstruction: validation has no teacher.
        features: The generator's intermediate features. Together with `teacher`, also the teacher's, which only one
            that runs beside the student has.
    """

    teacher: bool = False
    features: bool = False
