"""A run's Lightning Fabric, from the recipe's devices, strategy and precision, and the processes that it starts.

`first` is for what the first process does alone; the functions around it let the other processes hear of a failure.
"""

import os
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from neuropbr_core.devices import choose_device
from neuropbr_core.errors import DeviceError, RunError, RunStopped
from neuropbr_core.recipe.sections import Training
from neuropbr_core.shown import shortened
from neuropbr_core.training.lightning import Fabric

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_PRECISIONS: dict[str, Precision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}

_SHARD = 1_000_000
"""Parameters from which on FSDP shards a module on its own."""


def make_fabric(training: Training) -> Fabric:
    """Set up Lightning Fabric; `launch` it before use.

    Raises:
        DeviceError: The devices are not there, or cannot do the precision or the strategy.
    """
    device = choose_device(training.device)
    processes, nodes = _processes(training)
    # All that can be known to fail is refused here: Fabric's own errors name no key of the recipe.
    if device.type == "mps" and processes > 1:
        raise DeviceError(f"training.devices: found {processes}, but a Mac has one GPU; write 1, or --device cpu")
    if device.index is not None and processes * nodes > 1:
        raise DeviceError(
            f"training.device: found {training.device}, which is one GPU, but {processes * nodes} processes run; write "
            f"cuda, and choose the GPUs with the environment variable CUDA_VISIBLE_DEVICES"
        )
    if device.type == "cuda" and processes > torch.cuda.device_count():
        raise DeviceError(
            f"training.devices: found {processes}, but this machine has {torch.cuda.device_count()} CUDA devices"
        )
    if training.strategy == "fsdp" and device.type != "cuda":
        raise DeviceError(f"training.strategy: fsdp needs CUDA devices, and this run is on {device.type}; write ddp")
    if training.strategy == "fsdp" and training.ema is not None:
        raise DeviceError(
            "training.ema: cannot average weights that fsdp shards; write null, or training.strategy: ddp"
        )
    # PyTorch's synchronised batch norm refuses tensors that are not on a GPU.
    if training.sync_batch_norm and processes > 1 and device.type != "cuda":
        raise DeviceError("training.sync_batch_norm: needs CUDA devices; write false")

    precision = chosen_precision(training, device)
    if precision == "fp16" and device.type == "cpu":
        raise DeviceError("training.precision: fp16 needs a GPU; use bf16 or fp32 on the CPU")

    tune_for(training, device)

    # One process needs no strategy, and none that waits for other processes.
    strategy: Any = "auto"
    if training.strategy == "fsdp":
        from lightning_fabric.strategies.fsdp import FSDPStrategy
        from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy

        # The state is gathered whole on saving (`checkpoints.saving.module_state`), so checkpoints look alike for any
        # strategy.
        policy = partial(size_based_auto_wrap_policy, min_num_params=_SHARD)
        strategy = FSDPStrategy(auto_wrap_policy=policy, state_dict_type="full")
    elif processes * nodes > 1:
        strategy = "ddp"
    devices: int | list[int] = processes
    if device.index is not None:
        devices = [device.index]
    return Fabric(
        accelerator=device.type,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        precision=_PRECISIONS[precision],
    )


def chosen_precision(training: Training, device: torch.device) -> str:
    """The precision of a run on a device: `fp32`, `bf16` or `fp16`."""
    if training.precision != "auto":
        return training.precision
    # bfloat16 has float32's range, so it needs no gradient scaler.
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return "bf16"
    return "fp32"


def tune_for(training: Training, device: torch.device) -> None:
    """Set the switches of this process for a run on a device; call it again after another run, which set its own."""
    if device.type == "cuda":
        tune_cuda(chosen_precision(training, device))


def tune_cuda(precision: str) -> None:
    """Set what makes CUDA faster and leaves its memory whole; before anything is allocated there.

    Args:
        precision: `fp32`, `bf16` or `fp16`.
    """
    # Segments that grow do not leave holes between them, which batches of changing sizes would not fit into. Read when
    # CUDA allocates first, also by the processes that this one starts; what the user set stays.
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    # TF32 keeps 10 bits of the mantissa, more than the bfloat16 around it; who asks for fp32 gets all 23. PyTorch's own
    # default lets convolutions use TF32. Both switches are set either way: an earlier run of this process, such as
    # that of a teacher, may have had another precision.
    reduced = precision != "fp32"
    torch.backends.cudnn.allow_tf32 = reduced
    if reduced:
        torch.set_float32_matmul_precision("high")
    else:
        torch.set_float32_matmul_precision("highest")


