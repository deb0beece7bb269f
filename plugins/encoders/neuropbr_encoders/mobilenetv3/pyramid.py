"""The MobileNetV3 of timm as an encoder."""

from neuropbr_encoders.backbone import Network, TimmEncoder
from neuropbr_encoders.mobilenetv3 import Options


class MobileNetV3Encoder(TimmEncoder):
    """MobileNetV3 without its classifier; the last block of each resolution is one level of the pyramid.

    The coarsest level has 960 channels (`small`: 576), the ones that the classifier would pool.

    Source: Howard et al. 2019, "Searching for MobileNetV3", tables 1 and 2.

    Args:
        options: The recipe's options.
        in_channels: Channels of the images.

    Raises:
        ModelError: The start weights cannot be read or downloaded, or they do not fit the network.
    """

    def __init__(self, options: Options, in_channels: int) -> None:
        network = Network(
            encoder="mobilenetv3",
            # 100 is timm's width multiplier in percent.
            name=f"mobilenetv3_{options.variant}_100",
            stem="conv_stem",
            # timm puts a further convolution between the pooling and the linear layer; a pyramid uses neither.
            classifier=("conv_head.", "classifier."),
        )
        super().__init__(network, options, in_channels)
