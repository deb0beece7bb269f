"""The sections of a recipe that the core itself reads, and the recipe they make up.

These dataclasses are the source of the JSON Schema: types, ranges, defaults and descriptions are written here only.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from neuropbr_core.materials.capture_kinds import CaptureKind
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.shipped import SCHEME, shipped_model

Fraction = Annotated[float, Meta(ge=0, le=1)]
LARGEST_SEED = 2**32 - 1
"""NumPy's and Lightning's seeds have 32 bits."""

Count = Annotated[int, Meta(ge=1, le=65536)]


@dataclass(frozen=True)
class Synthesize:
    """Captures to render before training when `data.root` does not hold them yet."""

    materials: Annotated[
        str,
        Meta(description="Folder of material folders; `neuropbr:examples/materials` is the shipped one."),
    ]
    samples: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Samples to render, spread evenly over the materials.")
    ] = 64
    size: Annotated[int, Meta(ge=32, le=4096, description="Side of the stored maps, in pixels.")] = 256
    view_size: Annotated[
        Annotated[int, Meta(ge=32, le=8192)] | None,
        Meta(description="Side of the rendered views, in pixels; default: the side of the maps."),
    ] = None
    seed: Annotated[int, Meta(ge=0, le=LARGEST_SEED, description="Seed of cameras, light, exposure and artefacts.")] = 0
    environments: Annotated[
        str | None,
        Meta(description="Folder of equirectangular Radiance maps (.hdr) to light with; default: procedural light."),
    ] = None
    kinds: Annotated[
        tuple[CaptureKind, ...],
        Meta(
            min_length=1,
            description="Kinds of capture, one after the other, each for as many samples as there are materials: "
            "`flash` at the lens, `auto` (each photo exposed alone), `offset` (flash beside the lens), `no_flash`, "
            "`far` (from 1.8 to 3 tile sides away).",
        ),
    ] = ("flash",)
    dirty_fraction: Annotated[
        Fraction,
        Meta(description="Share of the samples that get a dirty rendering too, beside the clean one in `input/clean`."),
    ] = 0.0
    procedural: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Procedural materials to render beside those of the folder; never held back for validation, "
            "unless `val_materials` names them.",
        ),
    ] = 0


@dataclass(frozen=True)
class Jitter:
    """Random errors of each training view, as real captures have them."""

    exposure: Annotated[float, Meta(ge=0, le=2, description="Largest change of a view's exposure, in stops.")] = 0.0
    color: Annotated[
        float, Meta(ge=0, le=0.5, description="Largest change of each of a view's colour channels, as a share of it.")
    ] = 0.0
    alignment: Annotated[
        float,
        Meta(
            ge=0,
            le=16,
            description="Largest shift of the corners of each view but the first, in pixels at `image_size` scale "
            "(needs aligned views).",
        ),
    ] = 0.0


@dataclass(frozen=True)
class Data:
    """Where the samples are and how they are cut."""

    root: Annotated[
        str | None, Meta(description="Dataset folder with `input/` and `output/`, relative to the current directory.")
    ] = None
    input_dir: Annotated[str | None, Meta(description="Folder of the views; default `ROOT/input`.")] = None
    output_dir: Annotated[str | None, Meta(description="Folder of the true maps; default `ROOT/output`.")] = None
    metadata: Annotated[
        str | None, Meta(description="Sample-to-material JSON; default `INPUT_DIR/render_metadata.json`.")
    ] = None
    synthesize: Synthesize | None = None
    views: Annotated[int, Meta(ge=1, le=64, description="Views read of each sample.")] = 3
    random_views: Annotated[
        bool,
        Meta(description="Train half of the steps on all views, the others on a random number, always with the first."),
    ] = False
    image_size: Annotated[int, Meta(ge=16, le=8192, description="Side of the network's input, in pixels.")] = 2048
    view_size: Annotated[
        Annotated[int, Meta(ge=16, le=8192)] | None,
        Meta(
            description="Side at which photos are read before they are aligned, in pixels; larger ones lose less "
            "detail. Default: `image_size`."
        ),
    ] = None
    output_size: Annotated[
        int,
        Meta(
            ge=16,
            le=8192,
            description="Side of the predicted maps; must be `image_size` times the decoder's super-resolution.",
        ),
    ] = 2048
    crop_size: Annotated[
        Annotated[int, Meta(ge=16, le=8192)] | None,
        Meta(description="Train on random crops of this side (at `image_size` scale); default: whole frames."),
    ] = None
    repeats: Annotated[
        int,
        Meta(ge=1, le=100_000, description="Times that an epoch visits each training sample, each with its own crop."),
    ] = 1
    oversample: Annotated[
        dict[str, Annotated[int, Meta(ge=0, le=10_000)]],
        Meta(
            description="How many times an epoch goes through the samples of some materials, by pattern (`*` is any "
            "text; the last pattern that fits counts): 3 shows them three times as often, 0 leaves them out."
        ),
    ] = field(default_factory=dict)
    augment: Annotated[
        bool, Meta(description="Random flips and quarter-turns of the texture; normals are turned with it.")
    ] = False
    jitter: Jitter = field(default_factory=Jitter)
    render_curriculum: Annotated[
        Literal[0, 1, 2, "clean", "mixed", "dirty", "auto"],
        Meta(
            description="0 clean only, 1 all on disk (a sample in both folders counts for each), 2 dirty only; `auto`: "
            "dirty only where there are dirty renders, otherwise clean ones, with a line that says so."
        ),
    ] = 0
    use_dirty: Annotated[bool, Meta(description="Older name for `render_curriculum: 2`.")] = False
    val_ratio: Annotated[float, Meta(ge=0, lt=1, description="Share of the materials held back for validation.")] = 0.1
    val_materials: Annotated[
        tuple[str, ...], Meta(description="Hold back exactly these materials, instead of a seeded share.")
    ] = ()
    groups: Annotated[
        dict[str, tuple[str, ...]],
        Meta(description="Look-alikes that stay on one side of the split: materials by a name for their group."),
    ] = field(default_factory=dict)
    alignment: Annotated[
        Literal["none", "recorded", "estimated"],
        Meta(
            description="`recorded` warps each view into the texture frame with `input/cameras.json`; `estimated` "
            "registers the photos of a sample to its first one, taken from straight above; `none` does not warp."
        ),
    ] = "none"
    num_workers: Annotated[
        Annotated[int, Meta(ge=0, le=1024)] | None,
        Meta(description="Threads that load batches ahead; default: one per core for image files, 0 for a pack."),
    ] = None
    pack: Annotated[
        str,
        Meta(
            description="Decode images once into memory-mapped files: `auto` into `.pack` in the dataset's folder "
            "where there is room, a path into that folder, `off` never."
        ),
    ] = "auto"

    @property
    def photo_size(self) -> int:
        """Side at which photos are read."""
        return self.view_size or self.image_size

    @property
    def aligned(self) -> bool:
        """Whether views are warped into the texture frame, so that samples have cameras."""
        return self.alignment != "none"

    @property
    def scale(self) -> int:
        """Pixels of a map along one pixel of the input."""
        return self.output_size // self.image_size

    @property
    def pack_folder(self) -> Path | None:
        """Folder of packed images, which need not exist; None when packing is off or the section names no dataset."""
        if self.pack == "off":
            return None
        if self.pack != "auto":
            return Path(self.pack)
        home = self.root or self.input_dir
        if home is None:
            return None
        return Path(home) / ".pack"

    @property
    def crop_side(self) -> int:
        """Side of the crops that training sees, in pixels of the input: the frame's where no crops are cut."""
        return self.crop_size or self.image_size

    @property
    def crop_output_size(self) -> int:
        """Side of the predicted maps in training: the crop's, scaled like the frame."""
        return self.crop_side * self.output_size // self.image_size


