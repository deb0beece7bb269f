"""The adversarial game between the generator and a PatchGAN critic."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup, Maps
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAPS
from neuropbr_losses.gan import SIMPLE_LAYERS, SIMPLE_WIDTH, Options
from neuropbr_losses.gan.critic import PatchCritic, minimum_size, too_small
from neuropbr_losses.masking import conceal

Penalty = Callable[[Tensor], Tensor]


class GanLoss(Loss):
    """The generator makes maps that the critic takes for real; the critic tells them apart.

    The critic sees all maps behind each other, each scaled from its range to [-1, 1], with invalid pixels zeroed in
    real and predicted maps alike, and judges both in one forward. Scores are averaged over patches and images.

    - `hinge`: critic mean max(0, 1 - real) + mean max(0, 1 + fake), generator -mean fake; it may be negative.
    - `bce`: critic -log p(real) - log(1 - p(fake)), generator -log p(fake), p being the sigmoid of the score.

    Terms: `generator`; for the critic `real` and `fake`, whose sum is its loss.

    Args:
        options: The game and the critic.
        setup: Names the predicted maps and their size.

    Source: I. Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, section 3 (`bce`); J. Lim, J. Ye,
    "Geometric GAN", 2017, and T. Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR
    2018, equations 16 and 17 (`hinge`).
    """

    reconstruction = False

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        self.options = options
        self.maps, self.output_size = setup.maps, setup.output_size
        self.critic_steps = options.critic_steps
        simple = options.critic == "simple"
        self.layers, self.width = (SIMPLE_LAYERS, SIMPLE_WIDTH) if simple else (options.layers, options.width)
        self._real, self._fake = _penalties(options)

    def make_critic(self) -> PatchCritic:
        """Build the critic.

        Raises:
            ModelError: The maps in training are too small for it; known here, before the first step.
        """
        if self.output_size < (minimum := minimum_size(self.layers)):
            raise ModelError(too_small(self.output_size, self.output_size, minimum))
        channels = sum(MAPS[name].channels for name in self.maps)
        return PatchCritic(channels, self.layers, self.width, self.options.sigmoid)

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:
        """The generator's loss: how far the critic is from taking the prediction for real."""
        if critic is None:
            raise ModelError("loss gan: forward was called without the critic that make_critic built; pass it")
        scores = critic(self._judged(x.prediction.maps, x.valid)).float()
        total = -scores.mean() if self.options.mode == "hinge" else self._real(scores)
        return LossResult(total, {"generator": total.detach()})

    def critic_loss(self, x: LossInput, critic: nn.Module) -> LossResult:
        """The critic's loss on the true maps and the detached prediction."""
        real = self._judged(x.target, x.valid)
        fake = self._judged(x.prediction.maps, x.valid).detach()
        of_real, of_fake = critic(torch.cat((real, fake))).float().chunk(2)
        terms = {"real": self._real(of_real), "fake": self._fake(of_fake)}
        return LossResult(terms["real"] + terms["fake"], {name: term.detach() for name, term in terms.items()})

    def _judged(self, maps: Maps, valid: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B C H W"]:
        return torch.cat([conceal(_scaled(name, maps[name]), valid) for name in self.maps], dim=1)


def _scaled(name: str, values: Tensor) -> Tensor:
    low, high = MAPS[name].value_range
    return (values.float() - low) * (2 / (high - low)) - 1


def _penalties(options: Options) -> tuple[Penalty, Penalty]:
    """What a score costs when it should say real, and when it should say fake."""
    if options.mode == "hinge":
        return _hinge_real, _hinge_fake
    return (_probability_real, _probability_fake) if options.sigmoid else (_logit_real, _logit_fake)


def _hinge_real(scores: Tensor) -> Tensor:
    return F.relu(1 - scores).mean()


def _hinge_fake(scores: Tensor) -> Tensor:
    return F.relu(1 + scores).mean()


def _logit_real(scores: Tensor) -> Tensor:
    return F.softplus(-scores).mean()


def _logit_fake(scores: Tensor) -> Tensor:
    return F.softplus(scores).mean()


def _probability_real(scores: Tensor) -> Tensor:
    return -scores.clamp(min=torch.finfo(scores.dtype).tiny).log().mean()


def _probability_fake(scores: Tensor) -> Tensor:
    return _probability_real(1 - scores)
