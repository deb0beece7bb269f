"""Recipe switches for memory and speed: the same training by other means, and a plain fallback."""

import torch

from neuropbr_core.model.generator import Generator
from neuropbr_core.recipe.sections import Training

_COMPILED = ("encoder", "fusion", "decoder")
"""What is compiled: each by itself, in place, so that names of weights stay as they are."""


def apply_switches(generator: Generator, training: Training, device: torch.device) -> list[str]:
    """Let a generator recompute activations and run compiled, where the recipe says so.

    Returns:
        Lines for people: a switch that cannot be had here, and why.
    """
    # Recomputed in the backward pass instead of kept: less memory for more time, and the same numbers.
    generator.recomputed = frozenset(training.activation_checkpointing)
    if not training.compile:
        return []
    if fault := compiler_fault(device):
        return [f"warning: training.compile: nothing can be compiled here, so the run goes on without ({fault})"]
    for name in _COMPILED:
        getattr(generator, name).compile()
    return []


def compiler_fault(device: torch.device) -> str | None:
    """Why `torch.compile` does not work on this machine, or None when it does."""
    try:
        # A function of two operations: a compiler that is missing or broken fails on it in a second.
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # back ends raise what they like
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return None
