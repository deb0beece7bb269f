"""A whole run: its stages from a recipe, the checks before anything is written, and their execution."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from neuropbr_core.data.splits import Split
from neuropbr_core.devices import choose_device
from neuropbr_core.errors import RunError
from neuropbr_core.exporting.subject import check_entries
from neuropbr_core.ownership import lies_in
from neuropbr_core.recipe.loading import teachers_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.evaluate import Evaluate
from neuropbr_core.runs.export import Export
from neuropbr_core.runs.folder import RunFolder, check_start
from neuropbr_core.runs.report import WriteReport
from neuropbr_core.runs.stage import Context, Plan, Stage, carry_out
from neuropbr_core.runs.teacher import PredictLogits, TeacherPlan, TrainTeacher, keep_recorded, plan_teacher
from neuropbr_core.runs.train import (
    RenderCaptures,
    Train,
    check_resumable,
    check_same_plugin_files,
    check_same_teacher,
    resume_changes,
)
from neuropbr_core.training.checkpoints.store import LATEST
from neuropbr_core.training.loop.initial import find_start
from neuropbr_core.training.loop.networks import check_networks
from neuropbr_core.training.teachers import follow

_PLAIN_NAME = re.compile(r"\w[\w .+=@-]*")
"""No separators, no `..` and no hidden folders, whatever the operating system takes for a path."""


def run(
    recipe: Recipe,
    *,
    run_name: str | None = None,
    resume: bool | str | None = None,
    overwrite: bool = False,
) -> Path:
    """Do what a recipe says.

    Args:
        recipe: A checked recipe.
        run_name: Name of the run; default: the recipe's.
        resume: Continue the run of that name: training goes on from the newest sound checkpoint, and stages that are
            done are skipped. A text names an earlier checkpoint, and later ones are kept aside. Default: what the
            recipe's `training.resume_from` says.
        overwrite: Replace the run of that name.

    Returns:
        The run's folder: `recipe.yaml`, `provenance.json`, `checkpoints/`, `summary.json`, `exports/` and what the
        observers write.

    Raises:
        RunError: The run cannot start, continue or finish, or another process writes it.
        NeuroPBRError: Another fault that the user can mend; each has its own class in `neuropbr_core.errors`.
    """
    path = run_path(recipe, run_name)
    if resume is None:
        resume = recipe.training.resume_from or False
    return carry_out(plan(recipe, path, resume=resume, overwrite=overwrite))


def run_path(recipe: Recipe, run_name: str | None = None) -> Path:
    """Folder of a recipe's run.

    Args:
        recipe: The recipe.
        run_name: Name of the run; default: the recipe's.

    Raises:
        RunError: The name is no plain name of a folder, and so could lead out of the folder of the runs.
    """
    name = recipe.name if run_name is None else run_name
    if not _PLAIN_NAME.fullmatch(name):
        raise RunError(
            f"run name {name!r}: is not the plain name of a folder; allowed are letters, digits, spaces and "
            f". _ + - = @, beginning with a letter, a digit or _. training.runs_dir names the folder of the runs"
        )
    return Path(recipe.training.runs_dir) / name


def plan(recipe: Recipe, path: Path, *, resume: bool | str = False, overwrite: bool = False) -> Plan:
    """Plan a run; reads files, and changes nothing.

    Args:
        recipe: The recipe.
        path: The run's folder.
        resume: Whether to continue the run that is there; a text names the checkpoint to continue from.
        overwrite: Whether to replace the run that is there.

    Returns:
        The stages in order: data, teacher, the teacher's predictions, training, evaluation, exports, report. Stages
        that only prepare the training are left out where the run is trained.

    Raises:
        NeuroPBRError: What would stop the run before its first step, as far as that can be known.
    """
    run = RunFolder(path)
    checkpoint = None
    if isinstance(resume, str) and resume != LATEST:
        checkpoint = resume
    resume = bool(resume)
    check_start(run, resume=resume, overwrite=overwrite)
    # Only what is in the weights must agree; epochs, learning rates and exports may change when a run goes on.
    changes = []
    if resume:
        before = run.recipe()
        check_resumable(before, recipe)
        check_same_plugin_files(run, recipe)
        changes = resume_changes(run, before, recipe)
    if checkpoint is not None:
        run.checkpoints.resolve(checkpoint)
    check_entries(recipe)
    if overwrite:
        _check_spared(recipe, run)
    # Made before anything else, so that an exporter that cannot work here is known before a run trains for a day.
    train = Train(recipe, run, resume=resume, overwrite=overwrite, checkpoint=checkpoint)
    train.changes = changes
    evaluate = Evaluate(run, recipe, after=train)
    stages: list[Stage] = [train, evaluate]
    if recipe.export:
        stages.append(Export(path, run, recipe.export, run.exports, recipe=recipe, after=train))
    # Last, and apart from the others: a report that is missing is written again without captures and teacher.
    report = WriteReport(run, after=tuple(stages))
    # A run that is done needs neither its captures nor its teacher any more; they may have been removed.
    if resume and all(stage.done() for stage in stages):
        return Plan(recipe, run, resume, overwrite, [*stages, report])
    data = RenderCaptures(recipe)
    preparation: list[Stage] = [data]
    if not train.done():
        # A device that is missing is known at once; making Fabric finds out and starts nothing.
        processes = Context(recipe.training).processes
        # Before the data are looked at: sizes and parts that do not fit are found without reading an image.
        teacher = plan_teacher(recipe)
        if train.continues:
            check_same_teacher(run, teacher)
        train.batch_lines = _check_step(train, teacher, processes)
        choose_split = None
        if teacher is not None:
            train.teacher = teacher
            teacher_run = None
            if teacher.recipe is not None and teacher.state != "there":
                teacher_run = _plan_teacher_run(recipe, teacher, teacher.recipe)
            choose_split = _teachers_split(recipe, teacher, teacher_run)
            # Also for a teacher that is there: the stage then tells which checkpoint is used.
            preparation.append(TrainTeacher(teacher, teacher_run))
            # An online teacher predicts in every step, so nothing of it is stored.
            if not recipe.has_online_teacher:
                predict = PredictLogits(teacher, recipe, continued=run if train.continues else None)
                predict.check()
                preparation.append(predict)
        if train.continues:
            choose_split = keep_recorded(run, recipe.data, recipe.training.seed, choose_split)
        # A student's data too, before its teacher trains for days.
        data.look(choose_split)
    return Plan(recipe, run, resume, overwrite, [*preparation, *stages, report])


def _check_spared(recipe: Recipe, run: RunFolder) -> None:
    """Refuse to replace a run that holds what the new one starts from or reads.

    Raises:
        RunError: A place that the recipe names is the run's folder, or is in it.
    """
    data = recipe.data
    places = {
        "training.init_from": recipe.training.init_from,
        "data.root": data.root,
        "data.input_dir": data.input_dir,
        "data.output_dir": data.output_dir,
        "data.metadata": data.metadata,
    }
    if recipe.teacher is not None:
        places["teacher.run"] = recipe.teacher.run
        places["teacher.checkpoint"] = recipe.teacher.checkpoint
        places["teacher.shards"] = recipe.teacher.shards
        teacher_recipe = teachers_recipe(recipe)
        if teacher_recipe is not None:
            places["teacher.recipe"] = str(Path(recipe.training.runs_dir) / teacher_recipe.name)
    for key, place in places.items():
        if place and lies_in(Path(place), run.path):
            raise RunError(
                f"{run.path}: --overwrite removes all of this run, and the new run needs {place} ({key}), which is a "
                f"part of it; choose another name for the new run with --run-name"
            )


def _check_step(train: Train, teacher: TeacherPlan | None, processes: int) -> list[str]:
    """Check that a step of the training can be computed: the networks, their sizes, start weights and memory.

    Returns:
        Lines for people on the batch, where the recipe leaves it open.

    Raises:
        NeuroPBRError: It cannot.
    """
    recipe = train.recipe
    has_weights = train.resume
    if recipe.training.init_from is not None and not train.resume:
        find_start(recipe.training.init_from)
        has_weights = True
    spec = None
    if teacher is not None:
        spec = teacher.spec()
    check_networks(recipe, spec, has_weights=has_weights)
    # Counted now, so that no data are rendered and no teacher trained for a step that does not fit.
    _, lines = train.settle_batch(choose_device(recipe.training.device), processes, spec)
    return lines


def _teachers_split(
    student: Recipe, teacher: TeacherPlan, teacher_run: Plan | None
) -> Callable[[Iterable[str]], Split] | None:
    """The function that splits a student's materials as its teacher's are split.

    Args:
        student: The student's recipe.
        teacher: How the teacher is had.
        teacher_run: The plan of its run; None for a teacher that is there.
    """
    seed = student.training.seed
    if teacher_run is None:
        return teacher.open().splitter(student.data, seed)
    for stage in teacher_run.stages:
        # Its own data were looked at just now, so that their split is known before it is recorded.
        if isinstance(stage, RenderCaptures) and stage.survey is not None:
            split = stage.survey.split
            return follow(split.train, split.val, student.data, seed)
    return None


def _plan_teacher_run(student: Recipe, teacher: TeacherPlan, recipe: Recipe) -> Plan:
    """Plan the run that makes a student's teacher.

    Raises:
        RunError: Several processes would have to train it.
        NeuroPBRError: What would stop that run before its first step.
    """
    # Fabric starts the other processes with the same command, so they would find the teacher half trained.
    for training in (student.training, recipe.training):
        # Known without a launch, which would start the other processes.
        processes = Context(training).processes
        if processes > 1:
            raise RunError(
                f"{teacher.place}: the teacher must be trained first, which {processes} processes of its "
                f"student cannot do; train it with `neuropbr run {teacher.section.recipe}`, or start the "
                f"student in one process"
            )
    folder = RunFolder(teacher.place)
    # A run that was interrupted before its first checkpoint starts over.
    resume = bool(folder.checkpoints.names())
    overwrite = not resume and not folder.is_free
    return plan(recipe, folder.path, resume=resume, overwrite=overwrite)
