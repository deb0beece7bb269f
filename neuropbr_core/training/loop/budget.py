"""What a training step needs of a device's memory, counted before the first step, and the batch that fits into it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import LossInput
from neuropbr_core.data.batches.prepare import predicted
from neuropbr_core.errors import RunError
from neuropbr_core.maps import MAPS
from neuropbr_core.memory import free_memory
from neuropbr_core.model.cost import feature_bytes, kept_bytes, prediction_cost, saved_bytes
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.spec import ModelSpec, build_generator, parameter_count, unfilled
from neuropbr_core.recipe.sections import Data, Recipe, Training
from neuropbr_core.reporting import reporter
from neuropbr_core.training.fabric import chosen_precision
from neuropbr_core.training.loop.memory import advice, listed, peak
from neuropbr_core.training.loop.objective import Objective, features_needed

_PIXEL_BOUND = 16_384
"""Bytes for each pixel of each view that no network here exceeds: a ResNet50 at full resolution keeps about 6,000 in
bfloat16. A run whose weights and pixels are far below the memory is not counted further, which takes seconds."""

_STATE = 16
"""Bytes for each parameter in float32: the weight, its gradient, and the two moments of Adam."""

_FROZEN = 4
"""Bytes for each parameter of a network that is not trained: its weight in float32."""

_MAPS = 8
"""Channels of all maps together."""

_COPIES = 8
"""Copies of the maps in float32 beside the activations: true and predicted maps, logits, gradients, and what is kept by
losses that are computed together."""

_UNKNOWN_LOSS = 20
"""Copies of the maps that a loss is taken to keep which does not run without values."""

_SLACK = 0.93
"""Share of a GPU's free memory that is counted on: the rest goes to kernels, libraries and fragments."""


