"""Scores a model on samples with known maps: the stage of a run, and what it has in common with other models."""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch

from neuropbr_core.contracts import Maps
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.prepare import Prepared
from neuropbr_core.data.layout.paths import locate
from neuropbr_core.data.opening import open_dataset
from neuropbr_core.devices import choose_device
from neuropbr_core.errors import DataError, NeuroPBRError, RunError
from neuropbr_core.evaluation.comparison import compare_with
from neuropbr_core.evaluation.heldout import Predict, draw_samples, evaluate_samples, maps_by, training_mean
from neuropbr_core.evaluation.summary import (
    EvaluationRecord,
    Refusal,
    check_place,
    describe,
    format_summary,
    load_record,
    save_record,
    worst_samples,
    write_evaluation,
)
from neuropbr_core.model.weights import load_model, weights_digest
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.reporting import reporter
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.stage import Context, Stage
from neuropbr_core.runs.trained_on import TrainedOn, trained_on
from neuropbr_core.training.checkpoints.store import BEST, find_checkpoint
from neuropbr_core.training.provenance import recorded_split

Curriculum = Literal[0, 1, 2, "clean", "mixed", "dirty"]
CameraChoice = Literal["recorded", "registered"]
"""Cameras of `input/cameras.json`, or those that registration finds in the photos."""

HELD_BACK = "held-back"
"""Name of the evaluation of a run's own held-back samples."""


