"""What an implementation subclasses and receives. B is the batch, V the views of a sample, N = B·V.

Colour, range and channels of every map are those of `neuropbr_core.maps`, for predictions and targets alike.
Shapes are written in jaxtyping's notation and are checked in tests. Methods that raise NotImplementedError are
for implementations to write.
"""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from neuropbr_core import samples
from neuropbr_core.errors import ExportError

Maps = dict[str, Tensor]
"""Maps (or their logits) by name, each `(B, channels, H, W)`."""

# Defined where no torch is imported, for sources that list samples without it; offered here for implementers.
Sample = samples.Sample
CameraRecord = samples.CameraRecord


class Encoder(nn.Module):
    """A feature pyramid over single images.

    Attributes:
        channels: Channels of each returned feature, finest first.
        strides: How many input pixels one feature pixel spans, finest first, growing; powers of two. Both are known
            from the options alone (also when the module is built on the `meta` device, where no weights are loaded).
        notes: Lines for people on how it was built, such as start weights that could not be had; shown when a run
            starts from them.
        is_frozen_at_random: Whether none of its weights is trained and none was loaded. A run that starts from no other
            weights is then refused.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    notes: tuple[str, ...] = ()
    is_frozen_at_random: bool = False

    def forward(self, images: Float[Tensor, "N C H W"]) -> list[Float[Tensor, "N c h w"]]:
        """Encode images.

        Args:
            images: Normalised images (and, for a view-conditioned model, direction channels behind the first three);
                H and W are divisible by `strides[-1]`.

        Returns:
            One feature per entry of `channels`, feature i of size (H / strides[i], W / strides[i]).
        """
        raise NotImplementedError


class Fusion(nn.Module):
    """Joins the latents of a sample's views into one; does not depend on the order of the views.

    Attributes:
        out_channels: Channels of the fused latent.
    """

    out_channels: int

    def forward(
        self, latents: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"] | None = None
    ) -> Float[Tensor, "B out h w"]:
        """Fuse latents of any number of views, V >= 1.

        Args:
            latents: The encoder's coarsest features.
            visible: Share of each latent pixel that the view sees, in [0, 1]; a pixel that no view sees must still
                give finite values. None when every view sees everything: the result is that of ones, up to rounding,
                and may take less time.

        Returns:
            The fused latent.
        """
        raise NotImplementedError


OVERVIEW_SIDE = 32
"""Side of an overview in pixels, or a little more where the frame's side is no multiple of it."""


class Overview(NamedTuple):
    """The whole frame in few pixels, for a generator that sees a crop of it.

    Attributes:
        views: Aligned views, sRGB-encoded in [0, 1].
        visible: Share of each pixel that the view sees, in [0, 1].
        directions: Unit vectors to camera and flash, in the texture's tangent space.
    """

    views: Float[Tensor, "B V 3 o o"]
    visible: Float[Tensor, "B V 1 o o"]
    directions: Float[Tensor, "B V 3 o o"]


class Prediction(NamedTuple):
    """What a generator returns.

    Attributes:
        maps: The maps, activated, in the ranges of `neuropbr_core.maps`.
        logits: What the heads emitted, `logit_channels` each, before activation.
        features: Intermediate features by name when they were asked for, else empty.
    """

    maps: Maps
    # Beside the maps, because a loss on a probability is stable only when it is computed from the logit.
    logits: Maps
    features: dict[str, Tensor]


@dataclass(frozen=True)
class LossInput:
    """What a loss sees of one step; every tensor is float32.

    Attributes:
        prediction: The generator's prediction.
        target: The true maps, same names, ranges and size.
        views: The aligned views `(B, V, 3, h, w)`, sRGB-encoded in [0, 1], at the generator's input size.
        visible: What each view sees of the texture `(B, V, 1, h, w)`, in [0, 1].
        valid: 1 where at least one view sees the texture and the target exists `(B, 1, H, W)`, else 0. Losses ignore
            the rest.
        epoch: The epoch, from 0.
        teacher: The teacher's prediction for the same crop in training, when the recipe has one.
    """

    prediction: Prediction
    target: Maps
    views: Tensor
    visible: Tensor
    valid: Tensor
    epoch: int = 0
    teacher: Prediction | None = None


class LossResult(NamedTuple):
    """A loss's value.

    Attributes:
        total: Scalar to minimise.
        terms: Named scalars for the logs, detached, on the device.
    """

    total: Tensor
    terms: dict[str, Tensor]


