"""The stages that give a student its teacher: the teacher's own run, and its predictions of the training samples."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast

from neuropbr_core.data.batches.teacher_logits import SUFFIX, differences, read_logits, require
from neuropbr_core.data.opening import OpenedDataset, open_dataset, splitter
from neuropbr_core.data.splits import RUN, Split, keep_split
from neuropbr_core.errors import DataError, RunError
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.model.weights import read_spec
from neuropbr_core.recipe.compare import differences as recipe_differences
from neuropbr_core.recipe.loading import load_recipe, teachers_recipe
from neuropbr_core.recipe.sections import Data, Recipe, Teacher
from neuropbr_core.reporting import SilentReporter, reporter, reporting_to
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.stage import Context, Plan, Stage, carry_out
from neuropbr_core.training.checkpoints.store import BEST, find_checkpoint
from neuropbr_core.training.distillation import (
    SHARD_SIZE,
    LogitsReport,
    marks_of,
    store_logits,
)
from neuropbr_core.training.fabric import first_then_others
from neuropbr_core.training.provenance import recorded_split, recorded_trained
from neuropbr_core.training.teachers import TrainedTeacher, follow, open_teacher, teachers_data

_DECISIVE_SECTIONS = ("data", "model", "losses", "optimizer", "training")
"""Sections of a recipe that decide what a teacher becomes."""

_INCIDENTAL_KEYS = (
    ("training", "runs_dir"),
    ("training", "device"),
    ("training", "devices"),
    ("data", "pack"),
    ("data", "num_workers"),
)
"""Keys in these sections that do not."""


@dataclass(frozen=True)
class TeacherPlan:
    """How a recipe's teacher is had.

    Attributes:
        section: Section `teacher` of the student's recipe.
        place: Folder of the teacher's run, or of its checkpoint.
        recipe: What makes the run; None for a teacher that must be there.
    """

    section: Teacher
    place: Path
    recipe: Recipe | None

    @property
    def state(self) -> Literal["there", "interrupted", "missing"]:
        """Whether the teacher is trained, was interrupted, or has not been started."""
        if self.recipe is None:
            return "there"
        run = RunFolder(self.place)
        if not run.is_run:
            return "missing"
        if run.is_trained(run.recipe().training.epochs):
            return "there"
        return "interrupted"

    def spec(self) -> ModelSpec:
        """What its generator is built from, whether it is there or not."""
        if self.recipe is not None and self.state != "there":
            return ModelSpec.from_recipe(self.recipe)
        return read_spec(find_checkpoint(self.place))

    def open(self) -> TrainedTeacher:
        """The trained teacher: the best checkpoint of its run, or the checkpoint that is named."""
        return open_teacher(find_checkpoint(self.place))

    def notes(self) -> list[str]:
        """What a person should know about a teacher that is there: that it was made from another recipe."""
        run = RunFolder(self.place)
        if self.recipe is None or not run.is_run:
            return []
        # Only what changes the teacher's weights: another folder or number of workers makes the same teacher.
        changes = []
        for change in recipe_differences(run.recipe().tree, self.recipe.tree):
            if change.keys[0] in _DECISIVE_SECTIONS and change.keys not in _INCIDENTAL_KEYS:
                changes.append(change)
        if not changes:
            return []
        some = f"{len(changes)} values, such as {changes[0]}"
        return [f"the run that is there was made with another recipe ({some}); remove it to have it made again"]


def plan_teacher(recipe: Recipe) -> TeacherPlan | None:
    """Find out how a recipe's teacher is had; makes nothing.

    Returns:
        None for a recipe without a teacher.

    Raises:
        RecipeError: The teacher's recipe is wrong.
        CheckpointError: A teacher that must be there is not, or is damaged.
        RunError: The place of its run is taken by something else.
    """
    section = recipe.teacher
    if section is None:
        return None
    teacher_recipe = teachers_recipe(recipe)
    if teacher_recipe is None:
        # Verified now: a damaged teacher would otherwise be noticed after the data are rendered.
        place = section.place
        find_checkpoint(place)
        return TeacherPlan(section, place, None)
    run = RunFolder(Path(recipe.training.runs_dir) / teacher_recipe.name)
    if not run.is_run and not run.is_marked and not run.is_free:
        raise RunError(
            f"{run.path}: the teacher's run belongs there, but it is not empty and no run; set another "
            f"training.runs_dir, or name teacher.run"
        )
    return TeacherPlan(section, run.path, teacher_recipe)


class TrainTeacher(Stage):
    """Makes the run of a student's teacher: a run of its own, with its own processes, before those of the student.

    Args:
        teacher: How the teacher is had.
        plan: The stages of its run; None for a teacher that is there.
    """

    name = "teacher"

    def __init__(self, teacher: TeacherPlan, plan: Plan | None) -> None:
        self.teacher = teacher
        self.plan = plan

    def done(self) -> bool:
        """Whether the teacher is trained."""
        return self.teacher.state == "there"

    def describe(self) -> list[str]:
        """The teacher, and how it is had."""
        lines = self.teacher.notes()
        if self.done() or self.plan is None:
            return [*lines, f"{find_checkpoint(self.teacher.place)}: is there"]
        epochs = f"{self.plan.recipe.training.epochs} epochs of {self.teacher.section.recipe}"
        return [*lines, f"{self.teacher.place}: {self._how()} first, {epochs}"]

    def execute(self, context: Context) -> None:
        """Train, evaluate and export the teacher.

        Raises:
            NeuroPBRError: As the stages of the teacher's run.
        """
        del context  # the teacher's run has a context of its own
        if self.plan is None:
            return
        reporter().line(f"Teacher: {self.teacher.place} {self._how()} first, from {self.teacher.section.recipe}")
        carry_out(self.plan)

    def _how(self) -> str:
        if self.teacher.state == "interrupted":
            return "was interrupted and is continued"
        return "is missing and is trained"


class PredictLogits(Stage):
    """Stores a teacher's predictions of training samples, as many as are missing.

    Args:
        teacher: How the teacher is had.
        recipe: The recipe whose training samples are predicted: a student's, or that of the teacher's own run.
        continued: The student's run, when it goes on.
        folder: Where the predictions go; default: where the student's recipe says, or in the teacher's run.
        size: Side of the maps in pixels; default: the recipe's `data.output_size`.
        shard_size: Samples in a file.
        resume: Whether predictions may be there already.

    Attributes:
        report: What was predicted, once the stage was executed; None when nothing was missing.
    """

    name = "logits"

    def __init__(
        self,
        teacher: TeacherPlan,
        recipe: Recipe,
        *,
        continued: RunFolder | None = None,
        folder: Path | None = None,
        size: int | None = None,
        shard_size: int = SHARD_SIZE,
        resume: bool = True,
    ) -> None:
        self.teacher = teacher
        self.recipe = recipe
        self.continued = continued
        self.size = size or recipe.data.output_size
        self.shard_size = shard_size
        self.resume = resume
        self.report: LogitsReport | None = None
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where the predictions go."""
        if self._folder is not None:
            return self._folder
        if self.teacher.state == "there":
            return logits_folder(self.recipe, self.teacher.open())
        # As `logits_folder` will say once the teacher is there.
        named = self.teacher.section.shards
        if named:
            return Path(named)
        return self.teacher.place / f"shards-{self.size}"

    def check(self) -> None:
        """Refuse predictions that do not fit, as far as that can be known before the data are open.

        Raises:
            DataError: The predictions are of another teacher or size.
        """
        if self.teacher.state != "there":
            return
        # Without marks of samples, which are known once the data are open.
        lines = differences(read_logits(self.folder), self.teacher.open().mark, self.size, [])
        if lines:
            places = [f"{self.folder}: {line}" for line in lines]
            raise DataError("\n".join([*places, "remove the folder, or name another"]))

    def done(self) -> bool:
        """Always False: which samples are wanted is known once the data are open."""
        return False

    def describe(self) -> list[str]:
        """The folder of the predictions, and how many are there."""
        stored = 0
        if self.teacher.state == "there":
            stored = len(read_logits(self.folder).samples)
        if stored:
            return [f"{self.folder}: {stored} samples are there, others are predicted"]
        return [f"{self.folder}: the training samples are predicted"]

    def execute(self, context: Context) -> None:
        """Predict what is missing, each process its share.

        Raises:
            DataError: There are predictions and `resume` is not set, or they do not fit teacher or data; or one cannot
                be written, or is not a number.
        """
        teacher = self.teacher.open()
        folder = self.folder
        if not self.resume:
            context.first(lambda: refuse_stored(folder))
        if self.recipe.teacher is not None:
            # Looked up before predicting, which opens the data once more, at the teacher's size.
            samples = open_data(self.recipe, teacher, context, self.continued).train.samples
            stored = context.first(lambda: read_logits(folder)).samples
            if all(sample.id in stored for sample in samples):
                return
        dataset = open_as_shown(self.recipe, teacher, self.continued)
        self.report = store_logits(
            teacher, dataset, folder, size=self.size, fabric=context.fabric, shard_size=self.shard_size
        )
        context.fabric.barrier()  # the files of all processes are there from here on


