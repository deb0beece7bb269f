"""What a checkpoint of a run holds, and which ones are kept."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuropbr_core.errors import RunStopped
from neuropbr_core.model import ModelSpec, save_model
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.weights import read_state as read_weights
from neuropbr_core.recipe.sections import Training
from neuropbr_core.registry import Registry
from neuropbr_core.training.average import WeightAverage
from neuropbr_core.training.checkpoints import BEST, LATEST, CheckpointStore
from neuropbr_core.training.ranks import first
from neuropbr_core.training.schedule import LearningRates
from neuropbr_core.training.state import Progress, random_state, read_state, restore_random_state, write_state
from neuropbr_core.training.step import Stepper

_WHOLE_EPOCH = re.compile(r"epoch_(\d+)")


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint brought back beside weights and optimisers.

    Attributes:
        progress: How far the run was.
        layout: What the order of samples depended on (`Saver.layout`).
        log: State of the epoch's log, when the checkpoint lies within an epoch.
        problems: What was wrong with newer checkpoints.
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
        registry: Where its components came from.
        options: Section `training` of the recipe.
        generator: The generator, not wrapped by Fabric.
        average: Its weight average, when the recipe has one: then the weights that a checkpoint is used for.
        stepper: Holds optimisers, losses and critics.
        rates: Learning rates.
        layout: What the order of samples depends on; a run that resumes with another one starts its epoch over.
    """

    store: CheckpointStore
    spec: ModelSpec
    registry: Registry
    options: Training
    generator: Generator
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
        state = self._state(progress, log)
        return first(self.stepper.fabric, lambda: self._keep(progress.name, state, best=best))

    def load(self) -> Resumed:
        """Take back the newest sound checkpoint.

        Raises:
            CheckpointError: There is none.
        """
        checkpoint, problems = first(self.stepper.fabric, self.store.newest_sound)
        state, weights = read_state(checkpoint), read_weights(checkpoint)
        self.generator.load_state_dict(weights if state["weights"] is None else state["weights"])
        if self.average is not None:
            self.average.module.load_state_dict(weights)
            self.average.load_state_dict(state["average"] or {"updates": state["progress"]["global_step"]})
        stepper = self.stepper
        stepper.optimizer.load_state_dict(state["optimizer"])
        for term in stepper.objective.terms:
            term.loss.load_state_dict(state["losses"][term.name])
            if term.critic is not None:
                term.critic.load_state_dict(state["critics"][term.name])
                stepper.critic_optimizers[term.name].load_state_dict(state["critic_optimizers"][term.name])
        stepper.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.rates.load_state_dict(state["rates"])
        restore_random_state(stepper.fabric, state["random"])
        return Resumed(Progress(**state["progress"]), state["layout"], state["log"], problems)

    def _keep(self, name: str, state: dict[str, Any], *, best: bool) -> Path:
        path = self.store.save(name, lambda folder: self._write(folder, state))
        self.store.point(LATEST, name)
        if best:
            self.store.point(BEST, name)
        self.store.keep_only({name, self.store.pointed(BEST) or name, *self._periodic()})
        return path

    def _periodic(self) -> set[str]:
        """Names of whole epochs that are kept because their time has come."""
        if self.options.save_best_only:
            return set()
        epochs = {name: match for name in self.store.names() if (match := _WHOLE_EPOCH.fullmatch(name))}
        return {name for name, match in epochs.items() if int(match[1]) % self.options.save_every_n_epochs == 0}

    def _write(self, folder: Path, state: dict[str, Any]) -> None:
        used = self.generator if self.average is None else self.average.module
        save_model(used, self.spec, folder, self.registry)
        write_state(folder, state)

    def _state(self, progress: Progress, log: dict[str, Any] | None) -> dict[str, Any]:
        stepper, average = self.stepper, self.average
        terms = stepper.objective.terms
        state = {
            "progress": progress.to_dict(),
            "layout": self.layout,
            "log": log,
            "weights": None if average is None else self.generator.state_dict(),
            "average": None if average is None else average.state_dict(),
            "optimizer": stepper.optimizer.state_dict(),
            "losses": {term.name: term.loss.state_dict() for term in terms},
            "critics": {term.name: term.critic.state_dict() for term in terms if term.critic is not None},
            "critic_optimizers": {name: opt.state_dict() for name, opt in stepper.critic_optimizers.items()},
            "scaler": stepper.fabric.strategy.precision.state_dict(),
            "rates": self.rates.state_dict(),
            "random": random_state(stepper.fabric),
        }
        modules = [self.generator, *(term.critic for term in terms if term.critic is not None)]
        refuse_nonfinite(modules, progress)
        return state


def refuse_nonfinite(modules: list[nn.Module], progress: Progress) -> None:
    """Refuse to save weights that no run could continue from.

    Raises:
        RunStopped: A parameter or buffer is not finite.
    """
    tensors = [tensor for module in modules for tensor in module.state_dict().values() if tensor.is_floating_point()]
    finite: list[Tensor] = [tensor.isfinite().all() for tensor in tensors]
    if finite and not torch.stack(finite).all():
        raise RunStopped(
            f"the weights are no longer finite after {progress.global_step} steps, so they are not saved; lower "
            f"optimizer.lr or training.grad_clip_norm, or set training.precision: fp32. The last checkpoint is from "
            f"before it"
        )
