"""The table of operators that the evaluator knows, and the form in which they get their arguments."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from neuropbr_exporters.coreml.evaluator.program import Constant, Variable

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
