"""Errors of groups of samples beside the best baseline's, with intervals that tell a difference from chance.

Samples of one material are much alike, so materials are what a set has few of: the bootstrap draws materials, each with
all of its samples. An interval then says how far the result would move with other materials of the same sort.

Source: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13 (percentile intervals).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuropbr_core.evaluation.material_classes import CLASSES
from neuropbr_core.evaluation.metrics import METRICS, Row, auc_of_counts
from neuropbr_core.materials.capture_kinds import CAPTURE_KINDS

GROUP_METRICS = ("albedo/psnr", "roughness/mae", "metallic/mae", "normal/angle", "rerender/psnr")
"""The metric of each map that groups are compared by."""
AUC = "metallic/auc"
CHANCE = "chance"
"""Name of the AUC's baseline: a constant, which ranks no pixel above another."""

BY_KIND = "capture kind"
BY_CONDITION = "condition"
BY_CLASS = "material class"
BY_VIEWS = "number of views"

RESAMPLES = 2000
"""Draws of a bootstrap: the ends of its interval are then known within about a twentieth of its length."""
COVERAGE = 0.9
_SEED = 1993
_LEAST = 1e-6
"""Error below which a baseline is perfect, so that no ratio to it means anything."""
_AUC_DRAWS = 100
"""Draws whose pooled histograms are in memory at once."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """One metric of a group.

    Attributes:
        model: The model's mean over samples.
        reference: That of what it is compared with.
        reference_name: What it is compared with: the baseline that is best in the group, or another evaluation.
        gain: `model / reference`, or for metrics of which more is better (dB, AUC) `model - reference`; NaN where the
            reference is without error.
        low: Lower end of the gain's 90 % interval; NaN with a single material.
        high: Its upper end.
    """

    model: float
    reference: float
    reference_name: str
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """Samples that have something in common.

    Attributes:
        samples: Number of samples.
        materials: Number of materials.
        scores: Metrics by name (`GROUP_METRICS`, and `AUC` where the group has both metals and others).
    """

    samples: int
    materials: int
    scores: dict[str, Score]


GroupTables = dict[str, dict[str, Group]]
"""Groups by table (`BY_KIND`, …), then by label."""

RankCounts = Mapping[tuple[str, int], npt.NDArray[np.uint32]]
"""Histograms of `metrics.RankStatistic` by sample and number of views."""


def group_tables(rows: Sequence[Row], views: int, counts: RankCounts | None = None) -> GroupTables:
    """Compare the model with the best baseline in every group.

    Args:
        rows: Samples with the metrics of model and baselines; a sample may appear once for each number of views.
        views: The number of views that tables other than `BY_VIEWS` are about.
        counts: Histograms of metallic predictions; None leaves out the AUC.

    Returns:
        The tables.
    """
    usual = [row for row in rows if row.views == views]
    return {
        BY_KIND: _groups(usual, lambda row: [row.kind_label], counts, _kind_order),
        BY_CONDITION: _groups(usual, lambda row: [row.condition], counts, str),
        BY_CLASS: _groups(usual, lambda row: row.classes, counts, CLASSES.index),
        BY_VIEWS: _groups(rows, lambda row: [str(row.views)], counts, int),
    }


def compare_rows(rows: Sequence[Row], counts: RankCounts | None = None) -> Group:
    """Compare model and baselines over all of some samples.

    Args:
        rows: At least one sample, all with the same metrics.
        counts: As for `group_tables`.
    """
    materials = sorted({row.material for row in rows})
    weights = resampled_weights(len(materials))
    scores: dict[str, Score] = {}
    for metric in GROUP_METRICS:
        if metric in rows[0].values:
            scores[metric] = _score(metric, rows, materials, weights)
    if counts is not None and (ranking := _ranking(rows, materials, weights, counts)):
        scores[AUC] = ranking
    return Group(len(rows), len(materials), scores)


def resampled_weights(materials: int) -> Values:
    """How often each material is drawn in each resample, `(RESAMPLES, materials)`; the same for every call."""
    rng = np.random.Generator(np.random.Philox(_SEED))
    return rng.multinomial(materials, np.full(materials, 1 / materials), size=RESAMPLES).astype(np.float64)


def _groups(
    rows: Iterable[Row],
    labels: Callable[[Row], Iterable[str]],
    counts: RankCounts | None,
    order: Callable[[str], object],
) -> dict[str, Group]:
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        for label in labels(row):
            by_label.setdefault(label, []).append(row)
    groups: dict[str, Group] = {}
    for label in sorted(by_label, key=order):  # type: ignore[arg-type]
        groups[label] = compare_rows(by_label[label], counts)
    return groups


def _kind_order(label: str) -> tuple[bool, int, str]:
    """Clean captures before dirty ones, in the order of the kinds; kinds of the user's own come last."""
    kind = label.removesuffix(", dirty")
    position = len(CAPTURE_KINDS)
    if kind in CAPTURE_KINDS:
        position = CAPTURE_KINDS.index(kind)
    return kind != label, position, label


