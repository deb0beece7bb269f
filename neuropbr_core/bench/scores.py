"""Scores of the bench: errors of each entry beside the baselines, as data and as tables."""

import math
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neuropbr_core.bench.entries import Entry
from neuropbr_core.bench.protocol import VERSION, BenchCaptures
from neuropbr_core.contracts import Maps
from neuropbr_core.data.batches.prepare import Prepared
from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.group_text import format_table
from neuropbr_core.evaluation.groups import Group, compare_rows
from neuropbr_core.evaluation.heldout import evaluate_samples
from neuropbr_core.evaluation.metrics import METRICS, RERENDER, Row
from neuropbr_core.evaluation.perceptual import ALEXNET, Lpips
from neuropbr_core.maps import ALBEDO, METALLIC, NORMAL, ROUGHNESS

COLUMNS = (
    f"{ALBEDO.name}/psnr",
    f"{ROUGHNESS.name}/mae",
    f"{METALLIC.name}/mae",
    f"{NORMAL.name}/angle",
    f"{RERENDER}/psnr",
    f"{RERENDER}/lpips",
)
"""Map and metric of each column."""
_WIDTH = 120  # columns of a terminal that has room for the tables


@dataclass(frozen=True)
class Spread:
    """A metric over materials.

    Attributes:
        mean: Mean over the materials of the mean over a material's captures.
        deviation: Standard deviation over the materials (with n - 1); NaN for a single material.
        materials: Number of materials.
    """

    mean: float
    deviation: float
    materials: int


@dataclass(frozen=True)
class Scores:
    """The scores of one entry.

    Attributes:
        entry: What was scored.
        rows: Its metrics and the baselines' of each capture.
        captures: The captures' names, in the order of the rows.
    """

    entry: Entry
    rows: tuple[Row, ...]
    captures: tuple[str, ...]

    def over(self, materials: Iterable[str]) -> dict[str, Spread]:
        """Its metrics over some materials; a metric that it does not have is left out."""
        return _spreads((row.material, row.values) for row in self._of(materials))

    def baselines_over(self, materials: Iterable[str]) -> dict[str, dict[str, Spread]]:
        """The baselines' metrics over some materials, by the baseline's name."""
        rows = self._of(materials)
        spreads: dict[str, dict[str, Spread]] = {}
        if not rows:
            return spreads
        for name in rows[0].baselines:
            spreads[name] = _spreads((row.material, row.baselines[name]) for row in rows)
        return spreads

    def gain_over(self, materials: Iterable[str]) -> Group | None:
        """Its metrics beside those of the best baselines, with intervals; None without captures."""
        rows = self._of(materials)
        if not rows:
            return None
        return compare_rows(rows)

    def _of(self, materials: Iterable[str]) -> list[Row]:
        wanted = set(materials)
        return [row for row in self.rows if row.material in wanted]


