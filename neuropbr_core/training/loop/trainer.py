"""The loop: epochs of steps, validation, checkpoints. Nothing in a step waits for the device."""

import signal
import time
from pathlib import Path
from typing import Any

import lightning_fabric as lightning
from lightning_fabric import Fabric

from neuropbr_core.contracts import EpochSummary, RunInfo, StepInfo, ValidationSummary
from neuropbr_core.data.opening import OpenedDataset
from neuropbr_core.errors import RunError, RunInterrupted
from neuropbr_core.model import ModelSpec, build_generator, parameter_count
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.training.checkpoints.saving import Saver
from neuropbr_core.training.checkpoints.state import Progress
from neuropbr_core.training.device import synchronise_batch_norm
from neuropbr_core.training.distillation.online import load_online
from neuropbr_core.training.distillation.teacher import FoundTeacher
from neuropbr_core.training.loop.assembly import make_rates, make_stepper
from neuropbr_core.training.loop.average import WeightAverage
from neuropbr_core.training.loop.feed import Feed
from neuropbr_core.training.loop.memory import advice, is_out_of_memory, out_of_memory, validation_advice
from neuropbr_core.training.loop.notify import Observers
from neuropbr_core.training.loop.objective import Objective
from neuropbr_core.training.loop.signals import StopSignals
from neuropbr_core.training.loop.step_log import StepLog
from neuropbr_core.training.loop.switches import apply_switches
from neuropbr_core.training.loop.validation import validate


