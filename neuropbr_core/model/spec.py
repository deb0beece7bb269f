"""What is needed to build a generator again: stored beside its weights."""

from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from neuropbr_core.model.ratios import ratio_channels
from neuropbr_core.recipe.sections import ModelSection, Recipe
from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.registry.chosen import Chosen

SIZES = ("views", "image_size", "photo_size", "output_size", "alignment")
"""What a model's description repeats of section `data`: enough to prepare views without the recipe."""


@dataclass(frozen=True)
class ModelSpec:
    """A generator's architecture and the input it was trained for.

    Attributes:
        encoder: The encoder component.
        fusion: The fusion component.
        section: The other keys of the recipe's `model`.
        views: Views of a sample in training.
        image_size: Side of the input in pixels.
        photo_size: Side to which photos are fitted before they are aligned, in pixels; that of the input without
            alignment.
        output_size: Side of the predicted maps in pixels.
        alignment: `none`, `recorded` or `estimated`: whether views were warped into the texture frame, and how.
    """

    encoder: Chosen
    fusion: Chosen
    section: ModelSection
    views: int
    image_size: int
    photo_size: int
    output_size: int
    alignment: str

    @property
    def aligned(self) -> bool:
        """Whether views are warped into the texture frame."""
        return self.alignment != "none"

    @property
    def in_channels(self) -> int:
        """Channels of the images that the encoder sees."""
        directed = self.section.directed
        return 3 + 3 * directed + ratio_channels(directed) * self.section.ratio_images

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> "ModelSpec":
        """The spec of the model that a recipe trains."""
        data = recipe.data
        facts = {}
        for name in SIZES:
            facts[name] = getattr(data, name)
        return cls(recipe.encoder, recipe.fusion, recipe.model, **facts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        parts = {}
        for part in (self.encoder, self.fusion):
            parts[part.name] = {"use": part.use, **asdict(part.options)}
        plain = asdict(self.section)
        facts = {}
        for name in SIZES:
            facts[name] = getattr(self, name)
        return {**parts, **plain, **facts}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "ModelSpec":
        """Read what `to_dict` wrote.

        Raises:
            PluginError: The encoder or the fusion block is not installed.
            msgspec.ValidationError: An option does not fit the installed component.
        """
        rest = dict(plain)
        encoder = _chosen("encoder", rest.pop("encoder"))
        fusion = _chosen("fusion", rest.pop("fusion"))
        facts = {}
        for name in SIZES:
            facts[name] = rest.pop(name)
        return cls(encoder, fusion, msgspec.convert(rest, ModelSection), **facts)


def _chosen(kind: str, plain: dict[str, Any]) -> Chosen:
    options = dict(plain)
    use = options.pop("use")
    return default_registry().choose(kind, use, options)
