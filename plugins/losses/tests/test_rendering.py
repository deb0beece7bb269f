"""The re-rendering loss."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import LossInput, LossSetup, Maps, Prediction
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.materials.ggx import dot
from neuropbr_core.testing.loss import LossSuite, example_loss_input
from neuropbr_losses.rendering import Options
from neuropbr_losses.rendering.loss import RenderingLoss, Scene, radiance, sample_scenes

CPU = torch.device("cpu")


class TestRendering(LossSuite):
    use = "rendering"
    option_sets = ({}, {"random": 1, "mirrored": 0, "floor": 0.01}, {"random": 0, "mirrored": 2})


def flat(albedo_srgb: float, roughness: float, metallic: float = 0.0, size: int = 4) -> Maps:
    """A flat material, the same everywhere."""
    values = {"albedo": [albedo_srgb] * 3, "roughness": [roughness], "metallic": [metallic], "normal": [0.0, 0.0, 1.0]}
    return {name: torch.tensor(value).view(1, -1, 1, 1).repeat(1, 1, size, size) for name, value in values.items()}


def compared(prediction: Maps, target: Maps) -> LossInput:
    return replace(
        example_loss_input(batch=1, size=(4, 4), valid="all"), prediction=Prediction(prediction, {}, {}), target=target
    )


def loss(**options: float) -> RenderingLoss:
    return RenderingLoss(Options(**options), LossSetup(MAP_NAMES, 4))  # type: ignore[arg-type]


def test_radiance_from_above_in_closed_form() -> None:
    """At roughness 1 the lobe is D V F = (1 / π) (1 / 4) 0.04; the matte part reads 1.008 · albedo."""
    above = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    seen = radiance(flat(0.5, 1.0), Scene(above, above))
    linear = srgb_to_linear(torch.tensor(0.5)).item()
    torch.testing.assert_close(seen, torch.full((1, 3, 4, 4), 1.008 * linear + 0.01), rtol=1e-5, atol=1e-6)


def test_error_is_that_of_the_logarithms() -> None:
    """One distant scene, a metal half as bright in linear light: without a floor the logarithms differ by log 2."""
    prediction, target = flat(0.5, 0.5, 1.0), flat(0.5, 0.5, 1.0)
    torch.manual_seed(3)
    (scene,) = sample_scenes(1, 0, 1, (4, 4), CPU)
    floor = 0.05
    prediction["albedo"] = torch.full_like(prediction["albedo"], 0.7)
    logs = [(radiance(maps, scene) + floor).log() for maps in (prediction, target)]
    torch.manual_seed(3)
    result = loss(random=1, mirrored=0, floor=floor)(compared(prediction, target))
    assert result.total.item() == pytest.approx((logs[0] - logs[1]).abs().mean().item(), rel=1e-5)
    assert result.total > 0.1


def test_terms_average_to_the_total() -> None:
    result = loss(random=1, mirrored=3)(compared(flat(0.6, 0.3), flat(0.4, 0.5)))
    weighted = (result.terms["random"] + 3 * result.terms["mirrored"]) / 4
    assert result.total.item() == pytest.approx(weighted.item(), rel=1e-5)


@pytest.mark.parametrize("mirrored", [0, 1])
def test_only_asked_for_terms_appear(mirrored: int) -> None:
    result = loss(random=1 - mirrored, mirrored=mirrored)(compared(flat(0.6, 0.3), flat(0.4, 0.5)))
    assert set(result.terms) == ({"mirrored"} if mirrored else {"random"})


def test_directions_are_cosine_weighted() -> None:
    """Density of cos up to a squared sine of 0.95: the mean cosine is (2 / 3) (1 - 0.05^1.5) / 0.95."""
    torch.manual_seed(0)
    (scene,) = sample_scenes(1, 0, 20_000, (1, 1), CPU)
    for direction in scene:
        assert direction[:, 2].min() > 0.2
        assert direction[:, 2].mean().item() == pytest.approx(2 / 3 * (1 - 0.05**1.5) / 0.95, abs=5e-3)
        assert direction[:, :2].mean().item() == pytest.approx(0, abs=0.01)
        torch.testing.assert_close(direction.norm(dim=1), torch.ones(20_000, 1, 1))


def test_nearby_scenes_mirror_about_a_point_of_the_crop() -> None:
    """Somewhere on the crop the half vector is its normal."""
    torch.manual_seed(0)
    for scene in sample_scenes(0, 3, 4, (48, 64), CPU):
        half = F.normalize(scene.light + scene.view, dim=1)
        assert (half[:, 2].flatten(1).amax(dim=1) > 0.99).all()
        assert (dot(scene.light, scene.view) < 1).all()


def test_draws_follow_the_global_seed() -> None:
    """The state that a checkpoint keeps decides them."""
    x = compared(flat(0.6, 0.3), flat(0.4, 0.5))
    torch.manual_seed(5)
    first = loss()(x).total
    state = torch.get_rng_state()
    second = loss()(x).total
    torch.set_rng_state(state)
    assert torch.equal(loss()(x).total, second)
    assert not torch.equal(first, second)


def extreme(value: float, dtype: torch.dtype) -> tuple[dict[str, Tensor], Maps]:
    """Leaves at an end of their range, with normals close to the horizon."""
    maps = {name: torch.full_like(each, value) for name, each in flat(0.0, 0.0).items()}
    maps["normal"] = F.normalize(torch.tensor([1.0, 0.3, 1e-3]).view(1, 3, 1, 1).repeat(1, 1, 4, 4), dim=1)
    leaves = {name: each.to(dtype).requires_grad_() for name, each in maps.items()}
    return leaves, dict(leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gradients_stay_finite_at_the_ends_of_the_ranges(value: float, dtype: torch.dtype) -> None:
    leaves, prediction = extreme(value, dtype)
    torch.manual_seed(0)
    result = loss(random=8, mirrored=8)(compared(prediction, flat(0.5, 0.5, 0.5)))
    result.total.backward()  # type: ignore[no-untyped-call]
    assert result.total.dtype == torch.float32
    for name, leaf in leaves.items():
        assert leaf.grad is not None, name
        assert leaf.grad.isfinite().all(), name
        assert leaf.grad.abs().max() < 1e3, name


def test_a_generator_without_all_maps_is_refused() -> None:
    with pytest.raises(ModelError, match="but the generator does not predict metallic; remove the loss"):
        RenderingLoss(Options(), LossSetup(("albedo", "roughness", "normal"), 32))


def test_nothing_to_render_is_refused() -> None:
    with pytest.raises(ModelError, match="loss rendering: random and mirrored are both 0; set one above 0"):
        loss(random=0, mirrored=0)
