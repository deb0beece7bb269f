"""From a recipe's `training.device` and `training.precision` to a Lightning Fabric."""

from typing import Literal

import torch
from lightning_fabric import Fabric

from neuropbr_core.errors import DeviceError
from neuropbr_core.recipe.sections import Training

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_PRECISIONS: dict[str, Precision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose_device(name: str) -> torch.device:
    """Resolve a device name.

    Args:
        name: `auto` takes CUDA, then MPS, then the CPU; otherwise `cpu`, `cuda` or `mps`.

    Raises:
        DeviceError: The device is unknown, or this machine does not have it.
    """
    available = _available()
    if name == "auto":
        return torch.device(available[0])
    if name not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"training.device: found {name!r}, allowed: auto, cpu, cuda, mps")
    if name not in available:
        raise DeviceError(
            f"device {name} was asked for, but PyTorch {torch.__version__} does not see it here; available: "
            f"{', '.join(available)}. Install a build of PyTorch for it, or use --device auto"
        )
    return torch.device(name)


def _available() -> list[str]:
    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]


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
