"""Fusion by windows against fusion by whole frames: the same short training with each, scored on held-back materials.

    python benchmarks/fusion_quality.py --output runs/fusion [--steps 400] [--seeds 2] [--json FILE]

The quickstart with photos that are drawn as they are needed, at 64 pixels a side, where the latents have 16 × 16
pixels: a window is a quarter of the frame. Both blocks have the same width, heads and depth. They see the same visits,
and runs of one seed differ in the block alone. A run that is done is not trained again. Prints the errors of both,
relative to those of answers that look at nothing (see `ablation.py`), and the ratio of processor times. With few seeds
and short runs, small differences mean nothing.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from ablation import COLUMNS, ratios

from neuropbr_core.evaluation.summary import load_record
from neuropbr_core.files import write_text
from neuropbr_core.recipe import load_recipe
from neuropbr_core.runs.folder import SUMMARY
from neuropbr_core.runs.run import run

FUSIONS = {
    "vit": "{use: vit, dim: 96, heads: 4, depth: 4, mlp_ratio: 2}",
    "window": "{use: window, dim: 96, heads: 4, depth: 4, mlp_ratio: 2}",
}
"""The blocks, with the same width, heads and depth."""

BATCH = 4
SETTINGS = (
    "data.image_size=64",
    "data.output_size=64",
    "data.crop_size=null",
    "data.repeats=1",
    "data.oversample={}",
    "data.num_workers=0",
    "data.synthesize={materials: neuropbr:examples/materials, procedural: 24, samples: 96, size: 128, seed: 7}",
    f"training.batch_size={BATCH}",
    "training.epochs=1",
    # A twentieth of the run; the rate suits attention.
    "optimizer.warmup_epochs=0.05",
    "optimizer.lr=1e-3",
    "training.device=cpu",
    "export={torchscript: null}",
)

SECONDS = "processor_seconds.json"


def train(fusion: str, seed: int, steps: int, output: Path) -> Path:
    """Train and score with a block, unless that is done; returns the run's folder."""
    name = f"{fusion}-{seed}-{steps}"
    folder = output / name
    if (folder / SECONDS).is_file():
        return folder
    recipe = load_recipe(
        "neuropbr:quickstart",
        [
            *SETTINGS,
            f"data.root={output / 'data'}",
            f"data.source={{use: live, procedural: 60, texture_size: 256, visits: {steps * BATCH}}}",
            f"model.fusion={FUSIONS[fusion]}",
            f"training.seed={seed}",
            f"training.runs_dir={output}",
        ],
    )
    start = time.process_time()
    run(recipe, run_name=name, overwrite=True)
    write_text(folder / SECONDS, json.dumps(time.process_time() - start))
    return folder


def main() -> None:
    """Train what is not trained yet, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs and of their captures")
    parser.add_argument("--steps", type=int, default=400, help="training steps of a run (default 400)")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each block (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in range(options.seeds):
        for fusion in FUSIONS:
            folder = train(fusion, seed, options.steps, options.output)
            seconds = json.loads((folder / SECONDS).read_text(encoding="utf-8"))
            rows.append(
                {"fusion": fusion, "seed": seed, "seconds": seconds, "scores": ratios(load_record(folder / SUMMARY))}
            )
    print("| fusion | seed | processor time, × vit | " + " | ".join(COLUMNS) + " |")
    print("| --- | --- | --- |" + " --- |" * len(COLUMNS))
    base = {row["seed"]: row["seconds"] for row in rows if row["fusion"] == "vit"}
    for row in rows:
        scores = " | ".join(f"{value:.3f}" for value in row["scores"])
        print(f"| {row['fusion']} | {row['seed']} | {row['seconds'] / base[row['seed']]:.2f} | {scores} |")
    print("\nMean over seeds:")
    for fusion in FUSIONS:
        columns = zip(*(row["scores"] for row in rows if row["fusion"] == fusion), strict=True)
        means = [statistics.mean(column) for column in columns]
        print(f"{fusion}: " + ", ".join(f"{name} {value:.3f}" for name, value in zip(COLUMNS, means, strict=True)))
    if options.json:
        write_text(options.json, json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
