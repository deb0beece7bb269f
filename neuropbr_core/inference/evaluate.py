"""A trained run on samples with known maps: numbers, a table, and its worst cases as pictures."""

import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from neuropbr_core.data.images.write import write_png
from neuropbr_core.data.opening import OpenedDataset, open_dataset
from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.heldout import draw_samples, evaluate_samples, training_mean
from neuropbr_core.evaluation.rerender import RERENDER
from neuropbr_core.evaluation.summary import EvaluationRecord, format_summary, load_record, save_record
from neuropbr_core.evaluation.tiles import Picture
from neuropbr_core.files import file_name, write_text
from neuropbr_core.model import load_model
from neuropbr_core.recipe.sections import Data, Recipe
from neuropbr_core.registry import Chosen, default_registry
from neuropbr_core.runs.folder import PROVENANCE, RunFolder, recorded_split
from neuropbr_core.runs.run import SUMMARY
from neuropbr_core.training.checkpoints.store import find_checkpoint

Curriculum = Literal[0, 1, 2, "clean", "mixed", "dirty"]

HELD_BACK = "held-back"
"""Name of the evaluation of a run's own held-back samples."""

RECORD, TABLE, WORST = "evaluation.json", "evaluation.txt", "worst"


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_run` found.

    Attributes:
        record: Metrics of the model and of the baselines.
        folder: Where `evaluation.json`, `evaluation.txt` and `worst/` are.
        trained_on: Materials among them that the run trained on, so that their numbers measure memory.
    """

    record: EvaluationRecord
    folder: Path
    trained_on: tuple[str, ...]


def evaluate_run(
    run: str | Path,
    *,
    checkpoint: str = "best",
    data: str | Path | None = None,
    curriculum: Curriculum | None = None,
    output: str | Path | None = None,
    worst: int = 4,
    device: torch.device | None = None,
) -> Evaluation:
    """Score a run's model on whole frames and write what was found.

    Args:
        run: The run's folder.
        checkpoint: `best`, `latest` or a checkpoint's name.
        data: A dataset folder with `input/` and `output/`, all of whose samples are scored; default: the samples of
            the materials that the run held back.
        curriculum: `data.render_curriculum` of what is scored; default: the run's.
        output: Where to write; default `RUN/evaluations/held-back` or `RUN/evaluations/NAME-OF-DATA`. What an
            earlier evaluation left there is replaced when the new one is complete.
        worst: How many of the worst samples, by re-rendering error, are drawn.
        device: Where to compute; default: the CPU.

    Raises:
        RunError: The folder is no run.
        CheckpointError: There is no such checkpoint, or it is damaged.
        DataError: The dataset cannot be used, or nothing was held back.
        OSError: The results could not be written.
    """
    device = device or torch.device("cpu")
    folder = RunFolder(Path(run))
    recipe = folder.recipe()
    generator, _ = load_model(find_checkpoint(folder.path, checkpoint))
    split = recorded_split(folder.path / PROVENANCE)
    opened = open_dataset(_recipe_of(recipe, split, data, curriculum))
    samples = opened.all if data is not None else opened.val
    if not samples.samples:
        raise DataError(f"{folder.path}: the run held back no material; name samples to score with --data DIR")
    record = evaluate_samples(generator.to(device), samples, _mean(folder, data, opened, device), device)
    target = Path(output) if output else folder.path / "evaluations" / (Path(data).name if data else HELD_BACK)
    pictures = draw_samples(generator, samples, worst_samples(record, worst), device)
    trained_on = tuple(name for name in record.materials if name in split["train"])
    _write(target, record, trained_on, pictures)
    return Evaluation(record, target, trained_on)


def describe(record: EvaluationRecord, trained_on: Sequence[str]) -> str:
    """The table for a terminal, and what must be known to read it."""
    table = format_summary(record)
    if not trained_on:
        return table
    share = f"{len(trained_on)} of {len(record.materials)} materials"
    return f"{table}\n\nwarning: the run trained on {share}, whose numbers measure memory: {', '.join(trained_on)}"


def worst_samples(record: EvaluationRecord, count: int) -> list[str]:
    """Ids of the samples with the largest re-rendering error, worst first; those that are not finite come first."""
    keyed = [(row.values[f"{RERENDER}/rmse"], row.sample) for row in record.per_sample]
    ordered = sorted(keyed, key=lambda pair: -pair[0] if math.isfinite(pair[0]) else -math.inf)
    return [name for _, name in ordered[:count]]


def _recipe_of(
    recipe: Recipe,
    split: dict[str, list[str]],
    data: str | Path | None,
    curriculum: Curriculum | None,
) -> Recipe:
    """The run's recipe, its data replaced by what is to be scored."""
    section = recipe.data
    if data is None:
        section = replace(section, val_materials=tuple(split["val"]))
    else:
        section = replace(_elsewhere(section, Path(data)), val_materials=(), val_ratio=0.0)
        recipe = replace(recipe, source=_layout())
    if curriculum is not None:
        section = replace(section, render_curriculum=curriculum, use_dirty=False)
    return replace(recipe, data=section)


def _layout() -> Chosen:
    """The component that reads folders of the layout, whatever the run read its samples through."""
    return default_registry().choose("dataset", "layout", name="source")


def _elsewhere(section: Data, root: Path) -> Data:
    if not (root / "input").is_dir():
        raise DataError(f"{root}: is no dataset; it needs input/ with the views and output/ with the true maps")
    return replace(section, root=str(root), input_dir=None, output_dir=None, metadata=None, synthesize=None, groups={})


def _mean(
    folder: RunFolder, data: str | Path | None, opened: OpenedDataset, device: torch.device
) -> dict[str, tuple[float, ...]]:
    """The training targets' mean: measured, or for other data as the run's summary has it."""
    if data is None:
        return training_mean(opened.train, device)
    try:
        return load_record(folder.path / SUMMARY).training_mean
    except DataError:
        return {}


def _write(
    target: Path, record: EvaluationRecord, trained_on: Sequence[str], pictures: Iterable[tuple[str, str, Picture]]
) -> None:
    """Write the results beside their place, then put them there."""
    aside = target.with_name(f".writing-{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        save_record(record, aside / RECORD)
        write_text(aside / TABLE, describe(record, trained_on) + "\n")
        for rank, (name, material, picture) in enumerate(pictures, start=1):
            write_png(aside / WORST / f"{rank:02d}_{file_name(name)}_{file_name(material)}.png", picture)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
