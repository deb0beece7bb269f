"""Writes a generator as a Core ML package, reads it back, and reports what the package holds.

The steps of an export: `graph` records and rewrites the model, `conversion` converts, describes and saves it, `package`
reads it back, `report` counts what it holds. `tracing` finds the operation in which a package and its model differ.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from neuropbr_core.contracts import Availability, Exporter, ExportReport, ExportSpec, Maps
from neuropbr_exporters.coreml import Options
from neuropbr_exporters.coreml.conversion import convert, describe, save
from neuropbr_exporters.coreml.graph import export_graph
from neuropbr_exporters.coreml.package import Package, load
from neuropbr_exporters.coreml.report import examine
from neuropbr_exporters.coreml.tracing import trace
from neuropbr_exporters.graphs import installed


class CoreMLExporter(Exporter):
    """Writes ML Programs through `torch.export` and coremltools, for iOS 17 and macOS 14 on.

    The package takes one 8-bit sRGB image for each view, and arrays beside them where the model reads visibility or
    directions. Its graph is the model's: only constants are computed ahead of time.

    Args:
        options: What goes into the package.

    Attributes:
        precision: The pass mark that packages with these options must meet.
        view_bits: Views are 8-bit images in a package.
    """

    suffix = ".mlpackage"
    view_bits = 8

    def __init__(self, options: Options) -> None:
        self.options = options
        # The mark of the coarsest step: palettised weights or 8-bit maps differ by more than FP16 does.
        if options.palettize:
            self.precision = "palettised"
        elif options.outputs == "images":
            self.precision = "image"
        elif options.precision != "fp32":
            self.precision = "fp16"

    def requirements(self) -> Availability:
        """Whether coremltools is installed; Linux and macOS will do."""
        return installed("coreml", "coremltools")

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Write `generator` to `path`; a package of that name is replaced only when the new one is complete.

        Args:
            generator: In eval mode, on the CPU.
            spec: Inputs, outputs and metadata.
            path: The package (a folder); missing folders are created.

        Raises:
            ExportError: The model cannot be converted, lacks one of the outputs, or the package cannot be written.
        """
        images = self.options.outputs == "images"
        # `mixed` too: most of its operations compute in FP16.
        half = self.options.precision != "fp32"
        graph = export_graph(generator, spec, images=images, half=half)
        model = convert(graph, spec, self.options)
        describe(model, spec, self.options)
        save(model, path)
        # From the package as it was saved, so that the report describes what others will load.
        report = examine(path, Package(path).program())
        return ExportReport(path=path, precision=self.precision, details=report.summary())

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
        """Count what a package holds, and list the operations that the Neural Engine will likely not run."""
        return examine(path, Package(path).program()).to_dict()

    def trace(self, generator: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> list[str]:
        """Compare a package with its model, operation by operation; the lines name the first that differs."""
        return trace(generator, inputs, Package(path)).lines()
