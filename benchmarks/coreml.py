"""Core ML packages of the students at full size, made and verified on this machine.

    python benchmarks/coreml.py --keep packages --json coreml.json
    python benchmarks/coreml.py --run runs/convattn_1024 --keep packages

Takes the weights of each `--run`, or builds each recipe's network and trains it for a few steps on small captures of
the shipped materials (untrained weights amplify rounding). Exports it at its own size, and verifies the package on a
capture of a material; a package that misses its pass mark is an error. Times are given over that of one eager forward
pass in the same process; every network has a process of its own, so that its peak memory is its own.

Latency is Core ML's on the CPU, which macOS alone has: elsewhere none is given, since the reference evaluator, which
verifies the package there, says nothing about it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from light_training import lightly_trained, real_sample  # noqa: E402

from neuropbr_core.contracts import ExportReport, ExportSpec  # noqa: E402
from neuropbr_core.exporting.export import Views, export_subject  # noqa: E402
from neuropbr_core.exporting.subject import make_subject  # noqa: E402
from neuropbr_core.inference import load_generator  # noqa: E402
from neuropbr_core.model import Generator, ModelSpec  # noqa: E402
from neuropbr_core.recipe import load_recipe  # noqa: E402
from neuropbr_core.registry import default_registry  # noqa: E402
from neuropbr_exporters.coreml.exporter import CoreMLExporter  # noqa: E402
from neuropbr_exporters.coreml.package import NativePackage, Package  # noqa: E402

RECIPES = ("student_mobilenetv3_512", "student_convattn_1024")
UNSEEN = "acg_Tiles032"
_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts peak memory."""


def peak_mebibytes() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT / 2**20


class Clocked(CoreMLExporter):
    """Notes what the last conversion cost, verification aside.

    Attributes:
        seconds: Its time.
        peak_mib: Peak memory of the process when it was done.
    """

    seconds = 0.0
    peak_mib = 0.0

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Export, and take notes."""
        start = time.perf_counter()
        report = super().export(generator, spec, path)
        self.seconds, self.peak_mib = time.perf_counter() - start, peak_mebibytes()
        return report


def of_recipe(recipe: str, overrides: list[str], steps: int, side: int) -> tuple[Generator, ModelSpec]:
    """A recipe's network after a short training on small captures, and its spec at the recipe's size."""
    full = ModelSpec.from_recipe(load_recipe(ROOT / "recipes" / f"{recipe}.yaml", overrides))
    scale = full.output_size // full.image_size
    return lightly_trained(replace(full, image_size=side, output_size=side * scale), steps), full


def of_run(folder: str) -> tuple[Generator, ModelSpec]:
    """The network of a run's last checkpoint, and its spec."""
    loaded = load_generator(folder, "latest")
    return loaded.generator, loaded.spec


def measure(
    name: str, generator: Generator, full: ModelSpec, material: str, options: dict[str, Any], keep: Path
) -> dict[str, Any]:
    """Export and verify a network; the package stays in `keep`."""
    inputs, _ = real_sample(full, material, seed=7)
    eager = _fastest(lambda: generator(**inputs))
    before = peak_mebibytes()
    part = default_registry().choose("exporter", "coreml", options, name=name)
    exporter, subject = Clocked(part.options), make_subject(generator, full, part.entry)
    origin, views = {"run": "benchmark", "recipe": name}, Views(inputs, f"a capture of {material}")
    start = time.perf_counter()
    exported = export_subject(subject, part, exporter, keep, origin=origin, views=views)
    verification = time.perf_counter() - start - exporter.seconds
    found = exported.verification.comparisons.values()
    return {
        "file": exported.path.name,
        "precision": exported.verification.precision,
        "worst_psnr_db": exported.verification.worst,
        "largest_difference_of_255": max(comparison.max_difference for comparison in found) * 255,
        "conversion_over_eager": exporter.seconds / eager,
        "verification_over_eager": verification / eager,
        "cpu_latency_over_eager": cpu_latency(exported.path, inputs) / eager if sys.platform == "darwin" else None,
        "peak_memory_of_training_and_eager_mib": before,
        "peak_memory_with_conversion_mib": exporter.peak_mib,
        "peak_memory_with_verification_mib": peak_mebibytes(),
        "package_mib": sum(file.stat().st_size for file in exported.path.rglob("*") if file.is_file()) / 2**20,
        "weights_fp32_mib": sum(p.numel() * 4 for p in generator.parameters()) / 2**20,
        **{key: value for key, value in exported.details.items() if key != "MiB"},
    }


def cpu_latency(path: Path, inputs: dict[str, Tensor]) -> float:
    """Fastest time of Core ML itself on the CPU, in seconds; on macOS."""
    package = Package(path)
    native = NativePackage(package, compute_units="CPU_ONLY")
    return _fastest(lambda: native(inputs))


@torch.no_grad()
def _fastest(call: Callable[[], object], rounds: int = 3) -> float:
    call()  # warms up
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def in_own_process(arguments: list[str]) -> dict[str, Any]:
    """Run one recipe in a fresh interpreter."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description="Core ML packages of the students at full size.")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="names of recipes")
    parser.add_argument("--run", action="append", default=[], metavar="DIR", help="measure this run, no recipe")
    parser.add_argument("--material", default=UNSEEN, help="shipped material whose capture it is verified on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipes")
    parser.add_argument("--steps", type=int, default=30, help="training steps")
    parser.add_argument("--side", type=int, default=96, help="side of the views in training, in pixels")
    parser.add_argument("--options", default="{}", help="options of the exporter, as JSON")
    parser.add_argument("--keep", type=Path, help="folder for the packages; default: none are kept")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        made = of_run(given.only) if given.run else of_recipe(given.only, given.set, given.steps, given.side)
        name, options = Path(given.only).resolve().name, json.loads(given.options)
        print(json.dumps(measure(name, *made, given.material, options, given.keep)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        shared = ["--steps", str(given.steps), "--side", str(given.side), "--options", given.options]
        shared += ["--keep", str(given.keep or scratch), *(f"--set={text}" for text in given.set)]
        shared += ["--material", given.material, *(f"--run={folder}" for folder in given.run)]
        results = {}
        for name in given.run or given.recipes:
            results[name] = in_own_process(["--only", name, *shared])
            print(f"\n{name}", *(f"  {key}: {value}" for key, value in results[name].items()), sep="\n", flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
