"""A run's networks: checked before it starts, and switched to save memory or time."""

from contextlib import suppress

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from neuropbr_core.contracts import Encoder
from neuropbr_core.errors import NeuroPBRError, RunError
from neuropbr_core.exporting.subject import check_entries
from neuropbr_core.model.generator import Generator, unsuitable
from neuropbr_core.model.spec import ModelSpec, build_generator, probe_as_trained
from neuropbr_core.model.weights import read_spec
from neuropbr_core.recipe.check import placed
from neuropbr_core.recipe.loading import Resolved
from neuropbr_core.recipe.sections import Recipe, Training
from neuropbr_core.reporting import reporter
from neuropbr_core.training.checkpoints.store import find_checkpoint
from neuropbr_core.training.loop.objective import Objective
from neuropbr_core.training.teachers import check_crops


def check_buildable(resolved: Resolved, teacher: Recipe | None) -> None:
    """Check a recipe's networks and exports; each error has the place of the value that it is about.

    Args:
        resolved: The recipe, with places.
        teacher: The recipe of its teacher, when it makes one; a teacher that is trained already is looked up.

    Raises:
        NeuroPBRError: As `check_networks` and `check_entries`, or the teacher is to be a model that does not ship.
    """
    spec = None
    if teacher is not None:
        spec = ModelSpec.from_recipe(teacher)
    elif resolved.recipe.teacher is not None:
        place = resolved.recipe.teacher.place
        # A teacher that cannot be read is no fault of the recipe, which may be written before its teacher is trained; a
        # run reports it.
        with suppress(NeuroPBRError):
            spec = read_spec(find_checkpoint(place))
    try:
        training = resolved.recipe.training
        has_weights = training.init_from is not None or training.resume_from is not None
        check_networks(resolved.recipe, spec, has_weights=has_weights)
        check_entries(resolved.recipe)
    except NeuroPBRError as error:
        raise placed(error, resolved.root) from error


def check_networks(recipe: Recipe, teacher: ModelSpec | None = None, *, has_weights: bool = False) -> None:
    """Build generator and critics without memory, and check the sizes that they will be given.

    Args:
        recipe: The recipe.
        teacher: What the recipe's teacher is built from, when it has one and that is known.
        has_weights: Whether training starts from the weights of a checkpoint.

    Raises:
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
        RunError: The encoder cannot take `data.image_size` or `data.crop_size`, or an online teacher the crops; or it
            is frozen and has no weights to start from.
    """
    epochs = recipe.training.epochs
    # A run of a recipe in which no loss ever counts would change nothing.
    if not any(part.entry.weight > 0 and part.entry.start_epoch <= epochs for part in recipe.losses.values()):
        raise RunError(
            f"losses: no loss counts within the {epochs} epochs of training; give one a weight above 0 and a "
            f"start_epoch within them"
        )
    spec = ModelSpec.from_recipe(recipe)
    with torch.device("meta"):  # tensors have shapes but no memory
        generator = build_generator(spec)
        teacher_features: dict[str, int] = {}
        if recipe.has_online_teacher:
            # A teacher that is not known yet is taken to be like its student.
            teacher_features = generator.feature_channels
        if teacher is not None and recipe.has_online_teacher:
            teacher_generator = build_generator(teacher)
            teacher_features = teacher_generator.feature_channels
        # Built for its errors alone: a critic may refuse the size of the crops.
        Objective.from_recipe(recipe, generator.feature_channels, teacher_features)
    if not has_weights:
        refuse_frozen(generator.encoder, recipe)
    stride = generator.encoder.strides[-1]
    for key in ("image_size", "crop_size"):
        size = getattr(recipe.data, key)
        if size is None:  # without `crop_size`, crops are whole frames
            continue
        reason = unsuitable(size, stride)
        if reason:
            raise RunError(f"data.{key}: found {size}, but encoder {recipe.encoder.use} {reason}")
    if teacher is not None and recipe.has_online_teacher:
        check_crops(teacher, teacher_generator.encoder.strides[-1], recipe.data)
    _check_batch_norm(generator, recipe)
    with torch.device("meta"):
        probe_as_trained(generator, spec, recipe.data.crop_side)


def _check_batch_norm(generator: Generator, recipe: Recipe) -> None:
    """Refuse steps in which batch norm would have a single value for each channel, of which there is no spread.

    Raises:
        RunError: There are such steps.
    """
    data = recipe.data
    views = 1 if data.random_views else data.views
    stride = generator.encoder.strides[-1]
    if recipe.training.batch_size != 1 or views != 1 or data.crop_side > stride:
        return
    for part in (generator.encoder, generator.fusion):
        for module in part.modules():
            if isinstance(module, _BatchNorm) and module.training:
                raise RunError(
                    f"training.batch_size: found 1, but batch norm needs more than one value for each channel, and one "
                    f"view of {data.crop_side} pixels has one behind an encoder of stride {stride}; use larger batches "
                    f"or crops"
                )


def refuse_frozen(encoder: Encoder, recipe: Recipe) -> None:
    """Refuse to train behind an encoder whose weights are random and stay so.

    Raises:
        RunError: The encoder is such a one.
    """
    if encoder.is_frozen_at_random:
        raise RunError(
            f"model.encoder.freeze: freezes random weights of {recipe.encoder.use}, from which nothing can be learnt; "
            f"give weights to start from (`pretrained: true`, `weights: FILE`, or --init-from RUN), or write `freeze: "
            f"false`"
        )


_CONVOLUTIONAL = ("encoder", "decoder", "heads")
"""Parts that are mostly convolutions over images."""

_COMPILED = ("encoder", "fusion", "decoder")
"""What is compiled: each by itself, in place, so that names of weights stay as they are."""


def apply_switches(generator: Generator, training: Training, device: torch.device) -> list[str]:
    """Let a generator recompute activations and run compiled, where the recipe says so.

    Returns:
        Lines for people: a switch that was left to this function and cannot be had here, and why. For one that the
        recipe asks for, the reporter has a warning.
    """
    # Recomputed in the backward pass instead of kept: less memory for more time, and the same numbers.
    generator.recomputed = frozenset(training.activation_checkpointing)
    on_cuda = device.type == "cuda"
    if training.channels_last is True or (training.channels_last == "auto" and on_cuda):
        # Convolutions on tensor cores read this layout; shapes, names and saved weights stay as they are.
        for name in _CONVOLUTIONAL:
            getattr(generator, name).to(memory_format=torch.channels_last)
    if training.compile is False or (training.compile == "auto" and not on_cuda):
        return []
    if fault := compiler_fault(device):
        # Who left the choice to us need not be warned.
        if training.compile == "auto":
            return [f"Not compiled, because no compiler works here ({fault})"]
        reporter().warning(f"training.compile: nothing can be compiled here, so the run goes on without ({fault})")
        return []
    for name in _COMPILED:
        getattr(generator, name).compile()
    return []


def compiler_fault(device: torch.device) -> str | None:
    """Why `torch.compile` does not work on this machine, or None when it does."""
    try:
        # A function of two operations: a compiler that is missing or broken fails on it in a second.
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # back ends raise what they like
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return None
