"""The reconstruction losses and the logged errors, forward and backward: fused against other ways, side by side.

    python benchmarks/reconstruction.py --size 512 --json reconstruction.json

The work is that of a training step that logs: L1 on all maps, 1 - SSIM of the albedo and the angle of normals with
their gradients, and for the logs SSIM of all maps and the normals' angle in degrees. The versions:

- `eager`: PyTorch's operators one after the other, SSIM by an 11×11 depthwise convolution, gradients by autograd.
- `compiled`: the same through `torch.compile`, where a compiler works.
- `pytorch-msssim`, `torchmetrics`: the same with SSIM by these libraries, where they are installed. They know no masks.
- `separate`: what training does with `training.fused_losses: off`.
- `fused`: what training does with `training.fused_losses: auto`.

The versions take turns, and each round gives one ratio to `eager`; the table shows the median and the range of the
middle half. Memory is how far a process of its own grows (on CUDA: the peak of the allocator) beyond the maps
themselves.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Loss, LossInput, LossSetup, Maps, Prediction
from neuropbr_core.evaluation.metrics import step_metrics
from neuropbr_core.maps import MAP_NAMES, MAPS, NORMAL
from neuropbr_losses import l1, normal, ssim
from neuropbr_losses.fused.measures import Job, Measure, to_unit
from neuropbr_losses.fused.reference import evaluate_plainly
from neuropbr_losses.fused.together import FusedMeasures, MeasuredLoss, logged_measures
from neuropbr_losses.l1.loss import L1Loss
from neuropbr_losses.normal.loss import NormalLoss
from neuropbr_losses.ssim.loss import SsimLoss

Version = Callable[[LossInput], Tensor]
Similarity = Callable[[Tensor, Tensor], Tensor]

SETUP = LossSetup(MAP_NAMES, 64)
LOSSES: tuple[MeasuredLoss, ...] = (
    L1Loss(l1.Options(), SETUP),
    SsimLoss(ssim.Options(), SETUP),
    NormalLoss(normal.Options(), SETUP),
)
TARGETS = {"cpu": {"speed": 3.0, "memory": 0.5}, "cuda": {"speed": 8.0, "copy_rate": 0.7}}
"""Smallest speed and largest memory relative to `eager`; smallest part of the rate of a plain copy."""


def job() -> Job:
    """What one step computes."""
    learned: list[Measure] = []
    for loss in LOSSES:
        learned += loss.measures()
    return Job.of(learned, logged_measures(MAP_NAMES))


def total(values: Tensor, work: Job) -> Tensor:
    """The objective, from the values of all measures."""
    by_measure = dict(zip(work.measures, values.unbind(), strict=True))
    return torch.stack([loss.combine(by_measure).total for loss in LOSSES]).sum()


def eager(x: LossInput) -> Tensor:
    """The plain composition."""
    work = job()
    return total(evaluate_plainly(x.prediction.maps, x.target, x.valid, work), work)


def compiled() -> Version:
    """The plain composition through `torch.compile`."""
    work = job()
    evaluate = torch.compile(evaluate_plainly, dynamic=False)

    def version(x: LossInput) -> Tensor:
        return total(evaluate(x.prediction.maps, x.target, x.valid, work), work)

    return version


def with_library(similarity: Similarity) -> Version:
    """The plain composition with a library's SSIM, of images in [0, 1]."""
    work = job()

    def version(x: LossInput) -> Tensor:
        values: list[Tensor] = []
        for index, measure in enumerate(work.measures):
            prediction = x.prediction.maps[measure.map].float()
            target = x.target[measure.map].float()
            if index >= work.learned:
                prediction = prediction.detach()
            match measure.kind:
                case "l1":
                    values.append((prediction - target).abs().mean())
                case "ssim":
                    factor, offset = to_unit(measure.map)
                    values.append(1 - similarity(prediction * factor + offset, target * factor + offset))
                case "cosine":
                    values.append((1 - F.cosine_similarity(prediction, target, dim=1)).mean())
                case "angle":
                    cross = torch.linalg.cross(prediction, target, dim=1)
                    sine = torch.linalg.vector_norm(cross, dim=1)
                    values.append(torch.atan2(sine, (prediction * target).sum(dim=1)).mean())
        return total(torch.stack(values), work)

    return version


