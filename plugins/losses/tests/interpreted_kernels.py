"""Compares the Triton kernels with the reference, in Triton's interpreter; run by `test_fused_kernels.py`.

Interpretation has to be asked for before Triton is imported, so that this is a process of its own.
"""

import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

from neuropbr_core.maps import MAPS
from neuropbr_losses.fused import launching, together
from neuropbr_losses.fused.measures import Job, Measure, gaussian_taps
from neuropbr_losses.fused.reference import evaluate_plainly

GREY = (Measure("l1", "roughness"), Measure("ssim", "roughness", gaussian_taps(7, 1.5)))
NORMAL = (Measure("l1", "normal"), Measure("cosine", "normal"), Measure("angle", "normal"))
SMALL_SSIM = Measure("ssim", "normal", gaussian_taps(3, 0.8))
LOGGED = Measure("ssim", "normal", gaussian_taps(5, 1.5))

# Each with sizes of programs that cut the maps into several strips and blocks, whose edges are no multiples.
CASES = {
    "grey": (Job.of(GREY), (1, 13, 20), torch.float64),
    "normal": (Job.of((*NORMAL, SMALL_SSIM)), (2, 5, 9), torch.bfloat16),
    "all": (
        Job.of(
            (
                *(Measure("l1", name) for name in MAPS),
                Measure("ssim", "albedo", gaussian_taps(7, 1.5)),
                *NORMAL,
                SMALL_SSIM,
            ),
            (LOGGED,),
        ),
        (1, 12, 17),
        torch.float32,
    ),
}
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 1e-2}


def compare(job: Job, size: tuple[int, int, int], dtype: torch.dtype) -> None:
    """Compare values and gradients."""
    batch, height, width = size
    random = torch.Generator().manual_seed(0)

    def draw(name: str) -> Tensor:
        low, high = MAPS[name].value_range
        values = torch.rand(batch, MAPS[name].channels, height, width, generator=random, dtype=torch.float64)
        return (values * (high - low) + low).to(dtype)

    prediction = {name: draw(name).requires_grad_() for name in job.maps}
    target = {name: draw(name) for name in job.maps}
    valid = (torch.rand(batch, 1, height, width, generator=random) < 0.8).float()
    # What is not valid must not matter.
    prediction = {name: values.masked_fill(valid == 0, torch.nan) for name, values in prediction.items()}
    # A layout that networks in channels-last have.
    prediction = {name: values.contiguous(memory_format=torch.channels_last) for name, values in prediction.items()}

    expected = evaluate_plainly(prediction, target, valid, job)
    values = together.evaluate(prediction, target, valid, job)
    torch.testing.assert_close(values, expected, rtol=0, atol=min(TOLERANCES[dtype], 2e-6))
    weights = torch.arange(1, len(values) + 1, dtype=values.dtype)
    leaves = list(prediction.values())
    gradients = torch.autograd.grad((weights * values).sum(), leaves)
    for gradient, right in zip(gradients, torch.autograd.grad((weights * expected).sum(), leaves), strict=True):
        assert gradient.dtype == dtype
        scale = right.abs().max().item()
        torch.testing.assert_close(gradient, right, rtol=0, atol=TOLERANCES[dtype] * scale)


def main() -> None:
    """Run the cases that the command line names."""
    together._implementation = lambda device: launching
    launching.COLUMNS = 16
    launching.ROWS = 8
    launching.PIXELS = 64
    for name in sys.argv[1:]:
        compare(*CASES[name])
        print(name, "agrees")


if __name__ == "__main__":
    main()
