"""The UNet decoder and the heads: fused latent and merged skips in, the logits of every map out."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.borders import BorderConv2d
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MapSpec
from neuropbr_core.model.modulation import Modulation
from neuropbr_core.recipe.sections import Decoder as DecoderOptions


def _norm(kind: str, channels: int) -> nn.Module:
    match kind:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            return nn.GroupNorm(math.gcd(8, channels), channels)  # eight groups, or as many as divide the channels
        case _:
            return nn.Identity()


class ConvBlock(nn.Sequential):
    """Two 3×3 convolutions, each normalised and rectified."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            # A norm subtracts any bias again, so only a block without one has it.
            layers += [
                BorderConv2d(channels, out_channels, 3, bias=norm == "none"),
                _norm(norm, out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class GlobalPath(nn.Module):
    """Scales and shifts every pixel's features by what the whole frame looks like.

    Roughness and metalness are nearly one number a material, and no local window holds it. Source: the global track
    of Deschaintre et al. 2018, "Single-Image SVBRDF Capture with a Rendering-Aware Deep Network".
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * channels, channels)
        self.modulation = Modulation(channels, channels)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Modulate `x` by its own mean and maximum over the frame."""
        # The maximum too: a highlight that covers few pixels hardly changes the mean.
        statistics = torch.cat((x.mean(dim=(2, 3)), x.amax(dim=(2, 3))), dim=1)
        modulated: Tensor = self.modulation(x, F.relu(self.hidden(statistics)))
        return modulated


class SuperResolution(nn.Sequential):
    """Sub-pixel upscaling by 2 or 4 (Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution …")."""

    def __init__(self, channels: int, scale: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(scale))):  # twice by 2, not once by 4: the second step sees twice the pixels
            layers += [
                BorderConv2d(channels, 4 * channels, 3),
                nn.PixelShuffle(2),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNetDecoder(nn.Module):
    """Doubles the resolution step by step, joining the skip of that resolution where the encoder has one.

    Source: Ronneberger et al. 2015, "U-Net".

    Args:
        latent_channels: Channels of the fused latent.
        skip_channels: Channels of the merged skips, finest first.
        strides: The encoder's strides, finest first; the last is the latent's.
        options: The recipe's `model.decoder`.

    Attributes:
        out_channels: Channels of the returned features.
        feature_channels: Channels of the intermediate features by name.

    Raises:
        ModelError: `options.channels` has the wrong length.
    """

    def __init__(
        self, latent_channels: int, skip_channels: Sequence[int], strides: Sequence[int], options: DecoderOptions
    ) -> None:
        super().__init__()
        steps = int(math.log2(strides[-1]))
        widths = options.channels
        if widths is None:
            # Half the channels for twice the side, as in U-Net; 32 are enough for four heads to read.
            widths = tuple(max(32, 512 >> step) for step in range(max(steps, 1)))
        if len(widths) != max(steps, 1):
            raise ModelError(
                f"model.decoder.channels lists {len(widths)} widths, but this encoder needs {max(steps, 1)}: one for "
                f"each doubling from its coarsest stride to full resolution"
            )
        self.global_path: nn.Module = nn.Identity()
        if options.global_path:
            self.global_path = GlobalPath(latent_channels)
        # An encoder whose first stride is 4 has no skip at stride 2: that step doubles the resolution without one.
        by_stride = dict(zip(strides[:-1], range(len(skip_channels)), strict=True))
        self.skip_indices = [by_stride.get(strides[-1] >> (step + 1)) for step in range(steps)]
        self.blocks = nn.ModuleList()
        channels = latent_channels
        for index, width in zip(self.skip_indices or [None], widths, strict=True):
            skip = 0
            if index is not None:
                skip = skip_channels[index]
            self.blocks.append(ConvBlock(channels + skip, width, options.norm))
            channels = width
        self.feature_channels = {f"decoder{step}": width for step, width in enumerate(widths)}
        # Without upscaling it is an empty sequence, so that state dicts and traces have one form.
        self.super_resolution: nn.Module = SuperResolution(channels, options.super_resolution or 1)
        self.out_channels = channels

    def forward(
        self, latent: Float[Tensor, "B C h w"], skips: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "B out H W"], dict[str, Tensor]]:
        """Decode.

        Args:
            latent: The fused latent.
            skips: Merged skips, finest first.

        Returns:
            Features at output size, and the intermediate features by name (`decoder0` is the coarsest).
        """
        x = self.global_path(latent)
        features = {}
        for step, block in enumerate(self.blocks):
            # An encoder that never halves its input has one block and nothing to double.
            if step < len(self.skip_indices):
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
                index = self.skip_indices[step]
                if index is not None:
                    x = torch.cat((x, skips[index]), dim=1)
            x = block(x)
            features[f"decoder{step}"] = x
        upscaled: Tensor = self.super_resolution(x)
        return upscaled, features


def activate(spec: MapSpec, logits: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
    """Turn a head's logits into the map, in the map's range (see `neuropbr_core.maps`).

    Args:
        spec: The map.
        logits: `(B, spec.logit_channels, H, W)`; computed on in float32 whatever comes in.

    Returns:
        The map, float32 `(B, spec.channels, H, W)`.
    """
    # Under autocast a head emits bfloat16, whose eight significant bits would be visible as steps in a map.
    logits = logits.float()
    if spec.activation == "sigmoid":
        return logits.sigmoid()
    # Slopes (p, q): the normal of a height field is normalize((p, q, 1)), which always faces the viewer.
    return F.normalize(torch.cat((logits, torch.ones_like(logits[:, :1])), dim=1), dim=1)


def albedo_logits(color: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Inverse of the sigmoid, with `color` kept half an 8-bit step away from 0 and 1 so that it stays finite."""
    margin = 0.5 / 255
    return torch.logit(color.float().clamp(margin, 1 - margin))


class Head(nn.Sequential):
    """A 3×3 and a 1×1 convolution that emit one map's logits.

    Its input is one pixel wider on each side than its output. The generator continues the frame once for all heads
    (`borders.continue_border`), because each head would otherwise keep a copy of the largest features for the backward
    pass.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, hidden, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, out_channels, 1),
        )

    def start_at_zero(self) -> None:
        """Make the head emit exactly zero until it is trained, as a residual should."""
        # Only the last layer: with all at zero, no gradient would reach the first.
        for parameter in self[-1].parameters():
            nn.init.zeros_(parameter)
