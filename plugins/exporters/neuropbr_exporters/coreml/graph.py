"""From a generator to a graph that coremltools converts well.

`export_graph` records the generator with a package's inputs and outputs. `rewrite` then replaces operators that
coremltools does not know or converts wrongly (`DECOMPOSITIONS`), computes constants ahead (`fold_constants`), and moves
numbers that FP16 cannot hold (`fit_to_half`).
"""

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from neuropbr_core.contracts import ExportSpec
from neuropbr_exporters.coreml.interface import package_inputs, to_levels
from neuropbr_exporters.graphs import MapsOnly, conversion

_aten = torch.ops.aten


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
        self.extras = list(spec.inputs)
        self.extras.remove("views")
        self.images = images

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Run the generator.

        Args:
            inputs: `(1, 3, S, S)` in [0, 1] for each view, then the other inputs of the spec in order.
        """
        # Core ML's images have no axis for views, so they come one by one and are joined here.
        views = torch.cat(inputs[: self.views]).unsqueeze(0)
        maps = super().forward(views, **dict(zip(self.extras, inputs[self.views :], strict=True)))
        if not self.images:
            return maps
        return tuple(map(to_levels, self.outputs, maps))


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
    """Record a module through `torch.export`, and rewrite it for coremltools.

    Args:
        module: In eval mode, on the CPU.
        arguments: Example inputs by place.
        named: Example inputs by name.
        half: Move numbers that FP16 cannot hold to its nearest normal number.

    Raises:
        Exception: Any error of `torch.export`.
    """
    # Guards are checks of shapes, which a package with fixed shapes does not need and coremltools does not know.
    graph: Any = decomposed(module, arguments, named).module(check_guards=False)
    fold_constants(graph)
    if half:
        fit_to_half(graph)
    # Recorded again, because only a fresh export agrees with the changed nodes on inputs, buffers and shapes.
    return decomposed(graph, arguments, named)


def decomposed(
    module: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor] | None = None
) -> ExportedProgram:
    """Record a module in the operators that coremltools knows.

    Args:
        module: In eval mode, on the CPU.
        arguments: Example inputs by place.
        named: Example inputs by name.
    """
    exported: ExportedProgram = torch.export.export(module, arguments, named, strict=False)
    result: ExportedProgram = exported.run_decompositions(DECOMPOSITIONS)
    return result


# Rewrites of the recorded graph


def fold_constants(module: GraphModule) -> None:
    """Compute all nodes that depend on no input, in place.

    Among them are visibility that is 1 everywhere, normalised kernels, and positions of tokens.

    Args:
        module: An exported program as a module.
    """
    known: dict[Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            # Parameters and buffers are named by dotted paths.
            known[node] = attrgetter(str(node.target))(module).detach()
        elif node.op == "call_function" and known.keys() >= set(node.all_input_nodes):
            arguments, options = map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*arguments, **options)
    for node, value in known.items():
        if node.op != "call_function" or not isinstance(value, Tensor):
            continue
        # Only where the known part of the graph ends: a node that known nodes alone read disappears with them.
        if known.keys() >= set(node.users):
            continue
        name = f"folded_{node.name}"
        # A copy, since views into a larger constant would store all of it.
        module.register_buffer(name, _shrunk(node, value).clone())
        with module.graph.inserting_before(node):
            constant = module.graph.get_attr(name)
        node.replace_all_uses_with(constant)
    module.graph.eliminate_dead_code()
    module.recompile()


# Operators that broadcast: a constant operand that is the same everywhere may be stored as one value.
_BROADCASTING = {
    _aten.add.Tensor,
    _aten.sub.Tensor,
    _aten.mul.Tensor,
    _aten.div.Tensor,
}


def _shrunk(node: Node, value: Tensor) -> Tensor:
    """One value for a constant that is the same everywhere, where its users broadcast it; otherwise all values.

    A mask of ones at 1,024 pixels would otherwise take 2 MiB of the package.
    """
    first = value.reshape(-1)[:1]
    if value.numel() <= 1 or not bool((value == first).all()):
        return value
    for user in node.users:
        # The other operand must have the shape of the result by itself.
        shapes = [used.meta["val"].shape for used in user.all_input_nodes if used is not node]
        if user.target not in _BROADCASTING or shapes != [user.meta["val"].shape]:
            return value
    return first.reshape([1] * value.dim())


# Operators whose numbers are bounds and substitutes. Numbers of other operators are factors and terms: 1e-6 · x is a
# meaning, and moving it would change the result.
_LIMITING = {
    _aten.clamp_min.default,
    _aten.clamp.default,
    _aten.masked_fill.Scalar,
    _aten.full.default,
    _aten.full_like.default,
}


def fit_to_half(module: GraphModule) -> None:
    """Move bounds and substitutes that FP16 cannot hold to its nearest normal number, in place.

    A bound like 1e-12 below which a divisor must not fall is 0 in FP16 (and 1e-6 is subnormal, which accelerators may
    round to 0), so that it bounds nothing; -3e38 is minus infinity. The results differ only where a value is between
    the number and its replacement.

    Args:
        module: An exported program as a module.
    """
    for node in module.graph.nodes:
        if node.target in _LIMITING:
            node.args = tuple(map(_nearest_normal_half, node.args))
    module.recompile()


def _nearest_normal_half(value: Any) -> Any:
    """A number as FP16 can hold it without being subnormal; 0 and anything but a float unchanged."""
    if not isinstance(value, float) or value == 0:
        return value
    half = torch.finfo(torch.float16)
    return math.copysign(min(max(abs(value), half.tiny), half.max), value)


# Operators that coremltools does not know, or converts wrongly, in terms of others

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    # Generators use `|` and `&` on truth values only, where bitwise and logical operators are the same.
    _aten.__or__.Tensor: torch.logical_or,
    _aten.__and__.Tensor: torch.logical_and,
}
"""For `ExportedProgram.run_decompositions`: operators and what replaces them."""


def decomposition(target: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function into `DECOMPOSITIONS`; where it returns NotImplemented, torch keeps the operator.

    Args:
        target: The operator that it replaces.
    """

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        DECOMPOSITIONS[target] = function
        return function

    return enter


