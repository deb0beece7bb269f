"""Metrics against known values and independent formulas, and their means."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from neuropbr_core.errors import ModelError
from neuropbr_core.evaluation.metrics import (
    METRICS,
    PSNR_CAP,
    RankStatistic,
    Row,
    RunningMeans,
    measure,
    measure_rerendering,
    measure_seams,
    normal_angle,
    rendering,
    step_metrics,
    with_overall,
)
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.relight import heldout_relightings


def random_maps(seed: int, batch: int = 2, size: int = 24) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    maps = {name: torch.rand((batch, spec.channels, size, size), generator=random) for name, spec in MAPS.items()}
    slopes = maps["normal"][:, :2] - 0.5
    maps["normal"] = F.normalize(torch.cat([slopes, torch.ones(batch, 1, size, size)], dim=1), dim=1)
    return maps


def everything(maps: dict[str, Tensor]) -> Tensor:
    return torch.ones_like(maps["roughness"])


@pytest.mark.parametrize("constant", [None, 0.0, 0.97, 1.0])
def test_the_truth_as_the_prediction_is_perfect_in_every_metric(constant: float | None) -> None:
    truth = random_maps(0)
    if constant is not None:
        truth |= {name: torch.full_like(truth[name], constant) for name in ("albedo", "roughness", "metallic")}
    valid = everything(truth)
    valid[1, :, :5] = 0
    values = measure(truth, truth, valid)
    perfect = {
        "mae": 0.0,
        "rmse": 0.0,
        "psnr": PSNR_CAP,
        "ssim": 1.0,
        "angle": 0.0,
        "angle_median": 0.0,
        "within_11": 1.0,
        "within_22": 1.0,
        "within_30": 1.0,
    }
    assert {name for name in values if name.startswith("normal/")} == {f"normal/{name}" for name in perfect}
    for name, value in values.items():
        # SSIM is a mean of windows, which rounds; everything else is exact.
        tolerance = 0.0
        if "ssim" in name:
            tolerance = 1e-6
        expected = perfect[name.rpartition("/")[2]]
        torch.testing.assert_close(value, torch.full((2,), expected), rtol=0, atol=tolerance)


def test_psnr_and_ssim_equal_torchmetrics_on_fully_valid_images() -> None:
    prediction, truth = random_maps(1), random_maps(2)
    values = measure(prediction, truth, everything(truth))
    for name in ("albedo", "roughness"):
        for i in range(2):
            a = prediction[name][i : i + 1].double()
            b = truth[name][i : i + 1].double()
            psnr = peak_signal_noise_ratio(a, b, data_range=1.0).item()
            assert values[f"{name}/psnr"][i].item() == pytest.approx(psnr, abs=1e-4)
            ssim = structural_similarity_index_measure(a, b, data_range=1.0)
            assert isinstance(ssim, Tensor)
            assert values[f"{name}/ssim"][i].item() == pytest.approx(ssim.item(), abs=1e-5)


def test_ssim_equals_the_formula_written_out_in_numpy() -> None:
    prediction = random_maps(3, batch=1, size=16)
    truth = random_maps(4, batch=1, size=16)
    a = prediction["roughness"][0, 0].double().numpy()
    b = truth["roughness"][0, 0].double().numpy()
    offsets = np.arange(-5, 6)
    kernel = np.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    padded_a = np.pad(a, 5, mode="reflect")
    padded_b = np.pad(b, 5, mode="reflect")
    total = 0.0
    for y in range(16):
        for x in range(16):
            window_a = padded_a[y : y + 11, x : x + 11]
            window_b = padded_b[y : y + 11, x : x + 11]
            mean_a = (kernel * window_a).sum()
            mean_b = (kernel * window_b).sum()
            variance_a = (kernel * (window_a - mean_a) ** 2).sum()
            variance_b = (kernel * (window_b - mean_b) ** 2).sum()
            covariance = (kernel * (window_a - mean_a) * (window_b - mean_b)).sum()
            # The constants are (0.01 L)² and (0.03 L)² for the data range L = 1.
            luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            structure = (2 * covariance + 9e-4) / (variance_a + variance_b + 9e-4)
            total += luminance * structure
    values = measure(prediction, truth, everything(truth))
    assert values["roughness/ssim"].item() == pytest.approx(total / 256, abs=1e-5)


def test_errors_of_a_constant_offset_are_known_in_closed_form() -> None:
    truth = {"albedo": torch.full((1, 3, 8, 8), 0.5)}
    values = measure({"albedo": truth["albedo"] + 0.1}, truth, torch.ones(1, 1, 8, 8))
    assert values["albedo/mae"].item() == pytest.approx(0.1, abs=1e-6)
    assert values["albedo/rmse"].item() == pytest.approx(0.1, abs=1e-6)
    assert values["albedo/psnr"].item() == pytest.approx(20.0, abs=1e-4)


def test_normals_are_compared_as_encoded_vectors() -> None:
    flat = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    side = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    values = measure({"normal": side}, {"normal": flat}, torch.ones(1, 1, 8, 8))
    assert values["normal/mae"].item() == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert values["normal/rmse"].item() == pytest.approx(math.sqrt(0.5 / 3))
    assert values["normal/angle"].item() == pytest.approx(90.0, abs=1e-4)


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 0.01, 30.0, 90.0, 179.99, 180.0])
def test_the_angle_is_exact_from_nothing_to_opposite(degrees: float) -> None:
    radians = math.radians(degrees)
    turned = torch.tensor([math.sin(radians), 0.0, math.cos(radians)], dtype=torch.float64).float().view(1, 3, 1, 1)
    angle = normal_angle(turned, torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1))
    # In float32 the components of a large angle are rounded before the angle is computed.
    tolerance = 1e-4
    if degrees < 90:
        tolerance = 1e-9
    assert angle.item() == pytest.approx(degrees, rel=1e-5, abs=tolerance)


def test_the_angle_of_equal_vectors_is_exactly_zero() -> None:
    vectors = F.normalize(torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(0)), dim=1)
    assert normal_angle(vectors, vectors).max().item() == 0.0


def test_mean_and_median_angle_differ_as_they_should() -> None:
    prediction = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).repeat(1, 1, 8, 8)
    truth = prediction.clone()
    truth[0, :, :2] = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
    values = measure({"normal": prediction}, {"normal": truth}, torch.ones(1, 1, 8, 8))
    assert values["normal/angle"].item() == pytest.approx(90 / 4, abs=1e-4)
    assert values["normal/angle_median"].item() == 0.0


@pytest.mark.parametrize("junk", [0.0, 1e6, math.nan, math.inf])
def test_invalid_pixels_have_no_influence(junk: float) -> None:
    prediction, truth = random_maps(5), random_maps(6)
    valid = everything(truth)
    valid[0, :, 8:, 10:] = 0
    expected = measure(prediction, truth, valid)
    spoiled = {name: torch.where(valid > 0, value, junk) for name, value in prediction.items()}
    spoiled_truth = {name: torch.where(valid > 0, value, -junk) for name, value in truth.items()}
    for name, value in measure(spoiled, spoiled_truth, valid).items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_each_image_is_measured_for_itself() -> None:
    prediction, truth = random_maps(7), random_maps(8)
    valid = everything(truth)
    valid[1, :, :9] = 0
    together = measure(prediction, truth, valid)
    for i in range(2):
        image = slice(i, i + 1)
        image_prediction = {name: value[image] for name, value in prediction.items()}
        image_truth = {name: value[image] for name, value in truth.items()}
        alone = measure(image_prediction, image_truth, valid[image])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][image], value, msg=name)


def test_an_image_without_valid_pixels_is_nan_and_leaves_the_others_alone() -> None:
    prediction, truth = random_maps(9), random_maps(10)
    valid = everything(truth)
    valid[0] = 0
    for name, value in measure(prediction, truth, valid).items():
        assert value.isnan().tolist() == [True, False], name


def test_a_nan_in_a_valid_pixel_shows() -> None:
    prediction, truth = random_maps(11), random_maps(12)
    prediction = {name: value.clone() for name, value in prediction.items()}
    for value in prediction.values():
        value[0, 0, 3, 3] = math.nan
    for name, value in measure(prediction, truth, everything(truth)).items():
        assert value.isnan().tolist() == [True, False], name


def test_only_predicted_maps_are_measured_and_half_precision_is_accepted() -> None:
    truth = random_maps(13)
    values = measure({"metallic": truth["metallic"].bfloat16()}, truth, everything(truth))
    assert set(values) == {"metallic/mae", "metallic/rmse", "metallic/psnr", "metallic/ssim"}
    assert all(value.dtype == torch.float32 for value in values.values())
    assert values["metallic/mae"].max() < 0.004


def test_every_metric_can_be_shown() -> None:
    truth = random_maps(14)
    assert {name.rpartition("/")[2] for name in measure(truth, truth, everything(truth))} <= set(METRICS)


def test_maps_that_do_not_fit_are_refused() -> None:
    truth = random_maps(15)
    with pytest.raises(ModelError, match=r"map 'albedo' is predicted but has no target; targets: roughness"):
        measure({"albedo": truth["albedo"]}, {"roughness": truth["roughness"]}, everything(truth))
    with pytest.raises(
        ModelError, match=r"'metallic' is predicted as \(2, 1, 12, 24\), its target is \(2, 1, 24, 24\)"
    ):
        measure({"metallic": truth["metallic"][:, :, :12]}, truth, everything(truth))


def test_the_shares_of_correct_normals_are_those_below_each_limit() -> None:
    """Normals tilted by 5°, 15°, 25° and 35° against a flat truth, a quarter of the image each."""
    truth = {"normal": torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)}
    tilt = torch.deg2rad(torch.tensor([5.0, 15.0, 25.0, 35.0])).repeat_interleave(2).expand(8, 8)
    prediction = {"normal": torch.stack((tilt.sin(), torch.zeros_like(tilt), tilt.cos()))[None]}
    values = measure(prediction, truth, torch.ones(1, 1, 8, 8))
    shares = [values[f"normal/{name}"].item() for name in ("within_11", "within_22", "within_30")]
    assert shares == [0.25, 0.5, 0.75]


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
    right = 0.0
    for p, n in itertools.product(positive, negative):
        right += (p > n) + 0.5 * (p == n)
    assert ranking.auc() == pytest.approx(right / (len(positive) * len(negative)), abs=1e-9)


def test_auc_tells_apart_scores_that_have_nearly_collapsed() -> None:
    truth = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2)
    score = torch.tensor([1e-5, 2e-5, 3e-5, 4e-5]).view(1, 1, 2, 2)
    ranking = RankStatistic()
    ranking.add(score, truth, torch.ones_like(truth))
    assert ranking.auc() == 1.0


def test_auc_of_a_constant_is_a_half_and_of_one_class_is_unknown() -> None:
    truth = torch.tensor([0.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    negative = RankStatistic()
    negative.add(truth, torch.zeros_like(truth), torch.ones_like(truth))
    assert negative.auc() is None
    both = RankStatistic()
    both.add(torch.full_like(truth, 0.3), truth, torch.ones_like(truth))
    assert both.auc() == 0.5


def test_auc_leaves_out_pixels_without_a_score() -> None:
    truth = torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2)
    score = torch.tensor([0.1, 0.9, math.nan, 0.2]).view(1, 1, 2, 2)
    ranking = RankStatistic()
    ranking.add(score, truth, torch.ones_like(truth))
    assert ranking.auc() == 1.0


def maps(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    made = {name: torch.rand((3, spec.channels, 16, 16), generator=random) for name, spec in MAPS.items()}
    return {**made, "normal": F.normalize(made["normal"] + torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1), dim=1)}


def test_a_step_is_measured_like_a_validation() -> None:
    valid = torch.ones(3, 1, 16, 16)
    found = step_metrics(maps(0), maps(1), valid)
    assert set(found) == {f"{name}/{metric}" for name in MAPS for metric in ("mae", "ssim")} | {"normal/angle"}
    for name, value in measure(maps(0), maps(1), valid).items():
        if name in found:
            torch.testing.assert_close(found[name], value.mean())
    assert all(value.ndim == 0 and not value.requires_grad for value in found.values())


def test_images_without_a_valid_pixel_do_not_count() -> None:
    valid = torch.ones(3, 1, 16, 16)
    valid[1] = 0
    both = torch.tensor([0, 2])
    rows = measure(maps(0), maps(1), torch.ones(3, 1, 16, 16))
    found = step_metrics(maps(0), maps(1), valid)
    torch.testing.assert_close(found["albedo/mae"], rows["albedo/mae"][both].mean())
    nothing = step_metrics(maps(0), maps(1), torch.zeros_like(valid))
    assert set(nothing) == set(found)
    assert all(value.isnan() for value in nothing.values())


def test_a_prediction_that_is_not_finite_shows() -> None:
    broken = maps(0)
    broken["albedo"][0, 0, 0, 0] = math.nan
    assert step_metrics(broken, maps(1), torch.ones(3, 1, 16, 16))["albedo/mae"].isnan()


def test_overall_is_the_mean_over_the_maps() -> None:
    found = with_overall(
        {"loss": 1.0, "albedo/psnr": 20.0, "normal/psnr": 30.0, "albedo/mae": 0.5, "normal/angle": 3.0}
    )
    assert found["overall/psnr"] == 25.0
    assert found["overall/mae"] == 0.5
    assert "overall/ssim" not in found
    assert found["loss"] == 1.0
    assert with_overall({}) == {}


@pytest.mark.parametrize("missing", ["albedo", "normal"])
def test_any_subset_of_the_maps_can_be_measured(missing: str) -> None:
    prediction = {name: value for name, value in maps(0).items() if name != missing}
    found = step_metrics(prediction, maps(1), torch.ones(3, 1, 16, 16))
    assert not any(name.startswith(missing) for name in found)


def small_maps(seed: int, batch: int = 2, size: int = 16) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    slopes = torch.rand(batch, 2, size, size, generator=random) - 0.5
    return {
        "albedo": torch.rand(batch, 3, size, size, generator=random),
        "roughness": torch.rand(batch, 1, size, size, generator=random),
        "metallic": (torch.rand(batch, 1, size, size, generator=random) > 0.5).float(),
        "normal": F.normalize(torch.cat((slopes, torch.ones(batch, 1, size, size)), 1), dim=1),
    }


def test_equal_maps_look_equal() -> None:
    values = measure_rerendering(small_maps(0), small_maps(0), torch.ones(2, 1, 16, 16))
    assert set(values) == {"rerender/mae", "rerender/rmse", "rerender/psnr", "rerender/ssim"}
    torch.testing.assert_close(values["rerender/mae"], torch.zeros(2))
    torch.testing.assert_close(values["rerender/psnr"], torch.full((2,), PSNR_CAP))
    torch.testing.assert_close(values["rerender/ssim"], torch.ones(2), atol=1e-6, rtol=0)


def test_a_change_of_any_map_is_visible() -> None:
    truth = small_maps(0)
    other = small_maps(1)
    valid = torch.ones(2, 1, 16, 16)
    for name in truth:
        values = measure_rerendering({**truth, name: other[name]}, truth, valid)
        assert (values["rerender/rmse"] > 0.01).all(), name


def test_the_error_is_that_of_the_pictures_over_all_lamps() -> None:
    prediction = small_maps(1)
    truth = small_maps(0)
    mae = measure_rerendering(prediction, truth, torch.ones(2, 1, 16, 16))["rerender/mae"]
    errors: list[Tensor] = []
    for relighting in heldout_relightings():
        picture = rendering(prediction, relighting)
        assert 0 <= picture.min() <= picture.max() <= 1
        errors.append((picture - rendering(truth, relighting)).abs().mean(dim=(1, 2, 3)))
    torch.testing.assert_close(mae, torch.stack(errors).mean(dim=0))


def test_pixels_that_do_not_count_have_no_influence() -> None:
    prediction = small_maps(1)
    truth = small_maps(0)
    valid = torch.ones(2, 1, 16, 16)
    valid[:, :, :4] = 0
    changed = {name: value.clone() for name, value in prediction.items()}
    changed["albedo"][:, :, :4] = 1
    expected = measure_rerendering(prediction, truth, valid)
    for name, value in measure_rerendering(changed, truth, valid).items():
        torch.testing.assert_close(value, expected[name])


def test_running_means_count_images_and_not_batches() -> None:
    means = RunningMeans()
    means.add(["a"], ["brick"], {"x": torch.tensor([1.0])})
    means.add(["b", "c", "d"], ["wood", "wood", "brick"], {"x": torch.tensor([3.0, 4.0, 8.0])})
    assert means.means() == {"x": 4.0}
    assert means.by_material() == {"brick": {"x": 4.5}, "wood": {"x": 3.5}}
    assert means.rows[2] == Row("c", "wood", {"x": 4.0})


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


def test_seams_of_predicted_maps_are_scored_image_by_image() -> None:
    ramp = torch.linspace(0, 1, 32).view(1, 1, 1, 32).expand(1, 1, 32, 32)
    level = torch.full((1, 1, 32, 32), 0.5)
    values = measure_seams({"roughness": torch.cat((ramp, level))})
    assert set(values) == {"roughness/seam"}
    assert values["roughness/seam"][0] > 20
    assert values["roughness/seam"][1] == 1
