"""Fusion `vit`: the conformance suite, and what is particular to it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.errors import ModelError
from neuropbr_core.testing.fusion import FusionSuite
from neuropbr_fusion.attention import Attention, visibility_bias
from neuropbr_fusion.vit import Options
from neuropbr_fusion.vit.transformer import ViewTransformer


class TestViT(FusionSuite):
    use = "vit"
    option_sets = (
        {"dim": 32, "heads": 4, "depth": 2},
        {"dim": 18, "heads": 3, "depth": 1, "mlp_ratio": 1.5, "position": "none", "drop_path": 0.1, "dropout": 0.1},
    )


def small(**options: object) -> ViewTransformer:
    torch.manual_seed(0)
    return ViewTransformer(Options(**{"dim": 32, "heads": 4, "depth": 2} | options), 16)


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_size_at_the_defaults() -> None:
    with torch.device("meta"):
        fusion = ViewTransformer(Options(), 2048)
    dim, depth = 2048, 4
    attention, mlp, norms = 4 * dim**2 + 3 * dim, 8 * dim**2 + 5 * dim, 4 * dim
    expected = dim**2 + dim + depth * (attention + mlp + norms) + 2 * dim
    assert sum(value.numel() for value in fusion.parameters()) == expected == 205_625_344


def test_attention_equals_the_one_of_torch() -> None:
    torch.manual_seed(0)
    attention = Attention(24, 3, 0.0, 0.0)
    reference = nn.MultiheadAttention(24, 3, batch_first=True)
    with torch.no_grad():
        for value in attention.parameters():
            value.normal_(std=0.3)
        reference.in_proj_weight.copy_(
            torch.cat([attention.query.weight, attention.key.weight, attention.value.weight])
        )
        reference.in_proj_bias.copy_(torch.cat([attention.query.bias, torch.zeros(24), attention.value.bias]))
        reference.out_proj.load_state_dict(attention.out.state_dict())
    tokens, hidden = seeded(2, 7, 24), torch.zeros(2, 7, dtype=torch.bool)
    hidden[0, 2:5] = True
    expected, _ = reference(tokens, tokens, tokens, key_padding_mask=hidden)
    torch.testing.assert_close(attention(tokens, visibility_bias((~hidden).float())), expected)


def test_attention_has_no_bias_when_all_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flash attention takes no bias, so that even a bias of zeros would keep PyTorch from choosing it."""
    biases: list[Tensor | None] = []
    attend = F.scaled_dot_product_attention

    def noted(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
        biases.append(bias)
        return attend(query, key, value, bias, dropout)

    monkeypatch.setattr(F, "scaled_dot_product_attention", noted)
    fusion = small().eval()
    latents = seeded(2, 3, 16, 4, 5).requires_grad_()
    told = fusion(latents, None)
    assert biases == [None, None]
    (told_gradient,) = torch.autograd.grad(told.square().sum(), [latents])
    fused = fusion(latents, torch.ones(2, 3, 1, 4, 5))
    assert biases[2] is not None
    (gradient,) = torch.autograd.grad(fused.square().sum(), [latents])
    torch.testing.assert_close(told, fused, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(told_gradient, gradient, rtol=1e-4, atol=1e-4)


def test_bias_makes_weights_proportional_to_visibility() -> None:
    visible = torch.tensor([[1.0, 0.5, 0.25, 0.0]])
    weights = torch.softmax(visibility_bias(visible)[0, 0, 0], dim=0)
    torch.testing.assert_close(weights, visible[0] / 1.75)
    assert weights[3] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_bias_of_nothing_visible_is_finite(dtype: torch.dtype) -> None:
    bias = visibility_bias(torch.zeros(1, 3)).to(dtype)
    assert bias.isfinite().all()
    assert (bias - bias.new_tensor(100)).exp().max() == 0


def test_a_view_split_in_parts_counts_as_one() -> None:
    fusion = small().eval()
    view, other = seeded(1, 1, 16, 3, 4), 2 * seeded(1, 1, 16, 3, 4).flip(3)
    one = torch.ones(1, 1, 1, 3, 4)
    split = fusion(torch.cat([view, view, other], dim=1), torch.cat([0.25 * one, 0.75 * one, one], dim=1))
    torch.testing.assert_close(split, fusion(torch.cat([view, other], dim=1), torch.cat([one, one], dim=1)))


def test_pixels_that_a_view_does_not_see_do_not_matter() -> None:
    fusion = small().eval()
    latents, visible = seeded(1, 3, 16, 3, 4), torch.ones(1, 3, 1, 3, 4)
    visible[0, 1, :, :2] = 0
    other = latents.masked_fill(visible == 0, float("nan"))
    assert torch.equal(fusion(other, visible), fusion(latents, visible))


def test_views_see_each_other() -> None:
    fusion = small().eval()
    latents, visible = seeded(1, 2, 16, 3, 4), torch.ones(1, 2, 1, 3, 4)
    other = latents.clone()
    other[0, 1, :, 2, 3] += 1
    changed = (fusion(other, visible) - fusion(latents, visible)).abs().amax(dim=1)[0]
    assert (changed > 0).all()


def test_the_mask_is_never_larger_than_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    attend = F.scaled_dot_product_attention

    def watch(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float) -> Tensor:
        shapes.append((tuple(query.shape), mask.untyped_storage().nbytes() // mask.element_size()))
        return attend(query, key, value, mask, dropout)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watch)
    small()(seeded(2, 3, 16, 4, 5), torch.ones(2, 3, 1, 4, 5))
    assert shapes == [((2, 4, 60, 8), 2 * 60)] * 2


def test_position_tells_pixels_apart() -> None:
    latents, visible = seeded(1, 2, 16, 3, 4), torch.ones(1, 2, 1, 3, 4)
    moved = latents.roll((1, 1), dims=(3, 4))
    blind, placed = small(position="none").eval(), small().eval()
    torch.testing.assert_close(blind(moved, visible), blind(latents, visible).roll((1, 1), dims=(2, 3)))
    assert (placed(moved, visible) - placed(latents, visible).roll((1, 1), dims=(2, 3))).abs().max() > 0.01


def test_positions_are_sines_of_row_and_column() -> None:
    fusion = small(dim=8, heads=2)
    nn.init.zeros_(fusion.project.weight)
    tokens = fusion.embed(torch.zeros(1, 1, 16, 3, 5), torch.ones(1, 1, 1, 3, 5)).unflatten(1, (3, 5))[0]
    angles = torch.tensor([1.0, 0.01])
    row, column = 2 * angles, 4 * angles
    expected = torch.cat([row.sin(), column.sin(), row.cos(), column.cos()])
    torch.testing.assert_close(tokens[2, 4], expected)


def test_stochastic_depth_grows_with_depth() -> None:
    fusion = small(depth=4, drop_path=0.2)
    assert [block.drop_path.drop_prob for block in fusion.blocks] == pytest.approx([0.05, 0.1, 0.15, 0.2])


@pytest.mark.parametrize("option", ["dropout", "attention_dropout", "drop_path"])
def test_regularisation_acts_in_training_only(option: str) -> None:
    latents, visible = seeded(4, 2, 16, 3, 4), torch.ones(4, 2, 1, 3, 4)
    fusion = small(**{option: 0.5}).train()
    assert not torch.equal(fusion(latents, visible), fusion(latents, visible))
    plain = small().eval()
    torch.testing.assert_close(fusion.eval()(latents, visible), plain(latents, visible), rtol=0, atol=0)


def test_heads_must_divide_dim() -> None:
    with pytest.raises(ModelError) as raised:
        small(dim=100, heads=32)
    assert str(raised.value) == (
        "fusion vit: heads 32 does not divide dim 100; make dim a multiple of heads, such as 96"
    )


def test_sines_need_dim_divisible_by_four() -> None:
    with pytest.raises(ModelError, match=r"sine2d needs dim divisible by 4, found 6; or set `position: none`"):
        small(dim=6, heads=2)
