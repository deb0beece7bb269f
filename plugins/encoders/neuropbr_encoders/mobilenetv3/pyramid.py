"""The MobileNetV3 of timm as an encoder."""

from neuropbr_encoders.backbone import TimmEncoder
from neuropbr_encoders.mobilenetv3 import Options
from neuropbr_encoders.start_weights import Network


class MobileNetV3Encoder(TimmEncoder):
    """MobileNetV3 up to its last convolution, the last block of each resolution a level of the pyramid.

    The coarsest level has the 960 (small: 576) channels that classification pools.

    Source: Howard et al. 2019, "Searching for MobileNetV3", tables 1 and 2.

    Args:
        options: The recipe's options.
        in_channels: Channels of the images.

    Raises:
        ModelError: Start weights cannot be had or do not fit.
    """

    def __init__(self, options: Options, in_channels: int) -> None:
        network = Network(
            encoder="mobilenetv3",
            name=f"mobilenetv3_{options.variant}_100",
            stem="conv_stem",
            classifier=("conv_head.", "classifier."),
        )
        super().__init__(network, options, in_channels)
