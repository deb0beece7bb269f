"""The arguments of one operation, as the type that the operator wants them in."""

from collections.abc import Mapping

from torch import Tensor

from neuropbr_exporters.coreml.evaluator.program import Constant, Variable

Value = Constant | list[Tensor]


class Arguments:
    """Looks up arguments by parameter.

    Args:
        values: Arguments by parameter; parameters that the program leaves out are missing.
        outputs: What the operation shall make.
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
        """A tensor that must be there; half precision is widened, so that arithmetic is in float32."""
        value = self._values[name]
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is no tensor")
        return value.float() if value.is_floating_point() else value

    def optional(self, name: str) -> Tensor | None:
        """A tensor, or None when it is left out."""
        return self.tensor(name) if name in self else None

    def tensors(self, name: str) -> list[Tensor]:
        """A list of tensors."""
        value = self._values[name]
        if not isinstance(value, list):
            raise TypeError(f"{name} is no list")
        return [item.float() if item.is_floating_point() else item for item in value]

    def number(self, name: str, default: float | None = None) -> float:
        """A scalar; `default` when it is left out."""
        if default is not None and name not in self:
            return default
        return float(self.tensor(name).item())

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole scalar."""
        return int(self.number(name, default))

    def flag(self, name: str, default: bool = False) -> bool:
        """A truth value."""
        return bool(self.number(name, default))

    def integers(self, name: str, default: list[int] | None = None) -> list[int]:
        """A vector of integers (or of truth values); without `default` it must be there."""
        if default is not None and name not in self:
            return list(default)
        return [int(item) for item in self.tensor(name).reshape(-1).tolist()]

    def text(self, name: str, default: str) -> str:
        """A word."""
        return str(self._values.get(name, default))
