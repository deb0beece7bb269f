"""Writes `torch.export` archives and runs them with PyTorch.

The program takes the spec's inputs by their names and returns a tuple of maps in the order of the spec's outputs. The
archive also holds `neuropbr.json`, the manifest.
"""

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Exporter, ExportReport, ExportSpec, Maps
from neuropbr_exporters.files import (
    MANIFEST_NAME,
    ExportedFile,
    Manifest,
    damaged,
    mebibytes,
    read_archived_manifest,
    written_aside,
)
from neuropbr_exporters.graphs import conversion, export_program, open_shapes, quiet
from neuropbr_exporters.pt2 import Options
from neuropbr_exporters.pt2.reading import FILE_TYPE, read_untrusted


class ArchiveExporter(Exporter):
    """Writes `.pt2` archives.

    Args:
        options: What stays open in the archive.
    """

    suffix = ".pt2"

    def __init__(self, options: Options) -> None:
        self.options = options

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Write `generator` to `path`.

        Raises:
            ExportError: The model cannot be exported, lacks one of the outputs, or the file cannot be written.
        """
        free = {"open_batch": self.options.batch == "open", "open_size": self.options.size == "open"}
        with conversion("pt2"):
            program = export_program(generator, spec, **free)
        text = Manifest(open_shapes(spec, **free), list(spec.outputs), spec.metadata).text()
        # To memory first: libtorch ends the process when it cannot write to a file.
        content = io.BytesIO()
        with quiet():
            torch.export.save(program, content, extra_files={MANIFEST_NAME: text})
        with written_aside(path) as aside:
            # Not its buffer: the error of a full disk would hold that, and Python 3.12 crashes when a BytesIO is freed
            # while something holds its buffer.
            aside.write_bytes(content.getvalue())
        return ExportReport(path=path, precision=self.precision, details={"MiB": mebibytes(path)})

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read an archive back, to run on the CPU.

        Raises:
            ExportError: The file is missing, no such archive, damaged, or was not written by this exporter.
        """
        return _load(path, os.fspath(path))

    def load_untrusted(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read an archive of a stranger, without unpickling and without evaluating a text of it.

        Raises:
            ExportError: As `load`; or the archive holds something that could run code.
        """
        return _load(path, read_untrusted(path))

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The spec's metadata, from the manifest.

        Raises:
            ExportError: See `load`.
        """
        return _manifest(path).metadata


def _load(path: Path, content: str | io.BytesIO) -> Callable[[Mapping[str, Tensor]], Maps]:
    """Load an archive from its path or from memory."""
    manifest = _manifest(path)
    try:
        with quiet():
            module = torch.export.load(content).module()
    except Exception as error:
        # A cut archive may have a manifest all the same: its weights are an archive inside it.
        raise damaged(path, FILE_TYPE, error) from error
    return ExportedFile(path, manifest, lambda inputs: module(**inputs))


def _manifest(path: Path) -> Manifest:
    return read_archived_manifest(
        path, "pt2", file_type=FILE_TYPE, foreign="an archive that is damaged, or is not of this exporter"
    )
