"""Exports of a shipped student: what converting costs, and how fast the files run on this CPU beside eager PyTorch.

    python benchmarks/exports.py --recipe neuropbr:student_mobilenetv3_512 --json exports.json

Each exporter converts in a process of its own, whose time (over an eager forward pass) and growth of peak memory are
measured. Then eager PyTorch and all files take turns on the same views in one process, each with its own choice of
threads, and each one's fastest round counts, so that a busy machine spoils the comparison as little as it can. Weights
are random: neither cost nor speed depends on them.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuropbr_core.contracts import ExportSpec, Maps
from neuropbr_core.exporting import Signature, compare, random_inputs
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.model import ModelSpec, build_generator, load_model, save_model
from neuropbr_core.recipe import load_recipe
from neuropbr_core.registry import default_registry

EXPORTERS = ("onnx", "executorch", "pt2", "torchscript")
TARGET = 0.5
"""Largest CPU latency of the ONNX file, relative to eager PyTorch."""

_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts peak memory."""


def exporter_of(name: str) -> Any:
    """An exporter with its default options."""
    return default_registry().choose("exporter", name).create()


def peak_mebibytes() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT / 2**20


def convert(name: str, checkpoint: Path, path: Path) -> dict[str, float]:
    """Export a checkpoint, in a process that does nothing else."""
    generator, spec = load_model(checkpoint)
    inputs = random_inputs(Signature.of(spec))
    with torch.no_grad():
        generator(**inputs)  # what the model itself needs is not the converter's
    before, start = peak_mebibytes(), time.perf_counter()
    exporter_of(name).export(generator, ExportSpec(inputs, MAP_NAMES), path)
    spent = time.perf_counter() - start
    return {"seconds": spent, "memory": peak_mebibytes() - before, "model_memory": before}


def convert_apart(name: str, checkpoint: Path, path: Path) -> dict[str, float]:
    """`convert` in a child process."""
    command = [sys.executable, __file__, "--convert", name, "--checkpoint", str(checkpoint), "--file", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def latencies(programs: dict[str, Callable[[dict[str, Tensor]], Maps]], inputs: dict[str, Tensor], rounds: int) -> Any:
    """Fastest time of each program, in turns."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            program(inputs)
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return {name: min(spent) for name, spent in times.items()}


def measure(recipe: str, overrides: list[str], rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    """Convert and time the recipe's model through every exporter."""
    spec = ModelSpec.from_recipe(load_recipe(recipe, overrides))
    torch.manual_seed(0)
    generator = build_generator(spec).eval()
    save_model(generator, spec, folder)
    inputs = random_inputs(Signature.of(spec), seed=1)

    def eager(inputs: dict[str, Tensor]) -> Maps:
        with torch.no_grad():
            maps: Maps = generator(**inputs).maps
        return maps

    rows: dict[str, dict[str, float]] = {"eager": {}}
    programs: dict[str, Any] = {"eager": eager}
    for name in EXPORTERS:
        exporter = exporter_of(name)
        path = folder / f"model{exporter.suffix}"
        rows[name] = {**convert_apart(name, folder, path), "size": path.stat().st_size / 2**20}
        programs[name] = exporter.load(path)
        rows[name]["psnr"] = min(found.psnr for found in compare(programs[name](inputs), eager(inputs)).values())
    for name, spent in latencies(programs, inputs, rounds).items():
        rows[name]["latency"] = spent
    eager_seconds = rows["eager"]["latency"]
    for row in rows.values():
        row["latency"] /= eager_seconds
        row["conversion"] = row.pop("seconds", 0.0) / eager_seconds
    return rows


def show(rows: dict[str, dict[str, float]]) -> None:
    """Print the result."""
    print(f"{'':14}{'latency':>9}{'convert':>10}{'memory':>11}{'file':>11}{'worst map':>12}   (eager = 1)")
    for name, row in rows.items():
        if name == "eager":
            print(f"{name:14}{1:8.2f}×")
            continue
        cost = f"{row['conversion']:9.1f}×{row['memory']:7.0f} MiB{row['size']:7.1f} MiB{row['psnr']:9.0f} dB"
        print(f"{name:14}{row['latency']:8.2f}×{cost}")
    found = rows["onnx"]["latency"]
    print(f"ONNX at most {TARGET}× eager: {found:.2f}×, {'met' if found <= TARGET else 'missed'}")


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description="Cost of exporting a student, and CPU latency relative to eager.")
    parser.add_argument("--recipe", default="neuropbr:student_mobilenetv3_512", help="whose model is exported")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--convert", help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.convert:
        print(json.dumps(convert(options.convert, options.checkpoint, options.file)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options.recipe, options.set, options.rounds, Path(folder))
    show(rows)
    if options.json:
        facts = {"recipe": options.recipe, "torch": torch.__version__, "threads": torch.get_num_threads()}
        options.json.write_text(json.dumps({**facts, "exporters": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
