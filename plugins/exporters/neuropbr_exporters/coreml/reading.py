"""Reads an ML Program into the evaluator's form."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuropbr_core.errors import ExportError
from neuropbr_exporters.coreml.evaluator.program import Argument, Constant, Operation, Program, Variable
from neuropbr_exporters.coreml.toolkit import coremltools, quiet

_WEIGHTS = Path("Data", "com.apple.CoreML", "weights")


def read_spec(path: Path) -> Any:
    """Read a package's description, Core ML's protobuf message `Model`.

    Raises:
        ExportError: The package is missing or damaged.
    """
    if not path.is_dir():
        raise ExportError(f"{path}: there is no such package (a folder); give one that the coreml exporter wrote")
    ct = coremltools()
    try:
        with quiet():
            return ct.utils.load_spec(str(path))
    except Exception as error:  # coremltools raises RuntimeError, protobuf's DecodeError and others
        raise _damaged(path, error) from error


def read_program(path: Path, spec: Any) -> Program:
    """Read a package's program and weights.

    Raises:
        ExportError: It holds no ML Program, or is damaged.
    """
    if spec.WhichOneof("Type") != "mlProgram":
        raise ExportError(f"{path}: a Core ML package without an ML Program; export the model again")
    coremltools()
    try:
        with quiet():
            from coremltools.converters.mil.frontend.milproto.load import load

            return from_pymil(load(spec, spec.specificationVersion, file_weights_dir=str(path / _WEIGHTS)))
    except Exception as error:  # many kinds: it checks types and shapes while it rebuilds the program
        raise _damaged(path, error) from error


def from_pymil(program: Any) -> Program:
    """Convert coremltools' own representation (PyMIL)."""
    function = program.functions["main"]
    operations = [operation for operation in function.operations if operation.op_type != "const"]
    constants = {
        operation.outputs[0].name: _constant(operation.outputs[0].val)
        for operation in function.operations
        if operation.op_type == "const"
    }
    return Program(
        inputs=tuple(_variable(value) for value in function.inputs.values()),
        operations=tuple(_operation(operation) for operation in operations),
        outputs=tuple(value.name for value in function.outputs),
        constants=constants,
    )


def _operation(operation: Any) -> Operation:
    arguments = {name: _argument(value) for name, value in operation.inputs.items() if value is not None}
    return Operation(operation.name, operation.op_type, arguments, tuple(map(_variable, operation.outputs)))


def _argument(value: Any) -> Argument:
    return tuple(item.name for item in value) if isinstance(value, (list, tuple)) else str(value.name)


def _variable(value: Any) -> Variable:
    from coremltools.converters.mil.mil import types

    return Variable(value.name, tuple(int(extent) for extent in value.shape), types.builtin_to_string(value.dtype))


def _constant(value: Any) -> Constant:
    return value if isinstance(value, str) else _tensor(np.asarray(value))


def _tensor(value: Any) -> Tensor:
    """A copy: torch cannot take read-only arrays, nor coremltools' types below a byte."""
    plain = value.astype(np.uint8) if value.dtype.metadata else value
    return torch.from_numpy(np.array(plain, order="C"))


def _damaged(path: Path, error: Exception) -> ExportError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return ExportError(f"{path}: not a Core ML package, or damaged ({reason}); export the model again")
