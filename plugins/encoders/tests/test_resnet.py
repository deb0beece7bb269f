"""Encoder `resnet`: the conformance suite, and what is particular to it."""

from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from neuropbr_core.errors import ModelError
from neuropbr_core.testing.encoder import EncoderSuite
from neuropbr_encoders import backbone
from neuropbr_encoders.resnet import Options
from neuropbr_encoders.resnet.pyramid import ResNetEncoder


class TestResNet(EncoderSuite):
    use = "resnet"
    option_sets = (
        {"variant": "resnet18"},
        {"variant": "resnet18", "stem_stride": 2, "freeze_batch_norm": True},
    )


class TestFrozenResNet(EncoderSuite):
    use = "resnet"
    option_sets = ({"variant": "resnet18", "stem_stride": 2, "freeze": True},)
    cells = ((1, 2),)


BASIC, BOTTLENECK = (64, 64, 128, 256, 512), (64, 256, 512, 1024, 2048)


def small(in_channels: int = 3, **options: object) -> ResNetEncoder:
    torch.manual_seed(0)
    return ResNetEncoder(Options(**{"variant": "resnet18", "stem_stride": 2} | options), in_channels)


def seeded_images(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, 64, 64, generator=torch.Generator().manual_seed(1))


def run(encoder: ResNetEncoder, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return [feature.clone() for feature in encoder(images)]


def batch_norms(encoder: ResNetEncoder) -> list[nn.BatchNorm2d]:
    return [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm without a network: any attempt to download fails as it does offline."""
    create = timm.create_model

    def create_model(*args: object, pretrained: bool = False, **kwargs: object) -> nn.Module:
        if pretrained:
            raise URLError("no network")
        return create(*args, pretrained=False, **kwargs)

    monkeypatch.setattr(timm, "create_model", create_model)


@pytest.mark.parametrize(
    ("variant", "channels", "millions"),
    [
        ("resnet18", BASIC, 11.18),
        ("resnet34", BASIC, 21.28),
        ("resnet50", BOTTLENECK, 23.51),
        ("resnet101", BOTTLENECK, 42.50),
        ("resnet152", BOTTLENECK, 58.14),
    ],
)
def test_variants_have_the_published_sizes(variant: str, channels: tuple[int, ...], millions: float) -> None:
    with torch.device("meta"):
        encoder = ResNetEncoder(Options(variant=variant), 3)
    assert encoder.channels == channels
    assert encoder.strides == (1, 2, 4, 8, 16)
    assert sum(value.numel() for value in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_stem_stride_2_is_the_network_of_timm_with_a_frame_that_goes_on() -> None:
    encoder = small().eval()
    reference = timm.create_model("resnet18", features_only=True).eval()
    reference.conv1.padding_mode = "replicate"
    reference.load_state_dict(encoder.body.state_dict())
    assert encoder.strides == (2, 4, 8, 16, 32)
    with torch.no_grad():
        expected = reference(seeded_images())
    for feature, other in zip(run(encoder, seeded_images()), expected, strict=True):
        torch.testing.assert_close(feature, other, rtol=0, atol=0)


def test_stem_stride_1_computes_the_same_stem_at_every_pixel() -> None:
    full, half = small(stem_stride=1).eval(), small(stem_stride=2).eval()
    images = seeded_images()
    torch.testing.assert_close(run(full, images)[0][..., ::2, ::2], run(half, images)[0], rtol=0, atol=1e-6)


def test_freeze_batch_norm_holds_statistics_in_train_mode() -> None:
    encoder = small(freeze_batch_norm=True).train()
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    features = encoder(seeded_images())
    torch.stack([feature.square().mean() for feature in features]).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())
    assert not any(value.requires_grad for norm in batch_norms(encoder) for value in norm.parameters())
    assert encoder.training
    assert encoder.body.conv1.weight.grad.abs().sum() > 0


def test_batch_norm_statistics_move_unless_frozen() -> None:
    encoder = small().train()
    before = encoder.body.bn1.running_mean.clone()
    run(encoder, seeded_images())
    assert not torch.equal(encoder.body.bn1.running_mean, before)


def test_freeze_trains_nothing_and_moves_nothing() -> None:
    encoder = small(freeze=True).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    run(encoder, seeded_images())
    assert not any(value.requires_grad for value in encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_frozen_batch_norms_stay_in_eval_inside_a_model() -> None:
    model = nn.Sequential(small(freeze_batch_norm=True))
    model.eval()
    model.train()
    assert not any(norm.training for norm in batch_norms(model[0]))


@pytest.mark.parametrize("form", ["safetensors", "bare", "state_dict", "model"])
def test_start_weights_from_a_file(form: str, tmp_path: Path, no_network: None) -> None:
    torch.manual_seed(5)
    classifier = timm.create_model("resnet18", num_classes=7).eval()
    classifier.conv1.padding_mode = "replicate"
    state = classifier.state_dict()
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state if form == "bare" else {form: state, "epoch": 3}, path)
    encoder = small(weights=str(path), pretrained=True).eval()
    with torch.no_grad():
        expected = classifier.forward_features(seeded_images())
    torch.testing.assert_close(run(encoder, seeded_images())[-1], expected, rtol=0, atol=0)


def test_file_without_batch_counters_is_taken(tmp_path: Path) -> None:
    state = {name: value for name, value in small().body.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    assert torch.equal(small(weights=str(tmp_path / "old.pth")).body.conv1.weight, state["conv1.weight"])


def test_channels_behind_the_third_start_at_zero(tmp_path: Path) -> None:
    plain = small().eval()
    save_file(plain.body.state_dict(), tmp_path / "three.safetensors")
    encoder = small(in_channels=6, weights=str(tmp_path / "three.safetensors")).eval()
    images = seeded_images(6)
    assert torch.equal(encoder.body.conv1.weight[:, :3], plain.body.conv1.weight)
    assert torch.count_nonzero(encoder.body.conv1.weight[:, 3:]) == 0
    for feature, expected in zip(run(encoder, images), run(plain, images[:, :3]), strict=True):
        torch.testing.assert_close(feature, expected, rtol=0, atol=1e-5)


def test_pretrained_weights_reach_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    imagenet = small().body
    create = timm.create_model
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda *a, pretrained, **kw: imagenet if pretrained else create(*a, pretrained=False, **kw),
    )
    torch.manual_seed(9)
    encoder = ResNetEncoder(Options(variant="resnet18", pretrained=True), 6)
    assert torch.equal(encoder.body.layer4[1].conv2.weight, imagenet.layer4[1].conv2.weight)
    assert torch.equal(encoder.body.conv1.weight[:, :3], imagenet.conv1.weight)


def test_pretrained_without_network_says_what_to_do(no_network: None) -> None:
    with pytest.raises(ModelError) as raised:
        small(pretrained=True)
    assert str(raised.value) == (
        "encoder resnet: ImageNet weights of resnet18 could not be downloaded (URLError: <urlopen error no network>). "
        "Give `weights: FILE` (.safetensors or a PyTorch state dict of resnet18), or set `pretrained: false`."
    )


def test_weights_that_cannot_be_had_are_replaced_by_random_ones_with_a_note(
    no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "require_reachable", lambda: None)
    encoder = small(pretrained="auto")
    (note,) = encoder.notes
    assert note == (
        "encoder resnet: starts from random weights, because the ImageNet weights of resnet18 cannot be had here "
        "(URLError: <urlopen error no network>); `weights: FILE` reads local ones"
    )
    assert small(pretrained=False).notes == ()


def test_without_a_connection_nothing_is_tried_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(backbone, "create_connection", refused)
    monkeypatch.setattr(backbone, "getproxies", dict)
    monkeypatch.setattr(backbone, "try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr(backbone, "download", None)  # calling it would fail with another error
    assert "(ConnectionRefusedError: refused)" in small(pretrained="auto").notes[0]
    # A proxy would make the connection, so it is left to the download.
    monkeypatch.setattr(backbone, "getproxies", lambda: {"https": "http://proxy"})
    backbone.require_reachable()


def test_cached_weights_are_loaded_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "try_to_load_from_cache", lambda *args: "model.safetensors")
    monkeypatch.setattr(backbone, "require_reachable", None)
    imagenet = small().body.state_dict()
    monkeypatch.setattr(backbone, "download", lambda network: imagenet)
    encoder = small(pretrained="auto", freeze=True)
    assert encoder.notes == ()
    assert not encoder.is_frozen_at_random
    assert torch.equal(encoder.body.layer1[0].conv1.weight, imagenet["layer1.0.conv1.weight"])


def test_an_encoder_knows_that_its_random_weights_are_frozen(
    no_network: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(backbone, "require_reachable", lambda: None)
    assert small(freeze=True).is_frozen_at_random
    assert small(freeze=True, pretrained="auto").is_frozen_at_random
    assert not small(freeze_batch_norm=True).is_frozen_at_random
    save_file(small().body.state_dict(), tmp_path / "start.safetensors")
    assert not small(freeze=True, weights=str(tmp_path / "start.safetensors")).is_frozen_at_random
    with torch.device("meta"):
        assert small(freeze=True).is_frozen_at_random
        assert not small(freeze=True, pretrained=True).is_frozen_at_random


def test_no_weights_are_loaded_on_meta(no_network: None) -> None:
    with torch.device("meta"):
        encoder = small(pretrained=True, weights="missing.safetensors")
    assert encoder.body.conv1.weight.is_meta


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    state = small().body.state_dict()
    state["conv1.weight"] = state["conv1.weight"][:32].contiguous()
    state["head.weight"] = torch.zeros(3)
    del state["bn1.bias"]
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ModelError) as raised:
        small(weights=str(tmp_path / "other.safetensors"))
    assert str(raised.value) == (
        f"encoder resnet: weights file {tmp_path / 'other.safetensors'} do not fit resnet18: 1 missing (bn1.bias); "
        "1 unknown (head.weight); 1 of another shape (conv1.weight (32, 3, 7, 7) instead of (64, 3, 7, 7))"
    )


def test_missing_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"weights file nowhere\.pth does not exist"):
        small(weights="nowhere.pth")


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth"])
def test_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x07" * 100)
    with pytest.raises(ModelError, match=rf"{name} cannot be read .* it is damaged"):
        small(weights=str(tmp_path / name))


def test_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(small().body, tmp_path / "pickled.pth")
    with pytest.raises(ModelError, match="nor a PyTorch state dict that holds tensors only"):
        small(weights=str(tmp_path / "pickled.pth"))


def test_file_without_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "meta.pth")
    with pytest.raises(ModelError, match="holds no state dict"):
        small(weights=str(tmp_path / "meta.pth"))
