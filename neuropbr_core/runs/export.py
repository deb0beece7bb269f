"""The stage that exports a run's model for deployment targets."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from neuropbr_core.contracts import Exporter
from neuropbr_core.data.opening import open_dataset
from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.exporting.export import Exported, Views, create_exporter, export_each, export_subject, origin
from neuropbr_core.exporting.inputs import PhotoSet, Signature, prepare_inputs
from neuropbr_core.exporting.record import SUFFIX, read_record
from neuropbr_core.exporting.subject import Subject, make_subject
from neuropbr_core.exporting.trust import content_digest
from neuropbr_core.model.weights import load_model, weights_digest
from neuropbr_core.recipe.check import plain
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.stage import Context, Stage
from neuropbr_core.training.checkpoints.store import BEST, find_checkpoint

ViewsFor = Callable[[Signature], Views]
"""Gives the views to verify on, as a model of that signature takes them."""


@dataclass(eq=False)
class Export(Stage):
    """Exports a checkpoint through one or more exporters, and verifies each file.

    Attributes:
        source: A run's folder, or a checkpoint's.
        run: The run, which the files name as their origin; None for a checkpoint that is in no run's folder.
        entries: Entries of `export` by name.
        folder: Where the files go.
        views: Reads the views to verify on, once; default: a sample of the run's dataset, one that was held back where
            there is one.
        checkpoint: Of a run: `best`, `latest` or a checkpoint's name.
        recipe: The run's recipe, whose dataset has the views; needed when `views` is not given.
        after: The stage that trains the model, when it is one of the same run.

    Raises:
        ExportError: An exporter cannot work on this machine.
        PluginError: An exporter is not installed or breaks its contract.
    """

    name: ClassVar[str] = "export"
    alone: ClassVar[bool] = True

    source: Path
    run: RunFolder | None
    entries: Mapping[str, Chosen]
    folder: Path
    views: Callable[[], ViewsFor] | None = None
    checkpoint: str = BEST
    recipe: Recipe | None = None
    after: Stage | None = None

    def __post_init__(self) -> None:
        """Create the exporters, so that one that cannot work is known before a run trains."""
        self._exporters: dict[str, Exporter] = {name: create_exporter(part) for name, part in self.entries.items()}

    def done(self) -> bool:
        """Whether all files are there, verified, and of this checkpoint and these options."""
        return not self._missing()

    def describe(self) -> list[str]:
        """Each entry with its exporter."""
        missing = self._missing()
        lines = []
        for name, entry in self.entries.items():
            state = "is exported" if name in missing else "is there"
            lines.append(f"{self.folder / name}: {entry.use}, {state}")
        return lines

    def execute(self, context: Context) -> None:
        """Export every entry whose file is missing.

        Raises:
            CheckpointError: There is no such checkpoint, or it is damaged.
            ExportError: Some entries failed; one line for each. Files of the others are kept.
        """
        self.export(context, self._missing())

    def export_all(self, context: Context) -> list[Exported]:
        """Export every entry, in place of files that are there; returns the files, and raises as `execute`."""
        return self.export(context, list(self.entries))

    def export(self, context: Context, names: list[str]) -> list[Exported]:
        """Export some entries; returns the files, and raises as `execute`."""
        if not names:
            return []
        checkpoint = find_checkpoint(self.source, self.checkpoint)
        generator, spec = load_model(checkpoint)
        run_name = ""
        recipe_name = ""
        if self.run is not None:
            run_name = self.run.name
            recipe_name = self.run.recipe_name()
        model_origin = origin(run_name, recipe_name, checkpoint)
        subjects: dict[str, Subject] = {}
        for name in names:
            subjects[name] = make_subject(generator, spec, self.entries[name].entry, f"export.{name}")
        # After the subjects: a size that the model cannot take is refused before any view is read or rendered.
        if self.views is None:
            views_for = self._sample_views(context)
        else:
            views_for = self.views()

        def export_one(name: str) -> Exported:
            subject = subjects[name]
            return export_subject(
                subject,
                self.entries[name],
                self._exporters[name],
                self.folder,
                origin=model_origin,
                views=views_for(subject.signature),
            )

        return export_each({name: partial(export_one, name) for name in names})

    def _missing(self) -> list[str]:
        """Names of the entries that have no verified file of the checkpoint."""
        # While training goes on, the best checkpoint may still change, so no file counts as made from it.
        if self.after is not None and not self.after.done():
            return list(self.entries)
        try:
            weights = weights_digest(find_checkpoint(self.source, self.checkpoint))
        except NeuroPBRError:  # it is not trained yet
            return list(self.entries)
        return [name for name, entry in self.entries.items() if not is_exported(self.folder, entry, weights)]

    def _sample_views(self, context: Context) -> ViewsFor:
        """Views of a sample of the run's dataset, as each exported model sees them."""
        dataset = context.dataset
        if dataset is None and self.recipe is not None:
            dataset = open_dataset(self.recipe)
        if dataset is None:
            raise ValueError("an export without views to verify on needs the run's recipe")
        # Held back where possible: the model is exact on what it trained on, and hides what the target changes.
        samples = dataset.val
        if not samples.samples:
            samples = dataset.all
        item = samples[0]
        photos = PhotoSet(list(item.views), item.homographies, item.positions)

        def views_for(signature: Signature) -> Views:
            inputs: dict[str, Tensor] = prepare_inputs(photos.repeated(signature.views), signature)
            return Views(inputs, f"sample {item.id}")

        return views_for


def is_exported(folder: Path, entry: Chosen, weights: str) -> bool:
    """Whether a folder has a verified export of an entry, made from these weights with these options.

    Args:
        folder: Folder of exports.
        entry: The entry of `export`.
        weights: SHA-256 of the model's weights.
    """
    options = {**plain(entry.entry), **plain(entry.options)}
    # The name of a file tells what the export changes about the model, so it is the record that is looked for.
    for path in folder.glob(f"{entry.name}*{SUFFIX}"):
        file = path.with_name(path.name.removesuffix(SUFFIX))
        try:
            record = read_record(file)
        except NeuroPBRError:  # a damaged record; the file is exported again
            continue
        if record is None or record.exporter != entry.use or not record.verification.get("passed"):
            continue
        if record.metadata.get("weights") != weights or not file.exists():
            continue
        try:
            stored = json.loads(record.metadata.get("options", "{}"))
        except ValueError:
            continue
        # Both through JSON, which turns tuples into lists. The digest last, because it reads the whole file.
        if stored == json.loads(json.dumps(options)) and record.sha256 in ("", content_digest(file)):
            return True
    return False
