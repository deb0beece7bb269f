"""How the time and the memory of a training step grow with resolution, views and batch, on the CPU.

    python benchmarks/growth.py [--rounds 3] [--json FILE] [--plot docs/images/growth.png]

A small teacher with a critic (that of `step.py`) trains on random images, once with cross-view attention (`vit`) and
once with statistics over views (`concat`). One quantity changes at a time, the others keep the values of `BASE`. Each
point has two processes of its own. The time is processor time of one thread, which other programs on the machine
disturb least. The memory is the peak of resident memory in a step above that before it. Needs Linux, and matplotlib for
the picture.
"""

import argparse
import ctypes
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from step import NETWORKS, RECIPE, make_batch

from neuropbr_core.model import ModelSpec, build_generator
from neuropbr_core.recipe import load_recipe
from neuropbr_core.training.lightning import Fabric
from neuropbr_core.training.loop.objective import Objective
from neuropbr_core.training.loop.step import make_stepper

SWEEPS = {"size": (64, 96, 128, 192), "views": (1, 2, 3, 5), "batch": (1, 2, 4)}
BASE = {"size": 64, "views": 3, "batch": 1}
LABELS = {"size": "side of the views, pixels", "views": "views", "batch": "batch"}
FUSIONS = {"vit": "{use: vit, dim: 128, heads: 4, depth: 2}", "concat": "{use: concat}"}

_MMAP_THRESHOLD = -3  # mallopt's name for the size from which memory is taken from the system and given back to it


@dataclass(frozen=True)
class Point:
    """What was measured of one size, number of views and batch.

    Attributes:
        fusion: The fusion block.
        sweep: Which quantity changes.
        value: Its value.
        seconds: Median processor time of a step.
        fastest: Smallest one.
        slowest: Largest one.
        megabytes: Growth of resident memory in a step.
    """

    fusion: str
    sweep: str
    value: int
    seconds: float
    fastest: float
    slowest: float
    megabytes: float


def measure(job: tuple[str, int, int, int, int]) -> tuple[list[float], float]:
    """Take steps; returns processor seconds of each but the first, and the growth of memory in MB.

    Args:
        job: Fusion block, size, views, batch, and timed steps; with none, memory is measured.
    """
    fusion, size, views, batch, rounds = job
    torch.set_num_threads(1)
    if not rounds:
        # Freed tensors of a page or more go back to the system. The allocator would keep them, and the peak would
        # depend on the order of sizes. It takes time, so that steps are timed in another process.
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 12)
    sizes = (f"data.image_size={size}", f"data.output_size={size}", f"data.views={views}")
    recipe = load_recipe(RECIPE, [*NETWORKS, *sizes, f"model.fusion={FUSIONS[fusion]}", f"training.batch_size={batch}"])
    generator = build_generator(ModelSpec.from_recipe(recipe))
    objective = Objective.from_recipe(recipe, generator.feature_channels)
    stepper = make_stepper(Fabric(accelerator="cpu", devices=1), recipe, generator.train(), objective)
    photos = make_batch(size, batch, views)
    stepper.step([photos], [1.0], epoch=0)  # warms up, and makes the optimiser's state
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        stepper.step([photos], [1.0], epoch=0)
        seconds.append(time.process_time() - start)
    # A step begins without gradients.
    generator.zero_grad()
    for term in objective.terms:
        if term.critic is not None:
            term.critic.zero_grad()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    stepper.step([photos], [1.0], epoch=0)
    return seconds, _resident("VmHWM") - before


