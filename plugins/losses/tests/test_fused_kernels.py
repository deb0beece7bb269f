"""The Triton kernels, without a GPU: Triton's interpreter runs them, and its compiler translates them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton")

SCRIPT = Path(__file__).parent / "interpreted_kernels.py"


def interpret(*cases: str) -> None:
    result = subprocess.run([sys.executable, str(SCRIPT), *cases], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"{case} agrees" for case in cases]


def test_interpreted_kernels_give_the_values_and_gradients_of_the_reference() -> None:
    interpret("grey", "normal")


@pytest.mark.slow
def test_interpreted_kernels_agree_on_all_maps_at_once() -> None:
    interpret("all")


NUMBERS = {"pixels": "i32", "images": "i32", "planes": "i32", "height": "i32", "width": "i32"}
FLOATS = ("factor", "offset")


def translate(kernel: Any, architecture: int, **constants: Any) -> None:
    """Compile a kernel for a GPU as a launch does; Triton's compiler and assembler need no GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {}
    own = {}
    for name in kernel.arg_names:
        signature[name] = NUMBERS.get(name, "*fp32")
        if name in FLOATS:
            signature[name] = "fp32"
        if name in constants:
            signature[name] = "constexpr"
            own[name] = constants[name]
    compiled = triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=own), target=GPUTarget("cuda", architecture, 32)
    )
    assert compiled.asm["cubin"]


@pytest.mark.slow
@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="kernels are interpreted")
@pytest.mark.parametrize("architecture", [80, 90])
def test_kernels_compile_for_gpus(architecture: int) -> None:
    from neuropbr_losses.fused import kernels, launching

    everything: dict[str, Any] = {
        "CHANNELS": 3,
        "L1": True,
        "COSINE": True,
        "ANGLE": True,
        "OTHER": True,
        "TAPS": 11,
        "SLOPES": True,
        "ACCURACY": triton.language.float32,
        "BLOCK": launching.PIXELS,
        "COLUMNS": launching.COLUMNS,
        "ROWS": launching.ROWS,
    }
    # A launch makes constants of integers that are 1 and of arguments that are None.
    least = everything | {
        "CHANNELS": 1,
        "COSINE": False,
        "ANGLE": False,
        "OTHER": False,
        "SLOPES": False,
        "images": 1,
        "planes": 1,
        "factors": None,
        "other": None,
    }
    for kernel in (kernels.pixel_errors, kernels.sums_of_valid, kernels.dissimilarity, kernels.gather):
        translate(kernel, architecture, **everything)
        translate(kernel, architecture, **least)
    translate(kernels.pixel_slopes, architecture, **everything)
    del least["factors"]
    translate(kernels.pixel_slopes, architecture, **least)