@dataclass(frozen=True)
class Refine:
    """Predicts maps and fits them to the photos before they are scored.

    Attributes:
        steps: Steps of the fit, 1 or more.
        fit: Returns the fitted maps of a batch, from the batch and what predicts its maps.
        unfitted: Id and number of views of samples whose maps were not fitted, because their photos look as if they
            were taken without the flash. `fit` fills it.
    """

    steps: int
    fit: Callable[[Prepared, Predict], Maps]
    unfitted: set[tuple[str, int]]

    def after(self, predict: Predict) -> Predict:
        """Predict, then fit."""

        def refined(prepared: Prepared) -> Maps:
            return self.fit(prepared, predict)

        return refined

    def count_unfitted(self, views: int, total: int) -> int:
        """How many samples were not fitted when they had this many views; a warning tells of them.

        Args:
            views: Number of views.
            total: How many samples there are.
        """
        count = sum(1 for _, shown in self.unfitted if shown == views)
        if count:
            reporter().warning(
                f"{count} of {total} samples look as if they were photographed without the flash, which refinement "
                "needs; their maps are scored without a fit"
            )
        return count


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The result of `evaluate`; printed, it is the tables of the command, and a notebook adds the worst samples.

    Attributes:
        record: Metrics of the model and of the baselines.
        folder: Where `evaluation.json`, `evaluation.txt` and `worst/` are.
        trained_on: Materials among them that the model was trained on, so that their numbers measure memory.
        trained_on_is_complete: Whether these are all; False where nobody knows.
    """

    record: EvaluationRecord
    folder: Path
    trained_on: tuple[str, ...]
    trained_on_is_complete: bool = True

    def __repr__(self) -> str:
        """The tables that `neuropbr evaluate` prints."""
        return describe(self.record, self.trained_on, is_complete=self.trained_on_is_complete)

    def _repr_html_(self) -> str:
        """The tables, and the worst samples below."""
        parts = [f"<pre>{html.escape(repr(self))}</pre>"]
        for picture in sorted((self.folder / "worst").glob("*.png")):
            data = base64.b64encode(picture.read_bytes()).decode()
            parts.append(f'<img alt="{html.escape(picture.stem)}" src="data:image/png;base64,{data}">')
        return "".join(parts)


@dataclass(eq=False)
class Evaluate(Stage):
    """Scores a checkpoint of a run on whole frames.

    Attributes:
        run: The run.
        recipe: Its recipe.
        device: Where to compute; default: the recipe's.
        checkpoint: `best`, `latest` or a checkpoint's name.
        data: A dataset folder with `input/` and `output/`, all of whose samples are scored; default: the samples of
            the materials that the run held back.
        curriculum: `data.render_curriculum` of what is scored; default: the run's.
        views: Numbers of views to score with, from the first view on; default: as the run was trained. The run's own
            number is what most tables are about; without it, the first of these.
        cameras: Which cameras align the photos; default: as the run was trained.
        compare: `evaluation.json` of another evaluation of the same samples to compare with.
        output: Folder for record, table and pictures; default: only the record is written, as the run's summary.
        worst: How many of the worst samples, by re-rendering error, are drawn.
        refine: How the maps are fitted to the photos before they are scored; None scores them as predicted.
        after: The stage that trains the model, when it is one of the same run.
        evaluation: The result, once it is written into the folder `output`.
    """

    name: ClassVar[str] = "evaluate"
    alone: ClassVar[bool] = True

    run: RunFolder
    recipe: Recipe
    device: torch.device | None = None
    checkpoint: str = BEST
    data: Path | None = None
    curriculum: Curriculum | None = None
    views: tuple[int, ...] = ()
    cameras: CameraChoice | None = None
    compare: Path | None = None
    output: Path | None = None
    worst: int = 0
    refine: Refine | None = None
    after: Stage | None = None
    evaluation: Evaluation | None = None

    def done(self) -> bool:
        """Whether the run's summary is there and is that of its best checkpoint, or nothing was held back."""
        # A summary may be left from fewer epochs; it is looked at only when the training is done.
        if self.after is not None and not self.after.done():
            return False
        try:
            if not recorded_split(self.run.provenance)["val"]:
                return True
            return load_record(self.run.summary).weights == weights_digest(self.run.checkpoints.open(self.checkpoint))
        except NeuroPBRError:  # a file is missing or damaged
            return False

    def describe(self) -> list[str]:
        """Where the scores are or will be."""
        place = self.output or self.run.summary
        if self.done():
            return [f"{place}: is there, or nothing was held back"]
        return [f"{place}: the {self.checkpoint} checkpoint is scored on what was held back"]

    def execute(self, context: Context) -> None:
        """Score the samples and write the results.

        Raises:
            RunError: The folder is no run, or the results would replace something else than an evaluation.
            CheckpointError: There is no such checkpoint, or it is damaged.
            DataError: The dataset cannot be used, nothing was held back, or the evaluation to compare with is of other
                samples.
            OSError: The results could not be written.
        """
        if self.output is not None:
            check_place(self.output)
        # Read before the long part, so that a wrong path fails at once; its samples are compared at the end.
        if self.compare is not None:
            load_record(self.compare)
        device = self.device or choose_device(self.recipe.training.device)
        checkpoint = find_checkpoint(self.run.path, self.checkpoint)
        generator, _ = load_model(checkpoint)
        generator.to(device)
        # Within a run the data are open; alone, or after a resume, they are opened with the split of the record.
        dataset = context.dataset
        others = (self.data, self.curriculum, self.views or None, self.cameras)
        if dataset is None or any(other is not None for other in others):
            dataset = open_dataset(self._recipe_of_samples())
        samples = dataset.val
        if self.data is not None:
            samples = dataset.all
        if not samples.samples:
            if self.output is None:  # a run that holds nothing back has no summary
                return
            raise DataError(f"{self.run.path}: the run held back no material; name samples to score with --data DIR")
        # The baseline of the training targets' mean: measured, or for other data as the run's summary has it.
        mean: dict[str, tuple[float, ...]] = {}
        if self.data is None and self.cameras != "registered":
            mean = training_mean(dataset.train, device)
        else:
            with suppress(DataError):  # a run without a summary; the baseline is left out
                mean = load_record(self.run.summary).training_mean
        # The weights' digest is what tells later whether the summary is that of the best checkpoint.
        scored = Scored(
            maps_by(generator), samples, dataset.view_digests, weights_digest(checkpoint), mean, self.refine
        )
        if self.output is None:
            record, _ = scored.score(device)
            save_record(record, self.run.summary)
            reporter().line(format_summary(record))
            return
        # The number of views first that most tables are about; none when the run's own is scored alone.
        views = self.views
        own = self.recipe.data.views
        if own in views:
            views = (own, *(number for number in views if number != own))
        self.evaluation = scored.publish(
            self.output,
            device,
            views=views,
            register=self.cameras == "registered",
            compare=self.compare,
            worst=self.worst,
            trained=trained_on(checkpoint),
        )

    def _recipe_of_samples(self) -> Recipe:
        """The run's recipe, its data replaced by what is to be scored."""
        recipe = self.recipe
        data = recipe.data
        if self.views:
            data = replace(data, views=max(self.views))
        if self.cameras is not None:
            if not data.aligned:
                raise RunError(
                    f"{self.run.path}: the run was trained on photos without cameras (data.alignment: none), so it "
                    "makes no difference where cameras come from; leave out --cameras"
                )
            # Photos are registered when the samples are known, so that one that is refused does not stop all.
            alignment: Literal["none", "recorded"] = "recorded"
            if self.cameras == "registered":
                alignment = "none"
            data = replace(data, alignment=alignment)
        if self.data is None:
            data = recorded_samples(self.run, replace(recipe, data=data)).data
        else:
            require_dataset(self.data)
            data = replace(
                data,
                root=str(self.data),
                input_dir=None,
                output_dir=None,
                metadata=None,
                synthesize=None,
                groups={},
                # Settings of training alone name materials of the run's own data, which this dataset need not have.
                oversample={},
                repeats=1,
                crop_size=None,
                val_materials=(),
                val_ratio=0.0,
            )
            # Folders of the layout are read by `layout`, whatever component the run read its own samples through.
            recipe = replace(recipe, source=default_registry().choose("dataset", "layout", name="source"))
        # `use_dirty` is an older key for the same choice and would contradict this one.
        if self.curriculum is not None:
            data = replace(data, render_curriculum=self.curriculum, use_dirty=False)
        return replace(recipe, data=data)


