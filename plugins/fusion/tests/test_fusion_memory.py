"""How the work and the largest tensor of fusion blocks grow with the number of pixels, counted on the meta device."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from neuropbr_core.contracts import Fusion
from neuropbr_fusion.convattn import Options as ConvAttnOptions
from neuropbr_fusion.convattn.fusion import ConvAttnFusion
from neuropbr_fusion.vit import Options as ViTOptions
from neuropbr_fusion.vit.transformer import ViewTransformer
from neuropbr_fusion.window import Options as WindowOptions
from neuropbr_fusion.window.transformer import WindowTransformer

VIEWS, CHANNELS = 3, 16


class LargestTensor(TorchDispatchMode):
    """Remembers how many numbers the largest result of any operator holds; a view of expanded memory counts small."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.numel = max(self.numel, leaf.untyped_storage().nbytes() // leaf.element_size())
        return result


def largest(fusion: Fusion, side: int) -> int:
    latents, visible = torch.zeros(1, VIEWS, CHANNELS, side, side), torch.ones(1, VIEWS, 1, side, side)
    with LargestTensor() as mode:
        fusion(latents, visible)
    return mode.numel


@pytest.mark.parametrize("side", [32, 64])
def test_convolutional_attention_is_linear_in_pixels(side: int) -> None:
    with torch.device("meta"):
        fusion = ConvAttnFusion(ConvAttnOptions(channels=20, expansion=2), CHANNELS)
        assert largest(fusion, side) == VIEWS * 2 * 20 * side**2


@pytest.mark.parametrize("side", [32, 64])
def test_explicit_attention_is_quadratic_in_pixels(side: int) -> None:
    with torch.device("meta"):  # where attention is computed operator by operator, as exported models do
        fusion = ViewTransformer(ViTOptions(dim=32, heads=4, depth=2), CHANNELS)
        assert largest(fusion, side) == 4 * (VIEWS * side**2) ** 2


@pytest.mark.parametrize("side", [32, 64])
def test_windowed_attention_is_linear_in_pixels(side: int) -> None:
    with torch.device("meta"):
        fusion = WindowTransformer(WindowOptions(dim=16, heads=2, depth=2, window=4), CHANNELS)
        # The scores of each token with the keys of its window, or with the pooled ones.
        assert largest(fusion, side) == VIEWS * side**2 * 2 * VIEWS * max(4 * 4, 7 * 7)


def operations(fusion: Fusion, side: int) -> int:
    with FlopCounterMode(display=False) as counter:
        fusion(torch.zeros(1, VIEWS, CHANNELS, side, side))
    return counter.get_total_flops()


def test_operations_of_windows_grow_with_pixels_and_those_of_whole_frames_with_their_square() -> None:
    with torch.device("meta"):
        window = WindowTransformer(WindowOptions(dim=64, heads=4), CHANNELS)
        vit = ViewTransformer(ViTOptions(dim=64, heads=4), CHANNELS)
        for side in (64, 96, 100, 256):
            assert 3.9 < operations(window, 2 * side) / operations(window, side) < 4.2
            assert 12 < operations(vit, 2 * side) / operations(vit, side) < 16.1
