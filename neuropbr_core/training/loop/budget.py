"""What a training step needs of a device's memory, counted before the first step, and the batch that fits into it."""

from dataclasses import dataclass, replace

import torch

from neuropbr_core.errors import RunError
from neuropbr_core.memory import free_memory
from neuropbr_core.model.cost import saved_bytes
from neuropbr_core.model.spec import ModelSpec, build_generator, parameter_count, unfilled
from neuropbr_core.recipe.sections import Recipe, Training
from neuropbr_core.reporting import reporter
from neuropbr_core.training.fabric import chosen_precision
from neuropbr_core.training.loop.memory import advice, listed, peak
from neuropbr_core.training.loop.objective import Objective

_PIXEL_BOUND = 16_384
"""Bytes for each pixel of each view that no network here exceeds: a ResNet50 at full resolution keeps about 6,000 in
bfloat16. A run that is far below this bound is not counted, which takes seconds."""

_STATE = 16
"""Bytes for each parameter in float32: the weight, its gradient, and the two moments of Adam."""

_MAPS = 8
"""Channels of all maps together."""

_LOSS_COPIES = 20
"""Copies of the maps in float32 that losses keep: true and predicted maps, logits, gradients, and SSIM's moments."""

_SLACK = 0.93
"""Share of a GPU's free memory that is counted on: the rest goes to kernels, libraries and fragments."""


@dataclass(frozen=True)
class Need:
    """What a step needs, in bytes.

    Attributes:
        fixed: Weights, gradients and the optimiser's state, whatever the batch.
        sample: For each sample of a batch: activations, maps and losses.
    """

    fixed: int
    sample: int

    def of(self, samples: int) -> int:
        """Bytes of a step with a batch of so many samples."""
        return self.fixed + samples * self.sample


def available_memory(device: torch.device, processes: int = 1) -> int | None:
    """Bytes that a process can have on a device now; None where that is not known.

    Args:
        device: The device.
        processes: Processes that share the memory of this machine; GPUs are not shared.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * _SLACK)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    free_here = free_memory()
    if free_here is None:
        return None
    return free_here // processes


def need(recipe: Recipe, device: torch.device) -> Need:
    """Count what a step of a recipe needs.

    Args:
        recipe: The recipe.
        device: Decides the precision.

    Raises:
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
    """
    with unfilled():
        generator = build_generator(ModelSpec.from_recipe(recipe))
        objective = Objective.from_recipe(recipe, generator.feature_channels, generator.feature_channels)
        critics = [term.critic for term in objective.terms if term.critic is not None]
    parameters = parameter_count(generator) + sum(parameter_count(critic) for critic in critics)
    fixed = parameters * _STATE
    if recipe.training.ema is not None:
        fixed += 4 * parameter_count(generator)
    half = chosen_precision(recipe.training, device) != "fp32"
    kept = saved_bytes(generator, ModelSpec.from_recipe(recipe), recipe.data.crop_side, half=half)
    losses = _LOSS_COPIES * _MAPS * 4 * recipe.data.crop_output_size**2
    return Need(fixed, peak(kept, recipe.training.activation_checkpointing) + losses)


def settle_batch(recipe: Recipe, device: torch.device, processes: int = 1) -> Recipe:
    """Find the batch for a device where the recipe leaves it open, and refuse a step that needs more than there is.

    The tree of the recipe, which the run records, stays as it is: another device settles it anew.

    Args:
        recipe: The recipe.
        device: Where it trains.
        processes: Processes of the run.

    Returns:
        The recipe with numbers for `batch_size` and `accumulate`.

    Raises:
        RunError: Not even one sample fits, or the recipe's batch does not, and `memory_check` refuses that.
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
    """
    training = recipe.training
    automatic = training.batch_size == "auto"
    wanted = training.effective_batch or 1
    if not automatic and training.memory_check == "off":
        return recipe
    room = available_memory(device, processes)
    pixels = recipe.data.views * recipe.data.crop_side**2
    if not automatic and (room is None or training.samples * pixels * _PIXEL_BOUND < room / 2):
        return recipe
    if room is None:
        fitting = 1  # where nothing is known about the memory, one sample is what most surely fits
    else:
        counted = need(recipe, device)
        fitting = (room - counted.fixed) // max(counted.sample, 1)
        if not automatic and fitting < training.samples:
            _complain(recipe, device, counted.of(training.samples), room)
        if automatic and fitting < 1:
            smallest = replace(recipe, training=replace(training, batch_size=1))
            _complain(smallest, device, counted.of(1), room)
    if not automatic:
        return recipe
    settled = _settled(training, max(fitting, 1), -(-wanted // processes))
    return replace(recipe, training=settled)


def describe_batch(before: Training, after: Training) -> list[str]:
    """A line for people on a batch that was left open; none where the recipe has a number."""
    if before.batch_size != "auto":
        return []
    step = after.samples * after.accumulate
    return [f"training.batch_size: auto is {after.samples} here, accumulated {after.accumulate} times: {step} a step"]


def _settled(training: Training, fitting: int, wanted: int) -> Training:
    """The batch for a device on which so many samples fit, when each process shall see `wanted` samples in a step."""
    if training.effective_batch is None:
        return replace(training, batch_size=fitting)
    # The largest divisor that fits, so that a step has exactly the samples that the recipe states.
    size = max(size for size in range(1, wanted + 1) if wanted % size == 0 and size <= fitting)
    return replace(training, batch_size=size, accumulate=wanted // size)


def _complain(recipe: Recipe, device: torch.device, needed: int, room: int) -> None:
    first = (
        f"out of memory on {device}, as counted before the first step: a batch of {recipe.training.samples} needs "
        f"about {needed / 1e9:.1f} GB, and {room / 1e9:.1f} GB are free"
    )
    remedy = "What helps most here (training.memory_check=warn tries all the same):"
    message = "\n".join([first, remedy, *listed(advice(recipe, device))])
    if recipe.training.memory_check == "refuse":
        raise RunError(message)
    if recipe.training.memory_check == "warn":
        reporter().warning(message)
