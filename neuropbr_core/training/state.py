"""What a run needs besides the model to continue as if it had never stopped."""

from pathlib import Path
from typing import Any

import torch

from neuropbr_core.errors import CheckpointError

STATE = "training_state.pt"


def random_state() -> dict[str, Any]:
    """State of PyTorch's random generators (dropout draws from them; data order and crops are seeded by position)."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Take back what `random_state` gave; devices that are not here are left out."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a tree of tensors, numbers, strings, lists and dictionaries."""
    torch.save(state, folder / STATE)


def read_state(folder: Path) -> dict[str, Any]:
    """Read what `write_state` wrote; never unpickles arbitrary objects.

    Raises:
        CheckpointError: The file is missing or is not such a tree.
    """
    try:
        state: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{folder / STATE}: cannot be read ({error}); use another checkpoint") from error
    return state
