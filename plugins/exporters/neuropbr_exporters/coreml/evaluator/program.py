"""An ML Program as plain data: straight-line code, one operation after another."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Constant = Tensor | str
"""A tensor in the type that the program stores it in, or text."""
Argument = str | tuple[str, ...]
"""Name of a variable or constant, or several where a parameter takes a list."""


@dataclass(frozen=True)
class Variable:
    """A value of the program.

    Attributes:
        name: Unique in the program.
        shape: Its extents.
        dtype: `fp16`, `fp32`, `int32`, `bool`, …
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        name: Unique in the program; converters derive it from the node of the source model.
        kind: What it does: `conv`, `relu`, …
        arguments: Its arguments by parameter.
        outputs: What it makes.
    """

    name: str
    kind: str
    arguments: Mapping[str, Argument]
    outputs: tuple[Variable, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of all that it reads, constants included."""
        values = self.arguments.values()
        return tuple(name for value in values for name in ((value,) if isinstance(value, str) else value))


@dataclass(frozen=True)
class Program:
    """A whole program.

    Attributes:
        inputs: What it takes.
        operations: In an order in which they can run.
        outputs: Names of what it returns.
        constants: Values of constants by name.
    """

    inputs: tuple[Variable, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Constant]

    @property
    def last_uses(self) -> list[set[str]]:
        """For each operation, the variables that nothing reads after it."""
        alive = set(self.outputs) | self.constants.keys()
        dying: list[set[str]] = []
        for operation in reversed(self.operations):
            touched = {*operation.reads, *(output.name for output in operation.outputs)}
            dying.append(touched - alive)
            alive |= touched
        return dying[::-1]
