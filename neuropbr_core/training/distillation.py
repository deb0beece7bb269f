"""Predictions of a teacher, stored before its student trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neuropbr_core.contracts import Prediction
from neuropbr_core.data.batches.crops import Logits
from neuropbr_core.data.batches.loader import predict_frames
from neuropbr_core.data.batches.teacher_logits import SampleMark, differences, read_logits, write_logits
from neuropbr_core.errors import DataError
from neuropbr_core.model.weights import load_model
from neuropbr_core.reporting import reporter, track
from neuropbr_core.samples import Sample
from neuropbr_core.training.fabric import first
from neuropbr_core.training.lightning import Fabric
from neuropbr_core.training.teachers import TrainedTeacher, resize

if TYPE_CHECKING:
    from neuropbr_core.data.opening import OpenedDataset

SHARD_SIZE = 8
"""Samples in a file."""


@dataclass(frozen=True)
class LogitsReport:
    """What predicting did, in this process.

    Attributes:
        folder: Where the predictions are.
        predicted: Samples predicted and written.
        kept: Samples that were there.
        left: Samples that other processes predict.
    """

    folder: Path
    predicted: int
    kept: int
    left: int = 0


def marks_of(dataset: "OpenedDataset", samples: Sequence[Sample[Any]]) -> list[SampleMark]:
    """What a teacher is shown of samples of a dataset."""
    return [SampleMark.of(sample, dataset.view_digests[sample.id], sample.cameras) for sample in samples]


def store_logits(
    teacher: TrainedTeacher,
    dataset: "OpenedDataset",
    folder: Path,
    *,
    size: int,
    fabric: Fabric,
    shard_size: int = SHARD_SIZE,
) -> LogitsReport:
    """Predict the training samples of a dataset that a folder lacks; each process its share of them.

    The teacher sees whole frames at its own size, aligned and with as many views as in its training, without jitter.
    Its logits are resized to `size` and kept as float16. Samples that are held back are not predicted: no student
    reads them.

    Args:
        teacher: The teacher.
        dataset: The data, opened as the teacher is shown them (`teachers.teachers_data`).
        folder: Where the predictions go.
        size: Side of the maps in pixels.
        fabric: Device, precision, and the process among several.
        shard_size: Samples in a file.

    Raises:
        DataError: What is in the folder is of another teacher, size or data, or cannot be written; or the teacher's
            prediction of a sample is not a number.
    """
    by_id = {sample.id: sample for sample in dataset.train.samples}  # an epoch may repeat some
    samples = list(by_id.values())
    marks = dict(zip(by_id, marks_of(dataset, samples), strict=True))
    mark = teacher.mark  # hashes the weights, so once
    stored = first(fabric, lambda: read_logits(folder))
    # Before anything is predicted: predictions of two teachers or sizes must not mix in one folder.
    lines = differences(stored, mark, size, marks.values())
    if lines:
        report = ""
        for line in lines:
            report += f"{folder}: {line}\n"
        raise DataError(f"{report}remove the folder to have it made again, or name another")
    missing = [sample for sample in samples if sample.id not in stored.samples]
    # Every second, third, … sample, so that the processes of any number of devices end at about the same time.
    share = missing[fabric.global_rank :: fabric.world_size]
    if share:
        reporter().line(
            f"Predicting {len(missing)} frames of {teacher.spec.image_size} px with {teacher.checkpoint} into {folder}"
        )
        generator, _ = load_model(teacher.checkpoint)
        generator.to(fabric.device)
        frames = predict_frames(generator, dataset.all.frames_of(share), fabric.device, autocast=fabric.autocast)
        pending: list[tuple[SampleMark, dict[str, Logits]]] = []
        for prepared, prediction in track(frames, len(share), "predicting"):
            name = prepared.ids[0]
            pending.append((marks[name], _halves(prediction, size, f"{teacher.checkpoint}, {name}")))
            # A file is written as soon as its samples are predicted, so an interruption loses one file at most.
            if len(pending) == shard_size:
                write_logits(folder, mark, size, pending)
                pending = []
        if pending:  # the last file may hold fewer samples
            write_logits(folder, mark, size, pending)
    return LogitsReport(folder, len(share), len(samples) - len(missing), len(missing) - len(share))


def _halves(prediction: Prediction, size: int, subject: str) -> dict[str, Logits]:
    """Logits of one frame as float16.

    Raises:
        DataError: A logit is not a number.
    """
    largest = torch.finfo(torch.float16).max
    logits = {}
    broken = []
    for name, value in prediction.logits.items():
        resized = resize(value, size)[0]
        if resized.isnan().any():
            broken.append(name)
        # Beyond the range of float16 a sigmoid is 0 or 1 anyway.
        logits[name] = resized.clamp(-largest, largest).half().cpu().numpy()
    if broken:
        raise DataError(
            f"{subject}: the teacher predicts {' and '.join(broken)} that is not a number; predict with "
            f"training.precision=fp32, or choose another checkpoint"
        )
    return logits
