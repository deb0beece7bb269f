"""The random generators of several processes in one checkpoint."""

import torch
from lightning_fabric import Fabric

from neuropbr_core.training.checkpoints.state import random_state, restore_random_state


def test_a_part_of_a_larger_tensor_is_taken_back() -> None:
    """Gathered states are rows of one tensor; torch's own function ends the process on such a row."""
    fabric = Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(3)
    (state,) = random_state(fabric)
    expected = torch.rand(4)
    rows = torch.stack([torch.zeros_like(state["cpu"]), state["cpu"]])
    restore_random_state(fabric, [{"cpu": rows[1]}])
    assert torch.equal(torch.rand(4), expected)


def test_a_process_that_was_not_there_keeps_its_seed() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    restore_random_state(fabric, [])
    assert torch.equal(torch.rand(2), expected)
