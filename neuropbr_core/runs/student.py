"""A recipe with a teacher: where the teacher is, what must be made first, and the dataset with its predictions."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lightning_fabric import Fabric

from neuropbr_core.data.batches.teacher_logits import read_logits, require
from neuropbr_core.data.opening import OpenedDataset, open_dataset
from neuropbr_core.errors import RunError
from neuropbr_core.model import ModelSpec
from neuropbr_core.model.weights import read_spec
from neuropbr_core.recipe import teachers_recipe
from neuropbr_core.recipe.compare import differences
from neuropbr_core.recipe.sections import Recipe, Teacher
from neuropbr_core.reporting import reporter
from neuropbr_core.runs.folder import PROVENANCE, RECIPE, RunFolder
from neuropbr_core.runs.preflight import check_networks
from neuropbr_core.training.checkpoints.state import Progress
from neuropbr_core.training.checkpoints.store import LATEST, find_checkpoint
from neuropbr_core.training.distillation.online import is_online
from neuropbr_core.training.distillation.predict_logits import make_shards, marks_of
from neuropbr_core.training.distillation.teacher import FoundTeacher, open_teacher
from neuropbr_core.training.ranks import first, first_then_others

Report = Callable[[str], None]

_TEACHING = ("data", "model", "losses", "optimizer", "training")
"""Sections that decide what a teacher becomes."""

_INCIDENTAL = (
    ("training", "runs_dir"),
    ("training", "device"),
    ("training", "devices"),
    ("data", "pack"),
    ("data", "num_workers"),
)
"""Keys in them that do not."""


@dataclass(frozen=True)
class TeacherPlan:
    """How a recipe's teacher is had.

    Attributes:
        section: Section `teacher`.
        place: Folder of its run, or of its checkpoint.
        recipe: What makes the run; None for a teacher that must be there.
        state: Whether it is there, was interrupted, or has not been made.
        notes: What a person should know about it.
    """

    section: Teacher
    place: Path
    recipe: Recipe | None
    state: Literal["there", "interrupted", "missing"]
    notes: tuple[str, ...] = ()

    def spec(self) -> ModelSpec:
        """What its generator is built from, whether it is there or not."""
        if self.recipe is not None and self.state != "there":
            return ModelSpec.from_recipe(self.recipe)
        return read_spec(find_checkpoint(self.place))


def plan_teacher(recipe: Recipe) -> TeacherPlan | None:
    """Find out whether a recipe's teacher is there; makes nothing.

    Raises:
        RecipeError: The teacher's recipe is wrong.
        CheckpointError: A teacher that must be there is not, or is damaged.
        RunError: The place of its run is taken by something else.
    """
    section = recipe.teacher
    if section is None:
        return None
    theirs = teachers_recipe(recipe)
    if theirs is None:
        given = Path(section.run or section.checkpoint or "")
        find_checkpoint(given)
        return TeacherPlan(section, given, None, "there")
    folder = RunFolder(Path(recipe.training.runs_dir) / theirs.name)
    if not (folder.path / RECIPE).is_file():
        if folder.path.exists() and any(folder.path.iterdir()):
            raise RunError(
                f"{folder.path}: the teacher's run belongs there, but it is not empty and no run; set another "
                f"training.runs_dir, or name teacher.run"
            )
        return TeacherPlan(section, folder.path, theirs, "missing")
    made = folder.recipe()
    finished = folder.checkpoints.pointed(LATEST) == Progress(epoch=made.training.epochs).name
    return TeacherPlan(section, folder.path, theirs, "there" if finished else "interrupted", _notes(made, theirs))


def obtain_teacher(recipe: Recipe, train: Callable[..., Path], fabric: Fabric) -> FoundTeacher | None:
    """Check a recipe's networks, its teacher's among them, and make the teacher if it is missing.

    Args:
        recipe: The recipe.
        train: `training.run.run`.
        fabric: Knows the processes.

    Returns:
        The teacher; None for a recipe without one.

    Raises:
        RunError: It must be trained, and there are several processes.
        NeuroPBRError: As `check_networks`, `plan_teacher` and `train`.
    """
    plan = plan_teacher(recipe)
    check_networks(recipe, None if plan is None else plan.spec())
    if plan is not None and plan.state != "there" and fabric.world_size > 1:
        raise RunError(
            f"{plan.place}: the teacher must be trained first, which {fabric.world_size} processes of its student "
            f"cannot do; train it with `neuropbr run {plan.section.recipe}`, or start the student in one process"
        )
    return None if plan is None else ensure_teacher(plan, train)


def ensure_teacher(plan: TeacherPlan, train: Callable[..., Path]) -> FoundTeacher:
    """Make the teacher's run if it must be made, and open its best checkpoint.

    Args:
        plan: From `plan_teacher`.
        train: `training.run.run`.
    """
    for note in plan.notes:
        reporter().line(f"Teacher: {note}")
    if plan.recipe is not None and plan.state != "there":
        resume = plan.state == "interrupted" and bool(RunFolder(plan.place).checkpoints.names())
        how = "was interrupted and is continued" if resume else "is missing and is trained"
        reporter().line(f"Teacher: {plan.place} {how} first, from {plan.section.recipe}")
        overwrite = plan.place.exists() and not resume
        train(plan.recipe, resume=resume, overwrite=overwrite)
    return open_teacher(find_checkpoint(plan.place))


def check_same_teacher(folder: RunFolder, teacher: FoundTeacher | None) -> None:
    """Refuse to continue a run with another teacher than it was started with.

    Raises:
        RunError: It differs, or one of both has none.
    """
    record = json.loads((folder.path / PROVENANCE).read_text(encoding="utf-8")).get("teacher")
    found = None if teacher is None else teacher.record
    keys = ("weights", "model")
    if [record and record[key] for key in keys] != [found and found[key] for key in keys]:
        before, now = (each["checkpoint"] if each else "none" for each in (record, found))
        raise RunError(
            f"cannot resume: the run was started with another teacher ({before}) than it has now ({now}); use "
            f"--run-name for a new run"
        )


def shards_folder(recipe: Recipe, teacher: FoundTeacher) -> Path:
    """Where the predictions for a recipe lie."""
    named = None if recipe.teacher is None else recipe.teacher.shards
    return teacher.shards(recipe.data.output_size) if named is None else Path(named)


def open_taught(recipe: Recipe, teacher: FoundTeacher | None, fabric: Fabric) -> OpenedDataset:
    """Open a recipe's dataset; a student's is split as its teacher's was, and has the predictions of `mode: shards`.

    Predictions that are missing are made first, by each process its share.

    Raises:
        DataError: The recipe's own split contradicts the teacher's, or the shards do not fit teacher or data.
    """
    split = None if teacher is None else teacher.splitter(recipe.data, recipe.training.seed)
    profiled = teacher is not None and is_online(recipe) and teacher.spec.section.reflectance_profile
    dataset = first_then_others(
        fabric,
        lambda: open_dataset(recipe, choose_split=split, overviews=profiled),
    )
    if teacher is None or is_online(recipe):
        return dataset
    folder, size = shards_folder(recipe, teacher), recipe.data.output_size
    wanted = marks_of(dataset, dataset.train.samples)
    there = first(fabric, lambda: read_logits(folder))
    if any(mark.id not in there.samples for mark in wanted):
        make_shards(teacher, recipe, folder, size=size, fabric=fabric)
        fabric.barrier()
    shards = read_logits(folder)
    require(shards, teacher.mark, size, wanted)
    return replace(dataset, train=dataset.train.with_teacher(shards))


def _notes(made: Recipe, wanted: Recipe) -> tuple[str, ...]:
    every = differences(made.tree, wanted.tree)
    found = [each for each in every if each.keys[0] in _TEACHING and each.keys not in _INCIDENTAL]
    if not found:
        return ()
    some = f"{len(found)} values, such as {found[0]}"
    return (f"the run that is there was made with another recipe ({some}); remove it to have it made again",)
