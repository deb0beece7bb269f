"""Writes a generator as a Core ML package, reads it back, and says what it is made of."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from neuropbr_core.contracts import Availability, Exporter, ExportReport, ExportSpec, Maps
from neuropbr_exporters.coreml import Options
from neuropbr_exporters.coreml.conversion import convert, describe, save
from neuropbr_exporters.coreml.graph import export_graph
from neuropbr_exporters.coreml.report import StaticReport, examine
from neuropbr_exporters.coreml.runtime import Package, load
from neuropbr_exporters.coreml.toolkit import availability
from neuropbr_exporters.coreml.tracing import trace


class CoreMLExporter(Exporter):
    """Writes ML Programs through `torch.export` and coremltools, for iOS 17 and macOS 14 on.

    The package takes one 8-bit sRGB image for each view, and arrays beside them where the model reads visibility or
    directions. Its graph is the model's: nothing is left out but what is computed ahead of time.

    Args:
        options: What goes into the package.

    Attributes:
        precision: Which pass mark packages with these options have.
        view_bits: Views are 8-bit images in a package.
    """

    suffix = ".mlpackage"
    view_bits = 8

    def __init__(self, options: Options) -> None:
        self.options = options
        self.precision = _pass_mark(options)

    def requirements(self) -> Availability:
        """Whether coremltools is installed; Linux and macOS will do."""
        return availability()

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Write `generator` to `path`; a package that stands there is replaced only when the new one is complete.

        Args:
            generator: In eval mode, on the CPU.
            spec: Inputs, outputs and metadata.
            path: The package (a folder); missing folders are made.

        Raises:
            ExportError: The model cannot be converted, lacks one of the outputs, or the package cannot be written.
        """
        images, half = self.options.outputs == "images", self.options.precision != "fp32"
        graph = export_graph(generator, spec, images=images, half=half)
        model = convert(graph, spec, self.options)
        describe(model, spec, self.options)
        save(model, path)
        return ExportReport(path=path, precision=self.precision, details=self._examine(path).summary())

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a package back: run by Core ML on macOS, by the reference evaluator elsewhere.

        Raises:
            ExportError: The package is missing, damaged, was not written by this exporter, or cannot be run.
        """
        return load(path)

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The text that was stored with a package."""
        return Package(path).metadata

    def report(self, path: Path) -> dict[str, object]:
        """What a package is made of, and what of it the Neural Engine will likely not take."""
        return self._examine(path).to_dict()

    def trace(self, generator: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> list[str]:
        """Compare a package with its model, operation by operation; the lines name the first that differs."""
        return trace(generator, inputs, Package(path)).lines()

    def _examine(self, path: Path) -> StaticReport:
        return examine(path, Package(path).program())


def _pass_mark(options: Options) -> str:
    if options.palettize:
        return "palettised"
    if options.outputs == "images":
        return "image"
    return "fp32" if options.precision == "fp32" else "fp16"
