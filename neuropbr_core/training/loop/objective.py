"""The weighted sum of a recipe's losses, and their critics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import FusedLosses, Loss, LossInput, LossResult, LossSetup
from neuropbr_core.errors import PluginBroken
from neuropbr_core.kinds import LossEntryOptions
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.model.spec import changes_in_place
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.registry.guarding import blaming_calls

Freeze = Callable[[nn.Module | None], AbstractContextManager[None]]


def loss_weight(entry: LossEntryOptions, epoch: int) -> float:
    """Weight of a loss in an epoch: 0 before `start_epoch`, then growing in equal steps to `weight`."""
    # Recipes count epochs from 1, and the loop counts them from 0.
    epochs = epoch + 2 - entry.start_epoch
    if epochs < 1:
        return 0.0
    return entry.weight * min(1.0, epochs / (entry.ramp_epochs + 1))


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


def _takes_gradients(x: LossInput) -> bool:
    return any(value.requires_grad for value in x.prediction.maps.values())


def _fault(result: object, learns: bool) -> str:
    """What is wrong with the result of a loss, in words; empty when nothing is."""
    if not isinstance(result, LossResult):
        return f"returned a {type(result).__name__}"
    total: object = result.total  # whatever the annotation says
    if not isinstance(total, Tensor):
        return f"its total is a {type(total).__name__}"
    if total.ndim != 0 or not total.is_floating_point():
        return f"its total has the shape {tuple(total.shape)} and the type {total.dtype}"
    if learns and not total.requires_grad:
        return "its total is detached from the predictions"
    if not isinstance(result.terms, dict) or not all(isinstance(name, str) for name in result.terms):
        return "its terms are no dictionary with texts as keys"
    for name, value in result.terms.items():
        if not isinstance(value, Tensor) or value.numel() != 1:
            return f"its term {name!r} is no scalar tensor"
    return ""


@dataclass
class Term:
    """A loss of the recipe with its schedule and, when it has one, its critic."""

    name: str
    loss: Loss
    entry: LossEntryOptions
    critic: nn.Module | None
    part: Chosen | None = None

    def __call__(self, x: LossInput, critic: nn.Module | None) -> LossResult:
        """Compute the generator's loss, and check that it is one.

        Raises:
            PluginBroken: The loss raised something, or returned anything but a scalar that gradients flow from; the
                message names its distribution and version.
        """
        compared = (*x.prediction.maps.values(), *x.prediction.logits.values(), *x.target.values(), x.valid)
        before = [changes_in_place(value) for value in compared]
        with blaming_calls(self.part, "its forward pass"):
            result = self.loss(x, critic)
        if [changes_in_place(value) for value in compared] != before:
            raise PluginBroken(
                f"losses.{self.name}: {self.author} is broken: its forward pass changes the maps in place, which other "
                f"losses and the gradients still read; report this to the authors of its package"
            )
        return self.checked(result, "forward", torch.is_grad_enabled() and _takes_gradients(x), x.valid.device)

    def critic_loss(self, x: LossInput, critic: nn.Module) -> LossResult:
        """Compute the critic's loss, and check that it is one.

        Raises:
            PluginBroken: As `__call__`.
        """
        with blaming_calls(self.part, "its critic_loss"):
            result = self.loss.critic_loss(x, critic)
        return self.checked(result, "critic_loss", torch.is_grad_enabled(), x.valid.device)

    @property
    def fused_by(self) -> type[FusedLosses] | None:
        """What may compute the loss together with others."""
        # Asked of the class itself: a subclass inherits the attribute, but perhaps not the forward pass that it is of.
        fused_by: type[FusedLosses] | None = vars(type(self.loss)).get("fused_by")
        if self.critic is not None:
            return None
        return fused_by

    @property
    def author(self) -> str:
        """The component with its distribution and version, for messages."""
        if self.part is None:
            return f"loss {self.name}"
        return str(self.part.declared)

    def checked(self, result: object, method: str, learns: bool, device: torch.device) -> LossResult:
        """Return the result of a method of the loss, if it is one, with terms as the logs need them.

        Args:
            result: What the method returned.
            method: Its name, for the message.
            learns: Whether gradients must flow from the total.
            device: The run's device.

        Returns:
            The total, and the terms as detached scalars without a dimension, all on `device`.

        Raises:
            PluginBroken: It is none.
        """
        fault = _fault(result, learns)
        if fault:
            raise PluginBroken(
                f"losses.{self.name}: {self.author} is broken: {method} must return a LossResult of a scalar tensor "
                f"that gradients flow from, but {fault}; report this to the authors of its package"
            )
        sound = cast("LossResult", result)
        # The logs stack the scalars of a step, and what still has its graph would keep the step's activations.
        terms = {name: value.detach().reshape(()).to(device) for name, value in sound.terms.items()}
        return LossResult(sound.total.to(device), terms)


class GeneratorLoss(NamedTuple):
    """The generator's objective.

    Attributes:
        total: Scalar to minimise.
        terms: Named scalars for the logs, detached, on the device.
        metrics: Errors of the predicted maps as `evaluation.metrics.step_metrics` names them, when they were asked for
            and came out of the losses' own computation; else empty.
    """

    total: Tensor
    terms: dict[str, Tensor]
    metrics: dict[str, Tensor]


class Objective:
    """What a run minimises.

    Args:
        terms: The losses in the recipe's order.
        needs_features: Whether one of them reads the generator's intermediate features.
        fused: Whether losses that allow it are computed together.

    Attributes:
        terms: The losses in the recipe's order.
        needs_features: Whether one of them reads the generator's intermediate features.
    """

    def __init__(self, terms: list[Term], *, needs_features: bool = False, fused: bool = True) -> None:
        self.terms = terms
        self.needs_features = needs_features
        self._fused = fused
        # By the losses that count, which change from epoch to epoch.
        self._groups: dict[tuple[str, ...], FusedLosses] = {}

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
            with blaming_calls(part, "its make_critic"):
                critic = loss.make_critic()
            term = Term(name, loss, part.entry, critic, part)
            if critic is not None and not isinstance(critic, nn.Module):
                raise PluginBroken(
                    f"losses.{name}: {term.author} is broken: make_critic must return a torch.nn.Module or None, but "
                    f"returned a {type(critic).__name__}; report this to the authors of its package"
                )
            terms.append(term)
        return cls(terms, needs_features=features_needed(recipe), fused=recipe.training.fused_losses == "auto")

    def fuses(self, term: Term) -> bool:
        """Whether a loss is computed together with others."""
        return self._fused and term.fused_by is not None

    def active(self, epoch: int) -> list[tuple[Term, float]]:
        """Losses that count in this epoch, with their weights."""
        active = []
        for term in self.terms:
            weight = loss_weight(term.entry, epoch)
            if weight > 0:
                active.append((term, weight))
        return active

    def joining(self, epoch: int) -> list[Term]:
        """Losses that count from this epoch on and did not before; those of the first epoch need no mention."""
        if epoch == 0:
            return []
        before = {term.name for term, _ in self.active(epoch - 1)}
        return [term for term, _ in self.active(epoch) if term.name not in before]

    def unclaimed(self, epoch: int) -> float:
        """Factor of the reconstruction losses in this epoch: what other losses' shares leave of them."""
        left = 1.0
        for term, weight in self.active(epoch):
            # A share grows with the loss's weight, so a ramp hands over slowly.
            left *= 1.0 - term.loss.share * weight / term.entry.weight
        return left

    def generator_loss(self, x: LossInput, freeze: Freeze = frozen, *, measured: bool = False) -> GeneratorLoss:
        """The generator's objective in `x.epoch`.

        Terms are named `<loss>/<term>`, `total`, and `reconstruction` for the part of the reconstruction losses at
        their full weights.

        Args:
            x: What the losses see.
            freeze: Makes the context in which a critic, or None, judges without learning.
            measured: Whether the errors of the maps are wanted, where they come out of the losses' computation.
        """
        total = x.valid.new_zeros(())
        reconstruction = x.valid.new_zeros(())
        terms: dict[str, Tensor] = {}
        unclaimed = self.unclaimed(x.epoch)
        active = self.active(x.epoch)
        fused, metrics = self._fused_results([term for term, _ in active], x, measured=measured)
        for term, weight in active:
            result = fused.get(term.name)
            if result is None:
                with freeze(term.critic):
                    result = term(x, term.critic)
            factor = 1.0
            if term.loss.reconstruction:
                factor = unclaimed
            total = total + weight * factor * result.total
            if term.loss.reconstruction:
                # At its full weight, so that the numbers of two epochs compare while losses fade in and out.
                reconstruction = reconstruction + term.entry.weight * result.total.detach()
            for key, value in result.terms.items():
                terms[f"{term.name}/{key}"] = value
        return GeneratorLoss(total, {"total": total.detach(), "reconstruction": reconstruction, **terms}, metrics)

    def reconstruction(self, x: LossInput) -> Tensor:
        """The weighted sum of the reconstruction losses, whatever their schedule: what decides which epoch is best.

        Losses that draw random numbers draw the same ones in every call, so that epochs can be compared, and training's
        own draws go on as if there had been no validation.
        """
        total = x.valid.new_zeros(())
        terms = [term for term in self.terms if term.loss.reconstruction]
        with same_draws():
            fused, _ = self._fused_results(terms, x)
            for term in terms:
                result = fused.get(term.name)
                if result is None:
                    result = term(x, None)
                total = total + term.entry.weight * result.total
        return total

    def _fused_results(
        self, terms: Sequence[Term], x: LossInput, *, measured: bool = False
    ) -> tuple[dict[str, LossResult], dict[str, Tensor]]:
        """Compute the losses that allow it together; returns their results by name, and errors of the maps."""
        groups: dict[type[FusedLosses], list[Term]] = {}
        for term in terms:
            fused_by = term.fused_by
            if fused_by is not None and self.fuses(term):
                groups.setdefault(fused_by, []).append(term)
        results: dict[str, LossResult] = {}
        metrics: dict[str, Tensor] = {}
        learns = torch.is_grad_enabled() and _takes_gradients(x)
        for fused_by, group in groups.items():
            names = tuple(term.name for term in group)
            with blaming_calls(group[0].part, f"{fused_by.__name__}, which computes it together with others,"):
                if names not in self._groups:
                    self._groups[names] = fused_by([term.loss for term in group])
                # The errors of the maps are the same whoever measures them.
                outcome = self._groups[names](x, measured=measured and not metrics)
                for term, result in zip(group, outcome.results, strict=True):
                    results[term.name] = result
            for term in group:
                results[term.name] = term.checked(results[term.name], fused_by.__name__, learns, x.valid.device)
            metrics = metrics or outcome.metrics
        return results, metrics


@contextmanager
def same_draws() -> Iterator[None]:
    """Seed the global CPU generator, and put its state back afterwards; generators of devices are left alone."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(0)  # and not torch.manual_seed, which seeds every device too
    try:
        yield
    finally:
        torch.set_rng_state(state)
