"""Rendering captures: how much faster several processes are than one.

    python benchmarks/synthesis.py [--jobs 2] [--samples 48] [--size 256] [--rounds 3] [--json FILE]

Three ways render the same captures in turns, each into a folder of its own: one process with PyTorch's own number of
threads, one process with one thread, and JOBS processes with one thread for each. The ratios are those within a round;
median, smallest and largest are printed. The files of all ways must have the same bytes, else the command exits with 1.
The start of the processes is part of the time.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from neuropbr_core.parallel import cores

BASE = "one process, one thread"


@dataclass(frozen=True)
class Way:
    """A way to render.

    Attributes:
        name: For people.
        jobs: Processes.
        threads: Threads of PyTorch in a process that renders alone; None for its default.
    """

    name: str
    jobs: int
    threads: int | None


@dataclass(frozen=True)
class Row:
    """What was measured of a way.

    Attributes:
        name: The way.
        seconds: Median wall time.
        speedup: Median of its speed over that of one process with one thread, within a round.
        slowest: Smallest of these ratios.
        fastest: Largest of these ratios.
        cpu_seconds: Median processor time of all its processes.
    """

    name: str
    seconds: float
    speedup: float
    slowest: float
    fastest: float
    cpu_seconds: float


def render(way: Way, folder: Path, samples: int, size: int) -> tuple[float, float]:
    """Render into a folder by the command; returns wall seconds and processor seconds."""
    program = [sys.executable, "-c", "from neuropbr_core.cli import main; main()", "data", "synthesize"]
    plan = ["--materials", "neuropbr:examples/materials", "--samples", str(samples), "--size", str(size), "--seed", "1"]
    environment = dict(os.environ)
    environment.pop("OMP_NUM_THREADS", None)
    if way.threads is not None:
        environment["OMP_NUM_THREADS"] = str(way.threads)
    before = os.times()
    start = time.perf_counter()
    subprocess.run(
        [*program, *plan, "--device", "cpu", "--jobs", str(way.jobs), "--output", str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    seconds = time.perf_counter() - start
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, used


def digest(folder: Path) -> str:
    """Hash of all files with their names."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(folder)).encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def main() -> int:
    """Measure, print, and tell whether all ways gave the same bytes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=2, help="processes to compare with one (default 2)")
    parser.add_argument("--samples", type=int, default=48, help="captures (default 48)")
    parser.add_argument("--size", type=int, default=256, help="side of views and maps in pixels (default 256)")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument("--skip-threads", action="store_true", help="leave out one process with several threads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there too")
    options = parser.parse_args()
    ways = [Way(BASE, 1, 1), Way(f"{options.jobs} processes", options.jobs, 1)]
    if not options.skip_threads:
        ways.append(Way("one process, PyTorch's threads", 1, None))
    timings: dict[str, list[float]] = {way.name: [] for way in ways}
    processor: dict[str, list[float]] = {way.name: [] for way in ways}
    digests = set()
    for _ in range(options.rounds):
        for way in ways:
            with tempfile.TemporaryDirectory() as folder:
                seconds, used = render(way, Path(folder) / "captures", options.samples, options.size)
                digests.add(digest(Path(folder)))
            timings[way.name].append(seconds)
            processor[way.name].append(used)
    rows = []
    for way in ways:
        ratios = [base / own for base, own in zip(timings[BASE], timings[way.name], strict=True)]
        median = statistics.median
        rows.append(
            Row(
                way.name,
                median(timings[way.name]),
                median(ratios),
                min(ratios),
                max(ratios),
                median(processor[way.name]),
            )
        )
    print(f"{options.samples} captures of {options.size} pixels, {options.rounds} rounds, {cores()} cores,", end=" ")
    print(f"load average {os.getloadavg()[0]:.1f}")
    print(f"{'':34}{'seconds':>9}{'× one':>8}{'smallest':>10}{'largest':>9}{'CPU s':>8}")
    for row in rows:
        print(
            f"{row.name:34}{row.seconds:9.1f}{row.speedup:8.2f}{row.slowest:10.2f}{row.fastest:9.2f}"
            f"{row.cpu_seconds:8.1f}"
        )
    same = len(digests) == 1
    print("all files have the same bytes" if same else "THE FILES DIFFER")
    if options.json:
        facts = {"samples": options.samples, "size": options.size, "cores": cores(), "load": os.getloadavg()[0]}
        options.json.write_text(json.dumps({**facts, "same": same, "rows": list(map(asdict, rows))}, indent=2) + "\n")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
