import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neuropbr_core.errors import RunError
from neuropbr_core.evaluation.baselines import Baselines, TargetMean
from neuropbr_core.evaluation.constants import BestConstant
from neuropbr_core.evaluation.means import RunningMeans
from neuropbr_core.evaluation.metrics import PSNR_CAP, measure
from neuropbr_core.evaluation.ranking import RankStatistic


def byte_maps(seed: int, batch: int = 3, size: int = 8) -> dict[str, Tensor]:
    """Maps whose values are those of 8-bit images."""
    random = torch.Generator().manual_seed(seed)

    def draw(channels: int) -> Tensor:
        return torch.randint(0, 256, (batch, channels, size, size), generator=random) / 255

    maps = {"albedo": draw(3), "roughness": draw(1) ** 2, "metallic": (draw(1) > 0.7).float()}
    maps["roughness"] = (maps["roughness"] * 255).round() / 255
    return {**maps, "normal": F.normalize(torch.cat([draw(2) - 0.5, torch.ones(batch, 1, size, size)], 1), dim=1)}


def mask(batch: int = 3, size: int = 8) -> Tensor:
    valid = torch.ones(batch, 1, size, size)
    valid[0, :, :3] = 0
    return valid


def test_running_means_count_images_and_not_batches() -> None:
    means = RunningMeans()
    means.add(["a"], ["brick"], {"x": torch.tensor([1.0])})
    means.add(["b", "c", "d"], ["wood", "wood", "brick"], {"x": torch.tensor([3.0, 4.0, 8.0])})
    assert means.means() == {"x": 4.0}
    assert means.by_material() == {"brick": {"x": 4.5}, "wood": {"x": 3.5}}
    assert [(row.sample, row.material, row.values["x"]) for row in means.rows][2] == ("c", "wood", 4.0)


def test_running_means_leave_out_what_could_not_be_measured_but_show_a_prediction_that_is_nan() -> None:
    valid = torch.ones(3, 1, 4, 4)
    valid[0] = 0
    means = RunningMeans()
    means.add(["a", "b", "c"], ["m"] * 3, {"x": torch.tensor([math.nan, 1.0, 2.0])}, valid)
    assert means.means() == {"x": 1.5}
    means.add(["d"], ["m"], {"x": torch.tensor([math.nan])}, valid[1:2])
    assert math.isnan(means.means()["x"])


def test_running_means_of_nothing_are_empty() -> None:
    assert RunningMeans().means() == {}
    assert RunningMeans().by_material() == {}


def test_the_target_mean_is_that_of_all_valid_pixels() -> None:
    maps, valid = byte_maps(0), mask()
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


def test_baselines_predict_what_their_names_say() -> None:
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
    named = Baselines({"albedo": (0.0, 0.0, 0.0), "roughness": (0.0,)}, aligned=False).predictions(
        views, torch.ones(1, 3, 1, 8, 8), target
    )
    assert list(named) == ["per-map training mean", "median of the views"]
    torch.testing.assert_close(named["median of the views"]["albedo"], torch.full((1, 3, 16, 16), 0.25))


def scores_of_constant(name: str, value: Tensor, target: dict[str, Tensor], valid: Tensor) -> dict[str, float]:
    constant = value.float().view(1, -1, 1, 1).expand(target[name].shape)
    values = measure({name: constant}, target, valid)
    return {metric: values[f"{name}/{metric}"].mean().item() for metric in ("mae", "rmse", "psnr")}


@pytest.mark.parametrize("name", ["albedo", "roughness", "metallic"])
def test_the_best_constant_scores_as_measured_and_nothing_beats_it(name: str) -> None:
    target, valid = byte_maps(3), mask()
    best = BestConstant(name)
    for i in range(3):
        best.add({name: target[name][i : i + 1]}, valid[i : i + 1])
    scores = best.scores()
    pixels = [target[name][i][:, valid[i, 0] > 0] for i in range(3)]
    mean = torch.stack([image.mean(dim=1) for image in pixels]).mean(dim=0)
    measured = scores_of_constant(name, mean, target, valid)
    assert scores["psnr"] == pytest.approx(measured["psnr"], abs=1e-4)
    assert scores["rmse"] == pytest.approx(measured["rmse"], abs=1e-6)
    tried = [scores_of_constant(name, torch.full_like(mean, level / 255), target, valid) for level in range(0, 256, 5)]
    assert scores["mae"] <= min(result["mae"] for result in tried) + 1e-6
    if target[name].shape[1] == 1:
        exact = [scores_of_constant(name, torch.tensor([level / 255]), target, valid)["mae"] for level in range(256)]
        assert scores["mae"] == pytest.approx(min(exact), abs=1e-6)


def test_the_best_constant_of_a_constant_set_is_perfect_and_of_no_set_is_nothing() -> None:
    best = BestConstant("metallic")
    assert best.scores() == {}
    best.add({"metallic": torch.ones(2, 1, 8, 8)}, torch.zeros(2, 1, 8, 8))
    assert best.scores() == {}
    best.add({"metallic": torch.ones(2, 1, 8, 8)}, torch.ones(2, 1, 8, 8))
    assert best.scores() == {"mae": 0.0, "rmse": 0.0, "psnr": PSNR_CAP}


def test_auc_equals_the_share_of_pairs_in_the_right_order() -> None:
    random = torch.Generator().manual_seed(4)
    truth = (torch.rand((2, 1, 8, 8), generator=random) > 0.6).float()
    score = (0.3 * truth + torch.rand((2, 1, 8, 8), generator=random) * 0.7).mul(20).round() / 20
    valid = torch.ones_like(truth)
    valid[1, :, :4] = 0
    ranking = RankStatistic()
    for i in range(2):
        ranking.add(score[i : i + 1], truth[i : i + 1], valid[i : i + 1])
    inside = valid > 0
    positive = score[inside & (truth > 0.5)].tolist()
    negative = score[inside & (truth < 0.5)].tolist()
    right = sum((p > n) + 0.5 * (p == n) for p, n in itertools.product(positive, negative))
    assert ranking.auc() == pytest.approx(right / (len(positive) * len(negative)), abs=1e-9)


def test_auc_tells_apart_scores_that_have_nearly_collapsed() -> None:
    truth = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2)
    score = torch.tensor([1e-5, 2e-5, 3e-5, 4e-5]).view(1, 1, 2, 2)
    ranking = RankStatistic()
    ranking.add(score, truth, torch.ones_like(truth))
    assert ranking.auc() == 1.0


def test_auc_of_a_constant_is_a_half_and_of_one_class_is_unknown() -> None:
    truth = torch.tensor([0.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    one_class, both = RankStatistic(), RankStatistic()
    one_class.add(truth, torch.zeros_like(truth), torch.ones_like(truth))
    assert one_class.auc() is None
    both.add(torch.full_like(truth, 0.3), truth, torch.ones_like(truth))
    assert both.auc() == 0.5


def test_auc_leaves_out_pixels_without_a_score() -> None:
    truth = torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2)
    score = torch.tensor([0.1, 0.9, math.nan, 0.2]).view(1, 1, 2, 2)
    ranking = RankStatistic()
    ranking.add(score, truth, torch.ones_like(truth))
    assert ranking.auc() == 1.0
