"""The stage that scores a run's model on samples with known maps."""

import base64
import html
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, cast

import torch

from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.layout.paths import locate
from neuropbr_core.data.opening import open_dataset
from neuropbr_core.devices import choose_device
from neuropbr_core.errors import DataError, NeuroPBRError, RunError
from neuropbr_core.evaluation.comparison import compare_with
from neuropbr_core.evaluation.heldout import draw_samples, evaluate_samples, training_mean
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
from neuropbr_core.training.checkpoints.store import BEST, find_checkpoint
from neuropbr_core.training.provenance import recorded_split

Curriculum = Literal[0, 1, 2, "clean", "mixed", "dirty"]
CameraChoice = Literal["recorded", "registered"]
"""Cameras of `input/cameras.json`, or those that registration finds in the photos."""

HELD_BACK = "held-back"
"""Name of the evaluation of a run's own held-back samples."""


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The result of `evaluate`; printed, it is the tables of the command, and a notebook adds the worst samples.

    Attributes:
        record: Metrics of the model and of the baselines.
        folder: Where `evaluation.json`, `evaluation.txt` and `worst/` are.
        trained_on: Materials among them that the run trained on, so that their numbers measure memory.
    """

    record: EvaluationRecord
    folder: Path
    trained_on: tuple[str, ...]

    def __repr__(self) -> str:
        """The tables that `neuropbr evaluate` prints."""
        return describe(self.record, self.trained_on)

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
        refused: tuple[Refusal, ...] = ()
        if self.cameras == "registered":
            samples, refused = register_samples(samples)
        if not samples.samples:
            if self.output is None:  # a run that holds nothing back has no summary
                return
            if refused:
                raise DataError(f"no sample could be registered: {refused[0].sample}: {refused[0].reason}")
            raise DataError(f"{self.run.path}: the run held back no material; name samples to score with --data DIR")
        # The baseline of the training targets' mean: measured, or for other data as the run's summary has it.
        mean: dict[str, tuple[float, ...]] = {}
        if self.data is None and self.cameras != "registered":
            mean = training_mean(dataset.train, device)
        else:
            with suppress(DataError):  # a run without a summary; the baseline is left out
                mean = load_record(self.run.summary).training_mean
        record = evaluate_samples(
            generator, samples, mean, device, views=self._views_in_order(), digests=dataset.view_digests
        )
        alignment = samples.data.alignment
        record = replace(
            record,
            weights=weights_digest(checkpoint),
            cameras={"estimated": "registered"}.get(alignment, alignment),
            refused=refused,
        )
        if self.compare is not None:
            record = compare_with(record, self.compare)
        # The weights' digest is what tells later whether the summary is that of the best checkpoint.
        if self.output is None:
            save_record(record, self.run.summary)
            reporter().line(format_summary(record))
            return
        trained: list[str] = []
        with suppress(DataError):  # a run whose record is lost; the table then has no warning about memory
            trained = recorded_split(self.run.provenance)["train"]
        trained_on = tuple(name for name in record.materials if name in trained)
        shown = samples.with_first_views(record.views)
        pictures = draw_samples(generator, shown, worst_samples(record, self.worst), device)
        write_evaluation(self.output, record, trained_on, pictures)
        self.evaluation = Evaluation(record, self.output, trained_on)

    def _views_in_order(self) -> tuple[int, ...]:
        """The numbers of views, the one first that most tables are about; none when the run's own is scored alone."""
        own = self.recipe.data.views
        if own in self.views:
            return (own, *(number for number in self.views if number != own))
        return self.views

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
            if not (self.data / "input").is_dir():
                raise DataError(
                    f"{self.data}: is no dataset; it needs input/ with the views and output/ with the true maps"
                )
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
    return replace(recipe, data=replace(recipe.data, val_materials=held_back))


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


def evaluate(  # noqa: PLR0913
    run: str | Path,
    *,
    checkpoint: str = BEST,
    data: str | Path | None = None,
    curriculum: Curriculum | None = None,
    views: Sequence[int] = (),
    cameras: CameraChoice | None = None,
    compare: str | Path | None = None,
    output: str | Path | None = None,
    worst: int = 4,
    device: torch.device | None = None,
) -> Evaluation:
    """Score a run's model on whole frames and write the results into a folder.

    Args:
        run: The run's folder.
        checkpoint: `best`, `latest` or a checkpoint's name.
        data: As for `Evaluate`.
        curriculum: As for `Evaluate`.
        views: As for `Evaluate`.
        cameras: As for `Evaluate`.
        compare: As for `Evaluate`.
        output: Where to write; default `RUN/evaluations/held-back` or `RUN/evaluations/NAME-OF-DATA`. What an
            earlier evaluation left there is replaced when the new one is complete.
        worst: How many of the worst samples, by re-rendering error, are drawn.
        device: Where to compute; default: the CPU.

    Raises:
        NeuroPBRError: As `Evaluate.execute`.
        OSError: The results could not be written.
    """
    folder = RunFolder(Path(run))
    if output is None:
        name = HELD_BACK
        if data is not None:
            name = Path(data).resolve().name  # `.` and `..` have no name of their own
        output = folder.path / "evaluations" / name
    data_folder = None
    if data is not None:
        data_folder = Path(data)
    compared = None
    if compare is not None:
        compared = Path(compare)
    stage = Evaluate(
        folder,
        folder.recipe(),
        device=device or torch.device("cpu"),
        checkpoint=checkpoint,
        data=data_folder,
        curriculum=curriculum,
        views=tuple(views),
        cameras=cameras,
        compare=compared,
        output=Path(output),
        worst=worst,
    )
    stage.execute(Context())
    return cast("Evaluation", stage.evaluation)
