"""The model that is exported.

`make_subject` changes the trained generator as the export's entry asks. Every exporter receives such a model, and
verification compares with it. A changed export is therefore compared with the changed model.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Maps, Prediction
from neuropbr_core.errors import ExportError, ModelError
from neuropbr_core.exporting.inputs import Signature
from neuropbr_core.kinds import ExporterEntryOptions
from neuropbr_core.materials.alignment import identity_frame, view_directions
from neuropbr_core.materials.cameras import nominal_cameras
from neuropbr_core.model.generator import Generator, unsuitable
from neuropbr_core.model.spec import ModelSpec, build_generator, unfilled
from neuropbr_core.recipe.sections import Recipe


class Change(NamedTuple):
    """One way in which an export differs from the model as trained.

    Attributes:
        tag: Short form, for the file's name.
        text: The change in words.
    """

    tag: str
    text: str


@dataclass(frozen=True)
class Subject:
    """A model to export.

    Attributes:
        model: In eval mode, on the CPU; called like a `Generator`, with the inputs that the signature names.
        signature: Its inputs and outputs.
        changes: How it differs from the model as trained.
        multiple: Number of which the sides of its input must be multiples.
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
        """The model and its changes, in words."""
        if not self.changes:
            return "the model"
        return f"the model with {', '.join(change.text for change in self.changes)}"


def make_subject(generator: Generator, spec: ModelSpec, entry: ExporterEntryOptions, where: str = "export") -> Subject:
    """Change a generator as an export's entry asks; the generator itself stays as it is.

    Args:
        generator: In eval mode, on the CPU.
        spec: Its spec.
        entry: The entry's keys that the core reads.
        where: The entry, for messages.

    Raises:
        ExportError: The model cannot be changed in that way.
    """
    multiple = generator.encoder.strides[-1]
    signature = plan(spec, entry, multiple, where)
    model: nn.Module = generator
    # The decoder is changed first: `NominalGeometry` wraps the generator and has no decoder of its own.
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
    with unfilled():  # only the strides are needed, so no weights are drawn
        # Strides belong to the encoder's instance, so it has to be built to know them.
        multiple = build_generator(spec).encoder.strides[-1]
    for name, part in recipe.export.items():
        plan(spec, part.entry, multiple, f"export.{name}")


def plan(spec: ModelSpec, entry: ExporterEntryOptions, multiple: int, where: str) -> Signature:
    """The signature that an entry of `export` asks for.

    Args:
        spec: The model as trained.
        entry: The entry's keys that the core reads.
        multiple: Number of which the sides of the model's input must be multiples.
        where: The entry, such as `export.onnx`, for messages.

    Raises:
        ExportError: The model cannot be changed in that way.
    """
    trained = Signature.of(spec)
    scale = spec.section.decoder.super_resolution or 1
    if entry.super_resolution == "bypass" and scale == 1:
        raise ExportError(f"{where}.super_resolution: this model has no super-resolution to bypass; write `keep`")
    if entry.geometry == "nominal" and not trained.aligned:
        raise ExportError(
            f"{where}.geometry: this model was trained on views that are not aligned and takes nothing but views; "
            f"write `inputs`"
        )
    size = entry.resolution or trained.image_size
    if reason := unsuitable(size, multiple):
        raise ExportError(f"{where}.resolution: found {size}, but this model's encoder {reason}")
    output_size = size * scale
    if entry.super_resolution == "bypass":
        output_size = size
    return replace(
        trained,
        views=entry.views or trained.views,
        image_size=size,
        # Photos stay as much finer than the input as they were in training.
        photo_size=trained.photo_size * size // trained.image_size,
        output_size=output_size,
        geometry=entry.geometry,
        super_resolution=entry.super_resolution,
    )


def changes(trained: Signature, exported: Signature) -> tuple[Change, ...]:
    """How an export differs from the model as trained; empty when it does not.

    The tags become part of the file's name, so their order must stay the same.
    """
    differences = []
    if exported.image_size != trained.image_size:
        text = f"input of {exported.image_size}×{exported.image_size} pixels instead of {trained.image_size}"
        differences.append(Change(f"{exported.image_size}px", text))
    if exported.views != trained.views:
        differences.append(Change(f"{exported.views}views", f"{exported.views} views instead of {trained.views}"))
    if exported.super_resolution == "bypass":
        differences.append(Change("no-sr", "super-resolution bypassed"))
    if exported.geometry == "nominal":
        text = "everything visible"
        if trained.directed:
            text = "nominal directions built in, everything visible"
        differences.append(Change("nominal", text))
    return tuple(differences)


class NominalGeometry(nn.Module):
    """A generator that takes views alone: it sees everything, from cameras that are where a usual capture has them.

    Args:
        generator: Aligned, and view-conditioned or not.
        signature: Number of views and side of the input.
    """

    directions: Tensor | None

    def __init__(self, generator: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.generator = generator
        directions = None
        if signature.directed:
            directions = nominal_directions(signature.views, signature.image_size)
        # A buffer, so that the directions move with the weights and are stored in the file with them.
        self.register_buffer("directions", directions)

    def forward(self, views: Tensor, *given: Any, features: bool = False, **named: Any) -> Prediction:
        """Predict from views; visibility and directions must not be given.

        Raises:
            ModelError: Visibility or directions were given.
        """
        if any(value is not None for value in (*given, *named.values())):
            raise ModelError("this model has its geometry built in and takes nothing but views")
        directions = None
        if self.directions is not None:
            # Cameras are the same for every material of a batch; `expand` repeats them without a copy.
            directions = self.directions.expand(views.shape[0], -1, -1, -1, -1)
        prediction: Prediction = self.generator(views, None, directions, features=features)
        return prediction


def nominal_directions(views: int, size: int) -> Tensor:
    """Directions `(1, V, 3, size, size)` to the cameras of `nominal_cameras`."""
    positions = torch.stack([camera.position for camera in nominal_cameras(views)])
    return view_directions(positions[None], identity_frame(1), size)
