"""Compares runs: errors side by side, runs that differ in their seed alone as mean and spread, beside the baselines."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuropbr_core.errors import DataError, RunError
from neuropbr_core.evaluation.summary import MODEL, EvaluationRecord, load_record
from neuropbr_core.recipe.merge import read_tree
from neuropbr_core.registry.installed import FILE_DISTRIBUTION
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.training.provenance import recorded_components

COLUMNS = (
    ("albedo", "psnr"),
    ("albedo", "mae"),
    ("roughness", "mae"),
    ("metallic", "mae"),
    ("normal", "angle"),
    ("rerender", "psnr"),
)
"""Map and metric of each column, as in a run's own table by material."""

_ROUNDING = 1e-3
"""Relative difference up to which two numbers are the same: devices round differently."""

_Record = tuple[RunFolder, int, EvaluationRecord]
"""A run, its seed and its scores."""


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
        baselines: What is known without a network, in the first run's evaluation.
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
    groups: dict[str, list[_Record]] = {}
    # The first run of each set of samples, and of each size of the maps.
    samples: dict[frozenset[tuple[str, str]], str] = {}
    sizes: dict[str, str] = {}
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
        # Names such as sample_0000 are in every dataset; equal samples are of the same photos.
        samples.setdefault(frozenset((row.sample, row.photos) for row in record.per_sample), folder.name)
        data = recipe.get("data")
        if isinstance(data, dict):
            sizes.setdefault(str(data.get("output_size")), folder.name)
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
        changed = _changed_components([folder for folder, _, _ in members])
        if changed:
            notes.append(f"{name} used different versions of {', '.join(changed)}; their mean is of no single version")
    if len(samples) > 1:
        listed = ", ".join(samples.values())
        notes.append(f"the runs were scored on different samples or photos ({listed}); compare with care")
    if len(sizes) > 1:
        listed = ", ".join(f"{size} pixels in {name}" for size, name in sizes.items())
        notes.append(f"the runs were scored on maps of different sizes ({listed}); compare with care")
    # One set of baselines is shown. It also depends on what the first run was trained on, on its views and alignment.
    first_run, _, first = next(iter(groups.values()))[0]
    baselines = _baselines(first)
    for members in groups.values():
        if not all(_are_close(_baselines(record), baselines) for _, _, record in members):
            notes.append(f"the baselines are those of {first_run.name}; other runs have other ones")
            break
    return RunComparison(rows, [_row(name, (), [scores]) for name, scores in baselines.items()], notes)


def _changed_components(folders: Sequence[RunFolder]) -> list[str]:
    """Plugin files and distributions that some runs used in another version than others."""
    versions: dict[str, set[str]] = {}
    for folder in folders:
        try:
            components = recorded_components(folder.provenance)
        except DataError:
            continue  # a run without its record has scores all the same
        for component in components:
            source = component.distribution
            if source == FILE_DISTRIBUTION:
                source = f"{source}:{component.name}"
            versions.setdefault(source, set()).add(component.version)
    return [source for source, different in versions.items() if len(different) > 1]


def _baselines(record: EvaluationRecord) -> dict[str, dict[str, float]]:
    """The columns' metrics of each baseline."""
    names: dict[str, None] = {}
    for by_name in record.scores.values():
        names.update(dict.fromkeys(by_name))
    names.pop(MODEL, None)
    return {name: _scores(record, name) for name in names}


def _are_close(one: dict[str, dict[str, float]], other: dict[str, dict[str, float]]) -> bool:
    """Whether two evaluations have the same baselines with the same metrics, rounding aside."""
    if one.keys() != other.keys():
        return False
    for name, scores in one.items():
        if scores.keys() != other[name].keys():
            return False
        for key, value in scores.items():
            if not math.isclose(value, other[name][key], rel_tol=_ROUNDING):
                return False
    return True


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
