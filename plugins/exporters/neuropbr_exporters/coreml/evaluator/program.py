"""An ML Program as plain data, and the table of the operators that it may use.

A program is straight-line code, one operation after another. `Arguments` is the form in which an operator receives
what an operation passes to it.
"""

from collections.abc import Callable, Mapping, Sequence
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


Value = Constant | list[Tensor]


class Arguments:
    """Looks up the arguments of one operation, each as the type that its operator needs.

    Args:
        values: Arguments by parameter; parameters that the program leaves out are missing.
        outputs: The variables that the operation assigns.
    """

    def __init__(self, values: Mapping[str, Value], outputs: tuple[Variable, ...]) -> None:
        self._values = values
        self.outputs = outputs

    def __contains__(self, name: str) -> bool:
        return name in self._values

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the first output."""
        return self.outputs[0].shape

    def tensor(self, name: str) -> Tensor:
        """A tensor that must be given; half precision is widened, so that arithmetic is in float32."""
        value = self._values[name]
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is no tensor")
        return _widened(value)

    def optional(self, name: str) -> Tensor | None:
        """A tensor, or None when it is left out."""
        if name not in self:
            return None
        return self.tensor(name)

    def tensors(self, name: str) -> list[Tensor]:
        """A list of tensors; half precision is widened."""
        value = self._values[name]
        if not isinstance(value, list):
            raise TypeError(f"{name} is no list")
        return list(map(_widened, value))

    def number(self, name: str, default: float | None = None) -> float:
        """A scalar; `default` when it is left out."""
        if default is not None and name not in self:
            return default
        return float(self.tensor(name).item())

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole scalar."""
        # Through float: exact, as axes, groups and sizes are far below 2^24.
        return int(self.number(name, default))

    def flag(self, name: str, default: bool = False) -> bool:
        """A truth value."""
        return bool(self.number(name, default))

    def integers(self, name: str, default: list[int] | None = None) -> list[int]:
        """A vector of integers (or of truth values); without `default` it must be given."""
        if default is not None and name not in self:
            return list(default)
        return list(map(int, self.tensor(name).reshape(-1).tolist()))

    def text(self, name: str, default: str) -> str:
        """A word."""
        return str(self._values.get(name, default))


def _widened(value: Tensor) -> Tensor:
    if value.is_floating_point():
        return value.float()
    return value


def last_axis_first(sides: list[int]) -> list[int]:
    """Padding in the order of torch's `F.pad`.

    Args:
        sides: Before and after each axis, first axis first, as MIL has it.
    """
    order: list[int] = []
    for place in range(len(sides) - 2, -1, -2):
        order += sides[place : place + 2]
    return order


Operator = Callable[[Arguments], Tensor | Sequence[Tensor]]
"""Computes an operation's outputs in float32 (integers and truth values as they are); the evaluator rounds them."""

OPERATORS: dict[str, Operator] = {}


def operator(kind: str) -> Callable[[Operator], Operator]:
    """Enter a function into `OPERATORS` under the name that MIL gives the operation."""

    def enter(function: Operator) -> Operator:
        if kind in OPERATORS:
            # The later one would silently replace the other.
            raise ValueError(f"operator {kind} is entered twice")
        OPERATORS[kind] = function
        return function

    return enter
