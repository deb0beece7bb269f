"""The kinds of component. A kind is one row of `KINDS`; nothing else in the core lists them.

Adding a kind takes a hookspec class, a contract and a row here. Hook names differ from kind to kind, so that a fusion
block declared in the encoder group is refused as an unknown hook.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pluggy
from msgspec import Meta

from neuropbr_core.plugin import PROJECT

# For annotations only: contracts import torch, and the kinds are read by every listing, which must stay quick.
if TYPE_CHECKING:
    from pathlib import Path

    from neuropbr_core.contracts import Encoder, Exporter, Fusion, Loss, LossSetup, Observer, Packager, SampleSource
    from neuropbr_core.plugin import Needs
    from neuropbr_core.recipe.sections import Data

# The same project name as `hookimpl` has: pluggy matches specifications and implementations by it.
hookspec = pluggy.HookspecMarker(PROJECT)


# A component without options leaves its options hook out.
# Every hook is `firstresult`: a component's module is registered alone, so exactly one implementation answers.
# Options are `Any`: each component has a class of its own for them, and the core only hands the instance on.


class EncoderSpec:
    """Hooks of an encoder module."""

    @hookspec(firstresult=True)
    def encoder_options(self) -> type:
        """The frozen dataclass of the encoder's recipe options; left out by a component without options."""

    @hookspec(firstresult=True)
    def create_encoder(self, options: Any, in_channels: int) -> "Encoder":
        """Build the encoder for images of `in_channels` channels."""


class FusionSpec:
    """Hooks of a fusion module."""

    @hookspec(firstresult=True)
    def fusion_options(self) -> type:
        """The frozen dataclass of the fusion block's recipe options; left out by a component without options."""

    @hookspec(firstresult=True)
    def create_fusion(self, options: Any, in_channels: int) -> "Fusion":
        """Build the fusion block for latents of `in_channels` channels."""


class LossSpec:
    """Hooks of a loss module."""

    @hookspec(firstresult=True)
    def loss_options(self) -> type:
        """The frozen dataclass of the loss's recipe options; left out by a component without options."""

    @hookspec(firstresult=True)
    def loss_needs(self, options: Any) -> "Needs":
        """What the loss must be given beside maps; may be left out by one that needs nothing."""

    @hookspec(firstresult=True)
    def create_loss(self, options: Any, setup: "LossSetup") -> "Loss":
        """Build the loss; `setup` says what the generator predicts."""


class ExporterSpec:
    """Hooks of an exporter module."""

    @hookspec(firstresult=True)
    def exporter_options(self) -> type:
        """The frozen dataclass of the exporter's recipe options; left out by a component without options."""

    @hookspec(firstresult=True)
    def create_exporter(self, options: Any) -> "Exporter":
        """Build the exporter."""


class ObserverSpec:
    """Hooks of an observer module."""

    @hookspec(firstresult=True)
    def observer_options(self) -> type:
        """The frozen dataclass of the observer's recipe options; left out by a component without options."""

    @hookspec(firstresult=True)
    def create_observer(self, options: Any, run_dir: "Path") -> "Observer":
        """Build the observer of the run that will live in `run_dir`; the folder may not be there yet."""


class DatasetSpec:
    """Hooks of a dataset module."""

    @hookspec(firstresult=True)
    def dataset_options(self) -> type:
        """The frozen dataclass of the dataset's recipe options; left out by a component without options."""

    @hookspec(firstresult=True)
    def create_dataset(self, options: Any, data: "Data") -> "SampleSource":
        """Build the source of samples; `data` is that section of the recipe, with `root`, `views` and `alignment`."""


class PackagerSpec:
    """Hooks of a packager module."""

    @hookspec(firstresult=True)
    def packager_options(self) -> type:
        """The frozen dataclass of the packager's options; left out by a component without options."""

    @hookspec(firstresult=True)
    def create_packager(self, options: Any) -> "Packager":
        """Build the packager."""


@dataclass(frozen=True)
class NoEntryOptions:
    """Keys that the core reads from an entry beside the component's own options: none."""


@dataclass(frozen=True)
class LossEntryOptions:
    """Keys that the core reads from a loss entry beside the component's own options."""

    # The schedule is the core's and not each loss's, so that every loss has the same one.

    weight: Annotated[float, Meta(ge=0, le=1e9, description="Factor of this loss in the total.")] = 1.0
    start_epoch: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="First epoch in which the loss counts; epochs count from 1, as on the console.",
        ),
    ] = 1
    ramp_epochs: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="Epochs over which the weight grows linearly from 0 after `start_epoch`."),
    ] = 0


