"""One training step: the generator's update over a group of batches, then the critics' on what it predicted."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim import Optimizer as TorchOptimizer

from neuropbr_core.contracts import LossInput, Prediction
from neuropbr_core.data.batches.prepare import Prepared
from neuropbr_core.recipe.sections import Optimizer
from neuropbr_core.training.loop.measuring import step_metrics
from neuropbr_core.training.loop.objective import Objective, Term, frozen

GRAD_NORM = "grad_norm"
"""Name of the generator's gradient norm in the logs; a critic's is `critic/<loss>/grad_norm`."""

_NO_LIMIT = torch.finfo(torch.float32).max
"""A norm that nothing is clipped to; unlike infinity, it leaves the gradients alone when it is multiplied out."""


def make_optimizer(options: Optimizer, parameters: list[nn.Parameter], lr: float) -> TorchOptimizer:
    """The recipe's optimiser over `parameters`."""
    match options.name:
        case "adamw":
            return AdamW(parameters, lr=lr, betas=options.betas, weight_decay=options.weight_decay)
        case "adam":
            return Adam(parameters, lr=lr, betas=options.betas, weight_decay=options.weight_decay)
        case _:
            return SGD(parameters, lr=lr, momentum=options.momentum, weight_decay=options.weight_decay)


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
        skipped: Whether an update was dropped because something was not finite; without scalars, all of them.
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
        buffers = self._buffers() if self.skip_nonfinite else []
        scalars = Sums()
        seen = self._backward(group, weights, epoch, scalars, measured=measured)
        self._share_extra()
        norm = self._update(self.generator, self.optimizer, scalars.values["loss/total"])
        if norm is None:
            for buffer, before in buffers:
                buffer.copy_(before)
            return Stepped({}, skipped=True)
        scalars.values[GRAD_NORM] = norm
        skipped = self._critic_steps(seen, epoch, scalars)
        return Stepped(scalars.values, skipped)

    def _backward(
        self, group: Iterable[Prepared], weights: Sequence[float], epoch: int, scalars: "Sums", *, measured: bool
    ) -> list[Share]:
        """Add up the generator's gradients; returns what critics will need, without the generator's activations."""
        self.optimizer.zero_grad(set_to_none=True)
        keep = any(term.critic is not None for term, _ in self.objective.active(epoch))
        seen: list[Share] = []
        for index, (prepared, weight) in enumerate(zip(group, weights, strict=True)):
            with self._synced(self.generator, index, weights):
                x = self.observe(prepared, epoch)
                result = self.objective.generator_loss(x, self._frozen)
                self.fabric.backward(weight * (result.total + self._touch(x)))
            scalars.add({f"loss/{name}": value for name, value in result.terms.items()}, weight)
            if measured:
                scalars.add(step_metrics(x.prediction.maps, x.target, x.valid), weight)
            if keep:
                seen.append(Share(replace(x, prediction=_detach(x.prediction)), weight))
        return seen

    def _critic_steps(self, seen: Sequence[Share], epoch: int, scalars: "Sums") -> bool:
        """Update the critics on what the generator predicted; returns whether an update was dropped."""
        dropped = False
        for term, _ in self.objective.active(epoch):
            if term.critic is None:
                continue
            for _ in range(term.loss.critic_steps):
                found = self._critic_step(term, term.critic, seen)
                dropped |= found is None
            if found is not None:
                prefix = f"critic/{term.name}/"
                scalars.add({"critic/total": found.pop("total")}, 1.0)
                scalars.add({f"{prefix}{key}": value for key, value in found.items()}, 1.0)
        return dropped

    def _critic_step(self, term: Term, critic: nn.Module, seen: Sequence[Share]) -> dict[str, Tensor] | None:
        optimizer = self.critic_optimizers[term.name]
        optimizer.zero_grad(set_to_none=True)
        sums = Sums()
        for index, (x, weight) in enumerate(seen):
            with self._synced(critic, index, seen):
                result = term.loss.critic_loss(x, critic)
                self.fabric.backward(weight * result.total)
            sums.add({"total": result.total.detach(), **result.terms}, weight)
        norm = self._update(critic, optimizer, sums.values["total"])
        return None if norm is None else {**sums.values, GRAD_NORM: norm}

    def _synced(self, module: nn.Module, index: int, group: Sequence[Any]) -> AbstractContextManager[None]:
        """Context of a forward and backward pass: processes exchange gradients after the last batch of a group."""
        return self.fabric.no_backward_sync(module, enabled=index + 1 < len(group))  # type: ignore[arg-type]

    @contextmanager
    def _frozen(self, critic: nn.Module | None) -> Iterator[None]:
        """Context in which a critic judges: it takes no gradient, so processes must not wait for any."""
        with frozen(critic), nullcontext() if critic is None else self.fabric.no_backward_sync(critic):  # type: ignore[arg-type]
            yield

    def _touch(self, x: LossInput) -> Tensor | float:
        """Zero, with a gradient of zero for every map, for losses that do not look at all maps.

        Several processes wait for a gradient of every parameter.
        """
        if self.fabric.world_size == 1:
            return 0.0
        return torch.stack([0.0 * value.sum() for value in x.prediction.maps.values()]).sum()

    def _share_extra(self) -> None:
        """Average the gradients of the losses' parameters over processes; Fabric does it for networks."""
        for parameter in self.extra:
            if self.fabric.world_size > 1 and parameter.grad is not None:
                self.fabric.all_reduce(parameter.grad, reduce_op="mean")

    def _update(self, module: nn.Module, optimizer: TorchOptimizer, loss: Tensor) -> Tensor | None:
        """Clip and apply gradients; returns their norm, or None when they were dropped."""
        if self.skip_nonfinite and not self._finite(loss):
            return None
        limit = self.grad_clip_norm or _NO_LIMIT
        norm: Tensor = self.fabric.clip_gradients(module, optimizer, max_norm=limit, error_if_nonfinite=False)  # type: ignore[assignment]
        if self.skip_nonfinite and not self.scaled and not self._finite(norm):
            return None
        optimizer.step()
        return norm.detach()

    def _finite(self, value: Tensor) -> bool:
        """Whether a scalar is finite in every process."""
        return self.fabric.strategy.reduce_boolean_decision(math.isfinite(value.item()))

    def _buffers(self) -> list[tuple[Tensor, Tensor]]:
        """The running statistics, with copies: a forward pass over something that is not finite spoils them."""
        return [(buffer, buffer.clone()) for buffer in self.generator.buffers()]


class Sums:
    """Weighted sums of named scalars, on the device."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def add(self, values: dict[str, Tensor], weight: float) -> None:
        """Add `weight` times each value."""
        for name, value in values.items():
            part = weight * value
            self.values[name] = self.values[name] + part if name in self.values else part


def _detach(prediction: Prediction) -> Prediction:
    parts = ({name: value.detach() for name, value in part.items()} for part in prediction)
    return Prediction(*parts)
