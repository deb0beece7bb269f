"""What a run would do, in words: what is there already, what is made, and where."""

from collections.abc import Iterator
from pathlib import Path

from neuropbr_core.data.batches.teacher_logits import differences, read_logits
from neuropbr_core.data.opening import captures_missing
from neuropbr_core.errors import DataError
from neuropbr_core.recipe.sections import Data, Recipe
from neuropbr_core.runs.folder import check_resumable, find_run
from neuropbr_core.runs.preflight import check_networks
from neuropbr_core.runs.student import TeacherPlan, plan_teacher, shards_folder
from neuropbr_core.training.checkpoints.store import find_checkpoint
from neuropbr_core.training.distillation.teacher import open_teacher


def plan_run(recipe: Recipe, path: Path, *, resume: bool, overwrite: bool) -> list[str]:
    """Say what a run would do; does nothing.

    Args:
        recipe: The recipe.
        path: The run's folder.
        resume: As for `training.run.run`.
        overwrite: Likewise.

    Returns:
        A line for each thing that is there or will be made, in the order of their making.

    Raises:
        NeuroPBRError: What would stop the run before its first step, as far as that can be known.
    """
    folder = find_run(path, resume=resume, overwrite=overwrite)
    if resume:
        check_resumable(folder.recipe(), recipe)
    teacher = plan_teacher(recipe)
    check_networks(recipe, None if teacher is None else teacher.spec())
    lines = list(_data(recipe.data))
    if teacher is not None:
        lines += _teacher(teacher, recipe)
    epochs = f"{recipe.training.epochs} epochs"
    how = "continued" if resume else "trained, in the place of the run that is there," if overwrite else "trained"
    lines.append(f"run       {path}: {how} to the end of {epochs}")
    return [*lines, *(f"export    {path / 'exports' / name}: {part.use}" for name, part in recipe.export.items())]


def _data(data: Data) -> Iterator[str]:
    missing = captures_missing(data)
    for place in filter(None, (data.root, data.input_dir, data.output_dir)):
        there = "is there" if Path(place).exists() else "is missing"
        yield f"data      {place}: {f'{missing} captures are rendered' if missing else there}"


def _teacher(plan: TeacherPlan, recipe: Recipe) -> Iterator[str]:
    yield from (f"note      {note}" for note in plan.notes)
    if plan.recipe is not None and plan.state != "there":
        how = "is trained first" if plan.state == "missing" else "was interrupted and is continued first"
        yield f"teacher   {plan.place}: {how}, {plan.recipe.training.epochs} epochs of {plan.section.recipe}"
        if plan.section.mode == "shards":
            shards = plan.section.shards or plan.place / f"shards-{recipe.data.output_size}"
            yield f"shards    {shards}: the training samples are predicted"
        return
    checkpoint = find_checkpoint(plan.place)
    yield f"teacher   {checkpoint}: is there"
    if plan.section.mode == "shards":
        yield _shards(checkpoint, recipe)


def _shards(checkpoint: Path, recipe: Recipe) -> str:
    teacher = open_teacher(checkpoint)
    folder = shards_folder(recipe, teacher)
    shards = read_logits(folder)
    if lines := differences(shards, teacher.mark, recipe.data.output_size, []):
        raise DataError("\n".join(f"{folder}: {line}" for line in lines) + "\nremove the folder, or name another")
    there = f"{len(shards.samples)} samples are there, others" if shards.samples else "the training samples"
    return f"shards    {folder}: {there} are predicted"
