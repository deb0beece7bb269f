"""ExecuTorch program for phones and embedded devices."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Exporter

NEUROPBR_API = 1
NEUROPBR_REQUIRES = {"executorch": "neuropbr[executorch]"}


@dataclass(frozen=True)
class Options:
    """What runs the program."""

    backend: Annotated[
        Literal["xnnpack", "coreml", "portable"],
        Meta(
            description="`xnnpack` gives what it can to optimised CPU kernels, `coreml` all to Core ML in FP16 (iOS 17 "
            "and macOS 14 on), `portable` uses the plain kernels alone."
        ),
    ] = "xnnpack"


@hookimpl
def exporter_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_exporter(options: Options) -> "Exporter":
    """Build the exporter."""
    # Imported on use, so that listing and checking plugins load neither torch nor a converter.
    from neuropbr_exporters.executorch.exporter import ExecuTorchExporter

    return ExecuTorchExporter(options)
