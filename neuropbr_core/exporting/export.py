"""Writes a trained generator through an exporter, and keeps the file only when it equals the model."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuropbr_core import __version__
from neuropbr_core.contracts import Exporter, ExportReport, ExportSpec
from neuropbr_core.errors import ExportError, NeuroPBRError
from neuropbr_core.exporting.inputs import random_inputs
from neuropbr_core.exporting.record import PASS_MARKS, Program, Record, Verification, compare, record_path, write_record
from neuropbr_core.exporting.subject import Subject
from neuropbr_core.exporting.trust import content_digest, remember_export
from neuropbr_core.maps import MAP_NAMES, MAPS
from neuropbr_core.model.weights import weights_digest
from neuropbr_core.recipe.check import plain
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.registry.guarding import blaming_calls, broken, notes_of
from neuropbr_core.reporting import reporter


class Views(NamedTuple):
    """Views to verify on.

    Attributes:
        inputs: The model's inputs by name.
        description: Their origin, in words.
    """

    inputs: dict[str, Tensor]
    description: str


@dataclass(frozen=True)
class Exported:
    """A file that was written and verified.

    Attributes:
        path: The file or folder.
        verification: How it compares with the model.
        details: The exporter's own description of it.
    """

    path: Path
    verification: Verification
    details: dict[str, str]

    def __str__(self) -> str:
        """The path and the outcome of the comparison, on one line."""
        outcome = self.verification
        return (
            f"{self.path} ({outcome.precision}, verified on {outcome.views}: every map at least {outcome.worst:.0f} dB)"
        )


def origin(run: str, recipe: str, checkpoint: Path) -> dict[str, str]:
    """The origin of a model: its run, recipe and checkpoint, and the digest of its weights.

    Args:
        run: Name of the run; empty when unknown.
        recipe: Name of the recipe; empty when unknown.
        checkpoint: The checkpoint's folder.

    Raises:
        CheckpointError: The checkpoint has no weights.
    """
    return {"run": run, "recipe": recipe, "checkpoint": checkpoint.name, "weights": weights_digest(checkpoint)}


def create_exporter(part: Chosen) -> Exporter:
    """Create an exporter that can work on this machine.

    Raises:
        ExportError: It cannot work here; the message has its reason and the install line.
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

    The file is named after the entry and the changes of the model (`onnx-768px-no-sr.onnx`). The record beside it is
    `<name>.verify.json`.

    Args:
        subject: The model to export.
        part: The entry of `export`.
        exporter: The entry's exporter, as `create_exporter` returned it.
        folder: Folder for the file.
        origin: The model's origin, as `origin` returned it.
        views: Views for the comparison.

    Raises:
        ExportError: The exporter failed, or the file does not equal the model; nothing is left under the final name.
    """
    stem = "-".join([part.name, *(change.tag for change in subject.changes)])
    target = folder / f"{stem}{exporter.suffix}"
    # In the target's folder, so that it is on the same disk and the file can be renamed into its place at once.
    scratch = folder / f".writing-{stem}"
    metadata = describe(subject, part, exporter, origin)
    # An export has a record beside it; a file without one is somebody else's.
    if (target.exists() or target.is_symlink()) and not record_path(target).exists():
        raise ExportError(
            f"{target}: is there already and is no export (it has no {record_path(target).name}); move it away, or "
            f"choose another --output"
        )
    signature = subject.signature
    spec = ExportSpec(
        random_inputs(signature, seed=1),
        MAP_NAMES,
        metadata,
        subject.multiple,
        photo_size=signature.photo_size,
        aligned=signature.aligned,
        flash=signature.flash,
    )
    try:
        _remove(scratch)  # of an export that was killed
        scratch.mkdir(parents=True)
        before = _fingerprint(subject.model)
        with blaming_calls(part, "its export"):
            report = exporter.export(subject.model, spec, scratch / target.name)
        if fault := _report_fault(report, scratch):
            raise broken(part.declared, f"its export {fault}")
        # A model that was changed would be compared with itself, and would be what the next exporter gets.
        if _fingerprint(subject.model) != before:
            raise broken(part.declared, "its export changed the model that it was given")
        with blaming_calls(part, "reading its own file back"):
            verification = _verify(subject, exporter, report, views, str(part.declared))
        record = write_record(report.path, Record(part.use, metadata, report.details), verification)
        _replace(report.path, record, target, scratch)
        remember_export(content_digest(target), target.name)
    except NeuroPBRError as error:
        # An exporter names the path that it was given, in a folder that is about to be removed.
        error.args = tuple(_without_folder(argument, scratch) for argument in error.args)
        raise
    except OSError as error:
        reason = _without_folder(str(error), scratch)
        raise ExportError("; ".join([f"{target}: could not be written ({reason})", *notes_of(error)])) from error
    finally:
        _remove(scratch)
    return Exported(target, verification, report.details)


def export_each(jobs: Mapping[str, Callable[[], Exported]]) -> list[Exported]:
    """Export several entries; when one fails, the others are still exported.

    Args:
        jobs: The export of each entry, by the entry's name.

    Returns:
        The files.

    Raises:
        ExportError: Some entries failed; the message has one line for each.
    """
    # One format that cannot be written says nothing about the others, and each takes minutes.
    failures = []
    written = []
    bar = reporter().bar(len(jobs), "exporting")
    for name, job in jobs.items():
        bar.note(name)  # before the export, which may take minutes
        try:
            exported = job()
            reporter().line(f"Exported {exported}")
            written.append(exported)
        except NeuroPBRError as error:
            failures.append(f"export.{name}: {error}")
        bar.advance()
    bar.close()
    if failures:
        raise ExportError("\n".join(failures))
    return written


def describe(subject: Subject, part: Chosen, exporter: Exporter, origin: dict[str, str]) -> dict[str, str]:
    """The metadata of an export: origin, options, signature, and the range and colour space of each map."""
    options = {**plain(part.entry), **plain(part.options)}
    # Whoever opens the file elsewhere needs the range and the colour space of each map, and has no documentation.
    maps = {}
    for name, spec in MAPS.items():
        maps[name] = f"{spec.description}; {spec.color_space}, {spec.value_range[0]:g} to {spec.value_range[1]:g}"
    return {
        "neuropbr": __version__,
        **origin,
        "exporter": part.use,
        "exporter_version": part.declared.version,
        # As JSON, because metadata is text in every format; it is read back when the file is verified.
        "options": json.dumps(options),
        "precision": exporter.precision,
        "signature": subject.signature.text(),
        "changes": "; ".join(change.text for change in subject.changes) or "none",
        **maps,
    }


def verify_program(subject: Subject, exporter: Exporter, program: Program, views: Views) -> Verification:
    """Compare a file with the model that it was exported from.

    Args:
        subject: The model.
        exporter: The file's exporter, whose precision decides on the pass mark.
        program: The file.
        views: Views for the comparison.

    Raises:
        ExportError: The exporter promises a precision that has no pass mark.
    """
    if exporter.precision not in PASS_MARKS:
        raise ExportError(f"the exporter promises precision {exporter.precision!r}; known: {', '.join(PASS_MARKS)}")
    inputs = views.inputs
    if exporter.view_bits is not None:
        # A file that takes images sees rounded views. The model gets the same, so that only the file's own loss counts.
        steps = 2**exporter.view_bits - 1
        inputs = {**inputs, "views": (inputs["views"] * steps).round() / steps}
    comparisons = compare(program(inputs), subject.predict(inputs))
    return Verification(exporter.precision, comparisons, subject.describe(), views.description)


def _verify(subject: Subject, exporter: Exporter, report: ExportReport, views: Views, author: str) -> Verification:
    """Load a new file back and compare it; an error says why it failed and, where known, at which operator."""
    # The pass mark is that of the promise, so a file of another precision would be held to a mark that is not its own.
    if report.precision != exporter.precision:
        raise ExportError(
            f"{author} promises precision {exporter.precision}, but reports {report.precision}; the file was not kept"
        )
    verification = verify_program(subject, exporter, exporter.load(report.path), views)
    if not verification.passed:
        reasons = verification.reasons()
        # Traced now, because the file is about to be removed and `verify --trace` could not read it.
        with suppress(ExportError):  # of a format that cannot be traced
            reasons += exporter.trace(subject.model, views.inputs, report.path)[-1:]
        raise ExportError(f"{'; '.join(reasons)}; written by {author}; the file was not kept")
    return verification


def _report_fault(report: Any, scratch: Path) -> str:
    """What is wrong with the report of an export; empty when nothing is."""
    if not isinstance(report, ExportReport):
        return f"returned a {type(report).__name__} and no ExportReport"
    place: object = report.path  # whatever the annotation says
    if not isinstance(place, Path):
        return f"reported the path {place!r}, which is no pathlib.Path"
    # What is reported is moved to its final name, so it must be nobody else's.
    if not report.path.resolve().is_relative_to(scratch.resolve()):
        return f"reported {report.path}, which is not where it was asked to write"
    if not report.path.exists():
        return "wrote no file"
    details: Any = report.details
    if not isinstance(details, dict) or not all(isinstance(text, str) for text in (*details, *details.values())):
        return "reported details that are no dictionary of texts"
    return ""


def _without_folder(text: Any, scratch: Path) -> Any:
    """A message with the final path where it names one in `scratch`; what is no text stays as it is."""
    if not isinstance(text, str):
        return text
    return text.replace(f"{scratch.name}{os.sep}", "")


def _fingerprint(model: nn.Module) -> list[tuple[str, ...]]:
    """What an exporter could change in a model: its tensors with a digest of their bytes, and each module's mode."""
    rows: list[tuple[str, ...]] = [(name, f"training {module.training}") for name, module in model.named_modules()]
    # A state dict lacks the buffers that are not persistent, which the model computes with all the same.
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        # Bytes, because NaN differs from itself; flattened, because a single number cannot be seen as several bytes.
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        rows.append((name, f"{tensor.dtype} {tuple(tensor.shape)}", hashlib.sha256(content).hexdigest()))
    return rows


def _replace(file: Path, record: Path, target: Path, scratch: Path) -> None:
    """Move a file and its record to their final names; an earlier file moves to `scratch`.

    Wherever a crash interrupts this, the file at `target` is whole and verified, and no record describes another file.
    """
    final_record = record_path(target)
    # The record goes first and comes last: a file without a record is exported again, a wrong record is believed.
    final_record.unlink(missing_ok=True)
    if target.exists():
        target.rename(scratch / "earlier")  # some exports are folders, which a rename cannot replace
    file.rename(target)
    record.rename(final_record)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
