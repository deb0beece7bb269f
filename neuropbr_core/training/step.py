"""One training step: generator once, critics on its detached prediction, then the generator's update."""

from dataclasses import dataclass, replace

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim import Optimizer as TorchOptimizer

from neuropbr_core.contracts import LossInput, Prediction
from neuropbr_core.data.prepare import Prepared
from neuropbr_core.recipe.sections import Optimizer
from neuropbr_core.training.objective import Objective


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
    """What the losses see of a step."""
    return LossInput(prediction, prepared.targets, prepared.views, prepared.visible, prepared.valid, epoch=epoch)


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
    """

    fabric: Fabric
    generator: nn.Module
    optimizer: TorchOptimizer
    objective: Objective
    critic_optimizers: dict[str, TorchOptimizer]
    grad_clip_norm: float

    def step(self, prepared: Prepared, epoch: int) -> dict[str, Tensor]:
        """Update critics and generator once.

        Returns:
            Detached scalars on the device: `loss/…` and `critic/…`.
        """
        prediction = self.generator(prepared.views, prepared.visible, prepared.directions, frame=prepared.overview)
        x = loss_input(prediction, prepared, epoch)
        critic_terms = self._critic_steps(x)
        result = self.objective.generator_loss(x)
        self._update(self.generator, self.optimizer, result.total)
        return {**{f"loss/{name}": value for name, value in result.terms.items()}, **critic_terms}

    def _critic_steps(self, x: LossInput) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        detached = replace(x, prediction=_detach(x.prediction))
        total = None
        for term, _ in self.objective.active(x.epoch):
            if term.critic is None:
                continue
            for _ in range(term.loss.critic_steps):
                result = term.loss.critic_loss(detached, term.critic)
                self._update(term.critic, self.critic_optimizers[term.name], result.total)
            terms |= {f"critic/{term.name}/{key}": value for key, value in result.terms.items()}
            total = result.total.detach() if total is None else total + result.total.detach()
        return terms if total is None else {"critic/total": total, **terms}

    def _update(self, module: nn.Module, optimizer: TorchOptimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        if self.grad_clip_norm > 0:
            self.fabric.clip_gradients(module, optimizer, max_norm=self.grad_clip_norm, error_if_nonfinite=False)
        optimizer.step()


def _detach(prediction: Prediction) -> Prediction:
    parts = ({name: value.detach() for name, value in part.items()} for part in prediction)
    return Prediction(*parts)
