"""Runs a program, operation by operation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neuropbr_core.errors import ExportError
from neuropbr_exporters.coreml.evaluator import operators
from neuropbr_exporters.coreml.evaluator.arguments import Arguments, Value
from neuropbr_exporters.coreml.evaluator.program import Argument, Operation, Program, Variable
from neuropbr_exporters.coreml.evaluator.registry import OPERATORS

DTYPES = {
    "fp16": torch.float16,
    "fp32": torch.float32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.uint16,
    "int32": torch.int32,
    "uint32": torch.uint32,
    "bool": torch.bool,
}


@dataclass(frozen=True)
class Step:
    """One operation that ran.

    Attributes:
        operation: Which one.
        outputs: What it made, float32 where floating (with values that its type can hold).
        overflowed: Whether a finite result became infinite by rounding to FP16.
    """

    operation: Operation
    outputs: list[Tensor]
    overflowed: bool


class Evaluator:
    """Runs an ML Program with torch.

    Each operation computes in float32 on inputs as they are stored, and its result is rounded to the type that the
    program declares for it: FP16 values and weights, float32 accumulation. Hardware may accumulate in FP16; what it
    does inside an operation is not documented.

    Args:
        program: The program.
        rounding: False keeps float32 between operations, whatever types the program declares; weights stay rounded as
            they are stored. The difference to a run with rounding is what FP16 costs.

    Raises:
        ExportError: The program uses operations that are not known; the message names them.
    """

    def __init__(self, program: Program, *, rounding: bool = True) -> None:
        self.program = program
        self._rounding = rounding
        operators.load()
        if unknown := sorted({operation.kind for operation in program.operations} - OPERATORS.keys()):
            raise ExportError(
                f"the reference evaluator does not know the ML Program operations {', '.join(unknown)}; it knows "
                f"{', '.join(sorted(OPERATORS))}. Verify this package on macOS, where Core ML itself runs it"
            )

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the whole program.

        Args:
            inputs: By name, of the shapes that the program declares.

        Returns:
            Outputs by name.
        """
        found: dict[str, Tensor] = {}
        for step in self.steps(inputs):
            pairs = zip(step.operation.outputs, step.outputs, strict=True)
            found |= {variable.name: value for variable, value in pairs if variable.name in self.program.outputs}
        return {name: found[name] for name in self.program.outputs}

    def steps(self, inputs: Mapping[str, Tensor]) -> Iterator[Step]:
        """Run operation by operation; a value is dropped after its last use."""
        values = {variable.name: self._store(inputs[variable.name], variable)[0] for variable in self.program.inputs}
        for operation, dying in zip(self.program.operations, self.program.last_uses, strict=True):
            step = self._apply(operation, values)
            values |= {variable.name: value for variable, value in zip(operation.outputs, step.outputs, strict=True)}
            yield step
            for name in dying:
                values.pop(name, None)

    @torch.no_grad()
    def _apply(self, operation: Operation, values: Mapping[str, Tensor]) -> Step:
        arguments = {name: self._look_up(argument, values) for name, argument in operation.arguments.items()}
        result = OPERATORS[operation.kind](Arguments(arguments, operation.outputs))
        made = [result] if isinstance(result, Tensor) else list(result)
        for value, variable in zip(made, operation.outputs, strict=True):
            if tuple(value.shape) != variable.shape:
                raise ExportError(
                    f"operation {operation.name} ({operation.kind}) made {tuple(value.shape)}, but the program "
                    f"declares {variable.shape} for {variable.name}; the package is damaged"
                )
        stored = [self._store(value, variable) for value, variable in zip(made, operation.outputs, strict=True)]
        return Step(operation, [value for value, _ in stored], any(overflowed for _, overflowed in stored))

    def _look_up(self, argument: Argument, values: Mapping[str, Tensor]) -> Value:
        if isinstance(argument, str):
            return values[argument] if argument in values else self.program.constants[argument]
        items = [self._look_up(name, values) for name in argument]
        return [item for item in items if isinstance(item, Tensor)]

    def _store(self, value: Tensor, variable: Variable) -> tuple[Tensor, bool]:
        """Round to the declared type; floating values come back as float32."""
        dtype = DTYPES[variable.dtype]
        if not dtype.is_floating_point:
            return value.to(dtype), False
        if dtype is torch.float32 or not self._rounding:
            return value.float(), False
        rounded = value.half().float()
        return rounded, bool((rounded.isinf() & value.isfinite()).any())
