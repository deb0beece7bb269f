"""The generator with stand-in parts: sizes, ranges, order of views, what is invisible, residual albedo."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neuropbr_core.contracts import Encoder, Fusion
from neuropbr_core.errors import CheckpointError, ModelError, PluginBroken
from neuropbr_core.maps import MAPS
from neuropbr_core.model.decoder import UNetDecoder, activate, albedo_logits
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.merge import visible_median
from neuropbr_core.model.ratios import ratio_channels
from neuropbr_core.model.spec import ModelSpec, build_generator, probe_encoder
from neuropbr_core.model.weights import load_model, save_model_file
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Decoder, ModelSection
from neuropbr_encoders.unet.pyramid import UNetEncoder


class Pyramid(Encoder):
    """Strided convolutions."""

    def __init__(self, in_channels: int = 3, strides: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        self.strides = strides
        self.channels = tuple(8 * (i + 1) for i in range(len(strides)))
        self.levels = nn.ModuleList(
            nn.Conv2d(in_channels, width, stride, stride) for width, stride in zip(self.channels, strides, strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        return [level(images) for level in self.levels]


class Mean(Fusion):
    """Visible-weighted mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, latents: Tensor, visible: Tensor | None = None) -> Tensor:
        self.visible = visible
        if visible is None:
            return latents.mean(dim=1)
        return (latents * visible).sum(1) / visible.sum(1).clamp_min(1e-6)


def test_fusion_is_told_when_every_view_sees_everything() -> None:
    generator = build()
    views = torch.rand(2, 3, 3, 16, 24)
    ones = torch.ones(2, 3, 1, 16, 24)
    told = generator(views)
    assert generator.fusion.visible is None
    prediction = generator(views, ones)
    assert generator.fusion.visible is not None
    for name, value in prediction.maps.items():
        torch.testing.assert_close(told.maps[name], value, rtol=0, atol=1e-6)


def build(section: ModelSection | None = None, strides: tuple[int, ...] = (1, 2, 4)) -> Generator:
    torch.manual_seed(0)
    section = section or ModelSection()
    directed = section.directed
    channels = 3 + 3 * directed + (ratio_channels(directed) if section.ratio_images else 0)
    encoder = Pyramid(channels, strides)
    return Generator(encoder, Mean(encoder.channels[-1]), section).eval()


@pytest.mark.parametrize("scale", [0, 2, 4])
@pytest.mark.parametrize("strides", [(1, 2, 4), (2, 4, 8), (4,), (1,)])
def test_maps_have_declared_channels_sizes_and_ranges(scale: int, strides: tuple[int, ...]) -> None:
    generator = build(ModelSection(decoder=Decoder(super_resolution=scale)), strides)  # type: ignore[arg-type]
    prediction = generator(torch.rand(2, 3, 3, 16, 24))
    factor = max(scale, 1)
    for name, spec in MAPS.items():
        value, logits = prediction.maps[name], prediction.logits[name]
        assert value.shape == (2, spec.channels, 16 * factor, 24 * factor)
        assert logits.shape == (2, spec.logit_channels, 16 * factor, 24 * factor)
        assert value.min() >= spec.value_range[0]
        assert value.max() <= spec.value_range[1]
        torch.testing.assert_close(activate(spec, logits), value)
    torch.testing.assert_close(prediction.maps["normal"].norm(dim=1), torch.ones(2, 16 * factor, 24 * factor))
    assert (prediction.maps["normal"][:, 2] > 0).all()
    assert prediction.features == {}


@pytest.mark.parametrize("views", [1, 2, 5])
@pytest.mark.parametrize("merge", ["mean", "statistics"])
def test_any_number_of_views_in_any_order(views: int, merge: str) -> None:
    generator = build(ModelSection(skip_merge=merge, albedo="residual"))  # type: ignore[arg-type]
    images = torch.rand(1, views, 3, 8, 8)
    order = torch.randperm(views, generator=torch.Generator().manual_seed(3))
    first, second = generator(images), generator(images[:, order])
    for name in MAPS:
        torch.testing.assert_close(first.maps[name], second.maps[name], atol=1e-5, rtol=0)


def test_what_a_view_does_not_see_does_not_matter() -> None:
    section = ModelSection(skip_merge="statistics", albedo="residual", view_conditioning="direction", ratio_images=True)
    generator = build(section)
    images, directions = torch.rand(1, 3, 3, 8, 8), torch.randn(1, 3, 3, 8, 8)
    visible = torch.ones(1, 3, 1, 8, 8)
    visible[:, 2] = 0
    other = images.clone()
    other[:, 2] = torch.rand(3, 8, 8)
    for name in MAPS:
        torch.testing.assert_close(
            generator(images, visible, directions).maps[name], generator(other, visible, directions).maps[name]
        )


def test_everything_is_visible_by_default() -> None:
    generator, images = build(), torch.rand(1, 2, 3, 8, 8)
    torch.testing.assert_close(generator(images).maps, generator(images, torch.ones(1, 2, 1, 8, 8)).maps)


def test_residual_albedo_starts_at_the_median_of_the_views() -> None:
    generator = build(ModelSection(albedo="residual"))
    images = torch.rand(2, 3, 3, 8, 8)
    median = visible_median(images, torch.ones(2, 3, 1, 8, 8))
    torch.testing.assert_close(generator(images).maps["albedo"], median, atol=0.6 / 255, rtol=0)
    assert albedo_logits(torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)).isfinite().all()


