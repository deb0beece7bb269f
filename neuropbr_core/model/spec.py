"""The description of a generator that is stored beside its weights, and the generator built from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuropbr_core.contracts import Encoder, Fusion
from neuropbr_core.errors import PluginBroken
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.ratios import ratio_channels
from neuropbr_core.reading import DocumentError, convert_json
from neuropbr_core.recipe.sections import ModelSection, Recipe
from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.registry.guarding import blaming_calls

_SIZES = ("views", "image_size", "photo_size", "output_size", "alignment")
"""What a model's description repeats of section `data`: enough to prepare views without the recipe."""

Alignment = Literal["none", "recorded", "estimated"]


@dataclass(frozen=True)
class ModelSpec:
    """A generator's architecture and the input it was trained for.

    Attributes:
        encoder: The encoder component.
        fusion: The fusion component.
        section: The other keys of the recipe's `model`.
        views: Views of a sample in training.
        image_size: Side of the input in pixels.
        photo_size: Side to which photos are fitted before they are aligned, in pixels; that of the input without
            alignment.
        output_size: Side of the predicted maps in pixels.
        alignment: `none`, `recorded` or `estimated`: whether views were warped into the texture frame, and how.
        flash: Whether the photos of training were lit by a flash at the lens; None when the recipe does not tell.
    """

    encoder: Chosen
    fusion: Chosen
    section: ModelSection
    views: int
    image_size: int
    photo_size: int
    output_size: int
    alignment: Alignment
    flash: bool | None = None

    @property
    def aligned(self) -> bool:
        """Whether views are warped into the texture frame."""
        return self.alignment != "none"

    @property
    def in_channels(self) -> int:
        """Channels of the images that the encoder sees."""
        # Red, green and blue; three of a direction; and the channels of ratio images.
        directed = self.section.directed
        return 3 + 3 * directed + ratio_channels(directed) * self.section.ratio_images

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> "ModelSpec":
        """The spec of the model that a recipe trains."""
        data = recipe.data
        facts = {}
        for name in _SIZES:
            facts[name] = getattr(data, name)
        # Captures that were not rendered by the recipe may have any light, and a recipe may render several lights.
        flash = None
        if data.synthesize is not None:
            flashless = [kind == "no_flash" for kind in data.synthesize.kinds]
            if all(flashless) or not any(flashless):
                flash = not flashless[0]
        return cls(recipe.encoder, recipe.fusion, recipe.model, **facts, flash=flash)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        parts = {}
        for part in (self.encoder, self.fusion):
            parts[part.name] = {"use": part.use, **asdict(part.options)}
        plain = asdict(self.section)
        facts = {}
        for name in _SIZES:
            facts[name] = getattr(self, name)
        return {**parts, **plain, **facts, "flash": self.flash}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "ModelSpec":
        """Read what `to_dict` wrote.

        Raises:
            PluginError: The encoder or the fusion block is not installed.
            DocumentError: A key is missing or unknown, a value is impossible, or an option does not fit the installed
                component.
        """
        # A copy, because the caller's document is read again for an error.
        rest = dict(plain)
        encoder = _chosen("encoder", rest.pop("encoder", None))
        fusion = _chosen("fusion", rest.pop("fusion", None))
        facts = {}
        for name in _SIZES:
            facts[name] = rest.pop(name, None)
        facts["flash"] = rest.pop("flash", None)
        sizes = convert_json(facts, _Sizes)
        return cls(encoder, fusion, convert_json(rest, ModelSection), **msgspec.structs.asdict(sizes))


Side = Annotated[int, Meta(ge=16, le=8192)]


class _Sizes(msgspec.Struct):
    """The facts of `_SIZES` and `flash`, with the ranges that recipes have."""

    views: Annotated[int, Meta(ge=1, le=64)]
    image_size: Side
    photo_size: Side
    output_size: Side
    alignment: Alignment
    flash: bool | None = None


def _chosen(kind: str, plain: Any) -> Chosen:
    options = convert_json(plain, dict[str, Any])
    use = options.pop("use", None)
    if not isinstance(use, str):
        raise DocumentError(f"{kind}: names no component with `use`")
    registry = default_registry()
    try:
        return registry.choose(kind, use, convert_json(options, registry.options(kind, use)))
    except DocumentError as error:
        raise DocumentError(f"{kind}.{error}") from None