@dataclass(frozen=True)
class Normalization:
    """Mean and deviation that the model subtracts from and divides views by (sRGB-encoded, in [0, 1])."""

    mean: Annotated[
        tuple[float, float, float],
        Meta(description="Mean of each colour channel, which the model subtracts from the views in [0, 1]."),
    ] = (0.485, 0.456, 0.406)  # ImageNet's, which pretrained encoders expect
    std: Annotated[
        tuple[Annotated[float, Meta(gt=0)], Annotated[float, Meta(gt=0)], Annotated[float, Meta(gt=0)]],
        Meta(description="Standard deviation of each channel, by which the model then divides."),
    ] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Decoder:
    """The UNet decoder: a trunk that all maps share, and one head a map."""

    channels: Annotated[
        tuple[Count, ...] | None,
        Meta(description="Channels of each upsampling step, coarsest first; default: halving from 512, at least 32."),
    ] = None
    head_channels: Annotated[int, Meta(ge=1, le=65536, description="Hidden channels of each map's head.")] = 32
    norm: Annotated[Literal["batch", "group", "none"], Meta(description="Normalisation in the trunk.")] = "batch"
    super_resolution: Annotated[
        Literal[0, 2, 4], Meta(description="Upscale the trunk's features by this factor before the heads; 0 is off.")
    ] = 0
    global_path: Annotated[
        bool, Meta(description="Add statistics of the whole frame to every pixel at the bottleneck.")
    ] = False


