"""A model and its baselines on samples that it was not trained on: scored side by side, or drawn."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.contracts import Maps
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.loader import val_loader
from neuropbr_core.data.batches.prepare import Prepared, prepare
from neuropbr_core.evaluation.baselines import (
    BEST_CONSTANT,
    CONSTANT_MAPS,
    FLAT_NORMAL,
    NAIVE,
    Baselines,
    BestConstant,
    TargetMean,
)
from neuropbr_core.evaluation.groups import group_tables
from neuropbr_core.evaluation.material_classes import material_classes
from neuropbr_core.evaluation.metrics import (
    RERENDER,
    Perceptual,
    RankStatistic,
    Row,
    RunningMeans,
    mean_of,
    measure,
    measure_rerendering,
    measure_seams,
)
from neuropbr_core.evaluation.pictures import comparison_grid
from neuropbr_core.evaluation.summary import MODEL, EvaluationRecord, Scores
from neuropbr_core.maps import MAPS, METALLIC, NORMAL, ROUGHNESS
from neuropbr_core.reporting import track

Predict = Callable[[Prepared], Maps]
"""Predicts the maps of a batch of whole frames: float32, in the ranges of `neuropbr_core.maps`, on the batch's
device."""


def maps_by(generator: nn.Module) -> Predict:
    """Predict with a generator, which is on the device of the batches and in eval mode."""

    def predict(prepared: Prepared) -> Maps:
        maps: Maps = generator(*prepared.inputs).maps
        return {name: value.float() for name, value in maps.items()}

    return predict


@dataclass(frozen=True)
class CaptureFacts:
    """What is known of a sample beside its images.

    Attributes:
        kind: How the photos were taken, such as `flash`.
        condition: How carefully, such as `clean`.
        photos: Digest of the photos' content; empty when unknown.
    """

    kind: str = ""
    condition: str = ""
    photos: str = ""


class Evaluator:
    """Scores predictions beside the baselines, batch by batch, and returns a record of all of them.

    Args:
        baselines: The baselines, built from the training targets.
        facts: Facts of samples by id; samples that are missing have none.
        perceptual: A perceptual distance of re-renderings; None leaves it out.

    Attributes:
        model: The model's metrics of every sample so far.
        rank_counts: Histograms of metallic predictions by sample and number of views.
    """

    def __init__(
        self,
        baselines: Baselines,
        facts: Mapping[str, CaptureFacts] = MappingProxyType({}),
        perceptual: Perceptual | None = None,
    ) -> None:
        self.model = RunningMeans()
        self.rank_counts: dict[tuple[str, int], npt.NDArray[np.uint32]] = {}
        self._facts = facts
        self._perceptual = perceptual
        self._classes: dict[str, tuple[str, ...]] = {}
        self._views = 0
        self._baselines = baselines
        self._baseline_means: dict[str, RunningMeans] = {}
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
            prediction: The model's maps, in the ranges of `neuropbr_core.maps`.
            target: The true maps, same names and shapes.
            valid: 1 where a pixel counts.
            views: Aligned views, sRGB-encoded in [0, 1].
            visible: Where each view sees the texture, in [0, 1].

        Returns:
            The model's metrics, each `(B,)`: those of `metrics.measure` and `metrics.measure_seams`, and with all four
            maps also those of `metrics.measure_rerendering`.
        """
        self._views = views.shape[1]
        self._classes.update(zip(ids, material_classes(target), strict=True))
        # Baselines predict the maps that the model predicts and no others.
        target = {name: target[name] for name in prediction}
        values = measure(prediction, target, valid)
        # Beside the errors, because a map may be right everywhere and still show its border when it repeats.
        values |= measure_seams(prediction)
        predictions = self._baselines.predictions(views, visible, target)
        # A rendering needs all four maps.
        if set(MAPS) <= set(target):
            values |= measure_rerendering(prediction, target, valid, self._perceptual)
            naive = self._baselines.naive(predictions, target[ROUGHNESS.name])
            naive_values = measure_rerendering(naive, target, valid, self._perceptual)
            self._baseline_means.setdefault(NAIVE, RunningMeans()).add(ids, materials, naive_values, valid)
        self.model.add(ids, materials, values, valid)
        for name, maps in predictions.items():
            means = self._baseline_means.setdefault(name, RunningMeans())
            means.add(ids, materials, measure(maps, target, valid), valid)
        for name, constant in self._constants.items():
            if name in target:
                constant.add(target, valid)
        if METALLIC.name in target:
            for index, name in enumerate(ids):
                own = slice(index, index + 1)
                negative, positive = RankStatistic.image_counts(
                    prediction[METALLIC.name][own], target[METALLIC.name][own], valid[own]
                )
                self._ranking.add_counts(negative, positive)
                # Small integers: there is one histogram for every sample.
                self.rank_counts[name, self._views] = torch.stack([negative, positive]).numpy().astype(np.uint32)
        return values

    def rows(self) -> list[Row]:
        """Return every sample so far with the metrics of model and baselines, and what is known of it."""
        constants = self._constant_rows()
        rows: list[Row] = []
        # The rows of a baseline are in the order of the model's, because both leave out the same images.
        for position, row in enumerate(self.model.rows):
            baselines: dict[str, dict[str, float]] = {}
            for name, means in self._baseline_means.items():
                baselines[name] = means.rows[position].values
            if constants:
                baselines[BEST_CONSTANT] = constants[position]
            facts = self._facts.get(row.sample, CaptureFacts())
            rows.append(
                Row(
                    row.sample,
                    row.material,
                    row.values,
                    baselines,
                    capture_kind=facts.kind,
                    condition=facts.condition,
                    views=self._views,
                    classes=self._classes[row.sample],
                    photos=facts.photos,
                )
            )
        return rows

    def _constant_rows(self) -> list[dict[str, float]]:
        """Metrics of the best constants by sample; the constants are the best of all samples."""
        rows: list[dict[str, float]] = [{} for _ in self.model.rows]
        for name, constant in self._constants.items():
            for metric, values in constant.image_scores().items():
                for row, value in zip(rows, values.tolist(), strict=True):
                    row[f"{name}/{metric}"] = value
        return rows

    def record(self) -> EvaluationRecord:
        """Return the metrics of all samples so far."""
        rows = self.rows()
        bumpier_samples: list[int] = []
        bumpier: dict[str, dict[str, float]] = {}
        flat = self._baseline_means.get(FLAT_NORMAL)
        # Without normals there is no flat normal, and without samples no half of them.
        if flat is not None:
            bumpier_samples = bumpier_half([row.values[f"{NORMAL.name}/angle"] for row in flat.rows])
        if flat is not None and bumpier_samples:
            for name, means in ((MODEL, self.model), (FLAT_NORMAL, flat)):
                chosen: list[Row] = []
                for position in bumpier_samples:
                    chosen.append(means.rows[position])
                bumpier[name] = _of_map(NORMAL.name, mean_of(chosen))
        per_material = self.model.by_material()
        return EvaluationRecord(
            samples=len(rows),
            materials=tuple(per_material),
            scores=self._scores(),
            training_mean=self._baselines.training_mean,
            bumpier_samples=len(bumpier_samples),
            bumpier=bumpier,
            per_material=per_material,
            per_sample=tuple(rows),
            views=self._views,
            groups=group_tables(rows, self._views, self.rank_counts),
        )

    def _scores(self) -> Scores:
        """Return metrics by map (and of re-renderings), then by the model and each baseline, then by metric."""
        # The model's row comes first in every table.
        means_by_name = {MODEL: self.model.means()}
        for name, means in self._baseline_means.items():
            means_by_name[name] = means.means()
        scores: Scores = {}
        for map_name in (*MAPS, RERENDER):
            rows: dict[str, dict[str, float]] = {}
            for name, metrics in means_by_name.items():
                row = _of_map(map_name, metrics)
                # A baseline that does not predict the map has no row.
                if row:
                    rows[name] = row
            # A map that the model does not predict has no table.
            if MODEL not in rows:
                continue
            if map_name in self._constants:
                rows[BEST_CONSTANT] = self._constants[map_name].scores()
            scores[map_name] = rows
        auc = self._ranking.auc()
        # The AUC belongs to the whole set and is no mean over images; a set without both classes has none.
        if METALLIC.name in scores and auc is not None:
            scores[METALLIC.name][MODEL]["auc"] = auc
        return scores


