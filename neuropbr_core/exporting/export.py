"""Writes a trained generator through an exporter, and keeps the file only when it equals the model."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from neuropbr_core import __version__
from neuropbr_core.contracts import Exporter, ExportReport, ExportSpec, Maps
from neuropbr_core.errors import ExportError, NeuroPBRError
from neuropbr_core.exporting.inputs import random_inputs
from neuropbr_core.exporting.record import Record, record_path, write_record
from neuropbr_core.exporting.subject import Subject
from neuropbr_core.exporting.verify import PASS_MARKS, Verification, compare
from neuropbr_core.maps import MAP_NAMES, MAPS
from neuropbr_core.model import weights_digest
from neuropbr_core.recipe.check import plain
from neuropbr_core.registry import Chosen
from neuropbr_core.reporting import reporter

Program = Callable[[Mapping[str, Tensor]], Maps]
"""An exported file as a function from inputs to maps."""


class Views(NamedTuple):
    """Views to verify on.

    Attributes:
        inputs: The model's inputs by name.
        description: Where they are from, in words.
    """

    inputs: dict[str, Tensor]
    description: str


@dataclass(frozen=True)
class Exported:
    """A file that was written and verified.

    Attributes:
        path: The file or folder.
        verification: How it compares with the model.
        details: What the exporter says of it.
    """

    path: Path
    verification: Verification
    details: dict[str, str]

    def __str__(self) -> str:
        """One line for people."""
        found = self.verification
        return f"{self.path} ({found.precision}, verified on {found.views}: every map at least {found.worst:.0f} dB)"


def origin(run: str, recipe: str, checkpoint: Path) -> dict[str, str]:
    """Where a model is from: its run, recipe and checkpoint, and what its weights are.

    Raises:
        CheckpointError: The checkpoint has no weights.
    """
    return {"run": run, "recipe": recipe, "checkpoint": checkpoint.name, "weights": weights_digest(checkpoint)}


def create_exporter(part: Chosen) -> Exporter:
    """Create an exporter that can work on this machine.

    Raises:
        ExportError: It cannot; the message has its reason and the install line.
    """
    exporter: Exporter = part.create()
    available = exporter.requirements()
    if not available.ok:
        raise ExportError(f"export.{part.name}: exporter {part.use} cannot work here: {available.reason}")
    return exporter


def export_subject(
    subject: Subject, part: Chosen, exporter: Exporter, folder: Path, *, origin: dict[str, str], views: Views
) -> Exported:
    """Export, load the file back, compare it with the model, and only then move it to its final name.

    The name is the entry's, with what it changes about the model (`onnx-768px-no-sr.onnx`); the record beside it is
    `<name>.verify.json`.

    Args:
        subject: What is exported.
        part: The entry of `export`.
        exporter: What `create_exporter` made of it.
        folder: Where the file shall be.
        origin: What `origin` says of the model.
        views: What to compare on.

    Raises:
        ExportError: The exporter failed, or the file does not equal the model; nothing is left under the final name.
    """
    stem = "-".join([part.name, *(change.tag for change in subject.changes)])
    target = folder / f"{stem}{exporter.suffix}"
    scratch = folder / f".writing-{stem}"
    metadata = describe(subject, part, exporter, origin)
    spec = ExportSpec(random_inputs(subject.signature, seed=1), MAP_NAMES, metadata, subject.multiple)
    try:
        _remove(scratch)  # of an export that was killed
        scratch.mkdir(parents=True)
        report = exporter.export(subject.model, spec, scratch / target.name)
        verification = _verified(subject, exporter, report, views)
        record = write_record(report.path, Record(part.use, metadata, report.details), verification)
        _replace(report.path, record, target, scratch)
    except OSError as error:
        raise ExportError(f"{target}: could not be written ({error})") from error
    finally:
        _remove(scratch)
    return Exported(target, verification, report.details)


def export_each(jobs: Mapping[str, Callable[[], Exported]]) -> None:
    """Export several entries; one that fails does not hold up the others.

    Args:
        jobs: By the entry's name.

    Raises:
        ExportError: Some failed; one line for each.
    """
    failures = []
    for name, job in jobs.items():
        try:
            reporter().line(f"Exported {job()}")
        except NeuroPBRError as error:
            failures.append(f"export.{name}: {error}")
    if failures:
        raise ExportError("\n".join(failures))


def describe(subject: Subject, part: Chosen, exporter: Exporter, origin: dict[str, str]) -> dict[str, str]:
    """What is stored in the file, where its format can: origin, options, signature, and what each map is."""
    options = {**plain(part.entry), **plain(part.options)}
    maps = {}
    for name, spec in MAPS.items():
        maps[name] = f"{spec.description}; {spec.color_space}, {spec.value_range[0]:g} to {spec.value_range[1]:g}"
    return {
        "neuropbr": __version__,
        **origin,
        "exporter": part.use,
        "options": json.dumps(options),
        "precision": exporter.precision,
        "signature": subject.signature.text(),
        "changes": "; ".join(change.text for change in subject.changes) or "none",
        **maps,
    }


def verify_program(subject: Subject, exporter: Exporter, program: Program, views: Views) -> Verification:
    """Compare a file with the model that it was made from, by the pass mark that its exporter promises.

    Raises:
        ExportError: The exporter promises a precision that has no pass mark.
    """
    if exporter.precision not in PASS_MARKS:
        raise ExportError(f"the exporter promises precision {exporter.precision!r}; known: {', '.join(PASS_MARKS)}")
    inputs = views.inputs
    if exporter.view_bits is not None:
        steps = 2**exporter.view_bits - 1
        inputs = {**inputs, "views": (inputs["views"] * steps).round() / steps}
    found = compare(program(inputs), subject.predict(inputs))
    return Verification(exporter.precision, found, subject.describe(), views.description)


def _verified(subject: Subject, exporter: Exporter, report: ExportReport, views: Views) -> Verification:
    if report.precision != exporter.precision:
        raise ExportError(f"the exporter promises precision {exporter.precision}, but reports {report.precision}")
    verification = verify_program(subject, exporter, exporter.load(report.path), views)
    if not verification.passed:
        reasons = [*verification.reasons(), *_first_difference(subject, exporter, report.path, views)]
        raise ExportError(f"{'; '.join(reasons)}; the file was not kept")
    return verification


def _first_difference(subject: Subject, exporter: Exporter, path: Path, views: Views) -> list[str]:
    """Where a file that fails begins to differ, if its exporter can tell; `verify --trace` will find no file."""
    try:
        return exporter.trace(subject.model, views.inputs, path)[-1:]
    except ExportError:
        return []


def _replace(file: Path, record: Path, target: Path, scratch: Path) -> None:
    """Put a file and its record in the place of an earlier one, which goes to `scratch`.

    Whatever moment this is stopped at, what stands at `target` is whole and verified, and no record is of another file.
    """
    beside = record_path(target)
    beside.unlink(missing_ok=True)
    if target.exists():
        target.rename(scratch / "earlier")
    file.rename(target)
    record.rename(beside)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
