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
        return open_model(_content(path), path)

    def load_untrusted(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file of a stranger: a graph of ONNX's own operators, whose weights are all in the file.

        Raises:
            ExportError: As `load`; or the file names other files, or operators of extensions.
        """
        model = _content(path)
        check_model(model, path)
        return open_model(model, path)

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The spec's metadata, from the manifest.

        Raises:
            ExportError: See `load`.
        """
        return manifest_of(_content(path), path).metadata


def open_model(model: bytes, path: Path) -> ExportedFile:
    """Open a model that is in memory, to run on the CPU.

    Args:
        model: The content of an ONNX file.
        path: The file that holds it, for messages.

    Raises:
        ExportError: It is no ONNX, damaged, or was not written by this exporter.
    """
    import onnxruntime

    try:
        # On the CPU alone: accelerators may round differently from run to run.
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise damaged(path, _FILE_TYPE, error) from error
    manifest = manifest_of(model, path)

    def call(inputs: dict[str, Tensor]) -> list[Tensor]:
        arrays = {name: value.detach().cpu().numpy() for name, value in inputs.items()}
        return [torch.from_numpy(value) for value in session.run(manifest.outputs, arrays)]

    return ExportedFile(path, manifest, call)


def check_model(model: bytes, path: Path) -> None:
    """Refuse weights that are kept in other files, and operators that are not part of ONNX.

    Args:
        model: The content of an ONNX file of a stranger.
        path: The file that holds it, for messages.

    Raises:
        ExportError: It has such weights or operators, or is no ONNX.
    """
    import onnx

    # ONNX Runtime would read such bytes in a format of its own, and not see the model that is looked through here.
    if model[4:8] == b"ORTM":
        raise refusal(path, "it is a model of ONNX Runtime's own format, and no ONNX")
    for message in _messages(_parsed(model, path)):
        if isinstance(message, onnx.NodeProto) and message.domain not in _DOMAINS:
            raise refusal(path, f"it calls {message.domain[:40]}:{message.op_type[:40]}, which is no operator of ONNX")
        if isinstance(message, onnx.TensorProto) and (
            message.external_data or message.data_location == onnx.TensorProto.EXTERNAL
        ):
            raise refusal(path, f"it keeps the tensor {message.name[:80]!r} in another file")


def manifest_of(model: bytes, path: Path) -> Manifest:
    """The manifest in a model's metadata.

    Args:
        model: The content of an ONNX file.
        path: The file that holds it, for messages.

    Raises:
        ExportError: It is no ONNX, or was not written by this exporter.
    """
    for entry in _parsed(model, path).metadata_props:
        if entry.key == MANIFEST_NAME:
            return Manifest.read(entry.value, path)
    raise ExportError(
        f"{path}: an ONNX file, but not one of this exporter: its metadata have no {MANIFEST_NAME} that names its "
        "inputs and outputs; export the model again"
    )


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


def _parsed(model: bytes, path: Path) -> "onnx.ModelProto":
    """The graph, without the files that it may name."""
    import onnx

    try:
        return onnx.load_model_from_string(model)
    except Exception as error:
        raise damaged(path, _FILE_TYPE, error) from error


def _content(path: Path) -> bytes:
    try:
        return existing(path, "onnx").read_bytes()
    except OSError as error:
        raise damaged(path, _FILE_TYPE, error) from error
