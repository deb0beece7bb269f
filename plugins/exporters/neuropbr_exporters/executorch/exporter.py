"""Writes ExecuTorch programs and runs them with ExecuTorch's own runtime.

Method `forward` takes the spec's inputs in their order and returns the maps in theirs. Method `neuropbr` takes nothing
and returns the manifest as text.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Availability, Exporter, ExportReport, ExportSpec, Maps
from neuropbr_core.errors import ExportError
from neuropbr_exporters.availability import installed
from neuropbr_exporters.coreml.toolkit import quiet as without_progress
from neuropbr_exporters.executorch import Options, core_ml
from neuropbr_exporters.exported import export_program, quiet
from neuropbr_exporters.manifest import Manifest
from neuropbr_exporters.program import Program, conversion, existing, first_line, mebibytes, written_aside

_MANIFEST = "neuropbr"


class ExecuTorchExporter(Exporter):
    """Writes `.pte` programs.

    Args:
        options: What runs the program.

    Attributes:
        precision: `fp16` for Core ML, else `fp32`.
    """

    suffix = ".pte"

    def __init__(self, options: Options) -> None:
        self.options = options
        self.precision = "fp16" if options.backend == "coreml" else "fp32"

    def requirements(self) -> Availability:
        """Whether executorch is installed and, for Core ML, can compile for it here."""
        return core_ml.availability() if self.options.backend == "coreml" else installed("executorch", "executorch")

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Write `generator` to `path`.

        Raises:
            ExportError: The model cannot be exported or lowered, lacks one of the outputs, or the file cannot be
                written.
        """
        with conversion("executorch"):
            capture = core_ml.capture if self.options.backend == "coreml" else export_program
            program = capture(generator, spec)
            lowered, operators = self._lower(program, Manifest.of(spec).text())
        with written_aside(path) as aside:
            aside.write_bytes(lowered)
        details = {"backend": self.options.backend, **operators, "MiB": mebibytes(path)}
        return ExportReport(path=path, precision=self.precision, details=details)

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a program back, to run on the CPU; one for Core ML by the reference evaluator where there is no Core ML.

        Raises:
            ExportError: The file is missing, no ExecuTorch program, damaged, or was not written by this exporter.
        """
        program = _program(path)
        manifest = _manifest(program, path)
        try:
            call = core_ml.evaluated(path) if core_ml.only_core_ml_runs(path) else _native(program)
        except ExportError:
            raise
        except Exception as error:
            raise ExportError(_damaged(path, error)) from error
        return Program(path, manifest.inputs, manifest.outputs, call)

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The spec's metadata, from the manifest.

        Raises:
            ExportError: See `load`.
        """
        return _manifest(_program(path), path).metadata

    def _lower(self, program: torch.export.ExportedProgram, manifest: str) -> tuple[bytes, dict[str, str]]:
        """The program as bytes, and how its operators were given out."""
        with quiet(), without_progress():
            from executorch.exir import to_edge_transform_and_lower

            edge = to_edge_transform_and_lower(
                program, partitioner=self._partitioners(), constant_methods={_MANIFEST: manifest}
            )
            operators = _count(edge.exported_program())
            return edge.to_executorch().buffer, operators

    def _partitioners(self) -> list[Any]:
        if self.options.backend == "portable":
            return []
        if self.options.backend == "coreml":
            return [core_ml.partitioner()]
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        return [XnnpackPartitioner()]


def _count(program: torch.export.ExportedProgram) -> dict[str, str]:
    """How many parts went to the backend, and how many operators did not."""
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    delegated = sum("call_delegate" in name for name in names)
    picking = sum("getitem" in name for name in names)
    return {"delegated parts": str(delegated), "plain operators": str(len(names) - delegated - picking)}


def _native(program: Any) -> Callable[[dict[str, Tensor]], list[Tensor]]:
    """Method `forward`, run by ExecuTorch."""
    method = program.load_method("forward")

    def call(inputs: dict[str, Tensor]) -> list[Tensor]:
        found = method.execute([value.contiguous() for value in inputs.values()])
        return [value.clone() for value in found]  # the program owns the memory of its outputs

    return call


def _program(path: Path) -> Any:
    existing(path, "executorch")
    try:
        with quiet():
            from executorch.runtime import Runtime, Verification

            return Runtime.get().load_program(path, verification=Verification.InternalConsistency)
    except Exception as error:
        raise ExportError(_damaged(path, error)) from error


def _manifest(program: Any, path: Path) -> Manifest:
    if _MANIFEST not in program.method_names:
        raise ExportError(
            f"{path}: an ExecuTorch program, but not one of this exporter: it has no method {_MANIFEST} that names its "
            "inputs and outputs; export the model again"
        )
    (text,) = program.load_method(_MANIFEST).execute([])
    return Manifest.read(text, path)


def _damaged(path: Path, error: BaseException) -> str:
    return f"{path}: not an ExecuTorch program, or damaged ({first_line(error)}); export the model again"
