"""Whether operators are being recorded, so that code must consist of operators alone."""

import torch


def is_recording() -> bool:
    """Tell whether a tracer, an exporter or a compiler follows what runs.

    They cannot look into a function with a derivative of its own, and meet operators here that they know.
    """
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return traced or torch.compiler.is_compiling()
