"""One training step: the generator's update over a group of batches, then the critics' on what it predicted."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim import Optimizer as TorchOptimizer

from neuropbr_core.contracts import LossInput, Prediction
from neuropbr_core.data.batches.prepare import Prepared
from neuropbr_core.errors import RunError
from neuropbr_core.evaluation.metrics import step_metrics
from neuropbr_core.model.generator import Generator
from neuropbr_core.recipe.sections import Optimizer, Recipe
from neuropbr_core.training.fabric import is_sharded
from neuropbr_core.training.lightning import Fabric
from neuropbr_core.training.loop.objective import Objective, Term, frozen
from neuropbr_core.training.loop.schedule import LearningRates

GRAD_NORM = "grad_norm"
"""Name of the generator's gradient norm in the logs; a critic's is `critic/<loss>/grad_norm`."""

_NO_LIMIT = torch.finfo(torch.float32).max
"""A norm that nothing is clipped to; unlike infinity, it leaves the gradients alone when it is multiplied out."""


def make_optimizer(
    options: Optimizer, parameters: list[nn.Parameter], lr: float, *, fused: bool = False
) -> TorchOptimizer:
    """The recipe's optimiser over `parameters`.

    Args:
        options: Section `optimizer`.
        parameters: What it updates.
        lr: Its learning rate to begin with.
        fused: Whether one kernel updates all parameters, which CUDA and CPU have.
    """
    match options.name:
        # The learning rate is set anew in every step (`LearningRates`); the one given here is a start.
        case "adamw":
            return AdamW(parameters, lr=lr, betas=options.betas, weight_decay=options.weight_decay, fused=fused or None)
        case "adam":
            return Adam(parameters, lr=lr, betas=options.betas, weight_decay=options.weight_decay, fused=fused or None)
        case _:
            return SGD(
                parameters, lr=lr, momentum=options.momentum, weight_decay=options.weight_decay, fused=fused or None
            )


def loss_input(prediction: Prediction, prepared: Prepared, epoch: int) -> LossInput:
    """What the losses see of a batch."""
    return LossInput(
        prediction,
        prepared.targets,
        prepared.views,
        prepared.visible,
        prepared.valid,
        epoch=epoch,
        teacher=prepared.teacher,
    )


class Stepped(NamedTuple):
    """What a step did.

    Attributes:
        scalars: Detached scalars on the device: `loss/…`, `critic/…`, gradient norms before clipping and, of a measured
            step, `<map>/<metric>`.
        skipped: Whether an update was dropped because something was not finite. If `scalars` is empty, no network was
            updated.
    """

    scalars: dict[str, Tensor]
    skipped: bool = False

    @property
    def updated(self) -> bool:
        """Whether the generator was updated; where only a critic's update was dropped, it was."""
        return bool(self.scalars)


class Share(NamedTuple):
    """What the losses see of a batch, and the batch's share of its group's samples."""

    x: LossInput
    weight: float


