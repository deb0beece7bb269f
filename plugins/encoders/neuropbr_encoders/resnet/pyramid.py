"""The ResNet of timm as an encoder."""

from neuropbr_encoders.backbone import Network, TimmEncoder
from neuropbr_encoders.resnet import Options


class ResNetEncoder(TimmEncoder):
    """Stem and four stages of a ResNet; each is one level of the pyramid.

    Weights files of torchvision fit as well, because torchvision and timm give the layers the same names.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", table 1.

    Args:
        options: The recipe's options.
        in_channels: Channels of the images.

    Raises:
        ModelError: The start weights cannot be read or downloaded, or they do not fit the network.
    """

    def __init__(self, options: Options, in_channels: int) -> None:
        network = Network(encoder="resnet", name=options.variant, stem="conv1", classifier=("fc.",))
        super().__init__(network, options, in_channels)
