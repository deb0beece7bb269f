"""From a generator to a graph, and the calls of converters: whether they are installed, their noise, their errors."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from neuropbr_core.contracts import Availability, ExportSpec, Maps
from neuropbr_core.errors import ExportError, NeuroPBRError
from neuropbr_exporters.files import OPEN, first_line, shapes_of

# `torch.export` wants an upper bound for each open extent. These two exceed what any device is asked to do at once.
_LARGEST_BATCH = 64
_LARGEST_SIDE = 16384


def installed(extra: str, *packages: str) -> Availability:
    """Report whether all packages are installed and, if not, how to install them. Nothing is imported.

    Args:
        extra: The extra of this distribution that installs them.
        packages: Names by which they are imported.

    Returns:
        The state; its reason names the missing packages and the install command.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if not missing:
        return Availability(ok=True)
    verb = "are"
    if len(missing) == 1:
        verb = "is"
    return Availability(
        ok=False, reason=f"{' and '.join(missing)} {verb} not installed; pip install 'neuropbr[{extra}]'"
    )


class MapsOnly(nn.Module):
    """A generator that returns its maps as a tuple, the only form that every format can hold.

    Args:
        generator: Returns a `Prediction`.
        outputs: Names of the maps, in the order of the tuple.
    """

    def __init__(self, generator: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.generator = generator
        self.outputs = outputs

    def forward(
        self, views: Tensor, visible: Tensor | None = None, directions: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            views: `(B, N, 3, H, W)` in [0, 1], sRGB-encoded.
            visible: `(B, N, 1, H, W)` in [0, 1]; all of the texture when it is left out.
            directions: `(B, N, 3, H, W)`, unit vectors to the cameras in tangent space.

        Returns:
            One tensor for each name in `outputs`, each in its map's own range.

        Raises:
            ExportError: The generator does not predict one of the maps.
        """
        maps: Maps = self.generator(views, visible, directions).maps
        missing = [name for name in self.outputs if name not in maps]
        if missing:
            raise ExportError(f"the model does not predict {', '.join(missing)}; it predicts {', '.join(maps)}")
        return tuple(maps[name] for name in self.outputs)


def export_program(
    generator: nn.Module, spec: ExportSpec, *, open_batch: bool = False, open_size: bool = False
) -> ExportedProgram:
    """Export the maps of a generator through `torch.export`.

    Args:
        generator: In eval mode, on the CPU.
        spec: Inputs and outputs.
        open_batch: Leave the number of samples open.
        open_size: Leave height and width open, multiples of `spec.multiple`.

    Returns:
        A program that takes the spec's inputs by name, and returns a tuple of maps in the spec's order.

    Raises:
        ExportError: The size is to be left open, and something in the model depends on it.
        Exception: Any error of `torch.export`.
    """
    # The wrapper is in training mode when it is created, whatever mode the generator is in.
    model = MapsOnly(generator, spec.outputs).eval()
    inputs = dict(spec.inputs)
    open_extents: dict[int, object] = {}
    if open_batch:
        open_extents[0] = Dim("batch", min=1, max=_LARGEST_BATCH)
        # torch.export treats an extent of one as fixed, so the example of an open batch has two samples.
        for name, value in inputs.items():
            inputs[name] = torch.cat((value, value))
    if open_size:
        most = _LARGEST_SIDE // spec.multiple
        # At least two: the latent of a single pixel takes other branches in torch's operators.
        open_extents[3] = spec.multiple * Dim("height", min=2, max=most)
        open_extents[4] = spec.multiple * Dim("width", min=2, max=most)
    dynamic_shapes = None
    if open_extents:
        dynamic_shapes = dict.fromkeys(inputs, open_extents)
    with quiet(), torch.no_grad():
        program = torch.export.export(model, (), inputs, dynamic_shapes=dynamic_shapes)
        if open_size:
            _require_other_size(program, inputs)
    return program


def _require_other_size(program: ExportedProgram, inputs: dict[str, Tensor]) -> None:
    """Run the program at twice the size: a value that depends on the size fails a check of the program only there."""
    # Each pixel four times, rather than random values: visibility stays 0 or 1, and directions stay unit vectors.
    larger = {name: value.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2) for name, value in inputs.items()}
    try:
        program.module()(**larger)
    except (AssertionError, RuntimeError) as error:
        raise ExportError(
            f"size: open: what this model computes depends on the size that is exported (a reflectance profile does); "
            f"write size: fixed, and export once for each `resolution` ({first_line(error)})"
        ) from error


def open_shapes(spec: ExportSpec, *, open_batch: bool, open_size: bool) -> dict[str, list[int]]:
    """Shapes of the inputs that a program of `export_program` takes.

    Args:
        spec: The spec that was exported.
        open_batch: As for `export_program`.
        open_size: As for `export_program`.

    Returns:
        Shapes by input, in call order; `OPEN` for extents that are open.
    """
    shapes = shapes_of(spec.inputs)
    # All inputs have the axes of the views: samples, views, channels, height, width.
    for shape in shapes.values():
        if open_batch:
            shape[0] = OPEN
        if open_size:
            shape[3:] = [OPEN, OPEN]
    return shapes


@contextmanager
def conversion(name: str) -> Iterator[None]:
    """Turn whatever a converter raises into an `ExportError`; the project's own errors pass unchanged.

    Args:
        name: The exporter's name, for messages.

    Raises:
        ExportError: The converter failed, or could not write one of its files.
    """
    try:
        yield
    except NeuroPBRError:
        # The model has refused its inputs; its own message is better than any wrapper.
        raise
    except OSError as error:
        # Converters write temporary files, so a full disk shows here as well as in the final write.
        raise ExportError(f"{name}: a file could not be written: {error}") from error
    except Exception as error:
        # Converters wrap the model's own exception, often more than once: the innermost one names the cause.
        root: BaseException = error
        while (inner := root.__cause__ or root.__context__) is not None:
            root = inner
        reasons = dict.fromkeys((first_line(error), first_line(root)))
        raise ExportError(f"{name}: the model cannot be exported: {'; '.join(reasons)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the converters' warnings and log messages, which describe their internals; errors are still logged."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
