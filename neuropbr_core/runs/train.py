"""The stages that render a run's captures and train its model."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from neuropbr_core.data.opening import OpenedDataset, Survey, captures_missing, ensure_captures, survey_dataset
from neuropbr_core.data.splits import Split
from neuropbr_core.errors import DataError, RunError
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.model.weights import weights_digest
from neuropbr_core.recipe.compare import differences
from neuropbr_core.recipe.sections import Recipe, Training
from neuropbr_core.registry.installed import FILE_DISTRIBUTION
from neuropbr_core.reporting import reporter
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.stage import Context, Stage
from neuropbr_core.runs.teacher import TeacherPlan, attach_logits, open_data
from neuropbr_core.training.checkpoints.saving import read_resume_counts
from neuropbr_core.training.fabric import blame
from neuropbr_core.training.loop.budget import describe_batch, settle_batch
from neuropbr_core.training.loop.initial import find_start
from neuropbr_core.training.loop.networks import refuse_frozen
from neuropbr_core.training.loop.schedule import learning_rate
from neuropbr_core.training.loop.trainer import Observers, Trainer
from neuropbr_core.training.provenance import (
    recorded_components,
    recorded_data,
    recorded_drawn,
    recorded_split,
    recorded_start,
    recorded_teacher,
    write_provenance,
)
from neuropbr_core.training.teachers import TrainedTeacher

_MOST_CHANGES = 12
"""Differences of recipes that are listed when a run is resumed."""

_RATE_TOLERANCE = 0.01
"""Relative change of the learning rate that is worth a line."""


class RenderCaptures(Stage):
    """Renders the captures that `data.synthesize` asks for and that are missing.

    Args:
        recipe: The recipe.

    Attributes:
        survey: What the run will train on, once `look` has found out.
    """

    name = "data"

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.survey: Survey | None = None

    def look(self, choose_split: Callable[[Iterable[str]], Split] | None = None) -> Survey:
        """Find out what the run will train on; changes nothing.

        Args:
            choose_split: Function that splits the materials; default: the split of section `data`.

        Raises:
            DataError: The dataset cannot be used, or has no sample to train on.
        """
        self.survey = survey_dataset(self.recipe, choose_split)
        return self.survey

    def done(self) -> bool:
        """Whether no capture is missing."""
        return not captures_missing(self.recipe.data)

    def describe(self) -> list[str]:
        """Each folder of the dataset, and whether it is there."""
        data = self.recipe.data
        missing = captures_missing(data)
        lines = []
        for place in (data.root, data.input_dir, data.output_dir):
            if not place:
                continue
            if missing:
                lines.append(f"{place}: {missing} captures are rendered")
            elif Path(place).exists():
                lines.append(f"{place}: is there")
            else:
                lines.append(f"{place}: is missing")
        if self.survey is not None:
            lines.append(f"{self.survey.train} samples to train on, {self.survey.val} held back")
            lines.extend(self.survey.notes)
        return lines

    def execute(self, context: Context) -> None:
        """Render in the first process, while the others wait."""
        context.first(lambda: ensure_captures(self.recipe.data, device=self.recipe.training.device))


class Train(Stage):
    """Trains the recipe's model.

    Args:
        recipe: The recipe.
        run: The run.
        resume: Whether to continue the run that is there.
        overwrite: Whether the run that is there is replaced.
        checkpoint: The checkpoint to continue from: a name, `best` or a path; default: the newest sound one.

    Attributes:
        teacher: How the recipe's teacher is had; None for a recipe without one.
        changes: How the recipe differs from the one that a resumed run had, one line each (`resume_changes`).
        batch_lines: Lines for people on the batch, where the recipe leaves it open.
    """

    name = "train"

    def __init__(
        self, recipe: Recipe, run: RunFolder, *, resume: bool, overwrite: bool, checkpoint: str | None = None
    ) -> None:
        self.recipe = recipe
        self.run = run
        self.checkpoint = checkpoint
        self.teacher: TeacherPlan | None = None
        self.resume = resume
        self.overwrite = overwrite
        self.batch_lines: list[str] = []
        self.changes: list[str] = []

    @property
    def continues(self) -> bool:
        """Whether there is a checkpoint to go on from; a run that stopped before its first one starts again."""
        return self.resume and bool(self.run.checkpoints.names())

    def done(self) -> bool:
        """Whether the run is trained to its last epoch; one that is replaced, or goes back to a checkpoint, is not."""
        if self.checkpoint is not None:
            return False
        return not self.overwrite and self.run.is_trained(self.recipe.training.epochs)

    def describe(self) -> list[str]:
        """The run and the epochs."""
        if self.done():
            how = "is trained"
        elif self.checkpoint is not None:
            how = f"will be continued from {self.checkpoint}, with later checkpoints kept aside,"
        elif self.continues:
            how = "will be continued"
        elif self.resume:
            how = "stopped before its first checkpoint and will be started again, to be trained"
        elif self.overwrite:
            how = "will be trained, in place of the run that is there,"
        else:
            how = "will be trained"
        lines = [f"{self.run.path}: {how} to the end of {self.recipe.training.epochs} epochs"]
        lines += [*self.changes, *self.batch_lines]
        if self.recipe.training.init_from is not None and not self.resume:
            lines.append(f"starts from the weights of {find_start(self.recipe.training.init_from)}")
        return lines

    def settle_batch(
        self, device: torch.device, processes: int, teacher: ModelSpec | None
    ) -> tuple[Training, list[str]]:
        """Find the batch where the recipe leaves it open; a run that goes on keeps its checkpoint's if it still fits.

        Args:
            device: Where the run trains.
            processes: Its processes.
            teacher: What the recipe's teacher is built from, when it has one.

        Returns:
            Section `training` with numbers for the batch, and lines for people on it.

        Raises:
            RunError: A step does not fit, or the processes cannot share `effective_batch`.
            CheckpointError: There is no sound checkpoint to go on from.
        """
        before = self.recipe.training
        resumed = None
        if before.batch_size == "auto" and self.continues:
            if self.checkpoint is not None:
                folder = self.run.checkpoints.resolve(self.checkpoint)
            else:
                folder, _ = self.run.checkpoints.newest_sound()
            resumed = read_resume_counts(folder)
        after = settle_batch(self.recipe, device, processes, teacher=teacher, resumed=resumed).training
        return after, describe_batch(before, after, processes, resumed)

    def execute(self, context: Context) -> None:
        """Train, in all processes.

        Raises:
            RunError: The encoder is frozen and has no start weights; a loss stopped being finite; memory ran out.
            RunInterrupted: A signal asked for it; the run has saved.
            DataError: The data, or the teacher's predictions of them, cannot be used.
            CheckpointError: There is no checkpoint to continue from, or one could not be saved.
        """
        teacher = None
        if self.teacher is not None:
            teacher = self.teacher.open()
            for note in self.teacher.notes():
                reporter().line(f"Teacher: {note}")
        continues = context.first(lambda: self.continues)
        if continues:
            for change in self.changes:
                reporter().line(change)
            self._warn_of_lost_record()
        elif self.resume:
            reporter().line(f"{self.run.path}: the run stopped before its first checkpoint; it starts again")
        # Observers first: one that cannot work says so before data are opened or an older run is removed.
        components = {}
        if context.is_first:  # others would write the same files and lines
            for name, part in self.recipe.observers.items():
                components[name] = part.create(run_dir=self.run.path)
        observers = Observers(components)
        continued = self.run if continues else None
        dataset = attach_logits(open_data(self.recipe, teacher, context, continued), self.recipe, teacher)
        context.prepared()

        init_from = None
        if self.recipe.training.init_from is not None and not continues:
            init_from = find_start(self.recipe.training.init_from)

        # The first process decides for all: free memory differs between them, and batches must not.
        spec = teacher.spec if teacher is not None else None
        settled = context.first(lambda: self.settle_batch(context.fabric.device, context.processes, spec))
        training, batch_lines = settled
        for line in batch_lines:
            reporter().line(line)
        trainer = Trainer(
            replace(self.recipe, training=training),
            dataset,
            self.run.path,
            observers,
            context.fabric,
            teacher,
            init_from=init_from,
            before_save=context.require_lock,
        )
        if not continues and init_from is None:
            # Again: start weights that could be downloaded, as far as the plan knew, may not have come.
            refuse_frozen(trainer.raw_generator.encoder, self.recipe)
        # Only now is an older run removed: everything that can be wrong with recipe, data and weights is checked.
        context.first(lambda: self._write_records(dataset, teacher, init_from))
        try:
            for line in trainer.notes:
                reporter().line(line)
            if continues:
                trainer.resume(self.checkpoint)
            else:
                for line in trainer.start_notes:
                    reporter().line(line)
            trainer.fit()
        except BaseException as caught:
            # Talking to a process that has failed fails here too; then its failure is the one to report.
            error = blame(trainer.fabric, caught)
            observers.tell("run_failed", error)
            if error is caught:
                raise
            raise error from caught

    def _warn_of_lost_record(self) -> None:
        """Tell that the run goes on without what only its record told."""
        try:
            recorded_split(self.run.provenance)
        except DataError as error:
            # The checkpoints have all that training needs; the record is written anew from the recipe and the data.
            reporter().warning(
                f"{error}; the run goes on from its checkpoints, with the teacher and the split that the recipe names, "
                f"so that validation may use materials that the run trained on"
            )

    def _write_records(self, dataset: OpenedDataset, teacher: TrainedTeacher | None, init_from: Path | None) -> None:
        """Make the folder a run, in place of an older one that is replaced; the first process alone does it."""
        start: dict[str, str] | None = None
        if init_from is not None:
            start = {"checkpoint": str(init_from), "weights": weights_digest(init_from)}
        elif self.continues:
            # The weights come from a checkpoint of the run, which itself came from there.
            with suppress(DataError):  # the record is lost, and is written anew
                start = recorded_start(self.run.provenance)
        trained: list[str] = []
        drawn = dataset.drawn
        if self.continues:
            # Where the record is lost, nobody knows what the weights have learnt from.
            drawn = None
            # The weights have learnt from these materials, whether the dataset still has them or not.
            with suppress(DataError):
                trained = recorded_split(self.run.provenance)["train"]
                drawn_before = recorded_drawn(self.run.provenance)
                if dataset.drawn is not None and drawn_before is not None:
                    drawn = tuple(sorted({*dataset.drawn, *drawn_before}))
                before = recorded_data(self.run.provenance)
                if before and before != dataset.fingerprint:
                    reporter().line("the data are not those that the run stopped with; it goes on with what is there")
        if self.overwrite:
            self.run.clear()
            self.overwrite = False  # from here on, the folder is that of the new run
        split = dict(dataset.split)
        split["train"] = sorted({*split["train"], *trained})
        facts: dict[str, Any] = {"data": dataset.fingerprint, "split": split, "drawn": drawn}
        if teacher is not None:
            facts["teacher"] = teacher.record
        if start is not None:
            facts["init_from"] = start
        # The recipe first: a folder that has one can be overwritten, whenever this process is killed.
        self.run.write_recipe(self.recipe)
        write_provenance(self.run.path, self.recipe, facts)


def check_resumable(old: Recipe, new: Recipe) -> None:
    """Refuse to continue a run with another network, other losses, or an optimiser that keeps something else.

    Raises:
        RunError: `model` or `losses` differ, or one of both optimisers is `sgd`.
    """
    # These two decide the shapes of the weights and the critics; every other section may change.
    for section in ("model", "losses"):
        if old.tree[section] != new.tree[section]:
            raise RunError(
                f"cannot resume: section `{section}` differs from the recipe that the run was started with; use "
                f"--run-name for a new run (`neuropbr recipe diff` shows the differences)"
            )
    # Adam and AdamW keep the same two means of a gradient and differ in the decay alone; SGD keeps a momentum.
    before = old.optimizer.name
    now = new.optimizer.name
    if before != now and "sgd" in (before, now):
        raise RunError(
            f"cannot resume: optimizer.name is {now}, and the run was started with {before}, whose state {now} cannot "
            f"use; keep {before}, or use --run-name for a new run, whose --init-from can name this run's weights"
        )


def resume_changes(run: RunFolder, old: Recipe, new: Recipe) -> list[str]:
    """How a recipe differs from the one that a run had, and what becomes of the learning rate; one line each.

    Args:
        run: The run that is to be continued.
        old: The recipe that it had.
        new: The recipe that it is continued with.
    """
    lines = []
    for change in differences(old.tree, new.tree):
        # What this command asks for is no property of the run.
        if change.keys == ("training", "resume_from"):
            continue
        lines.append(f"changed since the run stopped: {change}")
    if len(lines) > _MOST_CHANGES:
        lines[_MOST_CHANGES:] = [f"and {len(lines) - _MOST_CHANGES} more (`neuropbr recipe diff` shows all)"]
    epoch = run.checkpoints.epoch()
    if epoch is None:
        return lines
    # A rate that jumps is the change that hurts: more epochs stretch the schedule that had almost ended.
    before = learning_rate(old.optimizer, old.optimizer.lr, epoch, old.training.epochs)
    after = learning_rate(new.optimizer, new.optimizer.lr, epoch, new.training.epochs)
    if abs(after - before) > _RATE_TOLERANCE * before:
        lines.append(
            f"the learning rate was {before:.1e} after epoch {epoch}, and goes on at {after:.1e}: "
            f"{new.optimizer.scheduler} over {new.training.epochs} epochs; optimizer.lr and optimizer.scheduler decide"
        )
    return lines


def check_same_plugin_files(run: RunFolder, recipe: Recipe) -> None:
    """Refuse to continue a run with a plugin file that has changed since the run was started.

    Raises:
        RunError: The hash of a file differs from the recorded one.
    """
    try:
        before = recorded_components(run.provenance)
    except DataError:
        return  # a run without its record goes on; `Train.execute` warns about it
    now = {}
    for part in recipe.components:
        now[part.kind, part.declared.name] = part.declared
    for record in before:
        entry = now.get((record.kind, record.name))
        # A component that is left out now, or comes from a package now, is the recipe's change and not the file's.
        if entry is None or not entry.file or record.distribution != FILE_DISTRIBUTION:
            continue
        if entry.version != record.version:
            raise RunError(
                f"cannot resume: {entry.file} has changed since the run was started (then {record.version}, now "
                f"{entry.version}); restore the file, or use --run-name for a new run"
            )


def check_same_teacher(run: RunFolder, teacher: TeacherPlan | None) -> None:
    """Refuse to continue a run with another teacher than it was started with.

    Args:
        run: The run.
        teacher: How the teacher is had now.

    Raises:
        RunError: It differs, or has yet to be trained, or one of both has none.
    """
    try:
        before = recorded_teacher(run.provenance)
    except DataError:
        return  # a run without its record goes on; `Train.execute` warns about it
    now = None
    if teacher is not None and teacher.state != "there":
        raise RunError(
            f"cannot resume: the run was started with another teacher ({_place(before)}) than it has now "
            f"({teacher.place}, which is not trained yet); bring the earlier teacher back, or use --run-name for a new "
            f"run"
        )
    if teacher is not None:
        now = teacher.open().record
    if _identity(before) != _identity(now):
        raise RunError(
            f"cannot resume: the run was started with another teacher ({_place(before)}) than it has now "
            f"({_place(now)}); use --run-name for a new run"
        )


def _identity(record: dict[str, str] | None) -> tuple[str, str] | None:
    """What makes two teachers the same, wherever their checkpoints are."""
    if record is None:
        return None
    # Not the checkpoint's path: a teacher's folder may have been moved.
    return record["weights"], record["model"]


def _place(record: dict[str, str] | None) -> str:
    if record is None:
        return "none"
    return record["checkpoint"]
