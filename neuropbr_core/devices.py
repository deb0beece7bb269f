"""Which device PyTorch computes on, by the name that a person gives."""

import torch

from neuropbr_core.errors import DeviceError

NAMES = ("auto", "cpu", "cuda", "mps")
"""What a device may be called."""


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
    if name not in NAMES:
        raise DeviceError(f"device: found {name!r}, allowed: {', '.join(NAMES)}")
    if name not in available:
        raise DeviceError(
            f"device {name} was asked for, but PyTorch {torch.__version__} does not see it here; available: "
            f"{', '.join(available)}. Install a build of PyTorch for it, or use --device auto"
        )
    return torch.device(name)


def _available() -> list[str]:
    if torch.cuda.is_available():
        found = ["cuda"]
    else:
        found = []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]
