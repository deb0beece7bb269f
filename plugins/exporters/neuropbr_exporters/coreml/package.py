"""A saved package: how it is read, and run by Core ML on macOS and by the reference evaluator elsewhere."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import ExportError
from neuropbr_exporters.coreml.evaluator import Evaluator, MilProgram, Operation, Variable
from neuropbr_exporters.coreml.evaluator.program import Argument, Constant
from neuropbr_exporters.coreml.interface import METADATA_KEY, Interface
from neuropbr_exporters.coreml.toolkit import coremltools, quiet
from neuropbr_exporters.files import damaged

_FILE_TYPE = "a Core ML package"
_WEIGHTS = Path("Data", "com.apple.CoreML", "weights")


class Package:
    """A package that was read.

    Args:
        path: The package.

    Attributes:
        spec: Its description, Core ML's protobuf message `Model`.
        metadata: The text that was stored with it.
        interface: What it takes and returns.

    Raises:
        ExportError: It is missing, damaged, or was not written by this exporter.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = read_spec(path)
        self.metadata = dict(self.spec.description.metadata.userDefined)
        if METADATA_KEY not in self.metadata:
            raise ExportError(
                f"{path}: a Core ML package, but not one of this exporter: its metadata have no {METADATA_KEY} that "
                "names inputs and outputs; export the model again"
            )
        # The interface is the exporter's own entry; the rest are the spec's.
        self.interface = Interface.read(self.metadata.pop(METADATA_KEY))

    def program(self) -> MilProgram:
        """Read its program and weights."""
        return read_program(self.path, self.spec)

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs as the package takes them.

        Raises:
            ExportError: Names or shapes differ.
        """
        try:
            return self.interface.encode(inputs)
        except ExportError as error:
            raise ExportError(f"{self.path}: {error}") from error


def load(path: Path) -> "EvaluatedPackage | NativePackage":
    """Read a package in the form that this machine can run.

    Raises:
        ExportError: The package is missing, damaged, was not written by this exporter, or cannot be run.
    """
    package = Package(path)
    if sys.platform == "darwin":
        return NativePackage(package)
    return EvaluatedPackage(package)


class EvaluatedPackage:
    """A package run by the reference evaluator.

    Args:
        package: The package.

    Raises:
        ExportError: The evaluator does not know one of its operations.
    """

    def __init__(self, package: Package) -> None:
        self.package = package
        self._evaluator = Evaluator(package.program())

    def __call__(self, inputs: Mapping[str, Tensor]) -> Maps:
        """Run it on the spec's inputs."""
        encoded = self.package.encode(inputs)
        return self.package.interface.decode(self._evaluator.run(encoded))


class NativePackage:
    """A package run by Core ML.

    Args:
        package: The package.
        compute_units: Name of coremltools' `ComputeUnit` to run on; Core ML chooses among `ALL`.

    Raises:
        ExportError: Core ML refuses it.
    """

    def __init__(self, package: Package, compute_units: str = "ALL") -> None:
        self.package = package
        ct = coremltools()
        try:
            with quiet():
                self._model: Any = ct.models.MLModel(str(package.path), compute_units=ct.ComputeUnit[compute_units])
        except Exception as error:
            raise ExportError(f"{package.path}: Core ML cannot load it: {error}") from error

    def __call__(self, inputs: Mapping[str, Tensor]) -> Maps:
        """Run it on the spec's inputs."""
        native: dict[str, Any] = {}
        for name, value in self.package.encode(inputs).items():
            if name.startswith("view"):
                native[name] = Image.fromarray(value[0].permute(1, 2, 0).to(torch.uint8).numpy())
            else:
                native[name] = value.numpy()
        outputs: dict[str, Tensor] = {}
        for name, result in self._model.predict(native).items():
            if not isinstance(result, Image.Image):
                # A copy: the array may belong to Core ML.
                outputs[name] = torch.from_numpy(np.array(result))
                continue
            # Core ML may return images in colour with a fourth channel.
            if result.mode != "L":
                result = result.convert("RGB")  # noqa: PLW2901
            pixels = np.atleast_3d(np.array(result))
            outputs[name] = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        return self.package.interface.decode(outputs)


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
        raise damaged(path, _FILE_TYPE, error) from error


def read_program(path: Path, spec: Any) -> MilProgram:
    """Read a package's program and weights.

    Args:
        path: The package.
        spec: From `read_spec`.

    Raises:
        ExportError: It holds no ML Program, or is damaged.
    """
    # Core ML also has an older format, a list of layers, which this exporter never writes.
    if spec.WhichOneof("Type") != "mlProgram":
        raise ExportError(f"{path}: a Core ML package without an ML Program; export the model again")
    coremltools()
    try:
        with quiet():
            from coremltools.converters.mil.frontend.milproto.load import load as load_mil

            return from_pymil(load_mil(spec, spec.specificationVersion, file_weights_dir=str(path / _WEIGHTS)))
    except Exception as error:  # many kinds: it checks types and shapes while it rebuilds the program
        raise damaged(path, _FILE_TYPE, error) from error


def from_pymil(program: Any) -> MilProgram:
    """Convert coremltools' own representation (PyMIL), so that the evaluator needs no coremltools.

    Args:
        program: A PyMIL `Program`; its function `main` is converted.
    """
    function = program.functions["main"]
    operations = []
    constants: dict[str, Constant] = {}
    for operation in function.operations:
        if operation.op_type == "const":
            constants[operation.outputs[0].name] = _constant(operation.outputs[0].val)
            continue
        arguments: dict[str, Argument] = {}
        for name, value in operation.inputs.items():
            if isinstance(value, (list, tuple)):
                arguments[name] = tuple(item.name for item in value)
            elif value is not None:  # None means a parameter that is left out
                arguments[name] = str(value.name)
        outputs = tuple(map(_variable, operation.outputs))
        operations.append(Operation(operation.name, operation.op_type, arguments, outputs))
    return MilProgram(
        inputs=tuple(map(_variable, function.inputs.values())),
        operations=tuple(operations),
        outputs=tuple(value.name for value in function.outputs),
        constants=constants,
    )


def _variable(value: Any) -> Variable:
    from coremltools.converters.mil.mil import types

    return Variable(value.name, tuple(map(int, value.shape)), types.builtin_to_string(value.dtype))


def _constant(value: Any) -> Constant:
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    # coremltools' types below a byte are bytes with metadata, which torch does not take.
    if array.dtype.metadata:
        array = array.astype(np.uint8)
    # A copy, since torch cannot take read-only arrays either.
    return torch.from_numpy(np.array(array, order="C"))
