"""Writes pages that hold an ONNX model, and runs the model of a page with ONNX Runtime."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from neuropbr_core.contracts import Availability, Exporter, ExportReport, ExportSpec, Maps
from neuropbr_exporters import onnx
from neuropbr_exporters.files import existing, mebibytes, written_aside
from neuropbr_exporters.onnx.exporter import OnnxExporter, check_model, manifest_of, open_model
from neuropbr_exporters.web import Options
from neuropbr_exporters.web.page import read_model, write_page
from neuropbr_exporters.web.runtime import PACKAGE, VERSION, find_runtime, read_runtime, runtime_available


class WebExporter(Exporter):
    """Writes a page.

    Args:
        options: Where ONNX Runtime for browsers comes from.
    """

    suffix = ".html"

    def __init__(self, options: Options) -> None:
        self.options = options
        # A page predicts from one material at a time.
        self.onnx = OnnxExporter(onnx.Options(batch="fixed"))

    def requirements(self) -> Availability:
        """Whether the ONNX exporter can work, and ONNX Runtime for browsers is there."""
        needed = self.onnx.requirements()
        if not needed.ok:
            return needed
        return runtime_available(self.options.runtime)

    def reading_requirements(self) -> Availability:
        """Whether the ONNX exporter can work: a page has its own runtime for browsers."""
        return self.onnx.requirements()

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Write `generator` into a page.

        Args:
            generator: In eval mode, on the CPU.
            spec: Inputs, outputs and metadata.
            path: The file; missing folders are created.

        Raises:
            ExportError: See `OnnxExporter.export`; or ONNX Runtime for browsers is missing, or the model is too large.
        """
        runtime = read_runtime(find_runtime(self.options.runtime))
        metadata = dict(spec.metadata)
        if "options" in metadata:
            # Without the runtime's folder: pages are published, and should not tell paths of the author's machine.
            options = json.loads(metadata["options"])
            options.pop("runtime", None)
            metadata["options"] = json.dumps(options)
        spec = replace(spec, metadata=metadata)
        with written_aside(path) as aside:
            report = self.onnx.export(generator, spec, aside.with_name("model.onnx"))
            aside.write_text(write_page(report.path.read_bytes(), spec, runtime), encoding="utf-8")
        details = {**report.details, "model MiB": report.details["MiB"], "MiB": mebibytes(path), PACKAGE: VERSION}
        return ExportReport(path=path, precision=self.precision, details=details)

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Take the model out of a page, to run on the CPU; no program of the page is run.

        Raises:
            ExportError: The file is missing, no page of this exporter, or damaged.
        """
        return open_model(self._model(path), path)

    def load_untrusted(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """As `load`, for a model of ONNX's own operators, whose weights are all in the page.

        Raises:
            ExportError: As `load`; or the model names files, or operators of extensions.
        """
        model = self._model(path)
        check_model(model, path)
        return open_model(model, path)

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The spec's metadata, from the model's manifest.

        Raises:
            ExportError: See `load`.
        """
        return manifest_of(self._model(path), path).metadata

    def _model(self, path: Path) -> bytes:
        return read_model(existing(path, "web"))
