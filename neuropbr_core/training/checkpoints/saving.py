"""What a run needs to continue as if it had never stopped, the checkpoints that hold it, and which ones are kept.

The state of networks and optimisers is saved whole, wherever its parts are: with FSDP each process holds a share.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from neuropbr_core.errors import CheckpointError, RunStopped
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.model.weights import read_state as read_weights
from neuropbr_core.model.weights import save_model
from neuropbr_core.recipe.sections import Training
from neuropbr_core.training.checkpoints.store import BEST, LATEST, CheckpointStore
from neuropbr_core.training.fabric import first, is_sharded
from neuropbr_core.training.lightning import Fabric
from neuropbr_core.training.loop.average import WeightAverage
from neuropbr_core.training.loop.schedule import LearningRates
from neuropbr_core.training.loop.step import Stepper

STATE = "training_state.pt"


@dataclass
class Position:
    """How far a run is.

    Attributes:
        epoch: Epochs that are complete.
        step: Steps of the next epoch that are done.
        global_step: Steps so far.
        best: The best score so far (lower is better).
        best_metrics: Validation metrics of the best epoch.
        best_name: Name of its checkpoint; empty while there is none.
    """

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    best: float = math.inf
    best_metrics: dict[str, float] = field(default_factory=dict)
    best_name: str = ""

    @property
    def name(self) -> str:
        """Name of the checkpoint that is saved here; names sort by position."""
        if self.step:
            return f"epoch_{self.epoch:04d}_step_{self.step:06d}"
        return f"epoch_{self.epoch:04d}"

    def forget_best(self) -> None:
        """Let the next score be the best, whatever it is."""
        self.best = math.inf
        self.best_metrics = {}
        self.best_name = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data; `Position(**data)` takes it back."""
        return asdict(self)


def random_state(fabric: Fabric) -> list[dict[str, torch.Tensor]]:
    """State of PyTorch's random generators in every process (dropout draws from them).

    Data order, crops and choice of views are seeded by position, and need no state.
    """
    state = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(fabric.device)
    if fabric.device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    if fabric.world_size == 1:
        return [state]
    # Fabric stacks each tensor over processes; they are taken apart again, one dictionary a process.
    gathered: Any = fabric.all_gather(state)
    states = []
    for rank in range(fabric.world_size):
        states.append({name: values[rank].cpu().clone() for name, values in gathered.items()})
    return states


def restore_random_state(fabric: Fabric, states: list[dict[str, torch.Tensor]]) -> None:
    """Take back what `random_state` gave; a process or device that was not there keeps its fresh seed."""
    if fabric.global_rank >= len(states):
        return
    # Copies, because torch crashes on a part of a larger tensor.
    state = {name: value.clone() for name, value in states[fabric.global_rank].items()}
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if "cuda" in state and fabric.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], fabric.device)
    if "mps" in state and fabric.device.type == "mps":
        torch.mps.set_rng_state(state["mps"])


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a tree of tensors, numbers, strings, lists and dictionaries."""
    torch.save(state, folder / STATE)


def read_state(folder: Path) -> dict[str, Any]:
    """Read what `write_state` wrote; never unpickles arbitrary objects.

    Raises:
        CheckpointError: The file is missing or is not such a tree.
    """
    try:
        # `weights_only`: a checkpoint from elsewhere must not run code.
        state: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{folder / STATE}: cannot be read ({error}); use another checkpoint") from error
    return state


def read_resume_counts(folder: Path) -> dict[str, int]:
    """What the order of samples depended on when a checkpoint was saved (`Feed.resume_counts`).

    Raises:
        CheckpointError: The checkpoint's state is missing or damaged.
    """
    try:
        # Mapped and not read: the numbers are few, and the optimiser's tensors beside them are large.
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise CheckpointError(f"{folder / STATE}: cannot be read ({error}); use another checkpoint") from error
    counts: dict[str, int] = state["layout"]
    return counts


_WHOLE_EPOCH = re.compile(r"epoch_(\d+)")


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint brought back beside weights and optimisers.

    Attributes:
        position: How far the run was.
        resume_counts: What the order of samples depended on (`Feed.resume_counts`).
        log: State of the log: steps that are not logged yet, and those of the epoch so far.
        problems: What was wrong with newer checkpoints, and with the best one.
        aside: Folder of the checkpoints that are newer than the one that was asked for; None when there are none.
    """

    position: Position
    resume_counts: dict[str, int]
    log: dict[str, Any] | None
    problems: list[str]
    aside: Path | None = None


