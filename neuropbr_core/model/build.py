"""Builds a generator from the components that its spec names, and counts what it built."""

import torch
from torch import nn

from neuropbr_core.contracts import Encoder, LossSetup
from neuropbr_core.errors import PluginBroken
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry import Registry, default_registry


def build_generator(spec: ModelSpec, registry: Registry | None = None) -> Generator:
    """Create encoder and fusion block through the registry and join them.

    The encoder is run once on a small blank image, so that one whose declared channels or strides are not true is
    refused here, by name, and not later by a shape error inside the decoder.

    Raises:
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
    """
    registry = registry or default_registry()
    encoder = registry.create("encoder", spec.encoder.use, spec.encoder.options, in_channels=spec.in_channels)
    probe_encoder(encoder, spec.in_channels, spec.encoder.use)
    fusion = registry.create("fusion", spec.fusion.use, spec.fusion.options, in_channels=encoder.channels[-1])
    return Generator(encoder, fusion, spec.section)


def probe_encoder(encoder: Encoder, in_channels: int, use: str) -> None:
    """Check that an encoder returns what it declares.

    Raises:
        PluginBroken: It does not; the message has both.
    """
    side = 2 * encoder.strides[-1]
    device = next((parameter.device for parameter in encoder.parameters()), torch.device("cpu"))
    was_training = encoder.training
    with torch.no_grad():
        features = encoder.eval()(torch.zeros(1, in_channels, side, side, device=device))
    encoder.train(was_training)
    found = [(feature.shape[1], side // feature.shape[-1]) for feature in features]
    declared = list(zip(encoder.channels, encoder.strides, strict=True))
    if found != declared:
        raise PluginBroken(
            f"encoder {use}: declares (channels, stride) {declared} but returned {found} for a {side}×{side} image; "
            f"report this to the authors of its package"
        )


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, trainable or not."""
    return sum(parameter.numel() for parameter in module.parameters())


def describe(recipe: Recipe, registry: Registry | None = None) -> list[tuple[str, int]]:
    """Parameters of each part of a recipe's networks, critics included; built on the `meta` device, without memory."""
    registry = registry or default_registry()
    spec = ModelSpec.from_recipe(recipe)
    with torch.device("meta"):
        generator = build_generator(spec, registry)
        features = generator.feature_channels  # the teacher's too: it need not be there, and no critic depends on it
        setup = LossSetup(MAP_NAMES, recipe.data.output_size, features, features)
        losses = {
            name: registry.create("loss", part.use, part.options, setup=setup) for name, part in recipe.losses.items()
        }
        critics = {name: loss.make_critic() for name, loss in losses.items()}
    parts = [(name, getattr(generator, name)) for name in ("encoder", "fusion", "profile", "decoder", "heads")]
    parts += [(f"critic {name}", critic) for name, critic in critics.items() if critic is not None]
    return [(name, parameter_count(module)) for name, module in parts if module is not None]
