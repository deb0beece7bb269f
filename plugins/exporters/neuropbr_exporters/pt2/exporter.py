"""Writes `torch.export` archives and runs them with PyTorch.

The program takes the spec's inputs by their names and returns a tuple of maps in the order of the spec's outputs. The
archive also holds `neuropbr.json`, the manifest.
"""

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Exporter, ExportReport, ExportSpec, Maps
from neuropbr_core.errors import ExportError
from neuropbr_exporters.exported import export_program, open_shapes, quiet
from neuropbr_exporters.manifest import NAME, Manifest
from neuropbr_exporters.program import Program, conversion, existing, first_line, mebibytes, written_aside
from neuropbr_exporters.pt2 import Options


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
        shapes = {name: list(shape) for name, shape in open_shapes(spec, **free).items()}
        text = Manifest(shapes, list(spec.outputs), spec.metadata).text()
        content = io.BytesIO()  # libtorch ends the process when it cannot write to a file
        with quiet():
            torch.export.save(program, content, extra_files={NAME: text})
        with written_aside(path) as aside:
            aside.write_bytes(content.getbuffer())
        return ExportReport(path=path, precision=self.precision, details={"MiB": mebibytes(path)})

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read an archive back, to run on the CPU.

        Raises:
            ExportError: The file is missing, no such archive, damaged, or was not written by this exporter.
        """
        manifest = _manifest(path)
        try:
            with quiet():
                module = torch.export.load(os.fspath(path)).module()
        except Exception as error:
            raise ExportError(_damaged(path, error)) from error
        return Program(path, manifest.inputs, manifest.outputs, lambda inputs: module(**inputs))

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The spec's metadata, from the manifest.

        Raises:
            ExportError: See `load`.
        """
        return _manifest(path).metadata


def _manifest(path: Path) -> Manifest:
    """The manifest among the extra files of an archive, which is a zip file."""
    try:
        with zipfile.ZipFile(existing(path, "pt2")) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{NAME}")]
            text = archive.read(names[0]) if names else b""
    except (zipfile.BadZipFile, OSError) as error:
        raise ExportError(_damaged(path, error)) from error
    if not text:
        raise ExportError(
            f"{path}: an archive that is damaged, or is not of this exporter: it has no {NAME} that names its inputs "
            "and outputs; export the model again"
        )
    return Manifest.read(text, path)


def _damaged(path: Path, error: BaseException) -> str:
    return f"{path}: not a torch.export archive, or damaged ({first_line(error)}); export the model again"
