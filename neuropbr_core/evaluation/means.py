"""Averages over images, and the rows that they come from."""

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
    """Collects per-image metrics; every image counts the same, whatever batch it came in.

    Attributes:
        rows: One row per image, in the order in which they came.
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
        """Add a batch; moves to the CPU once.

        Args:
            ids: Sample of each image.
            materials: Material of each image.
            values: What `metrics.measure` returned.
            valid: The mask that was measured with. An image in it without a valid pixel has no metrics and is left
                out; a NaN of any other image stays and shows in the means.
        """
        table = torch.stack(list(values.values())).float().cpu().T.tolist()
        counts = [True] * len(ids) if valid is None else (valid > 0.5).flatten(1).any(dim=1).tolist()
        for sample, material, row, counted in zip(ids, materials, table, counts, strict=True):
            if counted:
                self.rows.append(Row(sample, material, dict(zip(values, row, strict=True))))

    def means(self) -> dict[str, float]:
        """Mean of every metric over the images; empty when there are none."""
        return mean_of(self.rows)

    def by_material(self) -> dict[str, dict[str, float]]:
        """Mean of every metric over the images of each material, materials sorted by name."""
        materials = sorted({row.material for row in self.rows})
        return {material: mean_of([row for row in self.rows if row.material == material]) for material in materials}


def mean_of(rows: Sequence[Row]) -> dict[str, float]:
    """Mean of every metric over rows that have the same metrics; empty for no rows."""
    if not rows:
        return {}
    return {name: math.fsum(row.values[name] for row in rows) / len(rows) for name in rows[0].values}
