"""The weighted sum of a recipe's losses, and their critics."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup
from neuropbr_core.kinds import LossEntryOptions
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.recipe.sections import Recipe

Freeze = Callable[[nn.Module | None], AbstractContextManager[None]]


def loss_weight(entry: LossEntryOptions, epoch: int) -> float:
    """Weight of a loss in an epoch: 0 before `start_epoch`, then growing in equal steps to `weight`."""
    if epoch < entry.start_epoch:
        return 0.0
    return entry.weight * min(1.0, (epoch - entry.start_epoch + 1) / (entry.ramp_epochs + 1))


def features_needed(recipe: Recipe) -> bool:
    """Whether a loss of the recipe reads the networks' intermediate features."""
    return any(part.needs.features for part in recipe.losses.values())


@contextmanager
def frozen(module: nn.Module | None) -> Iterator[None]:
    """Context in which a module's parameters take no gradient (gradients still flow through it)."""
    parameters = []
    if module is not None:
        # Only those that take gradients now are given back afterwards: others stay frozen.
        parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@dataclass
class Term:
    """A loss of the recipe with its schedule and, when it has one, its critic."""

    name: str
    loss: Loss
    entry: LossEntryOptions
    critic: nn.Module | None


class Objective:
    """What a run minimises.

    Attributes:
        terms: The losses in the recipe's order.
        needs_features: Whether one of them reads the generator's intermediate features.
    """

    def __init__(self, terms: list[Term], *, needs_features: bool = False) -> None:
        self.terms = terms
        self.needs_features = needs_features

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        features: Mapping[str, int] | None = None,
        teacher_features: Mapping[str, int] | None = None,
    ) -> "Objective":
        """Create the recipe's losses and their critics.

        Args:
            recipe: The recipe.
            features: Channels of the generator's intermediate features by name.
            teacher_features: The same of a live teacher.
        """
        setup = LossSetup(MAP_NAMES, recipe.data.crop_output_size, features or {}, teacher_features or {})
        terms = []
        for name, part in recipe.losses.items():
            loss = part.create(setup=setup)
            terms.append(Term(name, loss, part.entry, loss.make_critic()))
        return cls(terms, needs_features=features_needed(recipe))

    def active(self, epoch: int) -> list[tuple[Term, float]]:
        """Losses that count in this epoch, with their weights."""
        active = []
        for term in self.terms:
            weight = loss_weight(term.entry, epoch)
            if weight > 0:
                active.append((term, weight))
        return active

    def unclaimed(self, epoch: int) -> float:
        """Factor of the reconstruction losses in this epoch: what other losses' shares leave of them."""
        left = 1.0
        for term, weight in self.active(epoch):
            # A share grows with the loss's weight, so a ramp hands over slowly.
            left *= 1.0 - term.loss.share * weight / term.entry.weight
        return left

    def generator_loss(self, x: LossInput, freeze: Freeze = frozen) -> LossResult:
        """The generator's objective in `x.epoch`.

        Terms are named `<loss>/<term>`, `total`, and `reconstruction` for the part of the reconstruction losses at
        their full weights.

        Args:
            x: What the losses see.
            freeze: Makes the context in which a critic, or None, judges without learning.
        """
        total = x.valid.new_zeros(())
        reconstruction = x.valid.new_zeros(())
        terms: dict[str, Tensor] = {}
        unclaimed = self.unclaimed(x.epoch)
        for term, weight in self.active(x.epoch):
            with freeze(term.critic):
                result = term.loss(x, term.critic)
            factor = 1.0
            if term.loss.reconstruction:
                factor = unclaimed
            total = total + weight * factor * result.total
            if term.loss.reconstruction:
                # At its full weight, so that the numbers of two epochs compare while losses fade in and out.
                reconstruction = reconstruction + term.entry.weight * result.total.detach()
            for key, value in result.terms.items():
                terms[f"{term.name}/{key}"] = value
        return LossResult(total, {"total": total.detach(), "reconstruction": reconstruction, **terms})

    def reconstruction(self, x: LossInput) -> Tensor:
        """The weighted sum of the reconstruction losses, whatever their schedule: what decides which epoch is best.

        Losses that draw random numbers draw the same ones in every call, so that epochs can be compared, and training's
        own draws go on as if there had been no validation.
        """
        total = x.valid.new_zeros(())
        with same_draws():
            for term in self.terms:
                if term.loss.reconstruction:
                    total = total + term.entry.weight * term.loss(x, None).total
        return total


@contextmanager
def same_draws() -> Iterator[None]:
    """Seed the global CPU generator, and put its state back afterwards; generators of devices are left alone."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(0)  # and not torch.manual_seed, which seeds every device too
    try:
        yield
    finally:
        torch.set_rng_state(state)
