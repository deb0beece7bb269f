"""SSIM forward and backward: ours against an 11×11 depthwise version and torchmetrics, side by side.

    python benchmarks/ssim.py --size 1024 --json ssim.json

Prints each version's time and the memory that autograd keeps for backward, relative to the depthwise version in the
same run, and how far its mean is from it. The versions take turns on one thread, and each one's fastest round counts,
so that a busy machine spoils the comparison as little as it can.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from neuropbr_losses.fused.measures import C1, C2, gaussian_taps
from neuropbr_losses.ssim.loss import ssim_map

TAPS = gaussian_taps(11, 1.5)

Mean = Callable[[Tensor, Tensor], Tensor]


def ours(prediction: Tensor, target: Tensor) -> Tensor:
    """The version that the loss uses."""
    return ssim_map(prediction, target, TAPS).mean()


def depthwise_map(prediction: Tensor, target: Tensor) -> Tensor:
    """The usual version: five depthwise convolutions with a full window, gradient by autograd."""
    channels, half = prediction.shape[1], len(TAPS) // 2
    row = torch.tensor(TAPS, dtype=prediction.dtype, device=prediction.device)
    window = torch.outer(row, row).expand(channels, 1, -1, -1)
    x, y = (F.pad(image, (half,) * 4, mode="reflect") for image in (prediction, target))
    u, v, xx, yy, xy = (F.conv2d(image, window, groups=channels) for image in (x, y, x * x, y * y, x * y))
    variances, covariance = xx - u * u + yy - v * v, xy - u * v
    return (2 * u * v + C1) * (2 * covariance + C2) / ((u * u + v * v + C1) * (variances + C2))


def depthwise(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of the usual version."""
    return depthwise_map(prediction, target).mean()


def torchmetrics(prediction: Tensor, target: Tensor) -> Tensor:
    """An independent library's mean over the full map."""
    result = structural_similarity_index_measure(
        prediction, target, sigma=1.5, data_range=1.0, return_full_image=True, reduction="none"
    )
    return result[1].mean()


VERSIONS: dict[str, Mean] = {"depthwise": depthwise, "torchmetrics": torchmetrics, "ours": ours}


def saved_bytes(version: Mean, prediction: Tensor, target: Tensor) -> int:
    """Bytes of distinct storages that autograd keeps between forward and backward."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        version(prediction, target)
    return sum(storages.values())


def seconds(version: Mean, prediction: Tensor, target: Tensor) -> float:
    """Time of one forward and backward."""
    prediction.grad = None
    _wait(prediction.device)
    start = time.perf_counter()
    torch.autograd.backward(version(prediction, target))
    _wait(prediction.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(size: int, rounds: int, device: str) -> dict[str, dict[str, float]]:
    """Time all versions in turns on one pair of images `(1, 3, size, size)`."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, 3, size, size, generator=generator).to(device)
    noise = torch.randn(target.shape, generator=generator).to(device) * 0.1
    prediction = (target + noise).clamp(0, 1).requires_grad_()
    times: dict[str, list[float]] = {name: [] for name in VERSIONS}
    for turn in range(rounds + 1):
        for name, version in VERSIONS.items():
            spent = seconds(version, prediction, target)
            if turn:  # the first turn warms up
                times[name].append(spent)
        gc.collect()
    return _relate(times, prediction, target)


def _relate(times: dict[str, list[float]], prediction: Tensor, target: Tensor) -> dict[str, dict[str, float]]:
    fastest = {name: min(spent) for name, spent in times.items()}
    memory = {name: saved_bytes(version, prediction, target) for name, version in VERSIONS.items()}
    values = {name: version(prediction, target).item() for name, version in VERSIONS.items()}
    return {
        name: {
            "speed": fastest["depthwise"] / fastest[name],
            "saved_memory": memory[name] / memory["depthwise"],
            "deviation": abs(values[name] - values["depthwise"]),
        }
        for name in VERSIONS
    }


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description="SSIM forward and backward, relative to the depthwise version.")
    parser.add_argument("--size", type=int, default=1024, help="side of the images in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = measure(options.size, options.rounds, options.device)
    print(f"{'':14}{'speed':>8}{'saved memory':>15}{'deviation':>12}   (depthwise = 1)")
    for name, row in result.items():
        print(f"{name:14}{row['speed']:7.2f}×{row['saved_memory']:14.2f}×{row['deviation']:12.1e}")
    if options.json:
        facts = {"size": options.size, "device": options.device, "threads": options.threads, "torch": torch.__version__}
        options.json.write_text(json.dumps({**facts, "versions": result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
