"""TorchScript file for libtorch: C++ programs and phones."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Exporter

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """How the program is stored."""

    # Off by default, as a frozen program can no longer be moved to a GPU.
    optimize: Annotated[
        bool,
        Meta(description="Freeze weights into the program and optimise it for inference; it then runs on a CPU only."),
    ] = False


@hookimpl
def exporter_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_exporter(options: Options) -> "Exporter":
    """Build the exporter."""
    # Imported on use, so that listing and checking plugins load neither torch nor a converter.
    from neuropbr_exporters.torchscript.exporter import TorchScriptExporter

    return TorchScriptExporter(options)