def _score(metric: str, rows: Sequence[Row], materials: Sequence[str], weights: Values) -> Score:
    """Compare with the baseline that is best in the group; in the resamples the baseline stays the same."""
    is_gain = METRICS[metric.partition("/")[2]].higher_is_better
    means: dict[str, float] = {}
    for name, values in rows[0].baselines.items():
        if metric in values:
            means[name] = _mean(row.baselines[name][metric] for row in rows)
    model = _mean(row.values[metric] for row in rows)
    if not means:
        return Score(model, math.nan, "", math.nan, math.nan, math.nan)
    best = min(means, key=means.__getitem__)
    if is_gain:
        best = max(means, key=means.__getitem__)
    sums = np.zeros((3, len(materials)))
    place = {material: position for position, material in enumerate(materials)}
    for row in rows:
        sums[:, place[row.material]] += (row.values[metric], row.baselines[best][metric], 1.0)
    drawn_model, drawn_reference, drawn_count = (weights @ each for each in sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        if is_gain:
            gain = model - means[best]
            draws = (drawn_model - drawn_reference) / drawn_count
        elif means[best] < _LEAST:
            gain = math.nan
            draws = np.full(RESAMPLES, math.nan)
        else:
            gain = model / means[best]
            draws = drawn_model / drawn_reference
    low, high = _interval(draws, len(materials))
    return Score(model, means[best], best, gain, low, high)


def _ranking(rows: Sequence[Row], materials: Sequence[str], weights: Values, counts: RankCounts) -> Score | None:
    """The AUC over all pixels of the group; None when it lacks metal, or anything else."""
    place = {material: position for position, material in enumerate(materials)}
    pooled: Values | None = None
    for row in rows:
        histogram = counts.get((row.sample, row.views))
        if histogram is None:
            return None
        if pooled is None:
            pooled = np.zeros((len(materials), *histogram.shape))
        pooled[place[row.material]] += histogram
    if pooled is None:
        return None
    # Most bins are empty, and empty ones change no rank.
    pooled = pooled[:, :, pooled.any(axis=(0, 1))]
    auc = float(auc_of_counts(pooled.sum(axis=0)))
    if math.isnan(auc):
        return None
    draws = []
    for part in np.split(weights, range(_AUC_DRAWS, len(weights), _AUC_DRAWS)):
        draws.append(auc_of_counts(np.tensordot(part, pooled, axes=1)))
    # Resamples without metal, or without anything else, have no AUC.
    known = np.concatenate(draws)
    low, high = _interval(known[~np.isnan(known)] - 0.5, len(materials))
    return Score(auc, 0.5, CHANCE, auc - 0.5, low, high)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)


def _interval(draws: Values, materials: int) -> tuple[float, float]:
    """The middle 90 % of the draws; NaN where one material leaves nothing to draw from, or a draw has no value."""
    if materials < 2 or not len(draws) or np.isnan(draws).any():
        return math.nan, math.nan
    # Whole draws: between an infinite ratio and a finite one there is nothing to interpolate.
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(draws, (tail, 1 - tail), method="inverted_cdf")
    return float(low), float(high)
