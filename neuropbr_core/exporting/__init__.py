"""Export: an exporter writes and reads a file, and the core decides whether the file equals the model.

inputs.py    what a model takes; views of one material -> its inputs
subject.py   the trained generator, changed as an entry of `export` asks
export.py    exporter -> file -> loaded back -> compared -> moved to its final name
record.py    maps of the file and of the model -> PSNR, pass or fail; the record beside a file; opening it again
"""

from neuropbr_core.exporting.export import (
    Exported,
    Views,
    create_exporter,
    export_each,
    export_subject,
    origin,
    verify_program,
)
from neuropbr_core.exporting.inputs import PhotoSet, Signature, prepare_inputs, random_inputs
from neuropbr_core.exporting.record import (
    PASS_MARKS,
    Comparison,
    OpenedExport,
    Verification,
    compare,
    open_export,
    write_record,
)
from neuropbr_core.exporting.subject import Subject, check_entries, make_subject

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
