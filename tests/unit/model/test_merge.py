"""Merging views: weighted statistics, order, and what no view sees."""

import numpy as np
import pytest
import torch

from neuropbr_core.model.merge import ViewMerge, visibility_pyramid, visible_median


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
