"""Rewrites of an exported graph: constants computed ahead, and numbers that FP16 can hold."""

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

_aten = torch.ops.aten
_BROADCASTING = {
    _aten.add.Tensor,
    _aten.sub.Tensor,
    _aten.mul.Tensor,
    _aten.div.Tensor,
}
"""Operators in which a constant may have fewer values than it stands for."""
_LIMITING = {
    _aten.clamp_min.default,
    _aten.clamp.default,
    _aten.masked_fill.Scalar,
    _aten.full.default,
    _aten.full_like.default,
}
"""Operators whose numbers are bounds and substitutes, not factors."""
_HALF = torch.finfo(torch.float16)


def fold_constants(module: GraphModule) -> None:
    """Compute all nodes that depend on no input, in place.

    Args:
        module: An exported program as a module.
    """
    known: dict[Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            known[node] = _attribute(module, node.target)
        elif node.op == "call_function" and all(used in known for used in node.all_input_nodes):
            arguments, options = map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*arguments, **options)
    for node in [node for node in known if node.op == "call_function"]:
        if isinstance(known[node], Tensor) and any(user not in known for user in node.users):
            _replace(module, node, known[node])
    module.graph.eliminate_dead_code()
    module.recompile()


def fit_to_half(module: GraphModule) -> None:
    """Move bounds and substitutes that FP16 cannot hold to its nearest normal number, in place.

    A bound like 1e-12 below which a divisor must not fall is 0 in FP16 (and 1e-6 is subnormal, which accelerators may
    take for 0), so that it bounds nothing; -3e38 is minus infinity. The results differ only where a value lies between
    the number and what it becomes.

    Args:
        module: An exported program as a module.
    """
    for node in module.graph.nodes:
        if node.target in _LIMITING:
            node.args = tuple(_fit(item) for item in node.args)
    module.recompile()


def _fit(value: Any) -> Any:
    if not isinstance(value, float) or value == 0:
        return value
    sign = -1.0 if value < 0 else 1.0
    return sign * min(max(abs(value), _HALF.tiny), _HALF.max)


def _replace(module: GraphModule, node: Node, value: Tensor) -> None:
    name = f"folded_{node.name}"
    module.register_buffer(name, _shrunk(node, value).clone())
    with module.graph.inserting_before(node):
        constant = module.graph.get_attr(name)
    node.replace_all_uses_with(constant)


def _shrunk(node: Node, value: Tensor) -> Tensor:
    """One value for a constant that is the same everywhere, where its users broadcast it back."""
    if (
        value.numel() > 1
        and bool((value == value.reshape(-1)[0]).all())
        and all(_broadcasts(u, node) for u in node.users)
    ):
        return value.reshape(-1)[:1].reshape([1] * value.dim())
    return value


def _broadcasts(user: Node, constant: Node) -> bool:
    """Whether the other operand has the shape of the result by itself."""
    shapes = [used.meta["val"].shape for used in user.all_input_nodes if used is not constant]
    return user.target in _BROADCASTING and shapes == [user.meta["val"].shape]


def _attribute(module: GraphModule, target: Any) -> Tensor:
    value: Any = module
    for part in str(target).split("."):
        value = getattr(value, part)
    return value.detach()  # type: ignore[no-any-return]
