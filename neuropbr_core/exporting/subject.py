"""The model that is exported: the trained generator, changed as the export's entry asks.

Every exporter is handed such a model, and verification compares with it, so an export that was changed is compared with
the model as changed.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Maps, Prediction
from neuropbr_core.errors import ModelError
from neuropbr_core.exporting.signature import Change, Signature, changes, plan
from neuropbr_core.kinds import ExporterEntryOptions
from neuropbr_core.materials.alignment import identity_frame, view_directions
from neuropbr_core.materials.cameras import nominal_cameras
from neuropbr_core.model import Generator, ModelSpec, build_generator
from neuropbr_core.model.build import unfilled
from neuropbr_core.recipe.sections import Recipe


@dataclass(frozen=True)
class Subject:
    """What is exported.

    Attributes:
        model: In eval mode, on the CPU; called like a `Generator`, with the inputs that the signature names.
        signature: What it takes and gives.
        changes: How it differs from the model as trained.
        multiple: What the sides of its input must be multiples of.
    """

    model: nn.Module
    signature: Signature
    changes: tuple[Change, ...]
    multiple: int

    @torch.no_grad()
    def predict(self, inputs: dict[str, Tensor]) -> Maps:
        """Run the model: the reference that a file is compared with."""
        maps: Maps = self.model(**inputs).maps
        return maps

    def describe(self) -> str:
        """What it is, in words."""
        return "the model" + (f" with {', '.join(change.text for change in self.changes)}" if self.changes else "")


def make_subject(generator: Generator, spec: ModelSpec, entry: ExporterEntryOptions, where: str = "export") -> Subject:
    """Change a generator as an export's entry asks; the generator itself stays as it is.

    Args:
        generator: In eval mode, on the CPU.
        spec: Its spec.
        entry: The entry's keys that the core reads.
        where: The entry, for messages.

    Raises:
        ExportError: The model cannot be changed so.
    """
    multiple = generator.encoder.strides[-1]
    signature = plan(spec, entry, multiple, where)
    model: nn.Module = generator
    if signature.super_resolution == "bypass":
        model = generator.without_super_resolution()
    if signature.geometry == "nominal":
        model = NominalGeometry(model, signature)
    return Subject(model.eval(), signature, changes(Signature.of(spec), signature), multiple)


def check_entries(recipe: Recipe) -> None:
    """Refuse export entries that the recipe's model cannot meet, before it is trained.

    Raises:
        ExportError: See `plan`.
    """
    if not recipe.export:
        return
    spec = ModelSpec.from_recipe(recipe)
    with unfilled():
        multiple = build_generator(spec).encoder.strides[-1]
    for name, part in recipe.export.items():
        plan(spec, part.entry, multiple, f"export.{name}")


class NominalGeometry(nn.Module):
    """A generator that takes views alone: all is visible, and cameras are where the usual capture has them.

    Args:
        generator: Aligned, and view-conditioned or not.
        signature: Number of views and side of the input.
    """

    directions: Tensor | None

    def __init__(self, generator: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.generator = generator
        if signature.directed:
            directions = nominal_directions(signature.views, signature.image_size)
        else:
            directions = None
        self.register_buffer("directions", directions)

    def forward(self, views: Tensor, *given: Any, features: bool = False, **named: Any) -> Prediction:
        """Predict from views; visibility and directions must not be given.

        Raises:
            ModelError: They were.
        """
        if any(value is not None for value in (*given, *named.values())):
            raise ModelError("this model has its geometry built in and takes nothing but views")
        directions = None
        if self.directions is not None:
            directions = self.directions.expand(views.shape[0], -1, -1, -1, -1)
        prediction: Prediction = self.generator(views, None, directions, features=features)
        return prediction


def nominal_directions(views: int, size: int) -> Tensor:
    """Directions `(1, V, 3, size, size)` to the cameras of `nominal_cameras`."""
    positions = torch.stack([camera.position for camera in nominal_cameras(views)])
    return view_directions(positions[None], identity_frame(1), size)