@dataclass(frozen=True)
class ModelSection:
    """The keys of `model` beside `encoder` and `fusion`."""

    decoder: Decoder = field(default_factory=Decoder)
    normalization: Normalization = field(default_factory=Normalization)
    view_conditioning: Annotated[
        Literal["none", "direction"],
        Meta(description="`direction` gives each pixel the direction to camera and flash (needs aligned views)."),
    ] = "none"
    ratio_images: Annotated[
        bool,
        Meta(description="Also feed each view's logarithmic ratio to the views' mean: albedo cancels, relief stays."),
    ] = False
    reflectance_profile: Annotated[
        bool,
        Meta(
            description="Give every pixel how much the whole frame reflects at each angle to the flash, which "
            "distinguishes metal from the rest and rough from smooth (needs `view_conditioning: direction`)."
        ),
    ] = False
    skip_merge: Annotated[
        Literal["mean", "statistics"],
        Meta(description="How skips of several views join: visible-weighted mean, or mean, maximum and deviation."),
    ] = "mean"
    albedo: Annotated[
        Literal["direct", "residual"],
        Meta(description="`residual` predicts albedo as a change of the median of the aligned views."),
    ] = "direct"

    @property
    def directed(self) -> bool:
        """Whether the model reads the direction to camera and flash."""
        return self.view_conditioning == "direction"


@dataclass(frozen=True)
class Optimizer:
    """Optimiser and learning-rate schedule of the generator and of the critics."""

    name: Annotated[Literal["adam", "adamw", "sgd"], Meta(description="Optimiser of both.")] = "adamw"
    # Critics learn four times as fast, so that the generator meets a useful opponent after one step of each.
    # Source: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule"; the ratio is that of SAGAN.
    lr: Annotated[float, Meta(gt=0, le=1000, description="Learning rate of the generator.")] = 1e-4
    critic_lr: Annotated[float, Meta(gt=0, le=1000, description="Learning rate of the critics.")] = 4e-4
    betas: Annotated[
        tuple[Annotated[float, Meta(ge=0, lt=1)], Annotated[float, Meta(ge=0, lt=1)]],
        Meta(description="Adam's decay rates."),
    ] = (0.9, 0.999)
    momentum: Annotated[float, Meta(ge=0, lt=1, description="Momentum of `sgd`.")] = 0.9
    weight_decay: Annotated[float, Meta(ge=0, le=1000, description="Weight decay.")] = 0.01
    scheduler: Annotated[
        Literal["cosine", "step", "plateau", "none"], Meta(description="Schedule after the warm-up.")
    ] = "cosine"
    min_lr: Annotated[float, Meta(ge=0, le=1000, description="Lowest learning rate of `cosine` and `plateau`.")] = 1e-6
    warmup_epochs: Annotated[float, Meta(ge=0, le=1_000_000, description="Epochs of linear warm-up.")] = 5
    step_epochs: Annotated[int, Meta(ge=1, le=1_000_000, description="`step`: epochs between two reductions.")] = 30
    gamma: Annotated[float, Meta(gt=0, lt=1, description="`step` and `plateau`: factor of a reduction.")] = 0.1
    patience: Annotated[
        int, Meta(ge=0, le=1_000_000, description="`plateau`: epochs without improvement before a reduction.")
    ] = 10


