"""Traces a generator to a TorchScript program, and reads such a file back.

The program takes the spec's inputs by their names (or in their order) and returns a tuple of maps in the order of the
spec's outputs. Sizes and the number of views are those of the example inputs. The file also holds `neuropbr.json`:
shapes of the inputs, names of the outputs, whether the program is optimised, and the metadata.
"""

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from neuropbr_core.contracts import Exporter, ExportReport, ExportSpec, Maps
from neuropbr_core.errors import ExportError, NeuroPBRError
from neuropbr_exporters.torchscript import Options

MANIFEST = "neuropbr.json"


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
        _save(program, json.dumps(self._manifest(spec)), path)
        details = {"optimized": str(self.options.optimize).lower(), "MiB": f"{path.stat().st_size / 2**20:.1f}"}
        return ExportReport(path=path, precision="fp32", details=details)

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file back.

        Returns:
            A `TorchScriptGenerator` on the CPU.

        Raises:
            ExportError: The file is missing, no TorchScript, damaged, or was not written by this exporter.
        """
        if not path.is_file():
            raise ExportError(f"{path}: there is no such file; give one that the torchscript exporter wrote")
        extra: dict[str, Any] = {MANIFEST: b""}
        try:
            with _quiet():
                program = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise ExportError(
                f"{path}: not a TorchScript file, or damaged ({reason}); export the model again"
            ) from error
        if not extra[MANIFEST]:
            raise ExportError(
                f"{path}: a TorchScript file, but not one of this exporter: it has no {MANIFEST} that names its inputs "
                "and outputs; export the model again"
            )
        return TorchScriptGenerator(program, json.loads(extra[MANIFEST]), path)

    def _trace(self, generator: nn.Module, spec: ExportSpec) -> torch.jit.ScriptModule:
        wrapper = _MapsOnly(generator, spec.outputs).eval()
        program: torch.jit.ScriptModule
        try:
            with _quiet(), torch.no_grad():
                program = torch.jit.trace(wrapper, example_kwarg_inputs=spec.inputs, check_trace=False)  # type: ignore[no-untyped-call]
                if self.options.optimize:
                    program = torch.jit.freeze(program)
        except NeuroPBRError:
            raise
        except Exception as error:
            raise ExportError(f"torchscript: the model cannot be traced: {error}") from error
        return program

    def _manifest(self, spec: ExportSpec) -> dict[str, object]:
        return {
            "inputs": {name: list(value.shape) for name, value in spec.inputs.items()},
            "outputs": list(spec.outputs),
            "optimized": self.options.optimize,
            "metadata": spec.metadata,
        }


class TorchScriptGenerator:
    """A TorchScript file as a function from inputs to maps.

    Args:
        program: The loaded program.
        manifest: What its `neuropbr.json` says.
        path: Where it came from, for messages.

    Attributes:
        metadata: The text that was stored with it.
    """

    def __init__(self, program: torch.jit.ScriptModule, manifest: dict[str, Any], path: Path) -> None:
        self.metadata: dict[str, str] = manifest["metadata"]
        self._program = program
        self._shapes: dict[str, list[int]] = manifest["inputs"]
        self._outputs: list[str] = manifest["outputs"]
        self._path = path

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor]) -> Maps:
        """Run the program.

        Args:
            inputs: Tensors by name, of exactly the names and shapes that were exported.

        Raises:
            ExportError: Names or shapes are others; the message has the ones that are taken.
        """
        found = {name: list(value.shape) for name, value in inputs.items()}
        if found != self._shapes:
            raise ExportError(
                f"{self._path}: got {_describe(found)}, but this file takes {_describe(self._shapes)}; give it exactly "
                "these, or export the model again for other sizes"
            )
        maps: tuple[Tensor, ...] = self._program(**inputs)
        return dict(zip(self._outputs, maps, strict=True))


class _MapsOnly(nn.Module):
    """A generator that returns its maps as a tuple; tracing keeps the names of the inputs that are given."""

    def __init__(self, generator: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.generator = generator
        self.outputs = outputs

    def forward(
        self, views: Tensor, visible: Tensor | None = None, directions: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        maps: Maps = self.generator(views, visible, directions).maps
        if missing := [name for name in self.outputs if name not in maps]:
            raise ExportError(
                f"torchscript: the model does not predict {', '.join(missing)}; it predicts {', '.join(maps)}"
            )
        return tuple(maps[name] for name in self.outputs)


def _save(program: torch.jit.ScriptModule, manifest: str, path: Path) -> None:
    """Write aside in the same folder, then move into place."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".torchscript-") as folder, _quiet():
            aside = Path(folder, path.name)
            torch.jit.save(program, str(aside), _extra_files={MANIFEST: manifest})
            aside.replace(path)
    except (OSError, RuntimeError) as error:
        raise ExportError(f"{path}: could not be written: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the deprecation of `torch.jit`, and tracing's remarks on sizes that become constants, as they should."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=r"`?torch\.jit", category=category)
        warnings.simplefilter("ignore", TracerWarning)
        yield


def _describe(shapes: Mapping[str, list[int]]) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in shapes.items()) or "nothing"
