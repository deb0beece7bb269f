"""Questions about modules and tensors that the suites of several kinds ask."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError


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


def assert_moves(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Fail when a module that was moved to another device keeps a tensor behind.

    The meta device stands in for a GPU: it is on every machine, and it refuses tensors of the CPU too.
    """
    moved = module.to("meta")
    try:
        with torch.no_grad():
            moved(*(value.to("meta") for value in inputs))
    except (RuntimeError, NotImplementedError) as error:
        text = str(error)
        # Code that looks at values cannot run without values, which is no fault of where its tensors are.
        if "device" not in text or "item" in text:
            pytest.skip(f"it cannot run without values: {text.splitlines()[0]}")
        raise AssertionError(
            f"a component must follow `.to(device)` with all its tensors, but one stays behind: "
            f"{text.splitlines()[0]}; keep constants with `register_buffer(..., persistent=False)`"
        ) from error


def assert_can_be_frozen(module: nn.Module, inputs: tuple[Tensor, ...], what: str) -> None:
    """Fail when a frozen module in eval mode trains anyway, or changes its state.

    Args:
        module: The module.
        inputs: What it takes; none requires a gradient.
        what: The class of the contract, for messages.
    """
    module.eval().requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    outputs = module(*inputs)
    if isinstance(outputs, Tensor):
        outputs = [outputs]
    for output in outputs:
        assert not output.requires_grad, (
            f"a frozen {what} must need no gradient, but its output requires one: `forward` thaws a parameter or "
            f"creates one"
        )
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), (
            f"a frozen {what} in eval mode must leave its state as it is, but its forward pass changes {name}"
        )


def assert_compiles(module: nn.Module, inputs: tuple[Tensor, ...], what: str, tolerance: float) -> None:
    """Fail when `torch.compile` does not take a module, or changes what it computes.

    Args:
        module: The module, in eval mode.
        inputs: What it takes.
        what: The class of the contract, for messages.
        tolerance: Largest difference, relative to the largest value.
    """
    expected = module(*inputs)
    torch._dynamo.reset()  # noqa: SLF001 - torch has no public name for it
    # This backend captures forward and backward as the default one does, and needs no C++ compiler.
    compiled = torch.compile(module, backend="aot_eager")(*inputs)
    torch._dynamo.reset()  # noqa: SLF001
    if isinstance(expected, Tensor):
        expected = [expected]
        compiled = [compiled]
    for result, other in zip(compiled, expected, strict=True):
        worst = float((result - other).detach().abs().max())
        allowed = tolerance * max(1.0, float(other.detach().abs().max()))
        assert worst <= allowed, (
            f"torch.compile must not change what {what} computes, but the results differ by {worst:.3g}, and "
            f"{allowed:.3g} is allowed"
        )


def assert_gradient_is_true(module: nn.Module, inputs: tuple[Tensor, ...], what: str) -> None:
    """Fail when the gradient in the first input is not the derivative of the module, in float64.

    Args:
        module: The module, in eval mode.
        inputs: What it takes; gradients are checked in the first.
        what: The class of the contract, for messages.
    """
    module = module.double()
    first, *others = (value.double() for value in inputs)
    try:
        # The fast mode compares along a random direction, instead of one pass for each number of the input.
        true = torch.autograd.gradcheck(
            lambda value: module(value, *others), first.requires_grad_(), fast_mode=True, raise_exception=True
        )
    except GradcheckError as error:
        raise AssertionError(
            f"the gradient of {what} must be its derivative, but torch.autograd.gradcheck finds another: "
            f"{str(error).splitlines()[0].rstrip(':,')}; the check runs in float64, and a cast to float32 is the usual "
            f"reason: cast to torch.promote_types(x.dtype, torch.float32)"
        ) from error
    assert true, f"the gradient of {what} must be its derivative, but torch.autograd.gradcheck finds another"
