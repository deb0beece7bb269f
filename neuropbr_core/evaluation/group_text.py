"""Groups of samples as tables for a terminal of 100 columns."""

import math

from neuropbr_core.evaluation.groups import AUC, GROUP_METRICS, Group, GroupTables, Score
from neuropbr_core.evaluation.metrics import METRICS, Metric

_LABEL_WIDTH = 28
_SIZE_WIDTH = 9
_CELL_WIDTH = 10
_GAIN_WIDTH = 9
_INTERVAL_WIDTH = 20
_MARKED_MATERIALS = 5
"""Fewest materials with which an interval may mark a difference: with two or three it is far too narrow."""


def format_groups(groups: GroupTables, about: str) -> str:
    """Write the model's errors in groups beside those of the best baselines.

    Args:
        groups: The tables; those with a single group are left out.
        about: What holds for all of them, as a short sentence.

    Returns:
        Lines without a line break at the end; empty when there is nothing to show.
    """
    parts: list[str] = []
    for table, of_table in groups.items():
        # One group is the whole set, which other tables have.
        if len(of_table) > 1:
            parts.append(format_table(table, of_table, "baseline"))
    if not parts:
        return ""
    heading = (
        "By group: the model's error, that of the best baseline, and the model's as a multiple of it (PSNR,\n"
        "AUC: the difference). In brackets the interval that 90 % of draws of other materials give; + and -\n"
        f"mark where all of it is better or worse than the baseline. {about}"
    )
    return "\n\n".join([heading, *parts])


def format_comparison(comparison: GroupTables, other: str) -> str:
    """Write the errors of an evaluation beside those of another one.

    Args:
        comparison: The tables.
        other: File of the other evaluation.

    Returns:
        Lines without a line break at the end.
    """
    heading = (
        f"Against {other}:\nthis evaluation's error, the other's, and this as a multiple of it (PSNR: the "
        "difference),\nover the samples that both scored; + and - mark where this one is better or worse."
    )
    parts: list[str] = []
    for table, groups in comparison.items():
        parts.append(format_table(table, groups, "other"))
    return "\n\n".join([heading, *parts])


def format_table(caption: str, groups: dict[str, Group], reference: str) -> str:
    """Write groups below each other, metric by metric: the model, what it is compared with, gain and interval.

    Args:
        caption: What the groups differ in.
        groups: The groups by label.
        reference: Heading of the column of what the model is compared with.

    Returns:
        Lines without a line break at the end.
    """
    heading = f"{f'by {caption}':<{_LABEL_WIDTH}}{'n (mat.)':>{_SIZE_WIDTH}}{'model':>{_CELL_WIDTH}}"
    heading += f"{reference:>{_CELL_WIDTH}}{'gain':>{_GAIN_WIDTH}}  {'90 %':<{_INTERVAL_WIDTH}}"
    lines = [heading.rstrip()]
    for key in (*GROUP_METRICS, AUC):
        map_name, _, metric_name = key.partition("/")
        metric = METRICS[metric_name]
        rows: list[str] = []
        for label, group in groups.items():
            if key in group.scores:
                rows.append(_line(label, group, metric, group.scores[key]))
        if rows:
            lines.append(f"{map_name} {metric.label}")
            lines += rows
    return "\n".join(lines)


def _line(label: str, group: Group, metric: Metric, score: Score) -> str:
    name = f"  {label}"
    if len(name) >= _LABEL_WIDTH:
        name = f"{name[: _LABEL_WIDTH - 2]}…"
    size = f"{group.samples} ({group.materials})"
    text = f"{name:<{_LABEL_WIDTH}}{size:>{_SIZE_WIDTH}}"
    for value in (score.model, score.reference):
        number = "–"
        if math.isfinite(value):
            number = f"{value:.{metric.digits}f}"
        text += f"{number:>{_CELL_WIDTH}}"
    text += f"{_gain(score.gain, metric):>{_GAIN_WIDTH}}"
    interval = ""
    if not math.isnan(score.low):
        interval = f"[{_gain(score.low, metric)}, {_gain(score.high, metric)}]"
    return f"{text}  {interval:<{_INTERVAL_WIDTH}}{_verdict(metric, score, group.materials)}".rstrip()


def _verdict(metric: Metric, score: Score, materials: int) -> str:
    """+ where the whole interval is better than the reference, - where it is worse, nothing where it may be chance."""
    if materials < _MARKED_MATERIALS:
        return ""
    none = 1.0
    if metric.higher_is_better:
        none = 0.0
    if none < score.low:
        above = True
    elif score.high < none:
        above = False
    else:
        return ""
    if above == metric.higher_is_better:
        return "+"
    return "-"


def _gain(value: float, metric: Metric) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if metric.higher_is_better:
        return f"{value:+.{metric.digits}f}"
    return f"{value:.2f}×"
