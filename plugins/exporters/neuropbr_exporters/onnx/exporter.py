"""Writes ONNX files through `torch.export`, and runs them with ONNX Runtime.

The graph takes the spec's inputs by their names and returns the maps by theirs. The file stands alone; its metadata
hold `neuropbr.json`, the manifest.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Availability, Exporter, ExportReport, ExportSpec, Maps
from neuropbr_core.errors import ExportError
from neuropbr_exporters.availability import installed
from neuropbr_exporters.exported import export_program, open_shapes, quiet
from neuropbr_exporters.manifest import NAME, Manifest
from neuropbr_exporters.onnx import Options
from neuropbr_exporters.program import Program, conversion, existing, first_line, mebibytes, written_aside


class OnnxExporter(Exporter):
    """Writes ONNX.

    Args:
        options: What stays open in the file.
    """

    suffix = ".onnx"

    def __init__(self, options: Options) -> None:
        self.options = options

    def requirements(self) -> Availability:
        """Whether onnx, onnxscript and onnxruntime are installed."""
        return installed("onnx", "onnx", "onnxscript", "onnxruntime")

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Write `generator` to `path`, in one file, and check it against the ONNX standard.

        Raises:
            ExportError: The model cannot be converted, lacks one of the outputs, exceeds the 2 GiB that one file can
                hold, or the file cannot be written.
        """
        program = self._convert(generator, spec)
        with written_aside(path) as aside, conversion("onnx"), quiet():
            import onnx

            program.save(os.fspath(aside), external_data=False)
            onnx.checker.check_model(os.fspath(aside), full_check=True)
        details = {"opset": str(program.model.opset_imports[""]), "nodes": str(len(program.model.graph))}
        return ExportReport(path=path, precision=self.precision, details={**details, "MiB": mebibytes(path)})

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file back, to run on the CPU.

        Raises:
            ExportError: The file is missing, no ONNX, damaged, or was not written by this exporter.
        """
        session, manifest = _session(path), self._manifest(path)

        def call(inputs: dict[str, Tensor]) -> Sequence[Tensor]:
            arrays = {name: value.detach().cpu().numpy() for name, value in inputs.items()}
            return [torch.from_numpy(value) for value in session.run(manifest.outputs, arrays)]

        return Program(path, manifest.inputs, manifest.outputs, call)

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The spec's metadata, from the manifest.

        Raises:
            ExportError: See `load`.
        """
        return self._manifest(path).metadata

    def _convert(self, generator: nn.Module, spec: ExportSpec) -> Any:
        free = {"open_batch": self.options.batch == "open", "open_size": self.options.size == "open"}
        with conversion("onnx"), quiet():
            exported = export_program(generator, spec, **free)
            program = torch.onnx.export(
                exported, dynamo=True, input_names=list(spec.inputs), output_names=list(spec.outputs), verbose=False
            )
        if program is None:
            raise ExportError("onnx: the model cannot be exported: torch.onnx gave nothing back")
        shapes = {name: list(shape) for name, shape in open_shapes(spec, **free).items()}
        text = Manifest(shapes, list(spec.outputs), spec.metadata).text()
        program.model.metadata_props[NAME] = text
        return program

    def _manifest(self, path: Path) -> Manifest:
        """The manifest in a file's metadata."""
        import onnx

        try:
            model = onnx.load_model(existing(path, "onnx"), load_external_data=False)
        except Exception as error:
            raise ExportError(_damaged(path, error)) from error
        text = {entry.key: entry.value for entry in model.metadata_props}.get(NAME)
        if text is None:
            raise ExportError(
                f"{path}: an ONNX file, but not one of this exporter: its metadata have no {NAME} that names its "
                "inputs and outputs; export the model again"
            )
        return Manifest.read(text, path)


def _session(path: Path) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(existing(path, "onnx"), providers=["CPUExecutionProvider"])
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(_damaged(path, error)) from error


def _damaged(path: Path, error: BaseException) -> str:
    return f"{path}: not an ONNX file, or damaged ({first_line(error)}); export the model again"
