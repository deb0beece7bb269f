"""Core ML package (ML Program) for iOS 17 and macOS 14 on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Exporter

NEUROPBR_API = 1
NEUROPBR_REQUIRES = {"coremltools": "neuropbr[coreml]"}


@dataclass(frozen=True)
class Options:
    """What goes into the package."""

    precision: Annotated[
        Literal["fp16", "mixed", "fp32"],
        Meta(
            description="Type of weights and arithmetic; the Neural Engine computes in `fp16` only. `mixed` keeps the "
            "encoder's first layers, which rounding hurts most, in float32."
        ),
    ] = "fp16"
    palettize: Annotated[
        bool, Meta(description="Store large weights as 8-bit indices into tables of 256 values; needs scikit-learn.")
    ] = False
    outputs: Annotated[
        Literal["arrays", "images"],
        Meta(description="Maps as arrays in their own range, or as 8-bit images (normals as 0.5 + 0.5 n)."),
    ] = "arrays"
    author: Annotated[str, Meta(description="Author, as shown by Xcode.")] = ""
    license: Annotated[str, Meta(description="Licence, as shown by Xcode.")] = ""


@hookimpl
def exporter_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_exporter(options: Options) -> "Exporter":
    """Build the exporter."""
    # Imported on use, so that listing and checking plugins load neither torch nor a converter.
    from neuropbr_exporters.coreml.exporter import CoreMLExporter

    return CoreMLExporter(options)
