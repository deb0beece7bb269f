"""The record of an evaluation: as data, as the table at the end of a run, and as a folder with the worst samples."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from neuropbr_core.data.images import write_png
from neuropbr_core.errors import DataError, RunError
from neuropbr_core.evaluation.group_text import format_comparison, format_groups
from neuropbr_core.evaluation.groups import Group, GroupTables, Score
from neuropbr_core.evaluation.metrics import METRICS, RERENDER, Metric, Row
from neuropbr_core.evaluation.pictures import Picture
from neuropbr_core.files import file_name, finite, replacing, write_json, write_text
from neuropbr_core.reading import read_json

MODEL = "model"
"""Name of the model's own row beside the baselines."""

Scores = dict[str, dict[str, dict[str, float]]]
"""Metrics by map, then by the model or a baseline, then by metric."""

# In characters. A name with six cells, or with five wider ones, fills a terminal of 100 columns.
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
"""The metrics of normals in tables: a terminal of 100 columns has room for six."""


@dataclass(frozen=True)
class Refusal:
    """A sample whose photos could not be registered.

    Attributes:
        sample: Its id.
        material: Its material.
        capture_kind: How its photos were taken.
        reason: Why registration refused them.
    """

    sample: str
    material: str
    capture_kind: str
    reason: str


