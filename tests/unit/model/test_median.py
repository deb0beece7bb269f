"""The median of views, against NumPy's."""

import numpy as np
import pytest
import torch

from neuropbr_core.model.median import visible_median


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
