"""The stages that render a run's captures and train its model."""

from pathlib import Path
from typing import Any

from neuropbr_core.data.opening import captures_missing, ensure_captures
from neuropbr_core.errors import RunError
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.reporting import reporter
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.stage import Context, Stage
from neuropbr_core.runs.teacher import TeacherPlan, attach_logits, open_data
from neuropbr_core.training.distillation import TrainedTeacher
from neuropbr_core.training.fabric import blame
from neuropbr_core.training.loop.trainer import Observers, Trainer
from neuropbr_core.training.provenance import recorded_teacher, write_provenance


class RenderCaptures(Stage):
    """Renders the captures that `data.synthesize` asks for and that are missing.

    Args:
        recipe: The recipe.
    """

    name = "data"

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

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
        return lines

    def execute(self, context: Context) -> None:
        """Render in the first process, while the others wait."""
        context.first(lambda: ensure_captures(self.recipe.data, device=self.recipe.training.device))


class Train(Stage):
    """Trains the recipe's model.

    Args:
        recipe: The recipe.
        run: The run.
        resume: Whether to continue from the newest sound checkpoint.
        overwrite: Whether the run that is there is replaced.

    Attributes:
        teacher: How the recipe's teacher is had; None for a recipe without one.
    """

    name = "train"

    def __init__(self, recipe: Recipe, run: RunFolder, *, resume: bool, overwrite: bool) -> None:
        self.recipe = recipe
        self.run = run
        self.teacher: TeacherPlan | None = None
        self.resume = resume
        self.overwrite = overwrite

    def done(self) -> bool:
        """Whether the run is trained to its last epoch; a run that is to be replaced is not."""
        return not self.overwrite and self.run.is_trained(self.recipe.training.epochs)

    def describe(self) -> list[str]:
        """The run and the epochs."""
        if self.done():
            how = "is trained"
        elif self.resume:
            how = "will be continued"
        elif self.overwrite:
            how = "will be trained, in place of the run that is there,"
        else:
            how = "will be trained"
        return [f"{self.run.path}: {how} to the end of {self.recipe.training.epochs} epochs"]

    def execute(self, context: Context) -> None:
        """Train, in all processes.

        Raises:
            RunError: The run was started with another teacher; a loss stopped being finite; memory ran out.
            RunInterrupted: A signal asked for it; the run has saved.
            DataError: The data, or the teacher's predictions of them, cannot be used.
            CheckpointError: There is no checkpoint to continue from, or one could not be saved.
        """
        teacher = None
        if self.teacher is not None:
            teacher = self.teacher.open()
            for note in self.teacher.notes():
                reporter().line(f"Teacher: {note}")
        # Before the data are opened: a student's split of the materials is its teacher's.
        if self.resume:
            check_same_teacher(self.run, teacher)
        # Observers first: one that cannot work says so before data are opened or an older run is removed.
        components = {}
        if context.is_first:  # others would write the same files and lines
            for name, part in self.recipe.observers.items():
                components[name] = part.create(run_dir=self.run.path)
        observers = Observers(components)
        dataset = attach_logits(open_data(self.recipe, teacher, context), self.recipe, teacher)

        def write_records() -> None:
            if self.overwrite:
                self.run.clear()
                self.overwrite = False  # from here on, the folder is that of the new run
            facts: dict[str, Any] = {"data": dataset.fingerprint, "split": dataset.split}
            if teacher is not None:
                facts["teacher"] = teacher.record
            # The recipe first: a folder that has one can be overwritten, whenever this process is killed.
            self.run.write_recipe(self.recipe)
            write_provenance(self.run.path, self.recipe, facts)

        # Only now is an older run removed: everything that can be wrong with the recipe and the data is checked.
        context.first(write_records)
        trainer = Trainer(
            self.recipe,
            dataset,
            self.run.path,
            observers,
            context.fabric,
            teacher,
            before_save=context.require_lock,
        )
        try:
            for line in trainer.notes:
                reporter().line(line)
            if self.resume:
                trainer.resume()
            trainer.fit()
        except BaseException as caught:
            # Talking to a process that has failed fails here too; then its failure is the one to report.
            error = blame(trainer.fabric, caught)
            observers.tell("run_failed", error)
            if error is caught:
                raise
            raise error from caught


def check_resumable(old: Recipe, new: Recipe) -> None:
    """Refuse to continue a run with another network or other losses.

    Raises:
        RunError: `model` or `losses` differ.
    """
    # These two decide the shapes of the weights and the critics; every other section may change.
    for section in ("model", "losses"):
        if old.tree[section] != new.tree[section]:
            raise RunError(
                f"cannot resume: section `{section}` differs from the recipe that the run was started with; use "
                f"--run-name for a new run (`neuropbr recipe diff` shows the differences)"
            )


def check_same_teacher(run: RunFolder, teacher: TrainedTeacher | None) -> None:
    """Refuse to continue a run with another teacher than it was started with.

    Raises:
        RunError: It differs, or one of both has none.
        DataError: The run's record cannot be read.
    """
    before = recorded_teacher(run.provenance)
    now = None
    if teacher is not None:
        now = teacher.record
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
