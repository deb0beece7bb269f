"""Where a generator samples its tile, and where its random numbers come from."""

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

T = TypeVar("T")
Positions = tuple[Float[Tensor, "S S"], Float[Tensor, "S S"]]
"""Where something is looked up: to the right and down, in tiles."""


class Draws:
    """The random numbers of one material, in the order in which they are asked for."""

    def __init__(self, kind: str, seed: int) -> None:
        """Start the sequence of a kind and a seed; any two pairs have unrelated sequences."""
        digest = hashlib.blake2b(f"{kind}\0{seed}".encode(), digest_size=8).digest()
        self._generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)

    def uniform(self, low: float, high: float) -> float:
        """Draw a number evenly from [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self._generator, dtype=torch.float64))

    def log_uniform(self, low: float, high: float) -> float:
        """Draw a positive number whose logarithm is even over [low, high)."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def integer(self, low: int, high: int) -> int:
        """Draw an integer from `low` to `high`, both possible."""
        return int(torch.randint(low, high + 1, (), generator=self._generator))

    def chance(self, probability: float) -> bool:
        """Whether something of that probability happens."""
        return self.uniform(0, 1) < probability

    def choice(self, options: Sequence[T]) -> T:
        """Pick one of the options."""
        return options[self.integer(0, len(options) - 1)]

    def table(self, *shape: int) -> Float[Tensor, "..."]:
        """Draw a tensor of numbers, each even over [0, 1)."""
        return torch.rand(shape, generator=self._generator)


class Canvas:
    """A tile under construction.

    Attributes:
        size: Samples along a side.
        draws: Random draws of the material.
        u: Positions to the right `(1, S)`, sample centres in [0, 1].
        v: Positions down `(S, 1)`.
    """

    def __init__(self, size: int, draws: Draws) -> None:
        """Lay `size` samples along each side."""
        self.size, self.draws = size, draws
        centres = (torch.arange(size) + 0.5) / size
        self.u: Float[Tensor, "1 S"] = centres[None, :]
        self.v: Float[Tensor, "S 1"] = centres[:, None]

    @property
    def at(self) -> Positions:
        """The position of every sample."""
        return self.spread(self.u), self.spread(self.v)

    def spread(self, field: Float[Tensor, "..."]) -> Float[Tensor, "S S"]:
        """Repeat what depends on one axis alone along the other."""
        return field.expand(self.size, self.size)

    def zeros(self) -> Float[Tensor, "S S"]:
        """A field of zeros."""
        return torch.zeros(self.size, self.size)
