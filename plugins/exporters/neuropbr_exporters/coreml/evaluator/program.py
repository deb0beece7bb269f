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
        kind: What it computes: `conv`, `relu`, …
        arguments: Its arguments by parameter.
        outputs: The variables that it assigns.
    """

    name: str
    kind: str
    arguments: Mapping[str, Argument]
    outputs: tuple[Variable, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of all that it reads, constants included."""
        names: list[str] = []
        for argument in self.arguments.values():
            if isinstance(argument, str):
                names.append(argument)
            else:
                names.extend(argument)
        return tuple(names)

    @property
    def dtypes(self) -> set[str]:
        """Types of its outputs."""
        return {output.dtype for output in self.outputs}


@dataclass(frozen=True)
class MilProgram:
    """A whole program in Core ML's intermediate language, MIL.

    Attributes:
        inputs: The variables that a caller assigns.
        operations: In an order in which they can run.
        outputs: Names of the variables that it returns.
        constants: Values of constants by name.
    """

    inputs: tuple[Variable, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Constant]

    @property
    def last_uses(self) -> list[set[str]]:
        """For each operation, the variables that nothing reads after it."""
        # From the end: the first reader that is met is the last one to run. Outputs and constants outlive them all.
        alive = set(self.outputs) | self.constants.keys()
        last_uses: list[set[str]] = []
        for operation in reversed(self.operations):
            touched = set(operation.reads)
            # What an operation assigns and nothing reads can be dropped at once, too.
            for output in operation.outputs:
                touched.add(output.name)
            last_uses.append(touched - alive)
            alive |= touched
        last_uses.reverse()
        return last_uses
