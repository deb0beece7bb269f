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
from neuropbr_exporters.archives import refusal
from neuropbr_exporters.coreml.toolkit import quiet as without_progress
from neuropbr_exporters.executorch import Options, core_ml
from neuropbr_exporters.files import ExportedFile, Manifest, damaged, existing, mebibytes, written_aside
from neuropbr_exporters.graphs import conversion, export_program, installed, quiet

_FILE_TYPE = "an ExecuTorch program"
_MANIFEST_METHOD = "neuropbr"
"""A `.pte` file has no place for text, but a method may return a constant."""


class ExecuTorchExporter(Exporter):
    """Writes `.pte` programs for fixed sizes: the runtime plans all memory ahead.

    Args:
        options: What runs the program.

    Attributes:
        precision: `fp16` for Core ML, else `fp32`.
    """

    suffix = ".pte"

    def __init__(self, options: Options) -> None:
        self.options = options
        self.precision = "fp32"
        if options.backend == "coreml":
            self.precision = "fp16"

    def requirements(self) -> Availability:
        """Whether executorch is installed and, for Core ML, can compile for it here."""
        if self.options.backend == "coreml":
            return core_ml.availability()
        return installed("executorch", "executorch")

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Write `generator` to `path`.

        Raises:
            ExportError: The model cannot be exported or lowered, lacks one of the outputs, or the file cannot be
                written.
        """
        with conversion("executorch"):
            if self.options.backend == "coreml":
                program = core_ml.record(generator, spec)
            else:
                program = export_program(generator, spec)
        with conversion("executorch"), quiet(), without_progress():
            from executorch.exir import to_edge_transform_and_lower

            partitioners: list[Any] = []
            if self.options.backend == "coreml":
                partitioners.append(core_ml.partitioner())
            elif self.options.backend == "xnnpack":
                from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

                partitioners.append(XnnpackPartitioner())
            edge = to_edge_transform_and_lower(
                program,
                partitioner=partitioners,
                constant_methods={_MANIFEST_METHOD: Manifest.of(spec).text()},
            )
            # Counted here: after `to_executorch` the graph also has nodes that only reserve memory.
            operators = _count(edge.exported_program())
            content = edge.to_executorch().buffer
        with written_aside(path) as aside:
            aside.write_bytes(content)
        details = {"backend": self.options.backend, **operators, "MiB": mebibytes(path)}
        return ExportReport(path=path, precision=self.precision, details=details)

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a program back, to run on the CPU; one for Core ML by the reference evaluator where there is no Core ML.

        Raises:
            ExportError: The file is missing, no ExecuTorch program, damaged, or was not written by this exporter.
        """
        program = _open(path)
        manifest = _manifest(program, path)
        try:
            if core_ml.only_core_ml_runs(path):
                return ExportedFile(path, manifest, core_ml.evaluated(path))
            return ExportedFile(path, manifest, _forward(program))
        except ExportError:
            raise
        except Exception as error:
            # Loading a method may fail on a file whose header is sound.
            raise damaged(path, _FILE_TYPE, error) from error

    def load_untrusted(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file of a stranger: a program of known operators and numbers, whose structure the runtime checks.

        Raises:
            ExportError: As `load`, or the program holds a package of Core ML, which ExecuTorch unpacks to wherever the
                package says, over other files too.
        """
        existing(path, "executorch")
        if core_ml.names_core_ml(path):
            raise refusal(path, "it holds a package of Core ML, which is unpacked to places that the package names")
        return self.load(path)

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The spec's metadata, from the manifest.

        Raises:
            ExportError: See `load`.
        """
        return _manifest(_open(path), path).metadata


def _count(program: torch.export.ExportedProgram) -> dict[str, str]:
    """How many parts went to the backend, and how many operators did not."""
    delegated = 0
    plain = 0
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        name = str(node.target)
        if "call_delegate" in name:
            delegated += 1
        elif "getitem" not in name:  # picks one of a part's outputs; at run time it is no operator
            plain += 1
    return {"delegated parts": str(delegated), "plain operators": str(plain)}


def _forward(program: Any) -> Callable[[dict[str, Tensor]], list[Tensor]]:
    """Method `forward`, run by ExecuTorch."""
    method = program.load_method("forward")

    def call(inputs: dict[str, Tensor]) -> list[Tensor]:
        # The runtime reads memory as it is, whatever a tensor's strides are.
        outputs = method.execute([value.contiguous() for value in inputs.values()])
        # The program owns the memory of its outputs, and its next run overwrites them.
        return [value.clone() for value in outputs]

    return call


def _open(path: Path) -> Any:
    existing(path, "executorch")
    try:
        with quiet():
            from executorch.runtime import Runtime, Verification

            # A check of the whole file, so that a cut one is refused here and not while it runs.
            return Runtime.get().load_program(path, verification=Verification.InternalConsistency)
    except Exception as error:
        raise damaged(path, _FILE_TYPE, error) from error


def _manifest(program: Any, path: Path) -> Manifest:
    if _MANIFEST_METHOD not in program.method_names:
        raise ExportError(
            f"{path}: an ExecuTorch program, but not one of this exporter: it has no method {_MANIFEST_METHOD} that "
            "names its inputs and outputs; export the model again"
        )
    try:
        (text,) = program.load_method(_MANIFEST_METHOD).execute([])
    except Exception as error:  # of a stranger's file, anything may be wrong with the method
        raise damaged(path, _FILE_TYPE, error) from error
    if not isinstance(text, str):
        raise damaged(path, _FILE_TYPE, TypeError(f"method {_MANIFEST_METHOD} returns no text"))
    return Manifest.read(text, path)
