"""The generator: encode every view, fuse, decode, one head a map."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from neuropbr_core.borders import continue_border
from neuropbr_core.contracts import Encoder, Fusion, Overview, Prediction
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import ALBEDO, MAPS
from neuropbr_core.model.decoder import Head, UNetDecoder, activate, albedo_logits
from neuropbr_core.model.merge import ViewMerge, by_sample, visibility_pyramid, visible_median
from neuropbr_core.model.profile import ProfilePath, overview_of
from neuropbr_core.model.ratios import ratio_images
from neuropbr_core.recipe.sections import ModelSection


def unsuitable(side: float, stride: int) -> str:
    """Explain why an encoder cannot take views of a side.

    Args:
        side: Side in pixels; the share of a larger side may be a fraction.
        stride: The encoder's coarsest stride: how many input pixels its last feature spans along each axis.

    Returns:
        `takes multiples of 32; the nearest is 96`, to be put behind the encoder's name; empty when it takes the side.
    """
    if side % stride == 0:
        return ""
    nearest = max(stride, round(side / stride) * stride)
    return f"takes multiples of {stride}; the nearest is {nearest}"


def recompute(module: nn.Module, *inputs: Any) -> Any:
    """Call a module, keeping only its inputs for the backward pass.

    Results, gradients and random draws are those of a plain call. So are running statistics: the second pass leaves
    them alone, where they would otherwise be updated twice.

    Source: T. Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.

    Args:
        module: The module.
        inputs: Its inputs; tensors, or lists and tuples of them.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still(module)

    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """Context in which normalisation by batch statistics does not move the running ones.

    Momentum 0 leaves them as they are, and autograd the same tensors to save; only the counter of batches needs help.
    """
    moving: list[tuple[_NormBase, float | None]] = []
    counts: list[tuple[Tensor, Tensor]] = []
    for part in module.modules():
        if not isinstance(part, _NormBase) or not part.track_running_stats:
            continue
        moving.append((part, part.momentum))
        if part.num_batches_tracked is not None:
            counts.append((part.num_batches_tracked, part.num_batches_tracked.clone()))
    for part, _ in moving:
        part.momentum = 0.0
    try:
        yield
    finally:
        for part, momentum in moving:
            part.momentum = momentum
        # The counter is a buffer, which batch norm increments in place, so the tensors of before are still the buffers.
        for counter, count in counts:
            counter.copy_(count)