@dataclass(frozen=True)
class Scored:
    """A model, and samples to score it on.

    Attributes:
        predict: Predicts the maps of prepared samples, on the device of the samples.
        samples: The samples.
        view_digests: Digests of the content of each sample's views, by the sample's id.
        weights: SHA-256 of the weights; empty when unknown.
        mean: Mean of each map over the training targets; empty when unknown.
        refine: How the maps are fitted to the photos; None for maps as predicted.
    """

    predict: Predict
    samples: MaterialDataset
    view_digests: Mapping[str, Sequence[str]]
    weights: str
    mean: dict[str, tuple[float, ...]]
    refine: Refine | None = None

    @property
    def maps(self) -> Predict:
        """Predicts the maps that are scored."""
        if self.refine is None:
            return self.predict
        return self.refine.after(self.predict)

    def score(
        self, device: torch.device, *, views: Sequence[int] = (), register: bool = False
    ) -> tuple[EvaluationRecord, MaterialDataset]:
        """Score the samples.

        Args:
            device: Where to compute.
            views: As for `evaluate_samples`.
            register: Whether to find the cameras in the photos.

        Returns:
            The record, and the samples that were scored.

        Raises:
            DataError: No sample could be registered, or an image cannot be used.
        """
        samples = self.samples
        refused: tuple[Refusal, ...] = ()
        if register:
            samples, refused = register_samples(samples)
        if refused and not samples.samples:
            raise DataError(f"no sample could be registered: {refused[0].sample}: {refused[0].reason}")
        record = evaluate_samples(self.maps, samples, self.mean, device, views=views, digests=self.view_digests)
        alignment = samples.data.alignment
        steps = 0
        unfitted = 0
        if self.refine is not None:
            steps = self.refine.steps
            unfitted = self.refine.count_unfitted(record.views, record.samples)
        record = replace(
            record,
            weights=self.weights,
            cameras={"estimated": "registered"}.get(alignment, alignment),
            refused=refused,
            refined=steps,
            unfitted=unfitted,
        )
        return record, samples

    def publish(
        self,
        output: Path,
        device: torch.device,
        *,
        views: Sequence[int],
        register: bool,
        compare: Path | None,
        worst: int,
        trained: TrainedOn,
    ) -> Evaluation:
        """Score the samples, and write record, tables and pictures of the worst samples into a folder.

        Args:
            output: The folder, as `check_place` allows it.
            device: Where to compute.
            views: As for `score`.
            register: As for `score`.
            compare: `evaluation.json` of another evaluation of the same samples to compare with.
            worst: How many of the worst samples, by re-rendering error, are drawn.
            trained: Materials that the model was trained on, as far as they are known.

        Raises:
            DataError: As `score`, or the other evaluation is of other samples.
            OSError: The results could not be written.
        """
        record, samples = self.score(device, views=views, register=register)
        if compare is not None:
            record = compare_with(record, compare)
        memory = tuple(name for name in record.materials if name in trained.materials)
        evaluation = Evaluation(record, output, memory, trained.is_complete)
        shown = samples.with_first_views(record.views)
        pictures = draw_samples(self.maps, shown, worst_samples(record, worst), device)
        write_evaluation(output, record, repr(evaluation), pictures)
        return evaluation


