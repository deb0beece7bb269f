"""Averages over images, and the rows that they are computed from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """The metrics of one sample.

    Attributes:
        sample: The sample's id.
        material: Its material.
        values: Metrics by name.
    """

    sample: str
    material: str
    values: dict[str, float]


class RunningMeans:
    """Collects per-image metrics; every image counts the same, whatever its batch.

    Attributes:
        rows: One row per image, in the order in which they were added.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(
        self,
        ids: Sequence[str],
        materials: Sequence[str],
        values: Mapping[str, Float[Tensor, " B"]],
        valid: Float[Tensor, "B 1 H W"] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            ids: Sample of each image.
            materials: Material of each image.
            values: Metrics of each image, from `metrics.measure`.
            valid: The mask that was measured with. An image without a valid pixel has no metrics and is left out; a
                NaN of any other image stays and shows in the means. Default: every image counts.
        """
        # One transfer for all metrics: each transfer waits for the device.
        table = torch.stack(list(values.values())).float().cpu().T.tolist()
        is_counted = [True] * len(ids)
        if valid is not None:
            is_counted = (valid > 0.5).flatten(1).any(dim=1).tolist()
        for sample, material, row, counted in zip(ids, materials, table, is_counted, strict=True):
            if counted:
                self.rows.append(Row(sample, material, dict(zip(values, row, strict=True))))

    def means(self) -> dict[str, float]:
        """Return the mean of every metric over the images; empty when there are none."""
        return mean_of(self.rows)

    def by_material(self) -> dict[str, dict[str, float]]:
        """Return the mean of every metric over the images of each material; materials are sorted by name."""
        rows_by_material: dict[str, list[Row]] = {}
        for row in self.rows:
            rows_by_material.setdefault(row.material, []).append(row)
        means: dict[str, dict[str, float]] = {}
        for material in sorted(rows_by_material):
            means[material] = mean_of(rows_by_material[material])
        return means


def mean_of(rows: Sequence[Row]) -> dict[str, float]:
    """Return the mean of every metric over rows that have the same metrics; empty for no rows."""
    if not rows:
        return {}
    means: dict[str, float] = {}
    for name in rows[0].values:
        # fsum rounds once, at the end, so that the order of the images has no influence.
        means[name] = math.fsum(row.values[name] for row in rows) / len(rows)
    return means
