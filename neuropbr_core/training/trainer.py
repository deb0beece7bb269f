"""The loop: epochs of steps, validation, checkpoints. Nothing in a step waits for the device."""

import math
import time
from pathlib import Path
from typing import Any

import lightning_fabric as lightning
import torch

from neuropbr_core.contracts import EpochSummary, RunInfo, StepInfo, ValidationSummary
from neuropbr_core.data.loading import train_loader
from neuropbr_core.data.opening import OpenedDataset
from neuropbr_core.data.prepare import prepare
from neuropbr_core.errors import RunError
from neuropbr_core.model import ModelSpec, build_generator, parameter_count, save_model
from neuropbr_core.model.weights import read_state as read_weights
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry import Registry
from neuropbr_core.training.checkpoints import BEST, LATEST
from neuropbr_core.training.device import make_fabric
from neuropbr_core.training.notify import Observers
from neuropbr_core.training.objective import Averages, Objective
from neuropbr_core.training.run_folder import RunFolder
from neuropbr_core.training.schedule import LearningRates
from neuropbr_core.training.state import random_state, read_state, restore_random_state, write_state
from neuropbr_core.training.step import Stepper, make_optimizer
from neuropbr_core.training.validation import validate


class Trainer:
    """Trains the generator of one recipe in one run folder.

    Args:
        recipe: The recipe.
        registry: Where its components come from.
        dataset: The opened dataset.
        folder: The run.
        observers: Who is told.
    """

    def __init__(
        self, recipe: Recipe, registry: Registry, dataset: OpenedDataset, folder: RunFolder, observers: Observers
    ) -> None:
        self.recipe, self.registry, self.dataset = recipe, registry, dataset
        self.folder, self.observers = folder, observers
        self.spec = ModelSpec.from_recipe(recipe)
        self.fabric = make_fabric(recipe.training)
        lightning.seed_everything(recipe.training.seed, verbose=False)
        self.raw_generator = build_generator(self.spec, registry)
        check_sizes(recipe, self.raw_generator.encoder.strides[-1])
        objective = Objective.from_recipe(recipe, registry)
        self.stepper = self._set_up(objective)
        self.rates = LearningRates(recipe.optimizer, recipe.training.epochs, self._rate_bases())
        self.start_epoch, self.global_step, self.best = 0, 0, math.inf
        self.best_metrics: dict[str, float] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Generator steps in an epoch."""
        return len(self._loader(0))

    def fit(self) -> dict[str, float]:
        """Train from the current epoch to the last.

        Returns:
            The validation metrics of the best epoch; empty without a validation set.

        Raises:
            RunError: A loss stopped being finite.
            CheckpointError: A checkpoint could not be saved.
        """
        self.observers.tell("run_started", self._info())
        for epoch in range(self.start_epoch, self.recipe.training.epochs):
            summary = self._train_epoch(epoch)
            score = self._validate(epoch, summary)
            self._save(epoch, score)
        self.observers.tell("run_finished", self.best_metrics)
        return self.best_metrics

    def resume(self) -> list[str]:
        """Continue from the newest sound checkpoint; returns what was wrong with newer ones.

        Raises:
            CheckpointError: There is none.
        """
        checkpoint, problems = self.folder.checkpoints.newest_sound()
        state = read_state(checkpoint)
        self.raw_generator.load_state_dict(read_weights(checkpoint))
        self.stepper.optimizer.load_state_dict(state["optimizer"])
        for term in self.stepper.objective.terms:
            term.loss.load_state_dict(state["losses"][term.name])
            if term.critic is not None:
                term.critic.load_state_dict(state["critics"][term.name])
                self.stepper.critic_optimizers[term.name].load_state_dict(state["critic_optimizers"][term.name])
        self.rates.load_state_dict(state["rates"])
        self.start_epoch, self.global_step, self.best = state["epoch"], state["global_step"], state["best"]
        self.best_metrics = state["best_metrics"]
        restore_random_state(state["random"])
        return problems

    def _set_up(self, objective: Objective) -> Stepper:
        options, fabric = self.recipe.optimizer, self.fabric
        trainable = [p for p in self.raw_generator.parameters() if p.requires_grad]
        for term in objective.terms:
            term.loss.to(fabric.device)
            trainable += [p for p in term.loss.parameters() if p.requires_grad]
        generator, optimizer = fabric.setup(self.raw_generator, make_optimizer(options, trainable, options.lr))
        critic_optimizers = {}
        for term in objective.terms:
            if term.critic is not None:
                raw = make_optimizer(options, list(term.critic.parameters()), options.critic_lr)
                term.critic, critic_optimizers[term.name] = fabric.setup(term.critic, raw)
        return Stepper(fabric, generator, optimizer, objective, critic_optimizers, self.recipe.training.grad_clip_norm)

    def _rate_bases(self) -> list[tuple[Any, float]]:
        options = self.recipe.optimizer
        critics = [(optimizer, options.critic_lr) for optimizer in self.stepper.critic_optimizers.values()]
        return [(self.stepper.optimizer, options.lr), *critics]

    def _loader(self, epoch: int) -> Any:
        training, data = self.recipe.training, self.recipe.data
        return train_loader(
            self.dataset.train, training.batch_size, seed=training.seed, epoch=epoch, num_workers=data.num_workers
        )

    def _info(self) -> RunInfo:
        facts = {
            "device": str(self.fabric.device),
            "parameters": f"{parameter_count(self.raw_generator):,}",
            "training samples": str(len(self.dataset.train.samples)),
            "held-back samples": str(len(self.dataset.val.samples)),
        }
        return RunInfo(
            self.folder.name,
            self.folder.path,
            self.recipe.training.epochs,
            self.steps_per_epoch,
            self.start_epoch,
            self.global_step,
            self.recipe.tree,
            facts,
        )

    def _train_epoch(self, epoch: int) -> EpochSummary:
        self.stepper.generator.train()
        log = StepLog(self.recipe.training.log_every_n_steps)
        loader = self._loader(epoch)
        started = time.monotonic()
        for step, batch in enumerate(loader):
            self.rates.set(epoch + step / len(loader))
            prepared = prepare(batch, self.recipe.data, self.fabric.device)
            due = log.due(step, len(loader))
            log.add(self.stepper.step(prepared, epoch, measured=due), batch.ids)
            self.global_step += 1
            info = StepInfo(epoch, step, len(loader), self.global_step)
            self.observers.tell("step_finished", info)
            if due:
                self.observers.tell("metrics_logged", info, {**log.flush(info), **self.rates.current()})
        metrics = {**log.epoch_means(), "seconds": time.monotonic() - started}
        summary = EpochSummary(epoch, self.global_step, metrics)
        self.observers.tell("epoch_finished", summary)
        return summary

    def _validate(self, epoch: int, summary: EpochSummary) -> float | None:
        """Returns the score that decides which epoch is best (lower is better), or None when none is due."""
        training = self.recipe.training
        last = epoch + 1 == training.epochs
        if not self.dataset.val.samples:
            return summary.metrics["loss/reconstruction"]
        if (epoch + 1) % training.validate_every_n_epochs and not last:
            return None
        images_due = (epoch + 1) % training.log_images_every_n_epochs == 0 or last
        result = validate(self.stepper, self.dataset.val, self.recipe, epoch, with_images=images_due)
        self.rates.validated(result.metrics["loss"])
        self.observers.tell(
            "validation_finished",
            ValidationSummary(epoch, self.global_step, result.metrics, result.images, result.details),
        )
        if result.metrics["loss"] < self.best:
            self.best_metrics = result.metrics
        return result.metrics["loss"]

    def _save(self, epoch: int, score: float | None) -> None:
        store, training = self.folder.checkpoints, self.recipe.training
        name = f"epoch_{epoch + 1:04d}"
        best = score is not None and score < self.best
        if best and score is not None:
            self.best = score
        path = store.save(name, lambda folder: self._write(folder, epoch))
        store.point(LATEST, name)
        if best:
            store.point(BEST, name)
        periodic = [] if training.save_best_only else store.names()
        kept = {kept for kept in periodic if int(kept.removeprefix("epoch_")) % training.save_every_n_epochs == 0}
        store.keep_only({name, store.pointed(BEST) or name, *kept})
        self.observers.tell("checkpoint_saved", path, best)

    def _write(self, folder: Path, epoch: int) -> None:
        save_model(self.raw_generator, self.spec, folder, self.registry)
        terms = self.stepper.objective.terms
        state = {
            "epoch": epoch + 1,
            "global_step": self.global_step,
            "best": self.best,
            "best_metrics": self.best_metrics,
            "optimizer": self.stepper.optimizer.state_dict(),
            "losses": {term.name: term.loss.state_dict() for term in terms},
            "critics": {term.name: term.critic.state_dict() for term in terms if term.critic is not None},
            "critic_optimizers": {name: opt.state_dict() for name, opt in self.stepper.critic_optimizers.items()},
            "rates": self.rates.state_dict(),
            "random": random_state(),
        }
        write_state(folder, state)


class StepLog:
    """Collects a training epoch's scalars, and stops the run when one is not finite.

    Args:
        every: Steps between two flushes.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._recent = Averages()
        self._ids: list[str] = []
        self._epoch: dict[str, tuple[float, int]] = {}

    def add(self, values: dict[str, torch.Tensor], ids: list[str]) -> None:
        """Add one step's scalars and its sample ids."""
        self._recent.add(values)
        self._ids += ids

    def due(self, step: int, steps: int) -> bool:
        """Whether a flush is due after this step."""
        return (step + 1) % self._every == 0 or step + 1 == steps

    def flush(self, info: StepInfo) -> dict[str, float]:
        """Means since the last flush.

        Raises:
            RunError: One is not finite.
        """
        sums = self._recent.flush()
        for name, (total, _) in sums.items():
            if name.startswith(("loss/", "critic/")) and not math.isfinite(total):
                raise RunError(
                    f"{name} is not finite after step {info.step + 1} of epoch {info.epoch} (samples since the last "
                    f"log: {', '.join(dict.fromkeys(self._ids))}); lower optimizer.lr or training.grad_clip_norm, or "
                    f"set training.precision: fp32. The last checkpoint is from before it"
                )
        self._ids = []
        for name, (total, count) in sums.items():
            before = self._epoch.get(name, (0.0, 0))
            self._epoch[name] = (before[0] + total, before[1] + count)
        return {name: total / count for name, (total, count) in sums.items()}

    def epoch_means(self) -> dict[str, float]:
        """Means over the epoch so far."""
        return {name: total / count for name, (total, count) in self._epoch.items()}


def check_sizes(recipe: Recipe, stride: int) -> None:
    """Refuse input sizes that the encoder cannot take.

    Raises:
        RunError: `data.image_size` or `data.crop_size` is no multiple of the encoder's coarsest stride.
    """
    for key in ("image_size", "crop_size"):
        size = getattr(recipe.data, key)
        if size is not None and size % stride:
            nearest = max(stride, round(size / stride) * stride)
            raise RunError(
                f"data.{key}: found {size}, but encoder {recipe.encoder.use} takes multiples of {stride}; the nearest "
                f"is {nearest}"
            )