@decomposition(_aten.where.ScalarOther)
def where_other(condition: Tensor, x: Tensor, other: float) -> Tensor:
    """`where` with a number at its end."""
    # coremltools knows `where` between tensors only; the number becomes a tensor of the other's type.
    return torch.where(condition, x, torch.full((), other, dtype=x.dtype, device=x.device))


@decomposition(_aten.where.ScalarSelf)
def where_self(condition: Tensor, x: float, other: Tensor) -> Tensor:
    """`where` with a number in its middle."""
    return torch.where(condition, torch.full((), x, dtype=other.dtype, device=other.device), other)


@decomposition(_aten.new_ones.default)
def new_ones(x: Tensor, size: list[int], dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    """Ones of a given size."""
    # Layout, device and pinned memory have no meaning in a package.
    return torch.full(size, 1, dtype=dtype or x.dtype)


@decomposition(_aten.logit.default)
def logit(x: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), with x limited to [eps, 1 - eps] where `eps` is given."""
    if eps is not None:
        x = x.clamp(eps, 1 - eps)
    return torch.log(x / (1 - x))


@decomposition(_aten.clamp_min.default)
def clamp_min(x: Tensor, bound: float) -> Any:
    """A lower bound of the input's type."""
    # A whole number may bound floating values in torch, but coremltools insists on equal types.
    if isinstance(bound, int) and x.is_floating_point():
        return _aten.clamp_min(x, float(bound))
    return NotImplemented


@decomposition(_aten.clamp_max.default)
def clamp_max(x: Tensor, bound: float) -> Any:
    """An upper bound of the input's type."""
    if isinstance(bound, int) and x.is_floating_point():
        return _aten.clamp_max(x, float(bound))
    return NotImplemented


@decomposition(_aten.gelu.default)
def gelu(x: Tensor, *, approximate: str = "none") -> Any:
    """The approximation by tanh, written out.

    Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2.
    """
    # coremltools drops the keyword, and would convert the approximation as the exact function.
    if approximate != "tanh":
        return NotImplemented
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