def build_generator(spec: ModelSpec, *, probe: bool = True) -> Generator:
    """Create the encoder and the fusion block and join them.

    The encoder is run once on a small blank image, so that one whose declared channels or strides are not true is
    refused here, by name, and not later by a shape error inside the decoder.

    Args:
        spec: The architecture.
        probe: Whether the parts are run. A caller that leaves it out calls `probe_parts` later.

    Raises:
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
    """
    encoder = spec.encoder.create(in_channels=spec.in_channels)
    if probe:
        _probe_encoder_of(spec, encoder)
    # Views meet at the coarsest level; finer levels are merged by the generator itself.
    fusion = spec.fusion.create(in_channels=encoder.channels[-1])
    if probe:
        _probe_fusion_of(spec, fusion, encoder)
    return Generator(encoder, fusion, spec.section)


def probe_parts(generator: Generator, spec: ModelSpec) -> None:
    """Run the encoder and the fusion block of a generator that was built without it.

    Raises:
        PluginBroken: One does not return what it declares, or fails.
    """
    _probe_encoder_of(spec, generator.encoder)
    _probe_fusion_of(spec, generator.fusion, generator.encoder)


def _probe_encoder_of(spec: ModelSpec, encoder: Encoder) -> None:
    with blaming_calls(spec.encoder, "its forward pass on a blank image"):
        probe_encoder(encoder, spec.in_channels, str(spec.encoder.declared))


def _probe_fusion_of(spec: ModelSpec, fusion: Fusion, encoder: Encoder) -> None:
    with blaming_calls(spec.fusion, "its forward pass on blank latents"):
        probe_fusion(fusion, encoder.channels[-1], str(spec.fusion.declared))