def is_sharded(fabric: Fabric) -> bool:
    """Whether each process holds a part of the weights only."""
    return type(fabric.strategy).__name__ == "FSDPStrategy"


def synchronise_batch_norm(module: nn.Module) -> None:
    """Let batch norms that are trained take their statistics over all processes; frozen ones stay as they are."""
    module.train()  # a batch norm that is frozen stays in eval mode, which tells it from the others
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and child.training:
                # One by one, because PyTorch's own conversion would take frozen ones too.
                setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]


def _processes(training: Training) -> tuple[int, int]:
    """Processes on this machine, and machines: torchrun's, where it started this one, else the recipe's on one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # which torchrun sets in every process that it starts
        return training.devices, 1
    processes = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = int(os.environ["GROUP_WORLD_SIZE"])
    # 1 is the default, so it does not count as a wish that contradicts torchrun.
    if training.devices not in (1, processes):
        raise DeviceError(
            f"training.devices: found {training.devices}, but torchrun started {processes} processes here; leave it "
            f"out, or make them equal"
        )
    return processes, nodes


T = TypeVar("T")

_PATIENCE = 10.0  # seconds in which a process that failed has ended, too

_LOST_CONNECTION = ("connection closed by peer", "connection reset by peer", "broken pipe", "nccl", "timed out waiting")
"""What errors of Gloo and NCCL say of a process that is gone, in lower case."""


def first(fabric: Fabric, work: Callable[[], T]) -> T:
    """Do something in the first process while the others wait.

    Args:
        fabric: Knows the processes.
        work: What to do; its result must pickle when there are several.

    Returns:
        The result, in every process.

    Raises:
        Exception: What `work` raised, in the first process.
        RunStopped: The same, in the others.
    """
    if fabric.world_size == 1:
        return work()
    # What failed in the first process is broadcast like a result: the others would wait for it forever.
    result: Any = None
    error: Exception | None = None
    if fabric.is_global_zero:
        try:
            result = work()
        except Exception as caught:  # the others must hear of any
            error = caught
    message = None
    if error is not None:
        message = str(error)  # not the error itself, which need not pickle
    result, failure = fabric.broadcast((result, message))
    if error is not None:
        raise error
    if failure is not None:
        raise RunStopped(failure)
    done: T = result
    return done


def first_then_others(fabric: Fabric, work: Callable[[], T]) -> T:
    """Do something in the first process, and then, when it is sure to find its files, in the others."""
    results: list[T] = []  # stays here: what `work` makes need not pickle, as the result of `first` must
    first(fabric, lambda: results.append(work()))
    if results:
        return results[0]
    return work()


def blame(fabric: Fabric, error: BaseException) -> BaseException:
    """The error to report: another process's failure, when that is why talking to it failed here."""
    if fabric.world_size == 1:
        return error
    # When talking to other processes fails, Gloo raises a bare RuntimeError, and NCCL a class of its own; errors of our
    # own classes and of CUDA's are about something else.
    if type(error) is not RuntimeError and not isinstance(error, torch.distributed.DistError):
        return error
    if fabric.is_global_zero:
        for rank, child in enumerate(_children(fabric), 1):
            try:
                # It may still be writing its message, or waiting for this process.
                code = child.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                continue
            if code:
                message = f"process {rank + 1} of {fabric.world_size} failed with exit code {code}"
                return RunError(f"{message}; its message is above. Checkpoints saved before this point are intact")
    text = str(error).lower()
    # Under torchrun there are no children to ask, and the process may have run on another machine.
    if any(phrase in text for phrase in _LOST_CONNECTION):
        return RunError(
            f"process {fabric.global_rank + 1} of {fabric.world_size} lost the connection to another one, which has "
            "ended, or whose machine or network has failed; look for its message on its machine "
            f"({shortened(str(error))}). Checkpoints saved before this point are intact, and `--resume` goes on from "
            "the newest"
        )
    return error


def end_others(fabric: Fabric) -> None:
    """End the processes that this one started; they could only wait for it."""
    for child in _children(fabric):
        child.kill()


def _children(fabric: Fabric) -> "list[subprocess.Popen[bytes]]":
    """The processes that Fabric's launcher started; none under torchrun, which looks after them itself."""
    return list(getattr(fabric.strategy.launcher, "procs", []))
