"""A generator as a `torch.export` program, which several formats are made from."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from neuropbr_core.contracts import ExportSpec
from neuropbr_core.errors import ExportError
from neuropbr_exporters.program import OPEN, MapsOnly, Shapes, first_line

_LARGEST_BATCH = 64
_LARGEST_SIDE = 16384


def export_program(
    generator: nn.Module, spec: ExportSpec, *, open_batch: bool = False, open_size: bool = False
) -> ExportedProgram:
    """Export the maps of a generator.

    Args:
        generator: In eval mode, on the CPU.
        spec: Inputs and outputs.
        open_batch: Leave the number of samples open.
        open_size: Leave height and width open, multiples of `spec.multiple`.

    Returns:
        A program that takes the spec's inputs by name, and returns a tuple of maps in the spec's order.

    Raises:
        ExportError: The size is to be left open, and something in the model depends on it.
        Exception: Whatever `torch.export` finds.
    """
    model = MapsOnly(generator, spec.outputs).eval()
    dims = _dims(spec, open_batch=open_batch, open_size=open_size)
    inputs = {name: _example(value, double=open_batch) for name, value in spec.inputs.items()}
    with quiet(), torch.no_grad():
        program = torch.export.export(model, (), inputs, dynamic_shapes=dict.fromkeys(inputs, dims) if dims else None)
        if open_size:
            _require_other_size(program, inputs)
    return program


def open_shapes(spec: ExportSpec, *, open_batch: bool, open_size: bool) -> Shapes:
    """Shapes that such a program takes, by input."""
    places = [0] * open_batch + [3, 4] * open_size
    return {
        name: [OPEN if place in places else size for place, size in enumerate(value.shape)]
        for name, value in spec.inputs.items()
    }


def _require_other_size(program: ExportedProgram, inputs: Mapping[str, Tensor]) -> None:
    """Run the program at twice the size: what depends on the size shows only there, as a check that fails."""
    larger = {name: value.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2) for name, value in inputs.items()}
    try:
        program.module()(**larger)
    except (AssertionError, RuntimeError) as error:
        raise ExportError(
            f"size: open: what this model computes depends on the size that is exported (a reflectance profile does); "
            f"write size: fixed, and export once for each `resolution` ({first_line(error)})"
        ) from error


def _dims(spec: ExportSpec, *, open_batch: bool, open_size: bool) -> dict[int, object]:
    dims: dict[int, object] = {0: Dim("batch", min=1, max=_LARGEST_BATCH)} if open_batch else {}
    if open_size:
        most = _LARGEST_SIDE // spec.multiple
        for place, name in ((3, "height"), (4, "width")):
            dims[place] = spec.multiple * Dim(name, min=2, max=most)  # a latent of one pixel is a case of its own
    return dims


def _example(value: Tensor, *, double: bool) -> Tensor:
    """A dimension of one is taken for fixed, so an open batch is shown with two samples."""
    return torch.cat((value, value)) if double else value


@contextmanager
def quiet() -> Iterator[None]:
    """Keep away the warnings and log messages of converters, which speak of their own insides."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