def bumpier_half(flat_angles: Sequence[float]) -> list[int]:
    """Find the samples whose angle between the true and the flat normal is above the median.

    A nearly flat material is predicted well by flat normals; the other materials show whether a model predicts relief.

    Args:
        flat_angles: The flat normal's mean angle of each sample, in degrees.

    Returns:
        Positions of the samples, growing. With an odd number the middle sample is left out. Captures of one material
        have equal angles: when none is above the median, those that are not below it are returned.
    """
    ordered = sorted(flat_angles)
    count = len(ordered)
    if not count:
        return []
    # The same element twice when the number is odd.
    median = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    above: list[int] = []
    not_below: list[int] = []
    for position, angle in enumerate(flat_angles):
        if angle > median:
            above.append(position)
        if angle >= median:
            not_below.append(position)
    return above or not_below


def _of_map(map_name: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of one map by their names alone, such as `mae` for `albedo/mae`."""
    chosen: dict[str, float] = {}
    for key, value in metrics.items():
        owner, _, metric = key.partition("/")
        if owner == map_name:
            chosen[metric] = value
    return chosen


@torch.no_grad()
def evaluate_samples(
    predict: Predict,
    samples: MaterialDataset,
    mean: dict[str, tuple[float, ...]],
    device: torch.device,
    *,
    views: Sequence[int] = (),
    digests: Mapping[str, Sequence[str]] = MappingProxyType({}),
    perceptual: Perceptual | None = None,
) -> EvaluationRecord:
    """Score whole frames of any samples.

    Args:
        predict: Predicts the maps of prepared samples, such as `maps_by(generator)`.
        samples: The samples to score.
        mean: Mean of each map over the training targets (`training_mean`); empty when it is not known.
        device: Where to compute.
        views: Numbers of views; each is scored with the first views of every sample. The record is about the first
            number, and has a table by number. Default: all views of the samples.
        digests: Digests of the content of each sample's views, by the sample's id (`OpenedDataset.view_digests`).
        perceptual: A perceptual distance of re-renderings; None leaves it out.

    Returns:
        The model's and the baselines' metrics.
    """
    evaluators: list[Evaluator] = []
    for count in views or (samples.data.views,):
        shown = samples.with_first_views(count)
        facts: dict[str, CaptureFacts] = {}
        for sample in shown.samples:
            photos = "".join(digests.get(sample.id, ())[:count])
            digest = ""
            if photos:
                # Sixteen hexadecimal digits are enough to tell photos apart.
                digest = hashlib.blake2b(photos.encode(), digest_size=8).hexdigest()
            facts[sample.id] = CaptureFacts(sample.capture_kind, sample.condition, digest)
        evaluator = Evaluator(Baselines(mean, aligned=samples.data.aligned), facts, perceptual)
        for prepared in track(prepared_frames(shown, device), len(shown), "evaluating"):
            evaluator.add(
                prepared.ids,
                prepared.materials,
                predict(prepared),
                prepared.targets,
                valid=prepared.valid,
                views=prepared.views,
                visible=prepared.visible,
            )
        evaluators.append(evaluator)
    first = evaluators[0]
    record = first.record()
    rows = list(record.per_sample)
    counts = dict(first.rank_counts)
    for evaluator in evaluators[1:]:
        rows += evaluator.rows()
        counts |= evaluator.rank_counts
    # Tables are made again only when there is more to compare than the first evaluator has.
    groups = record.groups
    if len(evaluators) > 1:
        groups = group_tables(rows, record.views, counts)
    return replace(record, per_sample=tuple(rows), groups=groups)


def training_mean(train: MaterialDataset, device: torch.device, batch_size: int = 1) -> dict[str, tuple[float, ...]]:
    """Mean of each map over whole frames of the training samples, a value per channel."""
    mean = TargetMean()
    # Whole frames, as in the evaluation: the mean of crops would depend on the epoch.
    whole = train.whole()
    frames = prepared_frames(whole, device, batch_size)
    for prepared in track(frames, math.ceil(len(whole) / batch_size), "averaging the training maps"):
        mean.add(prepared.targets, prepared.valid)
    return mean.values()


def prepared_frames(samples: MaterialDataset, device: torch.device, batch_size: int = 1) -> Iterator[Prepared]:
    """Prepare every sample once, whole and in order.

    Raises:
        DataError: An image cannot be used.
    """
    for batch in val_loader(samples, batch_size, num_workers=samples.data.num_workers):
        prepared = prepare(batch, samples.data, device)
        del batch  # the loader may have its memory back
        yield prepared


@torch.no_grad()
def draw_samples(
    predict: Predict, samples: MaterialDataset, names: Sequence[str], device: torch.device
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Predict samples again and draw each as a comparison grid.

    Args:
        predict: As for `evaluate_samples`.
        samples: Where the samples are.
        names: Ids of the samples to draw, in the order of the result.
        device: Where to compute.

    Yields:
        Id, material and picture.
    """
    # One sample a batch, because grids are drawn one by one and the caller may stop early.
    by_name = {sample.id: sample for sample in samples.samples}
    # In the order of `names`, in which the samples are predicted and drawn.
    chosen = samples.frames_of(by_name[name] for name in names)
    for prepared in track(prepared_frames(chosen, device), len(chosen), "drawing the worst"):
        name = prepared.ids[0]
        material = prepared.materials[0]
        yield name, material, draw_sample(prepared, predict(prepared), 0, f"{name} · {material}")


def draw_sample(prepared: Prepared, maps: Maps, index: int, title: str) -> np.ndarray:
    """Draw one sample of a batch.

    Args:
        prepared: The batch that was predicted.
        maps: The predicted maps of the whole batch.
        index: Position of the sample in the batch.
        title: A line above the views.

    Returns:
        The comparison grid.
    """
    return comparison_grid(
        prepared.views[index],
        _of_sample(maps, index),
        _of_sample(prepared.targets, index),
        prepared.valid[index],
        visible=prepared.visible[index],
        title=title,
    )


def _of_sample(maps: Maps, index: int) -> Maps:
    return {name: value[index] for name, value in maps.items()}
