"""The dataset `layout`: folders `input/{clean,dirty}` and `output/`, as `neuropbr data synthesize` writes them."""

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
    """Return the class of the dataset's options."""
    return Options


@hookimpl
def create_dataset(options: Options, data: "Data") -> "LayoutSource":  # noqa: ARG001 (the hook's signature)
    """Create the source. Nothing is read yet."""
    # Imported on use: listing components must not import what a source needs, such as Pillow.
    from neuropbr_core.datasets.layout.source import LayoutSource

    return LayoutSource(data)
