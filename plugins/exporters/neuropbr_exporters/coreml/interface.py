"""Inputs and outputs of a package: images of 0 to 255 and arrays on its side, named tensors on the other."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import msgspec
import torch
from torch import Tensor

from neuropbr_core.contracts import ExportSpec, Maps
from neuropbr_core.errors import ExportError
from neuropbr_core.maps import MAPS
from neuropbr_exporters.files import describe, shapes_of

LEVELS = 255
"""Largest value of an 8-bit channel."""
METADATA_KEY = "neuropbr.interface"
"""Key of the user-defined metadata that holds the interface."""


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
        return cls(shapes_of(spec.inputs), list(spec.outputs), images)

    @classmethod
    def read(cls, text: str) -> "Interface":
        """Read the JSON that `write` returned.

        Raises:
            ExportError: The text is something else.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise ExportError(
                f"the package's {METADATA_KEY} cannot be read ({error}); export the model again"
            ) from error

    def write(self) -> str:
        """The interface as JSON."""
        return json.dumps(asdict(self))

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn a spec's inputs into the package's: views become whole numbers from 0 to 255, as images hold them.

        Args:
            inputs: By the spec's names; views `(1, N, 3, S, S)` in [0, 1].

        Returns:
            By the package's names; views as `(1, 3, S, S)`.

        Raises:
            ExportError: Names or shapes are not those of the package; the message has the ones that it takes.
        """
        shapes = shapes_of(inputs)
        if shapes != self.inputs:
            raise ExportError(
                f"got {describe(shapes)}, but this package takes {describe(self.inputs)}; give it exactly these, or "
                "export the model again for other sizes"
            )
        # In the package's order, not the caller's: the model's graph takes its inputs by place.
        ordered = {name: inputs[name] for name in self.inputs}
        ordered["views"] = (inputs["views"] * LEVELS).round().clamp(0, LEVELS)
        return package_inputs(ordered)

    def decode(self, outputs: Mapping[str, Tensor]) -> Maps:
        """Turn what the package returned into maps in their own range."""
        maps = {}
        for name in self.outputs:
            value = outputs[name].float()
            if self.images:
                # Rounded here too, as the reference evaluator returns what an image cannot hold.
                value = from_levels(name, value.round().clamp(0, LEVELS))
            maps[name] = value
        return maps


def package_inputs(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A spec's inputs under the names that the package gives them, in order: one for each view, then the rest."""
    extras = dict(inputs)
    views = extras.pop("views")
    # A package takes one sample at a time. Its views count from 1, as people count photos.
    images = {f"view{number}": view[None] for number, view in enumerate(views[0], 1)}
    return {**images, **extras}


def to_levels(name: str, value: Tensor) -> Tensor:
    """A map's range as 0 to 255."""
    low, high = MAPS[name].value_range
    # Not rounded: this is part of the package's graph, and Core ML rounds when it makes the image.
    return (value - low) * (LEVELS / (high - low))


def from_levels(name: str, value: Tensor) -> Tensor:
    """0 to 255 as a map's range."""
    low, high = MAPS[name].value_range
    # The inverse of `to_levels`, and as there the factor is computed in float64 and applied once.
    return torch.add(value * ((high - low) / LEVELS), low)