def _resident(key: str) -> float:
    """Resident memory of this process in MB: now (`VmRSS`), or at its peak (`VmHWM`)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/self/status has no {key}")


def exponent(points: Sequence[Point], what: str) -> float:
    """The power of the quantity with which something grows, between the last two points."""
    low, high = points[-2:]
    return math.log(getattr(high, what) / getattr(low, what)) / math.log(high.value / low.value)


def report(points: Sequence[Point]) -> str:
    """A table for each quantity, relative to its first row, and the powers."""
    lines = []
    for sweep, values in SWEEPS.items():
        lines.append(
            f"| {LABELS[sweep]} | " + " | ".join(f"{name}: time × | {name}: memory ×" for name in FUSIONS) + " |"
        )
        lines.append("| --- |" + " --- | --- |" * len(FUSIONS))
        own = {}
        for fusion in FUSIONS:
            own[fusion] = [point for point in points if (point.fusion, point.sweep) == (fusion, sweep)]
        for row, value in enumerate(values):
            cells = [str(value)]
            for curve in own.values():
                base, point = curve[0], curve[row]
                spread = f"{point.fastest / base.seconds:.2f} to {point.slowest / base.seconds:.2f}"
                cells.append(f"{point.seconds / base.seconds:.2f} ({spread})")
                cells.append(f"{point.megabytes / base.megabytes:.2f}")
            lines.append(f"| {' | '.join(cells)} |")
        for fusion, curve in own.items():
            time_power = exponent(curve, "seconds")
            memory_power = exponent(curve, "megabytes")
            lines.append(f"{fusion}: time grows with the power {time_power:.2f}, memory with {memory_power:.2f}")
        lines.append("")
    return "\n".join(lines)


def plot(points: Sequence[Point], path: Path) -> None:
    """Draw time above memory, a column for each quantity, all axes logarithmic."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import ScalarFormatter

    figure, axes = plt.subplots(2, len(SWEEPS), figsize=(9, 5), dpi=100, sharey="row")
    for column, (sweep, values) in enumerate(SWEEPS.items()):
        for fusion, marker in zip(FUSIONS, "os", strict=True):
            own = [point for point in points if (point.fusion, point.sweep) == (fusion, sweep)]
            for row, what in enumerate(("seconds", "megabytes")):
                heights = [getattr(point, what) for point in own]
                axes[row, column].plot(values, heights, marker=marker, label=fusion)
        for row in range(2):
            axes[row, column].set_xscale("log", base=2)
            axes[row, column].set_yscale("log", base=2)
            axes[row, column].yaxis.set_major_formatter(ScalarFormatter())
            axes[row, column].set_xticks(values, [str(value) for value in values])
            axes[row, column].minorticks_off()
            axes[row, column].grid(visible=True, alpha=0.3)
        axes[1, column].set_xlabel(LABELS[sweep])
    axes[0, 0].set_ylabel("processor time of a step, s")
    axes[1, 0].set_ylabel("memory of a step, MB")
    axes[0, 0].legend(title="fusion")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each point (default 3)")
    parser.add_argument("--processes", type=int, default=1, help="points measured at the same time (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves there")
    options = parser.parse_args()
    places = []
    for fusion in FUSIONS:
        for sweep, values in SWEEPS.items():
            for value in values:
                place = {**BASE, sweep: value}
                places.append((fusion, sweep, value, (fusion, place["size"], place["views"], place["batch"])))
    jobs = list(dict.fromkeys(place[-1] for place in places))  # the sweeps share a point
    # Each point has a process of its own, which starts with the libraries loaded.
    with multiprocessing.get_context("fork").Pool(options.processes, maxtasksperchild=1) as pool:
        timed = pool.imap(measure, [(*job, options.rounds) for job in jobs])
        weighed = pool.imap(measure, [(*job, 0) for job in jobs])
        measured = {}
        for job, (seconds, _), (_, megabytes) in zip(jobs, timed, weighed, strict=True):
            measured[job] = (seconds, megabytes)
            print(f"# {job}: {statistics.median(seconds):.2f} s, {megabytes:.0f} MB", flush=True)
    points = []
    for fusion, sweep, value, job in places:
        seconds, megabytes = measured[job]
        points.append(Point(fusion, sweep, value, statistics.median(seconds), min(seconds), max(seconds), megabytes))
    print(report(points))
    if options.json:
        options.json.write_text(json.dumps(list(map(asdict, points)), indent=2) + "\n")
    if options.plot:
        plot(points, options.plot)


if __name__ == "__main__":
    main()
