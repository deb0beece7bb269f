"""How long the command line takes to start, as a multiple of a bare `python -c pass`.

    python benchmarks/startup.py [--runs N] [--json FILE]

Prints one line a command with its ratio and its budget; exits with 1 when a ratio is over budget. Runs are
interleaved, so that a busy moment of the machine hits all commands alike, and medians are compared.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPE = REPOSITORY / "recipes" / "teacher_default.yaml"

BARE = (sys.executable, "-c", "pass")
PROGRAM = (sys.executable, "-c", "from neuropbr_core.cli import main; main()")


@dataclass(frozen=True)
class Command:
    """A command and its budget.

    Attributes:
        arguments: Arguments of `neuropbr`.
        budget: Largest allowed ratio to a bare interpreter.
    """

    arguments: tuple[str, ...]
    budget: float


@dataclass(frozen=True)
class Measurement:
    """What was measured of a command.

    Attributes:
        command: The command as one would type it.
        ratio: Median of its wall time over the median of a bare interpreter's.
        budget: Largest allowed ratio.
    """

    command: str
    ratio: float
    budget: float


def commands() -> list[Command]:
    """The commands to measure; the recipe is left out where the checkout has none."""
    found = [Command(("--help",), 10), Command(("list-plugins",), 10)]
    if RECIPE.is_file():
        found.append(Command(("recipe", "check", str(RECIPE.relative_to(REPOSITORY))), 25))
    return found


def seconds(command: tuple[str, ...]) -> float:
    """Wall time of one run.

    Raises:
        CalledProcessError: The command failed.
    """
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY)
    return time.perf_counter() - start


def measure(runs: int) -> list[Measurement]:
    """Time every command and the bare interpreter, `runs` times each, in turn."""
    wanted = commands()
    timings: list[list[float]] = [[] for _ in range(len(wanted) + 1)]
    lines = [BARE, *((*PROGRAM, *command.arguments) for command in wanted)]
    for line in lines:
        seconds(line)
    for _ in range(runs):
        for line, timing in zip(lines, timings, strict=True):
            timing.append(seconds(line))
    bare, *medians = (statistics.median(timing) for timing in timings)
    return [
        Measurement(" ".join(("neuropbr", *command.arguments)), round(median / bare, 2), command.budget)
        for command, median in zip(wanted, medians, strict=True)
    ]


def main() -> int:
    """Measure, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=15, help="runs of each command (default 15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there too")
    arguments = parser.parse_args()
    found = measure(arguments.runs)
    for one in found:
        verdict = "ok" if one.ratio <= one.budget else "OVER BUDGET"
        print(f"{one.command:<48} {one.ratio:6.2f}x python -c pass   budget {one.budget:g}x   {verdict}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")
    return int(any(one.ratio > one.budget for one in found))


if __name__ == "__main__":
    sys.exit(main())