@dataclass(frozen=True)
class ExporterEntryOptions:
    """Keys that the core reads from an export entry: what the export changes about the model, for every exporter."""

    resolution: Annotated[
        Annotated[int, Meta(ge=16, le=8192)] | None,
        Meta(description="Side of the exported model's input, in pixels; default: the model's `image_size`."),
    ] = None
    super_resolution: Annotated[
        Literal["keep", "bypass"],
        Meta(description="`bypass` leaves the decoder's upscaling out, so that maps have the size of the input."),
    ] = "keep"
    geometry: Annotated[
        Literal["inputs", "nominal"],
        Meta(
            description="`nominal` builds the directions of the usual capture in (first view from above, the others "
            "tilted) and takes everything as visible, so that views are the only input."
        ),
    ] = "inputs"
    views: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        Meta(description="Views that the exported model takes; default: as many as in training."),
    ] = None


@dataclass(frozen=True)
class PackagerEntryOptions:
    """Keys that the core reads for every packager: what a target may override; null keeps the target's own custom."""

    depth: Annotated[
        Literal[8, 16, "exr"] | None,
        Meta(description="Bits of a channel in PNG files, or `exr` for half floats, with colour in linear light."),
    ] = None
    normals: Annotated[
        Literal["opengl", "directx"] | None,
        Meta(description="Direction of green in normal maps: `opengl` is +Y up, `directx` +Y down."),
    ] = None
    size: Annotated[
        Annotated[int, Meta(ge=1, le=16384)] | None,
        Meta(description="Side of the textures in pixels; default: that of the maps."),
    ] = None
    metres: Annotated[
        Annotated[float, Meta(gt=0, le=1e6)] | None,
        Meta(description="Side of the texture in metres. Materials then take texture coordinates in metres and tile."),
    ] = None


@dataclass(frozen=True)
class Kind:
    """One kind of component.

    Attributes:
        name: Its name, as in `encoder/resnet`.
        group: Entry-point group in which distributions declare components of it.
        spec: Class of its pluggy hookspecs.
        contract: `module:class` that what it creates must be an instance of; imported when something is created.
        section: Where recipes name components of it: the path of one slot, or of a mapping when `many`.
        many: Whether `section` is a mapping from instance names to components.
        entry_options: Dataclass of the keys that the core itself reads from an entry (reserved for components).
        default: Component of a slot that a recipe leaves empty; None when recipes must name one.
        in_recipes: Whether recipes name components of it. Those of the others are named by a command, which checks
            them like entries of `section`.
    """

    name: str
    group: str
    spec: type
    # As text, because importing a contract imports torch.
    contract: str
    section: tuple[str, ...]
    many: bool = False
    entry_options: type = field(default=NoEntryOptions)
    default: str | None = None
    in_recipes: bool = True

    @property
    def options_hook(self) -> str:
        """Name of the hook that returns the options dataclass."""
        # The names of hooks follow from the kind's name, so that a row of `KINDS` cannot contradict its hookspecs.
        return f"{self.name}_options"

    @property
    def needs_hook(self) -> str:
        """Name of the optional hook, in those kinds that have it, that says what a component must be given."""
        return f"{self.name}_needs"

    @property
    def create_hook(self) -> str:
        """Name of the hook that builds the component."""
        return f"create_{self.name}"


# In the order in which listings show them.
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("encoder", "neuropbr.encoders", EncoderSpec, "neuropbr_core.contracts:Encoder", ("model", "encoder")),
        Kind("fusion", "neuropbr.fusion", FusionSpec, "neuropbr_core.contracts:Fusion", ("model", "fusion")),
        Kind("loss", "neuropbr.losses", LossSpec, "neuropbr_core.contracts:Loss", ("losses",), True, LossEntryOptions),
        Kind(
            "exporter",
            "neuropbr.exporters",
            ExporterSpec,
            "neuropbr_core.contracts:Exporter",
            ("export",),
            True,
            ExporterEntryOptions,
        ),
        Kind("observer", "neuropbr.observers", ObserverSpec, "neuropbr_core.contracts:Observer", ("observers",), True),
        Kind(
            "dataset",
            "neuropbr.datasets",
            DatasetSpec,
            "neuropbr_core.contracts:SampleSource",
            ("data", "source"),
            # Most datasets are folders, so a recipe names a component only for others.
            default="layout",
        ),
        Kind(
            "packager",
            "neuropbr.packagers",
            PackagerSpec,
            "neuropbr_core.contracts:Packager",
            ("packages",),
            True,
            PackagerEntryOptions,
            # A run ends with a model and not with maps, so a recipe has nothing to package.
            in_recipes=False,
        ),
    )
}


def recipe_kinds() -> tuple[Kind, ...]:
    """The kinds whose components recipes name, in the order of `KINDS`."""
    return tuple(kind for kind in KINDS.values() if kind.in_recipes)
