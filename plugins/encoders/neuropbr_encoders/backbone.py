"""A network of timm as an encoder: its stem stride, its start weights, and the parts of it that stay frozen."""

from collections.abc import Iterator
from typing import Any

import timm
from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.borders import BorderConv2d
from neuropbr_core.contracts import Encoder
from neuropbr_encoders.pretrainable import PretrainableOptions
from neuropbr_encoders.start_weights import Network, load_start_weights

_TIMM_STEM_STRIDE = 2
"""Stride of the first convolution in every network of timm that this package uses."""


class TimmEncoder(Encoder):
    """The stages of a convolutional network of timm; each stage is one level of the pyramid.

    `stem_stride: 1` changes the stride of the first convolution and nothing else. The convolution keeps the shape of
    its weights, so ImageNet weights still fit. The features then have strides 1, 2, 4, 8, 16, not 2, 4, 8, 16, 32.

    Args:
        network: The network of timm.
        options: The recipe's options.
        in_channels: Channels of the images. When the start weights are for three channels, the weights of all further
            channels start at zero, so the encoder begins with the features that ImageNet gave to plain images.

    Raises:
        ModelError: The start weights cannot be read or downloaded, or they do not fit the network.
    """

    def __init__(self, network: Network, options: PretrainableOptions, in_channels: int) -> None:
        super().__init__()
        body: Any = timm.create_model(network.name, features_only=True, pretrained=False, in_chans=in_channels)
        ready = body.get_submodule(network.stem)
        # The stem works at the finest resolution, where zeros beyond the frame would leave a mark around every map.
        stem = BorderConv2d(
            in_channels, ready.out_channels, ready.kernel_size[0], options.stem_stride, bias=ready.bias is not None
        )
        stem.load_state_dict(ready.state_dict(), assign=True)  # timm's own initial weights
        body.set_submodule(network.stem, stem)
        self.channels = tuple(body.feature_info.channels())
        # timm computes its reductions for its own stem stride; the change above scales all of them.
        reductions = body.feature_info.reduction()
        self.strides = tuple(reduction * options.stem_stride // _TIMM_STEM_STRIDE for reduction in reductions)
        # A module on the meta device has no memory for weights; callers build one only to read channels and strides.
        if not stem.weight.is_meta:
            load_start_weights(body, network, options)
        self.body = body
        self._frozen_norms = options.freeze or options.freeze_batch_norm
        if options.freeze:
            self.requires_grad_(False)
        if options.freeze_batch_norm:
            for norm in self._batch_norms():
                norm.requires_grad_(False)
        # A new module is in train mode already; the call puts frozen batch norms into eval mode.
        self.train()

    def _batch_norms(self) -> Iterator[nn.BatchNorm2d]:
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                yield module

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Switch between train and eval mode; frozen batch norms stay in eval mode.

        Args:
            mode: True for train mode.

        Returns:
            The encoder.
        """
        super().train(mode)
        if self._frozen_norms:
            # In train mode a batch norm updates its running statistics even when its parameters need no gradient.
            for norm in self._batch_norms():
                norm.eval()
        return self

    def forward(self, images: Float[Tensor, "N C H W"]) -> list[Float[Tensor, "N c h w"]]:
        """Encode images.

        Args:
            images: Normalised images; H and W are divisible by `strides[-1]`.

        Returns:
            The outputs of the network's stages, finest first; output i has `channels[i]` channels and the size
            (H / strides[i], W / strides[i]).
        """
        features: list[Tensor] = self.body(images)
        return features
