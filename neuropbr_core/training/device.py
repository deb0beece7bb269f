"""From a recipe's `training.device` and `training.precision` to a Lightning Fabric."""

from typing import Literal

import torch
from lightning_fabric import Fabric

from neuropbr_core.devices import choose_device
from neuropbr_core.errors import DeviceError
from neuropbr_core.recipe.sections import Training

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_PRECISIONS: dict[str, Precision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(training: Training) -> Fabric:
    """Set up Lightning Fabric for one device.

    Raises:
        DeviceError: The device is not there, or cannot do the precision.
    """
    device = choose_device(training.device)
    name = training.precision
    if name == "auto":
        name = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("training.precision: fp16 needs a GPU; use bf16 or fp32 on the CPU")
    return Fabric(accelerator=device.type, devices=1, precision=_PRECISIONS[name])