def separate(x: LossInput) -> Tensor:
    """Each loss by itself, and the logged errors apart."""
    result = torch.stack([loss(x).total for loss in LOSSES]).sum()
    step_metrics(x.prediction.maps, x.target, x.valid)
    return result


def fused() -> Version:
    """All at once."""
    losses: tuple[Loss, ...] = LOSSES
    together = FusedMeasures(losses)

    def version(x: LossInput) -> Tensor:
        return torch.stack([result.total for result in together(x, measured=True).results]).sum()

    return version


def library_versions() -> dict[str, Version]:
    """A version for each library that is installed."""
    versions: dict[str, Version] = {}
    try:
        from pytorch_msssim import ssim as msssim
    except ImportError:
        pass
    else:
        versions["pytorch-msssim"] = with_library(lambda x, y: msssim(x, y, data_range=1.0))
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure as metric
    except ImportError:
        pass
    else:

        def similarity(x: Tensor, y: Tensor) -> Tensor:
            # A pair only where the whole picture is asked for, too.
            return cast("Tensor", metric(x, y, sigma=1.5, data_range=1.0))

        versions["torchmetrics"] = with_library(similarity)
    return versions


def all_versions() -> dict[str, Version]:
    """Every version by name, the baseline first."""
    return {"eager": eager, "compiled": compiled(), **library_versions(), "separate": separate, "fused": fused()}


def make_input(batch: int, size: int, device: str, dtype: torch.dtype) -> LossInput:
    """Predicted maps that take gradients, true maps, and a mask under which every pixel counts."""
    random = torch.Generator().manual_seed(0)
    target: Maps = {}
    prediction: Maps = {}
    for name in MAP_NAMES:
        low, high = MAPS[name].value_range
        values = torch.rand(batch, MAPS[name].channels, size, size, generator=random) * (high - low) + low
        noise = torch.randn(values.shape, generator=random) * 0.1
        guess = (values + noise).clamp(low, high)
        if name == NORMAL.name:
            values = F.normalize(values, dim=1)
            guess = F.normalize(guess, dim=1)
        target[name] = values.to(device, dtype)
        prediction[name] = guess.to(device, dtype).requires_grad_()
    valid = torch.ones(batch, 1, size, size, device=device)
    views = torch.zeros(batch, 1, 3, 1, 1, device=device)
    visible = torch.ones(batch, 1, 1, 1, 1, device=device)
    return LossInput(Prediction(prediction, {}, {}), target, views, visible, valid)


def step(version: Version, x: LossInput) -> float:
    """Run forward and backward; returns the value."""
    for leaf in x.prediction.maps.values():
        leaf.grad = None
    value = version(x)
    value.backward()  # type: ignore[no-untyped-call]
    return value.item()


def seconds(version: Version, x: LossInput) -> float:
    """Time of one forward and backward pass."""
    start = time.perf_counter()
    step(version, x)  # reading the value waits for the device
    if x.valid.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def growth(name: str, options: argparse.Namespace) -> float:
    """Bytes that a version needs at most beyond the maps; on a CPU by a process that does nothing else."""
    if options.device == "cpu":
        command = [sys.executable, __file__, "--growth", name]
        for key in ("batch", "size", "threads", "dtype"):
            command += [f"--{key}", str(getattr(options, key))]
        # With a fixed threshold, the C library gives the memory of every large tensor back when it is freed.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
        result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return float(result.stdout.split()[-1])
    x = make_input(options.batch, options.size, options.device, getattr(torch, options.dtype))
    version = all_versions()[name]
    step(version, x)  # what a compiler needs is not counted
    for leaf in x.prediction.maps.values():
        leaf.grad = None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(version, x)
    return torch.cuda.max_memory_allocated() - before


