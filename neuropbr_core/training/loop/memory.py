"""What to change when memory runs out, computed from the recipe at hand."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.memory import memory_ran_out
from neuropbr_core.model.cost import OTHER, PARTS, feature_bytes, saved_bytes
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.spec import ModelSpec, build_generator, unfilled
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.training.loop.networks import check_networks

_SHOWN = 3
_SMALLEST_CROP = 64
_PARTS = ("encoder", "fusion", "decoder")


@dataclass(frozen=True)
class Advice:
    """A setting that needs less memory.

    Attributes:
        left: Share of the activations' memory that is left with it.
        text: The setting with its present value, and what it costs.
    """

    left: float
    text: str

    def __str__(self) -> str:
        """The setting and what it leaves."""
        return f"{self.text} (leaves {self.left:.0%} of the activations)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; only CUDA's has a type of its own."""
    # CPU allocators and MPS raise a plain RuntimeError, so its text decides. Other types with such a text are not
    # PyTorch's: the loop must not advise a smaller batch for them.
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | MemoryError) and memory_ran_out(error)


def reason(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def out_of_memory(error: BaseException, where: str, settings: Iterable[Advice], device: torch.device) -> str:
    """The message for a run whose memory ran out.

    Args:
        error: What was raised.
        where: What the run was doing.
        settings: Settings that need less memory; the best are named.
        device: Where memory ran out.
    """
    lines = listed(settings)
    first = f"out of memory on {device} {where} ({reason(error)})"
    return "\n".join([first, "What helps most here, then continue with --resume:", *lines])


def listed(settings: Iterable[Advice]) -> list[str]:
    """The settings that save most, as lines of a message."""
    # Few, and the best first: the reader will try the first of them.
    best = sorted(settings, key=lambda setting: setting.left)[:_SHOWN]
    return [f"  {setting}" for setting in best]


def advice(recipe: Recipe, device: torch.device, teacher: ModelSpec | None = None) -> Iterator[Advice]:
    """Settings that the recipe can take and with which a step needs less memory, in no order.

    Args:
        recipe: The recipe.
        device: Where memory is short.
        teacher: What the recipe's teacher is built from, when it has one: an online teacher must take the crops too.
    """
    training = recipe.training
    data = recipe.data
    kept, features = _kept(recipe)
    whole = sum(kept.values())
    if training.samples > 1:
        yield _smaller_batch(training.samples, training.accumulate)
    crop = _smaller_crop(recipe, teacher)
    if crop is not None:
        left = sum(_kept(crop)[0].values()) / whole
        now = data.crop_size or f"none, so {data.image_size}"
        yield Advice(left, f"data.crop_size={crop.data.crop_size} (now {now}): a part of the frame in each step")
    if len(training.activation_checkpointing) < len(_PARTS):
        now = ", ".join(training.activation_checkpointing)
        setting = f"training.activation_checkpointing=[{', '.join(_PARTS)}]"
        before = peak(kept, training.activation_checkpointing, features=features)
        left = peak(kept, _PARTS, features=features) / before
        yield Advice(left, f"{setting} (now [{now}]): the same training in a third more time")
    yield from _half_precision(recipe, device)
    part = max(("encoder", "fusion"), key=lambda name: kept[name])
    now = getattr(recipe, part).use
    # Half of what the heavier of the two keeps would be left.
    yield Advice(1 - kept[part] / whole / 2, f"a model.{part} half as heavy (now {now})")


def validation_advice(recipe: Recipe, device: torch.device) -> Iterator[Advice]:
    """Settings with which validation needs less memory, in no order: it predicts whole frames, and keeps nothing."""
    data = recipe.data
    stride = _generator(recipe).encoder.strides[-1]
    if recipe.training.samples > 1:
        yield _smaller_batch(recipe.training.samples, recipe.training.accumulate)
    yield from _half_precision(recipe, device)
    side = data.image_size // (2 * stride) * stride  # about half, and a multiple of the stride
    if side >= _SMALLEST_CROP:
        sizes = f"data.image_size={side} with data.output_size={side * data.scale}"
        yield Advice(
            (side / data.image_size) ** 2, f"{sizes} (now {data.image_size} and {data.output_size}): smaller maps"
        )


def _half_precision(recipe: Recipe, device: torch.device) -> Iterator[Advice]:
    if recipe.training.precision == "fp32" and device.type == "cuda":
        # Not half: losses, statistics and the weights themselves stay in float32.
        yield Advice(0.55, "training.precision=bf16 (now fp32): half the bytes of most activations")


def _smaller_batch(batch: int, accumulate: int) -> Advice:
    half = batch // 2
    # Rounded up, so that a step sees at least as many samples as before.
    steps = accumulate * -(-batch // half)
    return Advice(
        half / batch,
        f"training.batch_size={half} (now {batch}) with training.accumulate={steps} (now {accumulate}): the same "
        f"gradients, except that batch norm sees fewer samples",
    )


def _smaller_crop(recipe: Recipe, teacher: ModelSpec | None) -> Recipe | None:
    """The recipe with crops of about half the side, if encoder, critics and teacher take them."""
    stride = _generator(recipe).encoder.strides[-1]
    side = recipe.data.crop_side // (2 * stride) * stride
    if side < _SMALLEST_CROP:
        return None
    # A critic may need a larger crop than the encoder, which building it tells.
    smaller = replace(recipe, data=replace(recipe.data, crop_size=side))
    try:
        check_networks(smaller, teacher)
    except NeuroPBRError:
        return None
    return smaller


def _kept(recipe: Recipe) -> tuple[Mapping[str, int], int]:
    """Bytes that a sample's forward pass keeps, by part, and those of what the encoder hands on.

    A third each, and nothing handed on, where a part cannot be run without values.
    """
    data = recipe.data
    try:
        generator = _generator(recipe)
        kept = saved_bytes(generator, ModelSpec.from_recipe(recipe), data.crop_side)
        return kept, feature_bytes(generator, data.views, data.crop_side)
    except Exception:  # a component may raise what it likes, and memory must be spoken of all the same
        return Counter(dict.fromkeys(_PARTS, 1)), 0


def _generator(recipe: Recipe) -> Generator:
    with unfilled():  # shapes only: this is asked when no memory is left for weights
        return build_generator(ModelSpec.from_recipe(recipe))


def peak(kept: Mapping[str, int], parts: Collection[str], *, features: int, losses: int = 0) -> int:
    """Bytes of activations at the worst moment of a step.

    It is either between the passes, when the losses have been computed, or in the backward pass, when one part is
    computed again: what is behind it in the network has been given back then.

    Args:
        kept: Bytes that a forward pass keeps, by part.
        parts: Parts that are computed again in the backward pass.
        features: Bytes of what the encoder hands on; it stays where parts are computed again from it, and later its
            gradients take its place.
        losses: Bytes of what losses keep.
    """
    between = losses
    before = kept.get(OTHER, 0)
    again = 0
    if parts:
        between += features
    for part in PARTS:
        size = kept.get(part, 0)
        if part in parts:
            again = max(again, before + size + features)
        else:
            before += size
    return max(before + between, again)
