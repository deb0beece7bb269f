"""Encoder `mobilenetv3`: the conformance suite, and what is particular to it. Start weights: see `test_resnet`."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from neuropbr_core.errors import ModelError
from neuropbr_core.testing.encoder import EncoderSuite
from neuropbr_encoders.mobilenetv3 import Options
from neuropbr_encoders.mobilenetv3.pyramid import MobileNetV3Encoder


class TestMobileNetV3(EncoderSuite):
    use = "mobilenetv3"
    option_sets = ({}, {"variant": "small", "stem_stride": 1, "freeze_batch_norm": True})


class TestFrozenMobileNetV3(EncoderSuite):
    use = "mobilenetv3"
    option_sets = ({"variant": "small", "freeze": True},)
    cells = ((1, 2),)


def small(in_channels: int = 3, **options: object) -> MobileNetV3Encoder:
    torch.manual_seed(0)
    return MobileNetV3Encoder(Options(**{"variant": "small"} | options), in_channels)


def seeded_images(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, 64, 64, generator=torch.Generator().manual_seed(1))


def run(encoder: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return [feature.clone() for feature in encoder(images)]


@pytest.mark.parametrize(
    ("variant", "channels", "parameters"),
    # The published 5.48 and 2.54 million, less the classifier's: 960·1280 + 1280 + 1281·1000 and 577·1024 + 1025·1000.
    [
        ("large", (16, 24, 40, 112, 960), 5_483_032 - 2_511_080),
        ("small", (16, 16, 24, 48, 576), 2_542_856 - 1_615_848),
    ],
)
def test_variants_have_the_published_sizes(variant: str, channels: tuple[int, ...], parameters: int) -> None:
    with torch.device("meta"):
        encoder = MobileNetV3Encoder(Options(variant=variant), 3)
    assert encoder.channels == channels
    assert encoder.strides == (2, 4, 8, 16, 32)
    assert sum(value.numel() for value in encoder.parameters()) == parameters


def test_stem_stride_2_is_the_network_of_timm_with_a_frame_that_goes_on() -> None:
    encoder = small().eval()
    reference = timm.create_model("mobilenetv3_small_100", features_only=True).eval()
    reference.conv_stem.padding_mode = "replicate"
    reference.load_state_dict(encoder.body.state_dict())
    for feature, other in zip(run(encoder, seeded_images()), run(reference, seeded_images()), strict=True):
        torch.testing.assert_close(feature, other, rtol=0, atol=0)


def test_stem_stride_1_computes_the_same_stem_at_every_pixel() -> None:
    full, half = small(stem_stride=1).eval(), small(stem_stride=2).eval()
    images = seeded_images()
    assert full.strides == (1, 2, 4, 8, 16)
    torch.testing.assert_close(run(full, images)[0][..., ::2, ::2], run(half, images)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("option", "trains"), [("freeze_batch_norm", True), ("freeze", False)])
def test_frozen_batch_norms_hold_through_training_steps(option: str, trains: bool) -> None:
    model = nn.Sequential(small(**{option: True}), _LastLevel())
    scale = nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([*model.parameters(), scale], lr=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(2):
        model.eval()
        model.train()
        optimizer.zero_grad()
        (model(seeded_images()).square().mean() * scale).backward()
        optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    norms = {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for own in module.state_dict()
    }
    assert norms
    assert not moved & norms
    assert ("0.body.conv_stem.weight" in moved) == trains


class _LastLevel(nn.Module):
    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        return levels[-1]


def test_start_weights_of_the_classifier_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(5)
    classifier = timm.create_model("mobilenetv3_small_100").eval()
    classifier.conv_stem.padding_mode = "replicate"
    save_file(classifier.state_dict(), tmp_path / "weights.safetensors")
    encoder = small(in_channels=6, weights=str(tmp_path / "weights.safetensors")).eval()
    images = seeded_images(6)
    with torch.no_grad():
        expected = classifier.forward_features(images[:, :3])
    torch.testing.assert_close(run(encoder, images)[-1], expected, rtol=0, atol=1e-5)


def test_weights_of_the_other_variant_are_refused(tmp_path: Path) -> None:
    large = MobileNetV3Encoder(Options(), 3)
    save_file(large.body.state_dict(), tmp_path / "large.safetensors")
    with pytest.raises(ModelError, match=r"^encoder mobilenetv3: weights file .* do not fit mobilenetv3_small_100: "):
        small(weights=str(tmp_path / "large.safetensors"))


def test_pretrained_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(*args: object, pretrained: bool = False, **kwargs: object) -> nn.Module:
        if pretrained:
            raise ConnectionError("no network")
        return create(*args, pretrained=False, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ModelError) as raised:
        small(pretrained=True)
    assert str(raised.value) == (
        "encoder mobilenetv3: ImageNet weights of mobilenetv3_small_100 could not be downloaded (ConnectionError: no "
        "network). Give `weights: FILE` (.safetensors or a PyTorch state dict of mobilenetv3_small_100), or set "
        "`pretrained: false`."
    )
