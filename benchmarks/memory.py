"""How close the counted memory of a training step comes to what a run really takes, on the CPU.

    python benchmarks/memory.py [--recipes NAME …] [--size 256] [--json FILE]

Each recipe trains for an epoch in processes of its own, once with a batch of 3 and once with a batch of 6, on
captures of SIZE pixels that are rendered first. A third of the difference of the two peaks of resident memory
(`ru_maxrss`) is what a sample takes. It is compared with what the memory check counts for a sample before a run
(`training.memory_check`). Libraries, weights and the optimiser's state are in both peaks and cancel; with a smaller
batch, the optimiser's step may take more than the activations. The allocator is told to give freed tensors back
(`MALLOC_MMAP_THRESHOLD_`), so that fragments do not count.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from neuropbr_core.recipe import Override, load_recipe
from neuropbr_core.training.loop.budget import need

RECIPES = ("teacher_default", "high_quality", "fast_iteration", "lightweight", "teacher_best")
BATCHES = (3, 6)
SAMPLES = 14  # two steps of the larger batch: the optimiser's state is there from the second on
PROGRAM = (sys.executable, "-c", "from neuropbr_core.cli import main; main()")

# Runs one command and prints the peak of its resident memory, which only a parent that has no other child can tell.
_WATCH = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
print(json.dumps({"code": done.returncode, "peak": peak, "error": done.stderr[-2000:]}))
"""


@dataclass(frozen=True)
class Row:
    """One recipe.

    Attributes:
        recipe: Its name.
        counted: Bytes for a sample that the memory check counts.
        measured: Bytes for a sample by which the peak really grew.
    """

    recipe: str
    counted: int
    measured: int

    @property
    def ratio(self) -> float:
        """Counted over measured."""
        return self.counted / self.measured


def changes(recipe: str, size: int, folder: Path, batch: int) -> list[str]:
    """Values that make a recipe small enough for a CPU and leave its architecture and its losses alone."""
    values = [
        f"data.root={folder / 'captures'}",
        "data.synthesize=null",
        f"data.image_size={size}",
        f"data.output_size={size}",
        "data.view_size=null",
        "data.crop_size=null",
        "data.render_curriculum=clean",
        "data.source={use: layout}",
        "data.oversample={}",
        "data.groups={}",
        "data.val_materials=[acg_Bricks102]",
        f"training.batch_size={batch}",
        "training.effective_batch=null",
        "training.accumulate=1",
        "training.epochs=1",
        "training.memory_check=off",
        "training.device=cpu",
        "training.precision=fp32",
        "training.compile=false",
        f"training.runs_dir={folder / 'runs'}",
        "export={}",
        "observers={}",
    ]
    # Everything is counted, so a loss that the recipe begins with later has to be there in the only epoch.
    if "gan" in load_recipe(f"neuropbr:{recipe}").losses:
        values.append("losses.gan={start_epoch: 1}")
    return values


def counted(recipe: str, size: int, folder: Path) -> int:
    """Bytes for a sample that the memory check counts."""
    overrides = [Override(change, "benchmark") for change in changes(recipe, size, folder, 1)]
    return need(load_recipe(f"neuropbr:{recipe}", overrides), torch.device("cpu")).sample


def peak(recipe: str, size: int, folder: Path, batch: int) -> int:
    """Train for an epoch in a process of its own; return the peak of its resident memory in bytes."""
    command = [*PROGRAM, "run", f"neuropbr:{recipe}", "--overwrite"]
    for change in changes(recipe, size, folder, batch):
        command += ["--set", change]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    watched = subprocess.run(
        [sys.executable, "-c", _WATCH, *command], capture_output=True, text=True, check=True, env=environment
    )
    result = json.loads(watched.stdout)
    if result["code"]:
        raise SystemExit(f"{recipe}: {result['error']}")
    return int(result["peak"])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--size", type=int, default=256, help="at least 192, which the presets' critics need")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run(
            [
                *(*PROGRAM, "data", "synthesize", "--output", str(folder / "captures")),
                *("--materials", "neuropbr:examples/materials", "--samples", str(SAMPLES)),
                *("--size", str(arguments.size), "--view-size", str(arguments.size)),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        print("| recipe | counted, MB a sample | measured | counted / measured |")
        print("| --- | --- | --- | --- |")
        for recipe in arguments.recipes:
            small = peak(recipe, arguments.size, folder, BATCHES[0])
            large = peak(recipe, arguments.size, folder, BATCHES[1])
            measured = (large - small) // (BATCHES[1] - BATCHES[0])
            row = Row(recipe, counted(recipe, arguments.size, folder), measured)
            rows.append(row)
            print(f"| `{recipe}` | {row.counted / 1e6:.0f} | {row.measured / 1e6:.0f} | {row.ratio:.2f} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([{**asdict(row), "ratio": row.ratio} for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
