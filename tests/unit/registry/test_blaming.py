"""Who is blamed for what a component raises while it works."""

import subprocess
import sys

import pytest

from neuropbr_core.errors import DataError, PluginBroken
from neuropbr_core.registry import default_registry
from neuropbr_core.registry.guarding import blaming_calls


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:75] data. DefaultCPUAllocator: not enough memory: you tried"),
        MemoryError(),
        OSError(28, "No space left on device"),
        DataError("mine to mend"),
    ],
)
def test_memory_disks_and_the_users_own_faults_are_no_defects(error: Exception) -> None:
    part = default_registry().choose("loss", "l1")
    with pytest.raises(type(error)) as caught, blaming_calls(part, "its forward pass"):
        raise error
    assert caught.value is error


def test_anything_else_names_the_component() -> None:
    part = default_registry().choose("loss", "l1")
    message = r"loss/l1 of neuropbr .* is broken: its forward pass raised RuntimeError: shapes differ"
    with pytest.raises(PluginBroken, match=message), blaming_calls(part, "its forward pass"):
        raise RuntimeError("shapes differ")


def test_the_phrases_need_no_pytorch() -> None:
    code = "import sys; from neuropbr_core.registry import catalog; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
