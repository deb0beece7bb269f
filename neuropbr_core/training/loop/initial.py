"""Starts networks from the weights of a checkpoint, as far as they fit, and reports what fitted."""

from pathlib import Path

from torch import nn

from neuropbr_core.errors import CheckpointError
from neuropbr_core.model.weights import read_state
from neuropbr_core.training.checkpoints.saving import STATE
from neuropbr_core.training.checkpoints.saving import read_state as read_training_state
from neuropbr_core.training.checkpoints.store import find_checkpoint
from neuropbr_core.training.loop.objective import Objective

_SHOWN = 3
_OWN = ("mean", "std")
"""Buffers that the recipe decides: what the views are normalised by."""


def find_start(place: str) -> Path:
    """The checkpoint's folder, or the model's file, that `training.init_from` names.

    Args:
        place: A run's folder, a checkpoint's folder, or a model's file.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    path = Path(place)
    if path.is_file():
        return path
    return find_checkpoint(path)


def start_from(checkpoint: Path, generator: nn.Module, objective: Objective) -> tuple[str, ...]:
    """Copy weights of a checkpoint into the generator, and into the critics of losses that have the same names.

    A weight is copied where name and shape are equal. A critic is copied whole or not at all: half of a critic that
    judges is worth no more than a new one.

    Args:
        checkpoint: The checkpoint's folder, or the model's file.
        generator: The generator of the run that starts.
        objective: Its losses.

    Returns:
        Lines for people: how many weights fitted, and which did not.

    Raises:
        CheckpointError: No weight fits, or a file is damaged.
    """
    given = read_state(checkpoint)
    own = {name: value for name, value in generator.state_dict().items() if name not in _OWN}
    fitting = {name: value for name, value in given.items() if name in own and value.shape == own[name].shape}
    if not fitting:
        raise CheckpointError(
            f"{checkpoint}: no weight fits the recipe's model; `neuropbr recipe diff` shows how the recipes differ"
        )
    generator.load_state_dict(fitting, strict=False)
    lines = [f"Starting from {checkpoint}: {len(fitting)} of the model's {len(own)} tensors fit"]
    reshaped = [name for name in own if name in given and name not in fitting]
    missing = [name for name in own if name not in given]
    unused = [name for name in given if name not in own and name not in _OWN]
    for names, what in (
        (reshaped, "have another shape there and start anew"),
        (missing, "are not there and start anew"),
        (unused, "are there and not in this model"),
    ):
        if names:
            shown = names[:_SHOWN]
            if len(names) > _SHOWN:
                shown.append("…")
            lines.append(f"  {len(names)} {what}: {', '.join(shown)}")
    critics = {}
    if (checkpoint / STATE).is_file():
        critics = read_training_state(checkpoint)["critics"]
    for term in objective.terms:
        if term.critic is None:
            continue
        how = "starts anew"
        fresh = term.critic.state_dict()
        stored = critics.get(term.name, {})
        if fresh.keys() == stored.keys() and all(value.shape == stored[name].shape for name, value in fresh.items()):
            term.critic.load_state_dict(stored)
            how = "is taken over"
        lines.append(f"  the critic of {term.name} {how}")
    return tuple(lines)