@dataclass(frozen=True)
class Training:
    """Length, device and bookkeeping of the run."""

    epochs: Annotated[int, Meta(ge=1, le=1_000_000, description="Passes over the training set.")] = 100
    batch_size: Annotated[
        Annotated[int, Meta(ge=1, le=65536)] | Literal["auto"],
        Meta(description="Samples in a batch, on each device; `auto` finds the most that fit into its memory."),
    ] = 4
    accumulate: Annotated[
        int,
        Meta(
            ge=1,
            le=65536,
            description="Batches whose gradients add up to one step: a larger batch in the memory of one.",
        ),
    ] = 1
    effective_batch: Annotated[
        Annotated[int, Meta(ge=1, le=65536)] | None,
        Meta(
            description="With `batch_size: auto`, samples of one step over all devices: `accumulate` follows from it. "
            "Default: whatever `accumulate` times the batch gives."
        ),
    ] = None
    memory_check: Annotated[
        Literal["refuse", "warn", "off"],
        Meta(
            description="When a step needs more memory than the device has, as counted from the networks before the "
            "first step: refuse the run, warn, or do not count."
        ),
    ] = "refuse"
    seed: Annotated[int, Meta(ge=0, le=LARGEST_SEED, description="Seed of weights, split, order and augmentation.")] = (
        42
    )
    device: Annotated[
        str, Meta(description="`auto` (CUDA, then MPS, then CPU), `cpu`, `cuda`, one GPU such as `cuda:1`, or `mps`.")
    ] = "auto"
    devices: Annotated[
        int, Meta(ge=1, le=1024, description="Processes on this machine, each with a device and its own batches.")
    ] = 1
    strategy: Annotated[
        Literal["auto", "ddp", "fsdp"],
        Meta(description="With several devices: `ddp` copies the weights to each, `fsdp` shards them; `auto` is ddp."),
    ] = "auto"
    sync_batch_norm: Annotated[
        bool, Meta(description="Batch-norm statistics over the batches of all devices (CUDA).")
    ] = False
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Meta(description="Arithmetic of the network; losses are always float32. `auto` is bf16 on CUDA, else fp32."),
    ] = "auto"
    activation_checkpointing: Annotated[
        tuple[Literal["encoder", "fusion", "decoder"], ...],
        Meta(description="Parts whose activations are computed again in the backward pass: less memory, more time."),
    ] = ()
    compile: Annotated[
        bool | Literal["auto"],
        Meta(
            description="Compile encoder, fusion and decoder with `torch.compile`; plain where that fails. `auto` "
            "compiles on CUDA where a compiler works."
        ),
    ] = False
    channels_last: Annotated[
        bool | Literal["auto"],
        Meta(description="Keep the channels of a pixel side by side in convolutions; `auto` does so on CUDA."),
    ] = "auto"
    fused_losses: Annotated[
        Literal["auto", "off"],
        Meta(
            description="Compute the losses that allow it, and the logged errors, in one pass over the maps (Triton on "
            "CUDA); `off` computes each by itself. Results agree but for rounding."
        ),
    ] = "auto"
    grad_clip_norm: Annotated[float, Meta(ge=0, le=1e30, description="Largest gradient norm; 0 does not clip.")] = 1.0
    ema: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | None,
        Meta(
            description="Decay of a moving average of the weights, such as 0.999; validation, checkpoints and "
            "exports then use the average. No average by default."
        ),
    ] = None
    on_nonfinite: Annotated[
        Literal["stop", "skip"],
        Meta(
            description="When a loss is not finite: `stop` the run, or `skip` that step's updates and count it (which "
            "waits for the device in every step)."
        ),
    ] = "stop"
    max_skips: Annotated[
        int, Meta(ge=1, le=1_000_000, description="`skip`: skipped steps in a row after which the run stops.")
    ] = 10
    runs_dir: Annotated[str, Meta(description="Folder of the run folders.")] = "runs"
    init_from: Annotated[
        str | None,
        Meta(
            description="Start from these weights instead of random or ImageNet ones: a run's folder (its best "
            "checkpoint), a checkpoint's folder, or a model's file such as `model.safetensors`."
        ),
    ] = None
    resume_from: Annotated[
        str | None,
        Meta(
            description="Continue the run of this name: `latest`, or an earlier checkpoint such as `epoch_0050` or "
            "`best`; later checkpoints are kept aside. Default: start a run."
        ),
    ] = None
    log_every_n_steps: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000_000,
            description="Steps between two rows of training metrics, counted over all epochs of the run.",
        ),
    ] = 10
    log_images_every_n_epochs: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Epochs between two comparison grids.")
    ] = 5
    validate_every_n_epochs: Annotated[int, Meta(ge=1, le=1_000_000, description="Epochs between two validations.")] = 1
    save_every_n_epochs: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Epochs between two periodic checkpoints.")
    ] = 5
    save_every_n_steps: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000)] | None,
        Meta(description="Steps between two checkpoints within an epoch, of which the newest is kept; null for none."),
    ] = None
    save_best_only: Annotated[bool, Meta(description="Keep no periodic checkpoints.")] = False

    @property
    def samples(self) -> int:
        """Samples in a batch.

        Raises:
            ValueError: `batch_size` is `auto` and has not been settled for a device.
        """
        if self.batch_size == "auto":
            raise ValueError("training.batch_size: auto is settled when the device is known")
        return self.batch_size

    def keeps(self, epoch: int) -> bool:
        """Whether the checkpoint of an epoch is periodic, and so is kept.

        Args:
            epoch: The epoch, from 1.
        """
        return not self.save_best_only and epoch % self.save_every_n_epochs == 0


