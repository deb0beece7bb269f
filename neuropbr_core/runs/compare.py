"""Compares runs: errors side by side, runs that differ in their seed alone as mean and spread, beside the baselines."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuropbr_core.errors import RunError
from neuropbr_core.evaluation.summary import MODEL, EvaluationRecord, load_record
from neuropbr_core.recipe.merge import read_tree
from neuropbr_core.runs.folder import RunFolder

COLUMNS = (
    ("albedo", "psnr"),
    ("albedo", "mae"),
    ("roughness", "mae"),
    ("metallic", "mae"),
    ("normal", "angle"),
    ("rerender", "psnr"),
)
"""Map and metric of each column, as in a run's own table by material."""


@dataclass(frozen=True)
class ComparedRow:
    """Runs with one recipe, or a baseline.

    Attributes:
        name: Names of the runs, or the baseline's.
        seeds: Seeds of the runs, in the order of the runs; empty for a baseline.
        means: Mean over the runs by `map/metric`; metrics that a row does not have are left out.
        spreads: Standard deviation over the runs (with n - 1) by `map/metric`; empty for fewer than two.
    """

    name: str
    seeds: tuple[int, ...]
    means: dict[str, float]
    spreads: dict[str, float]


@dataclass(frozen=True)
class RunComparison:
    """Runs side by side.

    Attributes:
        rows: Groups of runs, in the order of their first run.
        baselines: What is known without a network.
        notes: Why numbers may not be comparable.
    """

    rows: list[ComparedRow]
    baselines: list[ComparedRow]
    notes: list[str]


def compare_runs(folders: Sequence[Path]) -> RunComparison:
    """Read the scores of runs, and join those that differ in their seed alone.

    Args:
        folders: Folders of runs that were evaluated.

    Raises:
        RunError: A folder is no run, or the run has no scores yet.
        DataError: A run's scores are damaged.
    """
    groups: dict[str, list[tuple[RunFolder, int, EvaluationRecord]]] = {}
    samples: dict[frozenset[str], str] = {}
    for path in dict.fromkeys(folder.resolve() for folder in folders):
        folder = RunFolder(path)
        if not folder.is_run:
            raise RunError(f"{path}: is no run; name folders that `neuropbr run` made")
        if not folder.summary.is_file():
            raise RunError(f"{path}: has no scores yet; finish it with `neuropbr run RECIPE --resume`")
        # Each `use` is kept as text: scores can be compared where the components are not installed.
        root, _ = read_tree(folder.recipe_file, (), lambda _, use: use)
        recipe: Any = root.plain()
        training = recipe.get("training")
        if not isinstance(training, dict) or not isinstance(training.get("seed"), int):
            raise RunError(f"{folder.recipe_file}: has no training.seed, which every run writes; name another run")
        seed = training.pop("seed")
        # What names a run, how it started and where it is stored changes nothing about what was trained.
        for key in ("resume_from", "device", "runs_dir"):
            training.pop(key, None)
        recipe.pop("name", None)
        recipe.pop("description", None)
        record = load_record(folder.summary)
        groups.setdefault(json.dumps(recipe, sort_keys=True, default=str), []).append((folder, seed, record))
        samples.setdefault(frozenset(row.sample for row in record.per_sample), folder.name)
    rows = []
    notes = []
    for members in groups.values():
        values = [_scores(record, MODEL) for _, _, record in members]
        name = ", ".join(folder.name for folder, _, _ in members)
        seeds = tuple(seed for _, seed, _ in members)
        rows.append(_row(name, seeds, values))
        for seed, count in Counter(seeds).items():
            if count > 1:
                notes.append(f"seed {seed} counts {count} times in {name}; repeated runs make ± too small")
    if len(samples) > 1:
        notes.append(f"the runs were scored on different samples ({', '.join(samples.values())}); compare with care")
    # Baselines depend on the samples alone, so those of the first run are those of all that can be compared.
    first = next(iter(groups.values()))[0][2]
    baselines: dict[str, ComparedRow] = {}
    for by_name in first.scores.values():
        for name in by_name:
            if name != MODEL:
                baselines[name] = _row(name, (), [_scores(first, name)])
    return RunComparison(rows, list(baselines.values()), notes)


def _scores(record: EvaluationRecord, name: str) -> dict[str, float]:
    """The columns' metrics of the model or of a baseline, those that are known and finite."""
    scores = {}
    for map_name, metric in COLUMNS:
        value = record.scores.get(map_name, {}).get(name, {}).get(metric, math.nan)
        if math.isfinite(value):
            scores[f"{map_name}/{metric}"] = value
    return scores


def _row(name: str, seeds: tuple[int, ...], values: list[dict[str, float]]) -> ComparedRow:
    means = {}
    spreads = {}
    for map_name, metric in COLUMNS:
        key = f"{map_name}/{metric}"
        numbers = [scores[key] for scores in values if key in scores]
        # A mean over some of the runs would flatter the others.
        if not numbers or len(numbers) < len(values):
            continue
        means[key] = statistics.fmean(numbers)
        if len(numbers) > 1:
            spreads[key] = statistics.stdev(numbers)
    return ComparedRow(name, seeds, means, spreads)
