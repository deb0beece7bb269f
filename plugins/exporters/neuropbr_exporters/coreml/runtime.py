"""A package as a function from inputs to maps: through Core ML on macOS, through the reference evaluator elsewhere."""

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
from neuropbr_exporters.coreml.conversion import MANIFEST
from neuropbr_exporters.coreml.evaluator import Evaluator, Program
from neuropbr_exporters.coreml.interface import Interface
from neuropbr_exporters.coreml.reading import read_program, read_spec
from neuropbr_exporters.coreml.toolkit import coremltools, quiet


class Package:
    """A package that was read.

    Args:
        path: The package.

    Attributes:
        metadata: The text that was stored with it.
        interface: What it takes and returns.

    Raises:
        ExportError: It is missing, damaged, or was not written by this exporter.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = read_spec(path)
        text = dict(self.spec.description.metadata.userDefined)
        if MANIFEST not in text:
            raise ExportError(
                f"{path}: a Core ML package, but not one of this exporter: its metadata have no {MANIFEST} that names "
                "inputs and outputs; export the model again"
            )
        self.interface = Interface.read(text[MANIFEST])
        self.metadata = {key: value for key, value in text.items() if key != MANIFEST}

    def program(self) -> Program:
        """Read its program and weights."""
        return read_program(self.path, self.spec)

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs as the package takes them.

        Raises:
            ExportError: They are others.
        """
        try:
            return self.interface.encode(inputs)
        except ExportError as error:
            raise ExportError(f"{self.path}: {error}") from error


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
        encoded = self.package.encode(inputs).items()
        fed = {name: _picture(value) if name.startswith("view") else value.numpy() for name, value in encoded}
        found: dict[str, Any] = self._model.predict(fed)
        return self.package.interface.decode({name: _tensor(value) for name, value in found.items()})


def load(path: Path) -> EvaluatedPackage | NativePackage:
    """Read a package as what this machine can run."""
    package = Package(path)
    return NativePackage(package) if sys.platform == "darwin" else EvaluatedPackage(package)


def _picture(levels: Tensor) -> Image.Image:
    return Image.fromarray(levels[0].permute(1, 2, 0).to(torch.uint8).numpy())


def _tensor(value: Any) -> Tensor:
    """An array as it is; an image as `(1, channels, H, W)` of 0 to 255."""
    if not isinstance(value, Image.Image):
        return torch.from_numpy(np.array(value))
    picture = np.array(value if value.mode == "L" else value.convert("RGB"))
    return torch.from_numpy(np.atleast_3d(picture)).permute(2, 0, 1)[None]
