"""Chooses the device that PyTorch computes on, by the name that a person gives."""

import torch

from neuropbr_core.errors import DeviceError

NAMES = ("auto", "cpu", "cuda", "mps")
"""Allowed names of devices."""


def choose_device(name: str) -> torch.device:
    """Resolve a device name.

    Args:
        name: `auto` takes CUDA, then MPS, then the CPU; otherwise `cpu`, `cuda`, one GPU such as `cuda:1`, or `mps`.

    Raises:
        DeviceError: The device is unknown, or this machine does not have it.
    """
    # In the order in which `auto` prefers them. The CPU comes last, and is always there.
    available = []
    if torch.cuda.is_available():
        available.append("cuda")
    if torch.backends.mps.is_available():
        available.append("mps")
    available.append("cpu")
    if name == "auto":
        return torch.device(available[0])
    kind, colon, number = name.partition(":")
    numbered = kind == "cuda" and number.isdecimal()
    if kind not in NAMES or (colon and not numbered):
        raise DeviceError(f"device: found {name!r}, allowed: {', '.join(NAMES)}, or one GPU such as cuda:1")
    # A known device that is missing is a matter of installation, not of spelling: the error explains that.
    if kind not in available:
        raise DeviceError(
            f"device {name} was asked for, but PyTorch {torch.__version__} does not see it here; available: "
            f"{', '.join(available)}. Install a build of PyTorch for it, or use --device auto"
        )
    if numbered and int(number) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name} was asked for, but this machine has {torch.cuda.device_count()} CUDA devices, which count "
            f"from cuda:0"
        )
    return torch.device(name)
