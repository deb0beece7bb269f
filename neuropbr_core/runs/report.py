"""The stage that writes a run's report, and the reports of several runs and folders of maps.

A report shows what is there: whatever cannot be read becomes a note on the page, and no error.
"""

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.loader import predict_frames
from neuropbr_core.data.opening import open_dataset
from neuropbr_core.devices import choose_device
from neuropbr_core.errors import DataError, NeuroPBRError
from neuropbr_core.evaluation.pictures import Picture, boolean_mask, error_map, error_tile, tile, to_cpu
from neuropbr_core.evaluation.summary import RECORD, EvaluationRecord, load_record, worst_samples
from neuropbr_core.exporting.record import SUFFIX, read_record
from neuropbr_core.maps import MAPS
from neuropbr_core.model.weights import load_model, weights_digest
from neuropbr_core.observers.journal.journal import FILE_NAME as JOURNAL
from neuropbr_core.observers.journal.journal import read_journal
from neuropbr_core.reading import read_json, read_text
from neuropbr_core.report import (
    REPORT_NAME,
    Report,
    RunContent,
    Showcase,
    Version,
    check_report_place,
    read_showcase,
    report_key,
    write_page,
    write_report,
)
from neuropbr_core.report.contents import Facts
from neuropbr_core.report.curves import Curve, curves_of
from neuropbr_core.report.pictures import shrunk_maps
from neuropbr_core.reporting import duration, reporter, track
from neuropbr_core.runs.evaluate import recorded_samples
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.stage import Context, Stage
from neuropbr_core.training.checkpoints.store import BEST, find_checkpoint

SAMPLES = 2
"""Best and worst samples that a report shows by default, each."""
SAMPLE_SIDE = 512
"""Largest side of a sample's maps on a page, in pixels."""
TRUTH = "truth"
PREDICTION = "prediction"


@dataclass(eq=False)
class WriteReport(Stage):
    """Writes `RUN/report.html`. A report that cannot be written is a warning: the run is finished without it.

    Attributes:
        run: The run.
        device: Where the samples are predicted; default: the recipe's.
        after: The stages that the report is about.
    """

    name: ClassVar[str] = "report"
    alone: ClassVar[bool] = True

    run: RunFolder
    device: torch.device | None = None
    after: Sequence[Stage] = ()

    @property
    def path(self) -> Path:
        """The report's file."""
        return self.run.path / REPORT_NAME

    def done(self) -> bool:
        """Whether the report is there and is about what the run holds now."""
        if not all(stage.done() for stage in self.after):
            return False
        return report_key(self.path) == _key([self.run])

    def describe(self) -> list[str]:
        """Where the report is or will be."""
        state = "is written"
        if self.done():
            state = "is there"
        return [f"{self.path}: {state}"]

    def execute(self, context: Context) -> None:
        """Write the report; whatever stops it is reported as a warning."""
        try:
            check_report_place(self.path)
            held_back = None
            if context.dataset is not None:
                held_back = context.dataset.val
            report = report_of_runs([self.run], dataset=held_back, device=self.device)
            write_report(self.path, write_page(report, map_side=SAMPLE_SIDE))
        except Exception as error:  # a report is no reason to fail a run that is trained, scored and exported
            reporter().warning(
                f"{self.path}: the report was not written ({type(error).__name__}: {error}); `neuropbr report "
                f"{self.run.path}` tries again"
            )
            return
        reporter().line(f"Report: {self.path}")


def report_of_folders(folders: Sequence[Path], *, samples: int = SAMPLES, device: torch.device | None = None) -> Report:
    """Collect the content of a report about runs and folders of maps.

    Args:
        folders: Runs, which are compared, and folders of maps.
        samples: Best and worst samples of the runs to show, each.
        device: Where samples are predicted; default: the recipe's.

    Raises:
        DataError: A folder is neither a run nor has maps, or its maps cannot be used.
    """
    runs: list[RunFolder] = []
    showcases: list[Showcase] = []
    for folder in folders:
        run = RunFolder(folder)
        if run.is_run:
            runs.append(run)
            continue
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; name a run, or a folder of maps")
        if not any((folder / spec.file_name).exists() for spec in MAPS.values()):
            names = ", ".join(spec.file_name for spec in MAPS.values())
            raise DataError(f"{folder}: is neither a run (recipe.yaml) nor a folder of maps ({names})")
        showcases.append(read_showcase(folder))
    report = report_of_runs(runs, samples=samples, device=device)
    title = " · ".join(folder.resolve().name for folder in folders)
    return replace(report, title=title, showcases=(*showcases, *report.showcases))


