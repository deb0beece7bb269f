"""Merging views: weighted statistics, order, and what no view sees."""

import numpy as np
import pytest
import torch

from neuropbr_core.model.merge import ViewMerge, statistics_by_operators, visibility_pyramid, visible_median


def test_mean_is_weighted_by_visibility() -> None:
    features = torch.tensor([1.0, 5.0]).view(1, 2, 1, 1, 1)
    visible = torch.tensor([0.25, 0.75]).view(1, 2, 1, 1, 1)
    assert ViewMerge("mean")(features, visible).item() == pytest.approx(0.25 * 1 + 0.75 * 5)


def test_statistics_are_mean_maximum_and_deviation_of_what_is_seen() -> None:
    features = torch.tensor([1.0, 3.0, 99.0]).view(1, 3, 1, 1, 1)
    visible = torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1, 1)
    merge = ViewMerge("statistics")
    result = merge(features, visible).flatten()
    assert result.tolist() == pytest.approx([2.0, 3.0, 1.0], abs=0.011)
    assert merge.out_channels(1) == 3


def test_the_deviation_of_one_view_is_zero() -> None:
    features = torch.randn(1, 1, 4, 3, 3, requires_grad=True)
    deviation = ViewMerge("statistics")(features, torch.ones(1, 1, 1, 3, 3))[:, 8:]
    deviation.sum().backward()
    assert (deviation == 0).all()
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("mode", ["mean", "statistics"])
def test_order_of_views_does_not_matter(mode: str) -> None:
    features, visible = torch.randn(2, 4, 3, 5, 5), torch.rand(2, 4, 1, 5, 5)
    order = [2, 0, 3, 1]
    merge = ViewMerge(mode)  # type: ignore[arg-type]
    torch.testing.assert_close(merge(features, visible), merge(features[:, order], visible[:, order]))