@dataclass(frozen=True)
class LossSetup:
    """What a loss may know when it is built.

    Attributes:
        maps: Names of the maps that the generator predicts, in order.
        output_size: Side of the predicted maps in training, in pixels.
        features: Channels of the generator's intermediate features by name (`latent`, `decoder0`, …); predictions carry
            them when the loss says that it needs them (`neuropbr_core.plugin.Needs`).
        teacher_features: The same of a teacher that runs beside the generator; empty without one.
    """

    maps: tuple[str, ...]
    output_size: int
    # Channel counts and not the networks: a loss that reached into a network would depend on one architecture.
    features: Mapping[str, int] = field(default_factory=dict)
    teacher_features: Mapping[str, int] = field(default_factory=dict)


class Loss(nn.Module):
    """One term of the objective, possibly with a critic of its own.

    A critic is handed in because the trainer wraps, optimises and saves it; a loss must not store it. Parameters of
    the loss itself join the generator's optimiser.

    Attributes:
        reconstruction: Whether the loss is zero at the truth; such losses decide which checkpoint is best.
        critic_steps: Critic updates for every generator update.
        share: Part of the objective that the loss claims from the reconstruction losses, in [0, 1]: while it counts,
            they are multiplied by 1 - share (while it ramps up, by correspondingly more).
        fused_by: What computes this loss together with others that name the same class; None when the loss is always
            computed by itself. It holds for the class that sets it and not for subclasses, whose `forward` may differ.
    """

    # Most losses compare with the truth; an adversarial or distilling one says that it does not.
    reconstruction: bool = True
    critic_steps: int = 1
    share: float = 0.0
    fused_by: "ClassVar[type[FusedLosses] | None]" = None

    def make_critic(self) -> nn.Module | None:
        """Build the critic, or return None when the loss has none. Called once."""
        # Most losses have none, and then need to override nothing but `forward`.
        return None

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:
        """Return the generator's loss; `critic` is frozen."""
        raise NotImplementedError

    def critic_loss(self, x: LossInput, critic: nn.Module) -> LossResult:
        """Return the critic's loss; the prediction in `x` is detached."""
        # Never called of a loss whose `make_critic` returns None, so such a loss does not override it.
        raise NotImplementedError


class FusedResult(NamedTuple):
    """What fused losses return.

    Attributes:
        results: The result of each loss, in order.
        metrics: The errors of the predicted maps, when they were asked for and all are known: `<map>/mae`,
            `<map>/ssim` and `normal/angle` as `Observer.metrics_logged` describes them, as detached scalars on the
            device; else empty.
    """

    results: tuple[LossResult, ...]
    metrics: dict[str, Tensor]


