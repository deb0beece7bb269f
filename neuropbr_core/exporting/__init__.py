"""Export: the exporter writes and reads a file, the core decides whether it equals the model."""

from neuropbr_core.exporting.export import (
    Exported,
    Views,
    create_exporter,
    export_each,
    export_subject,
    origin,
    verify_program,
)
from neuropbr_core.exporting.inputs import PhotoSet, prepare_inputs, random_inputs
from neuropbr_core.exporting.opened import OpenedExport, open_export
from neuropbr_core.exporting.record import write_record
from neuropbr_core.exporting.signature import Signature
from neuropbr_core.exporting.subject import Subject, check_entries, make_subject
from neuropbr_core.exporting.verify import PASS_MARKS, Comparison, Verification, compare

__all__ = [
    "PASS_MARKS",
    "Comparison",
    "Exported",
    "OpenedExport",
    "PhotoSet",
    "Signature",
    "Subject",
    "Verification",
    "Views",
    "check_entries",
    "compare",
    "create_exporter",
    "export_each",
    "export_subject",
    "make_subject",
    "open_export",
    "origin",
    "prepare_inputs",
    "random_inputs",
    "verify_program",
    "write_record",
]
