"""timm's ConvNeXt as an encoder."""

import timm
from jaxtyping import Float
from torch import Tensor

from acme_neuropbr.convnext import Options
from neuropbr_core.contracts import Encoder


class ConvNeXtPyramid(Encoder):
    """Four levels at strides 4, 8, 16 and 32; the decoder doubles twice more without a skip."""

    def __init__(self, options: Options, in_channels: int) -> None:
        super().__init__()
        self.body = timm.create_model(
            f"convnext_{options.variant}", features_only=True, in_chans=in_channels, drop_path_rate=options.drop_path
        )
        self.channels = tuple(self.body.feature_info.channels())
        self.strides = tuple(self.body.feature_info.reduction())

    def forward(self, images: Float[Tensor, "N C H W"]) -> list[Tensor]:
        """Encode normalised images, finest level first."""
        return list(self.body(images))