@pytest.mark.parametrize("mode", ["mean", "statistics"])
def test_a_pixel_that_no_view_sees_is_finite_in_value_and_gradient(mode: str) -> None:
    features = torch.randn(1, 2, 3, 2, 2, requires_grad=True)
    visible = torch.zeros(1, 2, 1, 2, 2)
    result = ViewMerge(mode)(features, visible)  # type: ignore[arg-type]
    result.sum().backward()
    assert result.isfinite().all()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def by_operators(features: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """The statistics as exports compute them, from features and visibility."""
    weight = visible / visible.sum(dim=1, keepdim=True).clamp_min(1e-6)
    merged = statistics_by_operators(features.flatten(3), weight.flatten(3), visible.flatten(3) > 1e-6)
    return merged.view(*merged.shape[:2], *features.shape[3:])


def drawn_features(views: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Features with ties, and visibility with pixels that one, several or no views see."""
    random = torch.Generator().manual_seed(views)
    features = (torch.randn(2, views, 4, 5, 7, generator=random) * 4).round() / 4
    visible = torch.rand(2, views, 1, 5, 7, generator=random)
    visible = visible.masked_fill(visible < 0.4, 0.0)
    visible[:, :, :, 0] = 0.0
    return features.to(dtype), visible.to(dtype)


@pytest.mark.parametrize("views", [1, 2, 3, 5])
def test_statistics_and_their_gradients_are_those_of_the_operators(views: int) -> None:
    features, visible = drawn_features(views, torch.float64)
    outputs = []
    gradients = []
    for merge in (ViewMerge("statistics"), by_operators):
        leaf = features.clone().requires_grad_()
        merged = merge(leaf, visible)
        random = torch.Generator().manual_seed(1)
        merged.backward(torch.randn(merged.shape, generator=random, dtype=merged.dtype))
        outputs.append(merged)
        gradients.append(leaf.grad)
    # The operators compute the variance in float32.
    torch.testing.assert_close(*outputs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)
    assert bool((gradients[0] != 0).any())


def test_the_derivative_of_statistics_is_that_of_their_differences() -> None:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 2, 2, 3, generator=random, dtype=torch.float64, requires_grad=True)
    visible = torch.rand(2, 3, 1, 2, 3, generator=random, dtype=torch.float64)
    visible[0, 1] = 0.0
    torch.autograd.gradcheck(lambda each: ViewMerge("statistics")(each, visible), features)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_the_same_statistics(dtype: torch.dtype) -> None:
    features, visible = drawn_features(3, dtype)
    merged = ViewMerge("statistics")(features, visible)
    assert merged.dtype == dtype
    expected = by_operators(features.float(), visible.float())
    torch.testing.assert_close(merged.float(), expected, atol=0.04, rtol=0.01)
    # Under autocast, features have half the precision of the visibility.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ViewMerge("statistics")(features, visible.float()).dtype == torch.float32


def test_what_a_view_does_not_see_may_be_infinite() -> None:
    features = torch.tensor([1.0, torch.inf]).view(1, 2, 1, 1, 1).requires_grad_()
    result = ViewMerge("statistics")(features, torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1))
    result.sum().backward()
    assert result.flatten().tolist() == pytest.approx([1.0, 1.0, 0.0])
    assert features.grad is not None
    assert features.grad.flatten().tolist() == pytest.approx([2.0, 0.0])


def test_statistics_keep_no_copies_of_the_features() -> None:
    features, visible = drawn_features(3, torch.float32)
    leaf = features.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        merged = ViewMerge("statistics")(leaf, visible)
    # The features themselves, shares, what is seen, and the result.
    assert sum(kept) <= leaf.numel() + 2 * visible.numel() + merged.numel()


@pytest.mark.filterwarnings("ignore")
def test_a_traced_merge_is_made_of_operators() -> None:
    features, visible = drawn_features(3, torch.float32)
    merge = ViewMerge("statistics")
    traced = torch.jit.trace(merge, (features, visible))
    assert "PythonOp" not in str(traced.graph)
    torch.testing.assert_close(traced(features, visible), merge(features, visible))


def test_visibility_pyramid_is_the_share_of_seen_pixels() -> None:
    visible = torch.zeros(1, 1, 1, 4, 4)
    visible[..., :2, :1] = 1
    levels = visibility_pyramid(visible, (1, 2, 4))
    assert [level.shape[-1] for level in levels] == [4, 2, 1]
    assert levels[1].flatten().tolist() == [0.5, 0, 0, 0]
    assert levels[2].item() == 0.125


@pytest.mark.parametrize(
    ("values", "seen", "expected"),
    [
        ([5, 1, 3], [1, 1, 1], 3),
        ([5, 1, 3], [1, 1, 0], 3),  # the mean of the middle two
        ([5, 1, 3], [0, 0, 1], 3),
        ([5, 1, 9], [0, 0, 0], 5),  # nothing is seen: all count
        ([7], [1], 7),
    ],
)
def test_visible_median(values: list[float], seen: list[float], expected: float) -> None:
    views = torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)
    visible = torch.tensor(seen, dtype=torch.float32).view(1, -1, 1, 1, 1)
    assert visible_median(views, visible).item() == expected


def test_visible_median_equals_torch_where_all_is_seen() -> None:
    views = torch.rand(2, 5, 3, 8, 8)
    torch.testing.assert_close(visible_median(views, torch.ones(2, 5, 1, 8, 8)), views.median(dim=1).values)


@pytest.mark.parametrize("views", [1, 2, 3, 4, 5, 8])
def test_it_is_the_median_of_the_views_that_see(views: int) -> None:
    random = torch.Generator().manual_seed(views)
    images = (torch.rand(2, views, 3, 16, 16, generator=random) * 4).round() / 4 - 0.25  # ties, and values below 0
    visible = torch.rand(2, views, 1, 16, 16, generator=random)
    seen = (visible >= 0.5) | ~(visible >= 0.5).any(dim=1, keepdim=True)
    expected = np.nanmedian(images.masked_fill(~seen, float("nan")).numpy(), axis=1)
    found = visible_median(images, visible)
    assert found.isfinite().all()
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-7)


def test_half_precision_has_the_same_median() -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(1, 4, 3, 8, 8, generator=random).bfloat16()
    visible = (torch.rand(1, 4, 1, 8, 8, generator=random) > 0.3).bfloat16()
    found, expected = visible_median(images, visible), visible_median(images.float(), visible.float())
    torch.testing.assert_close(found.float(), expected, atol=2**-8, rtol=0)