@dataclass
class Saver:
    """Saves and restores everything that changes during training.

    Attributes:
        store: Where checkpoints go.
        spec: What builds the generator again.
        options: Section `training` of the recipe.
        average: The average of its weights, when the recipe has one: what a checkpoint is used for then.
        stepper: Holds optimisers, losses and critics.
        rates: Learning rates.
        resume_counts: What the order of samples depends on; a run that resumes with others starts its epoch over.
        before_save: Called in the first process before anything is written; may raise to refuse it.
    """

    store: CheckpointStore
    spec: ModelSpec
    options: Training
    average: WeightAverage | None
    stepper: Stepper
    rates: LearningRates
    resume_counts: dict[str, int]
    before_save: Callable[[], None] | None = None

    def save(self, position: Position, *, best: bool, log: dict[str, Any] | None = None) -> Path:
        """Save a checkpoint, let the pointers name it, and remove those that are not kept.

        Raises:
            RunStopped: A weight is not finite, or the run is another process's now; nothing is saved.
            CheckpointError: Writing failed; earlier checkpoints are untouched.
        """
        stepper = self.stepper
        fabric = stepper.fabric
        # Every process takes part in gathering the state; the first one alone has it whole, and writes.
        weights = module_state(fabric, stepper.generator)
        losses = {}
        critics = {}
        critic_optimizers = {}
        for term in stepper.objective.terms:
            losses[term.name] = term.loss.state_dict()
            if term.critic is not None:
                optimizer = stepper.critic_optimizers[term.name]
                critics[term.name] = module_state(fabric, term.critic)
                critic_optimizers[term.name] = optimizer_state(fabric, term.critic, optimizer)
        # The keys are those of earlier versions' files, so that a run of an earlier version can be continued.
        state: dict[str, Any] = {
            "progress": position.to_dict(),
            "layout": self.resume_counts,
            "log": log,
            "weights": None,
            "average": None,
            "optimizer": optimizer_state(fabric, stepper.generator, stepper.optimizer),
            "losses": losses,
            "critics": critics,
            "critic_optimizers": critic_optimizers,
            "scaler": fabric.strategy.precision.state_dict(),
            "rates": self.rates.state_dict(),
            "random": random_state(fabric),
        }
        if self.average is not None:
            # The model on disk is then the average, so the weights that are trained are kept here.
            state["weights"] = weights
            state["average"] = self.average.state_dict()
        return first(fabric, lambda: self._write(position, weights, state, best=best))

    def load(self, checkpoint: str | None = None) -> Resumed:
        """Take back a checkpoint, and keep those that are newer aside.

        Args:
            checkpoint: Which one: `best`, `latest`, a name or a path; default: the newest sound one.

        Raises:
            CheckpointError: There is none.
        """
        stepper = self.stepper
        fabric = stepper.fabric
        folder, problems = first(fabric, lambda: self._choose(checkpoint))
        state = read_state(folder)
        weights = read_weights(folder)
        # With an average, the model on disk is the average, and the state has the weights that are trained.
        load_module_state(fabric, stepper.generator, state["weights"] or weights)
        load_optimizer_state(fabric, stepper.generator, stepper.optimizer, state["optimizer"])
        if self.average is not None:
            self.average.module.load_state_dict(weights)
            # A run that is continued with an average, and had none, has made an update in every step.
            self.average.load_state_dict(state["average"] or {"updates": state["progress"]["global_step"]})
        # Losses and critics by name: their order in the recipe may have changed.
        for term in stepper.objective.terms:
            term.loss.load_state_dict(state["losses"][term.name])
            if term.critic is not None:
                load_module_state(fabric, term.critic, state["critics"][term.name])
                optimizer = stepper.critic_optimizers[term.name]
                load_optimizer_state(fabric, term.critic, optimizer, state["critic_optimizers"][term.name])
        fabric.strategy.precision.load_state_dict(state["scaler"])
        self.rates.load_state_dict(state["rates"])
        # Last: everything before may draw random numbers.
        restore_random_state(fabric, state["random"])
        position = Position(**state["progress"])
        aside = None
        if checkpoint is not None:
            # After everything that may fail: an error leaves the run's checkpoints where they were.
            aside = first(fabric, lambda: self.store.set_aside(folder.name))
        lost = first(fabric, lambda: self._settle_pointers(position, folder.name))
        if lost:
            position.forget_best()
            problems = [*problems, *lost]
        return Resumed(position, state["layout"], state["log"], problems, aside)

    def _choose(self, checkpoint: str | None) -> tuple[Path, list[str]]:
        """The checkpoint to continue from, and what was wrong with newer ones."""
        if checkpoint is None:
            return self.store.newest_sound()
        return self.store.resolve(checkpoint), []

    def _settle_pointers(self, position: Position, resumed: str) -> list[str]:
        """Let `best` and `latest` name the checkpoints that they should; returns why `best` cannot.

        The pointers may be older than the checkpoint that is resumed, when the run was killed while it wrote them;
        and the best checkpoint may be damaged while the newest is sound. Then the resumed one stands in for it.
        """
        problems = []
        name = position.best_name or self.store.pointed(BEST)
        if name is not None and self.store.is_sound(name):
            self.store.point(BEST, name)
        elif name is not None:
            self.store.point(BEST, resumed)
            problems.append(
                f"the best checkpoint {name} is damaged or gone; the best of the epochs from here on takes its place"
            )
        self.store.point(LATEST, resumed)
        return problems

    def _write(self, position: Position, weights: dict[str, Any], state: dict[str, Any], *, best: bool) -> Path:
        """Write a checkpoint; the first process alone does it."""
        # First of all, because a run that another process has taken over must not be touched.
        if self.before_save is not None:
            self.before_save()
        refuse_nonfinite([weights, *state["critics"].values()], position, self.store.names()[-1:])

        def write(folder: Path) -> None:
            model = weights if self.average is None else self.average.module
            save_model(model, self.spec, folder)
            write_state(folder, state)

        path = self.store.save(position.name, write)
        if best:
            self.store.point(BEST, position.name)
        # After `best`: where `latest` names the last epoch, a run is trained and its pointers are settled.
        self.store.point(LATEST, position.name)
        kept = {position.name, self.store.pointed(BEST) or position.name}
        for name in self.store.names():
            # A checkpoint within an epoch is never periodic: it only serves to resume.
            epoch = _WHOLE_EPOCH.fullmatch(name)
            if epoch and self.options.keeps(int(epoch[1])):
                kept.add(name)
        # Last, when both pointers name checkpoints that stay: a crash before leaves too many and never too few.
        self.store.keep_only(kept)
        return path