@dataclass(frozen=True)
class Need:
    """What a step needs, in bytes.

    Attributes:
        fixed: Weights, gradients and the optimiser's state, and the weights of an online teacher, whatever the batch.
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


@dataclass(frozen=True)
class _Networks:
    """The networks of a run, with shapes and without values.

    Attributes:
        generator: The generator.
        objective: The losses with their critics.
        teacher: The generator of an online teacher; None without one, or where it is not known.
    """

    generator: Generator
    objective: Objective
    teacher: Generator | None

    @classmethod
    def build(cls, recipe: Recipe, teacher: ModelSpec | None) -> "_Networks":
        with unfilled():
            generator = build_generator(ModelSpec.from_recipe(recipe))
            online = None
            teacher_features = generator.feature_channels
            if teacher is not None and recipe.has_online_teacher:
                online = build_generator(teacher)
                teacher_features = online.feature_channels
            objective = Objective.from_recipe(recipe, generator.feature_channels, teacher_features)
        return cls(generator, objective, online)

    @property
    def trained(self) -> int:
        """Parameters that training changes: the generator's and the critics'."""
        critics = [term.critic for term in self.objective.terms if term.critic is not None]
        return parameter_count(self.generator) + sum(map(parameter_count, critics))


def fixed_need(
    recipe: Recipe, processes: int = 1, teacher: ModelSpec | None = None, networks: _Networks | None = None
) -> int:
    """Count the bytes that a process of a run needs whatever its batch is.

    Args:
        recipe: The recipe.
        processes: Processes of the run; with FSDP they share weights, gradients and the optimiser's state.
        teacher: What the recipe's teacher is built from, when it has one.
        networks: The networks, where they are built already.

    Raises:
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
    """
    if networks is None:
        networks = _Networks.build(recipe, teacher)
    trained = networks.trained * _STATE
    if recipe.training.ema is not None:
        trained += _FROZEN * parameter_count(networks.generator)
    if recipe.training.strategy == "fsdp":
        trained = -(-trained // processes)
    if networks.teacher is None:
        return trained
    # A teacher is not sharded: each process has the whole of it.
    return trained + _FROZEN * parameter_count(networks.teacher)


def need(recipe: Recipe, device: torch.device, processes: int = 1, teacher: ModelSpec | None = None) -> Need:
    """Count what a step of a recipe needs in one process.

    Args:
        recipe: The recipe.
        device: Decides the precision.
        processes: Processes of the run; with FSDP they share weights, gradients and the optimiser's state.
        teacher: What the recipe's teacher is built from, when it has one; an online teacher takes memory too.

    Raises:
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
    """
    networks = _Networks.build(recipe, teacher)
    fixed = fixed_need(recipe, processes, teacher, networks)
    half = chosen_precision(recipe.training, device) != "fp32"
    kept = saved_bytes(networks.generator, ModelSpec.from_recipe(recipe), recipe.data.crop_side, half=half)
    maps = _MAPS * 4 * recipe.data.crop_output_size**2
    sample = peak(
        kept,
        recipe.training.activation_checkpointing,
        losses=_COPIES * maps + _loss_bytes(networks, recipe.data, maps),
        features=feature_bytes(networks.generator, recipe.data.views, recipe.data.crop_side, half=half),
    )
    if teacher is None or networks.teacher is None:
        return Need(fixed, sample)
    # The teacher sees as many views as its student, at its own scale.
    taught = prediction_cost(
        networks.teacher,
        replace(teacher, views=recipe.data.views),
        _teachers_side(recipe, teacher),
        half=half,
        features=features_needed(recipe),
    )
    # It predicts a batch before the student sees it: of all that it computes, logits, maps and features in float32 stay
    # beside the student's activations.
    outputs = 2 * maps + 4 * taught.feature_values
    return Need(fixed, max(sample + outputs, taught.peak_bytes + outputs))


def _loss_bytes(networks: _Networks, data: Data, maps: int) -> int:
    """Bytes that losses keep of one sample, except those that are computed together.

    Args:
        networks: The networks.
        data: Section `data` of the recipe.
        maps: Bytes of all maps of a sample.
    """
    size = data.crop_output_size
    with unfilled():
        views = torch.zeros(1, data.views, 3, data.crop_side, data.crop_side)
        logits = {}
        for name, spec in MAPS.items():
            logits[name] = torch.zeros(1, spec.logit_channels, size, size, requires_grad=True)
        prediction = predicted(logits)
        target = {name: value.detach() for name, value in prediction.maps.items()}
        x = LossInput(prediction, target, views, views[:, :, :1], torch.zeros(1, 1, size, size))
    counted = 0
    for term in networks.objective.terms:
        if networks.objective.fuses(term):
            continue
        try:
            counted += kept_bytes(partial(term.loss, x, term.critic), _tensors(x, term.critic))
        except Exception:  # some need values, or a teacher's prediction; counting must not end a run that would go well
            counted += _UNKNOWN_LOSS * maps
    return counted


def _tensors(x: LossInput, critic: nn.Module | None) -> list[Tensor]:
    """What a loss keeps no memory of its own for."""
    tensors = [*x.prediction.maps.values(), *x.prediction.logits.values(), *x.target.values()]
    tensors += [x.views, x.visible, x.valid]
    if critic is not None:
        tensors += critic.state_dict(keep_vars=True).values()
    return tensors


def _teachers_side(recipe: Recipe, teacher: ModelSpec) -> int:
    """Side of what an online teacher sees of the student's crops, in pixels."""
    return recipe.data.crop_side * teacher.image_size // recipe.data.image_size


def settle_batch(
    recipe: Recipe,
    device: torch.device,
    processes: int = 1,
    *,
    teacher: ModelSpec | None = None,
    resumed: Mapping[str, int] | None = None,
) -> Recipe:
    """Find the batch for a device where the recipe leaves it open, and refuse a step that needs more than there is.

    The tree of the recipe, which the run records, stays as it is: another device settles it anew.

    Args:
        recipe: The recipe.
        device: Where it trains.
        processes: Processes of the run.
        teacher: What the recipe's teacher is built from, when it has one.
        resumed: What the checkpoint was trained with that the run goes on from (`Feed.resume_counts`). Its batch is
            kept where it still fits, so that the run goes on as if it had never stopped.

    Returns:
        The recipe with numbers for `batch_size` and `accumulate`.

    Raises:
        RunError: Not even one sample fits, or the recipe's batch does not, and `memory_check` refuses that; or the
            processes cannot share `effective_batch`.
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
    """
    training = recipe.training
    automatic = training.batch_size == "auto"
    if automatic:
        _require_equal_shares(training, processes)
    elif training.memory_check == "off":
        return recipe
    room = available_memory(device, processes)
    if not automatic and (room is None or _bound(recipe, processes, teacher) < room / 2):
        return recipe
    fitting: int | None = None
    if room is not None:
        counted = need(recipe, device, processes, teacher)
        fitting = (room - counted.fixed) // max(counted.sample, 1)
        if not automatic and fitting < training.samples:
            _complain(recipe, device, counted.of(training.samples), room, teacher)
        if automatic and fitting < 1:
            smallest = replace(recipe, training=replace(training, batch_size=1))
            _complain(smallest, device, counted.of(1), room, teacher)
    if not automatic:
        return recipe
    if resumed is not None and not _changed(training, processes, resumed):
        size = resumed["batch_size"]
        # Where nothing is known about the memory, what fitted once is what most surely fits again.
        if fitting is None or size <= fitting:
            return replace(recipe, training=replace(training, batch_size=size, accumulate=resumed["accumulate"]))
    # And without a checkpoint, one sample is.
    size = max(fitting or 1, 1)
    accumulate = training.accumulate
    if training.effective_batch is not None:
        wanted = training.effective_batch // processes
        # The largest divisor that fits, so that a step has exactly the samples that the recipe states.
        size = max(divisor for divisor in range(1, wanted + 1) if wanted % divisor == 0 and divisor <= size)
        accumulate = wanted // size
    return replace(recipe, training=replace(training, batch_size=size, accumulate=accumulate))


