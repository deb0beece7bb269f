"""Export: an exporter writes and reads a file, and the core decides whether the file equals the model.

subject.py   the trained generator, changed as an entry of `export` asks
inputs.py    what a model takes and gives; views of one material -> its inputs
export.py    exporter -> file -> loaded back -> compared -> moved to its final name
verify.py    maps of the file and of the model -> PSNR, pass or fail
record.py    the record beside a file, and opening a file again
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
from neuropbr_core.exporting.record import OpenedExport, open_export, write_record
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