def probe_as_trained(generator: Generator, spec: ModelSpec, side: int) -> None:
    """Run encoder and fusion block in training mode, on two samples of the views and pixels that they will train on.

    Args:
        generator: A generator on the `meta` device, where neither memory nor running statistics are at stake.
        spec: What it was built from.
        side: Side of the crops that it will be trained on, in pixels.

    Raises:
        PluginBroken: One of them breaks its contract there.
    """
    encoder = generator.encoder
    stride = encoder.strides[-1]
    # Batch norm has no spread over one pixel of one image, which a crop as small as the stride has in its last feature.
    samples = 2
    with blaming_calls(spec.encoder, f"its forward pass in training, on a blank image of {side} pixels,"):
        author = str(spec.encoder.declared)
        probe_encoder(encoder, spec.in_channels, author, (side, side), images=samples * spec.views, training=True)
    with blaming_calls(spec.fusion, f"its forward pass in training, on the blank latents of {spec.views} views,"):
        size = (side // stride, side // stride)
        author = str(spec.fusion.declared)
        channels = encoder.channels[-1]
        probe_fusion(generator.fusion, channels, author, size, samples=samples, views=spec.views, training=True)


def probe_encoder(
    encoder: Encoder,
    in_channels: int,
    author: str,
    size: tuple[int, int] | None = None,
    *,
    images: int = 1,
    training: bool = False,
) -> None:
    """Check that an encoder returns what it declares.

    Args:
        encoder: The encoder.
        in_channels: Channels of its images.
        author: The component with its distribution and version, for messages.
        size: Height and width of the images; default: a small one of unequal sides.
        images: How many there are.
        training: Whether to run it in training mode, which moves running statistics.

    Raises:
        PluginBroken: It does not; the message has what it declares and what it returned.
    """
    # Two pixels at the coarsest level, so that every stride can be told, and three along the other side: a feature
    # whose sides are exchanged, or that is square whatever the image is, shows.
    height, width = size or (2 * encoder.strides[-1], 3 * encoder.strides[-1])
    blank = _blank(encoder, (images, in_channels, height, width))
    features = _run(encoder, blank, training=training, author=author)
    declared = [
        (images, channels, height // stride, width // stride)
        for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    returned = _shapes(features)
    if returned != declared:
        raise PluginBroken(
            f"{author} is broken: it declares channels {tuple(encoder.channels)} and strides {tuple(encoder.strides)}, "
            f"so features of {declared}, but returned {returned} for an image of {height}×{width} pixels; report this "
            f"to the authors of its package"
        )
    for feature in features:
        _require_numbers(feature, author)
    _require_gradients(encoder, features[-1], author)


def probe_fusion(
    fusion: Fusion,
    in_channels: int,
    author: str,
    size: tuple[int, int] = (4, 6),
    *,
    samples: int = 1,
    views: int = 2,
    training: bool = False,
) -> None:
    """Check that a fusion block joins views into one latent of the channels that it declares.

    Args:
        fusion: The fusion block.
        in_channels: Channels of its latents.
        author: The component with its distribution and version, for messages.
        size: Height and width of the latents.
        samples: How many samples there are.
        views: How many views each sample has.
        training: Whether to run it in training mode.

    Raises:
        PluginBroken: It does not.
    """
    latents = _blank(fusion, (samples, views, in_channels, *size))
    # With and without the knowledge that everything is visible.
    for visible in (torch.ones_like(latents[:, :, :1]), None):
        fused = _run(fusion, latents, visible, training=training, author=author)
        returned = _shapes([fused])[0]
        declared = (samples, fusion.out_channels, *size)
        if returned != declared:
            raise PluginBroken(
                f"{author} is broken: it must return a latent of {declared} for {views} views of "
                f"{(in_channels, *size)}, but returned {returned}; report this to the authors of its package"
            )
        _require_numbers(fused, author)
        _require_gradients(fusion, fused, author)


def _blank(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Zeros where the module's parameters are."""
    device = next((parameter.device for parameter in module.parameters()), torch.empty(0).device)
    return torch.zeros(shape, device=device)


def _run(module: nn.Module, *inputs: Tensor | None, training: bool, author: str) -> Any:
    """Run a module in a mode, and leave it in the mode that it was in.

    Raises:
        PluginBroken: It wrote into its inputs, which the generator and the gradients still need.
    """
    before = [changes_in_place(value) for value in inputs]
    was_training = module.training
    try:
        outputs = module.train(training)(*inputs)
    finally:
        module.train(was_training)
    if [changes_in_place(value) for value in inputs] != before:
        raise PluginBroken(
            f"{author} is broken: its forward pass changes its inputs in place, which others still read; report this "
            f"to the authors of its package"
        )
    return outputs


def changes_in_place(value: Tensor | None) -> int | None:
    """How often a tensor was changed in place so far; None where nobody counts."""
    if value is None or value.is_inference():
        return None
    return value._version  # noqa: SLF001 - the counter that autograd itself goes by


def _shapes(features: Any) -> list[Any]:
    """Shapes of tensors; the type of whatever is none."""
    if not isinstance(features, list | tuple):
        return [f"a {type(features).__name__}"]
    shapes: list[Any] = []
    for feature in features:
        if isinstance(feature, Tensor):
            shapes.append(tuple(feature.shape))
        else:
            shapes.append(f"a {type(feature).__name__}")
    return shapes


def _require_numbers(output: Tensor, author: str) -> None:
    """Refuse an output of another type than its input, and one of a blank image that is not finite."""
    if output.dtype != torch.float32:
        raise PluginBroken(
            f"{author} is broken: its output has the type {output.dtype}, where torch.float32 is needed; report this "
            f"to the authors of its package"
        )
    # Shapes alone have no values.
    if not output.is_meta and not bool(output.isfinite().all()):
        raise PluginBroken(
            f"{author} is broken: its output for a blank image is not finite; report this to the authors of its package"
        )


def _require_gradients(module: nn.Module, output: Tensor, author: str) -> None:
    """Refuse a module whose parameters learn, and whose output no gradient flows from."""
    learns = any(parameter.requires_grad for parameter in module.parameters())
    if learns and torch.is_grad_enabled() and not output.requires_grad:
        raise PluginBroken(
            f"{author} is broken: its output is detached from its parameters, so it would never learn; report this to "
            f"the authors of its package"
        )


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules built here are on the `meta` device: shapes without memory, and no random numbers are drawn for them."""
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Leaves out the filling of tensors with random numbers; on `meta` it costs seconds of imports for nothing."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor as it is instead of filling it; call everything else."""
        # What the initialisers of `torch.nn.init` and the constructors of layers end in.
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **kwargs or {})


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, trainable or not."""
    return sum(parameter.numel() for parameter in module.parameters())
