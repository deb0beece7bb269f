"""Makes a teacher's shards: whole frames predicted once, as many as are missing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric

from neuropbr_core.contracts import Prediction
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.frames import predict_frames
from neuropbr_core.data.batches.placement import Logits
from neuropbr_core.data.batches.teacher_logits import (
    SUFFIX,
    SampleMark,
    clear_abandoned,
    differences,
    read_logits,
    write_logits,
)
from neuropbr_core.data.opening import OpenedDataset, open_dataset
from neuropbr_core.errors import DataError
from neuropbr_core.model import load_model
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.reporting import SilentReporter, reporter, reporting_to, track
from neuropbr_core.runs.folder import RECIPE, RunFolder
from neuropbr_core.samples import Sample
from neuropbr_core.training.checkpoints.store import BEST, find_checkpoint
from neuropbr_core.training.device import make_fabric
from neuropbr_core.training.distillation.online import resize
from neuropbr_core.training.distillation.teacher import FoundTeacher, open_teacher, teachers_data
from neuropbr_core.training.ranks import end_others, first

SHARD_SIZE = 8
"""Samples in a shard."""

T = TypeVar("T")


@dataclass(frozen=True)
class ShardsReport:
    """What making shards did, in this process.

    Attributes:
        folder: Where they are.
        predicted: Samples predicted and written.
        kept: Samples that were there.
        left: Samples that other processes predict.
    """

    folder: Path
    predicted: int
    kept: int
    left: int = 0


def marks_of(dataset: OpenedDataset, samples: Sequence[Sample[Any]]) -> list[SampleMark]:
    """What a teacher is shown of samples of a dataset."""
    return [SampleMark.of(sample, dataset.view_digests[sample.id], sample.cameras) for sample in samples]


def make_shards(
    teacher: FoundTeacher,
    recipe: Recipe,
    folder: Path,
    *,
    size: int,
    fabric: Fabric,
    shard_size: int = SHARD_SIZE,
) -> ShardsReport:
    """Predict the training samples of a recipe's data that a folder lacks; each process its share of them.

    The teacher sees whole frames at its own size, aligned and with as many views as in its training, without jitter.
    Its logits are resized to `size` and kept as float16. Samples that are held back are not predicted: no student
    reads them.

    Args:
        teacher: The teacher.
        recipe: Whose data; only `data`, its source and the seed count.
        folder: Where the shards go.
        size: Side of the maps in pixels.
        fabric: Device, precision, and the process among several.
        shard_size: Samples in a shard.

    Raises:
        DataError: What is in the folder is of another teacher, size or data, or cannot be written; or the teacher's
            prediction of a sample is not a number.
    """
    data = teachers_data(recipe.data, teacher.spec)
    opened = open_dataset(
        replace(recipe, data=data),
        choose_split=teacher.splitter(data, recipe.training.seed),
    )
    samples = list({sample.id: sample for sample in opened.train.samples}.values())  # an epoch may repeat some
    marks = dict(zip((sample.id for sample in samples), marks_of(opened, samples), strict=True))
    mark, there = teacher.mark, first(fabric, lambda: read_logits(folder))
    if lines := differences(there, mark, size, marks.values()):
        raise DataError(
            "\n".join(f"{folder}: {line}" for line in lines)
            + "\nremove the folder to have it made again, or name another"
        )
    missing = [sample for sample in samples if sample.id not in there.samples]
    mine = missing[fabric.global_rank :: fabric.world_size]
    if mine:
        clear_abandoned(folder)
        reporter().line(
            f"Predicting {len(missing)} frames of {data.image_size} px with {teacher.checkpoint} into {folder}"
        )
        frames = _predict(teacher, opened.all.frames_of(mine), fabric, size)
        for chunk in _chunks(track(frames, len(mine), "predicting"), shard_size):
            write_logits(folder, mark, size, [(marks[name], logits) for name, logits in chunk])
    return ShardsReport(folder, len(mine), len(samples) - len(missing), len(missing) - len(mine))


def make_shards_of_run(
    run: Path,
    folder: Path,
    *,
    checkpoint: str = BEST,
    overrides: Sequence[str] = (),
    size: int | None = None,
    shard_size: int = SHARD_SIZE,
    resume: bool = False,
) -> ShardsReport:
    """Predict the training samples of a run with its own generator.

    Args:
        run: The teacher's run.
        folder: Where the shards go.
        checkpoint: `best`, `latest` or a checkpoint's name.
        overrides: `key=value` settings on top of the run's recipe, such as another `data.root`.
        size: Side of the maps in pixels; default: the teacher's `data.output_size`.
        shard_size: Samples in a shard.
        resume: Keep what is in the folder and predict what it lacks.

    Raises:
        RunError: The folder is no run.
        DataError: There are shards and `resume` is not set, or they are of another teacher, size or data.
    """
    RunFolder(run).recipe()
    recipe = load_recipe(run / RECIPE, overrides)
    teacher = open_teacher(find_checkpoint(run, checkpoint))
    fabric = make_fabric(recipe.training)
    fabric.launch()
    try:
        first(fabric, lambda: _require_empty(folder, resume=resume))
        with reporting_to(reporter() if fabric.is_global_zero else SilentReporter()):  # one process speaks for all
            return make_shards(
                teacher,
                recipe,
                folder,
                size=size or teacher.spec.output_size,
                fabric=fabric,
                shard_size=shard_size,
            )
    except BaseException:
        end_others(fabric)
        raise


def _require_empty(folder: Path, *, resume: bool) -> None:
    if not resume and any(folder.glob(f"*{SUFFIX}")):
        raise DataError(f"{folder}: holds shards already; add what they lack with --resume, or remove the folder")


def _predict(
    teacher: FoundTeacher, frames: MaterialDataset, fabric: Fabric, size: int
) -> Iterator[tuple[str, Mapping[str, Logits]]]:
    """Each sample's id and logits."""
    generator, _ = load_model(teacher.checkpoint)
    generator.to(fabric.device)
    for prepared, prediction in predict_frames(generator, frames, fabric.device, autocast=fabric.autocast):
        name = prepared.ids[0]
        yield name, _halves(prediction, size, f"{teacher.checkpoint}, {name}")


def _halves(prediction: Prediction, size: int, subject: str) -> dict[str, Logits]:
    """Logits of one frame as float16; those beyond its range, where a sigmoid is 0 or 1 anyway, at its end."""
    largest = torch.finfo(torch.float16).max
    logits = {name: resize(value, size)[0] for name, value in prediction.logits.items()}
    if broken := [name for name, value in logits.items() if value.isnan().any()]:
        raise DataError(
            f"{subject}: the teacher predicts {' and '.join(broken)} that is not a number, which nobody can learn "
            f"from; predict with training.precision=fp32, or take another checkpoint"
        )
    return {name: value.clamp(-largest, largest).half().cpu().numpy() for name, value in logits.items()}


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
