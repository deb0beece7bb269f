"""State of networks and optimisers, whole, wherever its parts are: with FSDP each process holds a share of them."""

from collections.abc import Mapping
from typing import Any

from lightning_fabric import Fabric
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from neuropbr_core.training.device import is_sharded

_WRAPPED = "_forward_module"  # where Fabric keeps what the strategy made of a module


def module_state(fabric: Fabric, module: nn.Module) -> dict[str, Any]:
    """Weights and buffers of a module that Fabric set up, under the module's own names.

    Every process must call it; of a sharded module only the first one gets them.
    """
    if not is_sharded(fabric):
        return module.state_dict()
    return get_model_state_dict(module.get_submodule(_WRAPPED), options=_gathered())


def optimizer_state(fabric: Fabric, module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """State of a module's optimiser; the same holds for it."""
    if not is_sharded(fabric):
        return optimizer.state_dict()
    # Keyed by parameter name: indices of parameters mean nothing to another number of processes.
    return get_optimizer_state_dict(module.get_submodule(_WRAPPED), _bare(optimizer), options=_gathered())


def load_module_state(fabric: Fabric, module: nn.Module, state: Mapping[str, Any]) -> None:
    """Take back what `module_state` gave; every process has read it whole."""
    if is_sharded(fabric):
        set_model_state_dict(
            module.get_submodule(_WRAPPED), dict(state), options=StateDictOptions(full_state_dict=True)
        )
    else:
        module.load_state_dict(state)


def load_optimizer_state(fabric: Fabric, module: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Take back what `optimizer_state` gave; every process has read it whole."""
    if is_sharded(fabric):
        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(module.get_submodule(_WRAPPED), _bare(optimizer), state, options=options)
    else:
        optimizer.load_state_dict(state)


def _gathered() -> StateDictOptions:
    # To the CPU, because the whole state need not fit beside a share of it on the device.
    return StateDictOptions(full_state_dict=True, cpu_offload=True)


def _bare(optimizer: Any) -> Optimizer:
    """The optimiser that Fabric wrapped."""
    bare: Optimizer = optimizer.optimizer
    return bare
