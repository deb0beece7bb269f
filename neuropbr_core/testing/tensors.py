"""Questions about modules and tensors that the suites of several kinds ask."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def state_shapes(module: nn.Module) -> dict[str, torch.Size]:
    """Return the shape of every tensor of a state dict, by name."""
    return {name: value.shape for name, value in module.state_dict().items()}


def names_of_non_finite(tensors: Mapping[str, Tensor | None]) -> list[str]:
    """Return the names of the tensors that contain NaN or an infinity; None counts as finite."""
    names: list[str] = []
    for name, value in tensors.items():
        # A parameter without gradient is another fault, with a test of its own.
        if value is not None and not bool(value.isfinite().all()):
            names.append(name)
    return names


def gradients(module: nn.Module) -> dict[str, Tensor | None]:
    """Return the gradient of every parameter that requires one, by name."""
    by_name: dict[str, Tensor | None] = {}
    for name, parameter in module.named_parameters():
        # Frozen parameters are an encoder's option, and get no gradient.
        if parameter.requires_grad:
            by_name[name] = parameter.grad
    return by_name


def names_without_gradient(module: nn.Module) -> list[str]:
    """Return the names of the parameters that require a gradient and have none after a backward pass."""
    names: list[str] = []
    for name, gradient in gradients(module).items():
        if gradient is None:
            names.append(name)
    return names


def assert_state_is_tensors(module: nn.Module) -> None:
    """Fail when a state dict holds anything but tensors, which safetensors files could not store."""
    for name, value in module.state_dict().items():
        assert isinstance(value, Tensor), (
            f"state_dict: every entry must be a tensor, because checkpoints are safetensors files, but {name} is a "
            f"{type(value).__name__}"
        )


def assert_is_meta(module: nn.Module) -> None:
    """Fail when a module that was built on the meta device has a tensor elsewhere, which would cost memory."""
    for name, value in module.state_dict().items():
        assert value.is_meta, (
            f"__init__: under `torch.device('meta')` every tensor must be on the meta device, but {name} is on "
            f"{value.device}; leave the device of new tensors open"
        )
