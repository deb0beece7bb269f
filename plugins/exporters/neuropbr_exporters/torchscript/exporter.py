"""Traces a generator to a TorchScript program, and reads such a file back.

The program takes the spec's inputs by their names (or in their order) and returns a tuple of maps in the order of the
spec's outputs. Sizes and the number of views are those of the example inputs. The file also holds `neuropbr.json`, the
manifest.
"""

import io
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from neuropbr_core.contracts import Exporter, ExportReport, ExportSpec, Maps
from neuropbr_core.errors import ExportError
from neuropbr_exporters.manifest import NAME, Manifest
from neuropbr_exporters.program import MapsOnly, Program, conversion, existing, first_line, mebibytes, written_aside
from neuropbr_exporters.torchscript import Options


class TorchScriptExporter(Exporter):
    """Writes TorchScript by tracing.

    Tracing records the operators that run on the example inputs; a branch on an input's values would be frozen the way
    it went. Generators have none, and the core compares the file with the model on other inputs.

    Args:
        options: How the program is stored.
    """

    suffix = ".pt"

    def __init__(self, options: Options) -> None:
        self.options = options

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Write `generator` to `path`; a file that stands there is replaced only when the new one is complete.

        Args:
            generator: In eval mode, on the CPU.
            spec: Inputs, outputs and metadata.
            path: The file; missing folders are made.

        Returns:
            What was written; precision is always `fp32`.

        Raises:
            ExportError: The model cannot be traced, lacks one of the outputs, or the file cannot be written.
        """
        program = self._trace(generator, spec)
        content = io.BytesIO()  # libtorch ends the process when it cannot write to a file
        with _quiet():
            torch.jit.save(program, content, _extra_files={NAME: Manifest.of(spec).text()})
        with written_aside(path) as aside:
            aside.write_bytes(content.getbuffer())
        details = {"optimized": str(self.options.optimize).lower(), "MiB": mebibytes(path)}
        return ExportReport(path=path, precision=self.precision, details=details)

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file back, to run on the CPU.

        Raises:
            ExportError: The file is missing, no TorchScript, damaged, or was not written by this exporter.
        """
        manifest = _manifest(path)
        try:
            with _quiet():
                program = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, OSError) as error:
            raise ExportError(_damaged(path, error)) from error
        return Program(path, manifest.inputs, manifest.outputs, lambda inputs: program(**inputs))

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The spec's metadata, from the manifest.

        Raises:
            ExportError: See `load`.
        """
        return _manifest(path).metadata

    def _trace(self, generator: nn.Module, spec: ExportSpec) -> torch.jit.ScriptModule:
        wrapper = MapsOnly(generator, spec.outputs).eval()
        program: torch.jit.ScriptModule
        with conversion("torchscript"), _quiet(), torch.no_grad():
            program = torch.jit.trace(wrapper, example_kwarg_inputs=spec.inputs, check_trace=False)  # type: ignore[no-untyped-call]
            if self.options.optimize:
                program = torch.jit.freeze(program)
        return program


def _manifest(path: Path) -> Manifest:
    """The manifest of a file: a TorchScript file is a zip archive with our text among its extra files."""
    try:
        with zipfile.ZipFile(existing(path, "torchscript")) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{NAME}")]
            text = archive.read(names[0]) if names else b""
    except (zipfile.BadZipFile, OSError) as error:
        raise ExportError(_damaged(path, error)) from error
    if not text:
        raise ExportError(
            f"{path}: a TorchScript file, but not one of this exporter: it has no {NAME} that names its inputs and "
            "outputs; export the model again"
        )
    return Manifest.read(text, path)


def _damaged(path: Path, error: BaseException) -> str:
    return f"{path}: not a TorchScript file, or damaged ({first_line(error)}); export the model again"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the deprecation of `torch.jit`, and tracing's remarks on sizes that become constants, as they should."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=r"`?torch\.jit", category=category)
        warnings.simplefilter("ignore", TracerWarning)
        yield