@dataclass(frozen=True)
class EvaluationRecord:
    """The result of an evaluation.

    Attributes:
        samples: How many held-back samples were scored.
        materials: Their materials.
        scores: Mean metrics over samples by map (and `rerender`), then by `model` and the baselines, then by metric
            (`metrics.METRICS`).
        training_mean: Mean of each map over the training targets, a value per channel; empty when it is not known.
        bumpier_samples: How many samples are in the bumpier half (`heldout.bumpier_half`).
        bumpier: Normal metrics over the bumpier half, of `model` and of the flat normal; empty without normals.
        per_material: The model's mean metrics of each material, as `<map>/<metric>`.
        per_sample: Metrics of model and baselines of each sample; with several numbers of views, for each number.
        weights: SHA-256 of the weights that were scored, in hexadecimal; empty when they are not on disk.
        views: Number of views that everything except `groups.BY_VIEWS` is about.
        cameras: Where the cameras come from: `recorded`, `registered` (estimated from the photos), or `none`.
        refused: Samples that are not scored because their photos could not be registered.
        groups: Errors of groups of samples beside the best baseline's.
        refined: Steps in which the maps were fitted to the photos before they were scored; 0 for maps as predicted.
        unfitted: Samples whose maps were not fitted all the same, because their photos look as if they were taken
            without the flash.
        other: File of an evaluation that this one was compared with; empty without.
        comparison: This evaluation's errors beside those of `other`, over the samples that both scored.
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
    views: int = 0
    cameras: str = ""
    refused: tuple[Refusal, ...] = ()
    groups: GroupTables = field(default_factory=dict)
    refined: int = 0
    unfitted: int = 0
    other: str = ""
    comparison: GroupTables = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; values that are not finite become None."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain


def save_record(record: EvaluationRecord, path: Path) -> None:
    """Write a record as JSON, whole or not at all.

    Args:
        record: The record.
        path: The file; an earlier one is replaced.

    Raises:
        OSError: It could not be written; `path` is as it was.
    """
    write_json(path, record.to_dict())


def load_record(path: Path) -> EvaluationRecord:
    """Read a record.

    Args:
        path: A file that `save_record` wrote.

    Returns:
        The record; values that were not finite are NaN.

    Raises:
        DataError: The file is missing or is no such record.
    """
    document = read_json(path, _Document, DataError, "it is no evaluation record; evaluate the run again")
    rows: list[Row] = []
    for row in document.per_sample:
        rows.append(
            Row(
                row.sample,
                row.material,
                _numbers(row.values),
                _nested(row.baselines),
                row.capture_kind,
                row.condition,
                row.views,
                row.classes,
                row.photos,
            )
        )
    scores: Scores = {}
    for name, by_model in document.scores.items():
        scores[name] = _nested(by_model)
    return EvaluationRecord(
        samples=document.samples,
        materials=document.materials,
        scores=scores,
        training_mean=document.training_mean,
        bumpier_samples=document.bumpier_samples,
        bumpier=_nested(document.bumpier),
        per_material=_nested(document.per_material),
        per_sample=tuple(rows),
        weights=document.weights,
        views=document.views,
        cameras=document.cameras,
        refused=document.refused,
        groups=_group_tables(document.groups),
        refined=document.refined,
        unfitted=document.unfitted,
        other=document.other,
        comparison=_group_tables(document.comparison),
    )


_Values = dict[str, float | None]
"""Metrics of a row as JSON has them; null stands for a number that is not finite."""


class _Row(msgspec.Struct):
    sample: str
    material: str
    values: _Values
    baselines: dict[str, _Values] = {}
    capture_kind: str = ""
    condition: str = ""
    views: int = 0
    classes: tuple[str, ...] = ()
    photos: str = ""


class _Score(msgspec.Struct):
    model: float | None
    reference: float | None
    reference_name: str
    gain: float | None
    low: float | None
    high: float | None


class _Group(msgspec.Struct):
    samples: int
    materials: int
    scores: dict[str, _Score]


_Tables = dict[str, dict[str, _Group]]


class _Document(msgspec.Struct):
    """An `EvaluationRecord` as JSON has it."""

    samples: int
    materials: tuple[str, ...]
    scores: dict[str, dict[str, _Values]]
    training_mean: dict[str, tuple[float, ...]]
    bumpier_samples: int
    bumpier: dict[str, _Values]
    per_material: dict[str, _Values]
    per_sample: tuple[_Row, ...]
    weights: str
    # Records from before there were groups lack what follows; their other numbers are still good.
    views: int = 0
    cameras: str = ""
    refused: tuple[Refusal, ...] = ()
    groups: _Tables = {}
    refined: int = 0
    unfitted: int = 0
    other: str = ""
    comparison: _Tables = {}


def format_summary(record: EvaluationRecord) -> str:
    """Write a record as tables for a terminal of 100 columns.

    Every map has a table with the model's errors above those of the baselines and `*` at the best of each column;
    re-renderings have such a table too (`rerender`). A further table has the normals of the bumpier half of the
    samples. The last table has the model's main metrics of each material.

    Args:
        record: The record.

    Returns:
        Lines without a line break at the end.
    """
    if not record.samples:
        return "No held-back sample was scored."
    size = f"{_count(record.samples, 'sample')}, {_count(len(record.materials), 'material')}"
    parts = [f"Errors on the held-back set: {size} (* best of its column)"]
    for map_name, rows in record.scores.items():
        parts.append(_score_table(map_name, rows))
    if record.bumpier:
        caption = f"normal, bumpier half ({record.bumpier_samples} of {record.samples} samples)"
        parts.append(_score_table(caption, record.bumpier))
    if record.per_material:
        parts.append(_material_table(record))
    return "\n\n".join(parts)


def _score_table(caption: str, rows: dict[str, dict[str, float]]) -> str:
    # A baseline may lack a metric that the model has, such as SSIM of the best constant.
    names = set().union(*rows.values())
    shown: Iterable[str] = METRICS
    if "angle" in names:
        shown = _ANGLES
    best: dict[str, float | None] = {}
    headings: list[str] = []
    for key in shown:
        if key in names:
            best[key] = best_value_of(METRICS[key], rows.values())
            # The space is as wide as a mark.
            headings.append(f"{METRICS[key].label} ")
    lines = [_line(caption, headings)]
    for name, row in rows.items():
        cells: list[str] = []
        for key, best_value in best.items():
            value = row.get(key)
            # Equal values are all marked.
            mark = " "
            if value is not None and value == best_value:
                mark = "*"
            cells.append(_number(METRICS[key], value) + mark)
        lines.append(_line(f"  {name}", cells))
    return "\n".join(lines)


def _material_table(record: EvaluationRecord) -> str:
    columns: list[tuple[str, Metric]] = []
    map_names: list[str] = []
    labels: list[str] = []
    for map_name, metric_name in _PER_MATERIAL:
        if map_name in record.scores:
            metric = METRICS[metric_name]
            columns.append((f"{map_name}/{metric_name}", metric))
            map_names.append(map_name)
            labels.append(metric.label)
    counts = Counter(row.material for row in record.per_sample if row.views == record.views)
    # Two lines of headings, because map and metric do not fit side by side into a cell.
    lines = [
        _line("", map_names, width=_MATERIAL_CELL_WIDTH),
        _line("model, by material (samples)", labels, width=_MATERIAL_CELL_WIDTH),
    ]
    for material, row in record.per_material.items():
        cells: list[str] = []
        for key, metric in columns:
            cells.append(_number(metric, row.get(key)))
        lines.append(_line(f"  {material} ({counts[material]})", cells, width=_MATERIAL_CELL_WIDTH))
    return "\n".join(lines)


def _line(name: str, cells: Iterable[str], width: int = _CELL_WIDTH) -> str:
    # At least one space separates a name from the first number.
    if len(name) >= _NAME_WIDTH:
        name = f"{name[: _NAME_WIDTH - 2]}…"
    text = f"{name:<{_NAME_WIDTH}}"
    for cell in cells:
        text += f"{cell:>{width}}"
    return text.rstrip()


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"{number} {noun}"
    return f"{number} {noun}s"


def _number(metric: Metric, value: float | None) -> str:
    if value is None:
        return "–"
    # Infinity is as useless as NaN, and "inf" beside an error reads like a number.
    if not math.isfinite(value):
        return "NaN"
    return f"{value:.{metric.digits}f}"


def best_value_of(metric: Metric, rows: Iterable[Mapping[str, float]]) -> float | None:
    """Return the best value of a column; None when the column has nothing to compare.

    Args:
        metric: Which values, and whether larger ones are better.
        rows: Values by metric; those that are not finite do not count.
    """
    sound: list[float] = []
    for row in rows:
        value = row.get(metric.name, math.nan)
        if math.isfinite(value):
            sound.append(value)
    if len(sound) < 2:
        return None
    if metric.higher_is_better:
        return max(sound)
    return min(sound)


def _numbers(values: dict[str, float | None]) -> dict[str, float]:
    """Undo `finite` for the metrics of one row."""
    numbers: dict[str, float] = {}
    for name, value in values.items():
        numbers[name] = math.nan
        if value is not None:
            numbers[name] = value
    return numbers


def _nested(tables: dict[str, dict[str, float | None]]) -> dict[str, dict[str, float]]:
    return {name: _numbers(values) for name, values in tables.items()}


def _group_tables(tables: _Tables) -> GroupTables:
    read: GroupTables = {}
    for table, groups in tables.items():
        read[table] = {}
        for label, group in groups.items():
            scores: dict[str, Score] = {}
            for metric, score in group.scores.items():
                numbers = msgspec.structs.asdict(score)
                name = numbers.pop("reference_name")
                scores[metric] = Score(reference_name=name, **_numbers(numbers))
            read[table][label] = Group(group.samples, group.materials, scores)
    return read


RECORD, TABLE, WORST = "evaluation.json", "evaluation.txt", "worst"


def describe(record: EvaluationRecord, trained_on: Sequence[str], *, is_complete: bool = True) -> str:
    """The tables for a terminal, with a warning when they are not about unknown materials.

    Args:
        record: The metrics.
        trained_on: Materials among them that the model was trained on.
        is_complete: Whether these are all; False where nobody knows.
    """
    parts = [format_summary(record)]
    if record.refined:
        fitted = f"The maps were fitted to the photos in {record.refined} steps before they were scored"
        if record.unfitted:
            fitted += (
                f", except those of {record.unfitted} of {_count(record.samples, 'sample')}, whose photos look as if "
                "they were taken without the flash"
            )
        parts.append(f"{fitted}.")
    if record.refused:
        parts.append(_refusals(record))
    views = _count(record.views, "view")
    cameras = f"{record.cameras or 'recorded'} cameras"
    if record.cameras == "none":
        cameras = "no cameras"
    if groups := format_groups(record.groups, f"Photos: {views}, {cameras}."):
        parts.append(groups)
    if record.comparison:
        parts.append(format_comparison(record.comparison, record.other))
    if trained_on:
        share = f"{len(trained_on)} of {len(record.materials)} materials"
        names = ", ".join(trained_on)
        parts.append(f"warning: the model was trained on {share}, whose numbers measure memory: {names}")
    if not is_complete:
        parts.append("Nobody knows all materials that the model was trained on; numbers of these measure memory.")
    return "\n\n".join(parts)


def _refusals(record: EvaluationRecord) -> str:
    count = len(record.refused)
    lines = [f"Not scored: {count} of {count + record.samples} samples, whose photos could not be registered:"]
    for refusal in record.refused:
        # The first photo's reason is enough; the record has all.
        reason = refusal.reason.splitlines()[0]
        lines.append(f"  {refusal.sample} ({refusal.material}, {refusal.capture_kind}): {reason}")
    return "\n".join(lines)


def worst_samples(record: EvaluationRecord, count: int) -> list[str]:
    """Ids of the samples with the largest re-rendering error, worst first; those that are not finite come first."""

    def badness(error: float) -> float:
        return error if math.isfinite(error) else math.inf

    # A sample has a row for each number of views that was scored.
    rows = [row for row in record.per_sample if row.views == record.views]
    errors = {row.sample: badness(row.values[f"{RERENDER}/rmse"]) for row in rows}
    return sorted(errors, key=errors.__getitem__, reverse=True)[:count]


def check_place(folder: Path) -> None:
    """Refuse a place of an evaluation that holds anything else, which would be removed with an earlier evaluation.

    Args:
        folder: The place.

    Raises:
        RunError: It is a file, or a folder with other content.
    """
    if folder.is_dir():
        if any(folder.iterdir()) and not _is_evaluation(folder):
            raise RunError(
                f"{folder}: is not empty and holds no {RECORD} of an evaluation; name another folder with --output"
            )
        others = sorted(path.name for path in folder.iterdir() if path.name not in (RECORD, TABLE, WORST))
        if others:
            raise RunError(
                f"{folder}: holds {others[0]}, which is no part of an evaluation and would be removed; name another "
                f"folder with --output"
            )
    elif folder.exists() or folder.is_symlink():
        raise RunError(f"{folder}: is a file, which the evaluation would replace; name a folder with --output")


def _is_evaluation(folder: Path) -> bool:
    try:
        load_record(folder / RECORD)
    except DataError:
        return False
    return True


def write_evaluation(
    folder: Path, record: EvaluationRecord, table: str, pictures: Iterable[tuple[str, str, Picture]]
) -> None:
    """Write an evaluation beside its place, then put it there; an earlier one is replaced when the new one is whole.

    Args:
        folder: Its place.
        record: The metrics.
        table: What `describe` returns of them.
        pictures: Id, material and comparison grid of the worst samples, worst first.

    Raises:
        OSError: It could not be written.
    """
    with replacing(folder) as aside:
        save_record(record, aside / RECORD)
        write_text(aside / TABLE, f"{table}\n")
        for rank, (name, material, picture) in enumerate(pictures, start=1):
            write_png(aside / WORST / f"{rank:02d}_{file_name(name)}_{file_name(material)}.png", picture)