def growth_here(name: str, options: argparse.Namespace) -> float:
    """Bytes by which this process grows."""
    version = all_versions()[name]
    dtype = getattr(torch, options.dtype)
    x = make_input(options.batch, options.size, "cpu", dtype)
    if name == "compiled":
        step(version, x)  # compiles for this shape
        gc.collect()
        for leaf in x.prediction.maps.values():
            leaf.grad = None
    else:
        step(version, make_input(1, 32, "cpu", dtype))  # loads libraries
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = resident("VmRSS")
    step(version, x)
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """Memory of this process in bytes: `VmRSS` now, `VmHWM` at most. Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no line {field}")


def copy_seconds(x: LossInput) -> float:
    """Time to copy as many bytes as a step cannot avoid to move, on CUDA.

    The forward pass reads both maps and the mask; the backward pass reads them again and writes the gradient.
    """
    maps = sum(values.nbytes for values in x.prediction.maps.values())
    moved = 2 * (2 * maps + x.valid.nbytes) + maps
    source = torch.empty(moved // 2, dtype=torch.uint8, device=x.valid.device)  # a copy reads and writes
    sink = torch.empty_like(source)
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        sink.copy_(source)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Time all versions in turns."""
    x = make_input(options.batch, options.size, options.device, getattr(torch, options.dtype))
    versions = all_versions()
    failures: dict[str, str] = {}
    values: dict[str, float] = {}
    for name, version in versions.items():
        try:
            values[name] = step(version, x)  # warms up
        except Exception as error:
            if name == "eager":
                raise
            failures[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    times: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(options.rounds):
        for name, spent in times.items():
            spent.append(seconds(versions[name], x))
        gc.collect()

    rows: dict[str, dict[str, Any]] = {name: {"failure": reason} for name, reason in failures.items()}
    memory = {name: growth(name, options) for name in values}
    for name, spent in times.items():
        ratios = [base / own for base, own in zip(times["eager"], spent, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows[name] = {
            "speed": middle,
            "speed_quartiles": [low, high],
            "memory": memory[name] / memory["eager"],
            "deviation": abs(values[name] - values["eager"]),
        }
        if options.device == "cuda":
            rows[name]["copy_rate"] = copy_seconds(x) / min(spent)
    return rows


def show(rows: dict[str, dict[str, Any]], device: str) -> None:
    """Print the table, and how it compares with the targets."""
    print(f"{'':16}{'speed':>8}{'middle half':>16}{'memory':>9}{'deviation':>11}   (eager = 1)")
    for name, row in rows.items():
        if "failure" in row:
            print(f"{name:16}did not run: {row['failure']}")
            continue
        low, high = row["speed_quartiles"]
        spread = f"{low:.2f} to {high:.2f}"
        print(f"{name:16}{row['speed']:7.2f}×{spread:>16}{row['memory']:8.2f}×{row['deviation']:11.1e}")
    for key, target in TARGETS[device].items():
        reached = rows["fused"][key]
        print(f"fused {key}: {reached:.2f}, target {target}")


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description="Reconstruction losses, relative to an eager composition.")
    parser.add_argument("--batch", type=int, default=1, help="images")
    parser.add_argument("--size", type=int, default=512, help="side of the maps in pixels")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds, at least 2")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="torch device")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="type of the maps")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--growth", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: a spread needs two values")
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.growth:
        print(growth_here(options.growth, options))
        return
    rows = measure(options)
    show(rows, options.device)
    if options.json:
        facts = {key: getattr(options, key) for key in ("batch", "size", "rounds", "threads", "device", "dtype")}
        options.json.write_text(json.dumps({**facts, "torch": torch.__version__, "versions": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