def describe_batch(
    before: Training, after: Training, processes: int = 1, resumed: Mapping[str, int] | None = None
) -> list[str]:
    """Lines for people on a batch that was left open; none where the recipe has a number.

    Args:
        before: The recipe's section.
        after: The same with the batch that was settled.
        processes: Processes of the run.
        resumed: As for `settle_batch`: a batch other than the checkpoint's is explained.
    """
    if before.batch_size != "auto":
        return []
    where = "here"
    if processes > 1:
        where = f"on each of {processes} processes"
    step = after.samples * after.accumulate * processes
    batch = f"auto is {after.samples} {where}, accumulated {after.accumulate} times"
    lines = [f"training.batch_size: {batch}: {step} a step"]
    if resumed is None:
        return lines
    size = resumed["batch_size"]
    accumulate = resumed["accumulate"]
    if (size, accumulate) != (after.samples, after.accumulate):
        change = _changed(before, processes, resumed) or "it does not fit into the memory that is free now"
        lines.append(
            f"the checkpoint's batch of {size}, accumulated {accumulate} times, is not kept, because {change}; the run "
            f"goes on, but not as if it had never stopped"
        )
    return lines


def _require_equal_shares(training: Training, processes: int) -> None:
    """Refuse samples of a step that the processes cannot share: each has batches of one size."""
    wanted = training.effective_batch
    if wanted is None or wanted % processes == 0:
        return
    larger = -(-wanted // processes) * processes
    allowed = [str(number) for number in (larger - processes, larger) if number > 0]
    raise RunError(
        f"training.effective_batch: found {wanted}, which {processes} processes cannot share equally; write a multiple "
        f"of {processes}, such as {' or '.join(allowed)}, or change training.devices"
    )


def _bound(recipe: Recipe, processes: int, teacher: ModelSpec | None) -> int:
    """Bytes that a step needs at most, from the size of the networks and of their input alone."""
    pixels = recipe.data.crop_side**2
    if teacher is not None and recipe.has_online_teacher:
        pixels += _teachers_side(recipe, teacher) ** 2
    activations = recipe.training.samples * recipe.data.views * pixels * _PIXEL_BOUND
    return fixed_need(recipe, processes, teacher) + activations


def _changed(training: Training, processes: int, resumed: Mapping[str, int]) -> str:
    """Why a checkpoint's batch is not what a recipe asks for now, whatever the memory is; empty where it is."""
    if resumed["processes"] != processes:
        return f"it was trained on {resumed['processes']} processes, and {processes} run now"
    if training.effective_batch is None and resumed["accumulate"] != training.accumulate:
        return f"training.accumulate is {training.accumulate} now"
    step = resumed["batch_size"] * resumed["accumulate"] * processes
    if training.effective_batch not in (None, step):
        return f"training.effective_batch is {training.effective_batch} now"
    return ""


def _complain(recipe: Recipe, device: torch.device, needed: int, room: int, teacher: ModelSpec | None) -> None:
    first = (
        f"out of memory on {device}, as counted before the first step: a batch of {recipe.training.samples} needs "
        f"about {needed / 1e9:.1f} GB, and {room / 1e9:.1f} GB are free"
    )
    remedy = "What helps most here (training.memory_check=warn tries all the same):"
    message = "\n".join([first, remedy, *listed(advice(recipe, device, teacher))])
    if recipe.training.memory_check == "refuse":
        raise RunError(message)
    if recipe.training.memory_check == "warn":
        reporter().warning(message)
