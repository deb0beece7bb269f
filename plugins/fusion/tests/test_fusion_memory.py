"""How the largest tensor of a fusion block grows with the number of pixels, by counting on the meta device."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from neuropbr_core.contracts import Fusion
from neuropbr_fusion.convattn import Options as ConvAttnOptions
from neuropbr_fusion.convattn.fusion import ConvAttnFusion
from neuropbr_fusion.vit import Options as ViTOptions
from neuropbr_fusion.vit.transformer import ViewTransformer

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
