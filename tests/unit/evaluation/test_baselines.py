import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neuropbr_core.errors import RunError
from neuropbr_core.evaluation.baselines import Baselines, BestConstant, TargetMean
from neuropbr_core.evaluation.metrics import PSNR_CAP, measure


def byte_maps(seed: int, batch: int = 3, size: int = 8) -> dict[str, Tensor]:
    """Maps whose values are those of 8-bit images."""
    random = torch.Generator().manual_seed(seed)

    def draw(channels: int) -> Tensor:
        return torch.randint(0, 256, (batch, channels, size, size), generator=random) / 255

    albedo = draw(3)
    # Squared, so that mean and median differ.
    roughness = (draw(1) ** 2 * 255).round() / 255
    metallic = (draw(1) > 0.7).float()
    slopes = draw(2) - 0.5
    normal = F.normalize(torch.cat([slopes, torch.ones(batch, 1, size, size)], dim=1), dim=1)
    return {"albedo": albedo, "roughness": roughness, "metallic": metallic, "normal": normal}


def mask(batch: int = 3, size: int = 8) -> Tensor:
    valid = torch.ones(batch, 1, size, size)
    valid[0, :, :3] = 0
    return valid


def test_the_target_mean_is_that_of_all_valid_pixels() -> None:
    maps = byte_maps(0)
    valid = mask()
    mean = TargetMean()
    mean.add({name: value[:1] for name, value in maps.items()}, valid[:1])
    mean.add({name: value[1:] for name, value in maps.items()}, valid[1:])
    values = mean.values()
    assert set(values) == {"albedo", "roughness", "metallic"}
    inside = valid[:, 0] > 0
    for name, value in values.items():
        assert value == pytest.approx(maps[name].movedim(1, -1)[inside].double().mean(dim=0).tolist(), abs=1e-6)


def test_the_target_mean_of_nothing_is_an_error() -> None:
    mean = TargetMean()
    mean.add(byte_maps(0), torch.zeros(3, 1, 8, 8))
    with pytest.raises(RunError, match=r"training mean: no valid pixel in the training targets; check data\.root"):
        mean.values()


def test_baselines_predict_the_maps_that_their_names_describe() -> None:
    target = byte_maps(1)
    views = torch.rand((3, 3, 3, 8, 8), generator=torch.Generator().manual_seed(2))
    visible = torch.ones(3, 3, 1, 8, 8)
    visible[:, 2, :, :4] = 0
    mean = {"albedo": (0.1, 0.2, 0.3), "roughness": (0.4,), "metallic": (0.5,)}
    named = Baselines(mean).predictions(views, visible, target)
    assert list(named) == ["per-map training mean", "metallic always 0", "median of the aligned views", "flat normal"]
    assert set(named["per-map training mean"]) == {"albedo", "roughness", "metallic"}
    assert named["per-map training mean"]["albedo"][2, :, 5, 5].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert named["metallic always 0"]["metallic"].abs().max() == 0
    assert named["flat normal"]["normal"][1, :, 3, 3].tolist() == [0, 0, 1]
    median = named["median of the aligned views"]["albedo"]
    torch.testing.assert_close(median[..., 4:, :], views.median(dim=1).values[..., 4:, :])
    torch.testing.assert_close(median[..., :4, :], views[:, :2].mean(dim=1)[..., :4, :])
    for maps in named.values():
        assert all(value.shape == target[name].shape for name, value in maps.items())


def test_baselines_follow_the_size_and_the_maps_of_the_target() -> None:
    target = {"albedo": torch.zeros(1, 3, 16, 16)}
    views = torch.full((1, 3, 3, 8, 8), 0.25)
    baselines = Baselines({"albedo": (0.0, 0.0, 0.0), "roughness": (0.0,)}, aligned=False)
    named = baselines.predictions(views, torch.ones(1, 3, 1, 8, 8), target)
    assert list(named) == ["per-map training mean", "median of the views"]
    torch.testing.assert_close(named["median of the views"]["albedo"], torch.full((1, 3, 16, 16), 0.25))


def scores_of_constant(name: str, value: Tensor, target: dict[str, Tensor], valid: Tensor) -> dict[str, float]:
    constant = value.float().view(1, -1, 1, 1).expand(target[name].shape)
    values = measure({name: constant}, target, valid)
    return {metric: values[f"{name}/{metric}"].mean().item() for metric in ("mae", "rmse", "psnr")}


@pytest.mark.parametrize("name", ["albedo", "roughness", "metallic"])
def test_the_best_constant_scores_as_measured_and_nothing_beats_it(name: str) -> None:
    target = byte_maps(3)
    valid = mask()
    best = BestConstant(name)
    for i in range(3):
        best.add({name: target[name][i : i + 1]}, valid[i : i + 1])
    scores = best.scores()
    image_means = [target[name][i][:, valid[i, 0] > 0].mean(dim=1) for i in range(3)]
    mean = torch.stack(image_means).mean(dim=0)
    measured = scores_of_constant(name, mean, target, valid)
    assert scores["psnr"] == pytest.approx(measured["psnr"], abs=1e-4)
    assert scores["rmse"] == pytest.approx(measured["rmse"], abs=1e-6)
    grey_errors: list[float] = []
    for level in range(256):
        grey = torch.full_like(mean, level / 255)
        grey_errors.append(scores_of_constant(name, grey, target, valid)["mae"])
    assert scores["mae"] <= min(grey_errors) + 1e-6
    # A map with one channel has no other constants.
    if target[name].shape[1] == 1:
        assert scores["mae"] == pytest.approx(min(grey_errors), abs=1e-6)


def test_the_best_constant_of_a_constant_set_is_perfect_and_of_no_set_is_nothing() -> None:
    best = BestConstant("metallic")
    assert best.scores() == {}
    best.add({"metallic": torch.ones(2, 1, 8, 8)}, torch.zeros(2, 1, 8, 8))
    assert best.scores() == {}
    best.add({"metallic": torch.ones(2, 1, 8, 8)}, torch.ones(2, 1, 8, 8))
    assert best.scores() == {"mae": 0.0, "rmse": 0.0, "psnr": PSNR_CAP}
