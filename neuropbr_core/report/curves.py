"""Curves of a run's metrics, from the rows of its journal, with few enough points for a page."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

POINTS = 300
"""Points that a curve keeps; charts are about as many pixels wide."""
EVENTS = ("train", "validation")
"""Events of the journal that have metrics at a step."""
_PLACE = ("event", "time", "epoch", "step")


class Curve(NamedTuple):
    """A metric over the steps of a run.

    Attributes:
        x: Steps, increasing.
        y: Values; None where a value was not finite.
    """

    x: tuple[int, ...]
    y: tuple[float | None, ...]


def curves_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Collect the curves of a journal.

    Args:
        rows: Rows of a journal in order (`observers.journal.journal`).

    Returns:
        Curves by name, such as `train loss/total`; each has at most `POINTS` points, the means of neighbours.
    """
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row.get("event") not in EVENTS or not _is_number(row.get("step")):
            continue
        for key, value in row.items():
            # The journal has null where a value was not finite.
            if key in _PLACE or not (value is None or _is_number(value)):
                continue
            points[f"{row['event']} {key}"].append((int(row["step"]), math.nan if value is None else float(value)))
    return {name: _thinned(values) for name, values in points.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _thinned(values: list[tuple[int, float]]) -> Curve:
    # Rounded up, so that there are never more points than that.
    share = -(-len(values) // POINTS)
    steps: list[int] = []
    means: list[float | None] = []
    for start in range(0, len(values), share):
        bucket = values[start : start + share]
        steps.append(bucket[-1][0])
        mean = sum(value for _, value in bucket) / len(bucket)
        # One bad value spoils its bucket: a gap in the curve is what a reader should see.
        if math.isfinite(mean):
            means.append(mean)
        else:
            means.append(None)
    return Curve(tuple(steps), tuple(means))
