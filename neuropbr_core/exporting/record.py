"""The record beside an exported file: which exporter and options made it, from what, and how it compared."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuropbr_core.errors import ExportError
from neuropbr_core.exporting.verify import Verification
from neuropbr_core.files import write_json

SUFFIX = ".verify.json"


@dataclass(frozen=True)
class Record:
    """What stands in `<file>.verify.json`.

    Attributes:
        exporter: `distribution:name` of the exporter.
        metadata: The text that was handed to the exporter, and is in the file too where its format can hold it.
        details: What the exporter says of the file.
        verification: The newest verification, as data.
    """

    exporter: str
    metadata: dict[str, str]
    details: dict[str, str]
    verification: dict[str, Any] = field(default_factory=dict)


def record_path(file: Path) -> Path:
    """Where the record of `file` stands."""
    return file.with_name(file.name + SUFFIX)


def write_record(
    file: Path, record: Record, verification: Verification, *, report: dict[str, object] | None = None
) -> Path:
    """Write the record of `file`.

    Args:
        file: The export.
        record: What made it; its `verification` is replaced.
        verification: The newest.
        report: What the exporter says is in the file.

    Returns:
        Where the record stands.

    Raises:
        OSError: It cannot be written.
    """
    facts: dict[str, object] = {"exporter": record.exporter, "details": record.details, "metadata": record.metadata}
    if report:
        facts["report"] = report
    document = {"file": file.name, **verification.plain(), **facts}
    write_json(record_path(file), document)
    return record_path(file)


def read_record(file: Path) -> Record | None:
    """Read the record of `file`; None when there is none.

    Raises:
        ExportError: It is damaged.
    """
    path = record_path(file)
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        own = {}
        for name in ("exporter", "metadata", "details"):
            own[name] = document.pop(name)
        return Record(**own, verification=document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{path}: is no record of an export ({error}); remove it, or export the model again"
        ) from error
