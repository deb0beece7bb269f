"""One HTML file that holds the model and runs it in a browser: offline, without a server, and without any request."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Exporter

NEUROPBR_API = 1
NEUROPBR_REQUIRES = {"onnx": "neuropbr[onnx]", "onnxscript": "neuropbr[onnx]", "onnxruntime": "neuropbr[onnx]"}


@dataclass(frozen=True)
class Options:
    """Where ONNX Runtime for browsers comes from."""

    runtime: Annotated[
        str | None,
        Meta(
            description="Folder of the npm package onnxruntime-web; default: the one in `node_modules` of this folder, "
            "or of a folder above it."
        ),
    ] = None


@hookimpl
def exporter_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_exporter(options: Options) -> "Exporter":
    """Build the exporter."""
    # Imported on use, so that listing and checking plugins load neither torch nor a converter.
    from neuropbr_exporters.web.exporter import WebExporter

    return WebExporter(options)