def test_directions_matter_and_are_required_when_conditioned() -> None:
    generator, images = build(ModelSection(view_conditioning="direction")), torch.rand(1, 2, 3, 8, 8)
    with pytest.raises(ModelError, match="needs the direction to the camera"):
        generator(images)
    towards = [torch.zeros(1, 2, 3, 8, 8) for _ in range(2)]
    towards[0][:, :, 2], towards[1][:, :, 0] = 1, 1
    first, second = (generator(images, None, direction).maps["normal"] for direction in towards)
    assert (first - second).abs().max() > 1e-4


def test_a_size_that_does_not_suit_the_encoder_is_named() -> None:
    with pytest.raises(ModelError, match=r"views are 10×8 pixels, but this encoder takes multiples of 4"):
        build()(torch.rand(1, 1, 3, 8, 10))


def test_features_are_returned_on_request() -> None:
    generator = build()
    features = generator(torch.rand(1, 2, 3, 8, 8), features=True).features
    assert set(features) == {"latent", "decoder0", "decoder1"}
    assert {name: value.shape[1] for name, value in features.items()} == generator.feature_channels


def test_a_wrong_number_of_decoder_widths_is_named() -> None:
    with pytest.raises(ModelError, match=r"lists 1 widths, but this encoder needs 2"):
        UNetDecoder(8, (8, 8), (1, 2, 4), Decoder(channels=(16,)))


def test_the_global_path_starts_as_the_identity_and_then_sees_the_whole_frame() -> None:
    decoder = UNetDecoder(8, (4,), (1, 2), Decoder(channels=(8,), norm="none", global_path=True)).eval()
    latent, skip = torch.randn(1, 8, 16, 16), torch.randn(1, 4, 32, 32)
    changed = latent.clone()
    changed[..., -1, -1] += 5

    def corner(x: Tensor) -> Tensor:
        return decoder(x, [skip])[0][..., 0, 0]

    torch.testing.assert_close(corner(latent), corner(changed))
    nn.init.normal_(decoder.global_path.modulation.linear.weight)  # type: ignore[union-attr, arg-type]
    assert (corner(latent) - corner(changed)).abs().max() > 1e-3


def test_an_encoder_that_lies_about_itself_is_refused() -> None:
    encoder = Pyramid()
    probe_encoder(encoder, 3, "acme:pyramid")
    encoder.channels = (8, 16, 99)
    with pytest.raises(PluginBroken, match=r"pyramid is broken: it declares .*99.* but returned .*\(1, 24, 2, 3\)"):
        probe_encoder(encoder, 3, "acme:pyramid")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda features: None, "returned .*a NoneType"),
        (lambda features: [*features[:-1], None], "a NoneType"),
        (lambda features: [feature.transpose(2, 3) for feature in features], r"\(1, 8, 12, 8\)"),
        (lambda features: [feature.detach() for feature in features], "is detached from its parameters"),
    ],
)
def test_an_encoder_that_returns_something_else_is_refused(change: Any, said: str) -> None:
    class Odd(Pyramid):
        def forward(self, images: torch.Tensor) -> Any:
            return change(super().forward(images))

    with pytest.raises(PluginBroken, match=f"acme:odd 1.0 is broken: .*{said}"):
        probe_encoder(Odd(), 3, "acme:odd 1.0")


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_are_no_fault_of_a_component(value: float, tmp_path: Path) -> None:
    recipe = load_recipe("neuropbr:quickstart", ["data.synthesize=null", "data.val_materials=[]"])
    spec = ModelSpec.from_recipe(recipe)
    generator = build_generator(spec)
    name, parameter = next(generator.encoder.named_parameters(prefix="encoder"))
    parameter.data.view(-1)[-1] = value
    file = tmp_path / "model.safetensors"
    save_model_file(generator, spec, file)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: {name} holds values that are not finite"):
        load_model(file)


def test_a_loaded_model_whose_encoder_lies_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("neuropbr:quickstart", ["data.synthesize=null", "data.val_materials=[]"])
    spec = ModelSpec.from_recipe(recipe)
    file = tmp_path / "model.safetensors"
    save_model_file(build_generator(spec), spec, file)
    assert not load_model(file)[0].training
    encode = UNetEncoder.forward
    monkeypatch.setattr(UNetEncoder, "forward", lambda encoder, images: encode(encoder, images)[:-1])
    with pytest.raises(PluginBroken, match=r"encoder/unet of neuropbr .* is broken: it declares channels"):
        load_model(file)


def test_gradients_reach_every_parameter() -> None:
    generator = build(ModelSection(albedo="residual", skip_merge="statistics", decoder=Decoder(global_path=True)))
    prediction = generator.train()(torch.rand(2, 3, 3, 8, 8))
    torch.stack([value.sum() for value in prediction.logits.values()]).sum().backward()
    missing = [name for name, parameter in generator.named_parameters() if parameter.grad is None]
    assert missing == []


@pytest.mark.parametrize("kind", [torch.float16, torch.complex64, torch.float8_e4m3fn, torch.int8])
def test_weights_of_another_type_are_no_fault_of_a_component(kind: torch.dtype, tmp_path: Path) -> None:
    recipe = load_recipe("neuropbr:quickstart", ["data.synthesize=null", "data.val_materials=[]"])
    spec = ModelSpec.from_recipe(recipe)
    file = tmp_path / "model.safetensors"
    save_model_file(build_generator(spec), spec, file)
    with safe_open(file, framework="pt") as stored:
        description = stored.metadata()
    state = load_file(file)
    name = next(iter(state))
    save_file({**state, name: state[name].to(kind)}, file, description)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: {name} is stored as {kind}, where the model has"):
        load_model(file)
