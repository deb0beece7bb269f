"""An exported file, opened again: its exporter, what it was made from, and its program."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from neuropbr_core.contracts import Exporter
from neuropbr_core.errors import ExportError, PluginError
from neuropbr_core.exporting.export import Program
from neuropbr_core.exporting.record import Record, read_record, record_path
from neuropbr_core.exporting.signature import Signature
from neuropbr_core.kinds import ExporterEntryOptions
from neuropbr_core.registry import default_registry


@dataclass(frozen=True)
class OpenedExport:
    """An exported file.

    Attributes:
        path: The file or folder.
        use: `distribution:name` of its exporter.
        exporter: Reads it.
        record: What is known of it: from the file itself, or else from the record beside it.
    """

    path: Path
    use: str
    exporter: Exporter
    record: Record

    @cached_property
    def program(self) -> Program:
        """The file as a function from inputs to maps.

        Raises:
            ExportError: It is damaged, or this machine cannot run it.
        """
        return self.exporter.load(self.path)

    @cached_property
    def signature(self) -> Signature:
        """What the model takes and gives.

        Raises:
            ExportError: Neither the file nor a record beside it says.
        """
        try:
            return Signature.read(self._said("signature"))
        except msgspec.DecodeError as error:
            raise ExportError(f"{self.path}: its signature cannot be read ({error}); export the model again") from error

    @property
    def entry(self) -> ExporterEntryOptions:
        """What the export changed about the model."""
        stored = _read_options(self.path, self._said("options"))
        try:
            made: ExporterEntryOptions = _fitting(stored, ExporterEntryOptions)
        except msgspec.ValidationError as error:
            raise ExportError(f"{self.path}: its options cannot be read ({error}); export the model again") from error
        return made

    def _said(self, key: str) -> str:
        if key not in self.record.metadata:
            raise ExportError(
                f"{self.path}: does not say its {key}, nor does {record_path(self.path).name} beside it; put that "
                f"record beside the file, or export the model again"
            )
        return self.record.metadata[key]


def open_export(path: Path, exporter: str | None = None) -> OpenedExport:
    """Open a file that `neuropbr export` or `neuropbr run` wrote.

    Its exporter is the one that is given, else the one that the record beside it names, else the only one installed
    whose files have its suffix.

    Args:
        path: The file or folder.
        exporter: Name of its exporter.

    Raises:
        ExportError: There is no such file, or it cannot be told which exporter made it.
        PluginError: The exporter cannot be had.
    """
    if not path.exists():
        raise ExportError(f"{path}: there is no such file; give one that `neuropbr export` wrote")
    beside = read_record(path)
    use = exporter or (beside.exporter if beside else _by_suffix(path))
    record = beside or Record(use, {}, {})
    made = _available(path, use, record)
    if inside := made.read_metadata(path):
        record = replace(record, exporter=use, metadata=inside)
        made = _available(path, use, record)  # its options decide on the pass mark
    return OpenedExport(path, use, made, record)


def _available(path: Path, use: str, record: Record) -> Exporter:
    made = _create(path, use, record)
    available = made.requirements()
    if not available.ok:
        raise ExportError(f"{path}: exporter {use} cannot work here: {available.reason}")
    return made


def _create(path: Path, use: str, record: Record) -> Exporter:
    """The exporter, with the options that made the file where they are known and still fit."""
    stored = _read_options(path, record.metadata.get("options", "{}"))
    registry = default_registry()
    try:
        options = _fitting(stored, registry.options("exporter", use))
    except msgspec.ValidationError:
        options = None  # the component's defaults
    exporter: Exporter = registry.choose("exporter", use, options).create()
    return exporter


def _read_options(path: Path, text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ExportError(f"{path}: its options cannot be read ({error}); export the model again") from error


def _fitting(stored: dict[str, Any], cls: type) -> Any:
    """Those of the stored options that are fields of `cls`."""
    names = set()
    for field in fields(cls):
        names.add(field.name)
    return msgspec.convert({name: value for name, value in stored.items() if name in names}, cls)


def _by_suffix(path: Path) -> str:
    found = []
    for entry in default_registry().entries("exporter"):
        try:
            if _create(path, entry.qualified, Record(entry.qualified, {}, {})).suffix == path.suffix:
                found.append(entry.qualified)
        except (PluginError, ExportError):
            continue
    if len(found) != 1:
        if found:
            among = f"{' and '.join(found)} write"
        else:
            among = "no installed exporter writes"
        raise ExportError(
            f"{path}: {among} files that end with {path.suffix or 'no suffix'}; name the file's exporter with "
            f"--exporter"
        )
    return found[0]
