"""A whole run: data, training, evaluation of the best checkpoint, exports."""

from functools import partial
from pathlib import Path

from lightning_fabric import Fabric
from torch import Tensor

from neuropbr_core.contracts import Exporter
from neuropbr_core.data.batches.batch import Item
from neuropbr_core.data.opening import OpenedDataset
from neuropbr_core.devices import choose_device
from neuropbr_core.errors import RunStopped
from neuropbr_core.evaluation.heldout import evaluate_heldout
from neuropbr_core.evaluation.summary import format_summary, save_record
from neuropbr_core.exporting import (
    Exported,
    PhotoSet,
    Signature,
    Views,
    check_entries,
    create_exporter,
    export_each,
    export_subject,
    make_subject,
    origin,
    prepare_inputs,
)
from neuropbr_core.model import load_model
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.reporting import SilentReporter, reporter, reporting_to
from neuropbr_core.runs.folder import RunFolder, check_resumable, find_run, make_room, write_records
from neuropbr_core.runs.student import check_same_teacher, obtain_teacher, open_taught
from neuropbr_core.training.checkpoints.store import BEST
from neuropbr_core.training.device import make_fabric
from neuropbr_core.training.distillation.teacher import FoundTeacher
from neuropbr_core.training.loop.notify import Observers
from neuropbr_core.training.loop.trainer import Trainer
from neuropbr_core.training.ranks import blame, end_others, first

SUMMARY = "summary.json"


def run(
    recipe: Recipe,
    *,
    run_name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Do what a recipe says.

    Args:
        recipe: A checked recipe.
        run_name: Name of the run; default: the recipe's.
        resume: Continue the run of that name from its newest sound checkpoint.
        overwrite: Replace the run of that name.

    Returns:
        The run's folder: `recipe.yaml`, `provenance.json`, `checkpoints/`, `summary.json`, `exports/` and what the
        observers write.

    Raises:
        NeuroPBRError: Something that the user can mend; each has its own class in `neuropbr_core.errors`.
    """
    exporters = {name: create_exporter(part) for name, part in recipe.export.items()}
    check_entries(recipe)
    fabric = make_fabric(recipe.training)
    fabric.launch()
    with reporting_to(reporter() if fabric.is_global_zero else SilentReporter()):  # one process speaks for all
        path = Path(recipe.training.runs_dir) / (run_name or recipe.name)
        try:
            folder = first(fabric, lambda: find_run(path, resume=resume, overwrite=overwrite))
            if resume:
                check_resumable(folder.recipe(), recipe)
            teacher = obtain_teacher(recipe, run, fabric)
            if resume:
                check_same_teacher(folder, teacher)
            observers = _create_observers(recipe, folder, fabric)
            dataset = open_taught(recipe, teacher, fabric)
            first(fabric, lambda: _start_folder(folder, recipe, dataset, teacher, overwrite=overwrite))
            _train(Trainer(recipe, dataset, folder, observers, fabric, teacher), resume=resume)
        except RunStopped:
            if fabric.is_global_zero:
                raise
            return path  # the first process says why
        except BaseException:
            end_others(fabric)
            raise
        if fabric.is_global_zero:
            _evaluate(recipe, dataset, folder)
            _export(recipe, dataset, folder, exporters)
            reporter().line(f"Run finished: {folder.path}")
        return folder.path


def _start_folder(
    folder: RunFolder,
    recipe: Recipe,
    dataset: OpenedDataset,
    teacher: FoundTeacher | None,
    *,
    overwrite: bool,
) -> None:
    make_room(folder, overwrite=overwrite)
    taught = {} if teacher is None else {"teacher": teacher.record}
    write_records(folder, recipe, {"data": dataset.fingerprint, "split": dataset.split, **taught})


def _create_observers(recipe: Recipe, folder: RunFolder, fabric: Fabric) -> Observers:
    """The recipe's observers; one that cannot work says so before data is opened or an older run is removed."""
    parts = recipe.observers if fabric.is_global_zero else {}
    created = {name: part.create(run_dir=folder.path) for name, part in parts.items()}
    return Observers(created)


def _train(trainer: Trainer, *, resume: bool) -> None:
    try:
        for line in [*trainer.notes, *(trainer.resume() if resume else [])]:
            reporter().line(line)
        trainer.fit()
    except BaseException as caught:
        error = blame(trainer.fabric, caught)
        trainer.observers.tell("run_failed", error)
        if error is caught:
            raise
        raise error from caught


def _evaluate(recipe: Recipe, dataset: OpenedDataset, folder: RunFolder) -> None:
    if not dataset.val.samples:
        return
    generator, _ = load_model(folder.checkpoints.open(BEST))
    device = choose_device(recipe.training.device)
    record = evaluate_heldout(generator.to(device), dataset.train, dataset.val, device)
    save_record(record, folder.path / SUMMARY)
    reporter().line(format_summary(record))


def _export(
    recipe: Recipe,
    dataset: OpenedDataset,
    folder: RunFolder,
    exporters: dict[str, Exporter],
) -> None:
    if not exporters:
        return
    checkpoint = folder.checkpoints.open(BEST)
    generator, spec = load_model(checkpoint)
    item = dataset.val[0] if dataset.val.samples else dataset[0]
    source = origin(folder.name, recipe.name, checkpoint)

    def one(name: str) -> Exported:
        part = recipe.export[name]
        subject = make_subject(generator, spec, part.entry, f"export.{name}")
        views = Views(_real_inputs(item, subject.signature), f"sample {item.id}")
        return export_subject(subject, part, exporters[name], folder.exports, origin=source, views=views)

    export_each({name: partial(one, name) for name in exporters})


def _real_inputs(item: Item, signature: Signature) -> dict[str, Tensor]:
    """A sample as the exported model sees it."""
    photos = PhotoSet([view.float() / 255 for view in item.views], item.homographies, item.positions)
    return prepare_inputs(photos.repeated(signature.views), signature)
