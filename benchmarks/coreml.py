"""Core ML packages of the students at full size, made and verified on this machine.

    python benchmarks/coreml.py --keep packages --json coreml.json

Builds each recipe's network, trains it for a few steps on small captures of the shipped materials (untrained weights
amplify rounding), exports it at the recipe's own size, and verifies the package on a capture of a material that it has
not seen; a package that misses its pass mark is an error. Times are given over that of one eager forward pass in the
same process; every recipe has a process of its own, so that its peak memory is its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from light_training import lightly_trained, real_sample  # noqa: E402

from neuropbr_core.exporting.export import Views, create_exporter, export_subject  # noqa: E402
from neuropbr_core.exporting.subject import make_subject  # noqa: E402
from neuropbr_core.kinds import ExporterEntryOptions  # noqa: E402
from neuropbr_core.model import ModelSpec  # noqa: E402
from neuropbr_core.recipe import load_recipe  # noqa: E402
from neuropbr_core.recipe.sections import Component  # noqa: E402
from neuropbr_core.registry import default_registry  # noqa: E402

RECIPES = ("student_mobilenetv3_512", "student_convattn_1024")
UNSEEN = "acg_Tiles032"
_KIB_TO_MIB = 1 / 1024


def measure(recipe: str, steps: int, side: int, options: dict[str, Any], keep: Path) -> dict[str, Any]:
    """Train, export and verify one recipe's network; the package stays in `keep`."""
    full = ModelSpec.from_recipe(load_recipe(ROOT / "recipes" / f"{recipe}.yaml"))
    scale = full.output_size // full.image_size
    generator = lightly_trained(replace(full, image_size=side, output_size=side * scale), steps)
    inputs, _ = real_sample(full, UNSEEN, seed=7)
    eager = _seconds(lambda: generator(**inputs))
    part = Component(
        "exporter",
        recipe,
        "coreml",
        default_registry().options("exporter", "coreml")(**options),
        ExporterEntryOptions(),
    )
    exporter = create_exporter(part, default_registry())
    subject = make_subject(generator, full, part.entry)
    start = time.perf_counter()
    origin = {"run": "benchmark", "recipe": recipe}
    exported = export_subject(
        subject, part, exporter, keep, origin=origin, views=Views(inputs, f"a capture of {UNSEEN}")
    )
    both = time.perf_counter() - start
    program = exporter.load(exported.path)
    evaluated = _seconds(lambda: program(inputs))
    found = exported.verification.comparisons.values()
    return {
        "file": exported.path.name,
        "precision": exported.verification.precision,
        "worst_psnr_db": exported.verification.worst,
        "largest_difference_of_255": max(comparison.max_difference for comparison in found) * 255,
        "export_and_verify_over_eager": both / eager,
        "evaluator_over_eager": evaluated / eager,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB_TO_MIB,
        "weights_fp32_mib": sum(p.numel() * 4 for p in generator.parameters()) / 2**20,
        **exported.details,
    }


@torch.no_grad()
def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_own_process(arguments: list[str]) -> dict[str, Any]:
    """Run one recipe in a fresh interpreter."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description="Core ML packages of the students at full size.")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="names of recipes")
    parser.add_argument("--steps", type=int, default=30, help="training steps")
    parser.add_argument("--side", type=int, default=96, help="side of the views in training, in pixels")
    parser.add_argument("--options", default="{}", help="options of the exporter, as JSON")
    parser.add_argument("--keep", type=Path, help="folder for the packages; default: none are kept")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given.only, given.steps, given.side, json.loads(given.options), given.keep)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        shared = ["--steps", str(given.steps), "--side", str(given.side), "--options", given.options]
        shared += ["--keep", str(given.keep or scratch)]
        results = {}
        for name in given.recipes:
            results[name] = in_own_process(["--only", name, *shared])
            print(f"\n{name}", *(f"  {key}: {value}" for key, value in results[name].items()), sep="\n", flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