class FusedLosses:
    """Computes several losses of a recipe together, for less time and memory than one after the other.

    Values and gradients are those of the losses' own `forward`, up to rounding. `training.fused_losses: off` uses
    `forward` instead.

    Args:
        losses: Losses without critics whose `fused_by` is this class, in the recipe's order.
    """

    def __init__(self, losses: Sequence[Loss]) -> None:
        raise NotImplementedError

    def __call__(self, x: LossInput, *, measured: bool = False) -> FusedResult:
        """Compute the results of all losses.

        Args:
            x: What the losses see.
            measured: Whether to measure the errors of the predicted maps, too.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Availability:
    """Whether an exporter or a packager can work on this machine.

    Attributes:
        ok: Whether it can.
        reason: Why not, and the install line that helps; empty when `ok`.
    """

    ok: bool
    reason: str = ""


@dataclass(frozen=True)
class ExportSpec:
    """What is to be exported.

    Attributes:
        inputs: Example inputs by name, in call order: `views (1, V, 3, H, W)` in [0, 1], then `visible (1, V, 1, H, W)`
            when the model was trained on aligned views and `directions (1, V, 3, H, W)` when it is view-conditioned.
        outputs: Names of the maps, in order.
        metadata: Text about run, recipe and sizes to store in the file where its format can.
        multiple: For formats that keep sizes open: height and width must be multiples of it.
        photo_size: Side to which photos are fitted before they become views, in pixels; None: that of the views.
        aligned: Whether views show the texture in one frame, into which photos have to be warped.
        flash: Whether the model was trained on photos lit by a flash at the lens; None when it is not known.
    """

    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    multiple: int = 1
    # For formats that prepare photos themselves.
    photo_size: int | None = None
    aligned: bool = False
    flash: bool | None = None


@dataclass(frozen=True)
class ExportReport:
    """What an exporter wrote.

    Attributes:
        path: The file or folder.
        precision: `fp32`, `fp16`, …: which pass mark verification applies; that of the exporter.
        details: Facts for people (sizes, operator counts, notes): a text for each name.
    """

    path: Path
    precision: str = "fp32"
    details: dict[str, str] = field(default_factory=dict)


class Exporter:
    """Writes a generator for one deployment target, and reads it back.

    What is exported is a module that the core made: an entry's `resolution`, `super_resolution`, `geometry` and `views`
    are applied already, so exporters have no such options. Verification is the core's: it loads the file through `load`
    and compares it with the model, so an exporter cannot mark itself as passed.

    Attributes:
        suffix: Suffix of the file, with the dot.
        precision: `fp32`, `fp16`, `palettised` or `image` (maps are 8-bit images): which pass mark exports with these
            options must meet.
        view_bits: 8 when files take views as 8-bit images; verification then rounds views first. None for floats.
    """

    # An exporter sets these in `__init__` where they depend on its options.
    suffix: str = ""
    precision: str = "fp32"
    view_bits: int | None = None

    def requirements(self) -> Availability:
        """Whether this machine can export, and what to install if not."""
        # Asked before a run trains, so that a missing package is not noticed a day later.
        return Availability(ok=True)

    def reading_requirements(self) -> Availability:
        """Whether this machine can load files; by default, what exporting needs."""
        # A converter may be needed to write files, and not to run them.
        return self.requirements()

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Write `generator` to `path`.

        Args:
            generator: In eval mode, on the CPU; takes `views`, `visible` and `directions` (those of `spec.inputs`, by
                name) and returns a `Prediction`.
            spec: Inputs, outputs and metadata.
            path: The file or folder.

        Raises:
            ExportError: The target cannot represent the model.
        """
        raise NotImplementedError

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file back as a function from the spec's inputs to maps.

        Raises:
            ExportError: It is missing, damaged, or not of this exporter; or this machine cannot run it.
        """
        raise NotImplementedError

    def load_untrusted(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file of a stranger back, and do nothing that the file asks for but compute.

        The core calls `load` for files that this machine exported, or that the user trusts, and this method for all
        others. A format that holds numbers and known operators alone may return `self.load(path)`.

        Raises:
            ExportError: As `load`; or the file could run code, read or write files. Until an exporter overrides this
                method, all files are refused.
        """
        # An exporter that says nothing may unpickle its files, which runs whatever they contain.
        raise ExportError(
            f"{path}: {type(self).__name__} cannot tell whether a file of a stranger is safe to open, and this machine "
            f"did not export it; run it with --trust if you know where it is from"
        )

    def read_metadata(self, path: Path) -> dict[str, str]:  # noqa: ARG002 - for formats that hold none
        """Read the spec's metadata out of a file; empty when the format can hold none.

        Also called for files of strangers: nothing in the file may be executed.

        Raises:
            ExportError: It is missing, damaged, or not of this exporter.
        """
        # Then the record beside the file is the only place that has the metadata.
        return {}

    def report(self, path: Path) -> dict[str, object]:  # noqa: ARG002
        """Say what is in a file, as data for JSON: operators, sizes, what may be slow; empty when there is nothing.

        Raises:
            ExportError: It is missing, damaged, or not of this exporter.
        """
        return {}

    def trace(self, generator: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> list[str]:  # noqa: ARG002
        """Compare a file with the model operator by operator, and find the first that differs.

        Args:
            generator: What was exported.
            inputs: Real inputs by name.
            path: The file.

        Returns:
            Lines for people.

        Raises:
            ExportError: Files of this exporter cannot be traced.
        """
        # An error and no empty list, which would read as "nothing differs".
        raise ExportError(f"{path}: files of {type(self).__name__} cannot be traced operator by operator")


@dataclass(frozen=True)
class RunInfo:
    """A run that starts.

    Attributes:
        name: The run's name.
        run_dir: Its folder.
        epochs: Epochs planned.
        steps_per_epoch: Generator steps in an epoch.
        start_epoch: First epoch that will be trained, from 0; above 0 when resumed.
        global_step: Generator steps before it; above 0 when resumed.
        recipe: The resolved recipe as plain data.
        facts: Sizes, device, parameter counts and the like, for people.
    """

    name: str
    run_dir: Path
    epochs: int
    steps_per_epoch: int
    start_epoch: int
    global_step: int
    recipe: dict[str, object]
    facts: dict[str, str]


@dataclass(frozen=True)
class StepInfo:
    """A generator step that finished; no tensors, so that nothing waits for the device.

    Attributes:
        epoch: The epoch, from 0.
        step: The step within the epoch, from 0.
        steps_per_epoch: Generator steps in an epoch.
        global_step: Generator steps so far, this one included.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    global_step: int


@dataclass(frozen=True)
class EpochSummary:
    """An epoch that finished.

    Attributes:
        epoch: The epoch, from 0.
        global_step: Generator steps so far.
        metrics: Means of all logged metrics except learning rates, and the `seconds` that the epoch took.
    """

    epoch: int
    global_step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class ValidationSummary:
    """A validation that finished.

    Attributes:
        epoch: The epoch it followed.
        global_step: Generator steps so far.
        metrics: `loss` (the reconstruction total), `<map>/<metric>`, means over images, and `overall/<metric>`, means
            over the maps.
        images: Comparison grids by name, uint8 `(H, W, 3)`; empty when none were due.
        details: What the grids are made of, one by one: `<name>/views`, `<name>/<map>` (prediction beside truth) and
            `<name>/<map>_error`, uint8 `(H, W, 3)`.
    """

    epoch: int
    global_step: int
    metrics: dict[str, float]
    images: dict[str, np.ndarray]
    details: dict[str, np.ndarray] = field(default_factory=dict)


class Observer:
    """Watches a run. Every method may be left out; an exception in one is reported and does not stop the run.

    Called on rank 0 only.
    """

    # Empty methods and not abstract ones: an observer overrides only the events that it is interested in.

    def run_started(self, info: RunInfo) -> None:
        """The run is set up and the first step is next."""

    def step_finished(self, info: StepInfo) -> None:
        """A generator step was launched; called after each one."""

    def metrics_logged(self, info: StepInfo, metrics: dict[str, float]) -> None:
        """Training metrics, every `training.log_every_n_steps` steps.

        Args:
            info: The last step.
            metrics: Means since the last call (`loss/…`, `critic/…`, `grad_norm`), `skipped` steps if there were any,
                the last step's errors (`<map>/mae`, `<map>/ssim`, `normal/angle`) and learning rates (`lr`, and
                `critic_lr` with a critic).
        """

    def epoch_finished(self, summary: EpochSummary) -> None:
        """All steps of an epoch are done."""

    def validation_finished(self, summary: ValidationSummary) -> None:
        """Validation after an epoch is done."""

    def checkpoint_saved(self, path: Path, best: bool) -> None:
        """A checkpoint stands complete at `path`."""

    def run_finished(self, summary: dict[str, float]) -> None:
        """The run ended as planned; `summary` has the best checkpoint's metrics."""

    def run_failed(self, error: BaseException) -> None:
        """The run ended early, by an error or by the user."""