def require_dataset(folder: Path) -> None:
    """Refuse a folder that is no dataset of the folder layout.

    Raises:
        DataError: It has no `input/`.
    """
    if not (folder / "input").is_dir():
        raise DataError(f"{folder}: is no dataset; it needs input/ with the views and output/ with the true maps")


def recorded_samples(run: RunFolder, recipe: Recipe) -> Recipe:
    """A run's recipe with the split that the run recorded.

    Raises:
        DataError: The record is lost, and the split was that of the run's teacher, which the recipe does not tell.
    """
    # The split as it was: a student's is its teacher's, whatever the recipe says.
    try:
        held_back = tuple(recorded_split(run.provenance)["val"])
    except DataError as error:
        if recipe.teacher is not None:
            raise
        reporter().warning(f"{error}; the split is drawn again from the recipe")
        return recipe
    # No ratio, which would draw materials where none was held back; and no groups, which the split may have parted.
    return replace(recipe, data=replace(recipe.data, val_materials=held_back, val_ratio=0.0, groups={}))


def register_samples(samples: MaterialDataset) -> tuple[MaterialDataset, tuple[Refusal, ...]]:
    """Find the cameras of samples in their photos.

    Args:
        samples: Samples in files, opened without cameras.

    Returns:
        The samples that could be registered, with cameras; and the others, with the reason.

    Raises:
        DataError: The samples are not of the folder layout.
    """
    # Imported on use, because registration needs OpenCV.
    from neuropbr_core.data.registration.stored import ESTIMATED_NAME, try_cameras

    for sample in samples.samples:
        if not isinstance(sample.views[0], Path):
            raise DataError(f"{sample.id}: only photos in files can be registered; leave out --cameras registered")
    file = locate(samples.data).input / ESTIMATED_NAME
    estimated = try_cameras(samples.samples, file)
    refused: list[Refusal] = []
    for sample in samples.samples:
        if sample.id in estimated.refused:
            reason = estimated.refused[sample.id]
            refused.append(Refusal(sample.id, sample.material, sample.capture_kind, reason))
    data = replace(samples.data, alignment="estimated")
    aligned = MaterialDataset(estimated.aligned, data, samples.images, buffers=samples.buffers)
    return aligned, tuple(refused)
