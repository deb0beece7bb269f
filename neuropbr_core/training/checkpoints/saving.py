"""What a checkpoint of a run holds, and which ones are kept."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuropbr_core.errors import RunStopped
from neuropbr_core.model import ModelSpec, save_model
from neuropbr_core.model.weights import read_state as read_weights
from neuropbr_core.recipe.sections import Training
from neuropbr_core.training.checkpoints.sharded_state import (
    load_module_state,
    load_optimizer_state,
    module_state,
    optimizer_state,
)
from neuropbr_core.training.checkpoints.state import (
    Progress,
    random_state,
    read_state,
    restore_random_state,
    write_state,
)
from neuropbr_core.training.checkpoints.store import BEST, LATEST, CheckpointStore
from neuropbr_core.training.loop.average import WeightAverage
from neuropbr_core.training.loop.schedule import LearningRates
from neuropbr_core.training.loop.step import Stepper
from neuropbr_core.training.ranks import first

_WHOLE_EPOCH = re.compile(r"epoch_(\d+)")


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint brought back beside weights and optimisers.

    Attributes:
        progress: How far the run was.
        layout: What the order of samples depended on (`Saver.layout`).
        log: State of the epoch's log, when the checkpoint lies within an epoch.
        problems: What was wrong with newer checkpoints, and with the best one.
    """

    progress: Progress
    layout: dict[str, int]
    log: dict[str, Any] | None
    problems: list[str]


@dataclass
class Saver:
    """Saves and restores everything that changes during training.

    Attributes:
        store: Where checkpoints go.
        spec: What builds the generator again.
        options: Section `training` of the recipe.
        average: The average of its weights, when the recipe has one: what a checkpoint is used for then.
        stepper: Holds optimisers, losses and critics.
        rates: Learning rates.
        layout: What the order of samples depends on; a run that resumes with another one starts its epoch over.
    """

    store: CheckpointStore
    spec: ModelSpec
    options: Training
    average: WeightAverage | None
    stepper: Stepper
    rates: LearningRates
    layout: dict[str, int]

    def save(self, progress: Progress, *, best: bool, log: dict[str, Any] | None = None) -> Path:
        """Save a checkpoint, let the pointers name it, and remove those that are not kept.

        Raises:
            RunStopped: A weight is not finite; nothing is saved.
            CheckpointError: Writing failed; earlier checkpoints are untouched.
        """
        weights = module_state(self.stepper.fabric, self.stepper.generator)
        state = self._state(progress, log, weights)
        return first(self.stepper.fabric, lambda: self._keep(progress, weights, state, best=best))

    def load(self) -> Resumed:
        """Take back the newest sound checkpoint.

        Raises:
            CheckpointError: There is none.
        """
        stepper, fabric = self.stepper, self.stepper.fabric
        checkpoint, problems = first(fabric, self.store.newest_sound)
        state, weights = read_state(checkpoint), read_weights(checkpoint)
        load_module_state(fabric, stepper.generator, state["weights"] or weights)
        load_optimizer_state(fabric, stepper.generator, stepper.optimizer, state["optimizer"])
        if self.average is not None:
            self.average.module.load_state_dict(weights)
            self.average.load_state_dict(state["average"] or {"updates": state["progress"]["global_step"]})
        for term in stepper.objective.terms:
            term.loss.load_state_dict(state["losses"][term.name])
            if term.critic is not None:
                load_module_state(fabric, term.critic, state["critics"][term.name])
                optimizer = stepper.critic_optimizers[term.name]
                load_optimizer_state(fabric, term.critic, optimizer, state["critic_optimizers"][term.name])
        fabric.strategy.precision.load_state_dict(state["scaler"])
        self.rates.load_state_dict(state["rates"])
        restore_random_state(fabric, state["random"])
        progress = Progress(**state["progress"])
        if lost := first(fabric, lambda: self._settle_best(progress, checkpoint.name)):
            progress.forget_best()
        return Resumed(progress, state["layout"], state["log"], [*problems, *lost])

    def _settle_best(self, progress: Progress, resumed: str) -> list[str]:
        """Let `best` name the checkpoint that it should; returns why that cannot be.

        The pointer may be older than the checkpoint that is resumed, when the run was killed between writing the two;
        and the best checkpoint may be damaged while the newest is sound. Then the resumed one stands in for it.
        """
        name = progress.best_name or self.store.pointed(BEST)
        if name is None:
            return []
        sound = self.store.is_sound(name)
        self.store.point(BEST, name if sound else resumed)
        lost = f"the best checkpoint {name} is damaged or gone; the best of the epochs from here on takes its place"
        return [] if sound else [lost]

    def _keep(self, progress: Progress, weights: dict[str, Any], state: dict[str, Any], *, best: bool) -> Path:
        """Write a checkpoint; the first process alone does it."""
        refuse_nonfinite([weights, *state["critics"].values()], progress)

        def write(folder: Path) -> None:
            save_model(weights if self.average is None else self.average.module, self.spec, folder)
            write_state(folder, state)

        path = self.store.save(progress.name, write)
        self.store.point(LATEST, progress.name)
        if best:
            self.store.point(BEST, progress.name)
        self.store.keep_only({progress.name, self.store.pointed(BEST) or progress.name, *self._periodic()})
        return path

    def _periodic(self) -> set[str]:
        """Names of whole epochs that are kept because their time has come."""
        if self.options.save_best_only:
            return set()
        epochs = {name: match for name in self.store.names() if (match := _WHOLE_EPOCH.fullmatch(name))}
        return {name for name, match in epochs.items() if int(match[1]) % self.options.save_every_n_epochs == 0}

    def _state(self, progress: Progress, log: dict[str, Any] | None, weights: dict[str, Any]) -> dict[str, Any]:
        """What a resumed run needs; every process must ask for it."""
        stepper, fabric, average = self.stepper, self.stepper.fabric, self.average
        terms = stepper.objective.terms
        critics = {term.name: term.critic for term in terms if term.critic is not None}
        optimizers = stepper.critic_optimizers
        return {
            "progress": progress.to_dict(),
            "layout": self.layout,
            "log": log,
            "weights": None if average is None else weights,
            "average": None if average is None else average.state_dict(),
            "optimizer": optimizer_state(fabric, stepper.generator, stepper.optimizer),
            "losses": {term.name: term.loss.state_dict() for term in terms},
            "critics": {name: module_state(fabric, critic) for name, critic in critics.items()},
            "critic_optimizers": {
                name: optimizer_state(fabric, critic, optimizers[name]) for name, critic in critics.items()
            },
            "scaler": fabric.strategy.precision.state_dict(),
            "rates": self.rates.state_dict(),
            "random": random_state(fabric),
        }


def refuse_nonfinite(states: Iterable[Mapping[str, Tensor]], progress: Progress) -> None:
    """Refuse to save weights that no run could continue from.

    Raises:
        RunStopped: A parameter or buffer is not finite.
    """
    tensors = [tensor for state in states for tensor in state.values() if tensor.is_floating_point()]
    finite: list[Tensor] = [tensor.isfinite().all() for tensor in tensors]
    if finite and not torch.stack(finite).all():
        raise RunStopped(
            f"the weights are no longer finite after {progress.global_step} steps, so they are not saved; lower "
            f"optimizer.lr or training.grad_clip_norm, or set training.precision: fp32. The last checkpoint is from "
            f"before it"
        )