class Trainer:
    """Trains the generator of one recipe in one run folder.

    Args:
        recipe: The recipe.
        dataset: The opened dataset.
        folder: The run.
        observers: Who is told.
        fabric: Device and processes, launched.
        teacher: The recipe's teacher, when it has one.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: OpenedDataset,
        folder: RunFolder,
        observers: Observers,
        fabric: Fabric,
        teacher: FoundTeacher | None = None,
    ) -> None:
        self.recipe, self.dataset = recipe, dataset
        self.folder, self.observers, self.fabric = folder, observers, fabric
        training = recipe.training
        lightning.seed_everything(training.seed, verbose=False)
        spec = ModelSpec.from_recipe(recipe)
        self.raw_generator = generator = build_generator(spec)
        self.parameters = parameter_count(generator)
        if training.sync_batch_norm and fabric.world_size > 1:
            synchronise_batch_norm(generator)
        online = load_online(recipe, teacher, fabric)
        taught = {} if online is None else online.generator.feature_channels
        objective = Objective.from_recipe(recipe, generator.feature_channels, taught)
        self.stepper = make_stepper(fabric, recipe, generator, objective)
        self.notes = apply_switches(generator, training, fabric.device)
        self.average = None if training.ema is None else WeightAverage(generator, training.ema)
        self.rates = make_rates(recipe, self.stepper)
        self.feed = Feed(recipe, dataset.train, fabric, online)
        self.saver = Saver(
            folder.checkpoints,
            spec,
            training,
            self.average,
            self.stepper,
            self.rates,
            self.feed.layout,
        )
        self.signals = StopSignals(fabric)
        self.progress = Progress()
        self._log_state: dict[str, Any] | None = None
        self._validating = False
        if fabric.world_size > 1:  # dropout must differ between processes
            lightning.seed_everything(training.seed + fabric.global_rank, verbose=False)

    def fit(self) -> dict[str, float]:
        """Train from the current epoch to the last.

        Returns:
            The validation metrics of the best epoch; empty without a validation set.

        Raises:
            RunError: A loss stopped being finite, or memory ran out.
            RunInterrupted: A signal asked for it; the run has saved.
            CheckpointError: A checkpoint could not be saved.
        """
        self.observers.tell("run_started", self._info())
        try:
            with self.signals:
                self._train_epochs()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise RunError(self._out_of_memory(error)) from error
        self.observers.tell("run_finished", self.progress.best_metrics)
        return self.progress.best_metrics

    def _out_of_memory(self, error: BaseException) -> str:
        device, progress = self.fabric.device, self.progress
        if self._validating:
            where = f"in the validation of epoch {progress.epoch}, which predicts whole frames"
            return out_of_memory(error, where, validation_advice(self.recipe, device), device)
        where = f"in step {progress.step + 1} of epoch {progress.epoch + 1}"
        return out_of_memory(error, where, advice(self.recipe, device), device)

    def _train_epochs(self) -> None:
        while self.progress.epoch < self.recipe.training.epochs:
            epoch = self.progress.epoch
            summary = self._train_epoch(epoch)
            score = self._validate(epoch, summary)
            path = self._finish_epoch(score)
            if number := self.signals.received():
                raise self._interrupted(number, path)

    def resume(self) -> list[str]:
        """Continue from the newest sound checkpoint; returns lines about what is not as it was.

        Raises:
            CheckpointError: There is none.
        """
        resumed = self.saver.load()
        self.progress, self._log_state = resumed.progress, resumed.log
        said = [f"warning: {problem}" for problem in resumed.problems]
        if self.progress.step and resumed.layout != self.feed.layout:
            said.append(
                f"warning: the checkpoint lies {self.progress.step} steps into an epoch, but batches or samples are "
                f"not those it was trained with, so the epoch starts over"
            )
            self.progress.step, self._log_state = 0, None
        within = f" and {self.progress.step} steps" if self.progress.step else ""
        return [*said, f"Resuming after epoch {self.progress.epoch}{within} of {self.recipe.training.epochs}"]

    def _info(self) -> RunInfo:
        facts = {
            "device": str(self.fabric.device),
            **({"processes": str(self.fabric.world_size)} if self.fabric.world_size > 1 else {}),
            "parameters": f"{self.parameters:,}",
            "training samples": str(len(self.dataset.train.samples)),
            "held-back samples": str(len(self.dataset.val.samples)),
        }
        return RunInfo(
            self.folder.name,
            self.folder.path,
            self.recipe.training.epochs,
            self.feed.steps,
            self.progress.epoch,
            self.progress.global_step,
            self.recipe.tree,
            facts,
        )

    def _train_epoch(self, epoch: int) -> EpochSummary:
        self.stepper.generator.train()
        steps = self.feed.steps
        log = self._new_log()
        groups = self.feed.groups(epoch, self.progress.step)
        started = time.monotonic()
        for step, group in enumerate(groups, self.progress.step):
            rates = self.rates.set(epoch + step / steps)
            due = log.due(step, steps)
            stepped = self.stepper.step(group.batches, group.weights, epoch, measured=due)
            if self.average is not None and stepped.updated:
                self.average.update(self.raw_generator)
            log.add(step, epoch, stepped, group.ids)
            self.progress.step, self.progress.global_step = step + 1, self.progress.global_step + 1
            info = StepInfo(epoch, step, steps, self.progress.global_step)
            self.observers.tell("step_finished", info)
            if due:
                self.observers.tell("metrics_logged", info, {**log.flush(epoch), **rates})
            if self._save_due(step, steps):
                self._save_within(epoch, log)
            self._stop_if_asked(step, steps, log)
        metrics = {**log.epoch_means(), "seconds": time.monotonic() - started}
        self.progress.epoch, self.progress.step = epoch + 1, 0
        summary = EpochSummary(epoch, self.progress.global_step, metrics)
        self.observers.tell("epoch_finished", summary)
        return summary

    def _new_log(self) -> StepLog:
        """The log of an epoch, continued when a resumed run is within one."""
        training = self.recipe.training
        log = StepLog(
            self.fabric, training.log_every_n_steps, max_skips=training.max_skips, overflows=self.stepper.scaled
        )
        if self._log_state is not None:
            log.load_state_dict(self._log_state)
            self._log_state = None
        return log

    def _validate(self, epoch: int, summary: EpochSummary) -> float | None:
        """Returns the score that decides which epoch is best (lower is better), or None when none is due."""
        training = self.recipe.training
        last = epoch + 1 == training.epochs
        if not self.dataset.val.samples:
            score = summary.metrics.get("loss/reconstruction")
            if score is not None:
                self.rates.validated(score, epoch + 1)
            return score
        if (epoch + 1) % training.validate_every_n_epochs and not last:
            return None
        images_due = self.fabric.is_global_zero and ((epoch + 1) % training.log_images_every_n_epochs == 0 or last)
        generator = self.stepper.generator if self.average is None else self.average.module
        self._validating = True
        result = validate(generator, self.stepper, self.dataset.val, self.recipe, epoch, with_images=images_due)
        self._validating = False
        self.rates.validated(result.metrics["loss"], epoch + 1, training.validate_every_n_epochs)
        self.observers.tell(
            "validation_finished",
            ValidationSummary(epoch, self.progress.global_step, result.metrics, result.images, result.details),
        )
        if result.metrics["loss"] < self.progress.best:
            self.progress.best_metrics = result.metrics
        return result.metrics["loss"]

    def _finish_epoch(self, score: float | None) -> Path:
        best = score is not None and score < self.progress.best
        if best and score is not None:
            self.progress.best, self.progress.best_name = score, self.progress.name
        path = self.saver.save(self.progress, best=best)
        self.observers.tell("checkpoint_saved", path, best)
        return path

    def _save_due(self, step: int, steps: int) -> bool:
        """Whether a checkpoint within the epoch is due; the one at its end comes by itself."""
        every = self.recipe.training.save_every_n_steps
        return every is not None and self.progress.global_step % every == 0 and step + 1 < steps

    def _save_within(self, epoch: int, log: StepLog) -> Path:
        log.check(epoch)
        path = self.saver.save(self.progress, best=False, log=log.state_dict())
        self.observers.tell("checkpoint_saved", path, False)
        return path

    def _stop_if_asked(self, step: int, steps: int, log: StepLog) -> None:
        """End the run after a step, if a signal asked for it; at the end of an epoch that waits for its checkpoint.

        Several processes agree on it when a log is due, because asking each other waits for the device.

        Raises:
            RunInterrupted: It is so; the run has saved.
        """
        if step + 1 == steps or (self.fabric.world_size > 1 and not log.due(step, steps)):
            return
        if number := self.signals.received():
            raise self._interrupted(number, self._save_within(self.progress.epoch, log))

    def _interrupted(self, number: int, path: Path) -> RunInterrupted:
        cause = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        within = f" and {self.progress.step} steps" if self.progress.step else ""
        return RunInterrupted(
            f"Stopped by {cause} after {self.progress.epoch} epochs{within}; saved {path}. The same command with "
            f"--resume goes on from there",
            number,
        )
