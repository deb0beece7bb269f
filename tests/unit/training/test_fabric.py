"""From a recipe's devices to Fabric, and batch norms over several processes."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from neuropbr_core.errors import DeviceError
from neuropbr_core.recipe.sections import Training
from neuropbr_core.runs.stage import Context
from neuropbr_core.training import fabric
from neuropbr_core.training.fabric import make_fabric, synchronise_batch_norm


class FrozenNorm(nn.Module):
    """A module that keeps its batch norm in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def train(self, mode: bool = True) -> "FrozenNorm":
        super().train(mode)
        self.norm.eval()
        return self


def test_trained_batch_norms_are_synchronised_and_frozen_ones_stay() -> None:
    module: Any = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), FrozenNorm(), nn.Sequential(nn.BatchNorm2d(3)))
    names = list(module.state_dict())
    synchronise_batch_norm(module)
    assert isinstance(module[1], nn.SyncBatchNorm)
    assert isinstance(module[3][0], nn.SyncBatchNorm)
    assert type(module[2].norm) is nn.BatchNorm2d
    assert list(module.state_dict()) == names


def test_the_gpu_that_the_recipe_numbers_is_the_one_that_fabric_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(fabric, "Fabric", lambda **arguments: asked.append(arguments))
    make_fabric(Training(device="cuda:1"))
    make_fabric(Training(device="cuda"))
    assert [arguments["devices"] for arguments in asked] == [[1], 1]
    with pytest.raises(DeviceError, match=r"training.device: found cuda:1, which is one GPU, but 2 processes run"):
        make_fabric(Training(device="cuda:1", devices=2))


@pytest.fixture
def float32_switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts PyTorch's switches for TF32 back afterwards."""
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "backend:native")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
    products = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(products)


@pytest.mark.usefixtures("float32_switches")
def test_fp32_has_no_tf32_in_products_or_convolutions_whatever_ran_before() -> None:
    for precision, products, convolutions in (
        ("fp32", "highest", False),
        ("bf16", "high", True),
        ("fp32", "highest", False),
        ("fp16", "high", True),
    ):
        fabric.tune_cuda(precision)
        assert torch.get_float32_matmul_precision() == products
        assert torch.backends.cudnn.allow_tf32 is convolutions


@pytest.mark.usefixtures("float32_switches")
def test_cuda_is_tuned_unless_the_user_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", chosen.append)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "backend:native")
    fabric.tune_cuda("bf16")
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "backend:native"
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    fabric.tune_cuda("fp32")
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert chosen == ["high", "highest"]


@pytest.mark.usefixtures("float32_switches")
def test_a_student_trains_with_its_own_precision_after_its_teachers_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    def make(**options: Any) -> Any:
        return SimpleNamespace(device=torch.device("cuda"), world_size=1, launch=lambda: None)

    monkeypatch.setattr(fabric, "Fabric", make)
    student = Context(Training(device="cuda", precision="fp32"))
    assert student.is_first  # asked before the teacher's run, as `carry_out` does
    teacher = Context(Training(device="cuda", precision="bf16"))
    for context, products, convolutions in (
        (student, "highest", False),
        (teacher, "high", True),
        (student, "highest", False),
    ):
        assert context.fabric.device.type == "cuda"
        assert torch.get_float32_matmul_precision() == products
        assert torch.backends.cudnn.allow_tf32 is convolutions