@dataclass
class Stepper:
    """Everything that a step touches.

    Attributes:
        fabric: Device and precision.
        generator: The generator, set up by Fabric.
        optimizer: Its optimiser, set up by Fabric.
        objective: Losses; their critics are set up by Fabric.
        critic_optimizers: By loss name, set up by Fabric.
        grad_clip_norm: Largest gradient norm; 0 does not clip.
        skip_nonfinite: Whether a step that is not finite is dropped; asking that waits for the device in every step.
        extra: Parameters of losses, which the generator's optimiser updates.
    """

    fabric: Fabric
    generator: nn.Module
    optimizer: TorchOptimizer
    objective: Objective
    critic_optimizers: dict[str, TorchOptimizer]
    grad_clip_norm: float
    skip_nonfinite: bool = False
    extra: Sequence[nn.Parameter] = ()

    @property
    def scaled(self) -> bool:
        """Whether a gradient scaler is at work, which drops overflowing updates by itself (fp16)."""
        return getattr(self.fabric.strategy.precision, "scaler", None) is not None

    def observe(self, prepared: Prepared, epoch: int) -> LossInput:
        """Predict a batch and gather what the losses see of it."""
        # Asked for only where a loss reads them: keeping features costs memory.
        features = {"features": True} if self.objective.needs_features else {}
        prediction = self.generator(*prepared.inputs, **features)
        return loss_input(prediction, prepared, epoch)

    def step(
        self, group: Iterable[Prepared], weights: Sequence[float], epoch: int, *, measured: bool = False
    ) -> Stepped:
        """Update the generator once over a group of batches, then the critics.

        Gradients of the batches add up, so that a group gives the update of one large batch. Generator and critics
        take turns, as ever; with the generator first, its activations are gone when the critics' are made.

        Args:
            group: The batches; the next one is asked for when the one before is done with.
            weights: Each batch's share of the group's samples; they add up to 1.
            epoch: Decides which losses count.
            measured: Also measure the predictions; that may wait for the device.
        """
        # Running statistics are copied, because a forward pass over something that is not finite spoils them.
        buffers: list[tuple[Tensor, Tensor]] = []
        if self.skip_nonfinite:
            buffers = [(buffer, buffer.clone()) for buffer in self.generator.buffers()]
        scalars = Sums()

        # The generator's gradients, one batch at a time.
        self.optimizer.zero_grad(set_to_none=True)
        critics_learn = any(term.critic is not None for term, _ in self.objective.active(epoch))
        shares: list[Share] = []
        for index, (prepared, weight) in enumerate(zip(group, weights, strict=True)):
            with self._synced(self.generator, index, weights):
                x = self.observe(prepared, epoch)
                result = self.objective.generator_loss(x, self._frozen, measured=measured)
                total = result.total
                if self.fabric.world_size > 1:
                    # Several processes wait for a gradient of every parameter, and losses may not look at all maps.
                    # Times zero, so that losses stay as they are, and gradients are there all the same.
                    total = total + torch.stack([0.0 * value.sum() for value in x.prediction.maps.values()]).sum()
                self.fabric.backward(weight * total)
            scalars.add(result.terms, weight, "loss/")
            if measured:
                # Measured apart only where no loss has gone over all maps anyway.
                scalars.add(result.metrics or step_metrics(x.prediction.maps, x.target, x.valid), weight)
            if critics_learn:
                # Without the graph behind it: critics learn from the predictions, and activations are freed here.
                shares.append(Share(replace(x, prediction=change_tensors(x.prediction, Tensor.detach)), weight))

        # Parameters of losses are in no network that Fabric wraps, so their gradients are averaged here.
        for parameter in self.extra:
            if self.fabric.world_size > 1 and parameter.grad is not None:
                self.fabric.all_reduce(parameter.grad, reduce_op="mean")

        # Losses of the group as one large batch would have had them: sums that are weighted by share.
        norm = self._update(self.generator, self.optimizer, scalars.values["loss/total"])
        if norm is None:
            for buffer, before in buffers:
                buffer.copy_(before)
            return Stepped({}, skipped=True)  # the critics would learn from a prediction that is not finite
        scalars.values[GRAD_NORM] = norm

        skipped = False
        for term, _ in self.objective.active(epoch):
            if term.critic is None:
                continue
            # All on the same predictions: the generator does not change in between.
            for _ in range(term.loss.critic_steps):
                critic_scalars = self._critic_step(term, term.critic, shares)
                skipped |= critic_scalars is None
            if critic_scalars is not None:  # of the last of its steps
                scalars.add({"critic/total": critic_scalars.pop("total")}, 1.0)
                scalars.add(critic_scalars, 1.0, f"critic/{term.name}/")
        return Stepped(scalars.values, skipped)

    def _critic_step(self, term: Term, critic: nn.Module, shares: Sequence[Share]) -> dict[str, Tensor] | None:
        """Update a critic once on what the generator predicted; returns its scalars, or None when it was dropped."""
        optimizer = self.critic_optimizers[term.name]
        optimizer.zero_grad(set_to_none=True)
        sums = Sums()
        for index, (x, weight) in enumerate(shares):
            with self._synced(critic, index, shares):
                result = term.critic_loss(x, critic)
                self.fabric.backward(weight * result.total)
            sums.add({"total": result.total.detach(), **result.terms}, weight)
        norm = self._update(critic, optimizer, sums.values["total"])
        if norm is None:
            return None
        return {**sums.values, GRAD_NORM: norm}

    def _synced(self, module: nn.Module, index: int, group: Sequence[Any]) -> AbstractContextManager[None]:
        """Context of a forward and backward pass: processes exchange gradients after the last batch of a group."""
        return self.fabric.no_backward_sync(module, enabled=index + 1 < len(group))  # type: ignore[arg-type]

    @contextmanager
    def _frozen(self, critic: nn.Module | None) -> Iterator[None]:
        """Context in which a critic judges: it takes no gradient, so processes must not wait for any."""
        with frozen(critic):
            if critic is None:
                yield
                return
            with self.fabric.no_backward_sync(critic):  # type: ignore[arg-type]
                yield

    def _update(self, module: nn.Module, optimizer: TorchOptimizer, loss: Tensor) -> Tensor | None:
        """Clip and apply gradients; returns their norm, or None when they were dropped."""
        # The loss, too: with a gradient scaler, an infinite norm alone does not tell that something is wrong.
        if self.skip_nonfinite and not self._finite(loss):
            return None
        limit = self.grad_clip_norm or _NO_LIMIT
        norm: Tensor = self.fabric.clip_gradients(module, optimizer, max_norm=limit, error_if_nonfinite=False)  # type: ignore[assignment]
        # With a gradient scaler a norm may be infinite: the scaler then drops the update and lowers its scale.
        if self.skip_nonfinite and not self.scaled and not self._finite(norm):
            return None
        optimizer.step()
        return norm.detach()

    def _finite(self, value: Tensor) -> bool:
        """Whether a scalar is finite in every process."""
        # All processes must decide alike: one that drops an update alone has other weights from then on.
        return self.fabric.strategy.reduce_boolean_decision(math.isfinite(value.item()))


