"""The record of an evaluation: as data, as JSON, and as the table at the end of a run."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.means import Row
from neuropbr_core.evaluation.metrics import METRICS, Metric
from neuropbr_core.files import write_json

MODEL = "model"
"""Name of the model's own row beside the baselines."""

Scores = dict[str, dict[str, dict[str, float]]]
"""Metrics by map, then by the model or a baseline, then by metric."""

_NAME_WIDTH = 40
_CELL_WIDTH = 10
_MATERIAL_CELL_WIDTH = 12
_PER_MATERIAL = (
    ("albedo", "psnr"),
    ("roughness", "mae"),
    ("metallic", "mae"),
    ("normal", "angle"),
    ("rerender", "psnr"),
)
_ANGLES = ("angle", "angle_median", "within_11", "within_22", "within_30", "mae")
"""What a terminal of 100 columns has room for of a normal's metrics."""


@dataclass(frozen=True)
class EvaluationRecord:
    """What an evaluation found.

    Attributes:
        samples: Held-back samples scored.
        materials: Their materials.
        scores: Mean metrics over samples by map (and `rerender`), then by `model` and the baselines, then by metric
            (`metrics.METRICS`).
        training_mean: Mean of each map over the training targets, a value per channel; empty when it is not known.
        bumpier_samples: Samples in the bumpier half.
        bumpier: Normal metrics over the bumpier half, of `model` and of the flat normal; empty without normals.
        per_material: The model's mean metrics of each material, as `<map>/<metric>`.
        per_sample: The model's metrics of each sample.
        weights: SHA-256 of the weights that were scored, in hexadecimal; empty when they are not on disk.
    """

    samples: int
    materials: tuple[str, ...]
    scores: Scores
    training_mean: dict[str, tuple[float, ...]]
    bumpier_samples: int
    bumpier: dict[str, dict[str, float]]
    per_material: dict[str, dict[str, float]]
    per_sample: tuple[Row, ...]
    weights: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; values that are not finite become None."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain


def save_record(record: EvaluationRecord, path: Path) -> None:
    """Write a record as JSON, atomically."""
    write_json(path, record.to_dict())


def load_record(path: Path) -> EvaluationRecord:
    """Read a record back; what was not finite comes back as NaN.

    Raises:
        DataError: The file is missing or is no such record.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(Row(row["sample"], row["material"], _numbers(row["values"])) for row in plain["per_sample"])
        return EvaluationRecord(
            samples=plain["samples"],
            materials=tuple(plain["materials"]),
            scores={name: _nested(of_map) for name, of_map in plain["scores"].items()},
            training_mean={name: tuple(value) for name, value in plain["training_mean"].items()},
            bumpier_samples=plain["bumpier_samples"],
            bumpier=_nested(plain["bumpier"]),
            per_material=_nested(plain["per_material"]),
            per_sample=rows,
            weights=plain["weights"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: no evaluation record ({type(error).__name__}: {error}); evaluate the run again"
        ) from error


def format_summary(record: EvaluationRecord) -> str:
    """Lay a record out for a terminal of 100 columns.

    Every map's table has the model's errors above those of the baselines, the best of each column marked `*`, and so
    has the table of re-renderings (`rerender`); normals are shown once more over the bumpier half; the last table has
    the model's main metrics of each material.
    """
    if not record.samples:
        return "No held-back sample was scored."
    size = f"{_count(record.samples, 'sample')}, {_count(len(record.materials), 'material')}"
    title = f"Errors on the held-back set: {size} (* best of its column)"
    tables = [_score_table(map_name, rows) for map_name, rows in record.scores.items()]
    if record.bumpier:
        caption = f"normal, bumpier half ({record.bumpier_samples} of {record.samples} samples)"
        tables.append(_score_table(caption, record.bumpier))
    if record.per_material:
        tables.append(_material_table(record))
    return "\n\n".join([title, *tables])


def _score_table(caption: str, rows: dict[str, dict[str, float]]) -> str:
    shown = _ANGLES if any("angle" in row for row in rows.values()) else METRICS
    metrics = [METRICS[name] for name in shown if any(name in row for row in rows.values())]
    best = {metric.name: _best(metric, (row.get(metric.name) for row in rows.values())) for metric in metrics}
    lines = [_line(caption, [f"{metric.label} " for metric in metrics])]
    for name, row in rows.items():
        lines.append(_line(f"  {name}", [_cell(metric, row.get(metric.name), best[metric.name]) for metric in metrics]))
    return "\n".join(lines)


def _material_table(record: EvaluationRecord) -> str:
    columns = [
        (f"{map_name}/{metric}", map_name, METRICS[metric])
        for map_name, metric in _PER_MATERIAL
        if map_name in record.scores
    ]
    counts = {name: sum(row.material == name for row in record.per_sample) for name in record.per_material}
    lines = [
        _line("", [name for _, name, _ in columns], width=_MATERIAL_CELL_WIDTH),
        _line("model, by material (samples)", [metric.label for _, _, metric in columns], width=_MATERIAL_CELL_WIDTH),
    ]
    for material, row in record.per_material.items():
        cells = [_number(metric, row.get(key)) for key, _, metric in columns]
        lines.append(_line(f"  {material} ({counts[material]})", cells, width=_MATERIAL_CELL_WIDTH))
    return "\n".join(lines)


def _line(name: str, cells: Iterable[str], width: int = _CELL_WIDTH) -> str:
    shown = name if len(name) < _NAME_WIDTH else f"{name[: _NAME_WIDTH - 2]}…"
    return (f"{shown:<{_NAME_WIDTH}}" + "".join(f"{cell:>{width}}" for cell in cells)).rstrip()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cell(metric: Metric, value: float | None, best: float | None) -> str:
    return _number(metric, value) + ("*" if value is not None and value == best else " ")


def _number(metric: Metric, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.{metric.digits}f}" if math.isfinite(value) else "NaN"


def _best(metric: Metric, values: Iterable[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if len(finite) < 2:
        return None
    return max(finite) if metric.higher_is_better else min(finite)


def _finite(value: Any) -> Any:
    """The same plain data with None for every float that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(values: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in values.items()}


def _nested(tables: dict[str, dict[str, float | None]]) -> dict[str, dict[str, float]]:
    return {name: _numbers(values) for name, values in tables.items()}
