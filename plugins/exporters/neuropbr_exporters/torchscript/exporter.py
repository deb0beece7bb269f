"""Traces a generator to a TorchScript program, and reads such a file back.

The program takes the spec's inputs by their names (or in their order) and returns a tuple of maps in the order of the
spec's outputs. Sizes and the number of views are those of the example inputs. The file also holds `neuropbr.json`, the
manifest.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

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
from neuropbr_exporters.graphs import MapsOnly, conversion
from neuropbr_exporters.torchscript import Options
from neuropbr_exporters.torchscript.reading import FILE_TYPE, read_untrusted


class TorchScriptExporter(Exporter):
    """Writes TorchScript by tracing.

    Tracing records the operators that run on the example inputs. A branch on an input's values would be fixed to the
    side that the example took; generators have none, and the core compares the file with the model on other inputs.

    Args:
        options: How the program is stored.
    """

    suffix = ".pt"

    def __init__(self, options: Options) -> None:
        self.options = options

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Write `generator` to `path`; a file of that name is replaced only when the new one is complete.

        Args:
            generator: In eval mode, on the CPU.
            spec: Inputs, outputs and metadata.
            path: The file; missing folders are created.

        Returns:
            What was written; precision is always `fp32`.

        Raises:
            ExportError: The model cannot be traced, lacks one of the outputs, or the file cannot be written.
        """
        wrapper = MapsOnly(generator, spec.outputs).eval()
        program: torch.jit.ScriptModule
        with conversion("torchscript"), _quiet(), torch.no_grad():
            # No check by a second trace: the core compares the file itself with the model, on other inputs.
            program = torch.jit.trace(wrapper, example_kwarg_inputs=spec.inputs, check_trace=False)  # type: ignore[no-untyped-call]
            if self.options.optimize:
                program = torch.jit.freeze(program)
        # To memory first: libtorch ends the process when it cannot write to a file.
        content = io.BytesIO()
        with _quiet():
            torch.jit.save(program, content, _extra_files={MANIFEST_NAME: Manifest.of(spec).text()})
        with written_aside(path) as aside:
            # Not its buffer: the error of a full disk would hold that, and Python 3.12 crashes when a BytesIO is freed
            # while something holds its buffer.
            aside.write_bytes(content.getvalue())
        details = {"optimized": str(self.options.optimize).lower(), "MiB": mebibytes(path)}
        return ExportReport(path=path, precision=self.precision, details=details)

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file back, to run on the CPU.

        Raises:
            ExportError: The file is missing, no TorchScript, damaged, or was not written by this exporter.
        """
        return _load(path, str(path))

    def load_untrusted(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file of a stranger, whose program may do nothing but compute.

        Raises:
            ExportError: As `load`; or the program reaches files, or calls extensions.
        """
        return _load(path, read_untrusted(path))

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The spec's metadata, from the manifest.

        Raises:
            ExportError: See `load`.
        """
        return _manifest(path).metadata


def _load(path: Path, content: str | io.BytesIO) -> Callable[[Mapping[str, Tensor]], Maps]:
    """Load a file from its path or from memory."""
    manifest = _manifest(path)
    try:
        with _quiet():
            # On the CPU, wherever the tensors were saved from: verification compares there.
            program = torch.jit.load(content, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise damaged(path, FILE_TYPE, error) from error
    return ExportedFile(path, manifest, lambda inputs: program(**inputs))


def _manifest(path: Path) -> Manifest:
    foreign = "a TorchScript file, but not one of this exporter"
    return read_archived_manifest(path, "torchscript", file_type=FILE_TYPE, foreign=foreign)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the deprecation of `torch.jit`, and the warnings about sizes that become constants, as they should.

    All other warnings pass: an unexpected one while tracing may mean a wrong file.
    """
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=r"`?torch\.jit", category=category)
        warnings.simplefilter("ignore", TracerWarning)
        yield
