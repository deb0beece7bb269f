"""What `neuropbr recipe cost` counts, against numbers worked out by hand."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from neuropbr_core.contracts import LossSetup
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.model import ModelSpec, build_generator, parameter_count
from neuropbr_core.model.cost import Cost, PartCost, blank_inputs, cost, prediction_cost, saved_bytes
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry import default_registry

TINY = """\
data: {views: 2, image_size: 16, output_size: 32}
model:
  encoder: {use: unet, channels: [4, 8], norm: none}
  fusion: {use: concat}
  decoder: {channels: [6], head_channels: 5, norm: none, super_resolution: 2}
losses: {l1: {}}
"""
HALF = 2
"""Bytes of a number in bfloat16."""

WHOLE = ("data.image_size=32", "data.output_size=64")
"""Twice the size, of which a crop of 16 is a quarter."""

LOGITS = 3 + 1 + 1 + 2


def load(tmp_path: Path, *overrides: str) -> Recipe:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return load_recipe(path, overrides)


@pytest.fixture
def counted(tmp_path: Path) -> dict[str, PartCost]:
    return {part.name: part for part in cost(load(tmp_path)).parts}


def test_sizes(tmp_path: Path) -> None:
    found = cost(load(tmp_path, *WHOLE, "data.crop_size=16"))
    assert (found.views, found.image_size, found.output_size, found.train_size) == (2, 32, 64, 16)


def test_parameters_by_hand(counted: dict[str, PartCost]) -> None:
    def convolution(inputs: int, outputs: int, side: int) -> int:
        return inputs * outputs * side**2 + outputs

    encoder = convolution(3, 4, 3) + convolution(4, 4, 3) + convolution(4, 8, 3) + convolution(8, 8, 3)
    decoder = convolution(8 + 4, 6, 3) + convolution(6, 6, 3) + convolution(6, 24, 3)
    heads = 4 * convolution(6, 5, 3) + 5 * LOGITS + LOGITS
    expected = {"encoder": encoder, "fusion": convolution(24, 8, 1) + convolution(8, 8, 1), "decoder": decoder}
    assert {name: part.parameters for name, part in counted.items()} == expected | {"heads": heads, "other": 0}


def test_operations_by_hand(counted: dict[str, PartCost]) -> None:
    views, full, half, out = 2, 16 * 16, 8 * 8, 32 * 32
    encoder = views * 2 * 9 * ((3 * 4 + 4 * 4) * full + (4 * 8 + 8 * 8) * half)
    fusion = 2 * half * (24 * 8 + 8 * 8)
    decoder = 2 * 9 * full * ((8 + 4) * 6 + 6 * 6 + 6 * 24)
    heads = 2 * out * (4 * 9 * 6 * 5 + 5 * LOGITS)
    expected = {"encoder": encoder, "fusion": fusion, "decoder": decoder, "heads": heads, "other": 0}
    assert {name: part.flops for name, part in counted.items()} == expected


def test_saved_bytes_by_hand(counted: dict[str, PartCost]) -> None:
    views, full, half, out = 2, 16 * 16, 8 * 8, 32 * 32
    rectified = views * (2 * 4 * full + 2 * 8 * half)
    continued = views * ((3 + 4) * 18 * 18 + (4 + 8) * 10 * 10)  # inputs of convolutions, a pixel wider on each side
    indices = views * 4 * half * 8
    weights = 9 * (3 * 4 + 4 * 4 + 4 * 8 + 8 * 8)
    assert counted["encoder"].saved_bytes == HALF * (continued + rectified + weights) + indices
    hidden, head_weights = 4 * 5 * out, 4 * 9 * 6 * 5 + 5 * LOGITS
    assert counted["heads"].saved_bytes == HALF * (6 * 34 * 34 + hidden + head_weights)


def test_saved_bytes_are_those_of_a_crop_and_operations_those_of_the_whole(
    tmp_path: Path, counted: dict[str, PartCost]
) -> None:
    for part in cost(load(tmp_path, *WHOLE, "data.crop_size=16")).parts:
        assert part.saved_bytes == counted[part.name].saved_bytes
        assert part.flops == 4 * counted[part.name].flops


def test_attention_is_not_stored(tmp_path: Path) -> None:
    vit = "model.fusion={use: vit, dim: 8, heads: 2, depth: 1}"
    sizes = ["data.image_size=128", "data.output_size=256"]
    (fusion,) = (part for part in cost(load(tmp_path, vit, *sizes)).parts if part.name == "fusion")
    tokens = 2 * 64 * 64
    assert fusion.flops > 2 * 2 * tokens**2 * 8  # scores are computed
    assert fusion.saved_bytes < tokens**2  # and not kept, not even as a byte each


def test_critic_by_hand(tmp_path: Path) -> None:
    critic_cost = cost(load(tmp_path, "losses.gan={layers: 2, width: 4}")).parts[-1]
    recipe = load(tmp_path, "losses.gan={layers: 2, width: 4}")
    part = recipe.losses["gan"]
    loss = default_registry().create("loss", part.use, part.options, setup=LossSetup(MAP_NAMES, 32))
    critic = loss.make_critic()
    operations = []

    def count(module: nn.Conv2d, _: tuple[Tensor, ...], output: Tensor) -> None:
        operations.append(2 * module.weight[0].numel() * output[0].numel())

    for module in critic.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    critic(torch.zeros(1, 8, 32, 32))
    parameters = sum(value.numel() for value in critic.parameters())
    assert critic_cost == PartCost("critic gan", parameters, sum(operations), None)


def test_nothing_is_allocated_or_looked_for(tmp_path: Path) -> None:
    weights = "model.encoder={use: resnet, weights: missing.safetensors, pretrained: true}"
    decoder = "model.decoder={channels: null}"
    huge = load(tmp_path, weights, decoder, "data.image_size=4096", "data.output_size=8192")
    assert cost(huge).total.saved_bytes > 100e9


def test_directions_and_ratio_images_are_given(tmp_path: Path) -> None:
    found = cost(
        load(tmp_path, "model.view_conditioning=direction", "model.ratio_images=true", "data.alignment=recorded")
    )
    assert isinstance(found, Cost)
    assert found.parts[0].parameters == 11 * 4 * 9 + 4 + 4 * 4 * 9 + 4 + 4 * 8 * 9 + 8 + 8 * 8 * 9 + 8


def test_the_total_adds_up(counted: dict[str, PartCost], tmp_path: Path) -> None:
    total = cost(load(tmp_path)).total
    assert total.parameters == sum(part.parameters for part in counted.values())
    assert total.flops == sum(part.flops for part in counted.values())
    assert total.saved_bytes == sum(part.saved_bytes or 0 for part in counted.values())


def test_no_parameter_is_left_out(tmp_path: Path) -> None:
    given = ("model.view_conditioning=direction", "model.reflectance_profile=true", "data.alignment=recorded")
    recipe = load(tmp_path, *given)
    generator = build_generator(ModelSpec.from_recipe(recipe))
    found = cost(recipe)
    assert found.total.parameters == parameter_count(generator)
    assert generator.profile is not None
    assert found.parts[-1] == PartCost(
        "other", parameter_count(generator.profile), found.parts[-1].flops, found.parts[-1].saved_bytes
    )


def test_a_prediction_without_gradients_gives_its_activations_back(tmp_path: Path) -> None:
    spec = ModelSpec.from_recipe(load(tmp_path))
    generator = build_generator(spec)
    counted = prediction_cost(generator, spec, 32, half=False, features=True)
    inputs = sum(value.nbytes for value in blank_inputs(spec, 32).values())
    kept = saved_bytes(generator, spec, 32, half=False).total()
    assert inputs < counted.peak_bytes < inputs + kept
    prediction = generator(**blank_inputs(spec, 32), features=True)
    assert counted.feature_values == sum(value.numel() for value in prediction.features.values()) > 0
    assert prediction_cost(generator, spec, 32, half=False).feature_values == 0
    # Activations follow the number of pixels; weights, which do not, are not counted.
    doubled = prediction_cost(generator, spec, 64, half=False, features=True)
    assert doubled.peak_bytes == pytest.approx(4 * counted.peak_bytes, rel=0.01)
    assert prediction_cost(generator, spec, 32, features=True).peak_bytes < counted.peak_bytes
