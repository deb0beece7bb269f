"""Continued borders: one result and one gradient, however they are made."""

from unittest import mock

import pytest
import torch

from neuropbr_core import borders


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (4, 7)])
def test_slices_and_pytorch_continue_alike(width: int, size: tuple[int, int]) -> None:
    frame = torch.randn(2, 3, *size, dtype=torch.float64)
    results = []
    for recording in (False, True):
        leaf = frame.clone().requires_grad_()
        with mock.patch.object(borders, "is_recording", return_value=recording):
            continued = borders.continue_border(leaf, width)
        random = torch.Generator().manual_seed(0)
        continued.backward(torch.randn(continued.shape, generator=random, dtype=torch.float64))
        results.append((continued, leaf.grad))
    torch.testing.assert_close(*results)
    assert results[0][0].shape == (2, 3, size[0] + 2 * width, size[1] + 2 * width)


def test_half_precision_stays_half_under_autocast_and_nothing_is_kept() -> None:
    frame = torch.randn(1, 2, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    kept = []
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor),
    ):
        continued = borders.continue_border(frame, 1)
    continued.sum().backward()
    assert continued.dtype == torch.bfloat16
    assert kept == []
    assert frame.grad is not None
    assert float(frame.grad.sum()) == 2 * 36