@dataclass(frozen=True)
class Result:
    """The outcome of a bench.

    Attributes:
        captures: The captures.
        scores: The scores of each entry, in the order in which they were given.
        lpips: The perceptual distance; None without its weights.
    """

    captures: BenchCaptures
    scores: tuple[Scores, ...]
    lpips: Lpips | None

    @property
    def materials(self) -> tuple[str, ...]:
        """All materials of the protocol."""
        return tuple(dict.fromkeys(sample.material for sample in self.captures.samples.samples))

    @property
    def unseen(self) -> tuple[str, ...]:
        """The materials that no entry was trained on, as far as that is known: those of the main table."""
        trained: set[str] = set()
        for scores in self.scores:
            trained.update(scores.entry.trained_on.materials)
        return tuple(name for name in self.materials if name not in trained)

    @property
    def baselines(self) -> dict[str, dict[str, Spread]]:
        """The baselines' metrics over the unseen materials, from the entry that has most to compare."""
        most = max(self.scores, key=lambda scores: (len(scores.rows), len(scores.rows[0].values)))
        return most.baselines_over(self.unseen)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; values that are not finite become None."""
        entries = []
        for scores in self.scores:
            entry = scores.entry
            by_capture: dict[str, Any] = {}
            for name, row in zip(scores.captures, scores.rows, strict=True):
                by_capture[name] = {"material": row.material, "kind": row.capture_kind, "metrics": _finite(row.values)}
            entries.append(
                {
                    "name": entry.name,
                    "origin": entry.origin,
                    "weights": entry.weights,
                    "refined": entry.refined,
                    "unfitted": entry.unfitted,
                    "trained_on": _within(entry.trained_on.materials, self.materials),
                    "trained_on_is_complete": entry.trained_on.is_complete,
                    "chosen_on": _within(entry.chosen_on, self.materials),
                    "missing": entry.missing,
                    "notes": list(entry.notes),
                    "unseen": _plain(scores.over(self.unseen)),
                    "by_capture": by_capture,
                }
            )
        lpips = None
        if self.lpips is not None:
            lpips = {"weights": self.lpips.digest, "usual": self.lpips.usual}
        return {
            "version": VERSION,
            "protocol": self.captures.protocol.digest,
            "photos": self.captures.photos,
            "size": self.captures.protocol.size,
            "views": self.captures.protocol.views,
            "lpips": lpips,
            "materials": list(self.materials),
            "unseen": list(self.unseen),
            "baselines": {name: _plain(spreads) for name, spreads in self.baselines.items()},
            "entries": entries,
        }


def check_names(names: Sequence[str]) -> None:
    """Refuse entries of one name.

    Raises:
        DataError: Two entries have one name.
    """
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"{name}: two entries have that name; rename one of the folders, so that tables tell them apart"
            )


def score(entries: Sequence[Entry], captures: BenchCaptures, lpips: Lpips | None = None) -> Result:
    """Score entries beside the baselines.

    Args:
        entries: One or more, with different names.
        captures: The captures.
        lpips: A perceptual distance of re-renderings; None leaves it out.

    Raises:
        DataError: Two entries have one name.
    """
    check_names([entry.name for entry in entries])
    return Result(captures, tuple(_score(entry, captures, lpips) for entry in entries), lpips)


def _score(entry: Entry, captures: BenchCaptures, lpips: Lpips | None) -> Scores:
    by_id = {sample.id: name for name, sample in captures.names.items()}
    chosen = [sample for sample in captures.samples.samples if by_id[sample.id] in entry.maps]

    def stored(prepared: Prepared) -> Maps:
        maps: Maps = entry.maps[by_id[prepared.ids[0]]]
        return maps

    record = evaluate_samples(
        stored,
        captures.samples.frames_of(chosen),
        {},
        torch.device("cpu"),
        digests=captures.view_digests,
        perceptual=lpips,
    )
    rows = record.per_sample
    return Scores(entry, rows, tuple(by_id[row.sample] for row in rows))


def describe(result: Result) -> str:
    """The tables for a terminal of 120 columns."""
    protocol = result.captures.protocol
    samples = result.captures.samples.samples
    kinds = ", ".join(dict.fromkeys(sample.capture_kind for sample in samples))
    heading = (
        f"NeuroPBR bench {VERSION}, protocol {protocol.digest}: {len(samples)} captures of {len(result.materials)} "
        f"materials ({kinds}),\n{protocol.views} photos each, maps of {protocol.size}².\n"
        "Results can be compared when these digits and the materials that the tables are over are the same."
    )
    parts = [heading]
    measured: set[str] = set()
    for scores in result.scores:
        measured.update(scores.rows[0].values)
    shown = [column for column in COLUMNS if column in measured]
    if result.unseen:
        parts.append(_main_table(result, shown))
        groups: dict[str, Group] = {}
        for scores in result.scores:
            if group := scores.gain_over(result.unseen):
                groups[scores.entry.name] = group
        caption = (
            "Error, that of the best baseline, and the error as a multiple of it (PSNR: the difference); in brackets\n"
            "the interval that 90 % of draws of other materials give; + and - mark gains and losses beyond chance."
        )
        parts.append(f"{caption}\n{format_table('entry', groups, 'baseline')}")
    else:
        parts.append("Every material was trained on by one of the entries, so that nothing can be compared.")
    for scores in result.scores:
        parts.append(_material_table(scores, result, shown))
    parts.append("\n".join(_notes(result)))
    return "\n\n".join(parts)


def _main_table(result: Result, shown: Sequence[str]) -> str:
    rows = [("mean ± deviation over materials", *map(_heading, shown))]
    for scores in result.scores:
        rows.append((scores.entry.name, *_cells(scores.over(result.unseen), shown)))
    for name, spreads in result.baselines.items():
        rows.append((name, *_cells(spreads, shown)))
    caption = f"Over {len(result.unseen)} materials that no entry is known to have trained on: "
    return f"{textwrap.fill(caption + ', '.join(result.unseen), _WIDTH)}\n{_aligned(rows)}"


def _material_table(scores: Scores, result: Result, shown: Sequence[str]) -> str:
    trained_on = scores.entry.trained_on.materials
    rows = [(scores.entry.name, *map(_heading, shown))]
    for material in result.materials:
        label = material
        if material in trained_on:
            label += " *"
        spreads = scores.over([material])
        rows.append((f"  {label}", *_cells(spreads, shown)))
    return _aligned(rows)


def _notes(result: Result) -> list[str]:
    """What a reader has to know before trusting the numbers."""
    lines = []
    for scores in result.scores:
        entry = scores.entry
        trained = _within(entry.trained_on.materials, result.materials)
        if trained:
            lines.append(f"* {entry.name}: was trained on {', '.join(trained)}, whose numbers measure memory")
        if not entry.trained_on.is_complete:
            others = "other materials" if trained else "materials"
            lines.append(f"{entry.name}: nobody knows whether it was trained on {others} of the bench")
        if chosen := _within(entry.chosen_on, result.materials):
            lines.append(
                f"{entry.name}: choices about it were made on {', '.join(chosen)}; their numbers are optimistic"
            )
        if entry.missing:
            total = len(entry.missing) + len(scores.rows)
            lines.append(
                f"warning: {entry.name}: {len(entry.missing)} of {total} captures have no maps, so that its numbers "
                "cannot be compared with others:"
            )
            for capture, reason in entry.missing.items():
                lines.append(f"  {capture}: {reason}")
        for note in entry.notes:
            lines.append(f"{entry.name}: {note}")
    if result.lpips is None:
        lines.append(f"LPIPS is left out: it needs the weights {ALEXNET}; give them with --lpips-weights FILE")
    elif not result.lpips.usual:
        lines.append(
            f"warning: LPIPS: the weights (SHA-256 {result.lpips.digest[:8]}…) are not those of {ALEXNET}, so that the "
            "distances cannot be compared with others"
        )
    return lines


def _spreads(rows: Iterable[tuple[str, Mapping[str, float]]]) -> dict[str, Spread]:
    """Mean and deviation over materials of each metric, from (material, metrics) of each capture."""
    by_metric: dict[str, dict[str, list[float]]] = {}
    for material, values in rows:
        for metric, value in values.items():
            by_metric.setdefault(metric, {}).setdefault(material, []).append(value)
    spreads = {}
    for metric, by_material in by_metric.items():
        means = [statistics.fmean(values) for values in by_material.values()]
        deviation = math.nan
        if len(means) > 1:
            deviation = statistics.stdev(means)
        spreads[metric] = Spread(statistics.fmean(means), deviation, len(means))
    return spreads


def _heading(column: str) -> str:
    map_name, _, metric = column.partition("/")
    return f"{map_name} {METRICS[metric].label}"


def _cells(spreads: Mapping[str, Spread], shown: Sequence[str]) -> list[str]:
    cells = []
    for column in shown:
        digits = METRICS[column.partition("/")[2]].digits
        if digits == 4:
            digits = 3  # three digits of errors tell materials apart, and leave room for the deviation
        if column not in spreads:
            cells.append("–")
            continue
        spread = spreads[column]
        cell = f"{spread.mean:.{digits}f}"
        if math.isfinite(spread.deviation):
            cell += f" ± {spread.deviation:.{digits}f}"
        cells.append(cell)
    return cells


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        for cell, width in zip(others, widths[1:], strict=True):
            cells.append(cell.rjust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _within(names: Sequence[str], materials: Sequence[str]) -> list[str]:
    return [name for name in materials if name in names]


def _plain(spreads: Mapping[str, Spread]) -> dict[str, dict[str, float | int | None]]:
    plain: dict[str, dict[str, float | int | None]] = {}
    for metric, spread in spreads.items():
        numbers = _finite({"mean": spread.mean, "deviation": spread.deviation})
        plain[metric] = {**numbers, "materials": spread.materials}
    return plain


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics for JSON, which has no NaN."""
    finite: dict[str, float | None] = {}
    for name, value in values.items():
        finite[name] = None
        if math.isfinite(value):
            finite[name] = value
    return finite
