"""An exported file on the disk: its comparison with the model, the record beside it, and how both are opened again."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from neuropbr_core.contracts import Exporter, Maps
from neuropbr_core.errors import ExportError, PluginError, PluginNotFound
from neuropbr_core.exporting.inputs import Signature
from neuropbr_core.exporting.trust import content_digest, is_own_export
from neuropbr_core.files import write_json
from neuropbr_core.kinds import ExporterEntryOptions
from neuropbr_core.maps import MAPS
from neuropbr_core.reading import check_ordinary, read_json
from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.shown import shortened


class PassMark(NamedTuple):
    """Limits that every map of an export must keep.

    Attributes:
        psnr: Smallest PSNR in dB over the width of the map's range.
        difference: Largest difference of any pixel, in the map's own range.
    """

    psnr: float
    difference: float = math.inf


PASS_MARKS = {
    "fp32": PassMark(90.0, 1 / 255),
    "fp16": PassMark(55.0, 1 / 255),
    "palettised": PassMark(45.0),
    "image": PassMark(50.0, 2.5 / 255),
}
"""Pass marks by the precision that an exporter promises, for trained weights: untrained weights amplify rounding.

Maps that are 8-bit images (`image`) lose up to half a step by rounding, in addition to what half precision loses. Half
a step is 1/255 for a normal, whose range is 2 wide."""

# Identical maps have an infinite PSNR, which JSON cannot hold.
IDENTICAL_DB = 200.0


@dataclass(frozen=True)
class Comparison:
    """How far one exported map is from the model's.

    Attributes:
        max_difference: Largest absolute difference.
        mean_difference: Mean absolute difference.
        psnr: In dB over the width of the map's range; 200 when identical.
        note: The place of the largest difference, or why the maps cannot be compared.
    """

    max_difference: float
    mean_difference: float
    psnr: float
    note: str = ""


@dataclass(frozen=True)
class Verification:
    """The outcome of comparing a file with its model.

    Attributes:
        precision: The precision whose pass mark applies.
        comparisons: One comparison for each map.
        reference: The model that the file was compared with, in words.
        views: The views that both predicted from, in words.
    """

    precision: str
    comparisons: dict[str, Comparison]
    reference: str
    views: str

    @property
    def passed(self) -> bool:
        """Whether every map reaches the pass mark."""
        return not self.reasons()

    @property
    def worst(self) -> float:
        """The smallest PSNR of all maps, in dB."""
        return min(comparison.psnr for comparison in self.comparisons.values())

    def reasons(self) -> list[str]:
        """Why the file did not pass: one text for each map that misses the mark."""
        mark = PASS_MARKS[self.precision]
        reasons = []
        for name, comparison in self.comparisons.items():
            # Written so that NaN, which compares false with everything, misses the mark.
            if comparison.psnr >= mark.psnr and comparison.max_difference <= mark.difference:
                continue
            reason = comparison.note
            if math.isfinite(comparison.psnr):
                limit = ""
                if math.isfinite(mark.difference):
                    limit = f" (at most {mark.difference:.2g})"
                reason = (
                    f"differs from the model's: {comparison.psnr:.1f} dB (at least {mark.psnr:.0f} is needed for "
                    f"{self.precision}), largest difference {comparison.max_difference:.2g}{limit}, {comparison.note}"
                )
            reasons.append(f"the exported {name} {reason}")
        return reasons

    def plain(self) -> dict[str, Any]:
        """The outcome as data for JSON; numbers that are not finite become null."""
        maps = {}
        for name, comparison in self.comparisons.items():
            row = asdict(comparison)
            for key, value in row.items():
                if isinstance(value, float) and not math.isfinite(value):
                    row[key] = None  # JSON has no infinity
            maps[name] = row
        facts = {"reference": self.reference, "views": self.views, "reasons": self.reasons(), "maps": maps}
        return {"precision": self.precision, "passed": self.passed, **facts}


def compare(predicted: Maps, expected: Maps) -> dict[str, Comparison]:
    """Compare maps by name.

    A map that is missing, has another shape or is not finite counts as infinitely far away.

    Args:
        predicted: Maps of the exported file.
        expected: Maps of the model.
    """
    comparisons: dict[str, Comparison] = {}
    for name, truth in expected.items():
        values = predicted.get(name)
        if values is None:
            comparisons[name] = _incomparable("is missing")
            continue
        # Broadcasting would otherwise compare maps of different shapes without an error.
        if values.shape != truth.shape:
            comparisons[name] = _incomparable(f"has the shape {_shape(values)} instead of {_shape(truth)}")
            continue
        if not bool(values.isfinite().all()):
            broken = (~values.isfinite()).float().mean().item()
            comparisons[name] = _incomparable(
                f"is not finite in {broken:.2%} of its values: a number overflowed or was divided by zero"
            )
            continue
        # In double precision, so that the measure adds no rounding of its own to what it measures.
        difference = (values.double() - truth.double()).abs()
        low, high = MAPS[name].value_range  # PSNR is relative to the width of the range: 1, and 2 for normals
        mse = difference.square().mean().item()
        psnr = IDENTICAL_DB
        note = ""
        if mse > 0:
            psnr = min(10 * math.log10((high - low) ** 2 / mse), IDENTICAL_DB)
            # One broken pixel hardly lowers the PSNR of a large map, so its place helps to find the operator at fault.
            place = torch.unravel_index(difference.argmax(), difference.shape)
            x = int(place[-1])
            y = int(place[-2])
            note = f"most at x {x}, y {y}: {float(values[place]):.4g} instead of {float(truth[place]):.4g}"
        comparisons[name] = Comparison(difference.max().item(), difference.mean().item(), psnr, note)
    return comparisons


def _incomparable(note: str) -> Comparison:
    return Comparison(math.inf, math.inf, -math.inf, note)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape))


SUFFIX = ".verify.json"

Program = Callable[[Mapping[str, Tensor]], Maps]
"""An exported file as a function from inputs to maps."""


@dataclass(frozen=True)
class Record:
    """The contents of `<file>.verify.json`.

    Attributes:
        exporter: `distribution:name` of the exporter.
        metadata: The text that was handed to the exporter, and is in the file too where its format can hold it.
        details: The exporter's own description of the file.
        verification: The newest verification, as data.
        sha256: Digest of the file (`trust.content_digest`); empty in records that have none.
    """

    exporter: str
    metadata: dict[str, str]
    details: dict[str, str]
    verification: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""


class _Row(msgspec.Struct):
    """How a map compares; null stands for a number that is not finite."""

    max_difference: float | None
    mean_difference: float | None
    psnr: float | None
    note: str = ""


class _Document(msgspec.Struct):
    """The record as JSON."""

    exporter: str
    metadata: dict[str, str]
    details: dict[str, str]
    file: str = ""
    sha256: str = ""
    precision: str = ""
    passed: bool = False
    reference: str = ""
    views: str = ""
    reasons: tuple[str, ...] = ()
    maps: dict[str, _Row] = {}
    report: dict[str, Any] = {}


def record_path(file: Path) -> Path:
    """Path of the record of `file`."""
    # The whole name is kept, because a folder may hold two exports that differ in nothing but their suffix.
    return file.with_name(file.name + SUFFIX)


def write_record(
    file: Path, record: Record, verification: Verification, *, report: dict[str, object] | None = None
) -> Path:
    """Write the record of `file`.

    Args:
        file: The export.
        record: Its exporter, metadata and details; its `verification` is replaced.
        verification: The newest verification.
        report: The exporter's list of what is in the file.

    Returns:
        Path of the record.

    Raises:
        OSError: The record cannot be written.
    """
    # The verification comes first: it is what people open the record for.
    facts: dict[str, object] = {"exporter": record.exporter, "details": record.details, "metadata": record.metadata}
    if report:
        facts["report"] = report
    document = {"file": file.name, "sha256": content_digest(file), **verification.plain(), **facts}
    write_json(record_path(file), document)
    return record_path(file)


def read_record(file: Path) -> Record | None:
    """Read the record of `file`; None when there is none.

    Raises:
        ExportError: The record is damaged.
    """
    path = record_path(file)
    if not path.exists():
        return None
    document = read_json(path, _Document, ExportError, "remove it, or export the model again")
    verification = msgspec.to_builtins(document)
    own = {}
    for name in ("exporter", "metadata", "details", "sha256"):
        own[name] = verification.pop(name)
    return Record(**own, verification=verification)


@dataclass(frozen=True)
class OpenedExport:
    """An exported file that was opened again.

    Attributes:
        path: The file or folder.
        use: `distribution:name` of its exporter.
        exporter: The exporter, which reads the file.
        record: The file's own metadata where its format holds any, otherwise that of the record beside it.
        trusted: Whether this machine exported the file, or the user trusts it.
    """

    path: Path
    use: str
    exporter: Exporter
    record: Record
    trusted: bool

    @cached_property
    def program(self) -> Program:
        """The file as a function from inputs to maps.

        Raises:
            ExportError: The file is damaged, this machine cannot run it, or it is a stranger's and could do more than
                compute.
        """
        if self.trusted:
            return self.exporter.load(self.path)
        return self.exporter.load_untrusted(self.path)

    @cached_property
    def signature(self) -> Signature:
        """Inputs and outputs of the model.

        Raises:
            ExportError: Neither the file nor a record beside it has a signature.
        """
        try:
            return Signature.read(self._metadata("signature"))
        except msgspec.DecodeError as error:
            raise ExportError(f"{self.path}: its signature cannot be read ({error}); export the model again") from error

    @property
    def entry(self) -> ExporterEntryOptions:
        """What the export changed about the model."""
        stored = _read_options(self.path, self._metadata("options"))
        try:
            entry: ExporterEntryOptions = _convert_known(stored, ExporterEntryOptions)
        except msgspec.ValidationError as error:
            raise ExportError(f"{self.path}: its options cannot be read ({error}); export the model again") from error
        return entry

    def _metadata(self, key: str) -> str:
        """One entry of the metadata, which is required."""
        if key not in self.record.metadata:
            raise ExportError(
                f"{self.path}: does not say its {key}, nor does {record_path(self.path).name} beside it; put that "
                f"record beside the file, or export the model again"
            )
        return self.record.metadata[key]


def open_export(path: Path, exporter: str | None = None, *, trust: bool = False) -> OpenedExport:
    """Open a file that `neuropbr export` or `neuropbr run` wrote.

    The exporter is the given one, otherwise the one that the record beside the file names, otherwise the only installed
    one whose files have the same suffix.

    Args:
        path: The file or folder.
        exporter: Name of its exporter.
        trust: Whether the file may run whatever is in it. Files that this machine exported may do so in any case.

    Raises:
        ExportError: There is no such file, its bytes are not those that were exported, several exporters or none could
            have written it, or it is a stranger's and its exporter cannot read it safely.
        PluginError: The exporter is not installed, or is broken.
    """
    # `.` has no name, beside which a record could be.
    if not path.name or not path.exists():
        raise ExportError(f"{path}: there is no such file; give one that `neuropbr export` wrote")
    record = read_record(path)
    try:
        if not path.is_dir():
            check_ordinary(path)
        digest = content_digest(path)
    except OSError as error:
        raise ExportError(
            f"{path}: cannot be read ({error.strerror}); give a file that `neuropbr export` wrote"
        ) from error
    # Also when the user trusts the file: a changed byte in the weights gives other maps without any error.
    if record is not None and record.sha256 and record.sha256 != digest:
        raise ExportError(
            f"{path}: its bytes are not those that were exported ({record_path(path).name} has another SHA-256), so it "
            f"is damaged or was replaced; copy or export it again, or remove the record if the change was yours"
        )
    if exporter:
        use = exporter
    elif record is not None:
        use = record.exporter
    else:
        use = _exporter_of_suffix(path)
    if record is None:
        record = Record(use, {}, {})
    opened = _available(path, use, record)
    trusted = trust or is_own_export(digest)
    # An exporter without care for strangers' files may run them even to read their metadata; this call then refuses.
    if not trusted and type(opened).load_untrusted is Exporter.load_untrusted:
        opened.load_untrusted(path)
    # The record may be missing or belong to an earlier file of that name, so the file's own metadata wins.
    if metadata := opened.read_metadata(path):
        record = replace(record, exporter=use, metadata=metadata)
        opened = _available(path, use, record)  # the options in the metadata decide on the pass mark
    return OpenedExport(path, use, opened, record, trusted)


def _available(path: Path, use: str, record: Record) -> Exporter:
    """The exporter of a file; an error when it cannot read files on this machine."""
    exporter = _create(path, use, record)
    available = exporter.reading_requirements()
    if not available.ok:
        raise ExportError(f"{path}: exporter {use} cannot work here: {available.reason}")
    return exporter


def _create(path: Path, use: str, record: Record) -> Exporter:
    """Create an exporter with the options that the file was written with, as far as they are known and still valid."""
    stored = _read_options(path, record.metadata.get("options", "{}"))
    registry = default_registry()
    try:
        registry.find("exporter", use)
    except PluginNotFound as error:
        distribution, _, name = use.rpartition(":")
        author = shortened(distribution or "a distribution that is not installed")
        version = shortened(record.metadata.get("exporter_version", ""))
        writer = f"exporter {shortened(name)} of {author} {version}".strip()
        raise ExportError(f"{path}: {error}. The file was written by {writer}, which reads it; install it") from error
    try:
        options = _convert_known(stored, registry.options("exporter", use))
    except msgspec.ValidationError:
        options = None  # the component's defaults: an older file can still be read
    exporter: Exporter = registry.choose("exporter", use, options).create()
    return exporter


def _exporter_of_suffix(path: Path) -> str:
    """The only installed exporter whose files have the suffix of `path`."""
    candidates = []
    for entry in default_registry().entries("exporter"):
        try:
            if _create(path, entry.qualified, Record(entry.qualified, {}, {})).suffix == path.suffix:
                candidates.append(entry.qualified)
        except (PluginError, ExportError):
            continue  # a broken exporter must not keep others from reading their files
    if len(candidates) == 1:
        return candidates[0]
    subject = "no installed exporter writes"
    if candidates:
        subject = f"{' and '.join(candidates)} write"
    raise ExportError(
        f"{path}: {subject} files that end with {path.suffix or 'no suffix'}; name the file's exporter with --exporter"
    )


def _read_options(path: Path, text: str) -> dict[str, Any]:
    """Parse the options in a file's metadata."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ExportError(f"{path}: its options cannot be read ({error}); export the model again") from error


def _convert_known(stored: dict[str, Any], cls: type) -> Any:
    """Convert the stored options that are fields of `cls`.

    The file stores the options of the entry and of the exporter in one mapping; each class takes its own part.
    """
    known = {}
    for option in fields(cls):
        if option.name in stored:
            known[option.name] = stored[option.name]
    return msgspec.convert(known, cls)
