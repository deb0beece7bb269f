"""What to change when memory runs out, computed from the recipe at hand."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from neuropbr_core.recipe.sections import Recipe

_SHOWN = 3
_PHRASES = ("out of memory", "can't allocate memory", "not enough memory")
_SMALLEST_CROP = 64
_PARTS = ("encoder", "fusion", "decoder")


@dataclass(frozen=True)
class Advice:
    """A setting that needs less memory.

    Attributes:
        left: Share of the activations' memory that is left with it, roughly.
        text: The setting with its present value, and what it costs.
    """

    left: float
    text: str


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; only CUDA's has a type of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _PHRASES)


def out_of_memory(error: BaseException, recipe: Recipe, device: torch.device, where: str) -> str:
    """The message for a run whose memory ran out."""
    best = sorted(advice(recipe, device), key=lambda found: found.left)[:_SHOWN]
    lines = [f"  {found.text}" for found in best]
    if device.type == "cuda":
        lines.append(
            "If much of the memory is reserved but unused (fragmentation), set the environment variable "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True as well."
        )
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    said = "\n".join(lines)
    return f"out of memory on {device} {where} ({reason})\nWhat helps most here, then continue with --resume:\n{said}"


def advice(recipe: Recipe, device: torch.device) -> Iterator[Advice]:
    """Settings that need less memory than the recipe's, in no order."""
    training, data = recipe.training, recipe.data
    if (batch := training.batch_size) > 1:
        half = batch // 2
        steps = training.accumulate * -(-batch // half)
        yield Advice(
            half / batch,
            f"training.batch_size={half} (now {batch}) with training.accumulate={steps} (now {training.accumulate}): "
            f"the same gradients, except that batch norm sees fewer samples",
        )
    if (crop := data.crop_size or data.image_size) > _SMALLEST_CROP:
        now = data.crop_size or f"none, so {crop}"
        yield Advice(0.25, f"data.crop_size={crop // 2} (now {now}): a quarter of the pixels in a step")
    if len(training.activation_checkpointing) < len(_PARTS):
        now = ", ".join(training.activation_checkpointing)
        yield Advice(
            0.5,
            f"training.activation_checkpointing=[{', '.join(_PARTS)}] (now [{now}]): the same training in a third more "
            f"time",
        )
    if training.precision == "fp32" and device.type == "cuda":
        yield Advice(0.55, "training.precision=bf16 (now fp32): half the bytes of most activations")
    if data.views > 1:
        less = max(1, data.views - 1)
        yield Advice(less / data.views, f"data.views={less} (now {data.views}): less to learn from")
    yield Advice(0.8, f"a smaller model.encoder (now {recipe.encoder.use}) or model.fusion (now {recipe.fusion.use})")
