"""Batch norms over several processes."""

from typing import Any

from torch import nn

from neuropbr_core.training.fabric import synchronise_batch_norm


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
