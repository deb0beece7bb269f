"""Runs a program, operation by operation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neuropbr_core.errors import ExportError

# The import of each module of operators enters its functions into OPERATORS.
from neuropbr_exporters.coreml.evaluator import arrangement, elementwise, layers  # noqa: F401
from neuropbr_exporters.coreml.evaluator.program import (
    OPERATORS,
    Argument,
    Arguments,
    MilProgram,
    Operation,
    Value,
    Variable,
)

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
        outputs: Its results; floating ones as float32, rounded to values that the declared type can hold.
        overflowed: Whether a finite result became infinite by rounding to FP16.
    """

    operation: Operation
    outputs: list[Tensor]
    overflowed: bool


class Evaluator:
    """Runs an ML Program with torch.

    Each operation computes in float32 on inputs as they are stored, and its result is rounded to the type that the
    program declares for it: FP16 values and weights, float32 accumulation. Hardware may accumulate in FP16; its
    precision inside an operation is not documented.

    Args:
        program: The program.
        rounding: False keeps float32 between operations, whatever types the program declares; weights stay rounded as
            they are stored. The difference from a run with rounding is the error of FP16.

    Raises:
        ExportError: The program uses operations that are not known; the message names them.
    """

    def __init__(self, program: MilProgram, *, rounding: bool = True) -> None:
        self.program = program
        self._rounding = rounding
        unknown = {operation.kind for operation in program.operations} - OPERATORS.keys()
        if unknown:
            raise ExportError(
                f"the reference evaluator does not know the ML Program operations {', '.join(sorted(unknown))}; it "
                f"knows {', '.join(sorted(OPERATORS))}. Verify this package on macOS, where Core ML itself runs it"
            )

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the whole program.

        Args:
            inputs: By name, of the shapes that the program declares.

        Returns:
            Outputs by name, in the program's order; floating values as float32.
        """
        outputs: dict[str, Tensor] = {}
        for step in self.steps(inputs):
            for variable, value in zip(step.operation.outputs, step.outputs, strict=True):
                if variable.name in self.program.outputs:
                    outputs[variable.name] = value
        return {name: outputs[name] for name in self.program.outputs}

    def steps(self, inputs: Mapping[str, Tensor]) -> Iterator[Step]:
        """Run operation by operation; a value is dropped after its last use.

        Args:
            inputs: As for `run`.

        Yields:
            Each operation with its outputs.

        Raises:
            ExportError: An operation's result has another shape than the program declares.
        """
        values: dict[str, Tensor] = {}
        for variable in self.program.inputs:
            values[variable.name], _ = self._store(inputs[variable.name], variable)
        for operation, last_used in zip(self.program.operations, self.program.last_uses, strict=True):
            step = self._apply(operation, values)
            for variable, value in zip(operation.outputs, step.outputs, strict=True):
                values[variable.name] = value
            yield step
            # Otherwise all activations of a large network would be in memory at once.
            for name in last_used:
                values.pop(name, None)

    @torch.no_grad()
    def _apply(self, operation: Operation, values: Mapping[str, Tensor]) -> Step:
        arguments = {name: self._look_up(argument, values) for name, argument in operation.arguments.items()}
        result = OPERATORS[operation.kind](Arguments(arguments, operation.outputs))
        # Only operators with several outputs, such as `split`, return a sequence.
        if isinstance(result, Tensor):
            result = [result]
        outputs = []
        overflowed = False
        for value, variable in zip(result, operation.outputs, strict=True):
            # Broadcasting hides a wrong shape until much later, so each operation is checked.
            if tuple(value.shape) != variable.shape:
                raise ExportError(
                    f"operation {operation.name} ({operation.kind}) made {tuple(value.shape)}, but the program "
                    f"declares {variable.shape} for {variable.name}; the package is damaged"
                )
            stored, became_infinite = self._store(value, variable)
            outputs.append(stored)
            overflowed = overflowed or became_infinite
        return Step(operation, outputs, overflowed)

    def _look_up(self, argument: Argument, values: Mapping[str, Tensor]) -> Value:
        if isinstance(argument, str):
            if argument in values:
                return values[argument]
            return self.program.constants[argument]
        items = []
        for name in argument:
            item = self._look_up(name, values)
            # Lists are of tensors: no operation that is known takes a list of words.
            if isinstance(item, Tensor):
                items.append(item)
        return items

    def _store(self, value: Tensor, variable: Variable) -> tuple[Tensor, bool]:
        """Round to the declared type, and report overflow; floating values come back as float32."""
        dtype = DTYPES[variable.dtype]
        # Indices and truth values are exact in their types, so only floating values can lose anything.
        if not dtype.is_floating_point:
            return value.to(dtype), False
        if dtype is torch.float32 or not self._rounding:
            return value.float(), False
        rounded = value.half().float()
        # A value that was infinite before did not overflow here.
        return rounded, bool((rounded.isinf() & value.isfinite()).any())
