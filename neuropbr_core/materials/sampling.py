"""Random numbers from one generator on the CPU, so that they do not depend on the device of the rendering."""

import torch


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Draw a number evenly from [low, high).

    Args:
        generator: Source of the randomness, on the CPU.
        low: Lower end, included.
        high: Upper end, excluded.

    Returns:
        The number.
    """
    # float64, so that the number has as many random digits as a Python float.
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))
