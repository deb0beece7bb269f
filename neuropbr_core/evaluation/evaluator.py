"""A model and its baselines over a held-back set."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.evaluation.baselines import BEST_CONSTANT, CONSTANT_MAPS, FLAT_NORMAL, NAIVE, Baselines
from neuropbr_core.evaluation.constants import BestConstant
from neuropbr_core.evaluation.means import RunningMeans, mean_of
from neuropbr_core.evaluation.metrics import measure
from neuropbr_core.evaluation.ranking import RankStatistic
from neuropbr_core.evaluation.rerender import RERENDER, measure_rerendering
from neuropbr_core.evaluation.summary import MODEL, EvaluationRecord, Scores
from neuropbr_core.maps import MAPS, METALLIC, NORMAL


class Evaluator:
    """Scores predictions beside the baselines, batch by batch, and sums up in a record.

    Args:
        baselines: The baselines, built from the training targets.

    Attributes:
        model: The model's metrics of every sample so far.
    """

    def __init__(self, baselines: Baselines) -> None:
        self.model = RunningMeans()
        self._baselines = baselines
        self._named: dict[str, RunningMeans] = {}
        self._constants = {name: BestConstant(name) for name in CONSTANT_MAPS}
        self._ranking = RankStatistic()

    def add(
        self,
        ids: Sequence[str],
        materials: Sequence[str],
        prediction: Maps,
        target: Maps,
        *,
        valid: Float[Tensor, "B 1 H W"],
        views: Float[Tensor, "B V 3 h w"],
        visible: Float[Tensor, "B V 1 h w"],
    ) -> dict[str, Tensor]:
        """Score a batch.

        Args:
            ids: Sample of each image.
            materials: Material of each image.
            prediction: The model's maps.
            target: The true maps, same names and shapes.
            valid: 1 where a pixel counts.
            views: Aligned views, sRGB-encoded in [0, 1].
            visible: What each view sees, in [0, 1].

        Returns:
            The model's metrics, each `(B,)`, as `metrics.measure` gives them, and with all four maps
            `rerender.measure_rerendering`'s.
        """
        known = {name: target[name] for name in prediction}
        values = measure(prediction, known, valid)
        if set(MAPS) <= set(known):
            values |= measure_rerendering(prediction, known, valid)
            naive = measure_rerendering(self._baselines.naive(views, visible, known), known, valid)
            self._named.setdefault(NAIVE, RunningMeans()).add(ids, materials, naive, valid)
        self.model.add(ids, materials, values, valid)
        for name, maps in self._baselines.predictions(views, visible, known).items():
            self._named.setdefault(name, RunningMeans()).add(ids, materials, measure(maps, known, valid), valid)
        for name in known.keys() & self._constants.keys():
            self._constants[name].add(known, valid)
        if METALLIC.name in known:
            self._ranking.add(prediction[METALLIC.name], known[METALLIC.name], valid)
        return values

    def record(self) -> EvaluationRecord:
        """Sum up all samples so far."""
        rows = self.model.rows
        return EvaluationRecord(
            samples=len(rows),
            materials=tuple(sorted({row.material for row in rows})),
            scores=self._scores(),
            training_mean=self._baselines.training_mean,
            bumpier_samples=len(self._bumpier()),
            bumpier=self._bumpier_scores(),
            per_material=self.model.by_material(),
            per_sample=tuple(rows),
        )

    def _scores(self) -> Scores:
        """Metrics by map (and of re-renderings), then by the model and each baseline, then by metric."""
        named = {MODEL: self.model.means()} | {name: means.means() for name, means in self._named.items()}
        scores: Scores = {}
        for map_name in (*MAPS, RERENDER):
            rows = {name: _of_map(map_name, means) for name, means in named.items()}
            if map_name in self._constants:
                rows[BEST_CONSTANT] = self._constants[map_name].scores()
            if rows[MODEL]:
                scores[map_name] = {name: row for name, row in rows.items() if row}
        if METALLIC.name in scores and (auc := self._ranking.auc()) is not None:
            scores[METALLIC.name][MODEL]["auc"] = auc
        return scores

    def _bumpier(self) -> list[int]:
        """Positions of the samples whose normals are bumpier than the median sample's."""
        flat = self._named.get(FLAT_NORMAL)
        return bumpier_half([row.values["normal/angle"] for row in flat.rows]) if flat else []

    def _bumpier_scores(self) -> dict[str, dict[str, float]]:
        chosen = self._bumpier()
        if not chosen:
            return {}
        named = {MODEL: self.model, FLAT_NORMAL: self._named[FLAT_NORMAL]}
        return {name: _of_map(NORMAL.name, mean_of([means.rows[i] for i in chosen])) for name, means in named.items()}


def bumpier_half(flat_angles: Sequence[float]) -> list[int]:
    """Positions of the samples whose angle between the true and the flat normal lies above the median.

    A nearly flat material is predicted well by flat normals; whether a model sees relief shows on the others. With an
    odd number the middle sample is left out. Captures of one material are alike: where none is above the median, those
    that are not below it are in.

    Args:
        flat_angles: The flat normal's mean angle of each sample, in degrees.
    """
    ordered = sorted(flat_angles)
    count = len(ordered)
    if not count:
        return []
    median = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    above = [i for i, angle in enumerate(flat_angles) if angle > median]
    return above or [i for i, angle in enumerate(flat_angles) if angle >= median]


def _of_map(map_name: str, means: dict[str, float]) -> dict[str, float]:
    prefix = f"{map_name}/"
    return {name.removeprefix(prefix): value for name, value in means.items() if name.startswith(prefix)}
