"""ONNX file for ONNX Runtime: servers, browsers, Windows, Android."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Exporter

NEUROPBR_API = 1
NEUROPBR_REQUIRES = {"onnx": "neuropbr[onnx]", "onnxscript": "neuropbr[onnx]", "onnxruntime": "neuropbr[onnx]"}


@dataclass(frozen=True)
class Options:
    """What stays open in the file."""

    batch: Annotated[
        Literal["open", "fixed"], Meta(description="`open` takes any number of samples at once, `fixed` one.")
    ] = "open"
    # Fixed by default: a model with a reflectance profile depends on the size, and could not be exported.
    size: Annotated[
        Literal["fixed", "open"],
        Meta(description="`open` takes views of any side that the encoder can take, `fixed` the one exported."),
    ] = "fixed"


@hookimpl
def exporter_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_exporter(options: Options) -> "Exporter":
    """Build the exporter."""
    # Imported on use, so that listing and checking plugins load neither torch nor a converter.
    from neuropbr_exporters.onnx.exporter import OnnxExporter

    return OnnxExporter(options)