def report_of_runs(
    runs: Sequence[RunFolder],
    *,
    samples: int = SAMPLES,
    dataset: MaterialDataset | None = None,
    device: torch.device | None = None,
) -> Report:
    """Collect the content of a report about runs.

    Args:
        runs: The runs; several are compared, on the samples of the first one.
        samples: Best and worst samples to show, each.
        dataset: The held-back samples of the first run, if they are open already.
        device: Where samples are predicted; default: the recipe's.
    """
    folders = [run.path.resolve().name for run in runs]
    names: list[str] = []
    for run, folder in zip(runs, folders, strict=True):
        # Runs in folders of the same name are told apart by their places.
        if folders.count(folder) > 1:
            names.append(str(run.path))
        else:
            names.append(folder)
    contents: list[RunContent] = []
    for run, name in zip(runs, names, strict=True):
        contents.append(_read_run(run, name))
    drawings: list[_Drawing] = []
    wanted: list[_Wanted] = []
    for index, run in enumerate(runs):
        record = contents[index].record
        # Without a record nothing says which samples are good, and with nothing held back there are none.
        if record is None or not record.samples or not samples:
            continue
        if not wanted:
            wanted = _best_and_worst(record, samples)
        try:
            drawings.append(_draw(run, names[index], wanted, dataset if index == 0 else None, device))
        except (NeuroPBRError, OSError, MemoryError) as error:
            note = f"Pictures of samples are missing: {error}"
            contents[index] = replace(contents[index], notes=(*contents[index].notes, note))
    showcases = _merge(wanted, drawings, compared=len(runs) > 1)
    return Report(" · ".join(names), tuple(showcases), tuple(contents), _key(runs))


def _key(runs: Sequence[RunFolder]) -> str:
    """A digest of the files that reports of these runs are about."""
    digest = hashlib.sha256()
    for run in runs:
        files = [run.recipe_file, run.summary, run.checkpoints.folder / BEST, *sorted(run.exports.glob(f"*{SUFFIX}"))]
        files += sorted((run.path / "evaluations").glob(f"*/{RECORD}"))
        # Names count too: a file that is missing changes the page.
        for path in files:
            digest.update(os.fsencode(path.relative_to(run.path)))
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _read_run(run: RunFolder, name: str) -> RunContent:
    """Read everything of a run but its samples; what cannot be read becomes a note."""
    notes: list[str] = []
    record: EvaluationRecord | None = None
    curves: dict[str, Curve] = {}
    facts: Facts = ()
    provenance: Facts = ()
    recipe = ""
    try:
        recipe = read_text(run.recipe_file)
    except (OSError, UnicodeDecodeError) as error:
        notes.append(f"The recipe is missing: {error}")
    try:
        rows = read_journal(run.path / JOURNAL)
        curves = curves_of(rows)
        facts = _journal_facts(rows)
    # Rows that lack what an observer always writes, or hold something else, are damage too.
    except (DataError, KeyError, TypeError, ValueError) as error:
        notes.append(f"Curves are missing: {type(error).__name__}: {error}")
    if run.summary.exists():
        try:
            record = load_record(run.summary)
        except DataError as error:
            notes.append(f"Scores are missing: {error}")
    else:
        notes.append("There are no scores: the run has not been evaluated, or held no material back.")
    try:
        provenance = _provenance_facts(run)
    except NeuroPBRError as error:
        notes.append(f"The provenance is missing: {error}")
    evaluations: dict[str, EvaluationRecord] = {}
    # Evaluations of other data, which `neuropbr evaluate` left.
    for path in sorted((run.path / "evaluations").glob(f"*/{RECORD}")):
        try:
            evaluations[path.parent.name] = load_record(path)
        except DataError as error:
            notes.append(f"An evaluation is missing: {error}")
    return RunContent(
        name=name,
        facts=facts,
        record=record,
        curves=curves,
        recipe=recipe,
        provenance=provenance,
        exports=_export_facts(run),
        evaluations=evaluations,
        notes=tuple(notes),
    )


