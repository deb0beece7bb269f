"""Puts a step together: networks, losses and optimisers on their devices."""

from typing import Any

from lightning_fabric import Fabric
from torch import nn

from neuropbr_core.errors import RunError
from neuropbr_core.model.generator import Generator
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.training.device import is_sharded
from neuropbr_core.training.loop.objective import Objective
from neuropbr_core.training.loop.schedule import LearningRates
from neuropbr_core.training.loop.step import Stepper, make_optimizer


def make_stepper(fabric: Fabric, recipe: Recipe, generator: Generator, objective: Objective) -> Stepper:
    """Let Fabric set up generator, critics and their optimisers.

    Parameters of the losses join the generator's optimiser. They belong to no network that Fabric wraps, so the step
    averages their gradients over processes itself.

    Raises:
        RunError: A loss has parameters, and weights are sharded.
    """
    options = recipe.optimizer
    training = recipe.training
    extra: list[nn.Parameter] = []
    for term in objective.terms:
        term.loss.to(fabric.device)
        for parameter in term.loss.parameters():
            # A loss may hold weights that are frozen, such as those of a network that compares features.
            if parameter.requires_grad:
                extra.append(parameter)
    # FSDP shards what it wraps, and its optimiser takes nothing else.
    if extra and is_sharded(fabric):
        raise RunError("training.strategy: fsdp cannot train losses that have weights of their own; write ddp")
    trainable = [p for p in generator.parameters() if p.requires_grad]
    wrapped, optimizer = fabric.setup(generator, make_optimizer(options, [*trainable, *extra], options.lr))
    # A critic has an optimiser of its own: generator and critic pull the same weights in opposite directions.
    critic_optimizers = {}
    for term in objective.terms:
        if term.critic is not None:
            raw = make_optimizer(options, list(term.critic.parameters()), options.critic_lr)
            term.critic, critic_optimizers[term.name] = fabric.setup(term.critic, raw)
    skips = training.on_nonfinite == "skip"
    return Stepper(fabric, wrapped, optimizer, objective, critic_optimizers, training.grad_clip_norm, skips, extra)


def make_rates(recipe: Recipe, stepper: Stepper) -> LearningRates:
    """The learning rates of the generator's and the critics' optimisers."""
    options = recipe.optimizer
    bases: list[tuple[Any, float]] = [(stepper.optimizer, options.lr)]
    for optimizer in stepper.critic_optimizers.values():
        bases.append((optimizer, options.critic_lr))
    return LearningRates(options, recipe.training.epochs, bases)
