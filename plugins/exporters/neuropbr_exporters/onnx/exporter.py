"""Writes ONNX files through `torch.export`, and runs them with ONNX Runtime.

The graph takes the spec's inputs by their names and returns the maps by theirs. The file needs no other; its metadata
hold `neuropbr.json`, the manifest.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Availability, Exporter, ExportReport, ExportSpec, Maps
from neuropbr_core.errors import ExportError
from neuropbr_exporters.archives import refusal
from neuropbr_exporters.files import (
    MANIFEST_NAME,
    ExportedFile,
    Manifest,
    damaged,
    existing,
    mebibytes,
    written_aside,
)
from neuropbr_exporters.graphs import conversion, export_program, installed, open_shapes, quiet
from neuropbr_exporters.onnx import Options

if TYPE_CHECKING:
    import onnx

_FILE_TYPE = "an ONNX file"

_DOMAINS = ("", "ai.onnx", "pkg.onnxscript.torch_lib", "pkg.onnxscript.torch_lib.common")
"""Domains of ONNX's own operators, and of the functions that torch.onnx puts into a file."""


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

        Args:
            generator: In eval mode, on the CPU.
            spec: Inputs, outputs and metadata.
            path: The file; missing folders are created.

        Raises:
            ExportError: The model cannot be converted, lacks one of the outputs, exceeds the 2 GiB that one file can
                hold, or the file cannot be written.
        """
        free = {"open_batch": self.options.batch == "open", "open_size": self.options.size == "open"}
        with conversion("onnx"), quiet():
            exported = export_program(generator, spec, **free)
            program = torch.onnx.export(
                exported, dynamo=True, input_names=list(spec.inputs), output_names=list(spec.outputs), verbose=False
            )
        if program is None:
            raise ExportError("onnx: the model cannot be exported: torch.onnx gave nothing back")
        # In the metadata, where viewers of ONNX files show it; no file beside the model can get lost.
        manifest = Manifest(open_shapes(spec, **free), list(spec.outputs), spec.metadata)
        program.model.metadata_props[MANIFEST_NAME] = manifest.text()
        with written_aside(path) as aside, conversion("onnx"), quiet():
            import onnx

            program.save(os.fspath(aside), external_data=False)
            # The file itself is checked, as others will read it, not the model in memory.
            onnx.checker.check_model(os.fspath(aside), full_check=True)
        details = {
            "opset": str(program.model.opset_imports[""]),
            "nodes": str(len(program.model.graph)),
            "MiB": mebibytes(path),
        }
        return ExportReport(path=path, precision=self.precision, details=details)

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file back, to run on the CPU.

        Raises:
            ExportError: The file is missing, no ONNX, damaged, or was not written by this exporter.
        """
        existing(path, "onnx")
        import onnxruntime

        try:
            # On the CPU alone: accelerators may round differently from run to run.
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise damaged(path, _FILE_TYPE, error) from error
        manifest = _manifest(path)

        def call(inputs: dict[str, Tensor]) -> list[Tensor]:
            arrays = {name: value.detach().cpu().numpy() for name, value in inputs.items()}
            return [torch.from_numpy(value) for value in session.run(manifest.outputs, arrays)]

        return ExportedFile(path, manifest, call)

    def load_untrusted(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file of a stranger: a graph of ONNX's own operators, whose weights are all in the file.

        Raises:
            ExportError: As `load`; or the file names other files, or operators of extensions.
        """
        _check_graph(path)
        return self.load(path)

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The spec's metadata, from the manifest.

        Raises:
            ExportError: See `load`.
        """
        return _manifest(path).metadata


def _check_graph(path: Path) -> None:
    """Refuse weights that are kept in other files, and operators that are not part of ONNX."""
    import onnx

    for message in _messages(_read(path)):
        if isinstance(message, onnx.NodeProto) and message.domain not in _DOMAINS:
            raise refusal(path, f"it calls {message.domain[:40]}:{message.op_type[:40]}, which is no operator of ONNX")
        if isinstance(message, onnx.TensorProto) and (
            message.external_data or message.data_location == onnx.TensorProto.EXTERNAL
        ):
            raise refusal(path, f"it keeps the tensor {message.name[:80]!r} in another file")


def _messages(model: "onnx.ModelProto") -> Iterator[Any]:
    """Every message of a document: tensors and nodes are in branches, sparse tensors and functions' defaults, too."""
    # By a list of what is left, because a document may be nested deeper than Python can call itself.
    left: list[Any] = [model]
    while left:
        message = left.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is None:  # a number or a text
                continue
            if hasattr(value, "ListFields"):
                left.append(value)
            else:
                left.extend(value)


def _read(path: Path) -> "onnx.ModelProto":
    """Read the graph, without the files that it may name."""
    import onnx

    existing(path, "onnx")
    try:
        return onnx.load_model(path, load_external_data=False)
    except Exception as error:
        raise damaged(path, _FILE_TYPE, error) from error


def _manifest(path: Path) -> Manifest:
    """The manifest in a file's metadata."""
    model = _read(path)
    for entry in model.metadata_props:
        if entry.key == MANIFEST_NAME:
            return Manifest.read(entry.value, path)
    raise ExportError(
        f"{path}: an ONNX file, but not one of this exporter: its metadata have no {MANIFEST_NAME} that names its "
        "inputs and outputs; export the model again"
    )
