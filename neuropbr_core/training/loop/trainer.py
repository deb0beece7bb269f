"""The loop: epochs of steps, validation, checkpoints. Nothing in a step waits for the device."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch

from neuropbr_core.contracts import EpochSummary, Observer, RunInfo, StepInfo, ValidationSummary
from neuropbr_core.data.opening import OpenedDataset
from neuropbr_core.errors import PluginBroken, RunError, RunInterrupted
from neuropbr_core.model.spec import ModelSpec, build_generator, parameter_count
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry.catalog import OWN_DISTRIBUTION
from neuropbr_core.reporting import reporter
from neuropbr_core.training.checkpoints.saving import Position, Saver
from neuropbr_core.training.checkpoints.store import CheckpointStore
from neuropbr_core.training.fabric import synchronise_batch_norm
from neuropbr_core.training.lightning import Fabric, seed_everything
from neuropbr_core.training.loop.average import WeightAverage
from neuropbr_core.training.loop.feed import Feed
from neuropbr_core.training.loop.initial import start_from
from neuropbr_core.training.loop.memory import advice, is_out_of_memory, out_of_memory, validation_advice
from neuropbr_core.training.loop.networks import apply_switches
from neuropbr_core.training.loop.objective import Objective
from neuropbr_core.training.loop.step import make_rates, make_stepper
from neuropbr_core.training.loop.step_log import StepLog
from neuropbr_core.training.loop.validation import validate
from neuropbr_core.training.teachers import TrainedTeacher, load_online


class Observers:
    """The observers of a run.

    Args:
        observers: By instance name.
    """

    def __init__(self, observers: dict[str, Observer]) -> None:
        self._observers = dict(observers)

    def tell(self, event: str, *details: Any) -> None:
        """Call the method `event` of every observer that still works."""
        for name, observer in list(self._observers.items()):
            try:
                getattr(observer, event)(*details)
            except Exception as error:  # an observer must not stop a run, whatever it does
                # Left out, because it would fail in every step, and a warning each time would hide all others.
                del self._observers[name]
                reason = f"{type(error).__name__}: {error}"
                if isinstance(error, PluginBroken):
                    reason = str(error)  # it names the observer's package
                reporter().warning(f"observer {name} failed in {event} and is left out from here on: {reason}")


_HANDLED = (signal.SIGINT, signal.SIGTERM)
_NOTE = "\nStopping after this step, then saving. Press Ctrl-C again to stop at once, without saving.\n"


class StopSignals:
    """Context in which signals are noted instead of obeyed; outside the main thread it does nothing.

    After the first signal the handlers of before are back in place, so that the second one does what it always does.

    Args:
        fabric: Knows the other processes, of which perhaps only one was told.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._received = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Take over the signals, except those that are ignored (as by `nohup`)."""
        if threading.current_thread() is threading.main_thread():
            for number in _HANDLED:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put the handlers of before back."""
        self._release()

    def received(self) -> int:
        """The signal that any process was told, or 0. Every process must ask at the same time."""
        if self._fabric.world_size == 1:
            return self._received
        told = torch.tensor(self._received, device=self._fabric.device)
        return int(torch.as_tensor(self._fabric.all_reduce(told, reduce_op="max")))

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._received = number
        self._release()  # so that the next signal ends the process, in case this step never ends
        if self._fabric.is_global_zero:
            os.write(sys.stderr.fileno(), _NOTE.encode())  # a signal may interrupt a print, so this is none

    def _release(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class Trainer:
    """Trains the generator of one recipe in one run folder.

    Args:
        recipe: The recipe.
        dataset: The opened dataset.
        run_dir: The run's folder, into which checkpoints go.
        observers: Receive metrics, pictures and events.
        fabric: Device and processes, launched.
        teacher: The recipe's teacher, when it has one.
        init_from: Folder of a checkpoint whose weights the networks start from, as far as they fit.
        before_save: Called in the first process before a checkpoint is written; may raise to refuse it.

    Attributes:
        position: How far the run is.
        notes: Lines for people: a switch that the recipe leaves open and that cannot be had here, and why.
        start_notes: Lines for people on the weights that a new run starts from.
    """

    def __init__(  # noqa: PLR0913 - everything that a run has opened before it trains
        self,
        recipe: Recipe,
        dataset: OpenedDataset,
        run_dir: Path,
        observers: Observers,
        fabric: Fabric,
        teacher: TrainedTeacher | None = None,
        *,
        init_from: Path | None = None,
        before_save: Callable[[], None] | None = None,
    ) -> None:
        self.recipe = recipe
        self.dataset = dataset
        self.run_dir = run_dir
        self.observers = observers
        self.fabric = fabric
        training = recipe.training
        # All processes build the same weights, so the seed is the same; it changes at the end of this function.
        seed_everything(training.seed, verbose=False)
        spec = ModelSpec.from_recipe(recipe)
        generator = build_generator(spec)
        self.raw_generator = generator
        self.parameters = parameter_count(generator)
        if training.sync_batch_norm and fabric.world_size > 1:
            synchronise_batch_norm(generator)
        self._teacher_spec = None
        if teacher is not None:
            self._teacher_spec = teacher.spec
        online = None
        teacher_features: dict[str, int] = {}
        if teacher is not None and recipe.has_online_teacher:
            online = load_online(recipe, teacher.checkpoint, fabric)
            teacher_features = online.generator.feature_channels
        objective = Objective.from_recipe(recipe, generator.feature_channels, teacher_features)
        self.start_notes = generator.encoder.notes
        if init_from is not None:
            # Before Fabric moves the weights and before they are averaged.
            self.start_notes = start_from(init_from, generator, objective)
        self.stepper = make_stepper(fabric, recipe, generator, objective)
        # After Fabric moved the weights: what is compiled is bound to their device.
        self.notes = apply_switches(generator, training, fabric.device)
        # After Fabric moved the weights, too: the average is a copy and stays on the device where it is made.
        self.average: WeightAverage | None = None
        if training.ema is not None:
            self.average = WeightAverage(generator, training.ema)
        self.rates = make_rates(recipe, self.stepper)
        self.feed = Feed(recipe, dataset.train, fabric, online)
        self.saver = Saver(
            CheckpointStore.of_run(run_dir),
            spec,
            training,
            self.average,
            self.stepper,
            self.rates,
            self.feed.resume_counts,
            before_save,
        )
        self.signals = StopSignals(fabric)
        self.position = Position()
        authors = {}
        for name, part in recipe.losses.items():
            if part.declared.distribution != OWN_DISTRIBUTION:
                authors[name] = str(part.declared)
        networks = []
        for part in (spec.encoder, spec.fusion):
            if part.declared.distribution != OWN_DISTRIBUTION:
                networks.append(str(part.declared))
        self.log = StepLog(
            fabric,
            training.log_every_n_steps,
            max_skips=training.max_skips,
            overflows=self.stepper.scaled,
            authors=authors,
            networks=networks,
        )
        self._validating = False
        if fabric.world_size > 1:
            # From here on, random numbers are dropout's, which must differ between processes.
            seed_everything(training.seed + fabric.global_rank, verbose=False)

    def fit(self) -> dict[str, float]:
        """Train from the current epoch to the last.

        Returns:
            The validation metrics of the best epoch; empty without a validation set.

        Raises:
            RunError: A loss stopped being finite, or memory ran out.
            RunInterrupted: A signal asked for it; the run has saved.
            CheckpointError: A checkpoint could not be saved.
        """
        facts = {"device": str(self.fabric.device)}
        if self.fabric.world_size > 1:
            facts["processes"] = str(self.fabric.world_size)
        facts["parameters"] = f"{self.parameters:,}"
        facts["training samples"] = str(len(self.dataset.train.samples))
        facts["held-back samples"] = str(len(self.dataset.val.samples))
        info = RunInfo(
            self.run_dir.name,
            self.run_dir,
            self.recipe.training.epochs,
            self.feed.steps,
            self.position.epoch,
            self.position.global_step,
            self.recipe.tree,
            facts,
        )
        self.observers.tell("run_started", info)
        try:
            with self.signals:
                while self.position.epoch < self.recipe.training.epochs:
                    epoch = self.position.epoch
                    summary = self._train_epoch(epoch)
                    score = self._validate(epoch, summary)
                    is_best = score is not None and score < self.position.best
                    if score is not None and is_best:
                        # Before saving, so that the checkpoint itself knows that it is the best.
                        self.position.best = score
                        self.position.best_name = self.position.name
                    checkpoint = self.saver.save(self.position, best=is_best, log=self.log.state_dict())
                    self.observers.tell("checkpoint_saved", checkpoint, is_best)
                    # A signal that came in the epoch's last step or in validation; both are saved now.
                    number = self.signals.received()
                    if number:
                        raise self._interrupted(number, checkpoint)
        except (RuntimeError, MemoryError) as error:  # CUDA's out-of-memory error is a RuntimeError
            if not is_out_of_memory(error):
                raise
            device = self.fabric.device
            # Validation keeps no activations but predicts whole frames, so other settings help there.
            where = f"in step {self.position.step + 1} of epoch {self.position.epoch + 1}"
            settings = advice(self.recipe, device, self._teacher_spec)
            if self._validating:
                where = f"in the validation of epoch {self.position.epoch}, which predicts whole frames"
                settings = validation_advice(self.recipe, device)
            raise RunError(out_of_memory(error, where, settings, device)) from error
        self.observers.tell("run_finished", self.position.best_metrics)
        return self.position.best_metrics

    def resume(self, checkpoint: str | None = None) -> None:
        """Continue from a checkpoint, and report what is not as it was.

        Args:
            checkpoint: Which one: `best`, `latest`, a name or a path; newer ones are then kept aside. Default: the
                newest sound one.

        Raises:
            CheckpointError: There is none.
        """
        resumed = self.saver.load(checkpoint)
        self.position = resumed.position
        if resumed.log is not None:
            self.log.load_state_dict(resumed.log)
        for problem in resumed.problems:
            reporter().warning(problem)
        if resumed.aside is not None:
            reporter().line(f"Later checkpoints are kept in {resumed.aside}")
        if self.position.step and resumed.resume_counts != self.feed.resume_counts:
            reporter().warning(
                f"the checkpoint is {self.position.step} steps into an epoch, but batches or samples are not those it "
                f"was trained with, so the epoch starts over"
            )
            self.position.step = 0
            self.log.clear()
        within = f" and {self.position.step} steps" if self.position.step else ""
        reporter().line(f"Resuming after epoch {self.position.epoch}{within} of {self.recipe.training.epochs}")

    def _train_epoch(self, epoch: int) -> EpochSummary:
        """Train for one epoch, or for what is left of it."""
        self.stepper.generator.train()
        training = self.recipe.training
        log = self.log
        steps = self.feed.steps
        for term in self.stepper.objective.joining(epoch):
            slowly = f", growing over {term.entry.ramp_epochs} epochs" if term.entry.ramp_epochs else ""
            reporter().line(f"Epoch {epoch + 1}: loss {term.name} counts from here on{slowly}")
        start = self.position.step
        started = time.monotonic()
        for step, group in enumerate(self.feed.groups(epoch, start), start):
            # Learning rates follow the position alone, so a resumed run is on the same curve.
            rates = self.rates.set(epoch + step / steps)
            is_last = step + 1 == steps  # the end of the epoch has a checkpoint of its own, after validation
            log_due = log.due(self.position.global_step + 1, last=is_last and epoch + 1 == training.epochs)
            # The epoch's means have errors of the maps too, also where no log is due within it.
            measured = log_due or is_last
            outcome = self.stepper.step(group.batches, group.weights, epoch, measured=measured)
            # A dropped update leaves the weights, and so their average, as they were.
            if self.average is not None and outcome.updated:
                self.average.update(self.raw_generator)
            log.add(step, epoch, outcome, group.ids)
            self.position.step = step + 1
            self.position.global_step += 1
            info = StepInfo(epoch, step, steps, self.position.global_step)
            self.observers.tell("step_finished", info)
            if log_due:
                # Reading the scalars waits for the device; this is the one place in a step that does.
                self.observers.tell("metrics_logged", info, {**log.flush(epoch), **rates})
            every = training.save_every_n_steps
            if every is not None and self.position.global_step % every == 0 and not is_last:
                self._save_within(epoch, log)
            # Several processes agree on a signal when a log is due: asking each other waits for the device.
            may_stop = self.fabric.world_size == 1 or measured
            if may_stop and not is_last:
                number = self.signals.received()
                if number:
                    raise self._interrupted(number, self._save_within(epoch, log))
        # An interrupted epoch counts the seconds since it was resumed only.
        metrics = {**log.end_epoch(epoch), "seconds": time.monotonic() - started}
        self.position.epoch = epoch + 1
        self.position.step = 0
        summary = EpochSummary(epoch, self.position.global_step, metrics)
        self.observers.tell("epoch_finished", summary)
        return summary

    def _validate(self, epoch: int, summary: EpochSummary) -> float | None:
        """Validate, when it is due.

        Returns:
            The score that decides which epoch is best (lower is better), or None when none is due. Without held-back
            samples it is the training's reconstruction loss, which a loss that joins late does not change.
        """
        training = self.recipe.training
        done = epoch + 1
        is_last = done == training.epochs
        if not self.dataset.val.samples:
            score = summary.metrics.get("loss/reconstruction")
            if score is not None:
                self.rates.validated(score, done)
            return score
        if done % training.validate_every_n_epochs and not is_last:
            return None
        images_due = done % training.log_images_every_n_epochs == 0 or is_last
        with_images = self.fabric.is_global_zero and images_due
        generator = self.stepper.generator
        if self.average is not None:
            generator = self.average.module
        self._validating = True  # for the message, should memory run out
        result = validate(generator, self.stepper, self.dataset.val, self.recipe, epoch, with_images=with_images)
        self._validating = False
        score = result.metrics["loss"]
        # The interval counts, so that patience is in epochs whatever the interval.
        self.rates.validated(score, done, training.validate_every_n_epochs)
        self.observers.tell(
            "validation_finished",
            ValidationSummary(epoch, self.position.global_step, result.metrics, result.images, result.details),
        )
        if score < self.position.best:
            self.position.best_metrics = result.metrics
        return score

    def _save_within(self, epoch: int, log: StepLog) -> Path:
        """Save a checkpoint in the middle of an epoch."""
        log.check(epoch)  # nothing is saved after a step that was not finite
        checkpoint = self.saver.save(self.position, best=False, log=log.state_dict())
        self.observers.tell("checkpoint_saved", checkpoint, False)
        return checkpoint

    def _interrupted(self, number: int, checkpoint: Path) -> RunInterrupted:
        cause = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        within = f" and {self.position.step} steps" if self.position.step else ""
        return RunInterrupted(
            f"Stopped by {cause} after {self.position.epoch} epochs{within}; saved {checkpoint}. The same command with "
            f"--resume goes on from there",
            number,
        )
