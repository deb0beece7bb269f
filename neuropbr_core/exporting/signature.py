"""What an exported model takes and gives, and how that differs from the model that was trained."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import msgspec

from neuropbr_core.errors import ExportError
from neuropbr_core.kinds import ExporterEntryOptions
from neuropbr_core.model import ModelSpec
from neuropbr_core.model.sizes import unsuitable
from neuropbr_core.model.spec import SIZES


@dataclass(frozen=True)
class Signature:
    """Sizes and inputs of a model: what is needed to prepare views for it, without its run.

    Attributes:
        views: Views of a sample.
        image_size: Side of the input in pixels.
        photo_size: Side to which photos are fitted before they are aligned, in pixels; that of the input without
            alignment.
        output_size: Side of the maps in pixels.
        alignment: `none`, `recorded` or `estimated`: whether views must be warped into the texture frame.
        directed: Whether the model reads directions to the camera.
        geometry: `nominal` when visibility and directions are built in, so that views are the only input.
        super_resolution: `bypass` when the decoder's upscaling was left out.
    """

    views: int
    image_size: int
    photo_size: int
    output_size: int
    alignment: Literal["none", "recorded", "estimated"]
    directed: bool
    geometry: Literal["inputs", "nominal"] = "inputs"
    super_resolution: Literal["keep", "bypass"] = "keep"

    @classmethod
    def of(cls, spec: ModelSpec) -> "Signature":
        """The signature of a model as it was trained."""
        facts = {}
        for name in SIZES:
            facts[name] = getattr(spec, name)
        return cls(**facts, directed=spec.section.directed)

    @classmethod
    def read(cls, text: str) -> "Signature":
        """Read what `text` wrote.

        Raises:
            msgspec.DecodeError: It is something else.
        """
        return msgspec.json.decode(text, type=cls)

    def text(self) -> str:
        """The signature as JSON, for metadata."""
        return msgspec.json.encode(self).decode()

    @property
    def aligned(self) -> bool:
        """Whether views must be warped into the texture frame."""
        return self.alignment != "none"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in call order."""
        if self.geometry == "nominal":
            return ("views",)
        return ("views", *(["visible"] if self.aligned else []), *(["directions"] if self.directed else []))


class Change(NamedTuple):
    """One way in which an export differs from the model as trained.

    Attributes:
        tag: For the file's name.
        text: For people.
    """

    tag: str
    text: str


def plan(spec: ModelSpec, entry: ExporterEntryOptions, multiple: int, where: str) -> Signature:
    """The signature that an entry of `export` asks for.

    Args:
        spec: The model as trained.
        entry: The entry's keys that the core reads.
        multiple: What the sides of its input must be multiples of.
        where: The entry, such as `export.onnx`, for messages.

    Raises:
        ExportError: The model cannot be changed so.
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
    return replace(
        trained,
        views=entry.views or trained.views,
        image_size=size,
        # Photos stay as much finer than the input as they were in training.
        photo_size=trained.photo_size * size // trained.image_size,
        output_size=size if entry.super_resolution == "bypass" else size * scale,
        geometry=entry.geometry,
        super_resolution=entry.super_resolution,
    )


def changes(trained: Signature, exported: Signature) -> tuple[Change, ...]:
    """How an export differs from the model as trained; empty when it does not."""
    found = []
    if exported.image_size != trained.image_size:
        text = f"input of {exported.image_size}×{exported.image_size} pixels instead of {trained.image_size}"
        found.append(Change(f"{exported.image_size}px", text))
    if exported.views != trained.views:
        found.append(Change(f"{exported.views}views", f"{exported.views} views instead of {trained.views}"))
    if exported.super_resolution == "bypass":
        found.append(Change("no-sr", "super-resolution bypassed"))
    if exported.geometry == "nominal":
        if trained.directed:
            built_in = "nominal directions built in, everything visible"
        else:
            built_in = "everything visible"
        found.append(Change("nominal", built_in))
    return tuple(found)
