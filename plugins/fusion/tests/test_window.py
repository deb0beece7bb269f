"""Fusion `window`: the conformance suite, and what is particular to it."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.errors import ModelError
from neuropbr_core.testing.fusion import FusionSuite
from neuropbr_fusion.window import Options
from neuropbr_fusion.window.transformer import Layout, PooledAttention, Windows, WindowTransformer, cell_shares


class TestWindow(FusionSuite):
    use = "window"
    option_sets = (
        {"dim": 32, "heads": 4, "depth": 2, "window": 2, "pooled": 2},
        {"dim": 18, "heads": 3, "depth": 3, "mlp_ratio": 1.5, "window": 4, "drop_path": 0.1, "dropout": 0.1},
        {"dim": 8, "heads": 2, "depth": 1},
    )


def small(**options: object) -> WindowTransformer:
    torch.manual_seed(0)
    return WindowTransformer(Options(**{"dim": 32, "heads": 4, "depth": 2, "window": 4, "pooled": 2} | options), 16)


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("size", "sides"), [((3, 8), (3, 4)), ((5, 9), (3, 3)), ((4, 4), (4, 4)), ((1, 13), (1, 4)), ((17, 16), (4, 4))]
)
def test_windows_are_equal_and_hardly_exceed_the_frame(size: tuple[int, int], sides: tuple[int, int]) -> None:
    windows = Windows.of(2, *size, largest=4)
    assert (windows.window_height, windows.window_width) == sides
    assert windows.below < windows.rows
    assert windows.beside < windows.columns
    tokens = seeded(3, 2 * size[0] * size[1], 5)
    assert torch.equal(windows.join(windows.cut(tokens)), tokens)


def test_a_window_holds_the_same_place_of_all_views() -> None:
    windows = Windows.of(2, 4, 6, largest=3)
    view, row, column = torch.meshgrid(torch.arange(2), torch.arange(4), torch.arange(6), indexing="ij")
    places = torch.stack((view, row, column), dim=-1).reshape(1, 48, 3).double()
    first, second, third, _ = windows.cut(places)
    for window, rows, columns in ((first, {0, 1}, {0, 1, 2}), (second, {0, 1}, {3, 4, 5}), (third, {2, 3}, {0, 1, 2})):
        assert set(window[:, 0].tolist()) == {0, 1}
        assert set(window[:, 1].tolist()) == rows
        assert set(window[:, 2].tolist()) == columns


@pytest.mark.parametrize(("pixels", "cells"), [(12, 4), (5, 3), (2, 3), (1, 7)])
def test_cells_are_means_over_equal_parts(pixels: int, cells: int) -> None:
    """Each pixel repeated often enough is cut by no border, and a plain mean over its copies is the truth."""
    values = seeded(pixels)
    expected = values.repeat_interleave(cells).reshape(cells, pixels).mean(dim=1)
    torch.testing.assert_close(cell_shares(pixels, cells, values) @ values, expected)


def test_attention_has_no_bias_when_all_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flash attention takes no bias. Windows that exceed the frame need one, the pooled frame does not."""
    biases: list[bool] = []
    attend = F.scaled_dot_product_attention

    def noted(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
        biases.append(bias is not None)
        return attend(query, key, value, bias, dropout)

    monkeypatch.setattr(F, "scaled_dot_product_attention", noted)
    fusion = small().eval()
    fusion(seeded(2, 3, 16, 8, 12), None)
    fusion(seeded(2, 3, 16, 8, 9), None)
    fusion(seeded(2, 3, 16, 8, 11), None)
    fusion(seeded(2, 3, 16, 8, 8), torch.ones(2, 3, 1, 8, 8))
    assert biases == [False, False, False, False, True, False, True, True]


def test_attention_within_windows_is_that_of_each_window_alone() -> None:
    fusion = small(depth=1, window=3).eval()
    fusion.positions[0].near.weight.data.zero_()
    latents = seeded(1, 2, 16, 6, 3)
    alone = torch.cat((fusion(latents[..., :3, :]), fusion(latents[..., 3:, :])), dim=2)
    torch.testing.assert_close(fusion(latents), alone)


def test_the_exchange_looks_at_the_means_of_cells() -> None:
    """With as many cells as pixels, it is attention to all pixels of all views."""
    torch.manual_seed(0)
    attention = PooledAttention(8, 2, 0.0, 0.0, pooled=3)
    tokens = seeded(2, 2 * 9, 8)
    windows = Windows.of(2, 3, 3, largest=4)
    keys = attention.norm(tokens)
    mixed = attention.mix(attention.query(tokens), attention.key(keys), attention.value(keys), None)
    torch.testing.assert_close(attention(tokens, Layout(windows, None, None)), attention.out(mixed))


def test_what_is_far_away_matters_through_the_exchange_alone() -> None:
    latents = seeded(1, 2, 16, 8, 8)
    other = latents.clone()
    other[0, 1, :, 7, 7] += 1
    # The first block looks at windows of 4 × 4, the second at the frame.
    for depth, reached in ((1, 16), (2, 64)):
        fusion = small(depth=depth).eval()
        fusion.positions[0].near.weight.data.zero_()
        changed = (fusion(other) - fusion(latents)).abs().amax(dim=1)[0] > 0
        assert int(changed.sum()) == reached


def test_neighbours_beyond_the_window_matter_too() -> None:
    fusion = small(depth=1).eval()
    latents = seeded(1, 1, 16, 8, 8)
    other = latents.clone()
    other[..., 0, 4] += 1
    changed = (fusion(other) - fusion(latents)).abs().amax(dim=1)[0] > 0
    # The pixel is in the second window, and the convolution brings it into the first.
    assert bool(changed[:4, :4].all())
    assert not bool(changed[4:].any())


def test_a_view_split_in_parts_counts_as_one() -> None:
    fusion = small().eval()
    view, other = seeded(1, 1, 16, 3, 5), 2 * seeded(1, 1, 16, 3, 5).flip(3)
    one = torch.ones(1, 1, 1, 3, 5)
    split = fusion(torch.cat([view, view, other], dim=1), torch.cat([0.25 * one, 0.75 * one, one], dim=1))
    torch.testing.assert_close(split, fusion(torch.cat([view, other], dim=1), torch.cat([one, one], dim=1)))


def test_pixels_that_a_view_does_not_see_do_not_matter() -> None:
    fusion = small().eval()
    latents, visible = seeded(1, 3, 16, 5, 6), torch.ones(1, 3, 1, 5, 6)
    visible[0, 1, :, :2] = 0
    other = latents.masked_fill(visible == 0, float("nan"))
    assert torch.equal(fusion(other, visible), fusion(latents, visible))


def test_tokens_know_their_neighbours_and_not_their_place_in_the_frame() -> None:
    """Crops and whole frames are therefore treated alike."""
    fusion = small(depth=1).eval()
    tile = seeded(1, 2, 16, 4, 4)
    fused = fusion(tile.repeat(1, 1, 1, 3, 3))[..., 4:8, 4:8]
    torch.testing.assert_close(fusion(tile.repeat(1, 1, 1, 5, 5))[..., 8:12, 8:12], fused)
    mirrored = fusion(tile.flip(4).repeat(1, 1, 1, 3, 3))[..., 4:8, 4:8].flip(3)
    assert (mirrored - fused).abs().max() > 0.01


def test_heads_must_divide_dim() -> None:
    with pytest.raises(ModelError) as raised:
        small(dim=100, heads=32)
    assert str(raised.value) == (
        "fusion window: heads 32 does not divide dim 100; make dim a multiple of heads, such as 96"
    )