class Crop(NamedTuple):
    """Which part of the texture frame a drawn visit shows, in pixels of the network's input.

    Attributes:
        x: Left edge.
        y: Upper edge.
        side: Side of the crop.
        frame: Side of the whole frame.
        scale: Map pixels along an input pixel.
        photo: Side of the photos that are imitated.
        views: Number of views.
    """

    x: int
    y: int
    side: int
    frame: int
    scale: int
    photo: int
    views: int


class DrawnVisit(NamedTuple):
    """A training visit that was drawn instead of read. Its views are aligned: they are in the crop's frame.

    Attributes:
        material: Name of what it shows, for people.
        views: sRGB-encoded, 0 where a view does not see the crop.
        visible: 255 where the view sees the crop, else 0.
        overview: The whole frame in `OVERVIEW_SIDE` pixels; behind its colours the share of each pixel that the view
            sees, as 0 to 255.
        positions: Camera centres in tile sides, the tile's centre being the origin.
        maps: The true maps of the crop by name, in stored form, uint8 `(C, side · scale, side · scale)`.
    """

    material: str
    # Bytes, as images are read: from here on, drawn visits and read samples take the same way.
    views: UInt8[np.ndarray, "V 3 side side"]
    visible: UInt8[np.ndarray, "V 1 side side"]
    overview: UInt8[np.ndarray, "V 4 o o"]
    positions: Float[np.ndarray, "V 3"]
    maps: dict[str, np.ndarray]