def _journal_facts(rows: Sequence[Mapping[str, Any]]) -> Facts:
    """What the journal knows of a run: its facts, its length, and its end."""
    facts: list[tuple[str, str]] = []
    # The last start: a resumed run may have other epochs than it was started with.
    starts = [row for row in rows if row.get("event") == "run_started"]
    if starts:
        for name, value in dict(starts[-1].get("facts") or {}).items():
            facts.append((str(name), str(value)))
        facts.append(("epochs", str(starts[-1].get("epochs"))))
    # The sum over epochs, because a run may have waited for days between two of its parts.
    seconds = sum(float(row.get("seconds") or 0) for row in rows if row.get("event") == "epoch")
    if seconds:
        facts.append(("training", duration(seconds)))
    ends = [row for row in rows if row.get("event") in ("run_finished", "run_failed")]
    if ends:
        day = datetime.fromisoformat(str(ends[-1]["time"])).date().isoformat()
        verb = "finished"
        if ends[-1]["event"] == "run_failed":
            verb = "failed"
        facts.append((verb, day))
    return tuple(facts)


def _provenance_facts(run: RunFolder) -> Facts:
    """The record of a run in words, with the digest of its best weights."""
    record = read_json(run.provenance, dict[str, Any], DataError, "nothing else says what made the run")
    facts: list[tuple[str, str]] = []
    for name in ("neuropbr", "python", "torch", "platform", "seed", "data"):
        if name in record:
            facts.append((name, str(record[name])))
    command = record.get("command")
    if isinstance(command, list):
        facts.append(("command", shlex.join(map(str, command))))
    components: list[str] = []
    for part in record.get("components") or ():
        if isinstance(part, dict):
            words = []
            for key in ("kind", "name", "distribution", "version"):
                words.append(str(part.get(key, "")))
            components.append("{} {} ({} {})".format(*words))
    if components:
        facts.append(("components", ", ".join(components)))
    split = record.get("split")
    if isinstance(split, dict):
        for side, label in (("val", "held back"), ("train", "trained on")):
            materials = split.get(side)
            if isinstance(materials, list):
                facts.append((label, f"{len(materials)} materials: {', '.join(map(str, materials))}"))
    drawn = record.get("drawn")
    if isinstance(drawn, list) and drawn:
        facts.append(("drawn from", f"{len(drawn)} materials: {', '.join(map(str, drawn))}"))
    for name in ("teacher", "init_from"):
        if record.get(name):
            facts.append((name, str(record[name])))
    checkpoint = find_checkpoint(run.path, BEST)
    facts.append(("best checkpoint", checkpoint.name))
    facts.append(("weights", f"sha256 {weights_digest(checkpoint)}"))
    return tuple(facts)


def _export_facts(run: RunFolder) -> Facts:
    facts: list[tuple[str, str]] = []
    for path in sorted(run.exports.glob(f"*{SUFFIX}")):
        file = path.with_name(path.name.removesuffix(SUFFIX))
        try:
            record = read_record(file)
        except NeuroPBRError as error:
            facts.append((file.name, str(error)))
            continue
        if record is not None:
            verdict = "did not equal the model"
            if record.verification.get("passed"):
                verdict = "loaded back and equal to the model within its pass mark"
            facts.append((file.name, f"{record.exporter}: {verdict}"))
    return tuple(facts)


@dataclass(frozen=True)
class _Wanted:
    """A sample to show, and why."""

    id: str
    note: str


@dataclass(frozen=True)
class _Sample:
    """A sample as a run sees it."""

    material: str
    views: tuple[Tensor, ...]
    truth: Maps
    prediction: Maps
    errors: Mapping[str, Picture]

    def has_truth_of(self, other: "_Sample") -> bool:
        """Whether both have the same true maps."""
        if self.truth.keys() != other.truth.keys():
            return False
        return all(torch.equal(value, other.truth[name]) for name, value in self.truth.items())


