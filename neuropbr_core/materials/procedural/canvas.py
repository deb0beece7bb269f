"""The sample positions of a tile, and the random numbers of a material."""

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

T = TypeVar("T")
Positions = tuple[Float[Tensor, "S S"], Float[Tensor, "S S"]]
"""Positions of samples, to the right and down, in tiles."""


class Draws:
    """The random numbers of one material, in the order in which they are asked for."""

    def __init__(self, kind: str, seed: int) -> None:
        """Start the sequence of a kind and a seed; any two pairs have unrelated sequences.

        Args:
            kind: Name of the material's kind.
            seed: Number of the material among those of its kind.
        """
        # A hash, because nearby integer seeds would give related sequences. The zero byte separates the two parts.
        digest = hashlib.blake2b(f"{kind}\0{seed}".encode(), digest_size=8).digest()
        # PyTorch takes seeds below 2⁶³.
        self._generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)

    def uniform(self, low: float, high: float) -> float:
        """Draw a number evenly from [low, high).

        Args:
            low: Lower end, included.
            high: Upper end, excluded.

        Returns:
            The number.
        """
        return low + (high - low) * float(torch.rand((), generator=self._generator, dtype=torch.float64))

    def log_uniform(self, low: float, high: float) -> float:
        """Draw a number whose logarithm is even over the range, so that each octave is equally likely.

        Args:
            low: Lower end, > 0, included.
            high: Upper end, excluded.

        Returns:
            The number.
        """
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def integer(self, low: int, high: int) -> int:
        """Draw an integer evenly.

        Args:
            low: Smallest result.
            high: Largest result.

        Returns:
            The integer.
        """
        return int(torch.randint(low, high + 1, (), generator=self._generator))

    def chance(self, probability: float) -> bool:
        """Draw a truth value.

        Args:
            probability: Probability of True, 0 to 1.

        Returns:
            True with that probability.
        """
        return self.uniform(0, 1) < probability

    def choice(self, options: Sequence[T]) -> T:
        """Pick one of several options, each with the same probability.

        Args:
            options: At least one option; an option that appears twice is twice as likely.

        Returns:
            The option.
        """
        return options[self.integer(0, len(options) - 1)]

    def table(self, *shape: int) -> Float[Tensor, "..."]:
        """Draw a tensor of numbers.

        Args:
            shape: Sizes of the tensor.

        Returns:
            Float32 numbers, each even over [0, 1).
        """
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
        """Place `size` samples along each side.

        Args:
            size: Samples along a side, at least 1.
            draws: Random numbers of the material.
        """
        self.size = size
        self.draws = draws
        centres = (torch.arange(size) + 0.5) / size
        self.u: Float[Tensor, "1 S"] = centres[None, :]
        self.v: Float[Tensor, "S 1"] = centres[:, None]

    @property
    def at(self) -> Positions:
        """Positions `(S, S)` of all samples, to the right and down, in tiles."""
        return self.spread(self.u), self.spread(self.v)

    def spread(self, field: Float[Tensor, "..."]) -> Float[Tensor, "S S"]:
        """Repeat a field that depends on one axis only along the other axis.

        Args:
            field: `(1, S)` or `(S, 1)`.

        Returns:
            The field at every sample.
        """
        return field.expand(self.size, self.size)

    def zeros(self) -> Float[Tensor, "S S"]:
        """Return a field of zeros, float32 on the CPU."""
        return torch.zeros(self.size, self.size)