class VisitDrawer:
    """Draws training visits. Asked by several threads at once, for visits in any order.

    Attributes:
        visits: Visits in an epoch.
        share: Share of the visits that are drawn, in [0, 1]; the others show the source's training samples.
        content: Names what visits depend on beside their random numbers, in letters, digits and `-`; the record of a
            run contains it.
        materials: Names of all materials that visits may show, so that an evaluation can tell which of its materials
            the model was trained on; None where the drawer cannot name them.
    """

    visits: int
    # Below 1, the samples that are read keep the network sure of plain surfaces.
    share: float = 1.0
    content: str = ""
    materials: Collection[str] | None = None

    def draw(self, rng: np.random.Generator, crop: Crop) -> DrawnVisit:
        """Draw a visit.

        Args:
            rng: Source of all randomness; a generator in the same state must give the same visit.
            crop: Which part of the frame to show.
        """
        raise NotImplementedError


class SampleSource:
    """A dataset: its samples, and their images by key.

    Images are asked for by several threads at once. What is read is packed and cached by the core, so a source keeps
    nothing itself.
    """

    def samples(self) -> Sequence[Sample[Any]]:
        """List the samples, always in the same order; each has `data.views` views and all four maps.

        Cameras are given when `data.alignment` needs them, and only then.

        Raises:
            DataError: The dataset cannot be used; everything that is wrong with it, at once.
        """
        raise NotImplementedError

    def materials(self, samples: Sequence[Sample[Any]]) -> set[str]:
        """Name all materials of the dataset, those included of which the recipe reads no sample now.

        Validation materials are drawn from them. A run that reads other samples of the same dataset then holds back
        the same materials, so that it may continue from this run's weights.

        Args:
            samples: What `samples` returned.
        """
        # Right for sources that always list every material; one that lists fewer must override this.
        return {sample.material for sample in samples}

    def drawer(self, held_back: Collection[str]) -> VisitDrawer | None:  # noqa: ARG002 - for sources that draw
        """Return what draws training visits instead of reading samples; None, the default, when nothing does.

        Validation always shows samples.

        Args:
            held_back: Materials that are held back for validation, which no visit may show.

        Raises:
            DataError: There is nothing to draw from.
        """
        return None

    def digests(self, keys: Sequence[Hashable]) -> Sequence[str]:
        """Name the content behind keys, such as by a hash of the stored bytes.

        Packs and the record of a run go by it: an image that changes must change its digest, and images that differ
        must have different ones.

        Args:
            keys: Keys of views and maps.

        Returns:
            One text of letters, digits and `-` for each key.
        """
        raise NotImplementedError

    def read_view(self, key: Hashable, size: int) -> UInt8[np.ndarray, "3 size size"]:
        """Read a view, sRGB-encoded, resized to `size`.

        Raises:
            DataError: It is damaged.
        """
        raise NotImplementedError

    def read_map(self, name: str, key: Hashable, size: int) -> UInt8[np.ndarray, "C size size"]:
        """Read a true map in stored form, resized to `size`.

        Stored values 0 to 255 span the map's range in `neuropbr_core.maps`; normals are OpenGL (+Y).

        Args:
            name: Which map it is.
            key: Its key.
            size: Side in pixels.

        Raises:
            DataError: It is damaged.
        """
        raise NotImplementedError


Depth = Literal[8, 16, "exr"]
"""How textures are stored: PNG with 8 or 16 bits in a channel, or OpenEXR with half floats."""

Convention = Literal["opengl", "directx"]
"""Direction of green in normal maps: `opengl` is +Y up, `directx` +Y down."""


@dataclass(frozen=True)
class Channel:
    """One channel of a texture: a channel of a map, or a constant.

    Attributes:
        map: Name of the map; empty for a constant.
        index: Which channel of the map, from 0.
        inverted: Whether 1 - value is stored, such as smoothness for roughness.
        constant: The value where `map` is empty, in [0, 1].
    """

    map: str = ""
    index: int = 0
    inverted: bool = False
    constant: float = 0.0

    def __str__(self) -> str:
        """How a manifest describes it, such as `normal.1`, `1 - roughness.0` or `constant 1`."""
        if not self.map:
            return f"constant {self.constant:g}"
        name = f"{self.map}.{self.index}"
        if self.inverted:
            return f"1 - {name}"
        return name


