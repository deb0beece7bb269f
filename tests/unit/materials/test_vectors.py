import pytest
import torch
from torch.nn import functional as F

from neuropbr_core.materials.vectors import length, unit


@pytest.mark.parametrize("dim", [0, 1, -3, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_normalize_of_torch(dim, dtype):
    vectors = torch.randn(3, 3, 3, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unit(vectors, dim), F.normalize(vectors, dim=dim), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(length(vectors, dim), vectors.norm(dim=dim, keepdim=True))


@pytest.mark.parametrize("size", [0.0, 1e-15, 1e-11, 1e8])
def test_tiny_and_large_vectors_are_treated_as_torch_does(size):
    vectors = torch.tensor([2.0, -1.0, 2.0]).view(3, 1, 1) * size
    torch.testing.assert_close(unit(vectors), F.normalize(vectors, dim=-3))
    assert unit(vectors).isfinite().all()


def test_gradients_are_those_of_torch_and_finite():
    values = torch.tensor([[0.0, 0.0, 0.0], [0.3, -0.4, 1.2]]).T[..., None].contiguous()
    weights = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    gradients = []
    for function in (unit, lambda vectors: F.normalize(vectors, dim=-3)):
        vectors = values.clone().requires_grad_()
        (function(vectors) * weights).sum().backward()
        gradients.append(vectors.grad)
    torch.testing.assert_close(gradients[0][:, 1], gradients[1][:, 1])
    assert gradients[0].isfinite().all()
    vectors = values.clone().requires_grad_()
    length(vectors).sum().backward()
    assert vectors.grad.isfinite().all()
