"""Fusion `convattn`: the conformance suite, and what is particular to it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.errors import ModelError
from neuropbr_core.testing.fusion import FusionSuite
from neuropbr_fusion.convattn import Options
from neuropbr_fusion.convattn.fusion import ConvAttnBlock, ConvAttnFusion, LargeKernel, SqueezeExcitation


class TestConvAttn(FusionSuite):
    use = "convattn"
    option_sets = ({"channels": 12, "kernel_size": 5}, {"channels": 8, "blocks": 1, "expansion": 1.5, "squeeze": 0.1})


def small(**options: object) -> ConvAttnFusion:
    torch.manual_seed(0)
    return ConvAttnFusion(Options(**{"channels": 8, "kernel_size": 5} | options), 16)


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_size_at_the_defaults() -> None:
    with torch.device("meta"):
        fusion = ConvAttnFusion(Options(), 960)
    wide, squeezed = 640, 80
    mixing, attention = (321 * wide + 641 * 320), (321 * squeezed + 81 * 320)
    block = 2 * 320 + mixing + attention + 320
    expected = 960 * 320 + 320 * 17 * 17 + 3 * block + (3 * 320 + 1) * 320
    assert sum(value.numel() for value in fusion.parameters()) == expected
    assert fusion.out_channels == 320


def test_all_blocks_share_one_kernel() -> None:
    fusion = small(blocks=3)
    large = [name for name, value in fusion.named_parameters() if value.ndim == 4 and value.shape[-1] > 1]
    assert large == ["kernel.weight"]
    assert fusion.kernel.weight.shape == (8, 1, 5, 5)


def test_the_kernel_has_unit_norm_in_every_channel() -> None:
    kernel = LargeKernel(6, 17)
    norms = kernel().flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(6))
    with torch.no_grad():
        kernel.weight.mul_(50)
    torch.testing.assert_close(kernel().flatten(1).norm(dim=1), norms)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_kernel_of_zeros_stays_finite_in_every_precision(dtype: torch.dtype) -> None:
    kernel = LargeKernel(2, 3).to(dtype)
    nn.init.zeros_(kernel.weight)
    kernel().sum().backward()
    assert torch.equal(kernel(), torch.zeros_like(kernel.weight))
    assert kernel.weight.grad.isfinite().all()


def test_a_unit_kernel_keeps_the_variance_of_noise() -> None:
    torch.manual_seed(2)
    kernel = LargeKernel(16, 17)()
    gathered = F.conv2d(torch.randn(4, 16, 64, 64), kernel, groups=16)
    assert gathered.var().item() == pytest.approx(1, abs=0.1)


def test_squeeze_excitation_by_hand() -> None:
    attention = SqueezeExcitation(1, 1)
    for layer, weight, bias in ((attention.squeeze, 2.0, 1.0), (attention.excite, 0.5, -2.0)):
        nn.init.constant_(layer.weight, weight)
        nn.init.constant_(layer.bias, bias)
    x = torch.tensor([1.0, 3.0, 100.0, -7.0]).view(1, 1, 2, 2)
    visible = torch.tensor([1.0, 0.5, 0.0, 0.0]).view(1, 1, 2, 2)
    mean = (1 + 0.5 * 3) / 1.5
    gate = ((0.5 * (2 * mean + 1) - 2) + 3) / 6
    torch.testing.assert_close(attention(x, visible), x * gate)


def test_a_block_of_no_scale_is_the_identity() -> None:
    block = ConvAttnBlock(4, 8, 2).eval()
    x, visible = seeded(1, 4, 6, 7), torch.ones(1, 1, 6, 7)
    kernel = LargeKernel(4, 3)()
    assert not torch.equal(block(x, kernel, visible), x)
    nn.init.zeros_(block.scale)
    assert torch.equal(block(x, kernel, visible), x)


def test_a_pixel_is_reached_from_half_a_kernel_away_and_no_farther_by_one_block() -> None:
    fusion = small(blocks=1, kernel_size=5).eval()
    nn.init.zeros_(fusion.blocks[0].attention.excite.weight)  # the gate looks at the whole frame
    latents, visible = seeded(1, 2, 16, 9, 9), torch.ones(1, 2, 1, 9, 9)
    other = latents.clone()
    other[0, 1, :, 4, 4] += 1
    changed = (fusion(other, visible) - fusion(latents, visible)).abs().amax(dim=1)[0] > 0
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[2:7, 2:7] = True
    assert torch.equal(changed, expected)


def test_pixels_that_a_view_does_not_see_do_not_matter() -> None:
    fusion = small().eval()
    latents, visible = seeded(1, 3, 16, 3, 4), torch.ones(1, 3, 1, 3, 4)
    visible[0, 1, :, :2] = 0
    other = latents.masked_fill(visible == 0, float("nan"))
    assert torch.equal(fusion(other, visible), fusion(latents, visible))


def test_the_kernel_can_be_folded_into_a_constant() -> None:
    fusion = small(blocks=2).eval()
    inputs = seeded(1, 2, 16, 6, 6), torch.ones(1, 2, 1, 6, 6)
    program = torch.export.export(fusion, inputs).run_decompositions({})
    signature = program.graph_signature
    depthwise = [
        node for node in program.graph.nodes if node.target is torch.ops.aten.conv2d.default and node.args[-1] == 8
    ]
    assert len(depthwise) == 2
    for node in depthwise:
        assert _sources(node.args[1]) == {
            name for name, target in signature.inputs_to_parameters.items() if target == "kernel.weight"
        }


def _sources(node: torch.fx.Node) -> set[str]:
    """Names of the inputs of a graph that a node is computed from."""
    if node.op == "placeholder":
        return {node.name}
    return {name for parent in node.all_input_nodes for name in _sources(parent)}


@pytest.mark.parametrize("size", [2, 12])
def test_an_even_kernel_is_refused(size: int) -> None:
    with pytest.raises(ModelError) as raised:
        small(kernel_size=size)
    assert str(raised.value) == f"fusion convattn: kernel_size {size} is even; take {size - 1} or {size + 1}"
