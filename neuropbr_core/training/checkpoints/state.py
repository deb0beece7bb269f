"""What a run needs to continue as if it had never stopped, and the files that hold it."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from neuropbr_core.errors import CheckpointError

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