def refuse_stored(folder: Path) -> None:
    """Refuse a folder that holds predictions.

    Raises:
        DataError: It does.
    """
    if any(folder.glob(f"*{SUFFIX}")):
        raise DataError(f"{folder}: holds shards already; add what they lack with --resume, or remove the folder")


def predict_logits_of_run(
    run: Path,
    folder: Path,
    *,
    checkpoint: str = BEST,
    overrides: Sequence[str] = (),
    size: int | None = None,
    shard_size: int = SHARD_SIZE,
    resume: bool = False,
) -> LogitsReport:
    """Predict the training samples of a run with its own generator.

    Args:
        run: The teacher's run.
        folder: Where the predictions go.
        checkpoint: `best`, `latest` or a checkpoint's name.
        overrides: `key=value` settings on top of the run's recipe, such as another `data.root`.
        size: Side of the maps in pixels; default: the teacher's `data.output_size`.
        shard_size: Samples in a file.
        resume: Keep what is in the folder and predict what it lacks.

    Returns:
        What this process did.

    Raises:
        RunError: The folder is no run.
        DataError: There are predictions and `resume` is not set, or they are of another teacher, size or data.
    """
    run_folder = RunFolder(run)
    run_folder.recipe()  # which explains a folder that is no run better than a missing file does
    # The run's own teacher, when it is a student itself, has no part in this.
    recipe = replace(load_recipe(run_folder.recipe_file, overrides, plugin_files=False), teacher=None)
    place = find_checkpoint(run, checkpoint)
    teacher = TeacherPlan(Teacher(run=str(run)), place, None)
    stage = PredictLogits(
        teacher,
        recipe,
        folder=folder,
        size=size or teacher.spec().output_size,
        shard_size=shard_size,
        resume=resume,
    )
    context = Context(recipe.training)
    # The first process speaks for all.
    speaker = reporter()
    if not context.is_first:
        speaker = SilentReporter()
    try:
        with reporting_to(speaker):
            stage.execute(context)
    except BaseException:
        context.end_others()
        raise
    return cast("LogitsReport", stage.report)


