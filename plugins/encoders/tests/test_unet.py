"""Encoder `unet`: the conformance suite, and what is particular to it."""

from typing import Literal

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neuropbr_core.testing.encoder import EncoderSuite
from neuropbr_encoders.unet import Options
from neuropbr_encoders.unet.pyramid import UNetEncoder


class TestUNet(EncoderSuite):
    use = "unet"
    option_sets = (
        {"channels": (8, 16, 24)},
        {"channels": (8, 48), "downsampling": "strided", "norm": "group"},
        {"channels": (4,), "norm": "none"},
    )


def test_defaults_are_six_levels() -> None:
    with torch.device("meta"):
        encoder = UNetEncoder(Options(), 3)
    assert encoder.channels == (64, 128, 256, 512, 1024, 2048)
    assert encoder.strides == (1, 2, 4, 8, 16, 32)
    inputs = (3, *encoder.channels)
    convolutions = sum(9 * inputs[i] * out + 9 * out * out for i, out in enumerate(encoder.channels))
    norms = sum(4 * out for out in encoder.channels)
    assert sum(value.numel() for value in encoder.parameters()) == convolutions + norms


def test_levels_are_pooled_and_convolved_twice() -> None:
    encoder = UNetEncoder(Options(channels=(4, 6), norm="none"), 3)
    images = torch.randn(1, 3, 8, 8)
    first, second = encoder(images)
    (a, b), (c, d) = [
        [module for module in level.modules() if isinstance(module, nn.Conv2d)] for level in encoder.levels
    ]

    def convolved(x: torch.Tensor, convolution: nn.Conv2d) -> torch.Tensor:
        return F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), convolution.weight, convolution.bias))

    expected = convolved(convolved(images, a), b)
    torch.testing.assert_close(first, expected)
    pooled = F.max_pool2d(expected, 2)
    torch.testing.assert_close(second, convolved(convolved(pooled, c), d))


@pytest.mark.parametrize(("downsampling", "pools", "strides"), [("max_pool", 2, 0), ("strided", 0, 2)])
def test_downsampling(downsampling: Literal["max_pool", "strided"], pools: int, strides: int) -> None:
    modules = list(UNetEncoder(Options(channels=(4, 6, 8), downsampling=downsampling), 3).modules())
    assert sum(isinstance(module, nn.MaxPool2d) for module in modules) == pools
    assert sum(isinstance(module, nn.Conv2d) and module.stride == (2, 2) for module in modules) == strides


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 16), (7, 1)])
def test_groups_divide_channels(channels: int, groups: int) -> None:
    encoder = UNetEncoder(Options(channels=(channels,), norm="group"), 3)
    assert {module.num_groups for module in encoder.modules() if isinstance(module, nn.GroupNorm)} == {groups}


def test_activations_keep_their_scale_without_norm() -> None:
    torch.manual_seed(0)
    encoder = UNetEncoder(Options(channels=(64, 64, 64, 64), norm="none", downsampling="strided"), 64)
    with torch.no_grad():
        coarsest = encoder(torch.randn(2, 64, 64, 64))[-1]
    assert 0.3 < coarsest.square().mean().sqrt() < 3