@dataclass(frozen=True)
class Texture:
    """An image that a package contains.

    The core stores each value as its place in the map's range, 0 to 1: albedo sRGB-encoded, normals as (n + 1) / 2 with
    green as the package's convention demands.

    Attributes:
        stem: Path in the package, with `/` between folders and without a suffix, which depends on the depth.
        role: What it is, such as `base_color` or `occlusion_roughness_metallic`; different for each texture.
        channels: One (grey), three or four channels, in order.
        depth: Depth of this texture; None for the package's.
        normals: Convention of this texture; None for the package's.
    """

    stem: str
    role: str
    channels: tuple[Channel, ...]
    depth: Depth | None = None
    normals: Convention | None = None

    @classmethod
    def of(cls, stem: str, role: str, map_name: str, channels: int = 1) -> "Texture":
        """A texture that holds one map with its channels as they are."""
        return cls(stem, role, tuple(Channel(map_name, index) for index in range(channels)))

    @classmethod
    def height(cls, stem: str, settings: "PackageSettings") -> "Texture":
        """The height map, with 16 bits or half floats: 256 levels of height show as terraces."""
        depth = settings.depth
        if depth == 8:
            depth = 16
        return cls(stem, "height", (Channel("height"),), depth)


@dataclass(frozen=True)
class PackageSettings:
    """What a package is made of, and how.

    Attributes:
        name: Name of the material: letters, digits and `_`, a letter first, so that it may be part of any file's name
            and an identifier in any language.
        maps: Names of the maps: those of `neuropbr_core.maps`, and the derived ones `height`, `ao` (1 is open),
            `cavity` (1 is none) and `edge` (0 is none), each of one channel in [0, 1].
        size: Side of the textures in pixels.
        depth: How textures are stored.
        normals: Convention of normal maps.
        metres: Side of the texture in metres; None when it is not known.
        relief: Height that white in the map `height` is above black, in sides of the texture.
    """

    name: str
    maps: tuple[str, ...]
    size: int
    depth: Depth
    normals: Convention
    metres: float | None
    relief: float

    @property
    def tiling(self) -> float:
        """Repeats of the texture along one unit of texture coordinates, which are metres where `metres` is known."""
        if self.metres is None:
            return 1.0
        return 1 / self.metres


@dataclass(frozen=True)
class Package:
    """A package whose textures are written.

    Attributes:
        settings: What it is made of.
        textures: Its textures by role.
    """

    settings: PackageSettings
    textures: Mapping[str, Texture]

    def depth(self, role: str) -> Depth:
        """Depth of a texture."""
        return self.textures[role].depth or self.settings.depth

    def normals(self, role: str) -> Convention:
        """Convention of a texture that holds normals."""
        return self.textures[role].normals or self.settings.normals

    def file(self, role: str) -> str:
        """Path of a texture in the package, with its suffix."""
        if self.depth(role) == "exr":
            return f"{self.textures[role].stem}.exr"
        return f"{self.textures[role].stem}.png"

    def color_space(self, role: str) -> Literal["srgb", "linear", "data"]:
        """Colour space of a texture's file: `srgb` or, in EXR, `linear` for colour; `data` for everything else."""
        if self.textures[role].channels[0].map != "albedo":
            return "data"
        if self.depth(role) == "exr":
            return "linear"
        return "srgb"


class Packager:
    """Lays out maps as files that another program opens.

    A packager states which textures its target needs; the core writes them, and then asks for the documents beside
    them: materials, import settings, scripts. The core also writes `manifest.json` and moves the finished folder to its
    place, so that a package is complete or absent.

    Attributes:
        depths: How textures may be stored; the first is used unless the user overrides it. 8 and 16 are bits of a
            channel in PNG files, `"exr"` is half floats; there are no other files.
        conventions: Conventions of normal maps that the target can read; the first is its own. `"opengl"` is +Y up,
            `"directx"` +Y down.
    """

    depths: tuple[Depth, ...] = (8, 16, "exr")
    conventions: tuple[Convention, ...] = ("opengl", "directx")

    def requirements(self) -> Availability:
        """Whether this machine can make the package, and what to install if not."""
        return Availability(ok=True)

    def textures(self, settings: PackageSettings) -> Sequence[Texture]:
        """List the textures of a package; `settings.depth` and `settings.normals` are among the allowed ones."""
        raise NotImplementedError

    def write_documents(self, folder: Path, package: Package) -> None:
        """Write everything that is no texture.

        Args:
            folder: The package's folder, in which the textures are already.
            package: Settings and textures.

        Raises:
            PackageError: The target cannot represent the material.
        """
        # A target of images alone has none.