class Sums:
    """Weighted sums of named scalars, on the device."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def add(self, values: dict[str, Tensor], weight: float, prefix: str = "") -> None:
        """Add `weight` times each value; its name in the sums is `prefix` and its key."""
        for key, value in values.items():
            name = prefix + key
            part = weight * value
            # Not added to a zero: the first part decides the sum's device and precision.
            if name in self.values:
                part = self.values[name] + part
            self.values[name] = part


def change_tensors(prediction: Prediction, change: Callable[[Tensor], Tensor]) -> Prediction:
    """The prediction with every map, logit and feature changed alike."""
    parts = []
    for part in prediction:
        parts.append({name: change(value) for name, value in part.items()})
    return Prediction(*parts)


def make_stepper(fabric: Fabric, recipe: Recipe, generator: Generator, objective: Objective) -> Stepper:
    """Let Fabric set up generator, critics and their optimisers.

    Parameters of the losses join the generator's optimiser. They belong to no network that Fabric wraps, so the step
    averages their gradients over processes itself.

    Raises:
        RunError: A loss has parameters, and weights are sharded.
    """
    options = recipe.optimizer
    training = recipe.training
    extra: list[nn.Parameter] = []
    for term in objective.terms:
        term.loss.to(fabric.device)
        for parameter in term.loss.parameters():
            # A loss may hold weights that are frozen, such as those of a network that compares features.
            if parameter.requires_grad:
                extra.append(parameter)
    # FSDP shards what it wraps, and its optimiser takes nothing else.
    if extra and is_sharded(fabric):
        raise RunError("training.strategy: fsdp cannot train losses that have weights of their own; write ddp")
    trainable = [p for p in generator.parameters() if p.requires_grad]
    # With a gradient scaler, a fused optimiser would undo the scale itself, after the gradients were clipped.
    fused = fabric.device.type in ("cuda", "cpu") and fabric.strategy.precision.precision != "16-mixed"
    raw = make_optimizer(options, [*trainable, *extra], options.lr, fused=fused)
    wrapped, optimizer = fabric.setup(generator, raw)
    # A critic has an optimiser of its own: generator and critic pull the same weights in opposite directions.
    critic_optimizers = {}
    for term in objective.terms:
        if term.critic is not None:
            raw = make_optimizer(options, list(term.critic.parameters()), options.critic_lr, fused=fused)
            term.critic, critic_optimizers[term.name] = fabric.setup(term.critic, raw)
    skips = training.on_nonfinite == "skip"
    return Stepper(fabric, wrapped, optimizer, objective, critic_optimizers, training.grad_clip_norm, skips, extra)


def make_rates(recipe: Recipe, stepper: Stepper) -> LearningRates:
    """The learning rates of the generator's and the critics' optimisers."""
    options = recipe.optimizer
    bases: list[tuple[Any, float]] = [(stepper.optimizer, options.lr)]
    for optimizer in stepper.critic_optimizers.values():
        bases.append((optimizer, options.critic_lr))
    return LearningRates(options, recipe.training.epochs, bases)
