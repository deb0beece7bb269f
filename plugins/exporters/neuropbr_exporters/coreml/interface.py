"""Inputs and outputs of a package: images of 0 to 255 and arrays on its side, named tensors on the other."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from neuropbr_core.contracts import ExportSpec, Maps
from neuropbr_core.errors import ExportError
from neuropbr_core.maps import MAPS
from neuropbr_exporters.program import describe

LEVELS = 255
"""Steps of an 8-bit channel."""


@dataclass(frozen=True)
class Interface:
    """What a package takes and returns.

    Attributes:
        inputs: Shapes of the spec's inputs by name, in order.
        outputs: Names of the maps, in order.
        images: Whether maps are 8-bit images.
    """

    inputs: dict[str, list[int]]
    outputs: list[str]
    images: bool

    @classmethod
    def of(cls, spec: ExportSpec, *, images: bool) -> "Interface":
        """The interface of a model that is to be exported."""
        return cls({name: list(value.shape) for name, value in spec.inputs.items()}, list(spec.outputs), images)

    @classmethod
    def read(cls, text: str) -> "Interface":
        """Read what `write` wrote."""
        return cls(**json.loads(text))

    def write(self) -> str:
        """The interface as JSON."""
        return json.dumps(asdict(self))

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn a spec's inputs into the package's: views become whole numbers from 0 to 255, as images hold them.

        Raises:
            ExportError: Names or shapes are not those of the package; the message has the ones that it takes.
        """
        found = {name: list(value.shape) for name, value in inputs.items()}
        if found != self.inputs:
            raise ExportError(
                f"got {describe(found)}, but this package takes {describe(self.inputs)}; give it exactly these, or "
                "export the model again for other sizes"
            )
        levels = (inputs["views"] * LEVELS).round().clamp(0, LEVELS)
        return package_inputs({name: levels if name == "views" else inputs[name] for name in self.inputs})

    def decode(self, outputs: Mapping[str, Tensor]) -> Maps:
        """Turn what the package returned into maps in their own range."""
        return {name: self._map(name, outputs[name].float()) for name in self.outputs}

    def _map(self, name: str, value: Tensor) -> Tensor:
        return from_levels(name, value.round().clamp(0, LEVELS)) if self.images else value


def package_inputs(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A spec's inputs under the names that the package gives them, in order: one for each view, then the rest."""
    views = {f"view{number}": view[None] for number, view in enumerate(inputs["views"][0], 1)}
    return {**views, **{name: value for name, value in inputs.items() if name != "views"}}


def to_levels(name: str, value: Tensor) -> Tensor:
    """A map's range as 0 to 255."""
    low, high = MAPS[name].value_range
    return (value - low) * (LEVELS / (high - low))


def from_levels(name: str, value: Tensor) -> Tensor:
    """0 to 255 as a map's range."""
    low, high = MAPS[name].value_range
    return torch.add(value * ((high - low) / LEVELS), low)
