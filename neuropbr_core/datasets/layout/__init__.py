"""Folders `input/{clean,dirty}` and `output/`, as `neuropbr data synthesize` writes them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuropbr_core.plugin import hookimpl

if TYPE_CHECKING:
    from neuropbr_core.datasets.layout.source import LayoutSource
    from neuropbr_core.recipe.sections import Data

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """The layout has no options: section `data` has its keys."""


@hookimpl
def dataset_options() -> type[Options]:
    """The dataset's options."""
    return Options


@hookimpl
def create_dataset(options: Options, data: "Data") -> "LayoutSource":  # noqa: ARG001 (the hook's signature)
    """Build the source; nothing is read yet."""
    from neuropbr_core.datasets.layout.source import LayoutSource

    return LayoutSource(data)
