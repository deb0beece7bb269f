"""The adversarial game between the generator and a PatchGAN critic.

The critic is a stack of convolutions in which every output judges one patch of the maps.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup, Maps
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAPS
from neuropbr_losses.gan import SIMPLE_LAYERS, SIMPLE_WIDTH, Options
from neuropbr_losses.masking import conceal

KERNEL = 4
"""Side of all kernels; a multiple of the stride 2, so that every pixel enters equally many windows."""


class PatchCritic(nn.Module):
    """Scores overlapping patches of a set of maps.

    The critic has `layers` 4×4 convolutions of stride 2 and then two of stride 1, all padded by 1. The channels double
    from `width` up to eight times `width`. Instance normalisation without running statistics follows every convolution
    but the first and the last. It normalises each image by itself, so scores do not depend on the rest of the batch:
    the critic works at batch size 1, real and predicted maps can share one forward pass, and a frozen critic has no
    buffers that could change. Batch normalisation fails on each of these points.

    Args:
        in_channels: Channels of all maps together.
        layers: Number of convolutions of stride 2. The receptive field is 9·2^layers - 2 pixels: 70 for 3, 142 for 4,
            574 for 6.
        width: Channels of the first layer.
        sigmoid: Whether the critic ends in a sigmoid, so that scores are probabilities (float32) instead of logits.

    Source: P. Isola, J.-Y. Zhu, T. Zhou, A. Efros, "Image-to-Image Translation with Conditional Adversarial
    Networks", CVPR 2017, sections 3.2.2 and 6.1.2.
    """

    def __init__(self, in_channels: int, layers: int, width: int, sigmoid: bool = False) -> None:
        super().__init__()
        self.minimum_size = minimum_size(layers)
        self.sigmoid = sigmoid
        widths = [width * min(2**depth, 8) for depth in range(layers + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], KERNEL, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for depth in range(1, layers + 1):
            stride = 1
            if depth < layers:
                stride = 2
            blocks += [
                # No bias: the normalisation subtracts it with the mean.
                nn.Conv2d(widths[depth - 1], widths[depth], KERNEL, stride=stride, padding=1, bias=False),
                nn.InstanceNorm2d(widths[depth], affine=True),
                nn.LeakyReLU(0.2),
            ]
        self.stack = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, KERNEL, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # N(0, 0.02²), as Isola et al. 2017, section 6.2, start their networks.
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 h w"]:
        """Score patches.

        Args:
            maps: All maps in [-1, 1], concatenated along channels; H and W at least `minimum_size`.

        Returns:
            The score of each patch, higher for real maps: a logit, or with `sigmoid` a probability. The height is
            h = floor(H / 2^layers) - 2, and likewise the width.

        Raises:
            ModelError: The maps are too small to give one score.
        """
        if min(maps.shape[-2:]) < self.minimum_size:
            raise ModelError(too_small(maps.shape[-1], maps.shape[-2], self.minimum_size))
        scores: Tensor = self.stack(maps)
        if self.sigmoid:
            # In float32, because a probability in half precision reaches 1 at a logit of 8, and its logarithm 0.
            return scores.float().sigmoid()
        return scores


def minimum_size(layers: int) -> int:
    """Compute the smallest maps that a critic can judge.

    Args:
        layers: Number of convolutions of stride 2.

    Returns:
        The side of the maps in pixels that leaves one score.
    """
    # 3 pixels must be left after the halvings, because each of the two last convolutions takes one away.
    return 3 << layers


def too_small(width: int, height: int, minimum: int) -> str:
    """Write the error message for maps that are too small for the critic; all arguments are pixels."""
    return (
        f"loss gan: maps are {width}×{height} pixels, but this critic needs at least {minimum}×{minimum}; "
        "lower `layers` or train on larger crops"
    )


class GanLoss(Loss):
    """Adversarial loss: a critic learns to tell true maps from predicted ones, and the generator learns to deceive it.

    With the critic's scores `real` of the true maps and `fake` of the predicted ones, averaged over patches and images:

    - `hinge`: the critic minimises mean max(0, 1 - real) + mean max(0, 1 + fake); the generator minimises -mean fake,
      which may be negative.
    - `bce`: the critic minimises -log p(real) - log(1 - p(fake)) and the generator -log p(fake), where p is the sigmoid
      of the score; both are at least 0.

    The critic sees all maps concatenated along channels, `(B, C, H, W)`, each scaled from its range to [-1, 1], with
    invalid pixels zeroed in true and predicted maps alike. It judges both in one forward pass.

    The generator's only term is `generator`. The critic's terms are `real` and `fake`, whose sum is its loss.

    Args:
        options: The form of the loss, and the critic.
        setup: Names the predicted maps and their size.

    Source: I. Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, section 3 (`bce`); J. Lim, J. Ye,
    "Geometric GAN", 2017, and T. Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR
    2018, equations 16 and 17 (`hinge`).

    Example:
        >>> from neuropbr_core.contracts import LossSetup
        >>> from neuropbr_core.testing import example_loss_input
        >>> from neuropbr_losses.gan import Options
        >>> loss = GanLoss(Options(layers=2, width=4), LossSetup(maps=("albedo",), output_size=32))
        >>> critic = loss.make_critic()
        >>> critic.minimum_size
        12
        >>> x = example_loss_input(("albedo",))
        >>> loss.critic_loss(x, critic).total.item() > 0
        True
        >>> loss(x, critic).total.shape
        torch.Size([])
    """

    reconstruction = False

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        self.options = options
        self.maps = setup.maps
        self.output_size = setup.output_size
        self.critic_steps = options.critic_steps
        if options.critic == "simple":
            self.layers = SIMPLE_LAYERS
            self.width = SIMPLE_WIDTH
        else:
            self.layers = options.layers
            self.width = options.width

    def make_critic(self) -> PatchCritic:
        """Build the critic.

        Returns:
            The critic for all maps of the generator.

        Raises:
            ModelError: The maps in training are too small for it.
        """
        # Checked here, so that a run with too small crops stops before its first step.
        minimum = minimum_size(self.layers)
        if self.output_size < minimum:
            raise ModelError(too_small(self.output_size, self.output_size, minimum))
        channels = sum(MAPS[name].channels for name in self.maps)
        return PatchCritic(channels, self.layers, self.width, self.options.sigmoid)

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:
        """Compute the generator's loss.

        Args:
            x: The prediction.
            critic: The frozen critic that `make_critic` built.

        Returns:
            How far the critic is from taking the prediction for real.

        Raises:
            ModelError: There is no critic.
        """
        if critic is None:
            raise ModelError("loss gan: forward was called without the critic that make_critic built; pass it")
        scores = critic(self._judged(x.prediction.maps, x.valid)).float()
        if self.options.mode == "hinge":
            # Without a margin: a generator that stops once its maps score 1 would stop learning too early.
            total = -scores.mean()
            return LossResult(total, {"generator": total.detach()})
        # Non-saturating: log(1 - p) has no slope while the critic is sure, which is when the generator needs it.
        total = self._cost(scores, real=True)
        return LossResult(total, {"generator": total.detach()})

    def critic_loss(self, x: LossInput, critic: nn.Module) -> LossResult:
        """Compute the critic's loss on the true maps and the detached prediction.

        Args:
            x: The prediction and its target.
            critic: The critic, which gets the gradient.

        Returns:
            The sum of both costs, and each of them.
        """
        real = self._judged(x.target, x.valid)
        fake = self._judged(x.prediction.maps, x.valid).detach()
        scores_of_real, scores_of_fake = critic(torch.cat((real, fake))).float().chunk(2)
        cost_of_real = self._cost(scores_of_real, real=True)
        cost_of_fake = self._cost(scores_of_fake, real=False)
        terms = {"real": cost_of_real.detach(), "fake": cost_of_fake.detach()}
        return LossResult(cost_of_real + cost_of_fake, terms)

    def _judged(self, maps: Maps, valid: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B C H W"]:
        """Concatenate maps as the critic sees them: in [-1, 1], zero where no view sees the texture."""
        scaled: list[Tensor] = []
        for name in self.maps:
            low, high = MAPS[name].value_range
            values = (maps[name].float() - low) * (2 / (high - low)) - 1
            scaled.append(conceal(values, valid))
        return torch.cat(scaled, dim=1)

    def _cost(self, scores: Tensor, *, real: bool) -> Tensor:
        """Compute the mean cost of scores that should say `real`, or should say the opposite."""
        if self.options.sigmoid:
            probability = scores
            if not real:
                probability = 1 - scores
            # The clamp keeps the logarithm finite for a critic that is certain and wrong.
            return -probability.clamp(min=torch.finfo(scores.dtype).tiny).log().mean()
        # Costs grow with scores of maps that are fake, and with negated scores of maps that are real.
        error = scores
        if real:
            error = -scores
        if self.options.mode == "hinge":
            return F.relu(1 + error).mean()
        # -log sigmoid(-error), without overflow.
        return F.softplus(error).mean()
