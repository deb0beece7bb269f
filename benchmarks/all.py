"""The benchmarks that need nothing but this repository, one after the other, within ten minutes.

    python benchmarks/all.py --output results
    python benchmarks/all.py --device cuda --output results
    python benchmarks/all.py --only startup,step --output results

Each runs in a process of its own, with settings that are small enough for two CPU cores, and prints its ratios. Its
output goes to OUTPUT/NAME.txt and its numbers to OUTPUT/NAME.json. One that fails, or for which no time is left, does
not stop the others; the command then exits with 1.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 600
"""Seconds for all of them."""


class Entry(NamedTuple):
    """One benchmark.

    Attributes:
        name: Name of its results.
        arguments: Its script in `benchmarks/` and the options, without `--json`.
        devices: Where it can run.
    """

    name: str
    arguments: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu",)


ENTRIES = (
    Entry("startup", ("startup.py", "--runs", "5")),
    Entry("reconstruction", ("reconstruction.py", "--size", "512", "--rounds", "5")),
    Entry("step", ("step.py", "--no-overhead")),
    Entry("ssim", ("ssim.py", "--size", "512")),
    Entry("refinement_cost", ("refinement.py", "--cost", "512", "--views", "3")),
    Entry("fusion", ("fusion.py", "--timed", "16", "32")),
    Entry("registration", ("registration.py", "--rounds", "1", "--materials", "acg_Bricks102")),
    Entry("alignment", ("alignment.py", "--captures", "2", "--size", "512")),
    Entry("memory", ("memory.py", "--size", "192", "--recipes", "quickstart")),
    Entry("synthesis", ("synthesis.py", "--samples", "16", "--rounds", "1", "--skip-threads")),
    Entry("growth", ("growth.py", "--rounds", "1")),
    Entry("reconstruction_float32", ("reconstruction.py", "--device", "cuda", "--size", "2048"), ("cuda",)),
    Entry(
        "reconstruction_bfloat16",
        ("reconstruction.py", "--device", "cuda", "--size", "2048", "--dtype", "bfloat16"),
        ("cuda",),
    ),
    Entry("ssim_cuda", ("ssim.py", "--device", "cuda", "--size", "1024"), ("cuda",)),
)


def run_entry(entry: Entry, output: Path, seconds: float) -> str:
    """Run one benchmark, print what it prints, and tell how it ended.

    Args:
        entry: The benchmark.
        output: Folder for its results.
        seconds: How long it may take.
    """
    if seconds <= 0:
        return "no time was left"
    script, *options = entry.arguments
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / script),
        *options,
        "--json",
        str(output / f"{entry.name}.json"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return "stopped: no time was left"
    (output / f"{entry.name}.txt").write_text(done.stdout, encoding="utf-8")
    print(done.stdout, end="")
    if done.returncode:
        print(done.stderr, file=sys.stderr, end="")
        return f"failed with {done.returncode}"
    return "done"


def main() -> int:
    """Run the benchmarks of a device; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where to compute")
    parser.add_argument("--only", metavar="NAME,…", help="some of them")
    parser.add_argument("--output", type=Path, default=Path("benchmark-results"), help="folder for the results")
    options = parser.parse_args()
    entries = [entry for entry in ENTRIES if options.device in entry.devices]
    if options.only:
        names = options.only.split(",")
        known = [entry.name for entry in entries]
        for name in names:
            if name not in known:
                parser.error(f"--only {name}: no such benchmark on {options.device}; there are {', '.join(known)}")
        entries = [entry for entry in entries if entry.name in names]
    options.output.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    states = []
    for entry in entries:
        print(f"== {entry.name}: {' '.join(entry.arguments)}", flush=True)
        begun = time.monotonic()
        state = run_entry(entry, options.output, LIMIT - (begun - start))
        states.append(f"{entry.name:24} {time.monotonic() - begun:6.1f} s  {state}")
    print(*states, sep="\n")
    print(f"{time.monotonic() - start:.0f} s in all; results in {options.output}")
    return int(not all(state.endswith(" done") for state in states))


if __name__ == "__main__":
    sys.exit(main())