@dataclass(frozen=True)
class _Drawing:
    """A run's predictions of samples, by the sample's id."""

    run: str
    samples: Mapping[str, _Sample]


def _best_and_worst(record: EvaluationRecord, count: int) -> list[_Wanted]:
    """The samples with the smallest and with the largest re-rendering errors, best first."""
    # By re-rendering, because that is what an artist sees; single maps can trade errors against each other.
    ranked = worst_samples(record, len(record.per_sample))[::-1]
    best = ranked[:count]
    wanted = [_Wanted(name, f"best {rank}") for rank, name in enumerate(best, start=1)]
    # With few samples the same one may be among the best and the worst; it is shown once.
    worst = [name for name in ranked[-count:] if name not in best]
    for rank, name in zip(range(len(worst), 0, -1), worst, strict=True):
        wanted.append(_Wanted(name, f"worst {rank}"))
    return wanted


def _draw(
    run: RunFolder,
    name: str,
    wanted: Sequence[_Wanted],
    dataset: MaterialDataset | None,
    device: torch.device | None,
) -> _Drawing:
    """Predict the wanted samples that a run's dataset has."""
    recipe = run.recipe()
    if dataset is None:
        # Without `synthesize`, so that captures that were removed since are missing instead of rendered again.
        recipe = replace(recipe, data=replace(recipe.data, synthesize=None))
        dataset = open_dataset(recorded_samples(run, recipe)).val
    device = device or choose_device(recipe.training.device)
    generator, _ = load_model(find_checkpoint(run.path, BEST))
    by_id = {sample.id: sample for sample in dataset.samples}
    chosen = dataset.frames_of(by_id[sample.id] for sample in wanted if sample.id in by_id)
    samples: dict[str, _Sample] = {}
    frames = predict_frames(generator.to(device), chosen, device)
    for prepared, prediction in track(frames, len(chosen), "pictures of the report"):
        truth = {map_name: to_cpu(value[:1]) for map_name, value in prepared.targets.items()}
        predicted = {map_name: to_cpu(value[:1]) for map_name, value in prediction.maps.items()}
        inside = boolean_mask(prepared.valid[0])
        errors: dict[str, Picture] = {}
        for map_name, values in predicted.items():
            # Errors of whole maps: those of shrunk ones would be smaller. Hatched where no view saw the material.
            error = error_map(map_name, values[0], truth[map_name][0])
            side = min(SAMPLE_SIDE, error.shape[-1])
            errors[map_name] = np.asarray(tile(error_tile(map_name, error.numpy()), inside, (side, side)))
        # Shrunk at once, because all samples are in memory together until the page is written.
        samples[prepared.ids[0]] = _Sample(
            prepared.materials[0],
            tuple(to_cpu(prepared.views[0])),
            shrunk_maps(truth, SAMPLE_SIDE),
            shrunk_maps(predicted, SAMPLE_SIDE),
            errors,
        )
    return _Drawing(name, samples)


def _merge(wanted: Sequence[_Wanted], drawings: Sequence[_Drawing], *, compared: bool) -> list[Showcase]:
    """Put the predictions of several runs of the same sample side by side."""
    showcases: list[Showcase] = []
    for sample in wanted:
        versions: list[Version] = []
        first: _Sample | None = None
        for drawing in drawings:
            drawn = drawing.samples.get(sample.id)
            if drawn is None:
                continue
            # Names such as sample_0000 are in every dataset; the true maps tell whether the sample is the same.
            if first is not None and not drawn.has_truth_of(first):
                continue
            first = first or drawn
            label = PREDICTION
            if compared:
                label = drawing.run
            versions.append(Version(label, drawn.prediction, drawn.errors))
        if first is None:
            continue
        versions.append(Version(TRUTH, first.truth))
        showcases.append(Showcase(first.material, tuple(versions), f"{sample.note}: {sample.id}", first.views))
    return showcases
