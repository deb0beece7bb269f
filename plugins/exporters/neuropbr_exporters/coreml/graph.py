"""From a generator to a graph of the operators that coremltools knows."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from neuropbr_core.contracts import ExportSpec
from neuropbr_exporters.coreml.decompositions import DECOMPOSITIONS
from neuropbr_exporters.coreml.folding import fit_to_half, fold_constants
from neuropbr_exporters.coreml.interface import package_inputs, to_levels
from neuropbr_exporters.program import MapsOnly, conversion


class PackageModule(MapsOnly):
    """A generator with a package's inputs and outputs: one image for each view, then arrays; one tensor for each map.

    Args:
        generator: The model.
        spec: Its inputs and outputs.
        images: Emit maps as 0 to 255.
    """

    def __init__(self, generator: nn.Module, spec: ExportSpec, *, images: bool) -> None:
        super().__init__(generator, spec.outputs)
        self.views = spec.inputs["views"].shape[1]
        self.extras = [name for name in spec.inputs if name != "views"]
        self.images = images

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Run the generator.

        Args:
            inputs: `(1, 3, S, S)` in [0, 1] for each view, then the other inputs of the spec in order.
        """
        views = torch.cat(inputs[: self.views]).unsqueeze(0)
        maps = super().forward(views, **dict(zip(self.extras, inputs[self.views :], strict=True)))
        if not self.images:
            return maps
        return tuple(to_levels(name, value) for name, value in zip(self.outputs, maps, strict=True))


def export_graph(generator: nn.Module, spec: ExportSpec, *, images: bool, half: bool) -> ExportedProgram:
    """Record the generator with a package's inputs and outputs, and `rewrite` it.

    Args:
        generator: In eval mode, on the CPU.
        spec: Example inputs and names of outputs.
        images: Emit maps as 0 to 255.
        half: Move numbers that FP16 cannot hold to its nearest normal number.

    Raises:
        ExportError: The model cannot be exported.
    """
    module = PackageModule(generator, spec, images=images).eval()
    with conversion("coreml"):
        return rewrite(module, tuple(package_inputs(spec.inputs).values()), {}, half=half)


@torch.no_grad()
def rewrite(
    module: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor], *, half: bool
) -> ExportedProgram:
    """Record a module through `torch.export`, and rewrite what coremltools does not know.

    All that depends on no input is computed here: visibility that is 1 everywhere, normalised kernels, positions of
    tokens.

    Args:
        module: In eval mode, on the CPU.
        arguments: Example inputs by place.
        named: Example inputs by name.
        half: Move numbers that FP16 cannot hold to its nearest normal number.

    Raises:
        Exception: Whatever `torch.export` finds.
    """
    graph: Any = _decomposed(module, arguments, named).module(check_guards=False)
    fold_constants(graph)
    if half:
        fit_to_half(graph)
    return _decomposed(graph, arguments, named)


def _decomposed(
    module: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor] | None = None
) -> ExportedProgram:
    exported: ExportedProgram = torch.export.export(module, arguments, named, strict=False)
    decomposed: ExportedProgram = exported.run_decompositions(DECOMPOSITIONS)
    return decomposed
