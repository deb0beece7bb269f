"""Random numbers that follow one generator, whatever the device of the tensors they end up in."""

import torch


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Draw a number evenly from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))
