"""How long the command line takes to start, as a multiple of a bare `python -c pass`.

    python benchmarks/startup.py [--runs N] [--json FILE]

Prints one line a command, relative to a bare interpreter: median, smallest and largest wall time, mean processor time,
and the budget. Exits with 1 when a median of wall time is over budget. Runs are
interleaved, so that a busy moment of the machine hits all commands alike; processor time is disturbed less. `import
click` is measured too: every command imports the library of the command line. One run of each is not counted: it writes
bytecode and the answers that the program gives again. Rows with "first" are of calls that find no such answer.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPE = REPOSITORY / "recipes" / "teacher_default.yaml"
CAPTURE = REPOSITORY / "examples" / "captures" / "bricks"

BARE = ("-c", "pass")
PROGRAM = ("-c", "from neuropbr_core.cli import main; main()")


@dataclass(frozen=True)
class Command:
    """A command and its budget.

    Attributes:
        name: The command as one would type it.
        arguments: Arguments of the interpreter.
        budget: Largest allowed ratio to a bare interpreter; None for none.
        first: Whether it finds no answers of earlier calls.
    """

    name: str
    arguments: tuple[str, ...]
    budget: float | None
    first: bool = False


@dataclass(frozen=True)
class Measurement:
    """What was measured of a command; wall times are ratios to the median of a bare interpreter.

    Attributes:
        command: The command as one would type it.
        ratio: Median of its wall time.
        fastest: Its smallest wall time.
        slowest: Its largest wall time.
        processor: Its mean processor time, over that of a bare interpreter.
        budget: Largest allowed median; None for none.
    """

    command: str
    ratio: float
    fastest: float
    slowest: float
    processor: float
    budget: float | None

    @property
    def is_over(self) -> bool:
        """Whether it is over its budget."""
        return self.budget is not None and self.ratio > self.budget


def commands(scratch: str) -> list[Command]:
    """The commands to measure; those that need a file of the repository are left out where the checkout has none."""
    wanted = [
        Command("import click", ("-c", "import click"), None),
        Command("neuropbr --help", (*PROGRAM, "--help"), 4),
        Command("neuropbr list-plugins", (*PROGRAM, "list-plugins"), 6),
        Command("neuropbr list-plugins, first", (*PROGRAM, "list-plugins"), None, first=True),
    ]
    if RECIPE.is_file():
        place = str(RECIPE.relative_to(REPOSITORY))
        check = (*PROGRAM, "recipe", "check", place)
        wanted.append(Command(f"neuropbr recipe check {place}", check, 12))
        wanted.append(Command(f"neuropbr recipe check {place}, first", check, None, first=True))
    if CAPTURE.is_dir():
        place = str(CAPTURE.relative_to(REPOSITORY))
        options = ("infer", place, "--refine", "0", "--device", "cpu", "--overwrite", "--output", f"{scratch}/maps")
        wanted.append(Command(f"neuropbr infer {place} --refine 0", (*PROGRAM, *options), None))
    return wanted


def seconds(command: Command, scratch: str) -> tuple[float, float]:
    """Wall time and processor time of one run, with bytecode and answers of earlier runs in `scratch`.

    Raises:
        CalledProcessError: The command failed.
    """
    home = f"{scratch}/home"
    if command.first:
        home = f"{os.devnull}/home"  # where nothing can be kept
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{scratch}/bytecode", "NEUROPBR_DATA_HOME": home}
    # Where it is set, every run would compile all sources, as no installed program does.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = os.times()
    start = time.perf_counter()
    words = [sys.executable, *command.arguments]
    silent = subprocess.DEVNULL
    subprocess.run(words, check=True, stdout=silent, stderr=silent, cwd=REPOSITORY, env=environment)
    wall = time.perf_counter() - start
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def measure(runs: int) -> list[Measurement]:
    """Time every command and the bare interpreter, `runs` times each, in turn."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = [Command("python -c pass", BARE, None), *commands(scratch)]
        for command in wanted:
            seconds(command, scratch)  # writes bytecode and answers
        timings: list[list[tuple[float, float]]] = [[] for _ in wanted]
        for _ in range(runs):
            for command, own in zip(wanted, timings, strict=True):
                own.append(seconds(command, scratch))
    bare = statistics.median(wall for wall, _ in timings[0])
    # A bare interpreter takes about as long as the system counts processor time exactly, so the mean is taken.
    bare_processor = statistics.mean(used for _, used in timings[0])
    measurements = []
    for command, own in zip(wanted, timings, strict=True):
        walls = [wall / bare for wall, _ in own]
        processor = statistics.mean(used for _, used in own) / bare_processor
        measurements.append(
            Measurement(command.name, statistics.median(walls), min(walls), max(walls), processor, command.budget)
        )
    return measurements[1:]


def main() -> int:
    """Measure, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=15, help="runs of each command (default 15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there too")
    arguments = parser.parse_args()
    measurements = measure(arguments.runs)
    print(f"{'× python -c pass':60}{'wall':>8}{'smallest':>10}{'largest':>9}{'processor':>11}  budget")
    for row in measurements:
        verdict = ""
        if row.budget is not None:
            verdict = f"{row.budget:g}  {'OVER BUDGET' if row.is_over else 'ok'}"
        print(f"{row.command:60}{row.ratio:8.1f}{row.fastest:10.1f}{row.slowest:9.1f}{row.processor:11.1f}  {verdict}")
    print(f"load average {os.getloadavg()[0]:.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(list(map(asdict, measurements)), indent=2) + "\n")
    return int(any(row.is_over for row in measurements))


if __name__ == "__main__":
    sys.exit(main())
