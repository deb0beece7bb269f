"""A network of timm as an encoder: stem stride, start weights, and freezing that holds."""

from typing import Any

import timm
from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.contracts import Encoder
from neuropbr_encoders.pretrainable import PretrainableOptions
from neuropbr_encoders.start_weights import Network, load_start_weights

_TIMM_STEM_STRIDE = 2


class TimmEncoder(Encoder):
    """The stages of a convolutional network of timm, each a level of the pyramid.

    With `stem_stride: 1` only the first convolution changes its step; it has the weights of the usual network, so
    ImageNet weights still fit. Its features then lie at strides 1, 2, 4, 8, 16 instead of 2, 4, 8, 16, 32.

    Args:
        network: Which network of timm.
        options: The recipe's options.
        in_channels: Channels of the images. Those behind the first three start at zero when start weights are for
            three, so that the encoder starts with what it knows of plain images.

    Raises:
        ModelError: Start weights cannot be had or do not fit.
    """

    def __init__(self, network: Network, options: PretrainableOptions, in_channels: int) -> None:
        super().__init__()
        body: Any = timm.create_model(network.name, features_only=True, pretrained=False, in_chans=in_channels)
        stem = body.get_submodule(network.stem)
        stem.stride = (options.stem_stride, options.stem_stride)
        self.channels = tuple(body.feature_info.channels())
        self.strides = tuple(
            reduction * options.stem_stride // _TIMM_STEM_STRIDE for reduction in body.feature_info.reduction()
        )
        if not stem.weight.is_meta:
            load_start_weights(body, network, options)
        self.body = body
        self._frozen_norms = options.freeze or options.freeze_batch_norm
        if options.freeze:
            self.requires_grad_(False)
        if options.freeze_batch_norm:
            self._norms.requires_grad_(False)
        self.train()

    @property
    def _norms(self) -> nn.ModuleList:
        return nn.ModuleList(module for module in self.body.modules() if isinstance(module, nn.BatchNorm2d))

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Switch mode, except that frozen batch norms stay in eval mode: in train mode their statistics would move."""
        super().train(mode)
        if self._frozen_norms:
            self._norms.eval()
        return self

    def forward(self, images: Float[Tensor, "N C H W"]) -> list[Float[Tensor, "N c h w"]]:
        """Encode images.

        Args:
            images: Normalised images; H and W are divisible by `strides[-1]`.

        Returns:
            The outputs of the network's stages, finest first.
        """
        features: list[Tensor] = self.body(images)
        return features