@dataclass(frozen=True)
class Teacher:
    """The trained generator that a student learns from; name it by exactly one of `run`, `checkpoint` and `recipe`."""

    run: Annotated[str | None, Meta(description="Folder of the teacher's run; its best checkpoint is the teacher.")] = (
        None
    )
    checkpoint: Annotated[
        str | None,
        Meta(
            description="Folder of one checkpoint, whose run's record lists its training materials; or a model that "
            "ships, such as `neuropbr:flash-3`."
        ),
    ] = None
    recipe: Annotated[
        str | None,
        Meta(
            description="The teacher's recipe: a path, relative to the file that contains it, or `neuropbr:NAME`. Its "
            "run is in the student's `training.runs_dir` and is trained first when it is missing, on the student's "
            "data and device."
        ),
    ] = None
    overrides: Annotated[
        tuple[str, ...], Meta(description="Changes of the teacher's `recipe`, each as after `--set`.")
    ] = ()
    mode: Annotated[
        Literal["shards", "online"],
        Meta(
            description="`shards` reads predictions of whole frames, stored once; `online` runs the teacher in "
            "every step, on the student's crop."
        ),
    ] = "shards"
    shards: Annotated[
        str | None,
        Meta(
            description="Folder of the predictions; missing ones are predicted first. Default: `shards-SIZE` in the "
            "teacher's run, SIZE being `data.output_size`; a model that ships has none."
        ),
    ] = None

    @property
    def place(self) -> Path:
        """Folder of a teacher that is trained already: one that is named by `run` or `checkpoint`.

        Raises:
            NeuroPBRError: No model of that name ships.
        """
        if self.checkpoint is not None and self.checkpoint.startswith(SCHEME):
            return shipped_model(self.checkpoint.removeprefix(SCHEME)).folder
        return Path(self.run or self.checkpoint or "")


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Attributes:
        name: The recipe file's stem; the default name of its runs.
        data: The other keys of section `data`.
        source: Component at `data.source`.
        encoder: Component at `model.encoder`.
        fusion: Component at `model.fusion`.
        model: The other keys of section `model`.
        teacher: Section `teacher`; None for a generator that learns from true maps alone.
        losses: Components of section `losses` by instance name; `entry` is a `LossEntryOptions`.
        optimizer: Section `optimizer`.
        training: Section `training`.
        observers: Components of section `observers` by instance name.
        export: Components of section `export` by instance name.
        tree: The resolved recipe as plain data: what `recipe.yaml` in a run holds, every default written out and
            every `use` qualified.
    """

    name: str
    data: Data
    source: Chosen
    encoder: Chosen
    fusion: Chosen
    model: ModelSection
    teacher: Teacher | None
    losses: dict[str, Chosen]
    optimizer: Optimizer
    training: Training
    observers: dict[str, Chosen]
    export: dict[str, Chosen]
    tree: dict[str, Any]

    @property
    def components(self) -> list[Chosen]:
        """All components that the recipe uses."""
        components = [self.source, self.encoder, self.fusion]
        for section in (self.losses, self.observers, self.export):
            components.extend(section.values())
        return components

    @property
    def has_online_teacher(self) -> bool:
        """Whether a teacher runs beside the student in every step, instead of predictions being stored."""
        return self.teacher is not None and self.teacher.mode == "online"
