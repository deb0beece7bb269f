"""How much memory the students' fusion blocks take, against the size of the views.

    python benchmarks/fusion_memory.py [--sizes 256 512 …] [--json FILE] [--plot docs/images/fusion_memory.png]

Each point is a process of its own that builds the block of a student recipe for three views, runs it once on a single
latent pixel, and then on the latents of views of that size, without gradients. What it prints is by how much the second
pass raised the peak of the process's resident memory (`ru_maxrss`): all that lives at once, as it lies in memory.
Weights and inputs are there before and do not count. The allocator is told to give freed tensors back
(`MALLOC_MMAP_THRESHOLD_`), so that fragments do not count either.

The transformer is measured twice. With *fused* attention, as PyTorch runs it, scores are never in memory together; with
*explicit* attention they are, as in exported models whose runtime has no fused operator.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SIZES = (256, 384, 512, 768, 1024, 1280, 1536)
FITTED = 512
"""Below this, what does not depend on the size counts too."""

STRIDE, CHANNELS, VIEWS = 32, 960, 3
CURVES = {
    "convattn": ("convattn", "neuropbr:student_convattn_1024"),
    "vit, fused": ("vit", "neuropbr:student_mobilenetv3_512"),
    "vit, explicit": ("vit", "neuropbr:student_mobilenetv3_512"),
}


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        curve: Key of `CURVES`.
        size: Side of the views in pixels.
        megabytes: What the forward pass added to the process's peak.
    """

    curve: str
    size: int
    megabytes: float


def measure(curve: str, size: int) -> float:
    """Run one forward pass in this process; return the megabytes that it added to the peak."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from neuropbr_core.recipe import load_recipe
    from neuropbr_core.registry import default_registry

    torch.set_num_threads(1)
    component, recipe = CURVES[curve]
    part = load_recipe(recipe).fusion
    fusion = default_registry().choose("fusion", component, part.options).create(in_channels=CHANNELS).eval()
    side = size // STRIDE
    backend = SDPBackend.MATH if curve == "vit, explicit" else SDPBackend.FLASH_ATTENTION
    with torch.no_grad(), sdpa_kernel(backend):
        fusion(torch.ones(1, VIEWS, CHANNELS, 1, 1), torch.ones(1, VIEWS, 1, 1, 1))
        latents, visible = torch.ones(1, VIEWS, CHANNELS, side, side), torch.ones(1, VIEWS, 1, side, side)
        before = peak_megabytes()
        fusion(latents, visible)
    return peak_megabytes() - before


def peak_megabytes() -> float:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure_apart(curve: str, size: int) -> Point:
    """`measure` in a fresh process, whose peak nothing else has raised."""
    command = [sys.executable, __file__, "--point", curve, str(size)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return Point(curve, size, float(done.stdout))


def growth(points: Sequence[Point]) -> float:
    """The power of the number of pixels with which memory grows, fitted from `FITTED` on."""
    fitted = [point for point in points if point.size >= FITTED]
    pixels = [math.log(point.size**2) for point in fitted]
    return statistics.linear_regression(pixels, [math.log(point.megabytes) for point in fitted]).slope


def report(points: Sequence[Point]) -> str:
    """A Markdown table: a row a size, in megabytes and relative to `convattn`; then how each grows."""
    curves = {name: [point for point in points if point.curve == name] for name in CURVES}
    lines = [
        f"| views | {' | '.join(f'{name}, MB | ×' for name in curves)} |",
        "| --- |" + " --- | --- |" * len(curves),
    ]
    for row in zip(*curves.values(), strict=True):
        base = row[0].megabytes
        cells = " | ".join(f"{point.megabytes:,.0f} | {point.megabytes / base:.1f}" for point in row)
        lines.append(f"| {row[0].size}×{row[0].size} | {cells} |")
    grows = "; ".join(f"{name} with pixels to the power of {growth(own):.2f}" for name, own in curves.items())
    return "\n".join([*lines, "", f"From {FITTED}×{FITTED} on, memory grows: {grows}."])


def plot(points: Sequence[Point], path: Path) -> None:
    """Draw the curves, both axes logarithmic."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), dpi=110)
    for name, marker in zip(CURVES, "os^", strict=True):
        own = [point for point in points if point.curve == name]
        axes.plot([point.size for point in own], [point.megabytes for point in own], marker=marker, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sizes = sorted({point.size for point in points})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("side of each of three views, pixels")
    axes.set_ylabel("peak memory of the fusion block, MB")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="sides of the views, multiples of 32")
    parser.add_argument("--json", type=Path, help="write the points there")
    parser.add_argument("--plot", type=Path, help="write a picture there")
    parser.add_argument("--point", nargs=2, metavar=("CURVE", "SIZE"), help="measure one point in this process")
    chosen = parser.parse_args()
    if chosen.point:
        print(measure(chosen.point[0], int(chosen.point[1])))
        return
    points = [measure_apart(curve, size) for size in sorted(chosen.sizes) for curve in CURVES]
    print(report(points))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(point) for point in points], indent=2) + "\n", encoding="utf-8")
    if chosen.plot:
        plot(points, chosen.plot)


if __name__ == "__main__":
    main()
