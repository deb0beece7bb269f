"""Scores of runs as tables and tiles, beside those of the baselines."""

import math
from collections.abc import Iterable, Mapping, Sequence

from neuropbr_core.evaluation.groups import GROUP_METRICS
from neuropbr_core.evaluation.metrics import METRICS, Metric
from neuropbr_core.evaluation.summary import MODEL, EvaluationRecord, best_value_of
from neuropbr_core.viewer.html import Html, element, join

Row = Mapping[str, float]


def metric_number(metric: Metric, value: float | None) -> str:
    """A value as tables show it: a dash when there is none, NaN when it is not finite."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN"
    return f"{value:.{metric.digits}f}"


def table(caption: str, heads: Sequence[str], rows: Iterable[Html]) -> Html:
    """A table with a caption that scrolls sideways where it is too wide."""
    head = element("thead", element("tr", *(element("th", text, scope="col") for text in heads)))
    content = element("table", element("caption", caption), head, element("tbody", join(*rows)))
    # Keyboards scroll only what they can focus.
    return element("div", content, class_="scroll", tabindex=0, role="region", aria_label=caption)


def score_tiles(record: EvaluationRecord) -> Html:
    """The main metric of each map, with the best baseline beside it."""
    tiles: list[Html] = []
    for map_name, metric in _main_metrics([record]):
        rows = record.scores[map_name]
        value = rows.get(MODEL, {}).get(metric.name)
        baseline = _best_baseline(metric, rows)
        remark = element("small", "no baseline")
        if baseline is not None and value is not None:
            name, other = baseline
            # Equal is not better: a model that only repeats the baseline has learnt nothing.
            verdict = "worse"
            if (value > other) == metric.higher_is_better and value != other:
                verdict = "better"
            text = f"{verdict} than {name.replace('_', ' ')}: {metric_number(metric, other)}"
            remark = element("small", text, class_=verdict)
        label = element("small", f"{map_name} · {metric.label}")
        tiles.append(element("div", label, element("b", metric_number(metric, value)), remark, class_="tile"))
    return element("div", join(*tiles), class_="tiles")


def comparison_table(records: Mapping[str, EvaluationRecord]) -> Html:
    """The main metric of each map, a row for each run and one for the best baseline.

    Runs that were scored on different samples cannot be compared: none is marked as best, and there is no baseline.

    Args:
        records: Scores by the run's name.
    """
    scored_on = {(record.samples, record.materials) for record in records.values()}
    comparable = len(scored_on) == 1
    columns = _main_metrics(records.values())
    heads = ["", *(f"{map_name} {metric.label}" for map_name, metric in columns)]
    best: list[float | None] = []
    for map_name, metric in columns:
        best_value = None
        if comparable:
            best_value = best_value_of(metric, [_model_row(record, map_name) for record in records.values()])
        best.append(best_value)
    rows: list[Html] = []
    for name, record in records.items():
        cells: list[Html] = []
        for (map_name, metric), best_value in zip(columns, best, strict=True):
            cells.append(_cell(metric, _model_row(record, map_name).get(metric.name), best_value))
        rows.append(element("tr", element("th", name, scope="row", title=name), *cells, class_="of-model"))
    if not comparable:
        return table("The runs side by side, each scored on samples of its own", heads, rows)
    # Baselines depend on the samples alone.
    first = next(iter(records.values()))
    cells = []
    for map_name, metric in columns:
        baseline = _best_baseline(metric, first.scores.get(map_name, {}))
        text = "–"
        if baseline is not None:
            text = metric_number(metric, baseline[1])
        cells.append(element("td", text))
    rows.append(element("tr", element("th", "best baseline", scope="row"), *cells))
    return table("The runs side by side", heads, rows)


def score_tables(record: EvaluationRecord) -> Html:
    """A table for each map, with the model above the baselines; and one with the materials."""
    parts: list[Html] = []
    for map_name, rows in record.scores.items():
        parts.append(_score_table(map_name, rows))
    if record.bumpier:
        size = f"{record.bumpier_samples} of {record.samples} samples"
        parts.append(_score_table(f"normal, bumpier half ({size})", record.bumpier))
    if record.per_material:
        parts.append(_material_table(record))
    return join(*parts)


def _score_table(caption: str, by_model: Mapping[str, Row]) -> Html:
    names = set().union(*by_model.values())
    metrics = [metric for name, metric in METRICS.items() if name in names]
    best = [best_value_of(metric, by_model.values()) for metric in metrics]
    rows: list[Html] = []
    for name, values in by_model.items():
        cells: list[Html] = []
        for metric, best_value in zip(metrics, best, strict=True):
            cells.append(_cell(metric, values.get(metric.name), best_value))
        of_model = None
        if name == MODEL:
            of_model = "of-model"
        rows.append(element("tr", element("th", name.replace("_", " "), scope="row"), *cells, class_=of_model))
    return table(caption, ["", *(metric.label for metric in metrics)], rows)


def _material_table(record: EvaluationRecord) -> Html:
    columns = _main_metrics([record])
    rows: list[Html] = []
    for material, values in record.per_material.items():
        cells: list[Html] = []
        for map_name, metric in columns:
            cells.append(element("td", metric_number(metric, values.get(f"{map_name}/{metric.name}"))))
        rows.append(element("tr", element("th", material, scope="row", title=material), *cells))
    heads = ["", *(f"{map_name} {metric.label}" for map_name, metric in columns)]
    return table("The model, by material", heads, rows)


def _main_metrics(records: Iterable[EvaluationRecord]) -> list[tuple[str, Metric]]:
    """The main metric of each map that any of the records has."""
    scored = set().union(*(record.scores for record in records))
    columns: list[tuple[str, Metric]] = []
    for name in GROUP_METRICS:
        map_name, _, metric_name = name.partition("/")
        if map_name in scored:
            columns.append((map_name, METRICS[metric_name]))
    return columns


def _model_row(record: EvaluationRecord, map_name: str) -> Row:
    return record.scores.get(map_name, {}).get(MODEL, {})


def _best_baseline(metric: Metric, by_model: Mapping[str, Row]) -> tuple[str, float] | None:
    """Name and value of the baseline that is best in a metric; None without one."""
    values: dict[str, float] = {}
    for name, row in by_model.items():
        value = row.get(metric.name, math.nan)
        if name != MODEL and math.isfinite(value):
            values[name] = value
    if not values:
        return None
    if metric.higher_is_better:
        name = max(values, key=values.__getitem__)
    else:
        name = min(values, key=values.__getitem__)
    return name, values[name]


def _cell(metric: Metric, value: float | None, best: float | None) -> Html:
    is_best = value is not None and value == best
    return element("td", metric_number(metric, value), class_="best" if is_best else None)