def logits_folder(recipe: Recipe, teacher: TrainedTeacher) -> Path:
    """Where a teacher's predictions for a recipe are stored."""
    if recipe.teacher is None or recipe.teacher.shards is None:
        return teacher.logits_folder(recipe.data.output_size)
    return Path(recipe.teacher.shards)


def keep_recorded(
    run: RunFolder, data: Data, seed: int, choose_split: Callable[[Iterable[str]], Split] | None
) -> Callable[[Iterable[str]], Split] | None:
    """The function that splits the materials of a run that goes on as they were split before it stopped.

    Args:
        run: The run.
        data: Section `data` of the recipe that it goes on with.
        seed: Its seed.
        choose_split: The function that splits the materials of a new run; default: the split of section `data`.

    Returns:
        The function; `choose_split` where the run's record is lost.
    """
    try:
        trained = recorded_trained(run.provenance)
        held_back = recorded_split(run.provenance)["val"]
    except DataError:
        return choose_split  # `Train.execute` warns about it
    return partial(
        keep_split,
        drawn=choose_split or splitter(data, seed),
        recorded=follow(trained, held_back, data, seed, RUN),
        held_back=held_back,
    )


def open_data(
    recipe: Recipe, teacher: TrainedTeacher | None, context: Context, continued: RunFolder | None = None
) -> OpenedDataset:
    """The run's dataset, opened once; a student's is split as its teacher's was.

    Args:
        recipe: The recipe.
        teacher: Its teacher.
        context: The run's context, which keeps the dataset.
        continued: The run, when it goes on: then its materials are split as before.

    Raises:
        DataError: The data cannot be used, or the recipe's own split contradicts the teacher's or the run's.
    """
    if context.dataset is not None:
        return context.dataset
    seed = recipe.training.seed
    choose_split = None
    overviews = False
    if teacher is not None:
        choose_split = teacher.splitter(recipe.data, seed)
        # An online teacher may want the whole frame beside each crop, although the student does not.
        overviews = recipe.has_online_teacher and teacher.spec.section.reflectance_profile
    if continued is not None:
        choose_split = keep_recorded(continued, recipe.data, seed, choose_split)

    def open_it() -> OpenedDataset:
        return open_dataset(recipe, choose_split=choose_split, overviews=overviews)

    if context.processes == 1:
        context.dataset = open_it()
    else:
        context.dataset = first_then_others(context.fabric, open_it)
    return context.dataset


def open_as_shown(recipe: Recipe, teacher: TrainedTeacher, continued: RunFolder | None = None) -> OpenedDataset:
    """A recipe's dataset as its teacher is shown it: whole frames at the teacher's size, and the split of `open_data`.

    Raises:
        DataError: As `open_data`.
    """
    data = teachers_data(recipe.data, teacher.spec)
    seed = recipe.training.seed
    choose_split: Callable[[Iterable[str]], Split] | None = teacher.splitter(data, seed)
    if continued is not None:
        choose_split = keep_recorded(continued, data, seed, choose_split)
    return open_dataset(replace(recipe, data=data), choose_split=choose_split)


def attach_logits(dataset: OpenedDataset, recipe: Recipe, teacher: TrainedTeacher | None) -> OpenedDataset:
    """The dataset with the teacher's stored predictions; as it is where there are none to read.

    Raises:
        DataError: The predictions do not fit teacher or data, or a sample has none.
    """
    if teacher is None or recipe.has_online_teacher:
        return dataset
    stored = read_logits(logits_folder(recipe, teacher))
    require(stored, teacher.mark, recipe.data.output_size, marks_of(dataset, dataset.train.samples))
    return replace(dataset, train=dataset.train.with_teacher(stored))