class Generator(nn.Module):
    """Views of one material in, its PBR maps out.

    Args:
        encoder: Shared by all views.
        fusion: Built for the encoder's last channel count.
        section: The recipe's `model` section.

    Attributes:
        recomputed: Parts (`encoder`, `fusion`, `decoder`) whose activations are computed again in the backward pass.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder, fusion: Fusion, section: ModelSection) -> None:
        super().__init__()
        self.directed = section.directed
        self.ratio_images = section.ratio_images
        self.residual_albedo = section.albedo == "residual"
        self.encoder = encoder
        self.fusion = fusion
        self.recomputed: frozenset[str] = frozenset()
        self.merge = ViewMerge(section.skip_merge)
        self.decoder = UNetDecoder(
            fusion.out_channels,
            [self.merge.out_channels(channels) for channels in encoder.channels[:-1]],
            encoder.strides,
            section.decoder,
        )
        self.profile: ProfilePath | None = None
        if section.reflectance_profile:
            self.profile = ProfilePath(fusion.out_channels, self.decoder.out_channels)
        self.heads = nn.ModuleDict(
            {
                name: Head(self.decoder.out_channels, section.decoder.head_channels, spec.logit_channels)
                for name, spec in MAPS.items()
            }
        )
        if self.residual_albedo:
            # The head learns what the median of the views lacks, so it must begin with nothing to add.
            self.heads[ALBEDO.name].start_at_zero()  # type: ignore[operator]
        self.register_buffer("mean", torch.tensor(section.normalization.mean).view(1, 1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(section.normalization.std).view(1, 1, 3, 1, 1))

    @property
    def feature_channels(self) -> dict[str, int]:
        """Channels of the features that `forward` returns when asked for them, by name."""
        return {"latent": self.fusion.out_channels, **self.decoder.feature_channels}

    def forward(
        self,
        views: Float[Tensor, "B V 3 H W"],
        visible: Float[Tensor, "B V 1 H W"] | None = None,
        directions: Float[Tensor, "B V 3 H W"] | None = None,
        overview: Overview | None = None,
        *,
        features: bool = False,
        ratio_means: Float[Tensor, "B V 3 1 1"] | None = None,
    ) -> Prediction:
        """Predict the maps.

        Args:
            views: sRGB-encoded views in [0, 1], aligned when the recipe aligns; any V >= 1. H and W are divisible by
                the encoder's coarsest stride.
            visible: What each view sees, in [0, 1]; everything when None.
            directions: Unit vectors from each texture pixel to the view's camera, tangent space; required by a
                view-conditioned model.
            overview: The whole frame that the views are a crop of, for a model with a reflectance profile; default: the
                views are the whole frame.
            ratio_means: For a model with ratio images, and a tile of a frame: their means over the frame
                (`ratios.ratio_means`); default: those of the views.
            features: Also return the fused latent (`latent`) and the decoder's features.

        Returns:
            Maps of `(B, channels, H·s, W·s)`, s being the super-resolution.

        Raises:
            ModelError: The size does not suit the encoder, or directions are missing.
        """
        self._check(views, directions)
        all_visible = visible is None
        if visible is None:
            visible = views.new_ones(views.shape[0], views.shape[1], 1, *views.shape[-2:])
        latents, skips = self._encode(views, visible, directions, ratio_means)  # all views as one batch of images
        if all_visible:
            # Not ones, which nobody can tell from other values without looking: blocks are faster if they know.
            latent = self._run("fusion", latents[0], None)
        else:
            latent = self._run("fusion", *latents)
        if self.profile is not None and directions is not None:
            # What the whole frame reflects, at both ends of the decoder: before it for context, after it for detail.
            condition = self.profile(overview or overview_of(views, visible, directions))
            decoded, intermediate = self._run("decoder", self.profile.on_latent(latent, condition), skips)
            decoded = self.profile.on_features(decoded, condition)
        else:
            decoded, intermediate = self._run("decoder", latent, skips)
        # The heads see one pixel around; continued once here, not by each of them (`decoder.Head`).
        continued = continue_border(decoded, 1)
        logits = {name: head(continued) for name, head in self.heads.items()}
        if self.residual_albedo:
            median = visible_median(views, visible)
            if median.shape[-2:] != decoded.shape[-2:]:  # the maps are super-resolved
                median = F.interpolate(median, size=decoded.shape[-2:], mode="bilinear", align_corners=False)
            # Added before the sigmoid, so that the sum stays within the albedo's range.
            logits[ALBEDO.name] = logits[ALBEDO.name] + albedo_logits(median)
        maps = {name: activate(MAPS[name], value) for name, value in logits.items()}
        return Prediction(maps, logits, {"latent": latent, **intermediate} if features else {})

    def without_super_resolution(self) -> "Generator":
        """A generator of the same weights (shared, not copied) whose maps have the size of its input."""
        # `deepcopy` takes what its memo already holds for copied: the modules are new, the tensors are the same.
        shared = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        generator = copy.deepcopy(self, shared)
        generator.decoder.super_resolution = nn.Identity()
        return generator

    def _check(self, views: Tensor, directions: Tensor | None) -> None:
        height, width = views.shape[-2:]
        stride = self.encoder.strides[-1]
        for side in (width, height):
            if side % stride:  # while the model is traced, a side is a tensor, so the words are made only for an error
                reason = unsuitable(int(side), stride)
                raise ModelError(f"views are {width}×{height} pixels, but this encoder {reason}; resize or pad them")
        if self.directed and directions is None:
            raise ModelError(
                "this model was trained with model.view_conditioning: direction and needs the direction to the "
                "camera for every pixel; give cameras for the views"
            )

    def _run(self, name: str, *inputs: Any) -> Any:
        """Call a part, with or without keeping its activations."""
        part = getattr(self, name)
        if name in self.recomputed and torch.is_grad_enabled():
            return recompute(part, *inputs)
        return part(*inputs)

    def _encode(
        self, views: Tensor, visible: Tensor, directions: Tensor | None, ratio_means: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
        parts = [(views - self.mean) / self.std]
        if self.directed and directions is not None:
            parts.append(directions)
        if self.ratio_images:
            light = None
            if self.directed:
                light = directions
            parts.append(ratio_images(views, visible, light, ratio_means))
        # After normalisation 0 is the mean colour, so what a view does not see is not taken for black.
        images = torch.cat(parts, dim=2) * visible
        # Encoders know images alone: all views of all samples are one batch for them.
        pyramid = []
        for level in self._run("encoder", images.flatten(0, 1)):
            pyramid.append(by_sample(level, views))
        # The coarsest level is not merged here: the fusion block decides how views meet there.
        visibility = visibility_pyramid(visible, self.encoder.strides)
        skips = []
        for pair in zip(pyramid[:-1], visibility[:-1], strict=True):
            skips.append(self.merge(*pair))
        return (pyramid[-1], visibility[-1]), skips