def refuse_nonfinite(states: Iterable[Mapping[str, Tensor]], position: Position, saved: Sequence[str] = ()) -> None:
    """Refuse to save weights that no run could continue from.

    Args:
        states: Weights and buffers by name.
        position: How far the run is.
        saved: Name of the newest checkpoint; none when there is none yet.

    Raises:
        RunStopped: A parameter or buffer is not finite.
    """
    finite: list[Tensor] = []
    for state in states:
        for tensor in state.values():
            # Counters, such as batch norm's number of batches, are integers and always finite.
            if tensor.is_floating_point():
                finite.append(tensor.isfinite().all())
    # One answer for all tensors, so that one waits once for the device.
    if finite and not torch.stack(finite).all():
        left = "No checkpoint was saved before"
        if saved:
            left = f"The last checkpoint, {saved[-1]}, is from before it"
        raise RunStopped(
            f"the weights are no longer finite after {position.global_step} steps, so they are not saved; lower "
            f"optimizer.lr or training.grad_clip_norm, or set training.precision: fp32. {left}"
        )


_WRAPPED = "_forward_module"  # where Fabric keeps what the strategy made of a module


def module_state(fabric: Fabric, module: nn.Module) -> dict[str, Any]:
    """Weights and buffers of a module that Fabric set up, under the module's own names.

    Every process must call it; of a sharded module only the first one gets them.
    """
    if not is_sharded(fabric):
        return module.state_dict()
    return get_model_state_dict(module.get_submodule(_WRAPPED), options=_gathered())


def optimizer_state(fabric: Fabric, module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """State of a module's optimiser; the same holds for it."""
    if not is_sharded(fabric):
        return optimizer.state_dict()
    # Keyed by parameter name: indices of parameters mean nothing to another number of processes.
    return get_optimizer_state_dict(module.get_submodule(_WRAPPED), _bare(optimizer), options=_gathered())


def load_module_state(fabric: Fabric, module: nn.Module, state: Mapping[str, Any]) -> None:
    """Take back what `module_state` gave; every process has read it whole."""
    if is_sharded(fabric):
        set_model_state_dict(
            module.get_submodule(_WRAPPED), dict(state), options=StateDictOptions(full_state_dict=True)
        )
    else:
        module.load_state_dict(state)


def load_optimizer_state(fabric: Fabric, module: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Take back what `optimizer_state` gave, except options such as the weight decay, which stay the optimiser's own.

    Every process has read the state whole.
    """
    # Both of PyTorch's functions replace an optimiser's options by those of the state. Options are the recipe's, which
    # may have changed since; the number of groups and what is in them follow from the networks, which have not.
    groups = []
    for own, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        groups.append({**own, "params": saved["params"]})
    state = {**state, "param_groups": groups}
    if is_sharded(fabric):
        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(module.get_submodule(_WRAPPED), _bare(optimizer), state, options=options)
    else:
        optimizer.load_state_dict(state)


def _gathered() -> StateDictOptions:
    # To the CPU, because the whole state need not fit beside a share of it on the device.
    return StateDictOptions(full_state_dict=True, cpu_offload=True)


def _bare(optimizer: Any) -> Optimizer:
    """The optimiser that Fabric wrapped."""
    bare: Optimizer = optimizer.optimizer
    return bare
