"""An evaluation in a folder: the record, the table, and the worst samples as pictures."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from neuropbr_core.data.images.write import write_png
from neuropbr_core.errors import RunError
from neuropbr_core.evaluation.rerender import RERENDER
from neuropbr_core.evaluation.summary import EvaluationRecord, format_summary, save_record
from neuropbr_core.evaluation.tiles import Picture
from neuropbr_core.files import file_name, replacing, write_text

RECORD, TABLE, WORST = "evaluation.json", "evaluation.txt", "worst"


def describe(record: EvaluationRecord, trained_on: Sequence[str]) -> str:
    """The table for a terminal, with a warning when it is not about unknown materials.

    Args:
        record: The metrics.
        trained_on: Materials among them that the model was trained on.
    """
    table = format_summary(record)
    if not trained_on:
        return table
    share = f"{len(trained_on)} of {len(record.materials)} materials"
    return f"{table}\n\nwarning: the run trained on {share}, whose numbers measure memory: {', '.join(trained_on)}"


def worst_samples(record: EvaluationRecord, count: int) -> list[str]:
    """Ids of the samples with the largest re-rendering error, worst first; those that are not finite come first."""

    def badness(error: float) -> float:
        return error if math.isfinite(error) else math.inf

    errors = {row.sample: badness(row.values[f"{RERENDER}/rmse"]) for row in record.per_sample}
    return sorted(errors, key=errors.__getitem__, reverse=True)[:count]


def check_place(folder: Path) -> None:
    """Refuse a place of an evaluation that holds anything else, which would be removed with an earlier evaluation.

    Args:
        folder: The place.

    Raises:
        RunError: It is a file, or a folder with other content.
    """
    if folder.is_dir():
        others = sorted(path.name for path in folder.iterdir() if path.name not in (RECORD, TABLE, WORST))
        if others:
            raise RunError(
                f"{folder}: holds {others[0]}, which is no part of an evaluation and would be removed; name another "
                f"folder with --output"
            )
    elif folder.exists() or folder.is_symlink():
        raise RunError(f"{folder}: is a file, which the evaluation would replace; name a folder with --output")


def write_evaluation(
    folder: Path, record: EvaluationRecord, trained_on: Sequence[str], pictures: Iterable[tuple[str, str, Picture]]
) -> None:
    """Write an evaluation beside its place, then put it there; an earlier one is replaced when the new one is whole.

    Args:
        folder: Its place.
        record: The metrics.
        trained_on: Materials among them that the model was trained on.
        pictures: Id, material and comparison grid of the worst samples, worst first.

    Raises:
        OSError: It could not be written.
    """
    with replacing(folder) as aside:
        save_record(record, aside / RECORD)
        write_text(aside / TABLE, describe(record, trained_on) + "\n")
        for rank, (name, material, picture) in enumerate(pictures, start=1):
            write_png(aside / WORST / f"{rank:02d}_{file_name(name)}_{file_name(material)}.png", picture)
