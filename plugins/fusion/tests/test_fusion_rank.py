"""What fusion blocks compute on has four axes at most, which mobile accelerators want; five are only reshaped."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from neuropbr_core.registry import default_registry

RESHAPING = {
    torch.ops.aten.view.default,
    torch.ops.aten.reshape.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.flatten.using_ints,
    torch.ops.aten.unflatten.int,
}


@pytest.mark.parametrize(
    ("use", "options"),
    [
        ("concat", {}),
        ("convattn", {"channels": 8, "kernel_size": 5, "blocks": 1}),
        ("vit", {"dim": 8, "heads": 2, "depth": 1}),
        ("window", {"dim": 8, "heads": 2, "depth": 2, "window": 2, "pooled": 2}),
    ],
)
def test_nothing_is_computed_on_five_axes(use: str, options: dict[str, object]) -> None:
    registry = default_registry()
    fusion: nn.Module = registry.create("fusion", use, registry.options("fusion", use)(**options), in_channels=16)
    inputs = torch.zeros(1, 3, 16, 4, 5), torch.ones(1, 3, 1, 4, 5)
    program = torch.export.export(fusion.eval(), inputs).run_decompositions({})
    computed = [
        (node.name, leaf.ndim)
        for node in program.graph.nodes
        if node.op == "call_function" and node.target not in RESHAPING
        for leaf in tree_leaves(node.meta.get("val"))
        if isinstance(leaf, Tensor)
    ]
    assert len(computed) > 10
    assert [name for name, axes in computed if axes > 4] == []
