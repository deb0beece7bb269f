"""Training visits drawn without end; validation on the captures of the folder layout."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.materials.live.options import Cameras, Cells, Light, Materials, Photos
from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.datasets.live.source import LiveSource
    from neuropbr_core.recipe.sections import Data

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """What is drawn, and from which materials."""

    materials: Annotated[
        tuple[str, ...],
        Meta(description="Folders of material folders; `neuropbr:examples/materials` names the shipped ones."),
    ] = ("neuropbr:examples/materials",)
    procedural: Annotated[
        int, Meta(ge=0, le=100_000, description="Procedural materials in the bank, of all kinds in turn.")
    ] = 100
    texture_size: Annotated[
        Literal[32, 64, 128, 256, 512, 1024, 2048],
        Meta(description="Side at which materials are kept, in pixels; finer ones bear zooming in."),
    ] = 512
    seed: Annotated[int, Meta(ge=0, description="Seed of the procedural materials and of the bank of light.")] = 0
    visits: Annotated[int, Meta(ge=1, description="Visits in an epoch; `data.repeats` does not count.")] = 1000
    share: Annotated[
        float,
        Meta(ge=0, le=1, description="Share of visits that are drawn; the others show the layout's training captures."),
    ] = 0.8
    cells: Cells = field(default_factory=Cells)
    editing: Materials = field(default_factory=Materials)
    cameras: Cameras = field(default_factory=Cameras)
    light: Light = field(default_factory=Light)
    photos: Photos = field(default_factory=Photos)


@hookimpl
def dataset_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_dataset(options: Options, data: "Data") -> "LiveSource":
    """Build the source; nothing is read yet."""
    # Imported on use: the source needs PyTorch, and listing components must not.
    from neuropbr_core.datasets.live.source import LiveSource

    return LiveSource(options, data)
